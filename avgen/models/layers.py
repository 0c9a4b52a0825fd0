"""The parts of the transformer: noise-level embedding, modulation, and the block.

Reference: Peebles & Xie 2023, "DiT" (arXiv:2212.09748), section 3.2 (adaLN-Zero); the one shared
projection with a learned table a block is "adaLN-single" of PixArt-alpha (arXiv:2310.00426),
section 2.3. Here the tables are per modality.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from avgen.latents.context import Segments
from avgen.models.attention import Attention
from avgen.models.fused import add_gated, gelu_linear, modulate

TIMESTEP_FEATURES = 64


class TimestepEmbedding(nn.Module):
    """Noise levels: sigma [...] in [0, 1] -> [..., D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(TIMESTEP_FEATURES, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, sigma: Tensor) -> Tensor:
        """Embed; the timestep is 1000 sigma, as cosines and sines of 1 to 1/10000 of it."""
        half = TIMESTEP_FEATURES // 2
        rates = torch.exp(-math.log(10000) * torch.arange(half, device=sigma.device) / half)
        phase = 1000 * sigma.float()[..., None] * rates
        return self.layers(torch.cat([phase.cos(), phase.sin()], -1))


class StepEmbedding(nn.Module):
    """What a distilled network is told of a step besides its noise level: [N, 2] -> [N, D].

    The step's length in sigma and the scale of guidance (avgen/diffusion/distillation.py). It
    starts at 0, so that a student starts as its teacher.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.length, self.scale = TimestepEmbedding(width), TimestepEmbedding(width)
        for part in (self.length, self.scale):
            nn.init.zeros_(part.layers[-1].weight)  # pyright: ignore[reportArgumentType]
            nn.init.zeros_(part.layers[-1].bias)  # pyright: ignore[reportArgumentType]

    def forward(self, told: Tensor) -> Tensor:
        """Embed; a scale of 1, no guidance, is embedded as 0, and 5 as 1."""
        return self.length(told[:, 0]) + self.scale((told[:, 1] - 1) / 4)


class Modulation(NamedTuple):
    """Rows of modulation, one a noise level and kind, and whose each is.

    Attributes:
        levels: [N, width].
        kinds: int64 [N].
        index: int64 [M]; the row of every token.
    """

    levels: Tensor
    kinds: Tensor
    index: Tensor


class Block(nn.Module):
    """Attention and a two-layer network, both modulated and gated by noise level and modality.

    Args:
        width: D.
        num_heads: Heads of attention.
        mlp_ratio: Hidden width of the network over D.
        num_kinds: Rows of the modulation table: one for every kind of token.
    """

    def __init__(self, width: int, num_heads: int, mlp_ratio: float, num_kinds: int) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.attention = Attention(width, num_heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden, bias=False),
            nn.GELU("tanh"),
            nn.Linear(hidden, width, bias=False),
        )
        self.table = nn.Parameter(torch.zeros(num_kinds, 6 * width))

    def forward(
        self,
        tokens: Tensor,
        modulation: Modulation,
        cos: Tensor,
        sin: Tensor,
        segments: Segments,
    ) -> Tensor:
        """Map tokens [M, D] to the same shape.

        Args:
            tokens: [M, D].
            modulation: What the noise levels ask for, of width 6 D, shared by all blocks.
            cos: Rotary, see `Attention`.
            sin: Likewise.
            segments: Likewise.
        """
        own = modulation.levels + self.table.to(modulation.levels.dtype)[modulation.kinds]
        shift1, scale1, gate1, shift2, scale2, gate2 = own.chunk(6, -1)
        index = modulation.index
        attended = self.attention(modulate(tokens, shift1, scale1, index), cos, sin, segments)
        tokens = add_gated(tokens, attended, gate1, index)
        return add_gated(tokens, self.feed(modulate(tokens, shift2, scale2, index)), gate2, index)

    def feed(self, tokens: Tensor) -> Tensor:
        """The two-layer network of every token [M, D]."""
        last = self.mlp[2]
        if type(last) is not nn.Linear:  # with something beside its weight (lora.py)
            return self.mlp(tokens)
        return gelu_linear(self.mlp[0](tokens), last.weight)
