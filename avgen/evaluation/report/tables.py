"""A summary -> its tables and sentences, as Markdown and for a terminal."""

from __future__ import annotations

from typing import Any

from avgen.evaluation.report.templates import HERE, interval_text, number_text, render
from avgen.evaluation.rows import SETS

NOTE = (
    "An offset above 0 means that the sound comes before the picture. `mismatched`: the same "
    "clips with another clip's sound. `delayed`: their own sound 5 frames (200 ms) late. "
    "Skill: (x - mismatched) / (real - mismatched), where real is the reference if there is one, "
    "else the clips themselves."
)
ARROWS = {1: " ↑", -1: " ↓", 0: ""}
SCORE_HEADS = ("metric", *SETS, "skill", "skill of delayed", "AUC")
SET_HEADS = (
    "sets",
    "clips / real",
    "Frechet ↓",
    "of real halves",
    "kernel ↓ [95 %]",
    "of real halves",
    "to be known",
)


def as_markdown(summary: dict[str, Any]) -> str:
    """The summary as a page of Markdown."""
    return render(HERE / "summary.md.jinja", **tables_of(summary))


def headlines(summary: dict[str, Any]) -> str:
    """Coverage, and each metric's mean beside its controls, for a terminal."""
    skipped: dict[str, list[str]] = {}
    for name, metric in summary["metrics"].items():
        if metric["skipped"]:
            skipped.setdefault(next(iter(metric["reasons"])), []).append(name)
    values = tables_of(summary)
    sets = (zip(SET_HEADS, line, strict=True) for line in values["sets"])
    return render(
        HERE / "headlines.txt.jinja",
        **values,
        skipped=skipped,
        groups=SETS,
        arrows=ARROWS,
        set_lines=["; ".join(f"{head} {cell}" for head, cell in line if cell) for line in sets],
    ).strip()


def tables_of(summary: dict[str, Any]) -> dict[str, Any]:
    """What every template of a report is given."""
    run = summary["run"]
    return {
        "summary": summary,
        "note": NOTE,
        "score_heads": SCORE_HEADS,
        "scores": _scores(summary),
        "sentences": [
            line for metric in summary["metrics"].values() for line in metric.get("sentences", ())
        ],
        "set_heads": SET_HEADS,
        "sets": _sets(summary),
        "facts": {
            "avgen": run["avgen"],
            "seed": run["seed"],
            **run["versions"],
            **{f"weights {name}, sha256": digest for name, digest in run["weights"].items()},
        },
    }


def _scores(summary: dict[str, Any]) -> list[list[str]]:
    lines = []
    for name, metric in summary["metrics"].items():
        for value, found in metric["values"].items():
            skill = found.get("skill", {})
            unit = f" ({found['unit']})" if found.get("unit") else ""
            own = skill.get("clips") if found.get("real") == "reference" else None
            lines.append(
                [
                    f"{name} {value}{unit}{ARROWS[found['better']]}",
                    *(interval_text(found.get(group)) for group in SETS),
                    *map(number_text, (own, skill.get("delayed"), found.get("auc"))),
                ]
            )
    return lines


def _sets(summary: dict[str, Any]) -> list[list[str]]:
    """A line for each distance of sets, as SET_HEADS names its cells."""
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
                number_text(found["frechet"], 4),
                number_text(found["floor_frechet"], 4),
                f"{found['kernel']:.4g} [{low:.3g}, {high:.3g}]",
                number_text(found["floor_kernel"], 4),
                "; ".join(found["flags"]),
            ]
        )
    return lines
