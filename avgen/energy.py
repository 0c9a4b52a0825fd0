"""What a piece of work took: joules where the machine has counters, seconds of processor always.

A counter is of a whole package or GPU: all that ran on it meanwhile is in its joules. Where there
is none, joules are None; an estimate is made only when a power is given, and is called one.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

RAPL = Path("/sys/class/powercap")


class Energy:
    """Joules since it was made, of the device that trains.

    Of a CPU by RAPL's counters of its packages (all that runs on them is counted), of a GPU by
    NVML's.

    Args:
        device: Which.
        rapl: Where the counters are.

    Attributes:
        missing: Why there is nothing to read, or None.
    """

    def __init__(self, device: torch.device, rapl: Path = RAPL) -> None:
        self.device, self.missing = device, None
        self.files = sorted(rapl.glob("intel-rapl:?/energy_uj")) if device.type == "cpu" else []
        self.total = 0.0
        try:
            if device.type == "cpu" and not self.files:
                raise OSError(f"no {rapl}/intel-rapl:*/energy_uj")
            self.last = self._counters()
        except (OSError, RuntimeError, ImportError) as error:
            self.missing = str(error)

    def _counters(self) -> list[tuple[float, float]]:
        """Joules of every counter, and those at which it starts again from 0."""
        if self.device.type == "cpu":
            return [
                (
                    int(file.read_text()) / 1e6,
                    int((file.parent / "max_energy_range_uj").read_text()) / 1e6,
                )
                for file in self.files
            ]
        if self.device.type != "cuda":
            raise RuntimeError(f"no counter of a {self.device.type}")
        import pynvml  # pyright: ignore[reportMissingImports] - nvidia-ml-py, where there is a GPU
        import torch.cuda

        uuid = torch.cuda.get_device_properties(self.device).uuid
        try:
            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            millijoules = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except pynvml.NVMLError as error:
            raise RuntimeError(f"NVML: {error}") from error
        return [(millijoules / 1e3, float("inf"))]

    def joules(self) -> float | None:
        """So far; None where nothing can be read."""
        if self.missing is not None:
            return None
        now = self._counters()
        for (before, _), (after, limit) in zip(self.last, now, strict=True):
            self.total += after - before if after >= before else after - before + limit
        self.last = now
        return self.total


class Meter:
    """Counts from when it is made.

    Args:
        device: What computes.
        watts_per_core: Power of a busy core for an estimate where there is no counter; or None.
        rapl: Where the counters are.
    """

    def __init__(
        self, device: torch.device, watts_per_core: float | None = None, rapl: Path = RAPL
    ) -> None:
        self.energy, self.device, self.watts = Energy(device, rapl), device, watts_per_core
        self.wall, self.cpu = time.perf_counter(), _cpu_seconds()

    def read(self) -> dict[str, Any]:
        """So far: joules or None, their source, cpu_seconds, wall_seconds, and what they cover."""
        joules, cpu_s = self.energy.joules(), _cpu_seconds() - self.cpu
        source = "none" if joules is None else "rapl" if self.device.type == "cpu" else "nvml"
        scope = "the whole package or GPU, everything that ran on it"
        if joules is None:
            scope = f"not measured: {self.energy.missing}"
            if self.watts is not None:
                joules, source = self.watts * cpu_s, "estimate"
                scope = f"estimate: {self.watts:g} W x {cpu_s:.1f} s of processor"
        return {
            "joules": None if joules is None else round(joules, 3),
            "source": source,
            "scope": scope,
            "cpu_seconds": round(cpu_s, 3),
            "wall_seconds": round(time.perf_counter() - self.wall, 3),
        }


def _cpu_seconds() -> float:
    """Of this process and those of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system
