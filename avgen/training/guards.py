"""Losses that are no numbers, or that jump: caught before the step, with the clips named.

A loss that is NaN or infinite, a gradient that is, and a loss far above the last ones' median stop
the run, or the step is left out: no weight moves, and the run goes on with the next batch.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections import deque
from typing import Any, Literal

import lightning as L
import torch
import torch.distributed
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from avgen.errors import UserError
from avgen.training.draws import rank_and_world

MAD_TO_STD = 1.4826  # of a normal distribution: 1 / its quantile at 3/4
log = logging.getLogger(__name__)


def spike(loss: float, history: list[float]) -> float:
    """How many deviations a loss lies above the median of others; a deviation by their MAD.

    Infinite where the others are all but equal and this one is greater.
    """
    median = statistics.median(history)
    deviation = MAD_TO_STD * statistics.median(abs(value - median) for value in history)
    if loss <= median:
        return 0.0
    return (loss - median) / deviation if deviation > 0 else math.inf


class LossGuard(Callback):
    """Stops a run, or leaves out a step, whose loss or gradient is no number or whose loss jumps.

    Args:
        z: A loss this many deviations above the median of the last ones has jumped.
        window: How many last losses; none has jumped before there are half of them.
        action: "stop" the run, or "skip" the step.
        max_skips: So many steps left out in a row stop the run too.
    """

    def __init__(
        self,
        z: float = 10.0,
        window: int = 100,
        action: Literal["stop", "skip"] = "stop",
        max_skips: int = 10,
    ) -> None:
        if window < 4:
            raise UserError(f"window is {window}; a median and a deviation take at least 4 losses")
        self.z, self.window, self.action, self.max_skips = z, window, action, max_skips
        self.history: deque[float] = deque(maxlen=window)
        self.skipped, self.in_a_row = 0, 0
        self._clips: list[str] = []
        self._losses: list[Tensor] = []  # of the micro-batches of this step
        self._reasons: list[str] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember whose batch it is."""
        self._clips += [record.id for record in batch.get("records", ())]

    def on_before_backward(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor
    ) -> None:
        """Keep the loss; it is judged with the gradient, in one look at the device."""
        self._losses.append(loss.detach())

    def judge(self, loss: float) -> None:
        """Note what is wrong with a loss, or take it among those that later ones are judged by."""
        past = list(self.history)
        if not math.isfinite(loss):
            self._reasons.append(f"the loss is {loss}")
        elif len(past) >= self.window // 2 and (above := spike(loss, past)) > self.z:
            self._reasons.append(
                f"the loss is {loss:.4g}, {above:.3g} deviations above the median "
                f"{statistics.median(past):.4g} of the last {len(past)}"
            )
        else:
            self.history.append(loss)

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Stop, or leave the step out, on all processes if on one.

        Raises:
            UserError: something is wrong with the step, and it is not to be left out.
        """
        norm, *losses = torch.stack([gradient_norm(pl_module), *self._losses]).tolist()
        for loss in losses:
            self.judge(loss)
        if not self._reasons and not math.isfinite(norm):
            self._reasons.append(f"the gradient's norm is {norm}")
        clips, reasons = self._clips, self._reasons
        self._clips, self._losses, self._reasons = [], [], []
        if not anywhere(bool(reasons), pl_module.device):
            self.in_a_row = 0
            return
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        what = "; ".join(reasons) if reasons else "another process's batch is at fault"
        said = f"step {trainer.global_step}: {what}; clips: {', '.join(clips) or 'unnamed'}"
        if self.action == "stop" or self.in_a_row >= self.max_skips:
            raise UserError(said)
        log.warning("%s; the step is left out", said)
        for parameter in pl_module.parameters():
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """What later losses are judged by, and how many steps were left out."""
        return {"history": list(self.history), "skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.history = deque(state_dict["history"], maxlen=self.window)
        self.skipped, self.in_a_row = state_dict["skipped"], state_dict["in_a_row"]


def gradient_norm(module: nn.Module) -> Tensor:
    """Norm of all gradients of a module, sharded ones included; 0 where there are none."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def anywhere(flag: bool, device: torch.device) -> bool:
    """Whether the flag is raised on any process."""
    if rank_and_world()[1] == 1:
        return flag
    raised = torch.tensor(float(flag), device=device)
    torch.distributed.all_reduce(raised, torch.distributed.ReduceOp.MAX)
    return bool(raised)
