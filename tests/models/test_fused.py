"""Fused steps: what plain operations compute, backward too, and how much is kept for it."""

from fractions import Fraction

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from avgen.latents.context import distinct_levels
from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import make_layout
from avgen.models.fused import add_gated, gelu_linear, modulate, normalize, normalize_and_turn
from avgen.models.rope import rotate
from avgen.models.text import make_text
from avgen.models.transformer import AVTransformer, AVTransformerConfig
from avgen.training.plan import KEPT


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


ANGLE = torch.linspace(0, 3, 7 * 4, dtype=torch.float64).view(7, 4)
INDEX = torch.tensor([0, 2, 1, 1, 0, 2, 2])
CASES = {
    "modulate": (
        lambda x, shift, scale: modulate(x, shift, scale, INDEX),
        lambda x, shift, scale: F.layer_norm(x, (6,), eps=1e-6) * (1 + scale[INDEX]) + shift[INDEX],
        ((7, 6), (3, 6), (3, 6)),
    ),
    "add_gated": (
        lambda x, branch, gate: add_gated(x, branch, gate, INDEX),
        lambda x, branch, gate: x + gate[INDEX] * branch,
        ((7, 6), (7, 6), (3, 6)),
    ),
    "gelu_linear": (
        gelu_linear,
        lambda hidden, weight: F.linear(F.gelu(hidden, approximate="tanh"), weight),
        ((7, 5), (4, 5)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_plain_formula(name):
    fused, plain, shapes = CASES[name]
    inputs = [draw(*shape) for shape in shapes]
    made, expected = fused(*inputs), plain(*inputs)
    assert torch.equal(made, expected)
    grad = torch.randn_like(made)
    ours = torch.autograd.grad(made, inputs, grad)
    theirs = torch.autograd.grad(expected, inputs, grad)
    # rows of modulation are added up in float32
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-5)


def test_queries_are_normalised_and_turned():
    heads, gain = (torch.randn(*s, requires_grad=True) for s in ((2, 7, 8), (8,)))
    cos, sin = ANGLE.cos().float(), ANGLE.sin().float()
    made = normalize_and_turn(heads, gain, cos, sin)
    expected = rotate(normalize(heads, gain), cos, sin)
    assert torch.equal(made, expected)
    grad = torch.randn_like(made)
    ours = torch.autograd.grad(made, (heads, gain), grad)
    theirs = torch.autograd.grad(expected, (heads, gain), grad)
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-5)


def network_and_input(depth):
    video = VideoGrid(41, 128, 128, Fraction(25), (4, 16, 16), 4, 2)
    layout = make_layout(video, AudioGrid(41 * 960, 24000, 320, 4, 3))
    network = AVTransformer(AVTransformerConfig(layout.token_width, 64, depth, 4)).train()
    tokens = torch.randn(1, layout.num_tokens, layout.token_width)
    levels = distinct_levels(torch.full((1, layout.num_tokens), 0.5), layout.modality)
    return network, (tokens, levels, network.prepare(layout, make_text(["a man"], [[]])))


def test_what_a_block_keeps_for_the_backward_pass():
    """At most 20 numbers a token, width and layer, in storages that are no weights."""
    totals = []
    for depth in (1, 3):
        network, given = network_and_input(depth)
        weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
        found = {}

        def note(tensor, weights=weights, found=found):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                found[storage.data_ptr()] = storage.nbytes() / 4
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            made = network(*given)
        totals.append(sum(found.values()))
        del made
    stream = sum(given[2].stream.segments.lengths)
    each = (totals[1] - totals[0]) / 2 / stream / 64
    assert 10 < each <= KEPT[False], each


def test_what_is_computed_again():
    """Every product, or none of them; gradients are the same."""
    network, (tokens, levels, context) = network_and_input(2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        network(tokens, levels, context)
    once, flops, gradients = forward.get_total_flops(), {}, {}
    for kept in (False, "products", True):
        network.checkpoint_blocks = kept
        network.zero_grad()
        with FlopCounterMode(display=False) as counter:
            context = network.prepare(context.layout, make_text(["a man"], [[]]))
            network(tokens, levels, context).square().mean().backward()
        flops[kept] = counter.get_total_flops()
        gradients[kept] = network.blocks[0].mlp[0].weight.grad.clone()
        assert torch.equal(gradients[kept], gradients[False])
    assert flops["products"] == flops[False]
    assert flops[False] + 0.9 * once < flops[True] <= flops[False] + once
