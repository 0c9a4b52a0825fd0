"""What is made goes on from what is given, and is itself again a moment later."""

import numpy as np
import torch

from avgen.pipeline.joins import (
    EASED_FRAMES,
    EASED_S,
    ease_expressions,
    ease_frames,
    ease_sound,
    fade,
)


def test_an_error_of_the_codec_does_not_show_at_the_join():
    """A given picture at level 120, decoded as 100: the first made frame hardly moves."""
    given = np.full((4, 4, 3), 120, np.uint8)
    made = np.full((20, 4, 4, 3), 100, np.uint8)
    eased = ease_frames(made, given, made[0])
    levels = eased[:, 0, 0, 0].astype(int)
    assert levels[0] >= 119
    assert (np.diff(levels) <= 0).all() and np.diff(levels).min() >= -4
    assert (levels[EASED_FRAMES:] == 100).all()
    assert (ease_frames(made, made[0], made[0]) == made).all()


def test_levels_stay_in_range():
    white, black = (np.full((2, 2, 3), level, np.uint8) for level in (255, 0))
    assert ease_frames(np.full((3, 2, 2, 3), 250, np.uint8), white, black).max() == 255


def test_the_sound_goes_on_where_it_was():
    """A sine whose decoding is off by 0.3: no step at the join, the decoding alone after 5 ms."""
    rate = 24000
    sine = 0.2 * np.sin(2 * np.pi * 200 * np.arange(2400) / rate).astype(np.float32)[None]
    decoded = sine - 0.3
    eased = ease_sound(decoded[:, 1200:], sine[:, 1199], decoded[:, 1199], rate)
    joined = np.concatenate([sine[:, :1200], eased], 1)
    assert np.abs(np.diff(joined)).max() < 0.02
    after = round(EASED_S * rate)
    assert np.array_equal(eased[:, after:], decoded[:, 1200 + after :])


def test_what_is_short_is_eased_as_well():
    assert fade(1).tolist() == [0.5]
    made = ease_sound(np.zeros((1, 1), np.float32), np.ones(1), np.zeros(1), 24000)
    assert made.tolist() == [[0.5]]


def test_expressions_do_not_step_from_latent_to_latent():
    """Half of a step on each side; what goes on as it went, and the first latent, stay."""
    told = torch.zeros(2, 4, 4, 3)
    told[1, 2:, :, 2] = 8.0
    eased = ease_expressions(told)
    assert eased[1, :, :, 2].tolist() == [
        [0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 3.0],
        [5.0, 7.0, 8.0, 8.0],
        [8.0, 8.0, 8.0, 8.0],
    ]
    assert not bool(eased[0].any()) and not bool(eased[1, :, :, :2].any())
    line = 0.5 * torch.arange(16.0).view(1, 4, 4, 1)
    assert torch.equal(ease_expressions(line), line)
    first = torch.cat([torch.full((1, 1, 4, 1), 9.0), line], 1)  # a first latent unlike the next
    assert torch.equal(ease_expressions(first), first)
    assert torch.equal(ease_expressions(line[:, :1]), line[:, :1])
    assert torch.equal(ease_expressions(told[:, :, :1]), told[:, :, :1])
