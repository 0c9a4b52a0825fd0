"""Sharpness, steps and flicker of frames, in closed form."""

import numpy as np
import pytest

from avgen.evaluation.comparison.distances import sharpness
from avgen.evaluation.comparison.pictures import flicker, joins, largest, steps


def test_sharpness_of_a_ramp():
    ramp = np.broadcast_to(np.arange(0, 64, 4, dtype=np.uint8)[None, :, None, None], (2, 16, 16, 3))
    assert sharpness(ramp) == pytest.approx(4.0)


def test_joins_are_the_steps_out_of_frames_that_are_multiples_of_the_stride():
    assert np.flatnonzero(joins(10, 4)).tolist() == [0, 4, 8]


def test_flicker_is_the_step_at_joins_over_the_step_inside():
    heights = np.cumsum([0, 6, 2, 2, 2, 6, 2, 2, 2])  # steps of 6 at the joins, of 2 inside
    frames = np.broadcast_to(heights[:, None, None, None], (9, 4, 4, 3)).astype(np.uint8)
    assert steps(frames).tolist() == [6, 2, 2, 2, 6, 2, 2, 2]
    assert flicker(steps(frames)) == pytest.approx(3.0)
    falling = frames[::-1]
    assert steps(falling).tolist() == [2, 2, 2, 6, 2, 2, 2, 6]  # and does not wrap around at 0


def test_a_jump_is_the_largest_step_over_the_usual_one():
    time = np.arange(24_000) / 24_000
    wave = 0.1 * np.sin(2 * np.pi * 200 * time)
    broken = wave.copy()
    broken[12_000:] += 0.1
    assert largest(np.abs(np.diff(wave)), 0.999) < 1.1
    assert largest(np.abs(np.diff(broken)), 0.999) > 10
    assert largest(np.array([2.0, 2.0, 3.0, 8.0, 2.0]), 0.5) == 4
    assert np.isnan(largest(np.zeros(3), 0.5))
