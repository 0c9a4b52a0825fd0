"""Pictures <-> latents: a plain convolutional autoencoder, stride 4 x 16 x 16, 32 channels.

Four frames are folded into channels and unshuffled by 4, so that no layer ever runs at full
resolution; residual stages at 1/4, 1/8 and 1/16, layer norm over channels, no GroupNorm (both were
what a CPU spent its time on). The encoder sees one block of four frames at a time, so a picture,
the end of a clip and a stream are all encoded exactly as they would be inside a longer clip. The
decoder mixes neighbouring latents in time at every stage, because blocks decoded alone flicker at
their joins.

An anchored decoder sees the first latent beside every other, and besides pixels says where those of
the first picture went (a flow) and how much of them is to be seen (a mask): who somebody is comes
from the first picture, given or decoded, and stays, however far into the clip.

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

from avgen.codecs.blocks import ChannelNorm, ResidualBlock, TemporalBlock, channels_last, zero
from avgen.codecs.warp import carried
from avgen.errors import UserError


@dataclass(frozen=True)
class ConvVideoCodecConfig:
    """Sizes of a `ConvVideoCodec`.

    Args:
        latent_channels: Numbers in one latent.
        encoder_widths: Channels of the encoder's stages at 1/4, 1/8 and 1/16 of the picture.
        decoder_widths: Channels of the decoder's stages, in the same order.
        encoder_depths: Residual blocks of each encoder stage.
        decoder_depths: Residual blocks of each decoder stage; each stage has one temporal block as
            well.
        chunk_latents: Latent frames decoded at a time.
        tile_latents: Latent rows and columns decoded at a time.
        anchored: Whether every frame is decoded beside the first one.
    """

    latent_channels: int = 32
    encoder_widths: tuple[int, int, int] = (128, 192, 256)
    decoder_widths: tuple[int, int, int] = (128, 192, 256)
    encoder_depths: tuple[int, int, int] = (1, 1, 1)
    decoder_depths: tuple[int, int, int] = (2, 2, 1)
    chunk_latents: int = 8
    tile_latents: int = 32
    anchored: bool = False

    def __post_init__(self) -> None:
        """Turn JSON's lists back into tuples."""
        for name in ("encoder_widths", "decoder_widths", "encoder_depths", "decoder_depths"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


PATCH = 4  # pixels folded into channels before the first convolution, each way
FRAMES = 4  # frames folded into channels


class Encoder(nn.Module):
    """Folded frames [B, 3 * FRAMES * PATCH**2, H/4, W/4] to latents [B, C, H/16, W/16]."""

    def __init__(self, config: ConvVideoCodecConfig) -> None:
        super().__init__()
        w, depths = config.encoder_widths, config.encoder_depths
        self.inward = nn.Conv2d(3 * FRAMES * PATCH**2, w[0], 3, padding=1)
        self.stages = nn.ModuleList(
            [
                EncoderStage(w[0], depths[0], w[0], w[1]),
                EncoderStage(w[1], depths[1], w[1], w[2]),
                EncoderStage(w[2], depths[2], w[2] // 2, None),
            ]
        )
        self.norm = ChannelNorm(w[2])
        self.outward = nn.Conv2d(w[2], config.latent_channels, 1)

    def forward(self, folded: Tensor) -> Tensor:
        """Encode; each latent is normalised over its channels, so its scale carries nothing."""
        x = self.inward(channels_last(folded))
        for stage in self.stages:
            x = stage(x)
        latents = self.outward(self.norm(x)).float()
        return F.layer_norm(latents.movedim(1, -1), latents.shape[1:2]).movedim(-1, 1)


class EncoderStage(nn.Module):
    """One resolution of the encoder: residual blocks and the step down."""

    def __init__(self, width: int, depth: int, hidden: int, down_to: int | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ResidualBlock(width, hidden) for _ in range(depth)))
        self.down = None if down_to is None else nn.Conv2d(width, down_to, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C', H/2, W/2], or to the same shape in the last stage."""
        x = self.blocks(x)
        return x if self.down is None else self.down(x)


class DecoderStage(nn.Module):
    """One resolution of the decoder: a temporal block, residual blocks and the step up."""

    def __init__(self, width: int, depth: int, hidden: int, up_to: int | None) -> None:
        super().__init__()
        self.temporal = TemporalBlock(width)
        self.blocks = nn.Sequential(*(ResidualBlock(width, hidden) for _ in range(depth)))
        self.up = None if up_to is None else nn.Conv2d(width, 4 * up_to, 1)

    def forward(self, x: Tensor, num_latents: int) -> Tensor:
        """Map [(B T), C, H, W] to [(B T), C', 2H, 2W], or to the same shape in the last stage."""
        x = self.blocks(self.temporal(x, num_latents))
        return x if self.up is None else channels_last(F.pixel_shuffle(self.up(x), 2))


class Decoder(nn.Module):
    """Latents [(B T), C, H, W] to folded frames [(B T), 3 * FRAMES * PATCH**2, 4H, 4W].

    Of an anchored one there are 6 channels in place of 3: pixels, the flow across and down, and the
    mask's logit.
    """

    def __init__(self, config: ConvVideoCodecConfig) -> None:
        super().__init__()
        w, depths = config.decoder_widths, config.decoder_depths
        self.inward = nn.Conv2d(config.latent_channels, w[2], 3, padding=1)
        self.stages = nn.ModuleList(
            [
                DecoderStage(w[2], depths[2], 3 * w[2] // 4, w[1]),
                DecoderStage(w[1], depths[1], w[1], w[0]),
                DecoderStage(w[0], depths[0], w[0], None),
            ]
        )
        self.last_temporal = TemporalBlock(w[0])
        self.norm = ChannelNorm(w[0])
        self.outward = nn.Conv2d(w[0], 3 * FRAMES * PATCH**2, 3, padding=1)
        self.anchor = self.motion = None
        if config.anchored:  # both begin as nothing: a decoder without can be trained on
            self.anchor = zero(nn.Conv2d(config.latent_channels, w[2], 3, padding=1))
            self.motion = zero(nn.Conv2d(w[0], 3 * FRAMES * PATCH**2, 3, padding=1))

    def forward(self, latents: Tensor, num_latents: int, anchor: Tensor | None = None) -> Tensor:
        """Decode `num_latents` latent frames of each clip together, beside `anchor` [B, C, H, W].

        The anchor is each clip's first latent; it is asked for where the decoder is anchored.
        """
        x = self.inward(channels_last(latents))
        if self.anchor is not None:
            assert anchor is not None
            x = x + self.anchor(channels_last(anchor)).repeat_interleave(num_latents, 0)
        for stage in self.stages:
            x = stage(x, num_latents)
        x = self.norm(self.last_temporal(x, num_latents))
        pixels = self.outward(x)
        return pixels if self.motion is None else torch.cat([pixels, self.motion(x)], 1)


class Reconstruction(NamedTuple):
    """What a codec in training makes of frames [B, 3, T, H, W].

    Attributes:
        frames: The frames again.
        moved: The first pictures moved to where the frames have them, alone; of an anchored decoder
            only, as what follows.
        still: The first pictures [B, 3, 1, H, W], from their own latents.
    """

    frames: Tensor
    moved: Tensor | None = None
    still: Tensor | None = None


class ConvVideoCodec(nn.Module):
    """Our video autoencoder; see the module's docstring.

    Implements `avgen.codecs.base.VideoCodec`.
    """

    def __init__(self, config: ConvVideoCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config)
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
        reach = 1 + 2 * d[2] + (2 * d[1]) / 2 + (2 * d[0] + 1) / 4
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
    ) -> Iterator[Tensor]:
        """Yield frames [B, 3, t, height, width] of latents [start, stop), a few at a time.

        They are those of `decode` of all latents, which are `num_frames` frames; memory is bounded.
        An anchored decoder carries on `anchor` [B, 3, height, width], or what it makes of latent 0.
        """
        time, rows, columns = self.stride
        expected = (1 - (-(num_frames - 1) // time), -(-height // rows), -(-width // columns))
        if tuple(latents.shape[2:]) != expected:
            raise UserError(
                f"latents {tuple(latents.shape[2:])} cannot be {num_frames} frames of "
                f"{height}x{width}: that is {expected}"
            )
        step, first = self.config.chunk_latents, time - 1
        stop = expected[0] if stop is None else stop
        if self.config.anchored and anchor is None:
            anchor = self._decode_span(latents[:, :, :1], 0, 1)[:, :3, -1, :height, :width]
        for begin in range(start, stop, step):
            pixels = self._decode_span(latents, begin, min(begin + step, stop))
            pixels = pixels[:, :, first if begin == 0 else 0 :, :height, :width]
            if self.config.anchored and anchor is not None:
                pixels, _ = carried(pixels, anchor.clamp(-1, 1))
            yield pixels[:, :, : num_frames - max(0, begin * time - first)].clamp(-1, 1)

    def _decode_span(self, latents: Tensor, start: int, stop: int) -> Tensor:
        """Decode latent frames [start, stop), tile by tile: [B, C, 4 * (stop - start), H, W]."""
        reach_t, reach = self.halo_latents
        t0, t1 = max(0, start - reach_t), min(latents.shape[2], stop + reach_t)
        rows = []
        for y0, y1, top, bottom in tiles(latents.shape[3], self.config.tile_latents, reach):
            row = []
            for x0, x1, left, right in tiles(latents.shape[4], self.config.tile_latents, reach):
                tile = latents[:, :, t0:t1, top:bottom, left:right]
                first = latents[:, :, 0, top:bottom, left:right]
                folded = self.decoder(rearrange(tile, "b c t h w -> (b t) c h w"), t1 - t0, first)
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
        noise: float = 0.0,
        generator: torch.Generator | None = None,
        anchor: Tensor | None = None,
        drift: float = 0.0,
    ) -> Reconstruction:
        """Reconstruct [B, 3, T, H, W] in training, in one piece.

        Args:
            video: Pixels in [-1, 1].
            noise: Standard deviation of the noise added to the latents, which smooths the space for
                diffusion.
            generator: Of that noise, on the CPU.
            anchor: The first pictures [B, 3, H, W] of the clips that these frames are of, for a
                decoder that is anchored. Half of the batch carries on what the decoder makes of
                them in their place.
            drift: At most this share of the difference between another clip's first latent and the
                own is added to the latents (not to the anchor's), as who somebody is drifts in what
                a transformer makes.
        """
        padded = self.pad(video)
        batch, num_latents = len(video), padded.shape[2] // FRAMES

        def noised(latents: Tensor) -> Tensor:
            drawn = torch.randn(latents.shape, generator=generator).to(latents)
            return latents + noise * drawn

        latents = self.encoder(rearrange(fold(padded), "b t c h w -> (b t) c h w"))
        if not self.config.anchored:
            return Reconstruction(self._shown(self.decoder(noised(latents), num_latents), video))
        if anchor is None:
            raise UserError("an anchored decoder: it needs the first pictures of the clips")
        first = self.encoder(fold(self.pad(anchor[:, :, None])).squeeze(1))
        shares = drift * torch.rand(batch, 1, 1, 1, generator=generator).to(first)
        away = (shares * (first.roll(1, 0) - first)).repeat_interleave(num_latents, 0)
        seen = noised(first)
        still = self._shown(self.decoder(seen, 1, seen), anchor[:, :, None])[:, :3]
        made = self._shown(self.decoder(noised(latents + away), num_latents, seen), video)
        known = torch.arange(batch, device=video.device)[:, None, None, None] % 2 == 0
        carries = torch.where(known, anchor, still[:, :, 0].detach().clamp(-1, 1))
        return Reconstruction(*carried(made, carries), still)

    def _shown(self, folded: Tensor, video: Tensor) -> Tensor:
        """What was decoded, without what `pad` added to `video`."""
        pixels = unfold(folded, len(video))[:, :, FRAMES - 1 :, : video.shape[3], : video.shape[4]]
        return pixels[:, :, : video.shape[2]]


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
