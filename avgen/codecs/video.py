"""Pictures <-> latents: a plain convolutional autoencoder, stride 4 x 16 x 16, 32 channels.

Four frames are folded into channels and unshuffled by 4, so that no layer ever runs at full
resolution; residual stages at 1/4, 1/8 and 1/16, layer norm over channels, no GroupNorm (both were
what a CPU spent its time on). The encoder sees one block of four frames at a time, so a picture,
the end of a clip and a stream are all encoded exactly as they would be inside a longer clip. The
decoder mixes neighbouring latents in time at every stage, because blocks decoded alone flicker at
their joins.

There may be a mover besides, which says where the first picture of the clip, given or decoded, went
(a flow), how much of it is to be seen (a mask) and what colour to add to what was decoded: who
somebody is comes from the first picture and stays, however far into the clip. It is told the
numbers of every frame's face, its expressions, as a transformer tells them besides latents: how far
lips are open is then what the words ask for, not what is left of them in latents.

Every layer has a finite receptive field, so `decode` runs in chunks with a halo and equals one
whole decode.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from avgen.codecs.convolutions import (
    FRAMES,
    PATCH,
    ConvVideoCodecConfig,
    Decoder,
    Encoder,
    FrameHead,
    Mover,
)
from avgen.codecs.warp import blend
from avgen.errors import UserError


@dataclass(frozen=True)
class Flaws:
    """What a transformer's latents have that an encoder's have not; a decoder in training meets it.

    Args:
        noise: Standard deviation of noise on the latents, which have unit variance.
        drift: How much of the difference between another clip's first latent and the own is added,
            at most: who somebody is drifts. This and what follows a mover meets.
        calm: How much of the difference from the clip's first latent is taken away, at most.
        told: Standard deviation of noise on the expressions, over their scales.
    """

    noise: float = 0.0
    drift: float = 0.0
    calm: float = 0.0
    told: float = 0.0


NO_FLAWS = Flaws()


class Reconstruction(NamedTuple):
    """What a codec in training makes of frames [B, 3, T, H, W].

    Attributes:
        frames: The frames again.
        warped: The first pictures warped to where the frames have them, alone, by a codec with a
            mover.
        flow: By how many pixels, across and down, [B, 2, T, H, W].
        mask: How much of them is seen, [B, 1, T, H, W] in [0, 1].
    """

    frames: Tensor
    warped: Tensor | None = None
    flow: Tensor | None = None
    mask: Tensor | None = None


class ConvVideoCodec(nn.Module):
    """Our video autoencoder; see the module's docstring.

    Implements `avgen.codecs.base.VideoCodec`.
    """

    def __init__(self, config: ConvVideoCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config)
        self.mover = Mover(self.config) if self.config.mover_widths else None
        self.to(memory_format=torch.channels_last)

    windows_are_exact = True  # blocks of frames are folded alone

    @property
    def stride(self) -> tuple[int, int, int]:
        """Frames, rows and columns of pixels that one latent stands for."""
        return FRAMES, 4 * PATCH, 4 * PATCH

    @property
    def latent_channels(self) -> int:
        """Numbers in one latent."""
        return self.config.latent_channels

    @property
    def halo_latents(self) -> tuple[int, int]:
        """Latent (frames, rows or columns) around a chunk that can reach into its pixels.

        In time one for every temporal block. In space: 3x3 convolutions count 1, 1/2 and 1/4 at the
        three stages.
        """
        d = self.config.decoder_depths
        more = 0 if self.mover is None else 2 * FrameHead.num_blocks  # convolutions at 1/4
        reach = 1 + 2 * d[2] + (2 * d[1]) / 2 + (2 * d[0] + 1 + more) / 4
        return len(self.decoder.stages) + 1, int(reach) + 1

    @property
    def reach(self) -> int:
        """Latents in time on each side of a latent that may change what it decodes to."""
        return self.halo_latents[0]

    def encode(self, video: Tensor) -> Tensor:
        """Encode float [B, 3, T, H, W] in [-1, 1] as latents [B, C, 1 + ceil((T-1)/4), ceil(H/16).

        Ceil(W/16)].

        Sizes that the strides do not divide are padded by repeating the last frame, row and column.
        Bounded in
        memory: `chunk_latents` blocks of frames go through the network at a time.
        """
        folded = fold(self.pad(video))
        step = self.config.chunk_latents
        blocks = [
            rearrange(self.encoder(b), "(b t) c h w -> b c t h w", b=len(video))
            for b in split_time(folded, step)
        ]
        return torch.cat(blocks, 2)

    def pad(self, video: Tensor) -> Tensor:
        """Repeat edges so that [B, 3, T, H, W] is whole latents.

        3 frames in front, the rest behind.
        """
        time, rows, columns = self.stride
        _, _, num_frames, height, width = video.shape
        behind = -(num_frames - 1) % time
        spatial = F.pad(
            video.flatten(0, 1), (0, -width % columns, 0, -height % rows), mode="replicate"
        )
        video = spatial.unflatten(0, video.shape[:2])
        return torch.cat([video[:, :, :1]] * (time - 1) + [video] + [video[:, :, -1:]] * behind, 2)

    def decode(self, latents: Tensor, **clip: Any) -> Tensor:
        """Decode latents [B, C, T', H', W'] to float [B, 3, num_frames, height, width] in [-1, 1].

        Args:
            latents: Of a whole clip.
            **clip: As of `decode_chunks`.

        Raises:
            UserError: the latents are not those of such a clip.
        """
        return torch.cat(list(self.decode_chunks(latents, **clip)), 2)

    def decode_chunks(
        self,
        latents: Tensor,
        *,
        num_frames: int,
        height: int,
        width: int,
        start: int = 0,
        stop: int | None = None,
        anchor: Tensor | None = None,
        expressions: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Yield frames [B, 3, t, height, width] of latents [start, stop), a few at a time.

        They are those of `decode` of all latents, which are `num_frames` frames; memory is bounded.
        A mover carries on `anchor` [B, 3, height, width], or what is decoded of latent 0, and is
        told `expressions` [B, T', FRAMES, K]; where it goes by them and there are none, frames are
        decoded from latents alone.
        """
        time, rows, columns = self.stride
        expected = (1 - (-(num_frames - 1) // time), -(-height // rows), -(-width // columns))
        if tuple(latents.shape[2:]) != expected:
            raise UserError(
                f"latents {tuple(latents.shape[2:])} cannot be {num_frames} frames of "
                f"{height}x{width}: that is {expected}"
            )
        # As many pixels at a time as a tile has: every chunk decodes what is beside it once more.
        step = max(1, self.config.tile_latents**2 // (expected[1] * expected[2]))
        step, first = self.config.chunk_latents * step, time - 1
        stop = expected[0] if stop is None else stop
        told = self.tell(expressions)
        moves = self.mover is not None and (told is not None or not self.config.expression_scales)
        if moves and anchor is None:
            still = self.decoder(latents[:, :, 0], 1)
            anchor = unfold(still, len(latents))[:, :, -1, :height, :width]
        for begin in range(start, stop, step):
            pixels = self._decode_span(latents, begin, min(begin + step, stop), moves, told)
            pixels = pixels[:, :, first if begin == 0 else 0 :, :height, :width]
            if moves and anchor is not None:
                pixels, *_ = blend(pixels, anchor.clamp(-1, 1))
            yield pixels[:, :, : num_frames - max(0, begin * time - first)].clamp(-1, 1)

    def tell(self, expressions: Tensor | None, first: Tensor | None = None) -> Tensor | None:
        """Expressions [B, T', FRAMES, K] as the decoder takes them, [B, T', 2 * FRAMES * K + 1].

        Over their scales, as they are and less those of the clip's first frame `first` [B, K]; then
        a 1. None where there are none or it takes none. The first latent of a clip, which is where
        `first` is not given, is of one frame, its last.
        """
        if expressions is None or not self.config.expression_scales:
            return None
        if first is None:
            first = expressions[:, 0, -1]
            start = expressions[:, :1, -1:].expand(-1, -1, FRAMES, -1)
            expressions = torch.cat([start, expressions[:, 1:]], 1)
        both = torch.cat([expressions, expressions - first[:, None, None]], 2)
        scaled = (both / both.new_tensor(self.config.expression_scales)).flatten(2)
        return torch.cat([scaled, torch.ones_like(scaled[..., :1])], -1)

    def _decode_span(
        self, latents: Tensor, start: int, stop: int, moves: bool, told: Tensor | None
    ) -> Tensor:
        """Decode latent frames [start, stop), tile by tile: [B, C, 4 * (stop - start), H, W]."""
        reach_t, reach = self.halo_latents
        t0, t1 = max(0, start - reach_t), min(latents.shape[2], stop + reach_t)
        rows, heard = [], None if told is None else told[:, t0:t1].flatten(0, 1)
        for y0, y1, top, bottom in tiles(latents.shape[3], self.config.tile_latents, reach):
            row = []
            for x0, x1, left, right in tiles(latents.shape[4], self.config.tile_latents, reach):
                tile = latents[:, :, t0:t1, top:bottom, left:right]
                tile = rearrange(tile, "b c t h w -> (b t) c h w")
                folded = self.decoder(tile, t1 - t0)
                if moves and self.mover is not None:
                    first = latents[:, :, 0, top:bottom, left:right]
                    folded = painted(folded, self.mover(tile, t1 - t0, first, heard))
                pixels = unfold(folded, len(latents))[
                    :, :, FRAMES * (start - t0) : FRAMES * (stop - t0)
                ]
                size_y, size_x = self.stride[1:]
                pixels = pixels[:, :, :, size_y * (y0 - top) : size_y * (y1 - top)]
                row.append(pixels[..., size_x * (x0 - left) : size_x * (x1 - left)])
            rows.append(torch.cat(row, 4))
        return torch.cat(rows, 3)

    def forward(
        self,
        video: Tensor,
        flaws: Flaws = NO_FLAWS,
        generator: torch.Generator | None = None,
        anchor: Tensor | None = None,
        expressions: tuple[Tensor, Tensor] | None = None,
    ) -> Reconstruction:
        """Reconstruct [B, 3, T, H, W] in training, in one piece.

        Args:
            video: Pixels in [-1, 1].
            flaws: Of the latents and expressions.
            generator: Of what is random about them, on the CPU.
            anchor: The first pictures [B, 3, H, W] of the clips that these frames are of, for a
                mover. Every second clip of the batch carries on what the decoder
                makes of it in its place.
            expressions: Of every frame [B, T, K], and of the first pictures [B, K].
        """
        padded = self.pad(video)
        batch, num_latents = len(video), padded.shape[2] // FRAMES

        def drawn(like: Tensor, sigma: float) -> Tensor:
            return like + sigma * torch.randn(like.shape, generator=generator).to(like)

        def at_most(share: float) -> Tensor:
            return share * torch.rand(batch, 1, 1, 1, generator=generator).to(video)

        latents = self.encoder(rearrange(fold(padded), "b t c h w -> (b t) c h w"))
        if self.mover is None:
            noised = drawn(latents, flaws.noise)
            return Reconstruction(self._shown(self.decoder(noised, num_latents), video))
        if anchor is None:
            raise UserError("a codec with a mover: it needs the first pictures of the clips")
        first = self.encoder(fold(self.pad(anchor[:, :, None])).squeeze(1))
        away = at_most(flaws.drift) * (first.roll(1, 0) - first)
        own, other = (x.repeat_interleave(num_latents, 0) for x in (first, away))
        calm = at_most(flaws.calm).repeat_interleave(num_latents, 0)
        latents = drawn(torch.lerp(latents, own, calm) + other, flaws.noise)
        told, first = None, drawn(first, flaws.noise)
        if expressions is not None:
            track = self.pad(expressions[0].mT[..., None, None])[..., 0, 0].mT
            told = self.tell(track.unflatten(1, (-1, FRAMES)), expressions[1])
        if told is not None:
            told = torch.cat([drawn(told[..., :-1], flaws.told), told[..., -1:]], -1)
            told = told.flatten(0, 1)
        pixels, carries = self.decoder(latents, num_latents), anchor.clone()
        made = self._shown(painted(pixels, self.mover(latents, num_latents, first, told)), video)
        if batch > 1:
            still = self._shown(self.decoder(first[1::2], 1), anchor[1::2, :, None])
            carries[1::2] = still[:, :, 0].detach().clamp(-1, 1)
        return Reconstruction(*blend(made, carries))

    def _shown(self, folded: Tensor, video: Tensor) -> Tensor:
        """What was decoded, without what `pad` added to `video`."""
        pixels = unfold(folded, len(video))[:, :, FRAMES - 1 :, : video.shape[3], : video.shape[4]]
        return pixels[:, :, : video.shape[2]]


def painted(pixels: Tensor, moving: Tensor) -> Tensor:
    """Folded pixels [N, 192, H, W] with the colours of a mover's [N, 384, H, W], and its others."""
    colours, others = moving.split([pixels.shape[1], moving.shape[1] - pixels.shape[1]], 1)
    return torch.cat([pixels + colours, others], 1)


def fold(video: Tensor) -> Tensor:
    """Turn [B, 3, 4 T, 4 H, 4 W] into [B, T, 192, H, W]: frames and pixels into channels."""
    return rearrange(
        video, "b c (t f) (h p) (w q) -> b t (c f p q) h w", f=FRAMES, p=PATCH, q=PATCH
    )


def unfold(folded: Tensor, batch: int) -> Tensor:
    """Turn [(B T), 64 C, H, W] back into [B, C, 4 T, 4 H, 4 W]; the mirror of `fold`."""
    return rearrange(
        folded, "(b t) (c f p q) h w -> b c (t f) (h p) (w q)", b=batch, f=FRAMES, p=PATCH, q=PATCH
    ).float()


def split_time(folded: Tensor, step: int) -> Iterator[Tensor]:
    """Yield [B, T, C, H, W] as batches [(B t), C, H, W] of at most `step` latent frames."""
    for start in range(0, folded.shape[1], step):
        yield rearrange(folded[:, start : start + step], "b t c h w -> (b t) c h w")


def tiles(size: int, tile: int, halo: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (start, stop, start with halo, stop with halo) of the tiles that cover [0, size)."""
    for start in range(0, size, tile):
        stop = min(start + tile, size)
        yield start, stop, max(0, start - halo), min(size, stop + halo)
