"""The parts of the transformer: noise-level embedding, modulation, and the block.

Reference: Peebles & Xie 2023, "DiT" (arXiv:2212.09748), section 3.2 (adaLN-Zero); the one shared
projection with a learned table a block is "adaLN-single" of PixArt-alpha (arXiv:2310.00426),
section 2.3. Here the tables are per modality.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avgen.models.attention import Attention, Rows

TIMESTEP_FEATURES = 64


class TimestepEmbedding(nn.Module):
    """The noise level of every token: sigma [B, L] in [0, 1] -> [B, L, D]."""

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


def modulate(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalised tokens [B, L, D], scaled and shifted: DiT's adaLN."""
    return F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6) * (1 + scale) + shift


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
        modulation: Tensor,
        kinds: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor,
        rows: Rows | None = None,
    ) -> Tensor:
        """Map tokens [B, L, D] to the same shape.

        Args:
            tokens: [B, L, D].
            modulation: What the noise level asks for, [B, L, 6 D], shared by all blocks.
            kinds: One-hot kind of every token, [L, num_kinds]; as a matrix, so that its gradient is
                a product.
            cos: Rotary, see `Attention`.
            sin: Likewise.
            mask: See `Attention`.
            rows: Likewise.
        """
        own = kinds.to(modulation.dtype) @ self.table.to(modulation.dtype)
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + own).chunk(6, -1)
        attended = self.attention(modulate(tokens, shift1, scale1), cos, sin, mask, rows)
        tokens = tokens + gate1 * attended
        return tokens + gate2 * self.mlp(modulate(tokens, shift2, scale2))
