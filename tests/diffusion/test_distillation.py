"""Gaussian data: velocity, flow map and mean velocity in closed form; a wrong sign fails."""

import math

import pytest
import torch

from avgen.diffusion.distillation import StepDraws, mean_velocity
from avgen.diffusion.guidance import guide
from avgen.diffusion.path import clean_from_velocity
from avgen.diffusion.samplers import SAMPLERS, mean_flow
from avgen.diffusion.schedules import shifted_sigmas

MEAN, STD = 0.7, 0.3


def spread(sigma: torch.Tensor) -> torch.Tensor:
    """Standard deviation of noisy tokens."""
    return ((1 - sigma) ** 2 * STD**2 + sigma**2).sqrt()


def flow(noisy: torch.Tensor, sigma: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """Where a token at `sigma` is at `end`: its place in the distribution stays."""
    return (1 - end) * MEAN + spread(end) / spread(sigma) * (noisy - (1 - sigma) * MEAN)


def velocity(noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """noise - clean as expected of `noisy`."""
    sigma = sigma.reshape(sigma.shape + (1,) * (noisy.ndim - sigma.ndim))
    slope = (sigma - (1 - sigma) * STD**2) / spread(sigma) ** 2
    return -MEAN + slope * (noisy - (1 - sigma) * MEAN)


def tokens(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def exact_mean(noisy: torch.Tensor, sigma: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    long_sigma, long_end = sigma[..., None], end[..., None]
    return (noisy - flow(noisy, long_sigma, long_end)) / (long_sigma - long_end)


def test_the_mean_over_a_step_is_that_of_the_flow() -> None:
    noisy = tokens(2, 3, 5)
    sigma = torch.tensor([[1.0, 0.9, 0.5], [0.8, 0.7, 0.3]], dtype=torch.float64)
    end = torch.tensor([[0.6, 0.0, 0.4], [0.2, 0.1, 0.0]], dtype=torch.float64)
    exact = exact_mean(noisy, sigma, end)
    errors = [
        (mean_velocity(velocity, noisy, sigma, end, steps) - exact).abs().max().item()
        for steps in (40, 80, 160)
    ]
    assert errors[-1] < 1e-4
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert math.log2(coarse / fine) > 1.9


def test_a_step_of_no_length_is_the_velocity_and_given_tokens_do_not_move() -> None:
    noisy = tokens(1, 3, 5)
    sigma = torch.tensor([[0.6, 0.6, 0.0]], dtype=torch.float64)
    plain = velocity(noisy, sigma)
    assert torch.equal(mean_velocity(velocity, noisy, sigma, sigma, 4), plain)
    end = torch.tensor([[0.6, 0.2, 0.0]], dtype=torch.float64)
    mixed = mean_velocity(velocity, noisy, sigma, end, 4)
    assert torch.allclose(mixed[:, 0], plain[:, 0])
    assert not torch.allclose(mixed[:, 1], plain[:, 1])
    assert mixed.isfinite().all()


def test_the_teacher_is_never_asked_at_the_end_of_a_step() -> None:
    """Of sigma 0 a network would say that the token is given."""
    asked = []

    def teacher(noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        asked.append(sigma.item())
        return noisy

    mean_velocity(teacher, tokens(1, 1, 2), torch.ones(1, 1), torch.zeros(1, 1), 3)
    assert len(asked) == 6
    assert min(asked) > 0.1


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_mean_flow_is_exact_in_any_number_of_steps(steps: int) -> None:
    noise = tokens(2, 4, 3)

    def denoise(noisy: torch.Tensor, sigma: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        mean = exact_mean(noisy, sigma.expand(2, 4), end.expand(2, 4))
        return clean_from_velocity(noisy, mean, sigma)

    made = mean_flow(denoise, noise, shifted_sigmas(steps, 2.0).double())
    assert torch.allclose(made, MEAN + STD * noise, atol=1e-6)


def test_a_student_samples_guided_data_in_two_steps() -> None:
    """Two data whose means differ: guidance of scale s moves the mean by s times that.

    The student is linear in the noisy token and the scale, as the exact answer is, and fitted by
    least squares to what the guided teacher says, a step at a time.
    """
    shift = 0.5
    generator = torch.Generator().manual_seed(6)
    scale = 1 + 2 * torch.rand(500, 1, generator=generator, dtype=torch.float64)

    def teacher(noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Data of a mean larger by `shift` are the same data, tokens moved by (1 - sigma) shift."""
        cond = velocity(noisy - (1 - sigma)[..., None] * shift, sigma) - shift
        return guide(cond, velocity(noisy, sigma), scale)

    grid = shifted_sigmas(2, 1.5).double()
    students = {}
    for sigma, end in zip(grid[:-1], grid[1:], strict=True):
        noisy = (1 - sigma) * (MEAN + scale * shift)[..., None] + spread(sigma) * tokens(500, 1, 1)
        levels = torch.stack([sigma, end]).expand(500, 2).split(1, 1)
        target = mean_velocity(teacher, noisy, *levels, num_steps=8)
        told = torch.stack([noisy[:, 0, 0], scale[:, 0], torch.ones(500)], 1)
        students[sigma.item()] = torch.linalg.lstsq(told, target[:, :, 0]).solution[:, 0]

    noise = tokens(1, 4000, 1)
    for own in (1.0, 2.5):

        def denoise(noisy: torch.Tensor, sigma: torch.Tensor, end: torch.Tensor, own=own):
            slope, by_scale, offset = students[sigma.item()]
            return clean_from_velocity(noisy, slope * noisy + by_scale * own + offset, sigma)

        made = SAMPLERS["mean"](denoise, noise, grid)
        expected = MEAN + own * shift + STD * noise
        assert (made - expected).abs().max().item() < 0.03


def test_draws_are_as_often_as_they_say() -> None:
    generator = torch.Generator().manual_seed(7)
    draws = StepDraws(0.25, 0.1, lowest_scale=1.5, highest_scale=2.5)
    given = torch.tensor([[0.4, 0.0, 0.8]])
    drawn = [draws.draw(given, generator) for _ in range(4000)]
    starts = torch.cat([one[0] for one in drawn])
    ends = torch.cat([one[1] for one in drawn])
    scales = torch.stack([one[2] for one in drawn])
    assert (starts[:, 0] == 1).float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert (ends[:, 0] == starts[:, 0]).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert (starts[:, 1] == 0).all() and (ends[:, 1] == 0).all()
    assert (ends <= starts).all()
    share = (ends / starts)[:, [0, 2]]
    ended = share[:, 0][ends[:, 0] < starts[:, 0]]  # anywhere on the way, uniformly
    assert ended.mean().item() == pytest.approx(0.5, abs=0.02)
    assert ended.std().item() == pytest.approx(12**-0.5, abs=0.02)
    assert torch.allclose(share[:, 0], share[:, 1])  # both modalities go as far of their way
    assert scales.min() >= 1.5 and scales.max() <= 2.5
    assert scales.mean().item() == pytest.approx(2.0, abs=0.02)


def test_what_is_wrong_is_named() -> None:
    level = torch.full((1, 1), 0.5)
    with pytest.raises(ValueError, match="num_steps is 0"):
        mean_velocity(velocity, tokens(1, 1, 1), level, 0 * level, 0)
    with pytest.raises(ValueError, match="ends above"):
        mean_velocity(velocity, tokens(1, 1, 1), level, 2 * level, 1)
    with pytest.raises(ValueError, match=r"instant_fraction is 1\.5"):
        StepDraws(1.5)
    with pytest.raises(ValueError, match=r"scales from 3\.0 to 1\.0"):
        StepDraws(lowest_scale=3.0, highest_scale=1.0)
