import pytest
import torch

from avgen.diffusion import path


def _pair(shape: tuple[int, ...] = (2, 5, 3)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def test_mix_is_the_straight_line_from_clean_to_noise() -> None:
    clean, noise = torch.tensor([[[2.0]]]), torch.tensor([[[-6.0]]])
    assert path.mix(clean, noise, 0.25).item() == 0.0
    assert path.velocity(clean, noise).item() == -8.0


def test_mix_ends_are_exact() -> None:
    clean, noise = _pair()
    assert torch.equal(path.mix(clean, noise, 0.0), clean)
    assert torch.equal(path.mix(clean, noise, 1.0), noise)


def test_sigma_per_token_acts_on_its_token_alone() -> None:
    clean, noise = _pair()
    sigma = torch.zeros(2, 5)
    sigma[1, 3] = 1.0
    noisy = path.mix(clean, noise, sigma)
    changed = (noisy != clean).any(dim=-1)
    assert changed.nonzero().tolist() == [[1, 3]]
    assert torch.equal(noisy[1, 3], noise[1, 3])


def test_sigma_per_sample_acts_on_the_batch_axis_even_where_sizes_agree() -> None:
    clean, noise = _pair((4, 4, 4))
    noisy = path.mix(clean, noise, torch.tensor([1.0, 0.0, 0.0, 0.0]))
    assert torch.equal(noisy[0], noise[0])
    assert torch.equal(noisy[1:], clean[1:])


def test_conversions_invert_each_other() -> None:
    clean, noise = (x.double() for x in _pair())
    sigma = torch.linspace(0.05, 1, 10, dtype=torch.float64).reshape(2, 5)
    noisy, velocity = path.mix(clean, noise, sigma), path.velocity(clean, noise)
    assert torch.allclose(path.clean_from_velocity(noisy, velocity, sigma), clean)
    assert torch.allclose(path.velocity_from_clean(noisy, clean, sigma), velocity)


def test_velocity_is_the_derivative_of_the_path() -> None:
    clean, noise = (x.double() for x in _pair())
    slope = (path.mix(clean, noise, 0.6) - path.mix(clean, noise, 0.4)) / 0.2
    assert torch.allclose(slope, path.velocity(clean, noise))


def test_a_given_token_has_no_velocity() -> None:
    clean, _ = _pair()
    assert torch.equal(path.velocity_from_clean(clean, clean + 1, 0.0), torch.zeros_like(clean))


def test_half_precision_is_computed_in_float32() -> None:
    clean, noise = (x.bfloat16() for x in _pair())
    noisy = path.mix(clean, noise, 0.3)
    assert noisy.dtype == torch.float32
    assert torch.allclose(noisy, 0.7 * clean.float() + 0.3 * noise.float(), atol=1e-6)
    assert path.velocity(clean, noise).dtype == torch.float32


@pytest.mark.parametrize("shape", [(5,), (2, 4), (2, 5, 3, 1)])
def test_sigma_that_does_not_fit_is_named(shape: tuple[int, ...]) -> None:
    clean, noise = _pair()
    with pytest.raises(ValueError, match="leading axes"):
        path.mix(clean, noise, torch.zeros(shape))
