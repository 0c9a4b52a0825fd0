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
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate

from avgen.errors import UserError
from avgen.models.lora import LowRank
from avgen.plugins import load_plugin
from avgen.training.draws import rank_and_world
from avgen.training.precision import computes_bfloat16

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of Jordan et al.
NUM_ITERATIONS = 5  # bring singular values near 1
THINNEST = 16  # rows or columns that a weight needs for Muon
TABLES = (nn.Embedding, LowRank)  # whose weights are Adam's, whatever their size
TOGETHER = 2**24  # numbers of the matrices of one shape that one process works on at a time
AHEAD = 2  # matrices of each process that are under way at a time
ADAM_RMS = 0.2  # size of an Adam step over its rate; Muon's is scaled to it (arXiv:2502.16982, 2.2)


def orthogonalize(matrix: Tensor) -> Tensor:
    """A matrix [rows, columns], or several [n, rows, columns], with singular values near 1.

    Several are worked on together, which is twice as fast on a CPU. In bfloat16 where the device
    has units for it (as `torch.optim.Muon` does everywhere), else in float32. There the iterations
    of a matrix at least twice as long as it is short are of x x^T alone: each multiplies x by a
    polynomial of it, with which it commutes. With sides s and l that takes 4 s^2 l + 34 s^3
    operations, not 20 s^2 l + 10 s^3. In bfloat16 it would round too much.

    Reference: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix.to(products_of(matrix))
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    add = torch.addmm if x.ndim == 2 else torch.baddbmm
    if x.dtype == torch.float32 and x.shape[-1] >= 2 * x.shape[-2]:
        gram, identity = x @ x.mT, torch.eye(x.shape[-2], device=x.device)
        step = factor = a * identity + add(gram, gram, gram, beta=b, alpha=c)
        for _ in range(NUM_ITERATIONS - 1):
            gram = step @ gram @ step
            step = a * identity + add(gram, gram, gram, beta=b, alpha=c)
            factor = step @ factor
        x = factor @ x
    else:
        for _ in range(NUM_ITERATIONS):
            gram = x @ x.mT
            x = add(x, add(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def products_of(matrix: Tensor) -> torch.dtype:
    """What `orthogonalize` computes a matrix in."""
    return torch.bfloat16 if computes_bfloat16(matrix.device.type) else torch.float32


def whole_of(matrix: Tensor) -> Tensor:
    """All of a matrix that may be sharded."""
    return matrix.full_tensor() if isinstance(matrix, DTensor) else matrix


def owners_of(shapes: Sequence[torch.Size], world: int) -> list[int]:
    """The process that orthogonalises each matrix: the largest first, to who has least to do."""
    cost = [s.numel() * min(s[0], s.numel() // s[0]) for s in shapes]
    load, owners = [0] * world, [0] * len(shapes)
    for index in sorted(range(len(shapes)), key=lambda i: (-cost[i], i)):
        owners[index] = load.index(min(load))
        load[owners[index]] += cost[index]
    return owners


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
            moving = [p for p in group["params"] if p.grad is not None]
            adam = ((parameter, self._adam(parameter, group)) for parameter in moving)
            for parameter, update in self._muon(moving, group) if group["muon"] else adam:
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.to(parameter.dtype), alpha=-group["lr"])
        return loss

    def _muon(
        self, parameters: list[Tensor], group: dict[str, Any]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Matrices and their updates, each orthogonalised by the one process that owns it.

        `AHEAD` of them are under way at a time: while one comes from its owner, this process works
        on its own.
        """
        rank, world = rank_and_world()
        if world == 1:
            yield from self._alone(parameters, group)
            return
        owners = owners_of([p.shape for p in parameters], world)
        under_way: deque[tuple[Tensor, Tensor, Any]] = deque()
        for parameter, owner in zip(parameters, owners, strict=True):
            ahead = self._ahead(parameter, group)
            # Singular values are of the whole matrix, which is gathered.
            whole = whole_of(ahead)
            # By the same kernels as `_alone`'s, so that it rounds as one process does.
            step = orthogonalize(whole[None])[0] if rank == owner else torch.empty_like(whole)
            step = step.to(products_of(whole))
            sent = dist.broadcast(step.contiguous(), owner, async_op=True)
            under_way.append((parameter, step, sent))
            if len(under_way) > AHEAD * world:
                arrived = under_way.popleft()
                yield arrived[0], self._arrived(*arrived)
        while under_way:
            arrived = under_way.popleft()
            yield arrived[0], self._arrived(*arrived)

    def _alone(
        self, parameters: list[Tensor], group: dict[str, Any]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The same of one process, which works on matrices of one shape together."""
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for parameter in parameters:
            by_shape.setdefault(parameter.shape, []).append(parameter)
        for shape, alike in by_shape.items():
            count = max(1, TOGETHER // shape.numel())
            for some in (alike[k : k + count] for k in range(0, len(alike), count)):
                aheads = (whole_of(self._ahead(parameter, group)) for parameter in some)
                steps = orthogonalize(torch.stack(list(aheads)))
                for parameter, step in zip(some, steps, strict=True):
                    yield parameter, self._arrived(parameter, step)

    def _ahead(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """Momentum as Nesterov's looks ahead of it, [rows, columns]."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        average = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
        return torch.lerp(parameter.grad, average, group["momentum"]).reshape(len(parameter), -1)

    def _arrived(self, parameter: Tensor, step: Tensor, sent: Any = None) -> Tensor:
        """The update of a parameter, sharded as it is, once its step has come."""
        if sent is not None:
            sent.wait()
        step = ADAM_RMS * math.sqrt(max(step.shape)) * step.reshape(parameter.shape)
        if not isinstance(parameter, DTensor):
            return step
        mesh, placements = parameter.device_mesh, parameter.placements
        whole = DTensor.from_local(step, mesh, [Replicate()] * mesh.ndim, run_check=False)
        return whole.redistribute(mesh, placements)

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
        optimizer: Import path of another optimiser than `Muon`, "torch.optim.AdamW" say.
        settings: Its arguments besides lr and weight_decay, or Muon's.
    """

    lr: float
    warmup_steps: int
    total_steps: int
    final_share: float = 0.02
    weight_decay: float = 0.01
    optimizer: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)

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
    if config.optimizer is None:
        optimizer = Muon(groups, lr=config.lr, **config.settings)
    else:
        for group in groups:
            del group["muon"]
        kind = load_plugin(config.optimizer, "optimizer names a class, as torch.optim.AdamW")
        try:
            optimizer = kind([g for g in groups if g["params"]], lr=config.lr, **config.settings)
        except TypeError as error:
            raise UserError(f"optimizer {config.optimizer}: {error}") from error
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, config.factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
