"""A summary and its rows in, one page out that loads nothing: tables, curves, the worst clips.

Videos are linked relative to the page, so that a report moves together with its clips.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from avgen.evaluation.report.summary_of_rows import (
    NOTE,
    SETS,
    Rows,
    arrow,
    interval_text,
    number_text,
    results_of,
    sentences_together,
    values_of,
    worst,
)
from avgen.evaluation.report.svg import COLOURS, distributions, lag_curves
from avgen.evaluation.run.set_measures import TABLE_HEADS, table_of_sets

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
  color: #1f2328; background: #fff }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #d8dee4; padding: .25rem .7rem; text-align: left;
  vertical-align: top; font-variant-numeric: tabular-nums }
th { background: #f6f8fa; font-weight: 600 }
.cards { display: flex; flex-wrap: wrap; gap: 1rem }
figure { margin: 0; max-width: 320px } figcaption { font-size: 13px; overflow-wrap: anywhere }
video { width: 320px; background: #000 } svg text { font: 10px sans-serif; fill: #57606a }
.bad { color: #cf222e } .faint { color: #57606a; font-size: 13px }
i.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em }
"""
PLAYABLE = {".mp4", ".m4v", ".webm", ".ogv", ".mov", ".mkv"}


def as_html(summary: dict[str, Any], rows: Rows, folder: Path) -> str:
    """The page of a report that lies in `folder`."""
    run = summary["run"]
    body = [
        f"<h1>avgen evaluate</h1><p>{escape(run['request']['clips'])}</p>",
        f"<p class=faint>{escape(NOTE)}</p>",
        _coverage(summary),
        "<h2>Scores</h2>",
        _scores(summary),
        *(f"<p>{escape(line)}</p>" for line in sentences_together(summary)),
        _sets(summary),
        _drawings(summary, rows),
        _worst_clips(rows, folder),
        "<h2>Every clip</h2>",
        _every_clip(rows, list(run["protocols"]), folder),
        "<h2>How</h2>",
        _how(summary),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>avgen evaluate</title><style>{STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    head = "".join(f"<th>{cell}</th>" for cell in heads)
    rows = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in line) + "</tr>" for line in lines)
    return f"<table><tr>{head}</tr>{rows}</table>"


def _coverage(summary: dict[str, Any]) -> str:
    lines = []
    for group, counts in summary["coverage"].items():
        why = "<br>".join(f"{n} &times; {escape(text)}" for text, n in counts["reasons"].items())
        numbers = [str(counts[name]) for name in ("found", "scored", "failed")]
        lines.append([group, *numbers, why or "&ndash;"])
    return "<h2>Coverage</h2>" + _table(["", "found", "scored", "not", "why not"], lines)


def _scores(summary: dict[str, Any]) -> str:
    lines = []
    for name, metric in summary["metrics"].items():
        for value, found in metric["values"].items():
            skill = found.get("skill", {})
            lines.append(
                [
                    f"{escape(name)} <b>{escape(value)}</b>{arrow(found['better'])}",
                    *(escape(interval_text(found.get(group))) for group in SETS),
                    number_text(skill.get("clips")) if found.get("real") == "reference" else "-",
                    number_text(skill.get("delayed")),
                    number_text(found.get("auc")),
                ]
            )
    heads = ["metric", *SETS, "skill of clips", "skill of delayed", "AUC against mismatched"]
    return _table(heads, lines) if lines else "<p class=bad>Nothing was scored.</p>"


def _sets(summary: dict[str, Any]) -> str:
    """Distances of sets, where there are any."""
    lines = [[escape(cell) for cell in cells] for cells in table_of_sets(summary)]
    return "<h2>Sets against sets</h2>" + _table(TABLE_HEADS, lines) if lines else ""


def _drawings(summary: dict[str, Any], rows: Rows) -> str:
    """The mean lag curve of each metric that has one, and the spread of each value."""
    figures = []
    for name, metric in summary["metrics"].items():
        curves = {group: _mean_curve(rows, name, group) for group in SETS}
        curves = {group: curve for group, curve in curves.items() if curve}
        if curves:
            drawing = lag_curves(curves, f"{name}: lag in frames, right: the sound leads")
            figures.append((drawing, f"{name}: mean curve over lags (frames; right: sound leads)"))
        for value in metric["values"]:
            numbers = {g: list(values_of(rows, name, value, g).values()) for g in SETS}
            drawing = distributions(numbers, f"{name} {value}")
            figures.append((drawing, f"{name} {value}: every clip, and the median"))
    if not figures:
        return ""
    key = "".join(f'<i class=key style="background:{c}"></i>{g}' for g, c in COLOURS.items())
    cards = "".join(f"<figure>{d}<figcaption>{escape(t)}</figcaption></figure>" for d, t in figures)
    return f"<h2>Curves and distributions</h2><p>{key}</p><div class=cards>{cards}</div>"


def _mean_curve(rows: Rows, metric: str, group: str) -> list[float]:
    found = results_of(rows, metric, group).values()
    curves = [values["curve"] for values in found if values.get("curve")]
    return np.mean(curves, axis=0).tolist() if curves else []


def _worst_clips(rows: Rows, folder: Path) -> str:
    cards = []
    for row in worst(rows):
        path = Path(row["path"])
        link = _link(path, folder)
        media = f'<video controls preload="metadata" src="{link}"></video>'
        if path.suffix.lower() not in PLAYABLE:
            media = f'<p><a href="{link}">open</a>: browsers do not play {escape(path.suffix)}</p>'
        said = "<br>".join(
            f"{escape(name)}: {escape(str(result['values']['words']))}"
            for name, result in row["metrics"].items()
            if result.get("values", {}).get("words")
        )
        cards.append(
            f"<figure>{media}{_curve_of(row)}<figcaption><b>{escape(row['id'])}</b><br>{said}"
            "</figcaption></figure>"
        )
    return f"<h2>Worst clips</h2><div class=cards>{''.join(cards)}</div>" if cards else ""


def _curve_of(row: dict[str, Any]) -> str:
    """A clip's first lag curve and those of its controls."""
    for name, result in row["metrics"].items():
        own = result.get("values", {}).get("curve")
        if own:
            controls = result.get("controls", {})
            curves = {"clips": own} | {
                group: controls[group]["values"]["curve"]
                for group in ("mismatched", "delayed")
                if controls.get(group, {}).get("values", {}).get("curve")
            }
            return lag_curves(curves, f"{name}, {row['id']}".replace('"', "'"))
    return ""


def _every_clip(rows: Rows, names: Sequence[str], folder: Path) -> str:
    lines = []
    for row in rows:
        link = f'<a href="{_link(Path(row["path"]), folder)}">{escape(row["id"])}</a>'
        notes = row["metrics"].get("media", {}).get("values", {}).get("warnings", [])
        cells = [_result(row["metrics"].get(name)) for name in names if name != "media"]
        reason = f"<span class=bad>{escape(row['reason'])}</span>" if row.get("reason") else ""
        lines.append([link, row["set"], reason + "<br>".join(map(escape, notes)), *cells])
    shown = [escape(name) for name in names if name != "media"]
    return _table(["clip", "set", "file", *shown], lines)


def _result(result: dict[str, Any] | None) -> str:
    if result is None:
        return "&ndash;"
    if result["status"] != "scored":
        return f"<span class=faint>{escape(result['reason'])}</span>"
    numbers = [
        f"{escape(name)} {value:.3g}"
        for name, value in result["values"].items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    words = escape(result["values"].get("words", ""))
    return f"{words}<div class=faint>{', '.join(numbers)}</div>"


def _how(summary: dict[str, Any]) -> str:
    run = summary["run"]
    lines = []
    for name, metric in summary["metrics"].items():
        why = "<br>".join(f"{n} &times; {escape(text)}" for text, n in metric["reasons"].items())
        counts = [str(metric[key]) for key in ("scored", "unscored", "failed", "skipped")]
        lines.append([escape(name), escape(metric["protocol"]), *counts, why])
    table = _table(
        ["metric", "protocol", "scored", "unscored", "failed", "skipped", "why not"], lines
    )
    facts = {"avgen": run["avgen"], "seed": run["seed"], **run["versions"]}
    facts |= {f"weights {name}, sha256": digest for name, digest in run["weights"].items()}
    return table + _table(["", ""], [[escape(str(k)), escape(str(v))] for k, v in facts.items()])


def _link(path: Path, folder: Path) -> str:
    place = os.path.relpath(path, folder.resolve()).replace(os.sep, "/")
    return escape(quote(os.fsencode(place)))
