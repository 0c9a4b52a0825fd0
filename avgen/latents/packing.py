"""Video latents and audio latents <-> one sequence of tokens, in time order.

A `Layout` says, for every token of the sequence, whose it is and where it lies in time and space;
`pack` and `unpack` both follow it, so they cannot drift apart. Tokens of both modalities are padded
with zeros to one width, so that a sampler walks one tensor. Reference: the layout value with build
and revert of audiocraft's `codebooks_patterns.py` (read, not copied).

A clip without sound has a layout without tokens of sound: they are absent, not silent. Clips of
different layouts stand in one sequence by `concatenate`; no token of one sees another's.
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
        video: The grid of the picture.
        audio: The grid of the sound, or of the sound that a clip without any would have.
        order: int64 [L]; which token of [all video tokens, then all audio tokens] stands at each
            place.
        modality: int64 [L]; VIDEO or AUDIO.
        spans: float32 [L, 2]; seconds [start, end).
        places: float32 [L, 2]; pixels (down, right) from the middle of the picture; 0 for sound.
    """

    video: VideoGrid
    audio: AudioGrid
    order: Tensor
    modality: Tensor
    spans: Tensor
    places: Tensor

    @property
    def num_tokens(self) -> int:
        """Tokens in the sequence, L."""
        return len(self.order)

    @property
    def has_sound(self) -> bool:
        """Whether there are tokens of sound at all."""
        return self.num_tokens > self.video.num_tokens

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
    """

    lengths: tuple[int, ...]
    modality: Tensor
    spans: Tensor
    places: Tensor
    used: Tensor

    @property
    def num_tokens(self) -> int:
        """Tokens in the sequence, L."""
        return sum(self.lengths)

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
    return PackedLayout(
        lengths=tuple(layout.num_tokens for layout in layouts),
        modality=torch.cat([layout.modality for layout in layouts]),
        spans=torch.cat([layout.spans for layout in layouts]),
        places=torch.cat([layout.places for layout in layouts]),
        used=torch.cat([layout.used for layout in layouts]),
    )


def make_layout(video: VideoGrid, audio: AudioGrid, has_sound: bool = True) -> Layout:
    """Lay the tokens of a clip out in time order.

    By the start of their span, picture before sound; no sound where there is none.
    """
    entries = []
    rows, columns = video.token_size
    for latent in range(video.num_latents):
        for row in range(rows):
            for column in range(columns):
                entries.append((VIDEO, video.span(latent), video.center(row, column)))
    if has_sound:
        entries += [(AUDIO, audio.span(token), (0.0, 0.0)) for token in range(audio.num_tokens)]
    order = sorted(range(len(entries)), key=lambda i: (entries[i][1][0], entries[i][0], i))
    placed = [entries[i] for i in order]
    return Layout(
        video=video,
        audio=audio,
        order=torch.tensor(order),
        modality=torch.tensor([entry[0] for entry in placed]),
        spans=torch.tensor([[float(start), float(end)] for _, (start, end), _ in placed]),
        places=torch.tensor([entry[2] for entry in placed], dtype=torch.float32),
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


def pack(video: Tensor, audio: Tensor | None, layout: Layout) -> Tensor:
    """Video latents [B, Cv, T, H, W] and audio latents [B, Ca, T'] to tokens [B, L, W].

    Args:
        video: Latents of the picture.
        audio: Latents of the sound; None exactly where the layout has none.
        layout: Of the clips.

    Raises:
        UserError: the latents are not of the layout's grids, or sound is there or missing against
            the layout.
    """
    if (audio is not None) != layout.has_sound:
        raise UserError(
            f"audio latents are {'missing' if audio is None else 'given'}; the layout is of a clip "
            f"{'with' if layout.has_sound else 'without'} sound"
        )
    parts: list[tuple[str, Tensor, tuple[int, ...]]] = [
        ("video", video, (layout.video.num_latents, *layout.video.latent_size))
    ]
    if audio is not None:
        parts.append(("audio", audio, (layout.audio.num_latents,)))
    for name, latents, size in parts:
        expected = ((layout.video if name == "video" else layout.audio).channels, *size)
        if tuple(latents.shape[1:]) != expected:
            raise UserError(
                f"{name} latents are {tuple(latents.shape[1:])}; the layout is of {expected}"
            )
    width = layout.token_width
    by_modality = [patchify_video(video, layout.video)]
    if audio is not None:
        by_modality.append(patchify_audio(audio, layout.audio))
    tokens = torch.cat([F.pad(tokens, (0, width - tokens.shape[2])) for tokens in by_modality], 1)
    return tokens[:, layout.order]


def unpack(tokens: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Tokens [B, L, W] to video latents [B, Cv, T, H, W] and audio latents [B, Ca, T'].

    The inverse of `pack`.

    Raises:
        UserError: the layout is of a clip without sound; there is nothing to return for it.
    """
    if not layout.has_sound:
        raise UserError("the layout is of a clip without sound; it has no audio latents")
    by_modality = torch.empty_like(tokens)
    by_modality[:, layout.order] = tokens
    video, audio = by_modality.split([layout.video.num_tokens, layout.audio.num_tokens], 1)
    return (
        unpatchify_video(video[..., : layout.video.token_channels], layout.video),
        unpatchify_audio(audio[..., : layout.audio.token_channels], layout.audio),
    )
