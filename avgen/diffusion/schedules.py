"""Noise levels: the grid that a sampler walks down, and the levels that training draws.

A sampling grid `sigmas` is a float32 tensor [num_steps + 1] that falls from 1 and ends in exactly
0. A training schedule is a small frozen dataclass with one method, `draw`; which one is used, and
with which numbers, is a choice of the recipe's YAML (`class_path` and `init_args`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from avgen.errors import UserError


def shift_sigma(sigma: Tensor, shift: float) -> Tensor:
    """Sigma moved towards the noise (shift > 1) or the data (shift < 1); keeps 0 and 1.

    Many correlated numbers (a large picture) hide less under the same noise than few do, so they
    need more of it: shift is the square root of the ratio of their counts.

    Reference: Esser et al. 2024, "Scaling Rectified Flow Transformers" (SD3, arXiv:2403.03206),
    eq. 23, where shift is sqrt(m / n).
    """
    _require_positive("shift", shift)
    return (shift * sigma / (1 + (shift - 1) * sigma)).clamp(max=1)  # 1 may be rounded up


def uniform_sigmas(num_steps: int) -> Tensor:
    """The grid of equal steps from 1 to 0, float32 [num_steps + 1]."""
    if num_steps < 1:
        raise UserError(f"num_steps is {num_steps}; a sampler takes at least 1 step")
    return torch.linspace(1, 0, num_steps + 1, dtype=torch.float32)


def shifted_sigmas(num_steps: int, shift: float) -> Tensor:
    """The uniform grid, shifted: float32 [num_steps + 1]; shift 1 is the uniform grid."""
    return shift_sigma(uniform_sigmas(num_steps), shift)


@dataclass(frozen=True)
class LogitNormal:
    """Distribution of sigma: sigmoid(mean + std * normal), mixed with the uniform distribution.

    Reference: SD3 (arXiv:2403.03206), section 3.1.

    Attributes:
        mean: of logit(sigma); 0 centres on sigma 0.5, more prefers noise.
        std: of logit(sigma); less concentrates on the middle.
        uniform_fraction: share of draws, 0 to 1, taken uniformly from [0, 1) instead, so that
            the ends, which a logit-normal all but leaves out, are trained too.
    """

    mean: float
    std: float
    uniform_fraction: float

    def __post_init__(self) -> None:
        _require_positive("std", self.std)
        if not 0 <= self.uniform_fraction <= 1:
            raise UserError(f"uniform_fraction is {self.uniform_fraction}; it is a share, 0 to 1")

    def draw(self, num: int, generator: torch.Generator) -> Tensor:
        """`num` sigmas, float32 [num], on the generator's device."""
        device = generator.device
        normal = torch.randn(num, generator=generator, device=device)
        uniform = torch.rand(num, generator=generator, device=device)
        is_uniform = torch.rand(num, generator=generator, device=device) < self.uniform_fraction
        return torch.where(is_uniform, uniform, torch.sigmoid(self.mean + self.std * normal))


class TrainingSigmas(Protocol):
    """How training draws the noise level of every clip and modality.

    Annotate with this, not with a class below: of dataclasses with equal fields jsonargparse
    (4.53) may make another than the class_path says.
    """

    def draw(
        self, batch_size: int, modalities: Sequence[str], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """A sigma for every clip: modality name -> float32 [batch_size]."""
        ...


@dataclass(frozen=True)
class SharedSigma:
    """One draw a clip, shifted for each modality; sample with the same shifts.

    Attributes:
        base: the distribution before the shift.
        shifts: modality name -> shift, as in `shift_sigma`; 1 changes nothing.
    """

    base: LogitNormal
    shifts: dict[str, float]

    def __post_init__(self) -> None:
        for name, shift in self.shifts.items():
            _require_positive(f"the shift of {name}", shift)

    def draw(
        self, batch_size: int, modalities: Sequence[str], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """One draw a clip, shifted: name -> float32 [batch_size]."""
        sigma = self.base.draw(batch_size, generator)
        return {name: shift_sigma(sigma, _shift_of(self.shifts, name)) for name in modalities}


@dataclass(frozen=True)
class IndependentSigma(SharedSigma):
    """Every modality of a clip has a draw of its own.

    The network then also learns each modality from a cleaner or noisier other one, which is what
    making one from the other needs.
    """

    def draw(
        self, batch_size: int, modalities: Sequence[str], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """A draw a clip and modality: name -> float32 [batch_size]."""
        return {
            name: shift_sigma(self.base.draw(batch_size, generator), _shift_of(self.shifts, name))
            for name in modalities
        }


def _require_positive(name: str, value: float) -> None:
    if not value > 0:
        raise UserError(f"{name} is {value}; it must be greater than 0")


def _shift_of(shifts: dict[str, float], name: str) -> float:
    if name not in shifts:
        raise UserError(f"no shift for the modality {name!r}; there are shifts for {list(shifts)}")
    return shifts[name]
