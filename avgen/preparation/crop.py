"""A face's boxes in, a window around the head out that does not shake; frames to that window.

A head that keeps its place gets one window, of whole pixels. One that moves gets a window of one
size that follows it, so slowly that nothing trembles, between pixels.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from avgen.clips.transforms import crop, resize
from avgen.evaluation.faces.head import MARGIN, RAISE
from avgen.preparation.outcome import Dropped

STEADY = 0.15  # of the face's width: a head that stays this near to its usual place keeps it
CALM_S = 0.5  # seconds of the Gaussian that a moving window's path is smoothed by


def path(
    boxes: np.ndarray,
    frame_size: tuple[int, int],
    size: tuple[int, int],
    fps: float,
    max_enlargement: float,
) -> np.ndarray:
    """Left, top, width and height of the window in each frame: float64 [T, 4].

    Width and height are whole numbers and the same in all; left and top as well where the head
    keeps its place. The window is inside the frame and has the shape of `size`.

    Args:
        boxes: float [T, 4], the face.
        frame_size: Height and width of the frames.
        size: Height and width that the window is resized to.
        fps: Frames a second.
        max_enlargement: How many times it may have to be enlarged.

    Raises:
        Dropped: the face is too small for that.
    """
    side = float(np.median(boxes[:, 2]))
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    centres = centres - [0, RAISE * side]
    height, width = (MARGIN * side * length / min(size) for length in size)
    shrink = min(1.0, frame_size[0] / height, frame_size[1] / width)
    height, width = max(1, int(height * shrink)), max(1, int(width * shrink))
    if size[0] > max_enlargement * height:
        raise Dropped(
            "picture",
            f"the head takes {width}x{height} pixels; for {size[1]}x{size[0]} it would be enlarged "
            f"{size[0] / height:.1f} times, more than {max_enlargement:g}",
        )
    middle = np.median(centres, axis=0)
    steady = bool(np.abs(centres - middle).max() <= STEADY * side)
    places = np.tile(middle, (len(boxes), 1)) if steady else _calm(centres, CALM_S * fps)
    corners = places - [width / 2, height / 2]
    corners = corners.clip(0, [frame_size[1] - width, frame_size[0] - height])
    corners = np.round(corners) if steady else corners
    return np.concatenate([corners, np.tile([width, height], (len(boxes), 1))], 1)


def narrowed(
    box: tuple[int, int, int, int], size: tuple[int, int] | None
) -> tuple[int, int, int, int]:
    """The middle of a square box (x, y, side, side) of the shape of `size`, if there is one."""
    left, top, side, _ = box
    if size is None:
        return box
    height, width = (side * length // max(size) for length in size)
    return left + (side - width) // 2, top + (side - height) // 2, width, height


def cut(frames: np.ndarray, window: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Frames uint8 [T, H, W, 3] in their windows [T, 4], resized: uint8 [T, *size, 3]."""
    width, height = (int(length) for length in window[0, 2:])
    if np.all(window == np.round(window[0])):
        left, top = (int(place) for place in window[0, :2])
        return resize(crop(frames, (left, top, width, height)), *size)
    middles = window[:, :2] + [(width - 1) / 2, (height - 1) / 2]
    parts = [
        cv2.getRectSubPix(np.ascontiguousarray(frame), (width, height), (float(x), float(y)))
        for frame, (x, y) in zip(frames, middles, strict=True)
    ]
    return resize(np.stack(parts), *size)


def _calm(places: np.ndarray, sigma: float) -> np.ndarray:
    """Places [T, 2] smoothed over time by a Gaussian of `sigma` frames; ends are repeated."""
    reach = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(places, ((reach, reach), (0, 0)), mode="edge")
    columns = [np.convolve(column, weights / weights.sum(), "valid") for column in padded.T]
    return np.stack(columns, 1)
