"""Frames -> a square around the head: the largest face, its median over a few frames."""

from __future__ import annotations

import cv2
import numpy as np

from avgen.evaluation.faces.tracking import detect

MARGIN = 1.35  # side of the square over the side of the cascade's box: hair to chin
RAISE = 0.12  # how far the square's middle lies above the box's, in boxes: hair, no chest
SMALLEST = 1 / 5  # side of the smallest face looked for, as a share of the frame's shorter side


def head_box(frames: np.ndarray, num_frames: int = 5) -> tuple[int, int, int, int] | None:
    """Square (x, y, side, side) around the head in frames uint8 [T, H, W, 3], inside the frame.

    None without a face. Of `num_frames` evenly spaced frames those without a face do not count.
    """
    height, width = frames.shape[1:3]
    boxes = []
    for index in np.linspace(0, len(frames) - 1, min(num_frames, len(frames))).astype(int):
        grey = cv2.cvtColor(np.ascontiguousarray(frames[index]), cv2.COLOR_RGB2GRAY)
        boxes += detect(grey, int(SMALLEST * min(height, width)))[:1]
    if not boxes:
        return None
    x, y, side, _ = np.median(np.array(boxes), axis=0)
    square = min(round(side * MARGIN), height, width)
    left = np.clip(x + side / 2 - square / 2, 0, width - square)
    top = np.clip(y + side / 2 - RAISE * side - square / 2, 0, height - square)
    return int(left), int(top), int(square), int(square)
