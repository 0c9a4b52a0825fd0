"""How fast a training goes, what it waits for, and what it takes: logged as it runs.

    throughput/clips_per_s, tokens_per_s, steps_per_s    of all processes (this one's, times those)
    throughput/tflops_per_s                               of this process, by flops.py
    throughput/mfu                                        that over what its device can do
    throughput/data_wait                                  share of the time spent waiting for data
    throughput/memory_gib                                 the most that was held so far
    throughput/power_w                                    of the processor's packages, or of the GPU

What cannot be read is not logged, which is said once.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import PassThroughProfiler
from torch import nn

from avgen.energy import Energy
from avgen.models.transformer import AVTransformer
from avgen.training.draws import rank_and_world
from avgen.training.flops import FORWARDS_OF_A_STEP, forward_flops

WAITS_FOR_DATA = "train_dataloader_next"  # the end of the name of what Lightning times
log = logging.getLogger(__name__)


class _Waits(PassThroughProfiler):
    """Adds up the seconds that Lightning waits for training data."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds, self._since = 0.0, 0.0

    def start(self, action_name: str) -> None:
        """An action begins."""
        if action_name.endswith(WAITS_FOR_DATA):
            self._since = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """An action ends."""
        if action_name.endswith(WAITS_FOR_DATA):
            self.seconds += time.perf_counter() - self._since


class Throughput(Callback):
    """Logs the figures of the module's docstring, each over the steps since the last.

    Its state in a checkpoint is what the run has taken so far: {"seconds", "joules" or None}.

    Args:
        every_n_steps: How often.
        peak_tflops: What the device can do at the run's precision, for MFU; None takes the maker's
            figure where Lightning's table has the GPU.
    """

    def __init__(self, every_n_steps: int = 50, peak_tflops: float | None = None) -> None:
        self.every_n_steps, self.peak_tflops = every_n_steps, peak_tflops
        self.before: dict[str, float | None] = {"seconds": 0.0, "joules": 0.0}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to count."""
        self.started = time.perf_counter()
        self.energy, self.waits = Energy(pl_module.device), None
        if self.energy.missing is not None:
            log.warning("energy is not logged: %s", self.energy.missing)
        if type(getattr(trainer, "profiler", None)) is PassThroughProfiler:
            self.waits = _Waits()
            trainer.profiler = self.waits  # pyright: ignore[reportAttributeAccessIssue]
        else:
            log.warning("data_wait is not logged: the run has a profiler of its own")
        if self.peak_tflops is None and pl_module.device.type == "cuda":
            dtype = torch.bfloat16 if "bf16" in str(trainer.precision) else torch.float32
            peak = get_available_flops(pl_module.device, dtype)
            self.peak_tflops = None if peak is None else peak / 1e12
        if self.peak_tflops is None:
            log.warning("mfu is not logged: give the device's peak_tflops")
        self.work = dict.fromkeys(("clips", "tokens", "flops", "steps"), 0)
        self.counting = [
            module.register_forward_pre_hook(self.count)
            for module in pl_module.children()
            if isinstance(module, AVTransformer)
        ]
        self.mark = self.now()

    def count(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Add a forward pass of training to the work done."""
        if module.training:
            tokens, _, context = inputs
            assert isinstance(module, AVTransformer)
            clips = len(context.stream.segments.lengths)
            self.work["clips"] += clips
            self.work["tokens"] += tokens.shape[0] * tokens.shape[1]
            flops = forward_flops(module.config, context, 3 * clips)  # picture, sound, given
            self.work["flops"] += FORWARDS_OF_A_STEP * flops

    def now(self) -> dict[str, float | None]:
        """Seconds, waiting seconds and joules since the start."""
        return {
            "seconds": time.perf_counter() - self.started,
            "waits": None if self.waits is None else self.waits.seconds,
            "joules": self.energy.joules(),
        }

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Log, every so many batches."""
        self.work["steps"] += 1
        if self.work["steps"] < self.every_n_steps:
            return
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        figures = self.figures(pl_module.device)
        for logger in trainer.loggers:
            logger.log_metrics(
                {f"throughput/{k}": v for k, v in figures.items()}, trainer.global_step
            )

    def figures(self, device: torch.device) -> dict[str, float]:
        """What is logged, over the time since the last call."""
        then, now = self.mark, self.now()
        lasted = {
            name: value - before
            for name, value in now.items()
            if value is not None and (before := then[name]) is not None
        }
        seconds, world = lasted["seconds"], rank_and_world()[1]
        figures = {"steps_per_s": self.work["steps"] / seconds}
        if (held := peak_memory(device)) is not None:
            figures["memory_gib"] = held
        if self.work["flops"]:
            for name in ("clips", "tokens"):
                figures[f"{name}_per_s"] = world * self.work[name] / seconds
            figures["tflops_per_s"] = self.work["flops"] / seconds / 1e12
            if self.peak_tflops is not None:
                figures["mfu"] = figures["tflops_per_s"] / self.peak_tflops
        if "waits" in lasted:
            figures["data_wait"] = lasted["waits"] / seconds
        if "joules" in lasted:
            figures["power_w"] = lasted["joules"] / seconds
        self.work, self.mark = dict.fromkeys(self.work, 0), now
        return figures

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count no more."""
        for handle in self.counting:
            handle.remove()

    def state_dict(self) -> dict[str, float | None]:
        """What the run has taken, with what it took before it was resumed."""
        if not hasattr(self, "started"):
            return self.before
        now = self.now()
        return {
            name: None if (own := now[name]) is None or before is None else before + own
            for name, before in self.before.items()
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.before = state_dict


def peak_memory(device: torch.device) -> float | None:
    """The most GiB held so far: of the GPU by torch, else by the whole process; None on Windows."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if sys.platform == "win32":
        return None
    import resource  # of Unix

    unit = 1 if sys.platform == "darwin" else 2**10  # bytes, or KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
