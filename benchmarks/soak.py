"""Hundreds of mixed files, good and bad, through `prepare` and `evaluate` in one run each.

    python benchmarks/soak.py --files 500 --seed 1 FILE or FOLDER ...

Clips are made in every container and codec that avgen reads, most of them damaged (fuzz_media.py),
and real files are named and damaged likewise. Printed: how many rows and records there are for how
many files, and the memory of the run, its processes together, at each tenth of its way.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av.error
import av.logging
import numpy as np
import psutil
from fuzz_media import SPOIL, STILLS, sources, spoil_bytes


def fill(folder: Path, count: int, seed: int, real: list[Path]) -> None:
    """Write `count` videos to a folder: one in three whole, the others damaged."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        found = sources(Path(name), real)
        whole = [
            s for s in found if not s.path.suffix.lower().endswith(STILLS) and "frames" in s.seen
        ]
        for number in range(count):
            source = whole[number % len(whole)]
            data = source.data
            if number // len(whole) % 3:
                try:
                    data = SPOIL[int(rng.integers(len(SPOIL)))](rng, source).data
                except (ArithmeticError, OSError, ValueError):
                    data = spoil_bytes(rng, source).data
            suffix = ".mp4" if source.path.suffix == ".h264" else source.path.suffix
            (folder / f"{number:04d}-{source.path.stem}{suffix}").write_bytes(data)


def watch(command: list[str], done: Callable[[], int], count: int) -> tuple[int, list[int]]:
    """Run a command: its exit code, and the most MiB that it took in each tenth of its work."""
    tenths = [0] * 10
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        while process.poll() is None:
            taken = 0
            for one in [process, *process.children(recursive=True)]:
                try:
                    taken += one.memory_info().rss
                except psutil.Error:  # it has just ended
                    continue
            tenth = min(9, 10 * done() // count)
            tenths[tenth] = max(tenths[tenth], taken >> 20)
            time.sleep(0.2)
        said.seek(0)
        if process.returncode:
            print(said.read()[-300:])
    return process.returncode, tenths


def main() -> int:
    """Make the files, run both commands over them, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real", nargs="*", type=Path, help="real files, or folders of them")
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--metrics", nargs="+", default=["media", "sync"])
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    av.logging.set_level(None)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        clips, report, out = root / "clips", root / "report", root / "out"
        clips.mkdir()
        fill(clips, args.files, args.seed, args.real)
        rows = report / "clips.jsonl"

        def evaluated() -> int:
            return rows.read_bytes().count(b"\n") if rows.is_file() else 0

        def prepared() -> int:
            return sum(1 for _ in (out / "outcomes").glob("*.json"))

        avgen = [sys.executable, "-m", "avgen.cli"]
        evaluate = ["evaluate", str(clips), "-o", str(report), "--metrics", *args.metrics]
        prepare = ["prepare", "folder", str(clips), str(out), "--min-s", "0.5"]
        for command, done in ((evaluate, evaluated), (prepare, prepared)):
            began = time.monotonic()
            code, tenths = watch([*avgen, *command], done, args.files)
            print(f"{command[0]}: exit {code}, {time.monotonic() - began:.0f} s, {done()} of")
            print(
                f"  {args.files} files have a row or a record; MiB by tenth: {tenths}", flush=True
            )
        kept = [json.loads(line) for line in rows.read_text().splitlines()]
        print("rows with a reason:", Counter(bool(row.get("reason")) for row in kept))
    return 0


if __name__ == "__main__":
    sys.exit(main())
