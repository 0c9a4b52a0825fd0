"""Self-attention over the one sequence, with normalised queries and keys and rotary positions.

Reference: Vaswani et al. 2017 (arXiv:1706.03762), section 3.2; QK-norm as in Dehghani et al. 2023,
"Scaling Vision Transformers to 22 Billion Parameters" (arXiv:2302.05442), section 2.1.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from avgen.models.rope import rotate


class Attention(nn.Module):
    """Multi-head self-attention [B, L, D] -> [B, L, D].

    Args:
        width: D, a multiple of `num_heads`.
        num_heads: Heads.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.inward = nn.Linear(width, 3 * width, bias=False)
        self.outward = nn.Linear(width, width, bias=False)
        self.query_gain = nn.Parameter(torch.ones(width // num_heads))
        self.key_gain = nn.Parameter(torch.ones(width // num_heads))

    def forward(self, tokens: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """Attend.

        Args:
            tokens: [B, L, D].
            cos: Of the rotary angles, [B, 1, L, E / 2].
            sin: Likewise.
            mask: Bool, broadcastable to [B, 1, L, L]; True where a query (row) may see a key
                (column).
        """
        query, key, value = rearrange(
            self.inward(tokens), "b l (n k e) -> n b k l e", n=3, k=self.num_heads
        ).unbind()
        query = rotate(normalize(query, self.query_gain), cos, sin).to(value.dtype)
        key = rotate(normalize(key, self.key_gain), cos, sin).to(value.dtype)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.outward(rearrange(attended, "b k l e -> b l (k e)"))


def normalize(heads: Tensor, gain: Tensor) -> Tensor:
    """RMS norm over the width of each head [B, K, L, E], in float32."""
    return F.rms_norm(heads.float(), gain.shape, eps=1e-6) * gain
