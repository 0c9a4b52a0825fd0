"""What the server is: its settings, folder, queue, worker, clerk and watchers, in one object."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from avgen.studio import desk
from avgen.studio.failures import ApiError, bad
from avgen.studio.places import Folder
from avgen.studio.queue import Queue
from avgen.studio.security import Gate

log = logging.getLogger("avgen.studio")
LOOK_S = 0.5  # between looks at the worker


@dataclass(frozen=True)
class Settings:
    """How a server is run.

    Attributes:
        folder: Where everything is kept.
        model: Folder of the model.
        name: What answers call it.
        device: That it runs on.
        dtype: That it computes in, or None for float32.
        threads: Of the worker's arithmetic; None leaves it to torch.
        manner: `Manner`'s fields.
        max_queued: Jobs that may wait.
        max_seconds: Of a clip.
        max_pixels: Of a frame.
        runs: Where training runs are looked for, or None.
    """

    folder: Path
    model: Path
    name: str
    device: str = "cpu"
    dtype: str | None = None
    threads: int | None = None
    manner: dict[str, Any] = field(default_factory=dict)
    max_queued: int = 100
    max_seconds: float = 60.0
    max_pixels: int = 1920 * 1080
    runs: Path | None = None


class Studio:
    """A server's state.

    Args:
        settings: How it is run.
        gate: Who may speak to it.
    """

    def __init__(self, settings: Settings, gate: Gate) -> None:
        self.settings, self.gate = settings, gate
        self.folder = Folder(settings.folder)
        self.folder.prepare()
        self.queue = Queue(self.folder.database)
        self.card: dict[str, Any] | None = None  # of the model, once it is known
        self.fault: str | None = None  # why there is no model
        self.worker: subprocess.Popen | None = None
        self.stopping = threading.Event()
        self.deaths = 0
        self.is_leaving: Callable[[], bool] = lambda: False  # whether the server is about to stop
        self._pool: ProcessPoolExecutor | None = None
        self._worker_began = self._wait_s = 0.0

    def start(self) -> None:
        """Start the worker and the clerk, and keep the worker alive."""
        self.queue.put_back(desk.is_alive)
        threading.Thread(target=self._keep_working, daemon=True).start()

    def stop(self) -> None:
        """End both."""
        self.stopping.set()
        if self.worker is not None:
            self.worker.terminate()
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _keep_working(self) -> None:
        while not self.stopping.wait(LOOK_S):
            try:
                self._look_after_the_worker()
                self.queue.put_back(desk.is_alive)
                self._sweep_removed()
            except Exception:  # a full disk, no memory: what is not may come
                log.exception("looking after the worker failed")
                self.stopping.wait(10 * LOOK_S)

    def _look_after_the_worker(self) -> None:
        """Start one where there is none; one that ends soon is waited with, ever longer."""
        if self.worker is None or self.worker.poll() is not None:
            if self.worker is not None:
                self.deaths += 1
                log.warning("the worker ended with code %s", self.worker.returncode)
                lived_s = time.monotonic() - self._worker_began
                self._wait_s = 0.5 if lived_s > 60 else min(30.0, 2 * self._wait_s + 0.5)
            self.worker = None
            self.queue.put_back(desk.is_alive)
            if not self.stopping.wait(self._wait_s):
                self._worker_began = time.monotonic()
                self.worker = self._new_worker()

    def _new_worker(self) -> subprocess.Popen:
        own = self.settings
        told = {"folder": str(own.folder), "model": str(own.model), "device": own.device,
                "dtype": own.dtype, "manner": own.manner, "parent": os.getpid(),
                "threads": own.threads}  # fmt: skip
        command = [sys.executable, "-m", "avgen.studio.worker", json.dumps(told)]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def _sweep_removed(self) -> None:
        for row in self.queue.read("SELECT id FROM jobs WHERE removed AND status != 'in_progress'"):
            try:
                self.folder.remove(row["id"])
                self.queue.forget(row["id"])
            except OSError as error:  # the others are removed, whatever one is
                log.warning("%s cannot be removed: %s", row["id"], error)

    async def ask(self, question: str, *arguments: Any) -> Any:
        """What the clerk answers: the function of that name (clerk.py).

        Raises:
            ApiError: the user's mistake, or the clerk died over it.
        """
        loop = asyncio.get_running_loop()
        if self._pool is None:
            parent = os.getpid()
            self._pool = ProcessPoolExecutor(1, get_context("spawn"), desk.leave_with, (parent,))
        pool = self._pool
        try:
            answer = await loop.run_in_executor(pool, desk.answer, question, *arguments)
        except BrokenProcessPool:
            if self._pool is pool:
                self._pool = None
            raise ApiError(500, "server_error", "the process that looked at it died") from None
        if isinstance(answer, desk.Refused):
            raise bad(answer.message, answer.field)
        return answer

    async def know_model(self) -> None:
        """Learn what the model is; what is wrong with it, if anything is."""
        try:
            self.card = await self.ask("warm", str(self.settings.model))
        except Exception as error:
            self.fault = " ".join(str(error).split())
            log.error("the model cannot be used: %s", self.fault)
