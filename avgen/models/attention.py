"""Self-attention over the one sequence, with normalised queries and keys and rotary positions.

Reference: Vaswani et al. 2017 (arXiv:1706.03762), section 3.2; QK-norm as in Dehghani et al. 2023,
"Scaling Vision Transformers to 22 Billion Parameters" (arXiv:2302.05442), section 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from avgen.models.rope import rotate


@dataclass(frozen=True)
class Rows:
    """Which tokens of one packed sequence see each other: each clip's, in a row of its own.

    This is a block mask, kept as the blocks: what lies between clips is not computed and then
    hidden, it is not computed.

    Attributes:
        index: int64 [R, M]; the tokens of every clip, padded with any.
        back: int64 [L]; where in [R * M] each token of the sequence is.
    """

    index: Tensor
    back: Tensor

    def split(self, heads: Tensor) -> Tensor:
        """Heads [1, K, L, E] of the sequence as [R, K, M, E]."""
        rows = heads[0].index_select(1, self.index.flatten())
        return rows.unflatten(1, self.index.shape).transpose(0, 1)

    def join(self, heads: Tensor) -> Tensor:
        """The inverse of `split`; padding is dropped."""
        return heads.transpose(0, 1).flatten(1, 2).index_select(1, self.back)[None]


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

    def forward(
        self, tokens: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, rows: Rows | None = None
    ) -> Tensor:
        """Attend.

        Args:
            tokens: [B, L, D].
            cos: Of the rotary angles, [B, 1, L, E / 2].
            sin: Likewise.
            mask: Bool, broadcastable to [B, 1, L, L], or to [R, 1, M, M] of `rows`; True where a
                query (row) may see a key (column).
            rows: The clips of a packed sequence, whose B is 1.
        """
        query, key, value = rearrange(
            self.inward(tokens), "b l (n k e) -> n b k l e", n=3, k=self.num_heads
        ).unbind()
        query = rotate(normalize(query, self.query_gain), cos, sin).to(value.dtype)
        key = rotate(normalize(key, self.key_gain), cos, sin).to(value.dtype)
        if rows is not None:
            query, key, value = rows.split(query), rows.split(key), rows.split(value)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        if rows is not None:
            attended = rows.join(attended)
        return self.outward(rearrange(attended, "b k l e -> b l (k e)"))


def normalize(heads: Tensor, gain: Tensor) -> Tensor:
    """RMS norm over the width of each head [B, K, L, E], in float32."""
    return F.rms_norm(heads.float(), gain.shape, eps=1e-6) * gain
