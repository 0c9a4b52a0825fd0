import pytest
import torch

from avgen.diffusion.loss import bin_errors, modality_losses, token_errors, weighted_mean


def test_token_error_is_the_mean_square_over_channels() -> None:
    predicted = torch.tensor([[[1.0, 3.0], [0.0, 0.0]]])
    velocity = torch.tensor([[[0.0, 1.0], [0.0, 2.0]]])
    assert token_errors(predicted, velocity).tolist() == [[2.5, 2.0]]
    with pytest.raises(ValueError, match="differ in shape"):
        token_errors(predicted, velocity[:, :1])


def test_half_precision_errors_are_float32() -> None:
    predicted = torch.full((1, 1, 2), 300.0, dtype=torch.float16)
    assert token_errors(predicted, torch.zeros(1, 1, 2)).item() == 90_000.0


def test_weighted_mean_counts_weight_and_nothing_else() -> None:
    errors = torch.tensor([[1.0, 4.0, torch.inf]])
    assert weighted_mean(errors, torch.tensor([[1.0, 3.0, 0.0]])).item() == 13 / 4
    assert weighted_mean(errors, torch.tensor([[1, 1, 0]])).item() == 2.5


def test_nothing_to_learn_is_zero_without_gradient() -> None:
    predicted = torch.ones(1, 2, 3, requires_grad=True)
    loss = weighted_mean(token_errors(predicted, torch.zeros(1, 2, 3)), torch.zeros(1, 2))
    loss.backward()
    assert loss.item() == 0
    assert predicted.grad is not None
    assert predicted.grad.abs().sum().item() == 0


def test_modalities_are_means_over_their_own_tokens() -> None:
    errors = torch.tensor([[1.0, 2.0, 3.0, 10.0], [1.0, 2.0, 3.0, 20.0]])
    video = torch.tensor([1.0, 1.0, 1.0, 0.0]).expand(2, 4)
    audio = torch.tensor([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 3.0]])
    losses = modality_losses(errors, {"video": video, "audio": audio})
    assert losses["video"].item() == 2.0
    assert losses["audio"].item() == 17.5


def test_gradient_reaches_weighed_tokens_alone() -> None:
    predicted = torch.ones(1, 3, 2, requires_grad=True)
    weight = torch.tensor([[1.0, 0.0, 3.0]])
    weighted_mean(token_errors(predicted, torch.zeros(1, 3, 2)), weight).backward()
    assert predicted.grad is not None
    assert predicted.grad.tolist() == [[[0.25, 0.25], [0.0, 0.0], [0.75, 0.75]]]


def test_bins_hold_their_noise_levels_and_add_up() -> None:
    errors = torch.tensor([[1.0, 2.0, 4.0, 8.0, torch.inf]])
    sigma = torch.tensor([[0.0, 0.24, 0.25, 1.0, 0.5]])
    weight = torch.tensor([[1.0, 3.0, 1.0, 2.0, 0.0]])
    bins = bin_errors(errors, sigma, weight, num_bins=4)
    assert bins.total.tolist() == [7.0, 4.0, 0.0, 16.0]
    assert bins.weight.tolist() == [4.0, 1.0, 0.0, 2.0]
    assert bins.mean[[0, 1, 3]].tolist() == [1.75, 4.0, 8.0]
    assert bins.mean[2].isnan()
    assert (bins + bins).mean[0] == bins.mean[0]
    assert (bins + bins).weight.tolist() == [8.0, 2.0, 0.0, 4.0]
