"""A function and what to call it with -> results: in this process, in several, or by Ray.

Jobs leave what they make on disk, so results have no order. A job whose process ends, of memory or
of a bug in a library, is tried once more and then given up; the others go on.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal, get_args

from avgen.errors import UserError
from avgen.evaluation.run.processes import in_processes

Engine = Literal["process", "pool", "ray"]
ENGINES: tuple[str, ...] = get_args(Engine)
AHEAD = 4  # jobs that Ray has at a time, for each of its processors
PATIENCE_S = 10  # for a cluster to answer; Ray itself tries for minutes

Function = Callable[[Any], str]
Lost = Callable[[Any, str], str]

_ENDED = "the process that read it ended, twice: out of memory, or a bug"


def run(
    engine: Engine, function: Function, jobs: Sequence[Any], workers: int, lost: Lost
) -> Iterator[str]:
    """What `function` returns for each job, as they are done.

    Args:
        engine: "process" is this one; "pool" are `workers` of this machine's; "ray" is the cluster
            that RAY_ADDRESS names, with all its processors, or else one of `workers` processors
            that is started here.
        function: Importable by name, so that other processes find it.
        jobs: What it is called with; they are pickled.
        workers: How many at a time.
        lost: Called here, with the reason, instead, for a job whose process ended twice.

    Raises:
        UserError: Ray is not installed, or its cluster cannot be reached.
    """
    if engine == "ray" and jobs:
        yield from _ray(function, jobs, workers, lost)
    elif engine == "pool" and jobs:
        yield from in_processes(function, jobs, workers, lost)
    else:
        yield from map(function, jobs)


def _ray(function: Function, jobs: Sequence[Any], workers: int, lost: Lost) -> Iterator[str]:
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.exceptions  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("--engine ray needs Ray: pip install 'avgen[ray]'") from error
    started = not ray.is_initialized()
    if started:
        _connect(ray, workers)
    try:
        task = ray.remote(max_retries=1)(function)
        ahead = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        rest, running = iter(jobs), {}
        while True:
            running |= {task.remote(job): job for job in islice(rest, ahead - len(running))}
            if not running:
                return
            (first,), _ = ray.wait(list(running))
            job = running.pop(first)
            try:
                done = ray.get(first)
            except ray.exceptions.RayTaskError:
                raise  # of the function itself
            except ray.exceptions.RayError as error:
                done = lost(job, f"{_ENDED} ({type(error).__name__})")
            yield done
    finally:
        if started:
            ray.shutdown()


def _connect(ray: Any, workers: int) -> None:
    address = os.environ.get("RAY_ADDRESS")
    if address is None:
        ray.init("local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
        return
    try:
        host, colon, port = address.rpartition(":")
        if colon and "://" not in address:
            socket.create_connection((host.strip("[]"), int(port)), PATIENCE_S).close()
        ray.init(address, log_to_driver=False)
    except (OSError, ValueError) as error:
        hint = "a cluster that wants a token is reached with RAY_AUTH_MODE=token"
        raise UserError(
            f"RAY_ADDRESS {address}: no cluster can be reached ({error}); {hint}"
        ) from error
