"""A report's files -> its rows and how they were made. Nothing here writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from avgen.errors import UserError
from avgen.evaluation.measure import Rows

ROWS, RUN = "clips.jsonl", "run.json"
SETS = ("clips", "reference", "mismatched", "delayed")


def read_rows(report: Path) -> list[dict[str, Any]]:
    """The rows of a report, without a last line that is still being written or never was finished.

    Raises:
        UserError: a line that is not a row.
    """
    path = report / ROWS
    if not path.is_file():
        return []
    text = path.read_bytes()
    rows = []
    for number, line in enumerate(text[: text.rfind(b"\n") + 1].splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"{path}:{number}: not a row of a report ({error})") from error
    return rows


def read_run(report: Path) -> dict[str, Any]:
    """How the rows of a report were made.

    Raises:
        UserError: not a report.
    """
    path = report / RUN
    if not path.is_file():
        raise UserError(f"{report}: is not a report of avgen evaluate (it has no {RUN})")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from error


def results_of(rows: Rows, metric: str, group: str) -> dict[str, dict[str, Any]]:
    """A metric's values by clip id, of one of SETS."""
    found = {}
    for row in rows:
        if row["set"] != ("reference" if group == "reference" else "clips"):
            continue
        result = row["metrics"].get(metric, {})
        if group in ("mismatched", "delayed"):
            result = result.get("controls", {}).get(group, {})
        found[row["id"]] = result.get("values", {})
    return found


def values_of(rows: Rows, metric: str, value: str, group: str) -> dict[str, float]:
    """One value of a metric by clip id, of the clips that have it, in one of SETS."""
    found = results_of(rows, metric, group)
    return {name: float(v[value]) for name, v in found.items() if v.get(value) is not None}
