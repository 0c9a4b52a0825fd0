"""Muon for matrices, Adam for the rest, with linear warm-up and cosine decay.

The same for every system.

A convolution of 2304 inputs feels an Adam step of 0.0005 in each of them at once, which left both
the codec's and the transformer's training noisy at any rate worth having on a CPU (LOG.md has the
figures). Muon bounds the step by its largest singular value instead. torch's own `torch.optim.Muon`
takes two-dimensional weights alone, computes in bfloat16 also where that is emulated, and Lightning
takes one optimiser; hence this one. Weights that FSDP2 has sharded are stepped as if they were
whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate

from avgen.training.lora import LowRank
from avgen.training.precision import computes_bfloat16

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of Jordan et al.
NUM_ITERATIONS = 5  # bring singular values near 1
THINNEST = 16  # rows or columns that a weight needs for Muon
TABLES = (nn.Embedding, LowRank)  # whose weights are Adam's, whatever their size
ADAM_RMS = 0.2  # size of an Adam step over its rate; Muon's is scaled to it (arXiv:2502.16982, 2.2)


def orthogonalize(matrix: Tensor) -> Tensor:
    """The matrix [rows, columns] with its singular values brought near 1.

    In bfloat16 where the device has units for it (as `torch.optim.Muon` does everywhere), else in
    float32.

    Reference: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix.to(torch.bfloat16 if computes_bfloat16(matrix.device.type) else torch.float32)
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for groups marked `muon`, AdamW for the others.

    Args:
        params: Groups, each with a `muon` flag.
        lr: Learning rate, on the scale of Adam's for both.
        momentum: Of the orthogonalised groups (Nesterov's).
        betas: Adam's averages.
        weight_decay: Decoupled, for both.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "betas": betas,
                "weight_decay": weight_decay,
                "muon": False,
            },
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = self._muon if group["muon"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update(parameter, group).to(parameter.dtype), alpha=-group["lr"])
        return loss

    def _muon(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        average = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
        ahead = torch.lerp(parameter.grad, average, group["momentum"]).reshape(len(parameter), -1)
        scale = ADAM_RMS * math.sqrt(max(ahead.shape))
        if not isinstance(ahead, DTensor):
            return scale * orthogonalize(ahead).reshape(parameter.shape)
        # Singular values are of the whole matrix: every process gathers it and keeps its shard.
        step = scale * orthogonalize(ahead.full_tensor()).reshape(parameter.shape)
        whole = [Replicate()] * ahead.device_mesh.ndim
        mesh, placements = ahead.device_mesh, average.placements
        return DTensor.from_local(step, mesh, whole, run_check=False).redistribute(mesh, placements)

    def _adam(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        assert parameter.grad is not None
        state, (beta1, beta2) = self.state[parameter], group["betas"]
        if not state:
            state["step"] = torch.zeros(())
            state["average"], state["square"] = (
                torch.zeros_like(parameter),
                torch.zeros_like(parameter),
            )
        state["step"] += 1
        count = int(state["step"])
        average = state["average"].lerp_(parameter.grad, 1 - beta1) / (1 - beta1**count)
        square = state["square"].lerp_(parameter.grad.square(), 1 - beta2) / (1 - beta2**count)
        return average / (square.sqrt() + 1e-8)


@dataclass(frozen=True)
class OptimizerConfig:
    """How weights move.

    Args:
        lr: Peak learning rate.
        warmup_steps: Steps over which it rises linearly from 0.
        total_steps: Steps after which it has fallen, along a cosine, to `final_share` of the peak.
        final_share: Where it ends, as a share of the peak.
        weight_decay: Decoupled decay of matrices; vectors (gains, biases) are not decayed.
    """

    lr: float
    warmup_steps: int
    total_steps: int
    final_share: float = 0.02
    weight_decay: float = 0.01

    def factor(self, step: int) -> float:
        """Learning rate at a step, as a share of the peak."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = min(1.0, (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps))
        return self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * done)) / 2


def configure(system: nn.Module, config: OptimizerConfig) -> dict:
    """Lightning's optimiser dictionary for the trainable parameters of `system`.

    Embedding tables are left to Adam (a row is looked up, not multiplied by), and so are low-rank
    additions, so that two ranks are trained alike, and matrices too thin to have singular values
    worth speaking of: depthwise convolutions, modulation tables.
    """
    tables = {
        p for module in system.modules() if isinstance(module, TABLES) for p in module.parameters()
    }
    trainable = [p for p in system.parameters() if p.requires_grad]
    matrices = [
        p
        for p in trainable
        if p.ndim > 1 and min(len(p), p[0].numel()) >= THINNEST and p not in tables
    ]
    others = [p for p in trainable if not any(p is matrix for matrix in matrices)]
    groups = [
        {"params": matrices, "muon": True, "weight_decay": config.weight_decay},
        {"params": others, "muon": False, "weight_decay": 0.0},
    ]
    optimizer = Muon(groups, lr=config.lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, config.factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
