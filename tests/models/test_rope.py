"""Rotary positions: scores depend on differences of seconds and pixels alone."""

import math

import pytest
import torch

from avgen.models.rope import PLACE_WAVELENGTHS, TIME_WAVELENGTHS_S, angles, frequencies, rotate


def scores(query, key, seconds, places):
    """Scores [L, L] of queries and keys [L, E] at seconds [L] and places [L, 2]."""
    angle = angles(seconds, places, query.shape[-1])[None, None]
    turned = [rotate(x[None, None], angle.cos(), angle.sin())[0, 0] for x in (query, key)]
    return turned[0] @ turned[1].T


def test_scores_depend_on_differences_only():
    query, key = torch.randn(2, 6, 32)
    seconds, places = 3 * torch.rand(6), 128 * torch.rand(6, 2)
    here = scores(query, key, seconds, places)
    there = scores(query, key, seconds + 1.25, places + torch.tensor([40.0, -24.0]))
    torch.testing.assert_close(here, there, atol=1e-4, rtol=1e-4)
    other = scores(query, key, 2 * seconds, places)
    assert float((here - other).abs().max()) > 0.1


def test_the_same_instant_at_any_rate_has_the_same_angles():
    at_25, at_30 = torch.tensor([50 / 25]), torch.tensor([60 / 30])
    place = torch.zeros(1, 2)
    assert torch.equal(angles(at_25, place, 16), angles(at_30, place, 16))


def test_rotation_is_the_matrix_of_each_plane():
    head, seconds, place = torch.randn(16), 0.37, (12.0, -40.0)
    angle = angles(torch.tensor([seconds]), torch.tensor([place]), 16)[0]
    turned = rotate(
        head[None, None, None], angle.cos()[None, None, None], angle.sin()[None, None, None]
    )[0, 0, 0]
    time = [2 * math.pi * seconds / w for w in geometric(*TIME_WAVELENGTHS_S, 4)]
    space = [2 * math.pi * p / w for p in place for w in geometric(*PLACE_WAVELENGTHS, 2)]
    for plane, expected in enumerate(time + space):
        x, y = head[plane].item(), head[plane + 8].item()
        assert turned[plane].item() == pytest.approx(
            x * math.cos(expected) - y * math.sin(expected), abs=1e-4
        )
        assert turned[plane + 8].item() == pytest.approx(
            y * math.cos(expected) + x * math.sin(expected), abs=1e-4
        )


def geometric(shortest, longest, count):
    return [shortest * (longest / shortest) ** (i / (count - 1)) for i in range(count)]


def test_frequencies_run_from_shortest_to_longest():
    found = 2 * math.pi / frequencies(0.08, 40.0, 5, torch.device("cpu"))
    assert found.tolist() == pytest.approx(geometric(0.08, 40.0, 5), rel=1e-4)


def test_a_head_that_cannot_be_split_is_an_error():
    with pytest.raises(ValueError, match="head width is 12"):
        angles(torch.zeros(1), torch.zeros(1, 2), 12)
