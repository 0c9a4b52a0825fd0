"""A question by its name in, the clerk's answer out: what the server knows of the clerk.

The server imports no torch; the clerk, in its own process, imports all that it needs.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

MAX_GIVEN_S = 30.0  # of media that a request may bring


@dataclass(frozen=True)
class Refused:
    """What is wrong with what a user sent: the message, and the field."""

    message: str
    field: str | None


def answer(question: str, *arguments: Any) -> Any:
    """What the clerk's function of that name says."""
    return getattr(importlib.import_module("avgen.studio.clerk"), question)(*arguments)


def process_name() -> str:
    """This process, by its id and when it began: an id alone may be another's later."""
    return f"{os.getpid()}-{_began(os.getpid())}"


def is_alive(name: str) -> bool:
    """Whether the process of that name is there."""
    pid, _, began = name.partition("-")
    try:
        return _began(int(pid)) == began
    except (psutil.Error, ValueError):
        return False


def _began(pid: int) -> str:
    """When a process began: ticks since the boot where they are told, which no clock moves."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return f"{psutil.Process(pid).create_time():.2f}"


def leave_with(parent: int, last: Callable[[], None] = lambda: None) -> None:
    """End this process soon after its parent has, `last` done before; Ctrl+C is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        try:
            last()
        finally:
            os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
