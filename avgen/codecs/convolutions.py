"""The networks of the picture's codec: encoder, decoder, and what moves the first picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

PATCH = 4  # pixels folded into channels before the first convolution, each way
FRAMES = 4  # frames folded into channels


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
        chunk_latents: Latent frames decoded at a time, of a tile; of a smaller picture more.
        tile_latents: Latent rows and columns decoded at a time.
        mover_widths: Channels of the stages of a `Mover`, as the decoder's; none has no such, and
            frames are decoded from latents alone.
        expression_scales: The usual size of each of the numbers of a frame's face that the mover is
            told; none, where it is told nothing.
    """

    latent_channels: int = 32
    encoder_widths: tuple[int, int, int] = (128, 192, 256)
    decoder_widths: tuple[int, int, int] = (128, 192, 256)
    encoder_depths: tuple[int, int, int] = (1, 1, 1)
    decoder_depths: tuple[int, int, int] = (2, 2, 1)
    chunk_latents: int = 8
    tile_latents: int = 32
    mover_widths: tuple[int, int, int] | tuple[()] = ()
    expression_scales: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Turn JSON's lists back into tuples."""
        for name, value in vars(self).items():
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)
        if self.expression_scales and not self.mover_widths:
            raise ValueError("expression_scales: without mover_widths nothing is told")


class ChannelNorm(nn.Module):
    """Layer norm over the channels of [B, C, H, W] at every position.

    With a learned gain and no bias.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; with channels last in memory this is one fused kernel."""
        return F.layer_norm(x.permute(0, 2, 3, 1), self.gain.shape, self.gain).permute(0, 3, 1, 2)


Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def zero(layer: Layer) -> Layer:
    """The layer with all its weights 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a SiLU, added to the input; starts as the identity."""

    def __init__(self, channels: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or channels
        self.norm = ChannelNorm(channels)
        self.conv1 = nn.Conv2d(channels, hidden, 3, padding=1)
        self.conv2 = zero(nn.Conv2d(hidden, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        return x + self.conv2(F.silu(self.conv1(self.norm(x))))


class TemporalBlock(nn.Module):
    """Mixes each latent frame with the ones before and after it, pixel by pixel.

    Starts as the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.inward = nn.Conv2d(3 * channels, channels, 1)
        self.outward = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, num_latents: int) -> Tensor:
        """Map [(B T), C, H, W] to the same shape; beyond the ends of the clip there is zero."""
        h = rearrange(self.norm(x), "(b t) c h w -> b t c h w", t=num_latents)
        edge = torch.zeros_like(h[:, :1])
        before, after = torch.cat([edge, h[:, :-1]], 1), torch.cat([h[:, 1:], edge], 1)
        h = rearrange(torch.cat([before, h, after], 2), "b t c h w -> (b t) c h w")
        return x + self.outward(F.silu(self.inward(channels_last(h))))


def channels_last(x: Tensor) -> Tensor:
    """The same [B, C, H, W] in the memory order that CPU and tensor-core convolutions want."""
    return x.contiguous(memory_format=torch.channels_last)


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
    """Latents [(B T), C, H, W] to folded frames [(B T), 3 * FRAMES * PATCH**2, 4H, 4W]."""

    def __init__(self, config: ConvVideoCodecConfig) -> None:
        super().__init__()
        w = config.decoder_widths
        self.inward = nn.Conv2d(config.latent_channels, w[2], 3, padding=1)
        self.stages = decoder_stages(w, config.decoder_depths)
        self.last_temporal = TemporalBlock(w[0])
        self.norm = ChannelNorm(w[0])
        self.outward = nn.Conv2d(w[0], 3 * FRAMES * PATCH**2, 3, padding=1)

    def forward(self, latents: Tensor, num_latents: int) -> Tensor:
        """Decode `num_latents` latent frames of each clip together."""
        x = self.inward(channels_last(latents))
        for stage in self.stages:
            x = stage(x, num_latents)
        return self.outward(self.norm(self.last_temporal(x, num_latents)))


def decoder_stages(widths: tuple[int, int, int], depths: tuple[int, int, int]) -> nn.ModuleList:
    """The stages at 1/16, 1/8 and 1/4 of the picture; widths and depths in the other order."""
    return nn.ModuleList(
        [
            DecoderStage(widths[2], depths[2], 3 * widths[2] // 4, widths[1]),
            DecoderStage(widths[1], depths[1], widths[1], widths[0]),
            DecoderStage(widths[0], depths[0], widths[0], None),
        ]
    )


class Mover(nn.Module):
    """Says where the first picture went, and what it cannot show.

    A smaller decoder that sees each latent beside the clip's first and is told expressions. What it
    says begins as nothing: a flow of 0, no colour.
    """

    def __init__(self, config: ConvVideoCodecConfig) -> None:
        super().__init__()
        w = config.mover_widths
        assert len(w) == 3
        self.inward = nn.Conv2d(2 * config.latent_channels, w[2], 3, padding=1)
        self.stages = decoder_stages(w, config.decoder_depths)
        self.last_temporal = TemporalBlock(w[0])
        self.norm = ChannelNorm(w[0])
        self.paint = zero(nn.Conv2d(w[0], 4 * FRAMES * PATCH**2, 3, padding=1))
        self.flow = zero(nn.Conv2d(w[0], 2 * FRAMES, 3, padding=1))
        self.told, num_told = None, 2 * len(config.expression_scales)
        if num_told:
            told = FRAMES * num_told + 1
            self.told = nn.ModuleList(nn.Linear(told, width, bias=False) for width in w[::-1])
        self.frames = FrameHead(w[0], num_told)

    def forward(
        self, latents: Tensor, num_latents: int, first: Tensor, told: Tensor | None = None
    ) -> Tensor:
        """Folded [(B T), 6 * FRAMES * PATCH**2, 4H, 4W]: colours to add, mask's logit, flow.

        The flow is backward, in units of `warp.STEP` pixels, one every PATCH pixels, interpolated.

        Args:
            latents: [(B T), C, H, W].
            num_latents: T.
            first: The first latent of each clip [B, C, H, W].
            told: Expressions of every latent [(B T), 2 * FRAMES * K + 1], from
                `ConvVideoCodec.tell`; None where none are known.
        """
        beside = first.repeat_interleave(num_latents, 0)
        x = self.inward(channels_last(torch.cat([latents, beside], 1)))
        for number, stage in enumerate(self.stages):
            if self.told is not None and told is not None:
                x = x + self.told[number](told)[:, :, None, None]
            x = stage(x, num_latents)
        x = self.norm(self.last_temporal(x, num_latents))
        paint, flow = self.frames(x, told)
        flow = F.interpolate(self.flow(x) + flow, scale_factor=PATCH, mode="bilinear")
        flow = rearrange(flow, "n (c f) (h p) (w q) -> n (c f p q) h w", c=2, p=PATCH, q=PATCH)
        return torch.cat([self.paint(x) + paint, flow], 1)


class FrameHead(nn.Module):
    """What a mover says of each frame by itself, told that frame's face.

    A latent's features are those of its four frames at once, too few to tell four mouths apart.
    """

    num_blocks = 2  # residual

    def __init__(self, width: int, num_told: int) -> None:
        super().__init__()
        self.inward = nn.Conv2d(width, width, 1)
        self.told = nn.Linear(FRAMES + num_told, width, bias=False)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(self.num_blocks)))
        self.norm = ChannelNorm(width)
        self.outward = zero(nn.Conv2d(width, 4 * PATCH**2 + 2, 3, padding=1))

    def forward(self, x: Tensor, told: Tensor | None) -> tuple[Tensor, Tensor]:
        """What is added to a mover's paint [N, 4 * FRAMES * PATCH**2, H, W] and flow [N, 8, H, W].

        Args:
            x: [N, C, H, W].
            told: As of `Mover`; None where nothing is known.
        """
        which = torch.eye(FRAMES, device=x.device).expand(len(x), -1, -1)
        own = x.new_zeros(len(x), FRAMES, self.told.in_features - FRAMES)
        if told is not None:
            own = rearrange(told[:, :-1], "n (d f k) -> n f (d k)", d=2, f=FRAMES)
        face = self.told(torch.cat([which, own.float()], 2))  # [N, FRAMES, C]
        each = self.inward(x).repeat_interleave(FRAMES, 0) + face.flatten(0, 1)[:, :, None, None]
        made = self.outward(self.norm(self.blocks(channels_last(each))))
        paint, flow = made.split([4 * PATCH**2, 2], 1)
        paint = rearrange(paint, "(n f) (c p) h w -> n (c f p) h w", f=FRAMES, c=4)
        return paint, rearrange(flow, "(n f) c h w -> n (c f) h w", f=FRAMES)
