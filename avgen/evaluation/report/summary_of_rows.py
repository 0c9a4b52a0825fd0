"""Rows of a run in, what they say together out: `summary.json`, `summary.md` and `report.html`.

Every mean has an interval over clips (over speakers where the run says that folders are speakers),
the same mean of both controls and of the reference, and the skill that is left when the control is
taken off: 0 is as good as another clip's sound, 1 is as good as the real clips.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from avgen.clips.files import atomic
from avgen.evaluation.run.measures import measures
from avgen.evaluation.run.set_measures import TABLE_HEADS, distance_of_rows, table_of_sets
from avgen.evaluation.statistics import area_under_curve, bootstrap_interval, sync_skill

SETS = ("clips", "reference", "mismatched", "delayed")
Rows = Sequence[dict[str, Any]]
NOTE = (
    "An offset above 0 means that the sound comes before the picture. `mismatched`: the same "
    "clips with another clip's sound. `delayed`: their own sound 5 frames (200 ms) late. "
    "Skill: (x - mismatched) / (real - mismatched), where real is the reference if there is one, "
    "else the clips themselves."
)


def write_report(folder: Path, wanted: Iterable[tuple[str, str]] | None = None) -> dict[str, Any]:
    """Write the summary and the page of a report's rows.

    Args:
        folder: of the report, with its rows.
        wanted: (set, id) of the rows that count; None for all.

    Returns:
        The summary.

    Raises:
        UserError: not a report.
    """
    from avgen.evaluation.report.html import as_html
    from avgen.evaluation.run.runner import read_rows, read_run

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
    names = list(run["protocols"])
    return {
        "run": run,
        "coverage": {
            group: coverage([row for row in rows if row["set"] == group])
            for group in ("clips", "reference")
            if any(row["set"] == group for row in rows)
        },
        "metrics": {name: _metric(name, run, rows) for name in names},
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


def values_of(rows: Rows, metric: str, value: str, group: str) -> dict[str, float]:
    """A metric's value by the clip's id, of "clips", "reference", "mismatched" or "delayed"."""
    found = results_of(rows, metric, group)
    return {name: float(v[value]) for name, v in found.items() if v.get(value) is not None}


def results_of(rows: Rows, metric: str, group: str) -> dict[str, dict[str, Any]]:
    """All of a metric's values by the clip's id, of the same four."""
    found = {}
    for row in rows:
        if row["set"] != ("reference" if group == "reference" else "clips"):
            continue
        result = row["metrics"].get(metric, {})
        if group in ("mismatched", "delayed"):
            result = result.get("controls", {}).get(group, {})
        found[row["id"]] = result.get("values", {})
    return found


def worst(rows: Rows, count: int = 8) -> list[dict[str, Any]]:
    """The scored clips whose sound fits worst, by the first sync metric that scored any."""
    for metric, value in (("sync", "z"), ("lse@latentsync", "lse_c"), ("lse@wav2lip", "lse_c")):
        found = values_of(rows, metric, value, "clips")
        if found:
            ids = sorted(found, key=found.__getitem__)[:count]
            by_id = {row["id"]: row for row in rows if row["set"] == "clips"}
            return [by_id[name] for name in ids]
    return []


def _metric(name: str, run: dict[str, Any], rows: Rows) -> dict[str, Any]:
    results = [row["metrics"].get(name) for row in rows if row["set"] == "clips"]
    kept = [result for result in results if result is not None]
    counts = Counter(result["status"] for result in kept)
    reasons = Counter(result["reason"] for result in kept if result["status"] != "scored")
    return {
        "protocol": run["protocols"][name],
        "scored": counts["scored"],
        "unscored": counts["unscored"],
        "failed": counts["failed"],
        "skipped": counts["skipped"],
        "reasons": dict(reasons.most_common()),
        "values": {
            value: found
            for value, better in measures()[name].better.items()
            if (found := _value(name, value, better, run, rows)) is not None
        },
        **_together(name, run, rows),
    }


def _together(name: str, run: dict[str, Any], rows: Rows) -> dict[str, Any]:
    """What only all clips together have: a distance of sets, or the error rate of all words."""
    if measures()[name].in_sets:
        if not run["request"]["reference"]:
            return {}
        return {"sets": distance_of_rows(rows, name, run["seed"])}
    if name == "landmark_sync":
        one, other = (values_of(rows, n, "offset_frames", "clips") for n in ("sync", name))
        apart = [abs(one[clip] - other[clip]) for clip in one.keys() & other.keys()]
        if not apart:
            return {}
        return {"beside_sync": {"n": len(apart), "within_one_frame": sum(a <= 1 for a in apart)}}
    if name != "wer":
        return {}
    found = {}
    for group in SETS:
        errors, words = (
            sum(values_of(rows, name, value, group).values())
            for value in ("num_errors", "num_words")
        )
        if words:
            found[group] = errors / words
    return {"rate_of_all_words": found}


def sentences_together(summary: dict[str, Any]) -> list[str]:
    """The same as sentences, where there are any."""
    lines = []
    for name, metric in summary["metrics"].items():
        if found := metric.get("beside_sync"):
            lines.append(
                f"{name} and sync put the sound within one frame of each other in "
                f"{found['within_one_frame']} of {found['n']} clips."
            )
        if found := metric.get("rate_of_all_words"):
            rates = ", ".join(f"{group} {rate:.3g}" for group, rate in found.items())
            lines.append(f"{name}: errors over all words: {rates}.")
    return lines


def _value(
    metric: str, value: str, better: int, run: dict[str, Any], rows: Rows
) -> dict[str, Any] | None:
    """A value's mean in each set with its interval, its skill and its AUC."""
    numbers = {group: values_of(rows, metric, value, group) for group in SETS}
    if not numbers["clips"]:
        return None
    by_folder = run["request"]["speakers_by_folder"]
    found: dict[str, Any] = {"better": better}
    found |= {
        group: _mean(numbers[group], by_folder, run["seed"]) for group in SETS if numbers[group]
    }
    if better == 0 or not numbers["mismatched"]:
        return found
    real = "reference" if numbers["reference"] else "clips"
    means = {group: found[group]["mean"] for group in SETS if numbers[group]}
    found["real"] = real
    # Where real clips score no better than mismatched ones, the metric tells nothing: no skill.
    found["skill"] = {
        group: sync_skill(means[group], means["mismatched"], means[real])
        for group in ("clips", "delayed")
        if group in means and better * (means[real] - means["mismatched"]) > 0
    }
    matched, other = ([better * v for v in numbers[g].values()] for g in ("clips", "mismatched"))
    found["auc"] = area_under_curve(matched, other)
    return found


def _mean(numbers: dict[str, float], by_folder: bool, seed: int) -> dict[str, Any]:
    import numpy as np

    values = np.array(list(numbers.values()))
    groups = [Path(name).parent.as_posix() for name in numbers] if by_folder else None
    low, high = bootstrap_interval(values, groups=groups, seed=seed)
    return {
        "n": len(values),
        "mean": float(values.mean()),
        "interval": [low, high],
        "median": float(np.median(values)),
    }


def as_markdown(summary: dict[str, Any]) -> str:
    """The summary as a page of Markdown."""
    lines = ["# avgen evaluate", "", NOTE, ""]
    for group, counts in summary["coverage"].items():
        lines.append(
            f"**{group}**: {counts['found']} found, {counts['scored']} scored, "
            f"{counts['failed']} not."
        )
        lines += ["", *(f"- {n} x {_cell(why)}" for why, n in counts["reasons"].items()), ""]
    lines += [
        "| metric | clips | reference | mismatched | delayed | skill | AUC |",
        "|-|-|-|-|-|-|-|",
    ]
    for name, metric in summary["metrics"].items():
        for value, found in metric["values"].items():
            cells = [interval_text(found.get(group)) for group in SETS]
            skill = (
                found.get("skill", {}).get("clips") if found.get("real") == "reference" else None
            )
            cells += [number_text(skill), number_text(found.get("auc"))]
            lines.append(f"| {name} {value}{arrow(found['better'])} | {' | '.join(cells)} |")
    lines += ["", *sentences_together(summary)]
    sets = table_of_sets(summary)
    if sets:
        lines += ["", f"| {' | '.join(TABLE_HEADS)} |", "|-" * len(TABLE_HEADS) + "|"]
        lines += [f"| {' | '.join(_cell(cell) for cell in cells)} |" for cells in sets]
    lines += ["", "| protocol | scored | not | why not |", "|-|-|-|-|"]
    for metric in summary["metrics"].values():
        missing = metric["unscored"] + metric["failed"] + metric["skipped"]
        why = "; ".join(f"{n} x {_cell(reason)}" for reason, n in metric["reasons"].items())
        lines.append(f"| {metric['protocol']} | {metric['scored']} | {missing} | {why} |")
    run = summary["run"]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    lines += ["", f"avgen {run['avgen']}; seed {run['seed']}; {versions}."]
    lines += [f"Weights {name}: sha256 {digest}." for name, digest in run["weights"].items()]
    return "\n".join(lines) + "\n"


def interval_text(found: dict[str, Any] | None) -> str:
    """Mean, interval and number of clips as 0.42 [0.38, 0.47] (n 10), or a dash."""
    if found is None:
        return "-"
    low, high = found["interval"]
    ends = "no interval" if low is None else f"{low:.3g}, {high:.3g}"
    return f"{found['mean']:.3g} [{ends}] (n {found['n']})"


def number_text(value: float | None) -> str:
    """Three digits, or a dash."""
    return "-" if value is None else f"{value:.3g}"


def arrow(better: int) -> str:
    """Which way is better."""
    return {1: " ↑", -1: " ↓", 0: ""}[better]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
