"""How many times faster than real time `avgen prepare` is on a folder of clips.

    python benchmarks/prepare.py CLIPS [--limit 100] [--workers 2] [--engine pool]

Wall time includes starting processes and loading networks; latents are not made.
CPU seconds are those of this process and its children: on a machine that does other work as well,
they say what the wall clock cannot.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from avgen.preparation import corpus
from avgen.preparation.run import Request, as_text, prepare


def main() -> None:
    """Prepare once, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, help="a folder of clips, GRID's s1 for instance")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--engine", default="pool", choices=["process", "pool", "ray"])
    args = parser.parse_args()
    items = corpus.items("folder", args.clips, limit=args.limit)
    with tempfile.TemporaryDirectory() as folder:
        request = Request(
            "folder", args.clips, Path(folder), engine=args.engine, workers=args.workers
        )
        wall, used = time.perf_counter(), _cpu_s()
        summary = prepare(request, items)
        wall, used = time.perf_counter() - wall, _cpu_s() - used
    print(as_text(summary))
    media = summary.hours[0] * 3600
    print(f"{media:.0f} s of media in {wall:.1f} s: {media / wall:.1f} times real time")
    print(f"{used:.1f} CPU seconds: {media / used:.1f} times real time for each core kept busy")


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
