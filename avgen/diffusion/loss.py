"""Predicted and true velocities in, the numbers to minimise and to log out.

Weights do all the selecting: a token that is padding or given, or of another modality, weighs 0;
a token at the mouth may weigh more than 1.

Reference: the conditional flow matching loss, Lipman et al. 2023 (arXiv:2210.02747), eq. 9.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from avgen.errors import UserError


def token_errors(predicted: Tensor, velocity: Tensor) -> Tensor:
    """Mean squared error of each token: [B, L, D], [B, L, D] -> float32 [B, L]."""
    if predicted.shape != velocity.shape:
        raise UserError(
            f"predicted {list(predicted.shape)} and velocity {list(velocity.shape)} differ in shape"
        )
    return (predicted.float() - velocity.float()).square().mean(dim=-1)


def weighted_mean(errors: Tensor, weight: Tensor) -> Tensor:
    """sum(weight * errors) / sum(weight), a scalar; 0 where nothing has weight.

    A batch in which a modality is given throughout has nothing to learn of it: its mean is 0 and
    has no gradient, rather than 0 / 0. Errors without weight may be anything, infinite included.
    """
    weighed = torch.where(weight > 0, weight * errors, 0).sum()
    total = weight.sum()
    return weighed / torch.where(total > 0, total, 1)


def modality_losses(errors: Tensor, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weighted mean error of each modality: name -> scalar.

    Each is a mean over its own tokens, so a modality of many tokens does not drown one of few.

    Args:
        errors: [B, L], from `token_errors`.
        weights: modality name -> [B, L], at least 0, and 0 at all tokens of other modalities.
    """
    return {name: weighted_mean(errors, weight) for name, weight in weights.items()}


@dataclass(frozen=True)
class BinnedErrors:
    """Errors gathered by noise level; bin i of n holds sigma in [i / n, (i + 1) / n), the last 1.

    Attributes:
        total: sum of weight * error, float32 [num_bins].
        weight: sum of weight, float32 [num_bins].
    """

    total: Tensor
    weight: Tensor

    def __add__(self, other: "BinnedErrors") -> "BinnedErrors":
        """Of both sets of tokens: bins of several batches or processes add up."""
        return BinnedErrors(self.total + other.total, self.weight + other.weight)

    @property
    def mean(self) -> Tensor:
        """Mean error, float32 [num_bins]; NaN in a bin that nothing fell into."""
        return self.total / self.weight


def bin_errors(errors: Tensor, sigma: Tensor, weight: Tensor, num_bins: int) -> BinnedErrors:
    """Errors by noise level, detached, for the log.

    Args:
        errors: [B, L], from `token_errors`.
        sigma: [B, L] in [0, 1].
        weight: [B, L], at least 0.
        num_bins: bins of equal width over [0, 1].
    """
    index = (sigma.detach() * num_bins).long().clamp(0, num_bins - 1).flatten()
    weight = weight.detach().float().flatten()
    weighed = torch.where(weight > 0, weight * errors.detach().flatten(), 0)
    empty = torch.zeros(num_bins, dtype=torch.float32, device=errors.device)
    return BinnedErrors(empty.index_add(0, index, weighed), empty.index_add(0, index, weight))
