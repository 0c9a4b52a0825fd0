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
    """Multi-head self-attention [M, D] -> [M, D].

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
            tokens: [M, D].
            cos: Of the rotary angles, [M, E / 2].
            sin: Likewise.
            segments: What sees what.
        """
        query, key, value = rearrange(
            self.inward(tokens), "m (n k e) -> n k m e", n=3, k=self.num_heads
        ).unbind()
        query = rotate(normalize(query, self.query_gain), cos, sin).to(value.dtype)
        key = rotate(normalize(key, self.key_gain), cos, sin).to(value.dtype)
        return self.outward(rearrange(attend(query, key, value, segments), "k m e -> m (k e)"))


@torch.compiler.disable(recursive=False)  # it would be compiled anew for every set of lengths
def attend(query: Tensor, key: Tensor, value: Tensor, segments: Segments) -> Tensor:
    """Attention of heads [K, M, E], each clip to itself: it costs the sum of the clips' squares."""
    lengths, masks = segments.lengths, segments.masks
    attention = F.scaled_dot_product_attention
    if masks is None and len(set(lengths)) == 1:  # a batch
        clips = [rearrange(x, "k (b m) e -> b k m e", b=len(lengths)) for x in (query, key, value)]
        return rearrange(attention(clips[0], clips[1], clips[2]), "b k m e -> k (b m) e")
    if masks is None and query.is_cuda and query.dtype != torch.float32:
        from torch.nn.attention.varlen import varlen_attn  # not run so far: it needs CUDA

        q, k, v = (heads.transpose(0, 1) for heads in (query, key, value))
        ends, longest = segments.ends, max(lengths)
        made = varlen_attn(q, k, v, ends, ends, longest, longest)
        assert isinstance(made, Tensor)
        return made.transpose(0, 1)
    clips = zip(*(heads[None].split(lengths, 2) for heads in (query, key, value)), strict=True)
    each = masks or (None,) * len(lengths)
    attended = [attention(*clip, attn_mask=mask) for clip, mask in zip(clips, each, strict=True)]
    return torch.cat(attended, 2)[0]


def normalize(heads: Tensor, gain: Tensor) -> Tensor:
    """RMS norm over the width of each head [..., E], in float32."""
    return F.rms_norm(heads.float(), gain.shape, eps=1e-6) * gain
