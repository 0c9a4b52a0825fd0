"""Frames -> faces: where each one is in every frame, and the one that speaks, or why none is.

`CascadeTracker` needs nothing besides OpenCV 4's wheel; `LandmarkTracker` needs MediaPipe and its
model file, and finds lips too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avgen.errors import UserError
from avgen.evaluation.faces.head import box_overlap, detect
from avgen.evaluation.measure import optional
from avgen.evaluation.subject import Network, Subject, Unscored

TOP, CHIN, LIPS = 10, 152, [13, 14]  # MediaPipe's numbers of points
STRIDE = 5  # frames from one detection to the next
DETECT_SIDE = 288  # pixels of the shorter side at which faces are looked for, where it is longer
HALF = 0.5  # of the largest face's side in the look before: smaller ones are not looked for again
SAME_FACE = 0.3  # least intersection over union of one face in successive detections
MAX_MISSED = 3  # successive detections without a face before it counts as gone
SAME_LOOK = 0.85  # least correlation of a face's pixels from one look to the next, where nothing is
# detected: one speaker's are 0.91 and more 0.2 s apart, two speakers' of one studio 0.82 and less
REACH = 0.25  # of a face's side: how far it may go from one look to the next
RIVAL_AREA, RIVAL_TIME = 1 / 3, 1 / 2  # of the largest face's: above both, a second face counts
COVERAGE = 0.9  # least share of the frames in which the face must be seen


@dataclass(frozen=True)
class Track:
    """One face through a clip.

    Attributes:
        boxes: float64 [T, 4]: x, y, width, height in pixels, around brows to chin as the frontal
            cascade frames a face; NaN in frames without the face.
        landmarks: float32 [T, 478, 3]: MediaPipe's points in pixels (z likewise, smaller is
            nearer), NaN in frames without the face; None from a tracker that finds boxes only.
    """

    boxes: np.ndarray
    landmarks: np.ndarray | None = None

    @property
    def present(self) -> np.ndarray:
        """Whether the face is there, and its landmarks where they are looked for: bool [T]."""
        there = ~np.isnan(self.boxes[:, 0])
        return there if self.landmarks is None else there & ~np.isnan(self.landmarks[:, 0, 0])

    @property
    def size(self) -> float:
        """Median width of the box, in pixels."""
        return float(np.nanmedian(self.boxes[:, 2]))


class CascadeTracker:
    """Boxes by OpenCV's frontal cascade, every `stride` frames, smooth in between.

    Args:
        stride: Frames from one detection to the next.
        every_face: Whether faces of less than half the largest's side are wanted as well, which
            takes twice the time; for `the_face` they do not count.
    """

    def __init__(self, stride: int = STRIDE, every_face: bool = False) -> None:
        self.stride, self.every_face = stride, every_face

    def __call__(self, frames: np.ndarray) -> list[Track]:
        """The faces in frames uint8 [T, H, W, 3], the largest and longest seen first.

        A face found once only, in a clip looked at more often, is taken for an accident. One that
        is lost, and found again where its own pixels went in the meantime, was there throughout.
        """
        looked = list(range(0, len(frames), self.stride))
        if looked[-1] != len(frames) - 1:
            looked.append(len(frames) - 1)
        seen = [_grey(frames[place]) for place in looked]
        scale = min(frames.shape[1:3]) / min(seen[0].shape)
        chains: list[dict[int, np.ndarray]] = []
        largest = 0.0
        for index, grey in enumerate(seen):
            boxes = detect(grey, 0.0 if self.every_face else HALF * largest)
            largest = float(boxes[0][2]) if boxes else 0.0
            _link(chains, boxes, index)
        chains = [chain for chain in chains if len(chain) > 1 or len(looked) == 1]
        chains = [_scaled(chain, scale) for chain in _rejoined(chains, seen)]
        tracks = [Track(_filled(chain, looked, len(frames))) for chain in chains]
        return sorted(tracks, key=_prominence, reverse=True)


class LandmarkTracker:
    """Landmarks by MediaPipe's face landmarker, in every frame.

    Args:
        model: `face_landmarker.task`, from MediaPipe's model page.
        num_faces: The most that are looked for.

    Raises:
        UserError: the file is not there.
    """

    def __init__(self, model: Path, num_faces: int = 2) -> None:
        if not model.is_file():
            raise UserError(f"{model}: not found; face_landmarker.task is on MediaPipe's page")
        self.model, self.num_faces = model, num_faces

    def __call__(self, frames: np.ndarray) -> list[Track]:
        """The faces in frames uint8 [T, H, W, 3], the largest and longest seen first."""
        mediapipe = optional("mediapipe", "'avgen[evaluate]'")
        chains: list[dict[int, np.ndarray]] = []
        points: list[dict[int, np.ndarray]] = []
        with self._landmarker() as landmarker:
            for index, frame in enumerate(frames):
                image = mediapipe.Image(
                    image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame)
                )
                faces = [
                    _pixels(face, frame)
                    for face in landmarker.detect_for_video(image, index * 40).face_landmarks
                ]
                places = _link(chains, [landmark_box(face) for face in faces], index)
                points.extend({} for _ in range(len(chains) - len(points)))
                for place, face in zip(places, faces, strict=True):
                    points[place][index] = face
        looked = list(range(len(frames)))
        tracks = [
            Track(_filled(chain, looked, len(frames)), _spread(face, len(frames)))
            for chain, face in zip(chains, points, strict=True)
        ]
        return sorted(tracks, key=_prominence, reverse=True)

    def _landmarker(self) -> Any:
        tasks = optional("mediapipe.tasks.python", "'avgen[evaluate]'")
        return tasks.vision.FaceLandmarker.create_from_options(
            tasks.vision.FaceLandmarkerOptions(
                base_options=tasks.BaseOptions(model_asset_path=str(self.model)),
                running_mode=tasks.vision.RunningMode.VIDEO,
                num_faces=self.num_faces,
            )
        )


LANDMARKER = Network(
    "face_landmarker",
    "MediaPipe's face_landmarker.task: mouths, blinks, the second opinion",
    cache(LandmarkTracker),
)


def tracks_of(subject: Subject) -> list[Track]:
    """The faces in a clip at 25 fps, the largest and longest seen first."""
    return subject.once(_tracks)


def landmarks_of(subject: Subject) -> np.ndarray:
    """The points of a clip's one face at 25 fps: float32 [T, 478, 3], in pixels.

    Raises:
        Unscored: no model was given, or not one face throughout.
    """
    return subject.once(_landmarks)


def _tracks(subject: Subject) -> list[Track]:
    return CascadeTracker()(subject.clip.frames)


def _landmarks(subject: Subject) -> np.ndarray:
    points = the_face(subject.network(LANDMARKER)(subject.clip.frames)).landmarks
    assert points is not None
    return points


def landmark_box(points: np.ndarray) -> np.ndarray:
    """The box [4] that the frontal cascade would put around a face's points [478, 3], in pixels.

    Hairline to chin is 0.96 of the cascade's box, a tenth of it from the top, with the lips in the
    middle: means over GRID speakers, each within 0.03 (0.05 across).
    """
    top, chin, lips = points[TOP, :2], points[CHIN, :2], points[LIPS, 0].mean()
    side = float(np.linalg.norm(chin - top)) / 0.96
    return np.array([lips - side / 2, top[1] - 0.1 * side, side, side])


def the_face(tracks: Sequence[Track]) -> Track:
    """The one face of a clip, with short gaps filled.

    Raises:
        Unscored: no face; a second face as prominent; a face not seen in enough of the frames.
    """
    first = the_speaker(tracks)
    present = first.present
    if present.mean() < COVERAGE:
        raise Unscored(f"the face is seen in {present.sum()} of {len(present)} frames only")
    if present.all():
        return first
    landmarks = None if first.landmarks is None else _bridged(first.landmarks)
    return Track(_bridged(first.boxes), landmarks)


def the_speaker(tracks: Sequence[Track]) -> Track:
    """The one face that there is to speak, gaps and all.

    Raises:
        Unscored: no face; a second face as prominent.
    """
    if not tracks:
        raise Unscored("no face was found")
    first = tracks[0]
    rivals = [
        track
        for track in tracks[1:]
        if track.size**2 >= RIVAL_AREA * first.size**2
        and track.present.sum() >= RIVAL_TIME * first.present.sum()
    ]
    if rivals:
        raise Unscored(f"{1 + len(rivals)} faces were found: which one speaks is not known")
    return first


def _bridged(values: np.ndarray) -> np.ndarray:
    """Values [T, ...] with rows of NaN interpolated in time."""
    flat = values.reshape(len(values), -1)
    there = ~np.isnan(flat[:, 0])
    columns = [
        np.interp(np.arange(len(flat)), np.flatnonzero(there), column[there]) for column in flat.T
    ]
    return np.stack(columns, 1).reshape(values.shape).astype(values.dtype)


def _prominence(track: Track) -> float:
    return track.size**2 * track.present.mean()


def _grey(frame: np.ndarray) -> np.ndarray:
    """A frame uint8 [H, W, 3] in grey, its shorter side at most DETECT_SIDE: uint8 [H', W']."""
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    scale = min(grey.shape) / DETECT_SIDE
    if scale <= 1:
        return grey
    size = (round(grey.shape[1] / scale), round(grey.shape[0] / scale))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA)


def _scaled(chain: dict[int, np.ndarray], scale: float) -> dict[int, np.ndarray]:
    return {index: box * scale for index, box in chain.items()}


def _link(chains: list[dict[int, np.ndarray]], boxes: list[np.ndarray], index: int) -> list[int]:
    """Adds the boxes of detection `index` to the chains they continue, or as new ones.

    Returns each box's chain.
    """
    places: dict[int, int] = {}
    pairs = [
        (box_overlap(list(chain.values())[-1], box), c, b)
        for c, chain in enumerate(chains)
        if index - max(chain) <= MAX_MISSED + 1
        for b, box in enumerate(boxes)
    ]
    for likeness, c, b in sorted(pairs, reverse=True):
        if likeness >= SAME_FACE and b not in places and c not in places.values():
            places[b] = c
    for b in range(len(boxes)):
        if b not in places:
            places[b] = len(chains)
            chains.append({})
        chains[places[b]][index] = boxes[b]
    return [places[b] for b in range(len(boxes))]


def _rejoined(
    chains: list[dict[int, np.ndarray]], seen: Sequence[np.ndarray]
) -> list[dict[int, np.ndarray]]:
    """Chains of detections in grey pictures, with those that are of one face made one.

    They are where the first's last box, followed by its pixels through the pictures in between,
    arrives at the other's first. The cascade loses a face that grimaces; nobody else has come.
    """
    whole: list[dict[int, np.ndarray]] = []
    for chain in sorted(chains, key=min):
        first = min(chain)
        for earlier in whole:
            if max(earlier) >= first:
                continue
            followed = _followed(earlier[max(earlier)], seen[max(earlier) : first + 1])
            if followed is not None and box_overlap(followed, chain[first]) >= SAME_FACE:
                earlier |= chain
                break
        else:
            whole.append(dict(chain))
    return whole


def _followed(box: np.ndarray, seen: Sequence[np.ndarray]) -> np.ndarray | None:
    """Where the pixels in a box [4] of the first grey picture are in the last; None if gone."""
    side = round(REACH * box[2])
    for before, after in pairwise(seen):
        (x, y), (width, height) = np.maximum(np.round(box[:2]).astype(int), 0), box[2:].astype(int)
        left, top = max(0, x - side), max(0, y - side)
        pixels = before[y : y + height, x : x + width]
        around = after[top : y + height + side, left : x + width + side]
        _, likeness, _, place = cv2.minMaxLoc(
            cv2.matchTemplate(around, pixels, cv2.TM_CCOEFF_NORMED)
        )
        if likeness < SAME_LOOK:
            return None
        box = np.array([left + place[0], top + place[1], width, height], np.float64)
    return box


def _filled(chain: dict[int, np.ndarray], looked: list[int], num_frames: int) -> np.ndarray:
    """Boxes [T, 4] of every frame from those of some: smooth inside the chain, NaN outside.

    The cascade's boxes jump by a few per cent; a running median and mean over 5 detections calm
    them, and the side is the chain's median wherever it stays within a tenth of it.
    """
    found = sorted(chain)
    boxes = np.stack([chain[index] for index in found])
    side = np.median(boxes[:, 2:], axis=0)
    steady = np.abs(boxes[:, 2:] / side - 1).max() < 0.15
    centres = _calm(boxes[:, :2] + boxes[:, 2:] / 2)
    sizes = np.broadcast_to(side, centres.shape) if steady else _calm(boxes[:, 2:])
    values = np.concatenate([centres - sizes / 2, sizes], 1)
    times = np.array([looked[index] for index in found])
    whole = np.full((num_frames, 4), np.nan)
    inside = np.arange(times[0], times[-1] + 1)
    whole[inside] = np.stack([np.interp(inside, times, column) for column in values.T], 1)
    return whole


def _calm(values: np.ndarray, width: int = 5) -> np.ndarray:
    """A running median, then a running mean, over `width` rows of [N, D]; ends are repeated."""
    for average in (np.median, np.mean):
        padded = np.pad(values, ((width // 2, width // 2), (0, 0)), mode="edge")
        values = average(np.stack([padded[k : k + len(values)] for k in range(width)]), axis=0)
    return values


def _pixels(face: Any, frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    return np.array([(p.x * width, p.y * height, p.z * width) for p in face], dtype=np.float32)


def _spread(face: dict[int, np.ndarray], num_frames: int) -> np.ndarray:
    whole = np.full((num_frames, 478, 3), np.nan, np.float32)
    for index, points in face.items():
        whole[index] = points
    return whole
