"""Averages of weights whose memory grows with the run: a share of it, not a number of steps.

Reference: Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models"
(EDM2, arXiv:2312.02696), section 3.1 and appendix C.1.
"""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch import callbacks
from torch import Tensor

from avgen.errors import UserError


def power_of(std: float) -> float:
    """The exponent gamma of a profile t^gamma whose deviation is a share of the run.

    The root of std^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).
    """
    return float(np.roots([1, 7, 16 - std**-2, 12 - std**-2]).real.max())


class _OnDevice(callbacks.WeightAveraging):
    """Lightning's, whose average lies where the weights will: at `setup` they are on the CPU."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._device: Any = self._device or trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)


class EMAWeightAveraging(_OnDevice, callbacks.EMAWeightAveraging):
    """Lightning's exponential average, on the device of the weights."""


class PowerEMA(_OnDevice):
    """The average of weights by a power of their step, validated with and exported.

    Args:
        std: Deviation of what is averaged, as a share of the run so far: 0.05 is the last tenth or
            so, 0.1 the last fifth. EDM2 found 0.05 to 0.15 best.
    """

    def __init__(self, std: float = 0.1) -> None:
        if not 0 < std < 0.28:
            raise UserError(
                f"std is {std}; it must be above 0 and below 0.28, where all is one mean"
            )
        self.exponent = power_of(std) + 1
        super().__init__(avg_fn=self.average)

    def average(self, average: Tensor, weight: Tensor, num_averaged: Tensor | int) -> Tensor:
        """The average after one step more: EDM2's equation 127, exact for long runs in float32."""
        step = torch.as_tensor(num_averaged, dtype=torch.float32, device=average.device) + 1
        share = -torch.expm1(self.exponent * torch.log1p(-1 / step))
        return torch.lerp(average, weight, share.to(average.dtype))
