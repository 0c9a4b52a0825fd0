"""Attention against a plain reference, query by query."""

import pytest
import torch

from avgen.latents.context import Segments
from avgen.models.attention import Attention, attend, attend_by_products, trains_by_products
from avgen.models.fused import normalize
from avgen.models.rope import angles, rotate


def plain(attention, tokens, cos, sin, mask):
    """The formula, one clip, head and query at a time."""
    width = tokens.shape[-1]
    size = width // attention.num_heads
    out = torch.zeros_like(tokens)
    for clip in range(len(tokens)):
        projected = tokens[clip] @ attention.inward.weight.T
        for head in range(attention.num_heads):
            query, key, value = (
                projected[:, n * width + head * size : n * width + (head + 1) * size]
                for n in range(3)
            )
            query, key = (
                gain * x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
                for x, gain in ((query, attention.query_gain), (key, attention.key_gain))
            )
            query, key = (rotate(x, cos[clip, 0], sin[clip, 0]) for x in (query, key))
            for place in range(tokens.shape[1]):
                score = key @ query[place] / size**0.5
                score = score.masked_fill(~mask[clip, 0, place], -torch.inf)
                out[clip, place, head * size : (head + 1) * size] = score.softmax(0) @ value
    return out @ attention.outward.weight.T


@pytest.mark.parametrize("lengths", [(7, 7), (9, 5), (14,)])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_the_formula(lengths, masked):
    """Clips of one length and of several, with masks and without."""
    attention = Attention(32, 2)
    torch.nn.init.normal_(attention.query_gain, mean=1.0, std=0.3)
    torch.nn.init.normal_(attention.key_gain, mean=1.0, std=0.3)
    tokens = torch.randn(14, 32)
    angle = angles(torch.rand(14), 64 * torch.rand(14, 2), 16)
    masks = [torch.rand(n, n) < 0.6 if masked else torch.ones(n, n).bool() for n in lengths]
    masks = [mask | torch.eye(len(mask)).bool() for mask in masks]
    ends = torch.tensor([0, *lengths]).cumsum(0)
    with torch.no_grad():
        segments = Segments(lengths, ends, tuple(masks) if masked else None)
        made = attention(tokens, angle.cos(), angle.sin(), segments)
        mask = torch.block_diag(*masks).bool()[None, None]
        cos, sin = angle.cos()[None, None], angle.sin()[None, None]
        torch.testing.assert_close(made, plain(attention, tokens[None], cos, sin, mask)[0])


def test_queries_and_keys_have_unit_size():
    heads = normalize(100 * torch.randn(2, 3, 4, 16), torch.ones(16))
    torch.testing.assert_close(heads.square().mean(-1), torch.ones(2, 3, 4), atol=1e-4, rtol=0)


@pytest.mark.parametrize("lengths", [(7, 7, 7), (9, 5, 8)])
def test_attention_by_products_is_that_of_torch(lengths):
    """Outcome and gradients, of clips of one length and of several."""
    heads = [torch.randn(3, sum(lengths), 16, requires_grad=True) for _ in range(3)]
    asked = torch.randn(3, sum(lengths), 16)
    segments = Segments(lengths, torch.tensor([0, *lengths]).cumsum(0), None)
    found = []
    for made in (attend(*heads, segments), attend_by_products(*heads, lengths)):
        found.append([made, *torch.autograd.grad(made, heads, asked)])
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_products_are_for_training_in_bfloat16_on_short_clips_alike():
    heads = torch.randn(2, 60, 8, dtype=torch.bfloat16, requires_grad=True)
    assert trains_by_products(heads, [20, 25, 15])
    assert not trains_by_products(heads, [2, 2, 2, 2, 2, 50])  # padded, six times their squares
    assert not trains_by_products(heads, [150, 40, 40])  # 2.6 times, and they are not as short
    assert trains_by_products(heads, [150, 140, 140])
    assert not trains_by_products(heads.detach(), [20, 25, 15])
    assert not trains_by_products(heads.float(), [20, 25, 15])
    assert not trains_by_products(heads, [700, 700])


def test_training_in_bfloat16_goes_by_products():
    """Outcome and gradient within what bfloat16 rounds by of those in float32."""
    attention = Attention(32, 2)
    tokens, angle = torch.randn(21, 32), angles(torch.rand(21), 64 * torch.rand(21, 2), 16)
    segments = Segments((8, 6, 7), torch.tensor([0, 8, 14, 21]), None)
    exact = attention(tokens, angle.cos(), angle.sin(), segments)
    with torch.autocast("cpu", torch.bfloat16):
        made = attention(tokens, angle.cos(), angle.sin(), segments)
    assert "_Products" in names_behind(made)
    torch.testing.assert_close(made.float(), exact, atol=0.02, rtol=0.02)
    asked, weight = torch.randn(21, 32), attention.inward.weight
    expected = torch.autograd.grad(exact, weight, asked)[0]
    found = torch.autograd.grad(made, weight, asked.bfloat16())[0]
    assert (found - expected).norm() < 0.03 * expected.norm()


def names_behind(tensor):
    """Names of all functions whose gradients a tensor's goes through."""
    waiting, seen = [tensor.grad_fn], set()
    while waiting:
        function = waiting.pop()
        if function is not None and function not in seen:
            seen.add(function)
            waiting += [before for before, _ in function.next_functions]
    return " ".join(function.name() for function in seen)
