"""Distances of sets, where they have a closed form: exact, unbiased, and flagged where small."""

import numpy as np
import pytest

from avgen.evaluation.comparison.distributions import (
    compare_sets,
    floor,
    frechet_distance,
    kernel_distance,
)
from avgen.evaluation.subject import Unscored


def gaussian(count, mean, covariance, seed=0):
    """Numbers [count, D] whose own mean and covariance are those given, exactly."""
    raw = np.random.default_rng(seed).standard_normal((count, len(mean)))
    raw -= raw.mean(0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw.T))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def rooted(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def covariance_of(seed, size):
    factor = np.random.default_rng(seed).standard_normal((size, 2 * size))
    return factor @ factor.T / size


def test_frechet_distance_of_independent_features():
    # Per feature: (difference of means)^2 + (difference of standard deviations)^2.
    real = gaussian(500, [0, 0, 0], np.diag([1.0, 4.0, 9.0]))
    made = gaussian(400, [1, 0, 2], np.diag([4.0, 4.0, 1.0]), seed=1)
    assert frechet_distance(real, made) == pytest.approx((1 + 4) + (1 + 0 + 4))


def test_frechet_distance_of_correlated_features():
    one, other = covariance_of(2, 6), covariance_of(3, 6)
    shift = np.arange(6.0)
    root = rooted(one)
    trace = np.trace(one + other - 2 * rooted(root @ other @ root))
    found = frechet_distance(gaussian(100, 0 * shift, one), gaussian(90, shift, other, seed=1))
    assert found == pytest.approx(shift @ shift + trace)


def test_frechet_distance_of_fewer_clips_than_features():
    # One line against another at an angle: S = s^2 u u', t^2 v v', with |u . v| = cos.
    line = np.linspace(-1, 1, 5)[:, None]
    u, v = np.eye(40)[0], np.cos(0.7) * np.eye(40)[0] + np.sin(0.7) * np.eye(40)[1]
    s, t = (np.std(scale * line, ddof=1) for scale in (2, 3))
    expected = s**2 + t**2 - 2 * s * t * np.cos(0.7)
    assert frechet_distance(2 * line * u, 3 * line * v) == pytest.approx(expected)


def test_a_set_is_no_distance_from_itself():
    real = np.random.default_rng(0).standard_normal((50, 8))
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_by_hand():
    real, made = np.array([[0.0], [1.0], [2.0]]), np.array([[1.0], [2.0], [-1.0]])

    def k(x, y):
        return (x * y + 1) ** 3

    within = [
        np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
        for x in (real[:, 0], made[:, 0])
    ]
    across = np.mean([k(a, b) for a in real[:, 0] for b in made[:, 0]])
    assert kernel_distance(real, made)[0] == pytest.approx(sum(within) - 2 * across)


def test_kernel_interval_is_the_jackknife_of_the_value():
    generator = np.random.default_rng(0)
    real, made = generator.normal(size=(9, 3)), generator.normal(0.5, 1, (8, 3))
    value, (low, high) = kernel_distance(real, made)
    parts = [
        np.array([kernel_distance(np.delete(real, i, 0), made)[0] for i in range(9)]),
        np.array([kernel_distance(real, np.delete(made, i, 0))[0] for i in range(8)]),
    ]
    variance = sum((len(p) - 1) * np.var(p) for p in parts)
    assert (high - low) / 2 == pytest.approx(2.3646 * np.sqrt(variance), rel=1e-4)  # t of 7
    assert (high + low) / 2 == pytest.approx(value)


def test_kernel_distance_has_no_bias_where_frechet_has():
    generator = np.random.default_rng(0)
    pairs = [generator.standard_normal((2, 24, 16)) for _ in range(200)]
    kernels = np.array([kernel_distance(*pair)[0] for pair in pairs])
    assert abs(kernels.mean()) < 3 * kernels.std() / np.sqrt(len(kernels))
    assert np.mean([frechet_distance(*pair) for pair in pairs[:20]]) > 0.25 * 16


def test_kernel_intervals_hold_the_truth():
    # k = (x y + 1)^3 of N(0, 1) and N(d, 1): E over x, y is 1 + 3 E[x]E[y] + 3 E[x^2]E[y^2] + ...
    def moments(d):
        return np.array([1, d, 1 + d**2, d**3 + 3 * d])

    weights, shift = np.array([1, 3, 3, 1]), 0.7
    truth = float(weights @ (moments(shift) - moments(0)) ** 2)
    generator, held = np.random.default_rng(0), []
    for _ in range(150):
        real, made = generator.normal(0, 1, (256, 1)), generator.normal(shift, 1, (256, 1))
        _, (low, high) = kernel_distance(real, made)
        held.append(low <= truth <= high)
    assert 0.90 <= np.mean(held) <= 0.99


def test_the_floor_is_what_halves_of_the_real_clips_are_apart():
    real = np.random.default_rng(0).standard_normal((300, 8))
    frechet, kernel = floor(real)
    assert 0 < frechet < 0.5 and abs(kernel) < 0.05
    assert floor(real, seed=0) == (frechet, kernel)
    found = compare_sets(real, real[:150] + 1)
    assert (found.floor_frechet, found.floor_kernel) == (frechet, kernel)
    assert found.frechet > 7 and found.kernel_interval[0] > found.floor_kernel


def test_small_sets_are_flagged_and_tiny_ones_refused():
    features = np.random.default_rng(0).standard_normal((600, 20))
    assert compare_sets(features[:300], features[300:]).flags == ()
    flags = compare_sets(features[:300], features[300:400]).flags
    assert len(flags) == 2 and "under 256" in flags[0] and "unlike size" in flags[1]
    flags = compare_sets(features[:140], features[140:240]).flags
    assert len(flags) == 1 and "under 256" in flags[0]
    flags = compare_sets(features[:15], features[15:30]).flags
    assert len(flags) == 3 and "singular" in flags[1] and "no floor" in flags[2]
    with pytest.raises(Unscored, match="7 clips in a set"):
        compare_sets(features, features[:7])


def test_features_of_two_networks_are_refused():
    with pytest.raises(ValueError, match=r"made features \[9, 3\]"):
        frechet_distance(np.zeros((9, 4)), np.zeros((9, 3)))
    with pytest.raises(ValueError, match="not finite"):
        frechet_distance(np.full((9, 4), np.nan), np.zeros((9, 4)))
