"""Lags of features whose lag is known; intervals that hold it as often as they say."""

from fractions import Fraction

import numpy as np
import pytest

from avgen.evaluation.subject import Unscored
from avgen.evaluation.sync import lags

FPS = Fraction(25)


def pair(length, lag, noise, seed, dim=4):
    """Smooth picture and sound [T, D]; sound[t] belongs to picture[t + lag], a whole number."""
    generator = np.random.default_rng(seed)
    source = generator.normal(size=(length + 80, dim))
    source = np.stack([np.convolve(column, np.hanning(7), "same") for column in source.T], 1)
    source /= source.std()
    picture = source[40 : 40 + length]
    sound = source[40 + lag : 40 + lag + length]
    return picture + noise * generator.normal(size=picture.shape), sound + noise * (
        generator.normal(size=sound.shape)
    )


@pytest.mark.parametrize("lag", range(-15, 16))
def test_every_lag_is_found_with_its_sign(lag):
    picture, sound = pair(75, lag, 0.3, lag + 100)
    curve = lags.correlation_curve(picture, sound)
    assert curve.argmax() - lags.MAX_LAG == lag
    assert curve.max() > 0.8
    assert abs(lags.best_lag(curve, 75) - lag) < 0.5


def test_sound_that_comes_first_has_a_positive_offset():
    picture, sound = np.zeros((60, 1)), np.zeros((60, 1))
    sound[20:24], picture[25:29] = 1, 1  # heard 5 frames before it is seen
    assert lags.offset(picture, sound).frames == pytest.approx(5, abs=0.1)


def test_the_curve_is_pearsons_correlation_over_the_overlap():
    generator = np.random.default_rng(0)
    picture, sound = generator.normal(size=(2, 50, 3))
    curve = lags.correlation_curve(picture, sound, 5)
    for lag in range(-5, 6):
        one, other = picture[max(0, lag) : 50 + min(0, lag)], sound[max(0, -lag) : 50 - max(0, lag)]
        expected = np.mean([np.corrcoef(one[:, d], other[:, d])[0, 1] for d in range(3)])
        assert curve[5 + lag] == pytest.approx(expected)


def test_gain_and_level_of_a_feature_do_not_count():
    picture, sound = pair(75, 3, 0.5, 1)
    curve = lags.correlation_curve(picture, sound)
    again = lags.correlation_curve(picture * [1, 10, 0.1, 5] + 7, sound * 3 - [0, 1, 2, 3])
    np.testing.assert_allclose(curve, again, atol=1e-12)


def test_a_feature_that_stands_still_correlates_nothing():
    picture, sound = pair(75, 0, 0.0, 1)
    picture[:, 0] = 5.0
    assert lags.correlation_curve(picture, sound)[lags.MAX_LAG] == pytest.approx(0.75)


def test_a_fraction_of_a_frame_is_found():
    times = np.arange(75)
    values = [np.sin(0.35 * times), np.sin(0.22 * times + 1)]
    later = [np.sin(0.35 * (times - 2.4)), np.sin(0.22 * (times - 2.4) + 1)]
    found = lags.offset(np.stack(later, 1), np.stack(values, 1))
    assert found.frames == pytest.approx(2.4, abs=0.1)


def test_intervals_hold_the_lag_and_are_wider_with_noise():
    widths = {}
    for noise in (0.5, 1.5):
        held, width = [], []
        for seed in range(40):
            found = lags.offset(*pair(75, 4, noise, seed), seed=seed)
            low, high = found.interval
            held.append(low - 0.5 <= 4 <= high + 0.5)
            width.append(high - low)
        widths[noise] = np.mean(width)
        assert np.mean(held) >= 0.9
    assert widths[1.5] > widths[0.5]


def test_unrelated_sound_is_not_believed():
    right = [lags.offset(*pair(75, 0, 0.5, seed)).confidence for seed in range(10)]
    wrong = [
        lags.offset(pair(75, 0, 0.5, seed)[0], pair(75, 0, 0.5, seed + 50)[1]).confidence
        for seed in range(10)
    ]
    assert np.mean(right) > 0.95
    assert np.mean(wrong) < 0.7


def test_what_cannot_be_scored_says_why():
    with pytest.raises(Unscored, match="24 frames are too few"):
        lags.offset(np.zeros((24, 2)), np.zeros((24, 2)))
    with pytest.raises(Unscored, match="never changes"):
        lags.offset(np.zeros((75, 2)), np.zeros((75, 2)))
    with pytest.raises(ValueError, match=r"\[75, 2\] and sound \[74, 2\]"):
        lags.offset(np.zeros((75, 2)), np.zeros((74, 2)))


def test_z_is_the_distance_in_deviations():
    assert lags.z_score(5.0, [0.0, 1.0, 2.0]) == pytest.approx(4.0)
    with pytest.raises(Unscored, match="2 mismatched"):
        lags.z_score(5.0, [0.0, 1.0])
    with pytest.raises(Unscored, match="the same"):
        lags.z_score(5.0, [1.0, 1.0, 1.0])


def test_the_sentence_says_who_leads():
    found = lags.Offset(0.95, (0.525, 1.3), 1.0)
    assert lags.sentence(found, FPS) == "the sound leads the picture by 38 ms [21, 52]"
    found = lags.Offset(-3.0, (-3.5, -2.5), 1.0)
    assert lags.sentence(found, FPS) == "the sound trails the picture by 120 ms [100, 140]"
    assert "in sync" in lags.sentence(lags.Offset(0.0, (-0.5, 0.5), 1.0), FPS)


def test_curves_of_many_sounds_are_those_of_each() -> None:
    """Sums of products give what standardising at every lag gives; a still stretch counts as 0."""
    generator = np.random.default_rng(5)
    picture = generator.normal(size=(60, 4)).cumsum(0)
    sounds = 3 + 0.1 * generator.normal(size=(7, 60, 4)).cumsum(1)
    sounds[2, :, 1] = 4.5
    sounds[3, :40, 0] = -7.25  # still at lags of 20 and more
    expected = [lags.correlation_curve(picture, sound, 25) for sound in sounds]
    np.testing.assert_allclose(lags.correlation_curves(picture, sounds, 25), expected, atol=1e-9)
