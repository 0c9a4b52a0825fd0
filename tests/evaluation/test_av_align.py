"""AV-Align by hand and on moves and clicks of known times; the correlation finds a known lag."""

from fractions import Fraction

import numpy as np
import pytest

from avgen.evaluation.subject import Unscored
from avgen.evaluation.sync.av_align import (
    VERSIONS,
    motion_peaks,
    onset_features,
    onset_motion,
    picture_features,
    score,
    sound_features,
)

FPS, RATE = Fraction(25), 22_050
MANY, ONE, JAVIS = (VERSIONS[f"av_align@{name}"] for name in ("2023-10", "2025-02", "javisbench"))
EVENTS = (8, 17, 31, 44, 52, 66)  # frames at which something jumps and clicks


def jumps(events, num_frames=75, pixels=6):
    """A textured square, uint8 [T, 48, 64, 3], that jumps sideways into each frame of events."""
    texture = np.random.default_rng(0).integers(60, 255, (20, 20, 3), np.uint8)
    frames = np.zeros((num_frames, 48, 64, 3), np.uint8)
    at, step = 12, pixels
    for index in range(num_frames):
        if index in events:
            at, step = at + step, -step
        frames[index, 14:34, at : at + 20] = texture
    return frames


def clicks(events, num_frames=75, rate=RATE):
    """Bursts, float32 [1, N], that begin with each frame of events."""
    sound = np.zeros((1, round(num_frames * rate / FPS)), np.float32)
    burst = np.random.default_rng(0).standard_normal(rate // 50) * np.linspace(0.8, 0, rate // 50)
    for event in events:
        start = round(event * rate / FPS)
        sound[0, start : start + len(burst)] = burst[: sound.shape[1] - start]
    return sound


def bumps(*frames, height=1.0, num_frames=20):
    motion = np.zeros(num_frames)
    motion[list(frames)] = height
    return motion


def test_peaks_are_above_both_neighbours_and_not_at_an_end():
    motion = np.array([5, 1, 2, 1, 3, 3, 1, 0.05, 0, 0.05, 0, 9])
    assert motion_peaks(motion, FPS, MANY).tolist() == [2 / 25, 9 / 25]
    assert motion_peaks(motion, FPS, ONE).tolist() == [2 / 25]  # 0.05 pixels are no motion


@pytest.mark.parametrize(
    ("peaks", "onsets", "many", "one"),
    [
        ((5, 10), (0.2, 0.4), 1.0, 1.0),
        ((5, 10), (0.2, 0.6), 1 / 3, 1 / 3),
        ((5,), (0.2 - 0.03, 0.2 + 0.03), 2.0, 1 / 2),  # above 1: two onsets have the one peak
        ((5,), (0.17, 0.2, 0.23), 3.0, 1 / 3),
        ((5, 7), (0.239, 0.25), 1.0, 1.0),
        ((5,), (0.2401,), 0.0, 0.0),  # a frame away, or more, is no match
        ((), (0.2,), 0.0, 0.0),
        ((5,), (), 0.0, 0.0),
    ],
)
def test_scores_by_hand(peaks, onsets, many, one):
    motion, onsets = bumps(*peaks), np.array(onsets)
    assert score(motion, onsets, FPS, MANY) == pytest.approx(many)
    assert score(motion, onsets, FPS, ONE) == pytest.approx(one)
    hits = many * (len(onsets) + len(peaks)) / (1 + many)
    whole = len(onsets) + len(peaks) - hits + 1e-6
    assert score(motion, onsets, FPS, JAVIS) == pytest.approx(hits / whole)


def test_a_peak_that_is_taken_is_not_free_for_the_next_onset():
    motion = bumps(5, 7)
    assert score(motion, np.array([0.225, 0.245]), FPS, ONE) == pytest.approx(1.0)
    assert score(motion, np.array([0.225, 0.23, 0.235]), FPS, ONE) == pytest.approx(1 / 4)


def test_slight_motion_counts_in_two_of_three():
    motion, onsets = bumps(5, 10, height=0.09), np.array([0.2, 0.4])
    found = [score(motion, onsets, FPS, version) for version in (MANY, ONE, JAVIS)]
    assert found == pytest.approx([1, 0, 1], abs=1e-5)


def test_nothing_at_all_is_unscored_where_the_release_divides_by_zero():
    for version in (MANY, ONE):
        with pytest.raises(Unscored, match="neither"):
            score(np.zeros(9), np.array([]), FPS, version)
    assert score(np.zeros(9), np.array([]), FPS, JAVIS) == 0  # 0 / 1e-6, as it is released


@pytest.fixture(scope="module")
def motion():
    return picture_features(jumps(EVENTS))


@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
def test_moves_and_clicks_of_known_times(version, motion):
    assert len(motion) == 75 and motion[0] == motion[1]
    assert motion_peaks(motion, FPS, version) * 25 == pytest.approx(EVENTS)
    onsets = sound_features(clicks(EVENTS), RATE, version)
    assert onsets == pytest.approx(np.array(EVENTS) / 25, abs=0.04)
    assert score(motion, onsets, FPS, version) == pytest.approx(1, abs=1e-5)
    late = sound_features(clicks([event + 4 for event in EVENTS]), RATE, version)
    assert score(motion, late, FPS, version) == 0


def test_onsets_are_found_at_the_rate_of_the_version():
    at_48k = clicks(EVENTS, rate=48_000)
    for version in VERSIONS.values():
        onsets = sound_features(at_48k, 48_000, version)
        assert onsets == pytest.approx(np.array(EVENTS) / 25, abs=0.04)
    hop_s = 512 / 48_000
    steps = sound_features(at_48k, 48_000, JAVIS) / hop_s
    assert steps == pytest.approx(np.round(steps))


def test_one_frame_has_no_motion():
    with pytest.raises(Unscored, match="at least 2"):
        picture_features(jumps((), num_frames=1))


@pytest.mark.parametrize("shift", [-5, 0, 3])
def test_the_lag_of_clicks_that_are_not_speech_is_found(shift, motion):
    # Clicks `shift` frames early: the sound comes first, and the offset is above 0.
    sound = clicks([event - shift for event in EVENTS])
    found = onset_motion(motion, onset_features(sound, RATE, 75, FPS))
    assert found.offset.frames == pytest.approx(shift, abs=1)
    assert int(found.curve.argmax()) - 15 == pytest.approx(shift, abs=1)
    assert found.r0 == found.curve[15]
    if shift == 0:
        assert found.r0 > 0.5


def test_clicks_at_other_times_do_not_correlate(motion):
    sound = clicks([4, 12, 25, 38, 60, 71])
    assert abs(onset_motion(motion, onset_features(sound, RATE, 75, FPS)).r0) < 0.2


def test_silence_and_a_sound_that_ends_early_are_unscored():
    with pytest.raises(Unscored, match="silent"):
        onset_features(np.zeros((1, 3 * RATE), np.float32), RATE, 75, FPS)
    with pytest.raises(Unscored, match="ends before"):
        onset_features(clicks(EVENTS)[:, :RATE], RATE, 75, FPS)
