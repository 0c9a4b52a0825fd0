"""Self-attention over the one sequence, with normalised queries and keys and rotary positions.

Reference: Vaswani et al. 2017 (arXiv:1706.03762), section 3.2; QK-norm as in Dehghani et al. 2023,
"Scaling Vision Transformers to 22 Billion Parameters" (arXiv:2302.05442), section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from avgen.latents.context import Group, Segments
from avgen.models.fused import normalize_and_turn

# Longest clip's tokens -> times the sum of the clips' squares that training by products may cost.
PADDED = {128: 4.0, 640: 1.5}  # benchmarks/attention.py


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
        self.attend = attend

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
        query = normalize_and_turn(query, self.query_gain, cos, sin)
        key = normalize_and_turn(key, self.key_gain, cos, sin)
        return self.outward(rearrange(self.attend(query, key, value, segments), "k m e -> m (k e)"))


def attend(query: Tensor, key: Tensor, value: Tensor, segments: Segments) -> Tensor:
    """Attention of heads [K, M, E], each clip to itself.

    It costs the sum of the clips' squares; where `trains_by_products`, up to `PADDED` as much.
    """
    lengths, masks = segments.lengths, segments.masks
    attention = F.scaled_dot_product_attention
    if segments.groups is not None:
        return attend_groups(query, key, value, segments.groups)
    if masks is None and trains_by_products(query, lengths):
        return attend_by_products(query, key, value, lengths)
    if masks is None and len(set(lengths)) == 1:  # a batch
        clips = [rearrange(x, "k (b m) e -> b k m e", b=len(lengths)) for x in (query, key, value)]
        return rearrange(attention(clips[0], clips[1], clips[2]), "b k m e -> k (b m) e")
    if masks is None and has_varlen(query):
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


def trains_by_products(query: Tensor, lengths: Sequence[int]) -> bool:
    """Whether `attend_by_products` is the faster: in bfloat16 on a CPU, of short clips alike.

    There the backward pass of torch's flash attention takes longer (benchmarks/attention.py).
    """
    if not query.requires_grad or query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return False
    longest, own = max(lengths), sum(length**2 for length in lengths)
    most = next((times for tokens, times in PADDED.items() if longest <= tokens), 0)
    return len(lengths) * longest**2 <= most * own


def attend_by_products(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
    """Attention of heads [K, M, E], clips padded to the longest: one product of all at a time."""
    counts, places = torch.tensor(lengths), torch.arange(max(lengths))
    inside, first = places < counts[:, None], (counts.cumsum(0) - counts)[:, None]  # [B, L]
    rows = torch.where(inside, first + places, 0).flatten()  # whose each padded row is
    own = inside.flatten().nonzero()[:, 0]  # where each token went
    return _Products.apply(q, k, v, inside, rows, own)  # type: ignore[return-value]


class _Products(Function):
    """Attention [K, M, E] that keeps its weights [K, B, L, L] for the backward pass."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        query, key, value, inside, rows, own = given
        heads, _, width = query.shape
        padded = (x.index_select(1, rows) for x in (query * width**-0.5, key, value))
        q, k, v = (x.view(heads, len(inside), -1, width) for x in padded)
        scores = q @ k.transpose(-1, -2)
        scores.masked_fill_(~inside[:, None], -torch.inf)
        weights = scores.softmax(-1, dtype=scores.dtype)
        ctx.save_for_backward(q, k, v, weights, own)
        return (weights @ v).view(heads, -1, width).index_select(1, own)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        q, k, v, weights, own = ctx.saved_tensors
        padded = torch.zeros_like(v).flatten(1, 2).index_copy_(1, own, grads[0])
        grad, scale = padded.view(v.shape), q.shape[-1] ** -0.5
        inward = grad @ v.transpose(-1, -2)
        scores = torch.ops.aten._softmax_backward_data(inward, weights, -1, weights.dtype)
        made = (scores @ k) * scale, scores.transpose(-1, -2) @ q, weights.transpose(-1, -2) @ grad
        return *(x.flatten(1, 2).index_select(1, own) for x in made), None, None, None


def has_varlen(query: Tensor) -> bool:
    """Whether the kernel for clips of unlike lengths is there: on GPUs since Ampere."""
    is_half = query.is_cuda and query.dtype != torch.float32
    return is_half and torch.cuda.get_device_capability(query.device) >= (8, 0)


def attend_groups(query: Tensor, key: Tensor, value: Tensor, groups: Sequence[Group]) -> Tensor:
    """Attention where tokens see parts of their clip: every group what it sees, without a mask."""
    order = torch.cat([group.queries for group in groups])
    if has_varlen(query):
        from torch.nn.attention.varlen import varlen_attn  # not run so far: it needs CUDA

        seen = torch.cat([group.keys for group in groups])
        counts = [[len(part) for part in pair] for pair in zip(*groups, strict=True)]
        ends = [torch.tensor([0, *own], device=order.device).cumsum(0).int() for own in counts]
        longest = [max(own) for own in counts]
        heads = query[:, order], key[:, seen], value[:, seen]
        q, k, v = (part.transpose(0, 1).contiguous() for part in heads)
        made = varlen_attn(q, k, v, ends[0], ends[1], longest[0], longest[1])
        assert isinstance(made, Tensor)
        attended = made.transpose(0, 1)
    else:
        parts = [
            F.scaled_dot_product_attention(
                query[None, :, asks], key[None, :, seen], value[None, :, seen]
            )
            for asks, seen in groups
        ]
        attended = torch.cat(parts, 2)[0]
    return torch.empty_like(query).index_copy(1, order, attended.to(query.dtype))
