"""Frames -> a square around the face.

OpenCV's frontal cascade, the median over a few frames of a clip.

Reference: Viola & Jones 2001, "Rapid Object Detection using a Boosted Cascade of Simple Features";
the cascade is the one in OpenCV 4's wheel.
"""

from __future__ import annotations

import cv2
import numpy as np

MARGIN = 1.35  # side of the crop over the side of the cascade's box: the whole head, hair to chin
RAISE = 0.12  # how far the crop's middle lies above the box's, in boxes: hair, no chest
SMALLEST = 1 / 5  # side of the smallest face looked for, as a share of the frame's shorter side


def face_box(frames: np.ndarray, num_frames: int = 5) -> tuple[int, int, int, int] | None:
    """Square (x, y, side, side) around the head in frames uint8 [T, H, W, 3], inside the frame.

    None without a face.

    The largest face of each of `num_frames` evenly spaced frames counts; frames without one do not.
    """
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")  # pyright: ignore[reportAttributeAccessIssue]
    height, width = frames.shape[1:3]
    smallest = int(SMALLEST * min(height, width))
    boxes = []
    for index in np.linspace(0, len(frames) - 1, min(num_frames, len(frames))).astype(int):
        grey = cv2.cvtColor(np.ascontiguousarray(frames[index]), cv2.COLOR_RGB2GRAY)
        found = cascade.detectMultiScale(grey, 1.1, 5, minSize=(smallest, smallest))
        if len(found):
            boxes.append(max(found, key=lambda box: box[2] * box[3]))
    if not boxes:
        return None
    x, y, side, _ = np.median(np.array(boxes), axis=0)
    crop = min(round(side * MARGIN), height, width)
    left = np.clip(x + side / 2 - crop / 2, 0, width - crop)
    top = np.clip(y + side / 2 - RAISE * side - crop / 2, 0, height - crop)
    return int(left), int(top), int(crop), int(crop)
