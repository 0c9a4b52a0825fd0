"""Attention limited in time: what it sees, what it costs; a causal clip is its own beginning."""

from fractions import Fraction

import pytest
import torch

from avgen.latents.context import CAPTION, Sight, distinct_levels, make_stream
from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import AUDIO, VIDEO, concatenate, make_layout
from avgen.models.phonemes import TimedPhoneme
from avgen.models.text import make_text
from avgen.models.transformer import AVTransformer, AVTransformerConfig, text_prefixes
from avgen.training.flops import stream_flops

SIGHT = {"sight_s": 0.32, "sight_blocks": 1}


def layout_of(frames, size=32):
    video = VideoGrid(frames, size, size, Fraction(25), (4, 16, 16), 4, 2)
    return make_layout(video, AudioGrid(frames * 960, 24000, 320, 4, 3))


def text_of(count, seconds):
    spoken = [TimedPhoneme("AA1", i / 4, (i + 1) / 4) for i in range(int(4 * seconds))]
    return make_text(["a man says it"] * count, [spoken] * count)


def network_of(fill, **sight):
    return fill(AVTransformer(AVTransformerConfig(16, 16, 2, 2, **sight)))


@torch.no_grad()
def run(network, layout, rows=1, **kwargs):
    """The velocity of noise that begins alike whatever the length."""
    tokens = torch.randn(1, 4000, 16, generator=torch.Generator().manual_seed(1))
    tokens = tokens[:, : layout.num_tokens].expand(rows, -1, -1)
    levels = distinct_levels(torch.full((rows, layout.num_tokens), 0.6), layout.modality)
    text = text_of(rows, 4)
    return network(tokens, levels, network.prepare(layout, text, **kwargs))


def mask_of(layout, prefixes, sight, decoupled):
    """By the definition, token by token."""
    stream = make_stream(layout, prefixes, False)
    kinds = torch.cat([stream.prefix_kinds, layout.modality])[stream.order]
    block = (stream.seconds / sight.block_s).floor()
    mask = (block[:, None] - block[None]).abs() <= sight.blocks
    if sight.is_causal:
        mask &= block[None] <= block[:, None]
    timeless = kinds == CAPTION
    mask = mask | timeless[None]
    mask[timeless] = timeless if sight.is_causal else True
    if decoupled:
        own = (kinds == VIDEO) | (kinds == AUDIO)
        mask &= ~own[None] | (kinds[:, None] == kinds[None])
    return mask


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("is_causal", [False, True])
def test_groups_are_the_mask(is_causal, decoupled):
    layout, sight = layout_of(41), Sight(0.32, 1, is_causal)
    prefixes = text_prefixes(text_of(1, 1.6))
    stream = make_stream(layout, prefixes, decoupled, sight)
    mask = torch.zeros(len(stream.order), len(stream.order), dtype=torch.bool)
    for group in stream.segments.groups:
        mask[group.queries[:, None], group.keys[None]] = True
    expected = mask_of(layout, prefixes, sight, decoupled)
    assert torch.equal(mask, expected) and not expected.all()
    assert stream.segments.num_pairs == int(expected.sum())


def test_a_block_as_long_as_the_clip_sees_all_of_it(fill):
    plain, seen = network_of(fill), network_of(fill, sight_s=100.0)
    layout = layout_of(25)
    torch.testing.assert_close(run(seen, layout), run(plain, layout), atol=1e-5, rtol=1e-5)
    apart = {"decoupled": True}
    made = (run(network, layout, **apart) for network in (seen, plain))
    torch.testing.assert_close(*made, atol=1e-5, rtol=1e-5)
    near = network_of(fill, **SIGHT)
    assert float((run(near, layout_of(65)) - run(plain, layout_of(65))).abs().max()) > 1e-3


def test_a_causal_clip_is_its_own_beginning(fill):
    """To 1e-5, whatever follows; one that is not causal changes."""
    long, short = layout_of(65), layout_of(41)
    until = 1.28  # a whole number of blocks
    kept = [int((layout.spans.mean(-1) < until).sum()) for layout in (long, short)]
    assert kept[0] == kept[1] and torch.equal(long.spans[: kept[0]], short.spans[: kept[0]])
    for blocks in (1, None):
        network = network_of(fill, sight_s=0.32, sight_blocks=blocks, sight_is_causal=True)
        made = [run(network, layout)[:, : kept[0]] for layout in (long, short)]
        torch.testing.assert_close(*made, atol=1e-5, rtol=1e-5)
    open_ = network_of(fill, **SIGHT)
    made = [run(open_, layout)[:, : kept[0]] for layout in (long, short)]
    assert float((made[0] - made[1]).abs().max()) > 1e-4


def test_packed_and_stacked_clips_see_themselves_alone(fill):
    network = network_of(fill, **SIGHT)
    layouts = [layout_of(41), layout_of(25)]
    alone = [run(network, layout) for layout in layouts]
    packed = concatenate(layouts)
    tokens = torch.randn(1, 4000, 16, generator=torch.Generator().manual_seed(1))
    tokens = torch.cat([tokens[:, : layout.num_tokens] for layout in layouts], 1)
    levels = distinct_levels(torch.full((1, packed.num_tokens), 0.6), packed.modality)
    with torch.no_grad():
        made = network(tokens, levels, network.prepare(packed, text_of(2, 4)))
    torch.testing.assert_close(made, torch.cat(alone, 1), atol=1e-5, rtol=1e-5)
    rows = run(network, layouts[0], rows=2)
    torch.testing.assert_close(rows, alone[0].expand(2, -1, -1), atol=1e-5, rtol=1e-5)


def test_sixty_seconds_cost_six_times_what_ten_do():
    """Counted; without a limit it is much more."""
    costs = {}
    for name, sight in (("near", Sight(2.0)), ("all", None)):
        config = AVTransformerConfig(16, 512, 8, 8, sight_s=None if sight is None else 2.0)
        for seconds in (10, 60):
            text = text_of(1, seconds)
            stream = make_stream(layout_of(25 * seconds, 256), text_prefixes(text), False, sight)
            costs[name, seconds] = stream_flops(config, stream, 3)
    assert costs["near", 60] <= 6.6 * costs["near", 10]
    assert costs["all", 60] > 20 * costs["all", 10]
