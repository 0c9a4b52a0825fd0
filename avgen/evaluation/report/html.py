"""A summary and its rows -> one page that loads nothing: tables, curves, the worst clips.

Videos are linked relative to the page, so that a report moves together with its clips.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from markupsafe import Markup

from avgen.evaluation.measure import Rows
from avgen.evaluation.report.svg import COLOURS, distributions, lag_curves
from avgen.evaluation.report.tables import tables_of
from avgen.evaluation.report.templates import HERE, render
from avgen.evaluation.rows import SETS, results_of, values_of

PLAYABLE = {".mp4", ".m4v", ".webm", ".ogv", ".mov", ".mkv"}
SYNC = (("sync", "z"), ("lse@latentsync", "lse_c"), ("lse@wav2lip", "lse_c"))


def as_html(summary: dict[str, Any], rows: Rows, folder: Path) -> str:
    """The page of a report that lies in `folder`."""
    names = [name for name in summary["run"]["protocols"] if name != "media"]
    return render(
        HERE / "report.html.jinja",
        **tables_of(summary),
        colours=COLOURS,
        drawings=_drawings(summary, rows),
        worst=[_card(row, folder) for row in worst(rows)],
        names=names,
        clips=[_line(row, names, folder) for row in rows],
    )


def worst(rows: Rows, count: int = 8) -> list[dict[str, Any]]:
    """The scored clips whose sound fits worst, by the first sync metric that scored any."""
    for metric, value in SYNC:
        found = values_of(rows, metric, value, "clips")
        if found:
            ids = sorted(found, key=found.__getitem__)[:count]
            by_id = {row["id"]: row for row in rows if row["set"] == "clips"}
            return [by_id[name] for name in ids]
    return []


def _drawings(summary: dict[str, Any], rows: Rows) -> list[tuple[Markup, str]]:
    """The mean lag curve of each metric that has one, and the spread of each value."""
    figures = []
    for name, metric in summary["metrics"].items():
        curves = {group: _mean_curve(rows, name, group) for group in SETS}
        if any(curves.values()):
            caption = f"{name}: mean curve over lags (frames; right: the sound leads)"
            figures.append((lag_curves(curves, caption), caption))
        for value in metric["values"]:
            numbers = {g: list(values_of(rows, name, value, g).values()) for g in SETS}
            caption = f"{name} {value}: every clip, and the median"
            figures.append((distributions(numbers, caption), caption))
    return figures


def _mean_curve(rows: Rows, metric: str, group: str) -> list[float]:
    found = results_of(rows, metric, group).values()
    curves = [values["curve"] for values in found if values.get("curve")]
    return np.mean(curves, axis=0).tolist() if curves else []


def _card(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    path = Path(row["path"])
    results = row["metrics"]
    return {
        "id": row["id"],
        "link": _link(path, folder),
        "playable": path.suffix.lower() in PLAYABLE,
        "suffix": path.suffix,
        "curve": next((c for name in results if (c := _curve(row, name))), ""),
        "words": [
            f"{name}: {result['values']['words']}"
            for name, result in results.items()
            if result.get("values", {}).get("words")
        ],
    }


def _curve(row: dict[str, Any], name: str) -> Markup | None:
    """A clip's lag curve by a metric, and those of its controls."""
    result = row["metrics"][name]
    results = {"clips": result, **result.get("controls", {})}
    curves = {group: one.get("values", {}).get("curve") or [] for group, one in results.items()}
    return lag_curves(curves, f"{name}, {row['id']}") if curves["clips"] else None


def _line(row: dict[str, Any], names: list[str], folder: Path) -> dict[str, Any]:
    """A row as the table of every clip shows it."""
    return {
        "id": row["id"],
        "set": row["set"],
        "link": _link(Path(row["path"]), folder),
        "reason": row.get("reason"),
        "warnings": row["metrics"].get("media", {}).get("values", {}).get("warnings", []),
        "results": [_cell(row["metrics"].get(name)) for name in names],
    }


def _cell(result: dict[str, Any] | None) -> dict[str, str] | None:
    if result is None:
        return None
    values = result.get("values", {})
    numbers = [
        f"{name} {value:.3g}"
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return {
        "reason": result.get("reason", ""),
        "words": values.get("words", ""),
        "numbers": ", ".join(numbers),
    }


def _link(path: Path, folder: Path) -> str:
    place = os.path.relpath(path, folder.resolve()).replace(os.sep, "/")
    return quote(os.fsencode(place))
