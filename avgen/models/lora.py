"""Low-rank adaptation: a network's matrices stay, a product of two thin ones is added beside each.

    y = W x + alpha / rank * B (A x)    A [rank, in], B [out, rank] from 0 on

The branch stands beside the weight, so that no gradient of the weight is ever made, and gradients
end at the first layer that is adapted: a step costs 2 forward passes where full training costs 3, a
fraction of one less where the first blocks are left as they are (`targets`). `merge` adds the
product to the weights. What was trained is saved and loaded by itself in the files and names that
PEFT reads (adapter_config.json, adapter_model.safetensors); that library itself would bring
accelerate with it.

Reference: Hu et al. 2021, "LoRA" (arXiv:2106.09685), section 4.1.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from avgen.clips.files import atomic, read_json
from avgen.errors import UserError

PREFIX = "base_model.model."  # PEFT's, before every name
FILES = ("adapter_config.json", "adapter_model.safetensors")


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


class LowRank(nn.Linear):
    """One of the two thin matrices."""


class LowRankLinear(nn.Linear):
    """A linear layer, which keeps its weight, and what is added beside it."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        like = {"device": layer.weight.device, "dtype": layer.weight.dtype, "bias": False}
        self.lora_A = LowRank(layer.in_features, rank, **like)
        self.lora_B = LowRank(rank, layer.out_features, **like)
        self.rank, self.alpha = rank, alpha
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, input: Tensor) -> Tensor:
        """Add."""
        plain = F.linear(input, self.weight, self.bias)
        return plain + self.alpha / self.rank * self.lora_B(self.lora_A(input))

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The plain layer that does the same."""
        has_bias = self.bias is not None
        layer = nn.Linear(self.in_features, self.out_features, bias=has_bias, device="meta")
        added = self.alpha / self.rank * (self.lora_B.weight @ self.lora_A.weight)
        layer.weight = nn.Parameter(self.weight + added.to(self.weight.dtype))
        layer.bias = self.bias  # type: ignore[assignment]
        return layer


def adapt(network: nn.Module, config: LoraConfig) -> None:
    """Freeze a network but for low-rank additions beside its linear layers, in place.

    Raises:
        UserError: no linear layer is named so.
    """
    network.requires_grad_(False)
    layers = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and any(part in f"{name}." for part in config.targets)
    ]
    if not layers:
        raise UserError(f"no linear layer's name holds any of {list(config.targets)}")
    for name in layers:
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        network.set_submodule(name, LowRankLinear(layer, config.rank, config.alpha))


def adapted(network: nn.Module) -> dict[str, LowRankLinear]:
    """The layers of a network that something is added beside, by name."""
    return {n: part for n, part in network.named_modules() if isinstance(part, LowRankLinear)}


def merge(network: nn.Module) -> None:
    """Make what was added part of the weights, in place; a network without additions stays."""
    for name, layer in adapted(network).items():
        network.set_submodule(name, layer.merged())


def save_adapter(network: nn.Module, folder: Path) -> None:
    """Write what was added to a network as a folder that `load_adapter` and PEFT read.

    Raises:
        UserError: nothing was.
    """
    layers = adapted(network)
    if not layers:
        raise UserError(f"{folder}: the network has no adapter to save")
    first = next(iter(layers.values()))
    facts = {
        "peft_type": "LORA",
        "r": first.rank,
        "lora_alpha": first.alpha,
        "target_modules": sorted(layers),
        "bias": "none",
        "lora_dropout": 0.0,
        "fan_in_fan_out": False,
        "base_model_name_or_path": None,
        "task_type": None,
    }
    tensors = {
        f"{PREFIX}{name}.{part}.weight": getattr(layer, part).weight.detach().cpu().contiguous()
        for name, layer in layers.items()
        for part in ("lora_A", "lora_B")
    }
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / FILES[1]) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    with atomic(folder / FILES[0]) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n")


def load_adapter(network: nn.Module, folder: Path) -> None:
    """Add an adapter that was saved beside a network's weights, in place.

    Raises:
        UserError: it is none, or one of another network.
    """
    facts: dict[str, Any] = read_json(folder / FILES[0])
    try:
        tensors = load_file(folder / FILES[1])
        rank, alpha = int(facts["r"]), float(facts["lora_alpha"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(f"{folder}: is no adapter ({error})") from error
    for name in sorted({key.removeprefix(PREFIX).rsplit(".lora_", 1)[0] for key in tensors}):
        try:
            layer = network.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            own = LowRankLinear(layer, rank, alpha)
            for part in ("lora_A", "lora_B"):
                weight = tensors[f"{PREFIX}{name}.{part}.weight"]
                getattr(own, part).load_state_dict({"weight": weight})
        except (AttributeError, AssertionError, KeyError, RuntimeError) as error:
            raise UserError(f"{folder}: {name}: is an adapter of another network") from error
        network.set_submodule(name, own)
