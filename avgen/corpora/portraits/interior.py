"""What is seen between parted lips: teeth, tongue and the dark behind them, painted.

Coordinates are those of the mouth in units of the eyes' distance: x from its middle to the right, y
down from the upper teeth's edge at rest. Upper teeth stay with the skull, lower ones go with the
jaw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Right borders of the teeth from the middle, in units: incisors, canine, premolars (an incisor is
# 8.5 mm wide, the eyes' outer corners 90 mm apart), foreshortened as the arch turns away.
_UPPER = np.array([0.094, 0.164, 0.232, 0.288, 0.332, 0.365])
_LOWER = np.array([0.058, 0.122, 0.190, 0.246, 0.292, 0.330])
_EDGES = np.array([0.0, -0.011, -0.002, -0.014, -0.02, -0.026, -0.03])  # of the upper ones, in y
_SEAM = 0.006  # half the width of the dark line between two teeth


@dataclass(frozen=True)
class MouthLook:
    """How somebody's mouth is inside.

    Attributes:
        teeth: Colour of the teeth in the person's light, 0 to 255: [3].
        flesh: Of tongue and palate in that light: [3].
        show: How far the upper teeth's edge is below the resting lips, in units.
        lower: How far the lower teeth's edge is above the lower lip's rest, in units.
        slant: How much brighter the light is from the right of the picture, -0.5 to 0.5.
        seams: How dark the lines between teeth are, 0 to 1.
    """

    teeth: np.ndarray
    flesh: np.ndarray
    show: float
    lower: float
    slant: float
    seams: float


def draw_look(
    rng: np.random.Generator, light: np.ndarray, slant: float, age: str = ""
) -> MouthLook:
    """A mouth for a person in a light, RGB 0 to 255: [3] is what white would look like in it."""
    old = {"old": 1.0, "middle-aged": 0.5}.get(age, 0.2)
    yellow = np.array([1.0, 0.965, 0.89]) ** rng.uniform(0.4, 0.8 + old)
    white = rng.uniform(0.86, 1.0) - 0.08 * old
    return MouthLook(
        teeth=(light * yellow * white).clip(0, 240),
        flesh=light * np.array([0.74, 0.36, 0.35]) * rng.uniform(0.8, 1.05),
        show=float(rng.uniform(0.03, 0.062) - 0.012 * old),
        lower=float(rng.uniform(0.0, 0.025) + 0.012 * old),
        slant=float(np.clip(slant, -0.5, 0.5)),
        seams=float(rng.uniform(0.15, 0.4)),
    )


def paint(
    look: MouthLook, x: np.ndarray, y: np.ndarray, lip: np.ndarray, jaw: float, tongue: float
) -> np.ndarray:
    """Colours of the mouth's inside, float32 [H, W, 3].

    Args:
        look: Whose mouth.
        x: Of each pixel, in units: [H, W].
        y: Likewise.
        lip: y of the upper lip's edge over each pixel: [H, W].
        jaw: How far the lower teeth have dropped.
        tongue: 1 has its tip at the upper teeth.
    """
    away = np.abs(x)
    lit = (1 + look.slant * x / 0.3) * (1 - 0.55 * np.clip(away / 0.36, 0, 1) ** 2)
    shade = 0.68 + 0.32 * _step((y - lip + 0.01) / 0.045)  # the lip's shadow on what is under it
    depth = np.clip((y + 0.02) / max(jaw + 0.02, 0.02), 0, 1)
    colours = look.flesh * ((0.2 + 0.22 * depth**2) * lit * shade)[..., None]
    # The tongue's back lies on the jaw; its tip rises to the teeth.
    back = jaw * 0.66 + 0.02
    top = back + (0.004 - back) * tongue + 0.35 * away**2
    body = _step((y - top) / 0.03) * _step((0.27 - away) / 0.08)
    bright = (
        0.5 + 0.3 * np.exp(-(((y - top - 0.035) / 0.03) ** 2)) - 0.12 * np.exp(-((x / 0.02) ** 2))
    )
    colours = _over(colours, look.flesh * (bright * lit * shade)[..., None], body)
    lower_edge = jaw - look.lower + 0.25 * away**2 - look.show
    seam = _seams(away, _LOWER, look.seams * 0.8)
    lower = _step((y - lower_edge) / 0.012) * _step((0.31 - away) / 0.06)
    lower = lower * _step((jaw - 0.03) / 0.03)
    colours = _over(colours, look.teeth * (0.8 * lit * shade * seam)[..., None], lower)
    upper_edge = np.interp(away, np.concatenate([[0], (_UPPER[:-1] + _UPPER[1:]) / 2]), _EDGES[:6])
    seam = _seams(away, _UPPER, look.seams)
    upper = _step((upper_edge - y) / 0.012 + 0.7) * _step((0.37 - away) / 0.05)
    light = lit * shade * seam * (0.93 + 0.07 * _step((upper_edge - y) / 0.05))
    return _over(colours, look.teeth * light[..., None], upper).astype(np.float32)


def _step(value: np.ndarray | float) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between."""
    value = np.clip(value, 0, 1)
    return value * value * (3 - 2 * value)


def _over(under: np.ndarray, above: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return under + (above - under) * alpha[..., None]


def _seams(away: np.ndarray, borders: np.ndarray, dark: float) -> np.ndarray:
    """Brightness where teeth meet: 1 in their middle, less at their borders and in the middle."""
    nearest = np.abs(away[..., None] - np.concatenate([[0.0], borders])).min(-1)
    return 1 - dark * np.exp(-((nearest / _SEAM) ** 2))
