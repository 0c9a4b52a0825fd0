"""Phonemes in the tokens they are heard in: shares, states, and that nothing else comes in."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch.nn import functional as F

from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import AUDIO, VIDEO, concatenate, make_layout
from avgen.models.heard import PARTS, HeardSpeech, cut, shares, states
from avgen.models.phonemes import PHONEMES, TimedPhoneme
from avgen.models.text import make_text
from avgen.models.transformer import AVTransformer, AVTransformerConfig

SPOKEN = [TimedPhoneme("B", 0.02, 0.1), TimedPhoneme("AA1", 0.1, 0.3), TimedPhoneme(",", 0.3, 0.4)]


def span(*pairs):
    return torch.tensor(pairs)


def make_small_layout(has_picture=True):
    video = VideoGrid(9, 32, 32, Fraction(25), (4, 16, 16), 3, 1)
    return make_layout(video, AudioGrid(8640, 24000, 320, 2, 3), has_picture=has_picture)


@pytest.fixture
def heard():
    torch.manual_seed(3)
    made = HeardSpeech(16, len(PHONEMES), 2).requires_grad_(False)
    for layer in made.outward:
        torch.nn.init.normal_(layer.weight, std=0.3)
    return made


def test_a_share_is_what_is_covered():
    parts = span((0.0, 0.04), (0.04, 0.08), (1.0, 1.5))
    phonemes = span((0.02, 0.06), (-1.0, 0.01), (1.2, 1.3), (0.5, 0.6))
    expected = [[0.5, 0.25, 0, 0], [0.5, 0, 0, 0], [0, 0, 0.2, 0]]
    torch.testing.assert_close(shares(parts, phonemes), torch.tensor(expected))


def test_a_phoneme_begins_lasts_and_ends():
    """At 0.25 of a phoneme half beginning, half middle; outside wholly its edge."""
    centres = torch.tensor([-1.0, 0.1, 0.15, 0.2, 0.275, 0.3, 9.0])
    parts = torch.stack([centres - 0.01, centres + 0.01], 1)
    made = states(parts, span((0.1, 0.3)))[:, 0]
    expected = [
        [1, 0, 0],
        [1, 0, 0],
        [0.5, 0.5, 0],
        [0, 1, 0],
        [0, 0.25, 0.75],
        [0, 0, 1],
        [0, 0, 1],
    ]
    torch.testing.assert_close(made, torch.tensor(expected), atol=1e-5, rtol=0)


def test_parts_tile_a_span():
    parts = cut(span((0.2, 0.36), (0.36, 0.40)))
    assert parts.shape == (2 * PARTS, 2)
    expected = [(0.2 + 0.04 * i, 0.24 + 0.04 * i) for i in range(4)] + [
        (0.36 + 0.01 * i, 0.37 + 0.01 * i) for i in range(4)
    ]
    torch.testing.assert_close(parts, torch.tensor(expected))


def test_a_phoneme_over_half_a_token_adds_half(heard):
    """Two of four parts; what is left over is silence, which is heard where there is speech."""
    ids, spans, seen = torch.tensor([[5]]), span((0.0, 0.08))[None], torch.tensor([[True]])
    vectors = heard.vectors(ids, spans, seen)
    vectors[:] = vectors[:, :, :1]  # the same in every state
    tokens = span((0.0, 0.08), (0.0, 0.16), (0.08, 0.16))
    whole, half, none = heard(tokens, torch.full((3,), AUDIO), vectors, spans, seen)[0]
    first, second = heard.outward[AUDIO].weight.unflatten(1, (2, -1)).unbind(1)
    own = vectors[0, 0, 0].repeat(2)
    torch.testing.assert_close(whole, (first + second) @ own)
    torch.testing.assert_close(half, first @ own + second @ heard.silence.repeat(2))
    torch.testing.assert_close(none, (first + second) @ heard.silence.repeat(2))
    video = heard(tokens, torch.full((3,), VIDEO), vectors, spans, seen)[0]
    assert float((video[0] - whole).abs().max()) > 0.1
    unheard = heard(tokens, torch.full((3,), AUDIO), vectors, spans, ~seen)
    assert not bool(unheard.any())


def test_a_phoneme_knows_two_neighbours_and_no_padding(heard):
    ids = torch.tensor([[5, 7, 9, 11, 13, 15]])
    spans = torch.stack([torch.arange(6) * 0.1, torch.arange(1, 7) * 0.1], -1)[None]
    seen = torch.ones(1, 6, dtype=torch.bool)
    made = heard.vectors(ids, spans, seen)
    other = ids.clone()
    other[0, 4] = 20
    changed = (heard.vectors(other, spans, seen) - made).abs().amax((0, 2, 3)) > 1e-4
    assert changed.tolist() == [False, False, True, True, True, True]
    padded = heard.vectors(
        F.pad(ids, (0, 2), value=3), F.pad(spans, (0, 0, 0, 2)), F.pad(seen, (0, 2))
    )
    torch.testing.assert_close(padded[:, :6], made)
    lasting = heard.vectors(ids, spans * 2, seen)
    assert float((lasting - made).abs().max()) > 1e-2


@pytest.mark.parametrize(("slot", "heard_by"), [(0, 3), (2, 1)], ids=["before", "after"])
def test_what_comes_before_is_not_what_comes_after(heard, slot, heard_by):
    """A layer that hears one neighbour: the third phoneme changes that one and itself."""
    first, second = heard.near
    for part in (first.weight, first.bias, second.weight, second.bias):
        part.zero_()
    first.weight[:, 8 * slot : 8 * slot + 8] = torch.eye(8)
    ids = torch.tensor([[5, 7, 9, 11, 13]])
    spans = torch.stack([torch.arange(5) * 0.1, torch.arange(1, 6) * 0.1], -1)[None]
    seen = torch.ones(1, 5, dtype=torch.bool)
    other = ids.clone()
    other[0, 2] = 20
    change = heard.vectors(other, spans, seen) - heard.vectors(ids, spans, seen)
    changed = (change.abs().amax((0, 2, 3)) > 1e-4).nonzero()[:, 0].tolist()
    assert changed == sorted([2, heard_by])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    config = AVTransformerConfig(6, 32, 2, 2, num_phonemes=len(PHONEMES), hears_speech=True)
    made = AVTransformer(config)
    for parameter in made.parameters():
        if not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.2)
    return made.requires_grad_(False)


def test_speech_is_heard_where_it_is(model):
    """In the tokens that overlap it, picture and sound, and without its own tokens too."""
    layout = make_small_layout()
    without = model.prepare(layout, model.read([""], [[]])).heard
    assert not bool(without.any())
    said = [*SPOKEN[:2], TimedPhoneme("T", 0.3, 0.32), TimedPhoneme(",", 0.32, 0.36)]
    ended = [*said[:3], TimedPhoneme(".", 0.32, 0.36)]
    here, there = (model.prepare(layout, model.read([""], [s])).heard[0] for s in (said, ended))
    change = (there - here).abs().amax(1) > 1e-4
    # AA and T, its two neighbours, know of the pause; B, which ends at 0.1 s, does not
    assert torch.equal(change, layout.spans[:, 1] > 0.1 + 1e-6)
    assert {VIDEO, AUDIO} == set(layout.modality[change].tolist())


def test_packed_is_alone_and_gradients_flow(model):
    layouts = [make_small_layout(), make_small_layout(has_picture=False)]
    texts = [SPOKEN, SPOKEN[:1]]
    packed = model.prepare(concatenate(layouts), model.read(["a man", ""], texts))
    alone = [
        model.prepare(layout, model.read([caption], [speech])).heard
        for layout, caption, speech in zip(layouts, ["a man", ""], texts, strict=True)
    ]
    torch.testing.assert_close(packed.heard, torch.cat(alone, 1))
    fresh = AVTransformer(model.config)
    torch.nn.init.normal_(fresh.outward[AUDIO].weight)
    context = fresh.prepare(layouts[1], fresh.read([""], [SPOKEN]))
    assert not bool(context.heard.any())  # a new network starts without
    tokens, sigma = (
        torch.randn(1, layouts[1].num_tokens, 6),
        torch.full((1, layouts[1].num_tokens), 0.4),
    )
    fresh(tokens, sigma, context).square().sum().backward()
    assert fresh.heard is not None
    assert float(fresh.heard.outward[AUDIO].weight.grad.abs().max()) > 0
    assert not bool(fresh.heard.outward[VIDEO].weight.grad.any())


def test_phonemes_need_no_tokens_of_their_own(model):
    """The stream is shorter by them, and what is said still decides."""
    short = AVTransformer(replace(model.config, has_speech_tokens=False))
    for name, weight in short.state_dict().items():
        weight.copy_(model.state_dict()[name])
    assert model.state_dict().keys() - short.state_dict().keys() == {
        f"speech.{name}" for name in ("table.weight", "duration.weight", "duration.bias")
    }
    layout = make_small_layout()
    contexts = [net.prepare(layout, net.read(["a"], [SPOKEN])) for net in (model, short)]
    lengths = [context.stream.segments.lengths for context in contexts]
    assert lengths == [(4 + layout.num_tokens,), (1 + layout.num_tokens,)]
    silent = short.prepare(layout, short.read(["a"], [[]]))
    tokens, sigma = torch.randn(1, layout.num_tokens, 6), torch.full((1, layout.num_tokens), 0.3)
    with torch.no_grad():
        said, unsaid = short(tokens, sigma, contexts[1]), short(tokens, sigma, silent)
    assert float((said - unsaid).abs().max()) > 1e-2


def test_a_network_of_39_phonemes_reads_without_stress():
    old = AVTransformer(AVTransformerConfig(6, 32, 1, 2))
    text = old.read(["a man"], [SPOKEN])
    assert text.speech_ids[0, :3].tolist() == [PHONEMES.index("B"), PHONEMES.index("AA"), 0]
    assert int(text.speech_mask.sum()) == 2
    assert make_text([""], [SPOKEN], num_phonemes=len(PHONEMES)).speech_mask.sum() == 3
