"""How many times faster than real time `avgen evaluate` is on a folder, and where time goes.

    python benchmarks/evaluate.py CLIPS [--limit 40] [--workers 2] [--metrics NAME ...]

Metrics are those that are taken by default unless named, controls included. Wall time includes
starting processes, loading networks and writing the report. CPU seconds are those of this process
and its children: on a machine that does other work as well, they say what the wall clock cannot.
The shares are of one process alone, profiled, after a first clip has loaded what there is to load.
"""

import argparse
import cProfile
import os
import pstats
import shutil
import tempfile
import time
from pathlib import Path

from avgen.clips.media.read import read_audio, read_clip
from avgen.clips.media.streams import probe
from avgen.evaluation.faces.tracking import CascadeTracker
from avgen.evaluation.report.summarize import write_report
from avgen.evaluation.run.processes import set_up_worker
from avgen.evaluation.run.runner import Request, evaluate, find_videos
from avgen.evaluation.sync import av_align
from avgen.evaluation.sync import features as sync_features
from avgen.evaluation.sync import score as sync

# A stage is the time inside these functions, of which none calls another.
STAGES = {
    "decoding": [read_clip, read_audio],
    "probing": [probe],
    "faces": [CascadeTracker.__call__],
    "mouth's motion": [sync_features.motion],
    "picture's motion, for onsets": [av_align.picture_features],
    "log-mel and its network": [sync.SyncModel.sound_features],
    "lags, z, intervals": [sync.score_features],
    "summary and page": [write_report],
}


def main() -> None:
    """Evaluate twice, once on the clock and once in the profiler, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, help="a folder of clips, GRID's s1 for instance")
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--metrics", nargs="+", default=None)
    args = parser.parse_args()
    found = list(find_videos(args.clips).values())[: args.limit]
    with tempfile.TemporaryDirectory() as folder:
        clips = Path(folder) / "clips"
        clips.mkdir()
        for path in found:
            shutil.copy(path, clips)
        media = sum(length(path) for path in found)
        request = Request(clips, metrics=args.metrics)
        wall, used = time.perf_counter(), cpu_s()
        summary = evaluate(request, Path(folder) / "report", workers=args.workers)
        wall, used = time.perf_counter() - wall, cpu_s() - used
        print(f"{len(found)} clips, metrics {', '.join(summary['run']['protocols'])}")
        print(f"{media:.0f} s of media in {wall:.1f} s: {media / wall:.1f} times real time")
        print(f"{used:.1f} CPU seconds: {media / used:.1f} times real time for each core kept busy")
        shares(request, Path(folder))


def shares(request: Request, folder: Path) -> None:
    """Prints what share of one process's time each stage has."""
    set_up_worker()
    first = next(iter(find_videos(request.clips).values()))
    evaluate(Request(first, metrics=request.metrics), folder / "first")
    profile = cProfile.Profile()
    profile.runcall(evaluate, request, folder / "profiled")
    statistics = pstats.Stats(profile)
    total = statistics.total_tt  # type: ignore[attr-defined]
    left = total
    for name, functions in STAGES.items():
        seconds = sum(inside(statistics, function.__code__) for function in functions)
        left -= seconds
        print(f"{name:32s}{seconds / total:6.1%}")
    print(f"{'everything else':32s}{left / total:6.1%}   of {total:.1f} s, profiled")


def inside(statistics: pstats.Stats, code: object) -> float:
    """Seconds in a function and what it calls."""
    key = (code.co_filename, code.co_firstlineno, code.co_name)  # type: ignore[attr-defined]
    return statistics.stats[key][3] if key in statistics.stats else 0.0  # type: ignore[attr-defined]


def length(path: Path) -> float:
    """Seconds of picture."""
    return float(next(s.duration_s for s in probe(path).streams if s.kind == "video") or 0)


def cpu_s() -> float:
    """CPU seconds of this process and its children so far."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
