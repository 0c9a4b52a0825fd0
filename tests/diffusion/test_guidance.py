import pytest
import torch

from avgen.diffusion.guidance import (
    guide,
    guide_synchrony,
    interval_scale,
    limited_share,
    rescale,
)


def _predictions(num: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 6, 4, generator=generator) for _ in range(num)]


def test_scale_one_is_cond_bit_for_bit() -> None:
    cond, uncond, _ = _predictions()
    assert torch.equal(guide(cond, uncond, 1.0), cond)
    assert torch.equal(guide(cond, 1e6 * uncond, torch.ones(2, 6)), cond)


def test_guidance_extrapolates_from_uncond_through_cond() -> None:
    cond, uncond, _ = _predictions()
    assert torch.allclose(guide(cond, uncond, 3.0), uncond + 3 * (cond - uncond), atol=1e-5)
    assert torch.allclose(guide(cond, uncond, 0.0), uncond, atol=1e-6)


def test_each_token_has_its_own_scale() -> None:
    cond, uncond, _ = _predictions()
    scale = torch.tensor([1.0] * 4 + [5.0] * 2).expand(2, 6)
    guided = guide(cond, uncond, scale)
    assert torch.equal(guided[:, :4], cond[:, :4])
    assert torch.equal(guided[:, 4:], guide(cond[:, 4:], uncond[:, 4:], 5.0))


def test_synchrony_pushes_away_from_the_decoupled_prediction() -> None:
    cond, uncond, decoupled = _predictions()
    guided = guide(cond, uncond, 2.0)
    assert torch.equal(guide_synchrony(guided, cond, decoupled, 0.0), guided)
    pushed = guide_synchrony(guided, cond, decoupled, 1.5)
    assert torch.allclose(pushed - guided, 1.5 * (cond - decoupled), atol=1e-5)


def test_interval_switches_guidance_off_outside() -> None:
    sigma = torch.tensor([1.0, 0.8, 0.5, 0.2, 0.1])
    assert interval_scale(4.0, sigma, 0.2, 0.8).tolist() == [1.0, 4.0, 4.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="interval"):
        interval_scale(4.0, sigma, 0.8, 0.2)


def test_rescale_restores_the_spread_of_each_sample() -> None:
    cond, uncond, _ = _predictions()
    guided = guide(cond, uncond, 7.0)
    assert torch.equal(rescale(guided, cond, 0.0), guided)
    restored = rescale(guided, cond, 1.0)
    assert torch.allclose(restored.std(dim=(1, 2)), cond.std(dim=(1, 2)))
    between = rescale(guided, cond, 0.25)
    assert torch.allclose(between, 0.75 * guided + 0.25 * restored, atol=1e-5)
    with pytest.raises(ValueError, match="fraction is 2"):
        rescale(guided, cond, 2)


def test_a_pull_that_is_too_strong_is_weakened_to_the_limit() -> None:
    """The root mean square of 3, 4, 12 and 0 is 6.5."""
    pull = torch.tensor([[3.0, -4.0], [12.0, 0.0]])
    assert limited_share(pull, 2.6).item() == pytest.approx(0.4)
    assert limited_share(pull, 7.0).item() == 1
    assert limited_share(torch.zeros(3), 0.44).item() == 1
    with pytest.raises(ValueError, match=r"guidance limit is -0\.4"):
        limited_share(pull, -0.4)
