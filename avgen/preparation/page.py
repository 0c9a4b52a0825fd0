"""Outcomes in, one page out that loads nothing: the table, histograms, thumbnails."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from avgen.evaluation.report.templates import render
from avgen.preparation.outcome import REASONS, Outcome
from avgen.preparation.store import Store
from avgen.preparation.summary import Summary, as_text

TEMPLATE = Path(__file__).with_name("page.html.jinja")
MAX_THUMBNAILS = 48  # of each kind, evenly over the corpus
BINS = 24
WIDTH, HEIGHT, BOTTOM = 300, 110, 16  # of a histogram, in pixels
SHOWN = (
    ("seconds", "length of a clip, s"),
    ("fit", "best correlation of mouth and sound"),
    ("offset_ms", "offset found, ms (above 0: the sound comes first)"),
    ("snr_db", "speech over the quietest tenth, dB"),
    ("level_db", "level of the speech, dB of full scale"),
    ("face_px", "width of the face, pixels of the source"),
    ("sharpness", "finest detail, share of the face's contrast"),
    ("dnsmos", "DNSMOS"),
)


def as_html(
    summary: Summary, outcomes: Sequence[Outcome], store: Store, fps: Fraction | None
) -> str:
    """The page of a folder of `fps` frames a second."""
    kept = [clip for outcome in outcomes for clip in outcome.kept]
    values = {name: [k.measures[name] for k in kept if name in k.measures] for name, _ in SHOWN}
    values["seconds"] = [clip.seconds(fps) for clip in kept]
    return render(
        TEMPLATE,
        text=as_text(summary),
        licences=[
            (licence, count, f"{hours:.2f}")
            for licence, (count, hours) in sorted(summary.licences.items())
        ],
        drawings=[(label, histogram(values[name], label)) for name, label in SHOWN if values[name]],
        kept=_thumbnails([(clip.record.id, clip.record.id) for clip in kept], store),
        left_out=[_left_out(reason, outcomes, store) for reason in summary.pieces],
    )


def histogram(values: Sequence[float], label: str) -> Markup:
    """A drawing of how values are spread, as SVG."""
    counts, edges = np.histogram(values, BINS)
    step, room = WIDTH / BINS, HEIGHT - BOTTOM
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{room * (1 - n / counts.max()):.1f}" '
        f'width="{step - 1:.1f}" height="{room * n / counts.max():.1f}">'
        f"<title>{edges[i]:.3g} to {edges[i + 1]:.3g}: {n}</title></rect>"
        for i, n in enumerate(counts)
    )
    ends = (
        f'<text x="0" y="{HEIGHT - 3}">{edges[0]:.3g}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT - 3}" text-anchor="end">{edges[-1]:.3g}</text>'
    )
    return Markup(
        '<svg viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img" aria-label="{2}">'
        '<g fill="#1f6feb">{3}</g>{4}</svg>'
    ).format(WIDTH, HEIGHT, label, Markup(bars), Markup(ends))


def _left_out(reason: str, outcomes: Sequence[Outcome], store: Store) -> dict[str, Any]:
    """All pieces of one reason."""
    found = [(o.id, drop) for o in outcomes for drop in o.dropped if drop.reason == reason]
    seen = [(drop.thumbnail, name) for name, drop in found if drop.thumbnail]
    return {
        "name": reason,
        "meaning": REASONS[reason],
        "pictures": _thumbnails(seen, store),
        "lines": [(name, _times(drop.span), drop.detail) for name, drop in found],
        "tracebacks": [drop.traceback for _, drop in found if drop.traceback],
    }


def _times(span: tuple[float, float] | None) -> str:
    return "" if span is None else f"{span[0]:.2f}\N{EN DASH}{span[1]:.2f}"


def _thumbnails(pictures: Sequence[tuple[str, str]], store: Store) -> list[tuple[str, str]]:
    """Some of (name of the thumbnail, what to write below), the first as base64."""
    step = max(1, -(-len(pictures) // MAX_THUMBNAILS))
    return [
        (base64.b64encode(store.thumbnail(name).read_bytes()).decode(), text)
        for name, text in pictures[::step]
        if store.thumbnail(name).is_file()
    ]
