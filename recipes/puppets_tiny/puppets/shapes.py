"""Signed distances in, anti-aliased paint out: the little vector graphics that puppets need.

Coordinates: x to the right, y down, the origin at the picture's centre, its shorter side from -1 to
1. A distance is negative inside a shape; paint covers a pixel by how much of it is inside.
"""

from dataclasses import dataclass

import numpy as np

Colour = np.ndarray
"""Red, green and blue as float32 [3], 0 to 255 (sRGB, as the file has it)."""


@dataclass
class Canvas:
    """A picture being painted.

    Attributes:
        image: float32 [H, W, 3], 0 to 255.
        x: float32 [H, W], of each pixel's centre.
        y: likewise.
        pixel: width of a pixel.
    """

    image: np.ndarray
    x: np.ndarray
    y: np.ndarray
    pixel: float

    @classmethod
    def blank(cls, height: int, width: int) -> "Canvas":
        """A black canvas of `height` by `width` pixels."""
        pixel = 2.0 / min(height, width)
        y, x = np.mgrid[:height, :width].astype(np.float32)
        x = (x - (width - 1) / 2) * np.float32(pixel)
        y = (y - (height - 1) / 2) * np.float32(pixel)
        return cls(np.zeros((height, width, 3), np.float32), x, y, pixel)

    def paint(self, distance: np.ndarray, colour: Colour, *, alpha: float = 1.0) -> None:
        """Fills the shape of `distance` [H, W] with a colour [3] or a picture [H, W, 3]."""
        self._cover(np.clip(0.5 - distance / self.pixel, 0, 1), colour, alpha)

    def glow(
        self, distance: np.ndarray, colour: Colour, *, softness: float, alpha: float = 1.0
    ) -> None:
        """Like `paint`, with an edge `softness` wide on either side."""
        part = np.clip(0.5 - distance / max(2 * softness, self.pixel), 0, 1)
        self._cover(part * part * (3 - 2 * part), colour, alpha)

    def _cover(self, part: np.ndarray, colour: Colour, alpha: float) -> None:
        self.image += (part * alpha)[..., None] * (colour - self.image)

    def pixels(self) -> np.ndarray:
        """The picture as uint8 [H, W, 3]."""
        return np.clip(self.image + 0.5, 0, 255).astype(np.uint8)


def ellipse(x: np.ndarray, y: np.ndarray, rx: float, ry: float) -> np.ndarray:
    """Distance to an ellipse around the origin, right to first order near its edge.

    Reference: Quilez, "Ellipse distance estimation" (iquilezles.org/articles/ellipsedist).
    """
    scaled = np.hypot(x / rx, y / ry)
    slope = np.hypot(x / rx**2, y / ry**2)
    return scaled * (scaled - 1) / np.maximum(slope, 1e-4)


def capsule(
    x: np.ndarray,
    y: np.ndarray,
    start: tuple[float, float],
    end: tuple[float, float],
    radius: float,
) -> np.ndarray:
    """Distance to a line with round ends."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = ((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy)
    along = np.clip(along, 0, 1)
    return np.hypot(x - start[0] - along * dx, y - start[1] - along * dy) - radius


def box(x: np.ndarray, y: np.ndarray, rx: float, ry: float, corner: float) -> np.ndarray:
    """Distance to a rectangle around the origin with rounded corners."""
    qx, qy = np.abs(x) - rx + corner, np.abs(y) - ry + corner
    outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0))
    return outside + np.minimum(np.maximum(qx, qy), 0) - corner


def lens(
    x: np.ndarray, y: np.ndarray, half_width: float, up: float, down: float, fullness: float = 1.0
) -> np.ndarray:
    """Distance to a shape between two arches that meet at x = -half_width and half_width.

    Args:
        x: from the middle of the shape.
        y: from the line through its corners.
        half_width: of the shape.
        up: height of the upper arch in the middle; negative has it sag below the corners.
        down: depth of the lower arch in the middle; negative has it rise.
        fullness: power of the arch; 1 is a parabola, 0.5 an ellipse.
    """
    inside = np.clip(1 - (x / half_width) ** 2, 1e-3, 1)
    arch = inside**fullness
    slope = fullness * inside ** (fullness - 1) * (2 / half_width**2) * np.abs(x)
    slope *= np.abs(x) < half_width
    above = (-up * arch - y) / np.sqrt(1 + (up * slope) ** 2)
    below = (y - down * arch) / np.sqrt(1 + (down * slope) ** 2)
    return np.maximum(np.maximum(above, below), np.abs(x) - half_width)


def join(first: np.ndarray, second: np.ndarray, blend: float) -> np.ndarray:
    """Distance to both shapes together, their seam smoothed over a width of `blend`.

    Reference: Quilez, "Smooth minimum" (iquilezles.org/articles/smin), the quadratic one.
    """
    near = np.maximum(blend - np.abs(first - second), 0) / blend
    return np.minimum(first, second) - near * near * blend / 4


def mix(first: Colour, second: Colour, part: float) -> Colour:
    """`first` with `part` of `second` in it."""
    return (first + (second - first) * np.float32(part)).astype(np.float32)
