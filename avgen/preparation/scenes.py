"""Frames in, scenes out: where the picture changes to another one (PySceneDetect).

A flash is no cut: after it the picture is what it was before.
"""

from __future__ import annotations

import cv2
import numpy as np

from avgen.preparation.outcome import Dropped

SIDE = 96  # pixels of the shorter side that scenes are told by
FLASH_FRAMES = 6  # a picture that is back by then was not cut
SAME_PICTURE = 12.0  # mean difference in luma below which it is back, of 255


def cut(frames: np.ndarray) -> list[tuple[int, int]]:
    """First frame and frame after the last of each scene in frames uint8 [T, H, W, 3].

    Reference: PySceneDetect's AdaptiveDetector: the change of hue, saturation and luma from one
    frame to the next, against that of the frames around them.
    """
    small = _small(frames)
    cuts = [place for place in _changes(small) if not _is_flash(small, place)]
    edges = [0, *sorted(set(cuts)), len(frames)]
    return [(first, last) for first, last in zip(edges, edges[1:], strict=False) if first < last]


def _small(frames: np.ndarray) -> np.ndarray:
    scale = SIDE / min(frames.shape[1:3])
    if scale >= 1:
        return frames
    size = (round(frames.shape[2] * scale), round(frames.shape[1] * scale))
    return np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames])


def _changes(frames: np.ndarray) -> list[int]:
    from scenedetect import AdaptiveDetector, FrameTimecode

    detector = AdaptiveDetector(min_scene_len=1)
    found = []
    for index, frame in enumerate(frames):
        place = FrameTimecode(index, fps=25.0)  # any rate: frames are counted
        found += detector.process_frame(place, np.ascontiguousarray(frame[:, :, ::-1]))
    return [place.frame_num for place in found]


def _is_flash(frames: np.ndarray, place: int) -> bool:
    """Whether the picture around `place` comes back within FLASH_FRAMES."""
    before = frames[max(0, place - FLASH_FRAMES) : place]
    after = frames[place : place + FLASH_FRAMES]
    luma = [frame.astype(np.float32).mean(2) for frame in (*before, *after)]
    early, late = luma[: len(before)], luma[len(before) :]
    return any(np.abs(one - other).mean() < SAME_PICTURE for one in early for other in late)


def require_length(scene: tuple[int, int], num_frames: int, fps: float) -> None:
    """Refuse a scene that is shorter than the shortest clip.

    Raises:
        Dropped: it is.
    """
    if scene[1] - scene[0] < num_frames:
        raise Dropped("too short", f"a scene of {(scene[1] - scene[0]) / fps:.2f} s")
