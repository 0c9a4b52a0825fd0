"""Video latents and audio latents <-> one sequence of tokens, in time order.

A `Layout` says, for every token of the sequence, whose it is and where it lies in time and space;
`pack` and `unpack` both follow it, so they cannot drift apart. Tokens of both modalities are padded
with zeros to one width, so that a sampler walks one tensor. Reference: the layout value with build
and revert of audiocraft's `codebooks_patterns.py` (read, not copied).

A clip without sound has a layout without tokens of sound: they are absent, not silent. So it is
with a voice alone and the picture. Clips of different layouts stand in one sequence by
`concatenate`; no token of one sees another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from avgen.errors import UserError
from avgen.latents.geometry import AudioGrid, VideoGrid

MODALITIES = ("video", "audio")
VIDEO, AUDIO = range(2)


@dataclass(frozen=True)
class Layout:
    """One sequence: L tokens of width W.

    Attributes:
        video: The grid of the picture, or of the one that a voice alone would have.
        audio: The grid of the sound, or of the sound that a clip without any would have.
        has_picture: Whether there are tokens of a picture at all.
        has_sound: Whether there are tokens of sound at all; silence is sound.
        order: int64 [L]; which token of [all video tokens, then all audio tokens] stands at each
            place.
        modality: int64 [L]; VIDEO or AUDIO.
        spans: float32 [L, 2]; seconds [start, end).
        places: float32 [L, 2]; pixels (down, right) from the middle of the picture; 0 for sound.
    """

    video: VideoGrid
    audio: AudioGrid
    has_picture: bool
    has_sound: bool
    order: Tensor
    modality: Tensor
    spans: Tensor
    places: Tensor

    @property
    def num_tokens(self) -> int:
        """Tokens in the sequence, L."""
        return len(self.order)

    @property
    def token_width(self) -> int:
        """Numbers in a token, W: those of the wider modality."""
        return max(self.video.token_channels, self.audio.token_channels)

    @property
    def used(self) -> Tensor:
        """Bool [L, W]: which numbers of each token are not padding."""
        widths = torch.tensor(
            [self.video.token_channels, self.audio.token_channels], device=self.order.device
        )
        return (
            torch.arange(self.token_width, device=self.order.device)
            < widths[self.modality][:, None]
        )

    @property
    def num_latents(self) -> int:
        """Latent frames that have tokens."""
        return self.video.num_latents if self.has_picture else 0

    @property
    def latent(self) -> Tensor:
        """int64 [L]; the latent frame that a token of the picture is of, `num_latents` of sound."""
        frame = self.order // self.video.tokens_per_latent
        return torch.where(self.modality == VIDEO, frame, self.num_latents)

    def with_sound_late(self, delay_s: float) -> Layout:
        """The same, its sound said to be of `delay_s` seconds before: what is made comes later."""
        is_sound = (self.modality == AUDIO)[:, None]
        return replace(self, spans=self.spans - delay_s * is_sound)

    def to(self, device: torch.device | str) -> Layout:
        """The same layout with its tensors on a device."""
        moved = {
            name: getattr(self, name).to(device)
            for name in ("order", "modality", "spans", "places")
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class PackedLayout:
    """Several clips in one sequence, one after another: L tokens of width W in all.

    Attributes:
        lengths: Tokens of each clip.
        modality: int64 [L], as in `Layout`.
        spans: float32 [L, 2]; seconds from the start of the token's own clip.
        places: float32 [L, 2], as in `Layout`.
        used: bool [L, W], as in `Layout`.
        num_latents: Latent frames that have tokens, of all clips.
        latent: int64 [L], as in `Layout`, counted over all clips.
    """

    lengths: tuple[int, ...]
    modality: Tensor
    spans: Tensor
    places: Tensor
    used: Tensor
    num_latents: int
    latent: Tensor

    @property
    def num_tokens(self) -> int:
        """Tokens in the sequence, L."""
        return sum(self.lengths)

    def to(self, device: torch.device | str) -> PackedLayout:
        """The same layout with its tensors on a device."""
        names = ("modality", "spans", "places", "used", "latent")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    @property
    def segment(self) -> Tensor:
        """int64 [L]; which clip each token is of."""
        lengths = torch.tensor(self.lengths, device=self.modality.device)
        return torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)


def concatenate(layouts: Sequence[Layout]) -> PackedLayout:
    """The layouts of several clips as one sequence.

    Raises:
        UserError: their tokens are not of one width.
    """
    widths = {layout.token_width for layout in layouts}
    if len(widths) != 1:
        raise UserError(f"tokens of widths {sorted(widths)}; one sequence has tokens of one width")
    num_latents, latents = 0, []
    for layout in layouts:
        latents.append(torch.where(layout.modality == VIDEO, num_latents + layout.latent, -1))
        num_latents += layout.num_latents
    latent = torch.cat(latents)
    return PackedLayout(
        lengths=tuple(layout.num_tokens for layout in layouts),
        modality=torch.cat([layout.modality for layout in layouts]),
        spans=torch.cat([layout.spans for layout in layouts]),
        places=torch.cat([layout.places for layout in layouts]),
        used=torch.cat([layout.used for layout in layouts]),
        num_latents=num_latents,
        latent=torch.where(latent < 0, num_latents, latent),
    )


def make_layout(
    video: VideoGrid, audio: AudioGrid, has_sound: bool = True, has_picture: bool = True
) -> Layout:
    """Lay the tokens of a clip out in time order.

    By the start of their span, picture before sound; the tokens of a latent frame by rows.

    Args:
        video: The grid of the picture.
        audio: The grid of the sound.
        has_sound: Without it there is no token of sound.
        has_picture: Without it there is no token of a picture.

    Raises:
        UserError: neither is there.
    """
    if not (has_sound or has_picture):
        raise UserError("a clip without picture and without sound: there is nothing to lay out")
    rows, columns = video.token_size
    frame = [video.center(row, column) for row in range(rows) for column in range(columns)]
    runs = []  # of tokens that share a span: (span, modality, first token, places)
    for latent in range(video.num_latents if has_picture else 0):
        runs.append((video.span(latent), VIDEO, latent * len(frame), frame))
    first = len(runs) * len(frame)
    for token in range(audio.num_tokens if has_sound else 0):
        runs.append((audio.span(token), AUDIO, first + token, [(0.0, 0.0)]))
    runs.sort(key=lambda run: (run[0][0], run[1]))
    sizes = torch.tensor([len(places) for *_, places in runs])
    spans = torch.tensor([[float(start), float(end)] for (start, end), *_ in runs])
    return Layout(
        video=video,
        audio=audio,
        has_picture=has_picture,
        has_sound=has_sound,
        order=torch.cat([torch.arange(at, at + len(places)) for _, _, at, places in runs]),
        modality=torch.tensor([modality for _, modality, *_ in runs]).repeat_interleave(sizes),
        spans=spans.repeat_interleave(sizes, 0),
        places=torch.tensor([place for *_, places in runs for place in places]),
    )


def patchify_video(latents: Tensor, grid: VideoGrid) -> Tensor:
    """Latents [B, C, T, H, W] to tokens [B, T * rows * columns, C * patch**2]."""
    rows, columns = grid.token_size
    padded = F.pad(
        latents,
        (0, columns * grid.patch - latents.shape[4], 0, rows * grid.patch - latents.shape[3]),
    )
    return rearrange(padded, "b c t (h p) (w q) -> b (t h w) (p q c)", p=grid.patch, q=grid.patch)


def unpatchify_video(tokens: Tensor, grid: VideoGrid) -> Tensor:
    """Tokens [B, T * rows * columns, C * patch**2] to latents [B, C, T, H, W]."""
    (rows, columns), (height, width) = grid.token_size, grid.latent_size
    latents = rearrange(
        tokens,
        "b (t h w) (p q c) -> b c t (h p) (w q)",
        h=rows,
        w=columns,
        p=grid.patch,
        q=grid.patch,
    )
    return latents[..., :height, :width]


def patchify_audio(latents: Tensor, grid: AudioGrid) -> Tensor:
    """Latents [B, C, T] to tokens [B, T / patch, C * patch]."""
    padded = F.pad(latents, (0, grid.num_tokens * grid.patch - latents.shape[2]))
    return rearrange(padded, "b c (t p) -> b t (p c)", p=grid.patch)


def unpatchify_audio(tokens: Tensor, grid: AudioGrid) -> Tensor:
    """Tokens [B, T / patch, C * patch] to latents [B, C, T]."""
    return rearrange(tokens, "b t (p c) -> b c (t p)", p=grid.patch)[..., : grid.num_latents]


def pack(video: Tensor | None, audio: Tensor | None, layout: Layout) -> Tensor:
    """Video latents [B, Cv, T, H, W] and audio latents [B, Ca, T'] to tokens [B, L, W].

    Args:
        video: Latents of the picture; None exactly where the layout has none.
        audio: Latents of the sound, likewise.
        layout: Of the clips.

    Raises:
        UserError: the latents are not of the layout's grids, or some are there or missing against
            the layout.
    """
    picture_size = (layout.video.num_latents, *layout.video.latent_size)
    _check("video", video, (layout.video.channels, *picture_size), layout.has_picture)
    sound_size = (layout.audio.channels, layout.audio.num_latents)
    _check("audio", audio, sound_size, layout.has_sound)
    by_modality = []
    if video is not None:
        by_modality.append(patchify_video(video, layout.video))
    if audio is not None:
        by_modality.append(patchify_audio(audio, layout.audio))
    width = layout.token_width
    tokens = torch.cat([F.pad(tokens, (0, width - tokens.shape[2])) for tokens in by_modality], 1)
    return tokens[:, layout.order]


def _check(name: str, latents: Tensor | None, expected: tuple[int, ...], there: bool) -> None:
    if (latents is not None) != there:
        what = {"video": "a picture", "audio": "sound"}[name]
        raise UserError(
            f"{name} latents are {'missing' if latents is None else 'given'}; the layout is of a "
            f"clip {'with' if there else 'without'} {what}"
        )
    if latents is not None and tuple(latents.shape[1:]) != expected:
        raise UserError(
            f"{name} latents are {tuple(latents.shape[1:])}; the layout is of {expected}"
        )


def unpack(tokens: Tensor, layout: Layout) -> tuple[Tensor | None, Tensor | None]:
    """Tokens [B, L, W] to video latents [B, Cv, T, H, W] and audio latents [B, Ca, T'].

    The inverse of `pack`; None for what the layout has no tokens of.
    """
    by_modality = torch.empty_like(tokens)
    by_modality[:, layout.order] = tokens
    num_video = layout.video.num_tokens if layout.has_picture else 0
    video = by_modality[:, :num_video, : layout.video.token_channels]
    audio = by_modality[:, num_video:, : layout.audio.token_channels]
    return (
        unpatchify_video(video, layout.video) if layout.has_picture else None,
        unpatchify_audio(audio, layout.audio) if layout.has_sound else None,
    )
