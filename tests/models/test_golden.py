"""The network's numbers, stored in golden.json: what is to leave its arithmetic alone leaves these.

Weights, tokens, noise levels and text are fixed, and no gate, gain or projection is 0 or 1, so that
every constant of the network counts.
"""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from avgen.clips.timebase import num_samples
from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import concatenate, make_layout
from avgen.models.phonemes import TimedPhoneme
from avgen.models.text import make_text
from avgen.models.transformer import AVTransformer, AVTransformerConfig

CAPTIONS = ["a woman in a red coat speaks", "rain"]
SPEECH = [
    [TimedPhoneme(p, 0.03 * i, 0.03 * i + 0.02 + 0.004 * i) for i, p in enumerate(
        ("R", "EH", "D", "AE", "T", "B", "AY", "N", "ZH", "OW", "S"))],
    [TimedPhoneme("P", -0.05, 0.04), TimedPhoneme("UW", 0.04, 0.31)],
]  # fmt: skip
LEVELS = torch.tensor([0.0, 0.13, 0.5, 0.87, 1.0])


def velocity(network, tokens, sigma, layout, text, decoupled=False):
    """What the network makes of noisy tokens: the one place that knows how it is called."""
    return network(tokens, sigma, network.prepare(layout, text, decoupled))


def layout_of(num_frames, height, width, fps):
    video = VideoGrid(num_frames, height, width, fps, (4, 16, 16), 3, 1)
    return make_layout(video, AudioGrid(num_samples(num_frames, fps, 24000), 24000, 320, 2, 3))


@pytest.fixture(scope="module")
def network(fill):
    config = AVTransformerConfig(token_width=6, width=32, depth=2, num_heads=2, mlp_ratio=2.0)
    return fill(AVTransformer(config)).requires_grad_(False)


@pytest.fixture(scope="module")
def noisy(chirp):
    """Tokens and noise levels of a layout: two rows where there are two clips."""

    def noisy(layout, rows, phase):
        shape = (rows, layout.num_tokens, 6)
        tokens = 1.5 * torch.from_numpy(chirp(shape, phase)).float() * layout.used
        order = torch.arange(rows * layout.num_tokens).view(shape[:2])
        return tokens, LEVELS[order * 7 % 11 % 5]

    return noisy


def test_a_batch(network, noisy, golden):
    """Two clips of one layout; the numbers are of what is no padding, whose velocity is 0."""
    layout = layout_of(9, 32, 48, Fraction(25))
    tokens, sigma = noisy(layout, 2, 3)
    made = velocity(network, tokens, sigma, layout, make_text(CAPTIONS, SPEECH))
    golden("transformer: a batch", made[:, layout.used], 48)


def test_modalities_apart(network, noisy, golden):
    layout = layout_of(9, 32, 48, Fraction(25))
    tokens, sigma = noisy(layout, 2, 3)
    made = velocity(network, tokens, sigma, layout, make_text(CAPTIONS, SPEECH), decoupled=True)
    golden("transformer: modalities apart", made[:, layout.used], 16)


def test_clips_in_one_sequence(network, noisy, golden):
    """Of other sizes and rates, the second without sound."""
    layouts = [layout_of(9, 32, 48, Fraction(25)), layout_of(6, 48, 32, Fraction(30000, 1001))]
    video = layouts[1].video
    layouts[1] = make_layout(video, layouts[1].audio, has_sound=False)
    packed = concatenate(layouts)
    tokens, sigma = noisy(packed, 1, 5)
    made = velocity(network, tokens, sigma, packed, make_text(CAPTIONS, SPEECH))
    golden("transformer: one sequence", made[:, packed.used], 48)


def test_text_that_is_hidden(network, noisy, golden):
    """What guidance pushes away from: the first clip without words, the second without caption."""
    layout = layout_of(5, 32, 32, Fraction(24))
    tokens, sigma = noisy(layout, 2, 7)
    text = make_text(CAPTIONS, SPEECH).drop(
        torch.tensor([False, True]), torch.tensor([True, False])
    )
    made = velocity(network, tokens, sigma, layout, text)
    golden("transformer: hidden text", made[:, layout.used], 16)
    shorter = replace(make_text(CAPTIONS, [[], SPEECH[1]]), caption_mask=text.caption_mask)
    made = velocity(network, tokens, sigma, layout, shorter)
    golden("transformer: hidden text", made[:, layout.used], 16)


def test_gradients(network, noisy, fill, chirp, golden):
    """Of the mean square of what it makes: of every parameter its norm and a weighted sum."""
    trained = fill(AVTransformer(network.config))
    layout = layout_of(9, 32, 48, Fraction(25))
    tokens, sigma = noisy(layout, 2, 3)
    made = velocity(trained, tokens, sigma, layout, make_text(CAPTIONS, SPEECH))
    made.square().sum().backward()
    for name, parameter in trained.named_parameters():
        gradient = parameter.grad.double()
        weighed = gradient * torch.from_numpy(chirp(gradient.shape, 9))
        golden(f"gradient: {name}", [gradient.norm(), weighed.sum()], rel=1e-4, atol=1e-3)
