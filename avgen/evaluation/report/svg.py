"""Numbers -> small drawings: SVG as text, inside a page that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

WIDTH, HEIGHT = 320, 150
LEFT, RIGHT, TOP, BOTTOM = 38, 8, 8, 24  # margins, in the drawing's pixels
COLOURS = {
    "clips": "#1f6feb",
    "reference": "#1a7f37",
    "delayed": "#bf8700",
    "mismatched": "#8c959f",
}


def lag_curves(curves: Mapping[str, Sequence[float]], label: str) -> Markup:
    """Curves over lags (odd length, lag 0 in the middle) by the name of their set.

    Left of 0 the sound trails the picture, right of it the sound leads.
    """
    curves = {name: curve for name, curve in curves.items() if len(curve)}
    reach = max(len(curve) for curve in curves.values()) // 2
    low = min(0.0, *(min(curve) for curve in curves.values()))
    high = max(0.0, *(max(curve) for curve in curves.values()))
    parts = [_axes((-reach, reach), (low, high), [-reach, 0, reach])]
    for name, curve in curves.items():
        half = len(curve) // 2
        points = " ".join(
            f"{_x(lag, -reach, reach):.1f},{_y(value, low, high):.1f}"
            for lag, value in zip(range(-half, half + 1), curve, strict=True)
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{COLOURS[name]}" '
            f'stroke-width="1.8"><title>{name}</title></polyline>'
        )
    return _drawing(parts, label)


def distributions(values: Mapping[str, Sequence[float]], label: str) -> Markup:
    """One row of dots a set, with its median as a bar."""
    values = {name: found for name, found in values.items() if len(found)}
    everything = np.concatenate([np.asarray(found, float) for found in values.values()])
    low, high = float(everything.min()), float(everything.max())
    margin = 0.05 * (high - low) or max(abs(high) * 0.1, 0.1)
    low, high = low - margin, high + margin
    step = (HEIGHT - TOP - BOTTOM) / len(values)
    generator = np.random.default_rng(0)
    parts = [_axes((low, high), None, [low + margin, high - margin])]
    for row, (name, found) in enumerate(values.items()):
        middle = TOP + step * (row + 0.5)
        spread = generator.uniform(-0.3, 0.3, len(found)) * step
        dots = "".join(
            f'<circle cx="{_x(v, low, high):.1f}" cy="{middle + dy:.1f}" r="2"/>'
            for v, dy in zip(found, spread, strict=True)
        )
        median = _x(float(np.median(found)), low, high)
        parts.append(
            f'<g fill="{COLOURS[name]}" fill-opacity="0.55"><title>{name}</title>{dots}</g>'
            f'<line x1="{median:.1f}" x2="{median:.1f}" y1="{middle - 0.4 * step:.1f}" '
            f'y2="{middle + 0.4 * step:.1f}" stroke="{COLOURS[name]}" stroke-width="2.5"/>'
        )
    return _drawing(parts, label)


def _x(value: float, low: float, high: float) -> float:
    return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)


def _y(value: float, low: float, high: float) -> float:
    return HEIGHT - BOTTOM - (value - low) / ((high - low) or 1.0) * (HEIGHT - TOP - BOTTOM)


def _axes(
    x_ends: tuple[float, float], y_ends: tuple[float, float] | None, ticks: Sequence[float]
) -> str:
    """The frame, ticks on x, the ends of y, and the zero lines that are inside."""
    bottom = HEIGHT - BOTTOM
    parts = [f'<path d="M{LEFT},{TOP}V{bottom}H{WIDTH - RIGHT}" fill="none" stroke="#999"/>']
    parts += [
        f'<text x="{_x(tick, *x_ends):.1f}" y="{bottom + 13}" text-anchor="middle">'
        f"{tick:.3g}</text>"
        for tick in dict.fromkeys(ticks)
    ]
    if x_ends[0] < 0 < x_ends[1]:
        parts.append(f'<path d="M{_x(0, *x_ends):.1f},{TOP}V{bottom}" stroke="#ddd"/>')
    if y_ends is not None:
        parts += [
            f'<text x="{LEFT - 4}" y="{_y(end, *y_ends) + 4:.1f}" text-anchor="end">'
            f"{end:.2g}</text>"
            for end in y_ends
        ]
        parts.append(f'<path d="M{LEFT},{_y(0, *y_ends):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
    return "".join(parts)


def _drawing(parts: Sequence[str], label: str) -> Markup:
    start = Markup(
        '<svg viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img" aria-label="{2}">'
    )
    return start.format(WIDTH, HEIGHT, label) + Markup("".join(parts) + "</svg>")
