"""The figures of recipes/grid/measures.py, where they are known in closed form."""

import importlib.util
import math
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from avgen.clips.clip import Word

MEASURES = Path(__file__).resolve().parents[1] / "recipes" / "grid" / "measures.py"
FPS = Fraction(25)
SAMPLE_RATE = 24000


@pytest.fixture(scope="module")
def measures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("grid_measures", MEASURES)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_psnr_of_a_known_error(measures):
    real = np.full((2, 4, 4, 3), 100, np.uint8)
    assert measures.psnr(real, real + np.uint8(5)) == pytest.approx(10 * math.log10(255**2 / 25))
    assert measures.psnr(real, real) == math.inf


def test_psnr_does_not_wrap_around(measures):
    black, white = np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 255, np.uint8)
    assert measures.psnr(black, white) == pytest.approx(0.0)
    assert measures.psnr(white, black) == pytest.approx(0.0)


def test_mouth_region_rows_and_columns(measures):
    frames = np.zeros((1, 100, 100, 3), np.uint8)
    frames[0, :, :, 0], frames[0, :, :, 1] = np.arange(100)[:, None], np.arange(100)[None]
    mouth = measures.mouth_region(frames)
    assert (mouth[0, 0, 0, 0], mouth[0, -1, 0, 0]) == (72, 96)
    assert (mouth[0, 0, 0, 1], mouth[0, 0, -1, 1]) == (32, 69)


def test_sharpness_of_a_ramp(measures):
    ramp = np.broadcast_to(np.arange(0, 64, 4, dtype=np.uint8)[None, :, None, None], (2, 16, 16, 3))
    assert measures.sharpness(ramp) == pytest.approx(4.0)


def test_joins_are_the_steps_out_of_frames_that_are_multiples_of_the_stride(measures):
    assert np.flatnonzero(measures.joins(10, 4)).tolist() == [0, 4, 8]


def test_flicker_is_the_step_at_joins_over_the_step_inside(measures):
    heights = np.cumsum([0, 6, 2, 2, 2, 6, 2, 2, 2])  # steps of 6 at the joins, of 2 inside
    frames = np.broadcast_to(heights[:, None, None, None], (9, 4, 4, 3)).astype(np.uint8)
    expected = {"step_join": 6.0, "step_inside": 2.0, "flicker": 3.0}
    assert measures.flicker(frames, 4) == pytest.approx(expected)
    assert measures.steps(frames).tolist() == [6, 2, 2, 2, 6, 2, 2, 2]


def test_step_errors_see_an_error_that_changes_with_the_latent_frame(measures):
    real = np.full((9, 4, 4, 3), 50, np.uint8)
    made = real + np.array([0, 3, 3, 3, 3, 0, 0, 0, 0], np.uint8)[:, None, None, None]
    assert measures.step_errors(real, made, 4) == pytest.approx((3.0, 0.0))
    assert measures.psnr(real, made) < math.inf


def test_frozen_is_the_share_of_steps_in_speech_at_which_the_mouth_repeats(measures):
    frames = np.zeros((6, 20, 20, 3), np.uint8)
    frames[2:] = 10
    frames[:, 0] = np.arange(6)[:, None, None] * 40  # hair moves all the time
    active = np.array([True, True, True, True, True, False])
    assert measures.frozen(frames, active) == pytest.approx(0.75)  # one of four steps moves
    assert math.isnan(measures.frozen(frames, np.zeros(6, bool)))


def test_identity_of_a_face_and_of_its_negative(measures):
    face = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    same = measures.identity(np.stack([face] * 3), face)
    assert same["psnr"] == math.inf and same["cosine"] == pytest.approx(1.0)
    assert measures.identity(255 - face[None], face)["cosine"] == pytest.approx(-1.0)


def test_correlation_at_a_known_lag_is_one_and_the_lag_is_found(measures):
    sound = np.random.default_rng(1).standard_normal(73)
    mouth = 0.1 + 0.02 * np.roll(sound, 4)  # opens 4 frames after the sound
    assert measures.correlation(mouth, sound, 4) == pytest.approx(1.0)
    assert abs(measures.correlation(mouth, sound, 0)) < 0.5
    assert measures.best_lag(mouth, sound) == 4
    assert measures.best_lag(np.roll(sound, -7), sound) == -7
    assert measures.best_lag(sound, sound) == 0


def test_pooled_lag_is_that_of_the_mean_over_clips_that_have_one(measures):
    generator = np.random.default_rng(2)
    sounds = [generator.standard_normal(73) for _ in range(8)]
    mouths = [np.roll(sound, 2) + generator.standard_normal(73) for sound in sounds]
    pairs = [*zip(mouths, sounds, strict=True), (np.full(73, 0.1), sounds[0])]
    curves = [measures.synchrony("sound", *pair)["sound_by_lag"] for pair in pairs]
    assert measures.pooled_lag(curves) == 2
    assert math.isnan(measures.pooled_lag(curves[-1:]))


def test_what_all_sentences_share_correlates_and_their_detail_does_not(measures):
    """One outline for all, syllables of their own: only the detail knows whose sound it is."""
    generator = np.random.default_rng(3)
    outline = np.hanning(73) * 3
    mouths = [outline + 0.5 * generator.standard_normal(73) for _ in range(20)]
    sounds = [mouth + 0.3 * generator.standard_normal(73) for mouth in mouths]
    others = [*sounds[1:], sounds[0]]
    assert np.mean([measures.correlation(*p) for p in zip(mouths, others, strict=True)]) > 0.6
    assert abs(np.mean(measures.mismatched(mouths, sounds))) < 0.1
    own = [
        measures.correlation(measures.detail(mouth), measures.detail(sound))
        for mouth, sound in zip(mouths, sounds, strict=True)
    ]
    assert np.mean(own) > 0.7
    assert measures.detail(np.full(30, 2.0)) == pytest.approx(np.zeros(30))


def test_a_mouth_that_stands_still_has_no_correlation(measures):
    sound = np.random.default_rng(1).standard_normal(73)
    assert math.isnan(measures.correlation(np.full(73, 0.1), sound))
    assert math.isnan(measures.best_lag(np.full(73, 0.1), sound))


def test_filled_interpolates_and_gives_up_on_a_face_mostly_lost(measures):
    gap = np.array([0.0, np.nan, np.nan, 3.0, np.nan, 5.0, 6.0])
    assert measures.filled(gap).tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert np.isnan(measures.filled(np.array([1.0, np.nan, np.nan]))).all()


def test_log_energy_of_a_burst_lies_on_the_frames_in_which_it_sounds(measures):
    waveform = np.full((1, 10 * 960), 1e-6, np.float32)
    waveform[0, 4 * 960 : 7 * 960] = 0.5  # frames 4, 5 and 6
    energy = measures.log_energy(waveform, SAMPLE_RATE, 10, FPS)
    floor = -measures.ENERGY_RANGE_DB
    expected = [floor] * 3 + [floor * 2 / 3, floor / 3, 0, floor / 3, floor * 2 / 3] + [floor] * 2
    assert energy == pytest.approx(np.array(expected), abs=1e-3)


def test_activity_is_one_inside_words(measures):
    words = [Word("place", 0.12, 0.24), Word("red", 0.24, 0.32)]  # frames 3 to 7
    active = measures.activity(words, 12, FPS)
    expected = [0, 0, 1 / 3, 2 / 3, 1, 1, 1, 2 / 3, 1 / 3, 0, 0, 0]
    assert active == pytest.approx(np.array(expected))


def test_energy_and_activity_of_the_same_word_have_no_lag(measures):
    waveform = np.zeros((1, 73 * 960), np.float32)
    waveform[0, 24000:36000] = 0.3
    energy = measures.log_energy(waveform, SAMPLE_RATE, 73, FPS)
    assert measures.best_lag(measures.activity([Word("set", 1.0, 1.5)], 73, FPS), energy) == 0


def test_sample_jump_finds_the_step_at_the_join_alone(measures):
    time = np.arange(24000) / SAMPLE_RATE
    waveform = (0.1 * np.sin(2 * np.pi * 200 * time))[None].astype(np.float32)
    broken = waveform.copy()
    broken[:, 12000:] += 0.1
    assert measures.sample_jump(waveform, 12000) < 1.1
    assert measures.sample_jump(broken, 12000) > 10
    assert measures.sample_jump(broken, 6000) < 1.1


def test_distribution_leaves_out_what_is_not_a_number(measures):
    figure = measures.distribution([0.0, 1.0, 2.0, math.nan])
    assert figure["mean"] == figure["p50"] == 1.0
    assert figure["count"] == 3
    assert figure["p10"] == pytest.approx(0.2)
