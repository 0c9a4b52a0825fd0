"""Rows of a run -> what they say together: `summary.json`, `summary.md` and `report.html`.

Every mean has an interval over clips (over speakers if the run says that folders are speakers), the
same mean of both controls and of the reference, and the skill that is left when the control is
taken off: 0 is as good as another clip's sound, 1 is as good as the real clips.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from avgen.clips.files import atomic
from avgen.evaluation.measure import Rows, Value
from avgen.evaluation.report.html import as_html, worst
from avgen.evaluation.report.tables import as_markdown
from avgen.evaluation.rows import SETS, read_rows, read_run, values_of
from avgen.evaluation.run.catalogue import MEASURES
from avgen.evaluation.statistics import area_under_curve, bootstrap_interval, sync_skill


def write_report(folder: Path, wanted: Iterable[tuple[str, str]] | None = None) -> dict[str, Any]:
    """Write the summary and the page of a report's rows.

    Args:
        folder: Of the report, with its rows.
        wanted: (set, id) of the rows that count; None for all.

    Returns:
        The summary.

    Raises:
        UserError: not a report.
    """
    run, rows = read_run(folder), read_rows(folder)
    if wanted is not None:
        keys = set(wanted)
        rows = [row for row in rows if (row["set"], row["id"]) in keys]
    rows.sort(key=lambda row: (row["set"], row["id"]))
    summary = summarize(run, rows)
    _write(folder / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
    _write(folder / "summary.md", as_markdown(summary))
    _write(folder / "report.html", as_html(summary, rows, folder))
    return summary


def _write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")  # names that are no text


def summarize(run: dict[str, Any], rows: Rows) -> dict[str, Any]:
    """What rows say together; `run` is how they were made."""
    groups = ("clips", "reference")
    by_group = {group: [row for row in rows if row["set"] == group] for group in groups}
    return {
        "run": run,
        "coverage": {group: coverage(some) for group, some in by_group.items() if some},
        "faults": faults(rows),
        "metrics": {name: _metric(name, run, rows) for name in run["protocols"]},
        "worst": [row["id"] for row in worst(rows)],
    }


def coverage(rows: Rows) -> dict[str, Any]:
    """How many files were found, scored and not, and why not."""
    failed = [row for row in rows if row["status"] != "scored"]
    return {
        "found": len(rows),
        "scored": len(rows) - len(failed),
        "failed": len(failed),
        "reasons": dict(Counter(row["reason"] for row in failed).most_common()),
    }


def faults(rows: Rows) -> list[dict[str, Any]]:
    """What went wrong through no fault of the files: `id`, `metric`, `reason` and `traceback`."""
    found = []
    for row in rows:
        if row["status"] == "failed" and not row["metrics"]:
            found.append({"id": row["id"], "metric": None, "reason": row["reason"]})
        for name, result in row["metrics"].items():
            results = {name: result} | {
                f"{name}, {control}": one for control, one in result.get("controls", {}).items()
            }
            for title, one in results.items():
                if one["status"] == "failed":
                    found.append({"id": row["id"], "metric": title, "reason": one["reason"]})
                    found[-1]["traceback"] = one.get("traceback", "")
    return [{"traceback": "", **fault} for fault in found]


def _metric(name: str, run: dict[str, Any], rows: Rows) -> dict[str, Any]:
    results = [row["metrics"].get(name) for row in rows if row["set"] == "clips"]
    kept = [result for result in results if result is not None]
    counts = Counter(result["status"] for result in kept)
    reasons = Counter(result["reason"] for result in kept if result["status"] != "scored")
    measure = MEASURES[name]
    alone = "real clips" in measure.needs and not run["request"]["reference"]
    found = measure.combine(rows, run["seed"]) if measure.combine and not alone else {}
    return {
        "protocol": run["protocols"][name],
        **{status: counts[status] for status in ("scored", "unscored", "failed", "skipped")},
        "reasons": dict(reasons.most_common()),
        "values": {
            value: one
            for value, kind in measure.values.items()
            if (one := _value(name, value, kind, run, rows)) is not None
        },
        **{key: one for key, one in found.items() if one},
    }


def _value(
    metric: str, value: str, kind: Value, run: dict[str, Any], rows: Rows
) -> dict[str, Any] | None:
    """A value's mean in each set with its interval, its skill and its AUC."""
    numbers = {group: values_of(rows, metric, value, group) for group in SETS}
    if not numbers["clips"]:
        return None
    better, by_folder = kind.better, run["request"]["speakers_by_folder"]
    found: dict[str, Any] = {"better": better} | ({"unit": kind.unit} if kind.unit else {})
    found |= {
        group: _mean(numbers[group], by_folder, run["seed"]) for group in SETS if numbers[group]
    }
    if better == 0 or not numbers["mismatched"]:
        return found
    real = "reference" if numbers["reference"] else "clips"
    means = {group: found[group]["mean"] for group in SETS if numbers[group]}
    found["real"] = real
    # If real clips score no better than mismatched ones, the metric tells nothing: no skill.
    found["skill"] = {
        group: sync_skill(means[group], means["mismatched"], means[real])
        for group in ("clips", "delayed")
        if group in means and better * (means[real] - means["mismatched"]) > 0
    }
    matched, other = ([better * v for v in numbers[g].values()] for g in ("clips", "mismatched"))
    found["auc"] = area_under_curve(matched, other)
    return found


def _mean(numbers: dict[str, float], by_folder: bool, seed: int) -> dict[str, Any]:
    values = np.array(list(numbers.values()))
    groups = [Path(name).parent.as_posix() for name in numbers] if by_folder else None
    low, high = bootstrap_interval(values, groups=groups, seed=seed)
    return {
        "n": len(values),
        "mean": float(values.mean()),
        "interval": [low, high],
        "median": float(np.median(values)),
    }
