import pytest
import torch
from jsonargparse import ArgumentParser

from avgen.diffusion.schedules import (
    IndependentSigma,
    LogitNormal,
    SharedSigma,
    TrainingSigmas,
    shift_sigma,
    shifted_sigmas,
    uniform_sigmas,
)

BASE = LogitNormal(mean=0.0, std=1.0, uniform_fraction=0.0)
NAMES = ("video", "audio")


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_uniform_grid_has_equal_steps_and_ends_in_zero() -> None:
    assert uniform_sigmas(4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]


@pytest.mark.parametrize("shift", [0.3, 0.4, 1.0, 1.57, 3.0])
@pytest.mark.parametrize("num_steps", [1, 7, 50])
def test_shifted_grid_falls_from_one_to_exactly_zero(num_steps: int, shift: float) -> None:
    sigmas = shifted_sigmas(num_steps, shift)
    assert sigmas.shape == (num_steps + 1,)
    assert sigmas[0] == 1.0
    assert sigmas[-1] == 0.0
    assert bool((sigmas.diff() < 0).all())


def test_shift_three_moves_the_middle_to_three_quarters() -> None:
    assert shift_sigma(torch.tensor(0.5), 3.0).item() == pytest.approx(0.75)
    assert torch.equal(shifted_sigmas(10, 1.0), uniform_sigmas(10))


def test_shift_multiplies_the_noise_to_signal_ratio() -> None:
    sigma = torch.linspace(0.1, 0.9, 9)
    shifted = shift_sigma(sigma, 2.5)
    assert torch.allclose(shifted / (1 - shifted), 2.5 * sigma / (1 - sigma))


def test_logit_normal_has_its_mean_and_std_in_logits() -> None:
    logits = LogitNormal(-0.4, 1.3, 0.0).draw(200_000, _generator()).double().logit()
    assert logits.mean().item() == pytest.approx(-0.4, abs=0.02)
    assert logits.std().item() == pytest.approx(1.3, abs=0.02)


def test_uniform_fraction_is_the_share_of_uniform_draws() -> None:
    # So narrow a logit-normal that what lies away from one half is uniform.
    sigma = LogitNormal(0.0, 1e-3, 0.3).draw(100_000, _generator())
    assert ((sigma - 0.5).abs() > 0.01).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert (sigma < 0.1).float().mean().item() == pytest.approx(0.03, abs=0.005)


def test_shared_sigma_is_one_draw() -> None:
    sigmas = SharedSigma(BASE, {"video": 1.0, "audio": 1.0}).draw(6, NAMES, _generator())
    assert list(sigmas) == list(NAMES)
    assert torch.equal(sigmas["video"], sigmas["audio"])
    assert sigmas["video"].unique().numel() == 6


def test_shared_sigma_shifts_one_draw_for_each_modality() -> None:
    shared = BASE.draw(6, _generator())
    sigmas = SharedSigma(BASE, {"video": 3.0, "audio": 1.0}).draw(6, NAMES, _generator())
    assert torch.allclose(sigmas["audio"], shared)
    assert torch.allclose(sigmas["video"], shift_sigma(shared, 3.0))


def test_independent_sigmas_are_uncorrelated_and_shifted() -> None:
    sigmas = IndependentSigma(BASE, {"video": 3.0, "audio": 1.0}).draw(50_000, NAMES, _generator())
    both = torch.stack([sigmas["video"], sigmas["audio"]])
    assert both.corrcoef()[0, 1].abs().item() < 0.02
    assert sigmas["video"].median().item() == pytest.approx(0.75, abs=0.01)
    assert sigmas["audio"].median().item() == pytest.approx(0.5, abs=0.01)


def test_the_generator_decides() -> None:
    schedule = IndependentSigma(LogitNormal(0.0, 1.0, 0.2), {"video": 2.0, "audio": 1.0})
    first, again = (schedule.draw(4, NAMES, _generator()) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in NAMES)


def test_a_modality_without_a_shift_is_named() -> None:
    with pytest.raises(ValueError, match="'audio'"):
        SharedSigma(BASE, {"video": 3.0}).draw(1, NAMES, _generator())


def test_values_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="shift of video is 0"):
        SharedSigma(BASE, {"video": 0})
    with pytest.raises(ValueError, match="std is -1"):
        LogitNormal(0.0, -1, 0.0)
    with pytest.raises(ValueError, match=r"uniform_fraction is 1\.5"):
        LogitNormal(0.0, 1.0, 1.5)
    with pytest.raises(ValueError, match="num_steps is 0"):
        uniform_sigmas(0)


@pytest.mark.parametrize("name", ["SharedSigma", "IndependentSigma"])
def test_yaml_chooses_the_schedule_by_class_path(name: str) -> None:
    # The annotation is the protocol: of a union of dataclasses, jsonargparse 4.53 takes the first
    # whose fields fit, whatever the class_path says.
    parser = ArgumentParser()
    parser.add_argument("--sigmas", type=TrainingSigmas)
    base = {"mean": -0.5, "std": 1.2, "uniform_fraction": 0.1}
    args = {"base": base, "shifts": {"video": 2.0}}
    choice = {"class_path": f"avgen.diffusion.schedules.{name}", "init_args": args}
    made = parser.instantiate(parser.parse_object({"sigmas": choice}))
    assert type(made.sigmas).__name__ == name
    assert made.sigmas.base == LogitNormal(-0.5, 1.2, 0.1)
