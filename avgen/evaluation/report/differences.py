"""Two reports -> by how much the one's clips score higher than the other's, with intervals.

Clips are paired by their place in their folders, so that what is easy or hard about a clip cancels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from avgen.errors import UserError
from avgen.evaluation.comparison.extractors import distances_of_two
from avgen.evaluation.rows import read_rows, read_run, values_of
from avgen.evaluation.run.catalogue import MEASURES
from avgen.evaluation.statistics import paired_difference

SAME = ("protocols", "weights", "delay_frames")


def compare(first: Path, second: Path) -> dict[str, Any]:
    """Paired differences, `second` less `first`, of every value that both reports have.

    Returns:
        `pairs` and what is only in one of the two; for each metric and value `n`, `first`,
        `second`, `difference`, its 95 % `interval` and `better`: "first", "second", or None where
        the interval holds 0 or neither way is better. `sets` has both reports' distances from one
        set of references, which are not of pairs: their intervals say what can be told apart.

    Raises:
        UserError: not reports, unlike protocols or weights, or no clip in both.
    """
    runs, rows = (read_run(first), read_run(second)), (read_rows(first), read_rows(second))
    _require_alike(first, second, *runs)
    ids = [{row["id"]: row for row in some if row["set"] == "clips"} for some in rows]
    keys = [_keys(list(some)) for some in ids]
    shared = sorted(keys[0].keys() & keys[1].keys())
    if not shared:
        raise UserError(f"{first} and {second} have no clip of the same name")
    by_folder = all(run["request"]["speakers_by_folder"] for run in runs)
    metrics: dict[str, dict[str, Any]] = {}
    sets = {
        name: found
        for name in runs[0]["protocols"]
        if (found := distances_of_two(*rows, name)) is not None
    }
    for metric in runs[0]["protocols"]:
        for value, kind in MEASURES[metric].values.items():
            one, other = (values_of(some, metric, value, "clips") for some in rows)
            pairs = [
                (key, one[keys[0][key]], other[keys[1][key]])
                for key in shared
                if keys[0][key] in one and keys[1][key] in other
            ]
            if pairs:
                metrics.setdefault(metric, {})[value] = _paired(pairs, kind.better, by_folder)
    return {
        "first": str(first),
        "second": str(second),
        "pairs": len(shared),
        "only_in_first": sorted(keys[0].keys() - keys[1].keys()),
        "only_in_second": sorted(keys[1].keys() - keys[0].keys()),
        "protocols": runs[0]["protocols"],
        "metrics": metrics,
        "sets": sets,
    }


def _keys(ids: list[str]) -> dict[str, str]:
    """Each id by itself without its suffix: a.mp4 and a.mkv are one clip."""
    return {Path(name).with_suffix("").as_posix(): name for name in ids}


def _require_alike(first: Path, second: Path, one: dict[str, Any], other: dict[str, Any]) -> None:
    for name in SAME:
        if one.get(name) != other.get(name):
            raise UserError(
                f"{first} and {second}: unlike {name} ({_unlike(one.get(name), other.get(name))}); "
                "evaluate both in the same way to compare them"
            )


def _unlike(one: Any, other: Any) -> str:
    """Where two settings differ, by key where they have keys."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return f"{one} and {other}"
    keys = [key for key in sorted({*one, *other}) if one.get(key) != other.get(key)]
    return "; ".join(f"{key}: {one.get(key)} and {other.get(key)}" for key in keys)


def _paired(pairs: list[tuple[str, float, float]], better: int, by_folder: bool) -> dict[str, Any]:
    one, other = (np.array([pair[place] for pair in pairs]) for place in (1, 2))
    groups = [Path(key).parent.as_posix() for key, _, _ in pairs] if by_folder else None
    found = paired_difference(one, other, groups)
    low, high = found.interval
    winner = None
    if better and low is not None and high is not None and (low > 0 or high < 0):
        winner = "second" if (low > 0) == (better > 0) else "first"
    return {
        "n": found.num_pairs,
        "first": float(one.mean()),
        "second": float(other.mean()),
        "difference": found.mean,
        "interval": [low, high],
        "better": winner,
    }


def as_text(found: dict[str, Any]) -> str:
    """The comparison as a table for a terminal."""
    lines = [
        f"first:  {found['first']}",
        f"second: {found['second']}",
        f"{found['pairs']} clips in both; {len(found['only_in_first'])} only in the first, "
        f"{len(found['only_in_second'])} only in the second",
        "",
        f"{'metric':<34}{'n':>5}{'first':>10}{'second':>10}  second - first [95 %]",
    ]
    for metric, values in found["metrics"].items():
        for value, one in values.items():
            low, high = one["interval"]
            ends = "too few for an interval" if low is None else f"{low:+.3g}, {high:+.3g}"
            said = f"  {one['better']} is better" if one["better"] else ""
            lines.append(
                f"{metric + ' ' + value:<34}{one['n']:>5}{one['first']:>10.3g}"
                f"{one['second']:>10.3g}  {one['difference']:+.3g} [{ends}]{said}"
            )
    for metric, both in found["sets"].items():
        if "reason" in both:
            lines.append(f"{metric}: {both['reason']}")
            continue
        for name in ("first", "second"):
            lines.append(f"{metric} {name}: {_distance(both[name])}")
    return "\n".join(lines)


def _distance(found: dict[str, Any]) -> str:
    if "reason" in found:
        return found["reason"]
    low, high = found["kernel_interval"]
    return f"Frechet {found['frechet']:.4g}, kernel {found['kernel']:.4g} [{low:.3g}, {high:.3g}]"
