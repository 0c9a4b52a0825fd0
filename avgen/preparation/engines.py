"""A function and what to call it with in, done: in this process, in several, or by Ray.

Jobs leave what they make on disk, so results have no order and an engine none to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

from avgen.errors import UserError
from avgen.evaluation.run.processes import in_processes

Engine = Literal["process", "pool", "ray"]
ENGINES: tuple[str, ...] = get_args(Engine)

Function = Callable[[Any], str]


def run(
    engine: Engine,
    function: Function,
    jobs: Sequence[Any],
    workers: int,
    lost: Callable[[Any], str],
) -> Iterator[str]:
    """What `function` says of each job, as they are done.

    Args:
        engine: "process" is this one; "pool" are `workers` of this machine's; "ray" is Ray Data, on
            the cluster that RAY_ADDRESS names, or on this machine.
        function: Importable by name, so that other processes find it.
        jobs: What it is called with; they are pickled.
        workers: How many at a time.
        lost: Called here with a job whose process ended, twice, instead.

    Raises:
        UserError: Ray is not installed.
    """
    if engine == "ray" and jobs:
        yield from _ray(function, jobs, workers)
    elif engine == "pool" and jobs:
        yield from in_processes(function, jobs, workers, lambda job, _: lost(job))
    else:
        yield from map(function, jobs)


def _ray(function: Function, jobs: Sequence[Any], workers: int) -> Iterator[str]:
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.data  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("--engine ray needs Ray: pip install 'avgen[ray]'") from error
    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    try:
        progress = ray.data.DataContext.get_current()
        progress.enable_progress_bars = False
        rows = ray.data.from_items([{"job": job} for job in jobs], override_num_blocks=len(jobs))
        done = rows.map(lambda row: {"done": function(row["job"])}, concurrency=workers)
        for row in done.iter_rows():
            yield row["done"]
    finally:
        if started:
            ray.shutdown()
