"""A picture -> the faces in it, by OpenCV 4's wheel alone; frames -> a square around the head.

Reference: Viola & Jones 2001, "Rapid Object Detection using a Boosted Cascade of Simple Features".
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np

MARGIN = 1.35  # side of the square over the side of the cascade's box: hair to chin
RAISE = 0.12  # how far the square's middle lies above the box's, in boxes: hair, no chest
SMALLEST = 1 / 6  # side of the smallest face looked for, over the frame's shorter side
PART_OF_FACE = 0.4  # a box with this share of itself in a larger one is a part of that face, as a
# mouth and chin that the cascade takes for a face
LEAST_HEAD = 1 / 5  # likewise, of the largest face


def head_box(frames: np.ndarray, num_frames: int = 5) -> tuple[int, int, int, int] | None:
    """Square (x, y, side, side) around the head in frames uint8 [T, H, W, 3], inside the frame.

    None without a face. Of `num_frames` evenly spaced frames those without a face do not count.
    """
    height, width = frames.shape[1:3]
    boxes = []
    for index in np.linspace(0, len(frames) - 1, min(num_frames, len(frames))).astype(int):
        grey = cv2.cvtColor(np.ascontiguousarray(frames[index]), cv2.COLOR_RGB2GRAY)
        boxes += detect(grey, int(LEAST_HEAD * min(height, width)))[:1]
    if not boxes:
        return None
    x, y, side, _ = np.median(np.array(boxes), axis=0)
    square = min(round(side * MARGIN), height, width)
    left = np.clip(x + side / 2 - square / 2, 0, width - square)
    top = np.clip(y + side / 2 - RAISE * side - square / 2, 0, height - square)
    return int(left), int(top), int(square), int(square)


def detect(grey: np.ndarray, least: float = 0.0) -> list[np.ndarray]:
    """Boxes [4] of faces of at least that side in a grey picture uint8 [H, W], largest first."""
    smallest = max(24, int(SMALLEST * min(grey.shape)), int(least))
    found = _cascade().detectMultiScale(grey, 1.1, 5, minSize=(smallest, smallest))
    boxes = sorted((np.array(box, np.float64) for box in found), key=lambda box: -box[2])
    kept: list[np.ndarray] = []
    for box in boxes:
        if all(_common(box, larger) < PART_OF_FACE * np.prod(box[2:]) for larger in kept):
            kept.append(box)
    return kept


def _common(one: np.ndarray, other: np.ndarray) -> float:
    """Area that two boxes [4] share."""
    low = np.maximum(one[:2], other[:2])
    high = np.minimum(one[:2] + one[2:], other[:2] + other[2:])
    return float(np.prod(np.maximum(high - low, 0)))


def box_overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes [4]: x, y, width, height."""
    both = _common(one, other)
    return both / float(np.prod(one[2:]) + np.prod(other[2:]) - both)


@cache
def _cascade() -> Any:
    folder = cv2.data.haarcascades  # pyright: ignore[reportAttributeAccessIssue]
    return cv2.CascadeClassifier(folder + "haarcascade_frontalface_default.xml")
