"""Outcomes in, one page out that loads nothing: the table, histograms, thumbnails."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import numpy as np

from avgen.preparation.outcome import REASONS, Outcome
from avgen.preparation.store import Store
from avgen.preparation.summary import Summary, as_text

MAX_THUMBNAILS = 48  # of each kind, evenly over the corpus
BINS = 24
WIDTH, HEIGHT, BOTTOM = 300, 110, 16  # of a histogram, in pixels
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
  color: #1f2328; background: #fff }
pre { background: #f6f8fa; padding: .8rem; overflow-x: auto }
table { border-collapse: collapse } th, td { border-bottom: 1px solid #d8dee4;
  padding: .2rem .7rem; text-align: left; vertical-align: top }
.cards { display: flex; flex-wrap: wrap; gap: .8rem }
figure { margin: 0; max-width: 300px } figcaption { font-size: 12px; overflow-wrap: anywhere }
.small figure { max-width: 110px } svg text { font: 10px sans-serif; fill: #57606a }
"""
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


def as_html(summary: Summary, outcomes: Sequence[Outcome], store: Store, fps: float) -> str:
    """The page."""
    kept = [clip for outcome in outcomes for clip in outcome.kept]
    values = {name: [k.measures[name] for k in kept if name in k.measures] for name, _ in SHOWN}
    values["seconds"] = [clip.num_frames / fps for clip in kept]
    drawings = [
        f"<figure>{histogram(values[name], label)}<figcaption>{escape(label)}</figcaption></figure>"
        for name, label in SHOWN
        if values[name]
    ]
    clips = [(clip.record.id, clip.record.id) for clip in kept]
    body = [
        f"<h1>avgen prepare</h1><pre>{escape(as_text(summary))}</pre>",
        _licences(summary),
        f'<h2>What was kept</h2><div class="cards">{"".join(drawings)}</div>',
        f'<div class="cards small">{_thumbnails(clips, store)}</div>',
        "<h2>What was left out</h2>",
        *(_left_out(reason, outcomes, store) for reason in summary.pieces),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>avgen prepare</title><style>{STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def histogram(values: Sequence[float], label: str) -> str:
    """A drawing of how values are spread, as SVG."""
    counts, edges = np.histogram(values, BINS)
    step, room = WIDTH / BINS, HEIGHT - BOTTOM
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{room * (1 - n / counts.max()):.1f}" '
        f'width="{step - 1:.1f}" height="{room * n / counts.max():.1f}">'
        f"<title>{edges[i]:.3g} to {edges[i + 1]:.3g}: {n}</title></rect>"
        for i, n in enumerate(counts)
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{escape(label)}"><g fill="#1f6feb">{bars}</g>'
        f'<text x="0" y="{HEIGHT - 3}">{edges[0]:.3g}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT - 3}" text-anchor="end">{edges[-1]:.3g}</text></svg>'
    )


def _licences(summary: Summary) -> str:
    rows = "".join(
        f"<tr><td>{escape(licence)}<td>{count}<td>{hours:.2f}</tr>"
        for licence, (count, hours) in sorted(summary.licences.items())
    )
    return f"<table><tr><th>licence<th>clips<th>hours</tr>{rows}</table>"


def _left_out(reason: str, outcomes: Sequence[Outcome], store: Store) -> str:
    found = [(o.id, drop) for o in outcomes for drop in o.dropped if drop.reason == reason]
    seen = [(drop.thumbnail, name) for name, drop in found if drop.thumbnail]
    lines = "".join(
        f"<tr><td>{escape(name)}<td>{_times(drop.span)}<td>{escape(drop.detail)}</tr>"
        for name, drop in found
    )
    return (
        f"<h3>{escape(reason)}: {len(found)}</h3><p>{escape(REASONS[reason])}</p>"
        f'<div class="cards small">{_thumbnails(seen, store)}</div>'
        f"<details><summary>each</summary><table>{lines}</table></details>"
    )


def _times(span: tuple[float, float] | None) -> str:
    return "" if span is None else f"{span[0]:.2f}&ndash;{span[1]:.2f} s"


def _thumbnails(pictures: Sequence[tuple[str, str]], store: Store) -> str:
    """Some of (name of the thumbnail, what to write below), inside the page."""
    step = max(1, -(-len(pictures) // MAX_THUMBNAILS))
    cards = []
    for name, text in pictures[::step]:
        path = store.thumbnail(name)
        if path.is_file():
            data = base64.b64encode(path.read_bytes()).decode()
            cards.append(
                f'<figure><img alt="" src="data:image/jpeg;base64,{data}">'
                f"<figcaption>{escape(text)}</figcaption></figure>"
            )
    return "".join(cards)
