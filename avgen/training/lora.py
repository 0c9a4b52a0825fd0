"""Low-rank adaptation: a network's matrices stay, a product of two thin ones is added to each.

    weight = frozen + alpha / rank * up @ down    down [rank, in], up [out, rank] from 0 on

It is torch's own parametrization of a weight, which also takes it off again: `merge` leaves plain
weights that a checkpoint's folder holds like any. (The `peft` library does the same by wrapping
modules, and would bring transformers and accelerate with it.)

Reference: Hu et al. 2021, "LoRA" (arXiv:2106.09685), section 4.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from avgen.errors import UserError


@dataclass(frozen=True)
class LoraConfig:
    """Which matrices are adapted, and how far.

    Args:
        rank: Of what is added.
        alpha: What is added counts alpha / rank.
        targets: Parts of the names of linear layers; those whose name holds one are adapted.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...] = ("attention.", "mlp.")

    def __post_init__(self) -> None:
        """Check the rank."""
        if self.rank < 1:
            raise UserError(f"rank is {self.rank}; it must be at least 1")


class LowRank(nn.Module):
    """A weight [out, in] and what is added to it."""

    def __init__(self, out_width: int, in_width: int, config: LoraConfig) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(config.rank, in_width))
        self.up = nn.Parameter(torch.zeros(out_width, config.rank))
        self.scale = config.alpha / config.rank
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """Add."""
        return weight + self.scale * (self.up @ self.down).to(weight.dtype)


def adapt(network: nn.Module, config: LoraConfig) -> None:
    """Freeze a network but for low-rank additions to its linear layers, in place.

    Raises:
        UserError: no linear layer is named so.
    """
    network.requires_grad_(False)
    layers = [
        module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and any(part in f"{name}." for part in config.targets)
    ]
    if not layers:
        raise UserError(f"no linear layer's name holds any of {list(config.targets)}")
    for layer in layers:
        added = LowRank(layer.out_features, layer.in_features, config)
        parametrize.register_parametrization(layer, "weight", added)


def merge(network: nn.Module) -> None:
    """Make what was added part of the weights, in place; a network without additions stays."""
    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
