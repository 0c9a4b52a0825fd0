"""A function of jobs in several processes, each of one thread; one that dies costs its own job."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures import TimeoutError as TimedOut
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, TypeVar

import cv2
from pebble import ProcessExpired, ProcessPool

Job = TypeVar("Job")
Done = TypeVar("Done")

AHEAD = 2  # jobs that are begun before what came of them is taken, for each process

# Read once, when numpy and torch are loaded. As many processes as cores, each with as many threads
# as cores, take twice the time of as many processes of one.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def in_processes(
    function: Callable[[Job], Done],
    jobs: Sequence[Job],
    workers: int,
    lost: Callable[[Job, str], Done],
    timeout_s: float | None = None,
) -> Iterator[Done]:
    """What `function` returns for each job, in the order in which they are done.

    Few are done before they are taken, so that what they leave on disk stays little. A job whose
    process died is tried once more, with no other beside it: memory may have been short.

    Args:
        function: Importable by name.
        jobs: What it is called with; they are pickled.
        workers: Processes.
        lost: Called here with a job that has no result, and the reason.
        timeout_s: Seconds that a job may take; its process is then ended.
    """
    died: list[Job] = []
    for job, result in _outcomes(function, jobs, workers, timeout_s):
        if isinstance(result, ProcessExpired):
            died.append(job)
        else:
            yield lost(job, result) if isinstance(result, _Lost) else result
    for job, result in _outcomes(function, died, 1, timeout_s):
        if isinstance(result, ProcessExpired):
            code = result.exitcode
            yield lost(job, f"the process that read it ended, twice (exit code {code})")
        else:
            yield lost(job, result) if isinstance(result, _Lost) else result


class _Lost(str):
    """Why a job has no result."""


def _outcomes(
    function: Callable[[Job], Done], jobs: Sequence[Job], workers: int, timeout_s: float | None
) -> Iterator[tuple[Job, Done | _Lost | ProcessExpired]]:
    """Each job with what came of it."""
    if not jobs:
        return
    with (
        _one_thread(),
        ProcessPool(workers, context=get_context("spawn"), initializer=set_up_worker) as pool,
    ):
        futures: dict[Any, Job] = {}  # ProcessFuture is a Future of which typeshed knows nothing
        rest = iter(jobs)
        try:
            while True:
                for job in islice(rest, AHEAD * workers - len(futures)):
                    futures[pool.schedule(function, (job,), timeout=timeout_s)] = job
                if not futures:
                    return
                for future in wait(futures, return_when=FIRST_COMPLETED).done:
                    job = futures.pop(future)
                    try:
                        yield job, future.result()
                    except ProcessExpired as error:
                        yield job, error
                    except TimedOut:
                        yield job, _Lost(f"took longer than {timeout_s:g} s")
        except BaseException:
            pool.stop()
            raise


def set_up_worker() -> None:
    """One thread a process: there are as many processes as there is to gain. It ends with its run.

    A run that is killed cannot tell its processes to stop; each watches for it.
    """
    cv2.setNumThreads(1)
    Thread(target=_end_with_parent, daemon=True).start()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes that are started meanwhile have one thread in each of numpy's and torch's pools."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
