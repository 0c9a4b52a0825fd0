"""What the picture's codec is built of: residual blocks in space, a mixer in time."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


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


def zero(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with all its weights 0."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
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
