"""A reference of voice and face: its kind and time, that it matters, that it can be left out."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from avgen.latents.context import REFERENCE
from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import AUDIO, VIDEO, concatenate, make_layout
from avgen.latents.reference import make_reference
from avgen.latents.tracks import pack_track
from avgen.models.transformer import AVTransformer, AVTransformerConfig


def layout_of(num_frames, seconds=None, **there):
    video = VideoGrid(num_frames, 32, 32, Fraction(25), (4, 16, 16), 3, 1)
    samples = round(24000 * (num_frames / 25 if seconds is None else seconds))
    return make_layout(video, AudioGrid(samples, 24000, 320, 2, 3), **there)


def part(*size, **there):
    layout = layout_of(*size, **there)
    return torch.randn(layout.num_tokens, 6) * layout.used, layout


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    config = AVTransformerConfig(6, 32, 3, 2, has_references=True, num_expressions=5)
    made = AVTransformer(config)
    for parameter in made.parameters():
        if not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.2)
    return made.requires_grad_(False)


def test_a_reference_lies_before_the_clip():
    voice, face = part(1, 0.4, has_picture=False), part(1, has_sound=False)
    reference = make_reference([voice, None, face])
    assert reference.tokens.shape == (3, 10, 6)
    assert reference.seen.sum(1).tolist() == [10, 0, 4]
    torch.testing.assert_close(reference.seconds[0], -3.98 + 0.04 * torch.arange(10))
    assert reference.seconds[2, :4].tolist() == pytest.approx([-3.98] * 4)
    assert reference.modality[0].tolist() == [AUDIO] * 10
    assert reference.modality[2, :4].tolist() == [VIDEO] * 4
    assert reference.places[0, 0].tolist() == [-2048.0, 0.0]
    assert torch.equal(reference.places[2, :4], face[1].places)
    with pytest.raises(ValueError, match=r"a reference of 3.24 s; at most 3.0"):
        make_reference([part(1, 3.24, has_picture=False)])


@torch.no_grad()
def test_a_reference_matters_and_none_is_as_if_there_were_no_such_thing(model):
    layout, text = layout_of(9), model.read(["a man"] * 2, [[]] * 2)
    tokens, sigma = torch.randn(2, layout.num_tokens, 6), torch.full((2, layout.num_tokens), 0.6)
    without = model(tokens, sigma, model.prepare(layout, text))
    voice = part(1, 0.4, has_picture=False)
    reference = make_reference([voice, None])
    context = model.prepare(layout, text, reference=reference)
    made = model(tokens, sigma, context)
    assert float((made[0] - without[0]).abs().max()) > 1e-3
    torch.testing.assert_close(made[1], without[1], atol=1e-5, rtol=1e-4)
    kinds = context.stream.prefix_kinds[context.stream.order[context.stream.order < 52]]
    assert int((kinds == REFERENCE).sum()) == 10
    as_sound = replace(context.stream, prefix_kinds=context.stream.prefix_kinds.clamp(max=3))
    other = model(tokens, sigma, replace(context, stream=as_sound))
    assert float((other[0] - made[0]).abs().max()) > 1e-3  # of a kind of its own


@torch.no_grad()
def test_packed_references_are_each_clips_own(model):
    layouts = [layout_of(9), layout_of(5, has_picture=False), layout_of(5, has_sound=False)]
    parts = [part(1, 0.4, has_picture=False), None, part(1, has_sound=False)]
    captions, speech = ["a man", "", "a"], [[]] * 3
    tokens = [torch.randn(1, layout.num_tokens, 6) * layout.used for layout in layouts]
    alone = []
    for index, layout in enumerate(layouts):
        text = model.read(captions[index : index + 1], [[]])
        own = None if parts[index] is None else make_reference(parts[index : index + 1])
        context = model.prepare(layout, text, reference=own)
        sigma = torch.full((1, layout.num_tokens), 0.7)
        alone.append(model(tokens[index], sigma, context, with_expressions=True))
    packed = concatenate(layouts)
    context = model.prepare(packed, model.read(captions, speech), reference=make_reference(parts))
    sigma = torch.full((1, packed.num_tokens), 0.7)
    made, told = model(torch.cat(tokens, 1), sigma, context, with_expressions=True)
    torch.testing.assert_close(made, torch.cat([m for m, _ in alone], 1), atol=2e-5, rtol=1e-4)
    assert told.shape == (1, 5, 4, 5)  # 3 latent frames and 2; a voice has none
    torch.testing.assert_close(told, torch.cat([t for _, t in alone], 1), atol=2e-5, rtol=1e-4)


def test_a_network_without_references_says_so():
    old = AVTransformer(AVTransformerConfig(6, 32, 1, 2))
    with pytest.raises(ValueError, match="the network was trained without any"):
        reference = make_reference([part(1, has_sound=False)])
        old.prepare(layout_of(5), old.read([""], [[]]), reference=reference)


def test_expressions_are_told_by_the_frames_tokens(model):
    """The mean over a latent frame's tokens of a linear head; gradients reach half the blocks."""
    layout = layout_of(9)
    hidden = torch.randn(2, layout.num_tokens, 32)
    told = model.tell_expressions(hidden, layout)
    assert told.shape == (2, 3, 4, 5)
    own = hidden[:, layout.latent == 1]
    normed = (own - own.mean(-1, keepdim=True)) / own.std(-1, keepdim=True, unbiased=False)
    expected = model.expressions(normed.mean(1)).view(2, 4, 5)
    torch.testing.assert_close(told[:, 1], expected, atol=1e-4, rtol=1e-4)
    learning = AVTransformer(model.config)
    context = learning.prepare(layout, learning.read([""] * 2, [[]] * 2))
    tokens, sigma = torch.randn(2, layout.num_tokens, 6), torch.full((2, layout.num_tokens), 0.7)
    learning(tokens, sigma, context, with_expressions=True)[1].square().sum().backward()
    reached = [block.table.grad is not None for block in learning.blocks]
    assert reached == [True, True, False]


def test_tracks_are_packed_by_latent_frames():
    grid = VideoGrid(8, 32, 32, Fraction(25), (4, 16, 16), 3, 1)
    track = torch.arange(1.0, 9.0)[:, None] * torch.tensor([1.0, -2.0])
    told, known = pack_track(track, grid)
    assert told[..., 0].tolist() == [[0, 0, 0, 1], [2, 3, 4, 5], [6, 7, 8, 0]]
    assert told[1, 2].tolist() == [4, -8]
    assert known.tolist() == [[False] * 3 + [True], [True] * 4, [True] * 3 + [False]]
    with pytest.raises(ValueError, match="a track of 7 frames; the clip has 8"):
        pack_track(track[1:], grid)
