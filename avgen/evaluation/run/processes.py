"""A function of jobs in several processes, each of one thread; one that dies costs one job."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

Job = TypeVar("Job")
Done = TypeVar("Done")

# Read once, when numpy and torch are loaded. As many processes as cores, each with as many threads
# as cores, take twice the time of as many processes of one.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def in_processes(
    function: Callable[[Job], Done],
    jobs: Sequence[Job],
    workers: int,
    lost: Callable[[Job], Done],
) -> Iterator[Done]:
    """What `function` gives for each job, in the order in which they are done.

    Where a process dies, the jobs that it and the others had are tried again, each alone.

    Args:
        function: Importable by name.
        jobs: What it is called with; they are pickled.
        workers: Processes.
        lost: Called here, instead, with a job whose process died with nothing else in it.
    """
    context = get_context("spawn")
    broken: list[Job] = []
    with ProcessPoolExecutor(workers, context, initializer=set_up_worker) as pool:
        with _one_thread():
            futures: dict[Future[Done], Job] = {pool.submit(function, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                try:
                    yield future.result()
                except BrokenProcessPool:
                    broken.append(futures[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for job in broken:
        with ProcessPoolExecutor(1, context, initializer=set_up_worker) as pool:
            try:
                with _one_thread():
                    future = pool.submit(function, job)
                yield future.result()
            except BrokenProcessPool:
                yield lost(job)


def set_up_worker() -> None:
    """One thread a process: there are as many processes as there is to gain. It ends with its run.

    A run that is killed cannot tell its processes to stop; each watches for it.
    """
    import cv2

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
