"""A picture in, the landmarks and the pose of its face out, or why it cannot be made to speak."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avgen.corpora.portraits.basis import CHIN, EYES, INNER_LIPS, LOWER_LIDS
from avgen.errors import UserError

MAX_YAW, MAX_PITCH, MAX_ROLL = 24.0, 26.0, 20.0  # degrees from straight ahead
MAX_GAP = 0.04  # between the lips, of the eyes' distance: a mouth that is closed has 0.003
MIN_LIDS = 0.13  # height of an eye over its width, below which it is taken for closed
MIN_EYES = 44.0  # pixels between the outer corners of the eyes, as in a crop of 128
RIVAL = 0.35  # of the largest face's eye distance: a second face above it is one too many
# What is shown at the least around a face, in eye distances from the middle between eyes and chin:
# to the left, up, to the right, down. A picture that ends before is too narrow.
NEEDED = (1.0, 1.05, 1.0, 0.9)


@dataclass(frozen=True)
class Face:
    """A face in a picture.

    Attributes:
        points: MediaPipe's landmarks in pixels (z likewise, larger is further away): [478, 3].
        rotation: Of the head, from its own axes (x right, y up, z to the viewer) to the same axes
            of the picture: [3, 3].
    """

    points: np.ndarray
    rotation: np.ndarray

    @property
    def unit(self) -> float:
        """Distance of the outer corners of the eyes, in pixels."""
        return float(np.linalg.norm(self.points[EYES[0][0]] - self.points[EYES[1][0]]))

    @property
    def gap(self) -> float:
        """How far the lips are apart, of the unit."""
        upper, lower = (self.points[list(row), :2] for row in INNER_LIPS)
        return float(np.linalg.norm(lower - upper, axis=1).max() / self.unit)

    @property
    def angles(self) -> tuple[float, float, float]:
        """Yaw, pitch and roll in degrees."""
        r = self.rotation
        yaw = np.arctan2(r[0, 2], r[2, 2])
        pitch = np.arcsin(np.clip(-r[1, 2], -1, 1))
        roll = np.arctan2(r[1, 0], r[1, 1])
        return tuple(float(np.degrees(angle)) for angle in (yaw, pitch, roll))  # pyright: ignore[reportReturnType]

    @property
    def middle(self) -> np.ndarray:
        """Between the eyes' middle and the chin: [2], in pixels."""
        eyes = self.points[[EYES[0][0], EYES[1][0]], :2].mean(0)
        return (eyes + self.points[CHIN, :2]) / 2


class Landmarker:
    """MediaPipe's face landmarker, for single pictures.

    To be closed: one that is still there when Python ends prints a traceback of MediaPipe's.

    Args:
        model: `face_landmarker.task`, from MediaPipe's model page.

    Raises:
        UserError: the file is not there, or MediaPipe is not installed.
    """

    def __init__(self, model: Path) -> None:
        if not model.is_file():
            raise UserError(f"{model}: not found; face_landmarker.task is on MediaPipe's page")
        try:
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision
        except ImportError as error:
            raise UserError("faces need mediapipe: pip install 'avgen[evaluate]'") from error
        self._image: Any = mediapipe.Image
        self._format: Any = mediapipe.ImageFormat.SRGB
        self._landmarker = vision.FaceLandmarker.create_from_options(
            vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_path=str(model)),
                num_faces=3,
                output_facial_transformation_matrixes=True,
            )
        )

    def close(self) -> None:
        """Let MediaPipe's graph go."""
        self._landmarker.close()

    def __call__(self, picture: np.ndarray) -> list[Face]:
        """The faces in a picture uint8 [H, W, 3], RGB, the largest first."""
        height, width = picture.shape[:2]
        found = self._landmarker.detect(
            self._image(image_format=self._format, data=np.ascontiguousarray(picture))
        )
        faces = []
        for marks, matrix in zip(
            found.face_landmarks, found.facial_transformation_matrixes, strict=True
        ):
            points = np.array([(p.x * width, p.y * height, p.z * width) for p in marks])
            turn = np.array(matrix)[:3, :3]
            faces.append(Face(points, turn / np.cbrt(np.linalg.det(turn))))
        return sorted(faces, key=lambda face: face.unit, reverse=True)


def read_picture(path: Path) -> np.ndarray:
    """A picture, RGB uint8 [H, W, 3].

    Raises:
        UserError: it cannot be read.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise UserError("is no picture that OpenCV can read")
    return np.ascontiguousarray(picture[:, :, ::-1])


def the_face(faces: list[Face], size: tuple[int, int], max_gap: float = MAX_GAP) -> Face:
    """The one face of a picture of a height and width, its lips no further apart than `max_gap`.

    Raises:
        UserError: there is none, or it cannot be made to speak; the message says why.
    """
    if not faces:
        raise UserError("no face: MediaPipe finds none")
    face = faces[0]
    if len(faces) > 1 and faces[1].unit > RIVAL * face.unit:
        raise UserError("several faces: one person is to be shown")
    for name, angle, limit in zip(
        ("yaw", "pitch", "roll"), face.angles, (MAX_YAW, MAX_PITCH, MAX_ROLL), strict=True
    ):
        if abs(angle) > limit:
            raise UserError(f"profile: {name} is {angle:.0f} degrees; at most {limit:.0f}")
    if face.unit < MIN_EYES:
        raise UserError(
            f"too small: {face.unit:.0f} pixels between the outer corners of the eyes; "
            f"at least {MIN_EYES:.0f}"
        )
    if face.gap > max_gap:
        raise UserError(f"mouth open: the lips are {face.gap:.3f} of the eyes' distance apart")
    _check_lids(face)
    room = room_around(face, size)
    if (room < NEEDED).any():
        side = ("left", "upper", "right", "lower")[int(np.argmin(room - NEEDED))]
        raise UserError(f"head at the border: the picture's {side} border is too near")
    return face


def room_around(face: Face, size: tuple[int, int]) -> np.ndarray:
    """Left, up, right and down from the face's middle to the picture's borders, in units: [4]."""
    (x, y), (height, width) = face.middle, size
    return np.array([x, y, width - x, height - y]) / face.unit


def _check_lids(face: Face) -> None:
    for above, below in zip(EYES, LOWER_LIDS, strict=True):
        lids = face.points[[above[4], below[4]], :2]
        corners = face.points[[above[0], above[-1]], :2]
        ratio = np.linalg.norm(lids[0] - lids[1]) / np.linalg.norm(corners[0] - corners[1])
        if ratio < MIN_LIDS:
            raise UserError("eyes closed: the lids are to be apart")
