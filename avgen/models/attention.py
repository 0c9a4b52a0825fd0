"""Self-attention over the one sequence, with normalised queries and keys and rotary positions.

Reference: Vaswani et al. 2017 (arXiv:1706.03762), section 3.2; QK-norm as in Dehghani et al. 2023,
"Scaling Vision Transformers to 22 Billion Parameters" (arXiv:2302.05442), section 2.1.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from avgen.latents.context import Segments
from avgen.models.rope import rotate


class Attention(nn.Module):
    """Multi-head self-attention [R, M, D] -> [R, M, D].

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

    def forward(self, tokens: Tensor, cos: Tensor, sin: Tensor, segments: Segments) -> Tensor:
        """Attend.

        Args:
            tokens: [R, M, D].
            cos: Of the rotary angles, [R, 1, M, E / 2].
            sin: Likewise.
            segments: What sees what.
        """
        query, key, value = rearrange(
            self.inward(tokens), "b l (n k e) -> n b k l e", n=3, k=self.num_heads
        ).unbind()
        query = rotate(normalize(query, self.query_gain), cos, sin).to(value.dtype)
        key = rotate(normalize(key, self.key_gain), cos, sin).to(value.dtype)
        attend = attend_packed if segments.packed else attend_rows
        return self.outward(rearrange(attend(query, key, value, segments), "b k l e -> b l (k e)"))


def attend_rows(query: Tensor, key: Tensor, value: Tensor, segments: Segments) -> Tensor:
    """Attention of heads [R, K, M, E], each row to itself."""
    mask = None if segments.masks is None else segments.masks[0]
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


@torch.compiler.disable(recursive=False)  # it would be compiled anew for every set of lengths
def attend_packed(query: Tensor, key: Tensor, value: Tensor, segments: Segments) -> Tensor:
    """Attention of heads [1, K, M, E], each clip to itself: the sum of the clips' squares."""
    lengths = segments.lengths
    if query.is_cuda and segments.masks is None and query.dtype != torch.float32:
        from torch.nn.attention.varlen import varlen_attn  # not run so far: it needs CUDA

        by_token = [heads[0].transpose(0, 1) for heads in (query, key, value)]
        ends, longest = segments.ends, max(lengths)
        made = varlen_attn(*by_token, ends, ends, longest, longest)
        assert isinstance(made, Tensor)
        return made.transpose(0, 1)[None]
    by_clip = zip(*(heads.split(lengths, 2) for heads in (query, key, value)), strict=True)
    masks = segments.masks or (None,) * len(lengths)
    attended = [
        F.scaled_dot_product_attention(*heads, attn_mask=mask)
        for heads, mask in zip(by_clip, masks, strict=True)
    ]
    return torch.cat(attended, 2)


def normalize(heads: Tensor, gain: Tensor) -> Tensor:
    """RMS norm over the width of each head [B, K, L, E], in float32."""
    return F.rms_norm(heads.float(), gain.shape, eps=1e-6) * gain
