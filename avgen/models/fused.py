"""Steps of a block that keep for the backward pass what they were given, and not what they made.

Each computes what plain operations do, in their order. What those would keep of every token (scaled
and shifted, normalised, gated, activated) is computed again from the input when it is needed, which
costs elementwise work and saves half of the memory. Rows of modulation stay the few that they are.
No gradient is made that nobody asks for: of weights that are frozen, of a first block's input.
A compiler, which finds out by itself what to compute again, is given the plain operations.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from avgen.models.rope import rotate

EPS = 1e-6


class _Modulate(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor, scale: Tensor, index: Tensor) -> Tensor:
        normed, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], None, None, EPS)
        ctx.save_for_backward(x, mean, rstd, scale, index)
        made = normed * F.embedding(index, 1 + scale)
        return made.add_(F.embedding(index, shift))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, mean, rstd, scale, index = ctx.saved_tensors
        dx = d_shift = d_scale = None
        (grad,), size = grads, x.shape[-1:]
        if ctx.needs_input_grad[1]:
            d_shift = _of_rows(grad, scale, index)
        if ctx.needs_input_grad[2]:
            d_scale = _of_rows(grad * (x - mean).mul_(rstd), scale, index)
        if ctx.needs_input_grad[0]:
            inward = (grad * F.embedding(index, 1 + scale)).to(x.dtype)
            mask = [True, False, False]
            dx = torch.ops.aten.native_layer_norm_backward(
                inward, x, size, mean, rstd, None, None, mask
            )[0]
        return dx, d_shift, d_scale, None


def _of_rows(grad: Tensor, rows: Tensor, index: Tensor) -> Tensor:
    """Gradients of tokens [M, D] added up by the rows [N, D] that they took."""
    total = torch.zeros(rows.shape, dtype=torch.float32, device=rows.device)
    return total.index_add_(0, index, grad.float()).to(rows.dtype)


class _Gate(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, branch: Tensor, gate: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(branch, gate, index)
        return x + F.embedding(index, gate) * branch

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        branch, gate, index = ctx.saved_tensors
        (grad,), d_branch, d_gate = grads, None, None
        if ctx.needs_input_grad[1]:
            d_branch = (grad * F.embedding(index, gate)).to(branch.dtype)
        if ctx.needs_input_grad[2]:
            d_gate = _of_rows(grad * branch, gate, index)
        return grad, d_branch, d_gate, None


def normalize(heads: Tensor, gain: Tensor) -> Tensor:
    """RMS norm over the width of each head [..., E], in float32."""
    return F.rms_norm(heads.float(), gain.shape, eps=EPS) * gain


class _Turn(Function):
    @staticmethod
    def forward(ctx: Any, heads: Tensor, gain: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(heads, gain, cos, sin)
        return rotate(normalize(heads, gain), cos, sin).to(heads.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        heads, gain, cos, sin = ctx.saved_tensors
        grad = rotate(grads[0].float(), cos, -sin)
        x = heads.float()
        rstd = (x.square().mean(-1, keepdim=True) + EPS).rsqrt()
        normed, dx, d_gain = x * rstd, None, None
        if ctx.needs_input_grad[1]:
            d_gain = (grad * normed).flatten(0, -2).sum(0).to(gain.dtype)
        if ctx.needs_input_grad[0]:
            inward = grad * gain
            dx = rstd * (inward - normed * (inward * normed).mean(-1, keepdim=True))
            dx = dx.to(heads.dtype)
        return dx, d_gain, None, None


class _GeluLinear(Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        return F.linear(F.gelu(hidden, approximate="tanh"), weight)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        hidden, weight = ctx.saved_tensors
        (grad,), d_hidden, d_weight = grads, None, None
        if ctx.needs_input_grad[0]:
            d_active = grad @ weight
            d_hidden = torch.ops.aten.gelu_backward(d_active, hidden, approximate="tanh")
        if ctx.needs_input_grad[1]:
            active = F.gelu(hidden, approximate="tanh")
            d_weight = grad.flatten(0, -2).T @ active.flatten(0, -2)
        return d_hidden, d_weight


def modulate(x: Tensor, shift: Tensor, scale: Tensor, index: Tensor) -> Tensor:
    """Tokens [M, D] normalised, scaled and shifted by rows [N, D] that `index` [M] says: adaLN."""
    if torch.compiler.is_compiling():
        normed = F.layer_norm(x, x.shape[-1:], eps=EPS)
        return normed * F.embedding(index, 1 + scale) + F.embedding(index, shift)
    return _Modulate.apply(x, shift, scale, index)  # type: ignore[return-value]


def add_gated(x: Tensor, branch: Tensor, gate: Tensor, index: Tensor) -> Tensor:
    """Tokens [M, D] and a branch of them [M, D], gated by rows [N, D] that `index` [M] says."""
    if torch.compiler.is_compiling():
        return x + F.embedding(index, gate) * branch
    return _Gate.apply(x, branch, gate, index)  # type: ignore[return-value]


def normalize_and_turn(heads: Tensor, gain: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Queries or keys [K, M, E], RMS-normalised in float32 and turned by cos and sin [M, E / 2]."""
    if torch.compiler.is_compiling():
        return rotate(normalize(heads, gain), cos, sin).to(heads.dtype)
    return _Turn.apply(heads, gain, cos, sin)  # type: ignore[return-value]


def gelu_linear(hidden: Tensor, weight: Tensor) -> Tensor:
    """GELU (by tanh) of [M, H], times a weight [D, H]."""
    if torch.compiler.is_compiling():  # x (1 + tanh y) / 2 = x sigmoid(2 y), of which it is faster
        x = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        active = x * torch.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
        return F.linear(active.to(hidden.dtype), weight)
    device = hidden.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    return _GeluLinear.apply(hidden, weight)  # type: ignore[return-value]
