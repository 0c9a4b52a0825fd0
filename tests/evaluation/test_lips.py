"""Lips against loudness and against phonemes, where the answer is known."""

import numpy as np
import pytest

from avgen.clips.timed_words import Word
from avgen.evaluation.faces import lips, tracking
from avgen.evaluation.run.catalogue import MEASURES
from avgen.evaluation.speech.transcripts import Transcript
from avgen.evaluation.subject import Subject, Unscored

RATE = 24_000


def test_correlation_at_a_known_lag_is_one():
    sound = np.random.default_rng(1).standard_normal(73)
    mouth = 0.1 + 0.02 * np.roll(sound, 4)  # opens 4 frames after the sound
    assert lips.correlation(mouth, sound, 4) == pytest.approx(1.0)
    assert abs(lips.correlation(mouth, sound, 0)) < 0.5
    assert lips.correlation(np.full(73, 0.1), sound) == 0


def test_what_all_sentences_share_correlates_and_their_detail_does_not():
    """One outline for all, syllables of their own: only the detail knows whose sound it is."""
    generator = np.random.default_rng(3)
    outline = np.hanning(73) * 3
    mouths = [outline + 0.5 * generator.standard_normal(73) for _ in range(20)]
    sounds = [mouth + 0.3 * generator.standard_normal(73) for mouth in mouths]
    others = [*sounds[1:], sounds[0]]

    def detailed(pairs):
        return np.mean([lips.correlation(lips.detail(a), lips.detail(b)) for a, b in pairs])

    assert np.mean([lips.correlation(*p) for p in zip(mouths, others, strict=True)]) > 0.6
    assert abs(detailed(zip(mouths, others, strict=True))) < 0.1
    assert detailed(zip(mouths, sounds, strict=True)) > 0.7
    assert lips.detail(np.full(30, 2.0)) == pytest.approx(np.zeros(30))


def test_loudness_of_a_burst_lies_on_the_frames_in_which_it_sounds():
    waveform = np.full((1, 10 * 960), 1e-6, np.float32)
    waveform[0, 4 * 960 : 7 * 960] = 0.5  # frames 4, 5 and 6
    floor = -lips.RANGE_DB
    expected = [floor] * 3 + [floor * 2 / 3, floor / 3, 0, floor / 3, floor * 2 / 3] + [floor] * 2
    assert lips.loudness(waveform, RATE, 10) == pytest.approx(np.array(expected), abs=1e-3)


def test_a_mouth_that_opens_two_frames_late_says_so_of_its_own_sound_and_not_of_another():
    generator = np.random.default_rng(0)
    level = generator.uniform(-30, 0, 75)
    samples = np.repeat(10 ** (level / 20), RATE // 25) * generator.choice([-0.5, 0.5], 75 * 960)
    waveform = samples[None].astype(np.float32)
    mouth = np.roll(lips.loudness(waveform, RATE, 75), 2)
    found = MEASURES["opening"].score(mouth, waveform, RATE)
    assert found["offset_ms"] == pytest.approx(80)  # the sound comes first
    assert found["within_one_frame"] is False
    in_time = MEASURES["opening"].score(np.roll(mouth, -2), waveform, RATE)
    assert in_time["r0_detail"] == pytest.approx(1) and in_time["offset_ms"] == 0
    other = MEASURES["opening"].score(mouth, waveform[:, ::-1].copy(), RATE)
    assert abs(other["r0_detail"]) < 0.4


def test_closures_are_looked_for_around_bilabials_alone():
    openings = np.full(50, 0.05)
    openings[10], openings[20], openings[30] = 0.002, 0.001, 0.003
    said = [
        Word("B", 0.40, 0.44),  # frames 9 to 11
        Word("M", 0.88, 0.92),  # frames 21 to 23: the lips met a frame before
        Word("AH", 1.2, 1.3),  # the lips happen to meet
        Word("P", 1.56, 1.6),
        Word("P", 9.0, 9.1),  # after the end
    ]
    around = lips.closures(openings, said)
    assert [(float(part.min()), len(part)) for part in around] == [(0.002, 3), (0.05, 3), (0.05, 3)]
    (part,) = lips.closures(openings, [Word("M", 0.84, 0.92)])
    assert (float(part.min()), len(part)) == (0.001, 4)


def test_a_mouth_that_knows_nothing_closes_as_often_elsewhere():
    """However long its consonants are: a minimum over more frames is less."""
    openings = np.where(np.arange(4000) % 7 == 3, 0.001, 0.05)
    said = [Word("B", start, start + 0.12) for start in np.arange(0.4, 158, 0.83)]
    found = lips._closed(subject(openings, *said))
    assert found["closed"] == pytest.approx(found["closed_elsewhere"], abs=0.03)
    assert 0.6 < found["closed"] < 0.9  # 4 or 5 of 7 places


def subject(openings, *phonemes):
    made = Subject(None, transcript=Transcript("", phonemes))
    points = np.zeros((len(openings), 478, 3), np.float32)
    points[:, 152, 1], points[:, 13, 1] = 100, 75  # chin, upper lip
    points[:, 14, 1] = 75 + 100 * np.asarray(openings)
    made._shared[tracking._landmarks] = points  # as MediaPipe would have found them
    return made


def test_the_share_of_closed_lips_stands_beside_chance_and_another_clip_s_times():
    openings = np.full(100, 0.06)
    openings[[25, 50]] = lips.CLOSED / 2
    own = subject(openings, Word("B", 1.0, 1.04), Word("M", 2.0, 2.04), Word("P", 3.0, 3.04))
    other = subject(openings, Word("P", 0.2, 0.24))
    measure = MEASURES["lips"]
    found = measure.extract(own)
    assert (found["closed"], found["num_closures"]) == (pytest.approx(2 / 3), 3)
    assert found["gap"] == pytest.approx((lips.CLOSED + 0.06) / 3, abs=1e-6)
    assert found["closed_elsewhere"] == pytest.approx(
        4 / 49
    )  # of 3 frames, while something is said
    assert measure.mismatch(own, other)["closed"] == 0
    with pytest.raises(Unscored, match="no phonemes with times"):
        measure.extract(subject(openings))
    with pytest.raises(Unscored, match="none of P, B, M"):
        measure.extract(subject(openings, Word("AH", 1.0, 1.1)))
