"""Sets against sets, as `avgen evaluate` takes them: a clip's features in its row, then distances.

Features are worked out clip by clip and kept in the rows, as every metric's values are, so that a
run that was stopped goes on, and two reports can be compared without their clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avgen.evaluation.comparison.extractors import OWN, SCRIPTED, features, protocol
from avgen.evaluation.subject import Subject, Unscored

PREFIX = "fd@"
NAMES = tuple(PREFIX + name for name in (*OWN, *SCRIPTED))
DIGITS = 7  # of a feature in a row


@dataclass(frozen=True)
class SetFeatures:
    """A clip's features by an extractor, as a row holds them."""

    name: str

    def protocol(self) -> str:
        """Id with version."""
        return protocol(self.name)

    def __call__(self, subject: Subject, weights: dict[str, Path]) -> dict[str, Any]:
        """The clip's values: `features`, numbers in a list."""
        found = features(self.name, subject, weights)
        return {
            "num_features": len(found),
            "features": [float(f"{value:.{DIGITS}g}") for value in found],
        }


def features_of(rows: Sequence[dict[str, Any]], metric: str, group: str) -> dict[str, list[float]]:
    """The features of "clips" or of "reference" by the clip's id; of scored clips."""
    found = {}
    for row in rows:
        values = row["metrics"].get(metric, {}).get("values", {})
        if row["set"] == group and values.get("features"):
            found[row["id"]] = values["features"]
    return found


def distance_of_rows(rows: Sequence[dict[str, Any]], metric: str, seed: int) -> dict[str, Any]:
    """How far the clips are from the references: `distributions.SetDistance`'s fields.

    Where there is no distance, `reason` says why and nothing else is there.
    """
    from avgen.evaluation.comparison.distributions import compare_sets

    sets = [list(features_of(rows, metric, group).values()) for group in ("reference", "clips")]
    if not all(sets):
        return {"reason": "no features of one of the two sets"}
    try:
        real, made = (np.array(one, np.float64) for one in sets)
        return asdict(compare_sets(real, made, seed))
    except (Unscored, ValueError) as reason:
        return {"reason": str(reason)}


def table_of_sets(summary: dict[str, Any]) -> list[list[str]]:
    """A line of cells for each distance of sets that was worked out, as TABLE_HEADS names them."""
    lines = []
    for name, metric in summary["metrics"].items():
        found = metric.get("sets")
        if not found:
            continue
        if "reason" in found:
            lines.append([name, *["-"] * 5, found["reason"]])
            continue
        low, high = found["kernel_interval"]
        lines.append(
            [
                name,
                f"{found['num_made']} / {found['num_real']}",
                f"{found['frechet']:.4g}",
                _number(found["floor_frechet"]),
                f"{found['kernel']:.4g} [{low:.3g}, {high:.3g}]",
                _number(found["floor_kernel"]),
                "; ".join(found["flags"]),
            ]
        )
    return lines


TABLE_HEADS = (
    "sets",
    "clips / real",
    "Frechet ↓",
    "of real halves",
    "kernel ↓ [95 %]",
    "of real halves",
    "to be known",
)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def compared(first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]], metric: str) -> Any:
    """The distances of two reports' clips from one and the same set of references.

    Returns:
        `first` and `second`, each as `distance_of_rows` has it, or `reason`; None where neither
        report has features.
    """
    real = [features_of(rows, metric, "reference") for rows in (first, second)]
    if not any(real):
        return None
    if real[0] != real[1]:
        return {"reason": "measured against unlike references: their distances do not compare"}
    return {
        name: distance_of_rows(rows, metric, 0)
        for name, rows in (("first", first), ("second", second))
    }
