"""The stream that a transformer attends over: places, sight, and noise levels."""

from fractions import Fraction

import pytest
import torch

from avgen.latents.context import (
    CAPTION,
    SPEECH,
    Prefix,
    caption_places,
    distinct_levels,
    make_stream,
)
from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import AUDIO, VIDEO, concatenate, make_layout


@pytest.fixture
def layout():
    video = VideoGrid(5, 32, 32, Fraction(25), (4, 16, 16), 3, 1)
    return make_layout(video, AudioGrid(4800, 24000, 320, 2, 3))


def prefix(kind, seen, second):
    seen = torch.tensor(seen)
    return Prefix(kind, seen, torch.full(seen.shape, second), torch.full((*seen.shape, 2), 7.0))


@pytest.mark.parametrize("num_words", [1, 32, 33, 77, 512])
def test_captions_stay_beside_the_picture(num_words):
    """The first words where the shipped weights have them, all left of a picture 2000 wide."""
    places = caption_places(num_words)
    first = torch.tensor([[0.0, 32.0 * word - 2048.0] for word in range(min(num_words, 32))])
    assert torch.equal(places[:32], first)
    assert float(places[:, 1].max()) < -1000
    assert len(places.unique(dim=0)) == num_words
    if num_words > 64:
        assert places[65].tolist() == [64.0, -2016.0]


def test_levels_are_counted_exactly(layout):
    """A level a modality and a given part, told apart to the last bit, -0 from 0 not."""
    sigma = torch.where(layout.modality == VIDEO, 0.7, 0.3).repeat(2, 1)
    sigma[0, :4], sigma[0, 3], sigma[1, 0] = 0.0, -0.0, 0.7 + 2**-23
    levels = distinct_levels(sigma, layout.modality)
    kinds = layout.modality.repeat(2, 1)
    assert torch.equal(levels.values[levels.index], sigma)
    assert torch.equal(levels.kinds[levels.index], kinds)
    pairs = set(zip(sigma.flatten().tolist(), kinds.flatten().tolist(), strict=True))
    assert len(levels.values) == len(pairs) == 4
    assert sorted(levels.kinds.tolist()) == [VIDEO, VIDEO, VIDEO, AUDIO]
    assert levels.values[levels.index][0, 3].signbit().item() is False


def test_what_is_hidden_is_not_there(layout):
    """In a batch as in a pack; a mask is only what keeps picture and sound apart."""
    hidden = [prefix(CAPTION, [[True, True], [True, False]], 0.0)]
    n = layout.num_tokens
    for of_both in (layout, concatenate([layout, layout])):
        segments = make_stream(of_both, hidden, decoupled=False).segments
        assert segments.masks is None
        assert segments.lengths == (2 + n, 1 + n)
        assert segments.ends.tolist() == [0, 2 + n, 3 + 2 * n]
        masks = make_stream(of_both, hidden, decoupled=True).segments.masks
        words = int((layout.modality == VIDEO).sum()), int((layout.modality == AUDIO).sum())
        for mask, count in zip(masks, (2, 1), strict=True):
            assert int(mask.sum()) == count * (count + n) + sum(own**2 for own in words)


def test_a_packed_stream_holds_clip_after_clip(layout):
    caption = prefix(CAPTION, [[True, False], [True, True]], 3.0)
    speech = prefix(SPEECH, [[True], [False]], 2.0)
    stream = make_stream(concatenate([layout, layout]), [caption, speech], decoupled=False)
    own = layout.spans.mean(-1)
    seconds = torch.cat([torch.tensor([3.0, 2.0]), own, torch.tensor([3.0, 3.0]), own])
    assert torch.equal(stream.seconds, seconds)
    assert stream.prefix_kinds.tolist() == [CAPTION] * 4 + [SPEECH] * 2
    assert stream.order[:2].tolist() == [0, 4]
    n = layout.num_tokens
    assert torch.equal(
        stream.own, torch.cat([torch.arange(2, n + 2), torch.arange(n + 4, 2 * n + 4)])
    )
    assert stream.places[0].tolist() == [7.0, 7.0]
