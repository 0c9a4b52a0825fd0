"""Order of convergence on Gaussian data, whose denoiser and whose flow are known in closed form."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch

from avgen.diffusion.samplers import adams_bashforth, euler, heun, renoise
from avgen.diffusion.schedules import shift_sigma

MEAN, STD = 0.7, 0.3
SAMPLERS = [euler, heun, adams_bashforth, partial(renoise, draw=lambda: torch.tensor(0.37))]


def _denoise(noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """E[clean | noisy] where clean is normal with MEAN and STD."""
    sigma = sigma.reshape(sigma.shape + (1,) * (noisy.ndim - sigma.ndim)) if sigma.ndim else sigma
    gain = (1 - sigma) * STD**2 / ((1 - sigma) ** 2 * STD**2 + sigma**2)
    return MEAN + gain * (noisy - (1 - sigma) * MEAN)


def _noise() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 8, 3, generator=generator, dtype=torch.float64)


def _grid(num_steps: int, shift: float = 1.0) -> torch.Tensor:
    return shift_sigma(torch.linspace(1, 0, num_steps + 1, dtype=torch.float64), shift)


def _error(sampler: Callable, num_steps: int, shift: float) -> float:
    noise = _noise()
    # Along the flow (noisy - (1 - sigma) MEAN) / std(sigma) stays what it was at sigma 1.
    exact = MEAN + STD * noise
    return (sampler(_denoise, noise, _grid(num_steps, shift)) - exact).abs().max().item()


@pytest.mark.parametrize("shift", [1.0, 2.0])
@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (heun, 2), (adams_bashforth, 2)])
def test_error_falls_with_the_stated_order(sampler: Callable, order: int, shift: float) -> None:
    errors = [_error(sampler, num_steps, shift) for num_steps in (80, 160, 320)]
    assert errors[-1] < 0.01
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


def test_unequal_steps_are_weighed_by_their_lengths() -> None:
    """Of a velocity 3 sigma the first step of 0.3 is Euler's, the others are exact."""
    sigmas = torch.tensor([1.0, 0.7, 0.1, 0.0], dtype=torch.float64)
    made = adams_bashforth(lambda noisy, sigma: noisy - sigma * 3 * sigma, _noise(), sigmas)
    expected = _noise() - 3 * 1.0 * 0.3 - 1.5 * 0.7**2
    assert torch.allclose(made, expected, atol=1e-12)


def test_renoising_goes_on_from_what_was_expected_and_new_noise() -> None:
    """From 0.8 to 0.5: half of 0.7, which is expected, and half of what is drawn."""
    seen: list[torch.Tensor] = []

    def denoise(noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        seen.append(noisy)
        return torch.full_like(noisy, 0.7)

    new = torch.tensor([[[0.3, -0.9]]])
    renoise(denoise, torch.full((1, 1, 2), -1.5), torch.tensor([0.8, 0.5, 0.0]), draw=lambda: new)
    assert torch.allclose(seen[1], torch.tensor([[[0.5, -0.1]]]))


def test_renoising_is_likelier_than_the_data() -> None:
    """From 1 to 0.5: the mean, then g (noise - half the mean) about it, g = 0.5 s^2 / var(0.5)."""
    generator = torch.Generator().manual_seed(5)

    def draw() -> torch.Tensor:
        return torch.randn(60_000, 1, 1, generator=generator, dtype=torch.float64)

    made = renoise(_denoise, draw(), _grid(2), draw=draw)
    gain = 0.5 * STD**2 / (0.25 * STD**2 + 0.25)
    assert made.mean().item() == pytest.approx(MEAN, abs=0.002)
    assert made.std().item() == pytest.approx(gain * 0.5, abs=0.002)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_known_point_is_reached_exactly_in_one_step(sampler: Callable) -> None:
    target = torch.full((2, 8, 3), 0.25, dtype=torch.float64)
    sigmas = _grid(1)
    assert torch.equal(sampler(lambda noisy, sigma: target, _noise(), sigmas), target)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_given_tokens_come_out_bit_for_bit(sampler: Callable) -> None:
    noise = _noise().float()
    given = torch.zeros(2, 8, dtype=torch.bool)
    given[0, :3] = given[1, 5] = True
    sigmas = _grid(9).float()[:, None, None] * ~given
    sampled = sampler(_denoise, noise, sigmas)
    assert torch.equal(sampled[given], noise[given])
    made_alone = sampler(_denoise, noise, _grid(9).float())
    assert torch.allclose(sampled[~given], made_alone[~given])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_tokens_with_their_own_grids_are_as_if_alone(sampler: Callable) -> None:
    noise = _noise()
    grids = [_grid(12, 1.0), _grid(12, 3.0)]
    # The first half of the sequence on one grid, the second on another.
    sigmas = torch.stack(grids, dim=1).repeat_interleave(4, dim=1)[:, None].expand(-1, 2, -1)
    sampled = sampler(_denoise, noise, sigmas)
    for half, grid in zip((slice(0, 4), slice(4, 8)), grids, strict=True):
        assert torch.allclose(sampled[:, half], sampler(_denoise, noise[:, half], grid))


@pytest.mark.parametrize(
    ("sampler", "calls"), [(euler, 6), (heun, 11), (adams_bashforth, 6), (SAMPLERS[-1], 6)]
)
def test_evaluations_and_callbacks_are_counted(sampler: Callable, calls: int) -> None:
    seen: list[float] = []
    steps: list[int] = []

    def denoise(noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        seen.append(sigma.item())
        return _denoise(noisy, sigma)

    sampler(denoise, _noise(), _grid(6), callback=lambda step, denoised: steps.append(step))
    assert len(seen) == calls
    assert min(seen) > 0
    assert steps == list(range(6))


@pytest.mark.parametrize(
    ("sigmas", "rule"),
    [([1.0, 0.5], "end in 0"), ([0.5, 1.0, 0.0], "rise"), ([0.0], "two levels"),
     ([1.0, 1.0, 0.0], "stand still")],
)  # fmt: skip
def test_grids_that_no_sampler_can_walk_are_refused(sigmas: list[float], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        euler(_denoise, _noise(), torch.tensor(sigmas, dtype=torch.float64))
