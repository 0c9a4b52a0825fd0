"""Frames of a scene in, the faces that are in it long enough for a clip out, each with its place.

Identity is kept by place: a face is the one that it overlaps (evaluation/faces/tracking.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avgen.corpora.manifest import ClipRecord
from avgen.evaluation.faces.tracking import CascadeTracker
from avgen.preparation.outcome import Dropped

DETECTIONS_PER_S = 2.5  # looks at the picture, each for all its faces


@dataclass(frozen=True)
class Person:
    """A face through part of a stretch.

    Attributes:
        first: Frame of the stretch with which it appears.
        boxes: float64 [N, 4], x, y, width, height in pixels in each frame from then on.
    """

    first: int
    boxes: np.ndarray

    @property
    def last(self) -> int:
        """The frame after its last one."""
        return self.first + len(self.boxes)

    def within(self, first: int, last: int) -> np.ndarray | None:
        """Its boxes [last - first, 4] in frames [first, last); None where it is not in all."""
        if first < self.first or last > self.last:
            return None
        return self.boxes[first - self.first : last - self.first]


def find(frames: np.ndarray, scene: tuple[int, int], fps: float, min_frames: int) -> list[Person]:
    """The faces of a scene, the largest and longest seen first.

    Args:
        frames: uint8 [T, H, W, 3], of the stretch.
        scene: First frame and frame after the last.
        fps: Frames a second.
        min_frames: Of the shortest clip.

    Raises:
        Dropped: there is none.
    """
    first, last = scene
    stride = max(1, round(fps / DETECTIONS_PER_S))
    people = []
    for track in CascadeTracker(stride, every_face=True)(frames[first:last]):
        there = np.flatnonzero(track.present)
        start, end = int(there[0]), int(there[-1]) + 1
        if end - start >= min_frames:
            people.append(Person(first + start, track.boxes[start:end]))
    if not people:
        raise Dropped("no face", "no face is seen for as long as the shortest clip")
    return people


def annotated(
    people: list[Person], record: ClipRecord, frame_size: tuple[int, ...]
) -> list[Person]:
    """Of the people those whose face the corpus annotates; all of them where it does not.

    Args:
        people: Of a scene.
        record: With `box` or `region`, or neither.
        frame_size: Height and width.

    Raises:
        Dropped: none of them is where the annotation is.
    """
    box = record.box
    if record.region is not None:
        x, y, width, height = record.region
        box = (x * frame_size[1], y * frame_size[0], width * frame_size[1], height * frame_size[0])
    if box is None:
        return people
    low, high = np.array(box[:2]), np.array(box[:2]) + box[2:]
    centres = [np.median(p.boxes[:, :2] + p.boxes[:, 2:] / 2, axis=0) for p in people]
    inside = [p for p, c in zip(people, centres, strict=True) if np.all((low <= c) & (c <= high))]
    if not inside:
        raise Dropped("no face", "no face is where the corpus annotates one")
    return inside
