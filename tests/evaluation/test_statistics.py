"""Intervals hold the truth as often as they say; areas, differences and skill in closed form."""

import numpy as np
import pytest
from scipy.stats import norm

from avgen.evaluation.statistics import (
    area_under_curve,
    bootstrap_interval,
    paired_difference,
    sync_skill,
)

NUM_TRIALS = 300  # of a share of 0.95: its standard error is 0.013


def coverage(draw, truth, groups=None):
    generator = np.random.default_rng(0)
    ends = [bootstrap_interval(draw(generator), groups, seed) for seed in range(NUM_TRIALS)]
    return np.mean([low <= truth <= high for low, high in ends])


@pytest.mark.parametrize("count", [10, 30, 100])
def test_intervals_of_normal_numbers_hold_the_mean_95_times_in_100(count):
    found = coverage(lambda generator: generator.normal(3, 2, count), 3)
    assert 0.92 <= found <= 0.98


@pytest.mark.parametrize(("count", "least"), [(10, 0.86), (30, 0.90), (100, 0.92)])
def test_intervals_of_skewed_numbers_hold_the_mean_less_often_but_not_by_much(count, least):
    found = coverage(lambda generator: generator.exponential(1, count), 1)
    assert least <= found <= 0.98


def test_speakers_are_drawn_whole():
    speakers, clips = 20, 10
    groups = [str(speaker) for speaker in range(speakers) for _ in range(clips)]

    def draw(generator):
        of_speaker = np.repeat(generator.normal(0, 1, speakers), clips)
        return of_speaker + generator.normal(0, 0.5, speakers * clips)

    assert 0.91 <= coverage(draw, 0, groups) <= 0.98
    assert coverage(draw, 0) < 0.65  # as if 200 clips were 200 witnesses


def test_too_few_clips_or_speakers_have_no_interval():
    assert bootstrap_interval(np.array([1.0, 2.0])) == (None, None)
    assert bootstrap_interval(np.arange(6.0), groups=list("aaabbb")) == (None, None)


def test_values_that_are_all_the_same_have_an_interval_of_no_width():
    assert bootstrap_interval(np.full(7, 0.3)) == pytest.approx((0.3, 0.3))


def test_an_interval_is_the_same_whenever_it_is_taken():
    values = np.random.default_rng(0).normal(size=12)
    assert bootstrap_interval(values, seed=4) == bootstrap_interval(values, seed=4)


def test_a_missing_value_or_group_is_an_error():
    with pytest.raises(ValueError, match="finite"):
        bootstrap_interval(np.array([1.0, np.nan, 2.0]))
    with pytest.raises(ValueError, match="2 groups for 3 values"):
        bootstrap_interval(np.arange(3.0), groups=["a", "b"])


def test_area_counts_pairs_and_half_of_ties():
    assert area_under_curve([3, 4], [1, 2]) == 1
    assert area_under_curve([1, 2], [3, 4]) == 0
    assert area_under_curve([1, 1], [1, 1]) == 0.5
    assert area_under_curve([1, 3], [1, 2]) == (0.5 + 0 + 1 + 1) / 4
    with pytest.raises(ValueError, match="at least one"):
        area_under_curve([], [1])


def test_area_of_two_normal_distributions():
    # P(a > b) of N(d, 1) and N(0, 1) is Phi(d / sqrt(2)).
    points = norm.ppf((np.arange(1000) + 0.5) / 1000)
    assert area_under_curve(points + 1.5, points) == pytest.approx(
        norm.cdf(1.5 / np.sqrt(2)), abs=1e-3
    )


def test_a_paired_difference_sees_what_the_spread_of_clips_hides():
    generator = np.random.default_rng(0)
    first = generator.normal(0, 5, 40)
    found = paired_difference(first, first + 0.2 + generator.normal(0, 0.1, 40))
    low, high = found.interval
    assert 0 < low < 0.2 < high < 0.3
    assert found.mean == pytest.approx(0.2, abs=0.05)
    assert found.num_pairs == 40 and found.share_above > 0.9
    apart = bootstrap_interval(first)
    assert apart[1] - apart[0] > 10 * (high - low)


def test_a_paired_difference_needs_pairs():
    with pytest.raises(ValueError, match="as many of each"):
        paired_difference([1, 2, 3], [1, 2])


def test_skill_is_the_share_of_what_real_clips_have_over_mismatched_ones():
    assert sync_skill(0.5, mismatched=0.1, real=0.9) == pytest.approx(0.5)
    assert sync_skill(9.0, mismatched=11.0, real=7.0) == pytest.approx(0.5)  # where less is better
    assert sync_skill(0.1, mismatched=0.1, real=0.9) == 0
    with pytest.raises(ValueError, match="needs a difference"):
        sync_skill(0.5, mismatched=0.2, real=0.2)
