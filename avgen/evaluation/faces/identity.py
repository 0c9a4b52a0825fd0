"""Frames -> whose face it is: how like a given picture, and how little it changes over a clip.

The embedding is dlib's (King 2017, "High Quality Face Recognition with Deep Metric Learning"): a
ResNet of 128 numbers, of which two of one person lie 0.6 apart at most. Code: Boost licence; the
network and the five-point file are in the public domain (CC0). They come with the package
face-recognition-models, whose 68-point file (not for commercial use) is never opened.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from avgen.clips.media.read import read_image
from avgen.evaluation.measure import Measure, Value, Values, optional
from avgen.evaluation.subject import FPS, Subject, Unscored

NUM_LOOKS = 8  # frames of a stretch, evenly spread, whose embeddings are averaged
STRETCH_S = 10.0  # of the first and last stretch that a long clip is compared by
SMALL = 200  # pixels; a picture whose shorter side is below is enlarged twice for the detector
INSTALL = "dlib-bin face-recognition-models"


@cache
def _networks() -> tuple[Any, Any, Any, Any]:
    """dlib, its face detector, its five-point predictor and its embedding."""
    dlib: Any = optional("dlib", INSTALL)
    spec = find_spec("face_recognition_models")  # importing it needs an old setuptools
    if spec is None or not spec.submodule_search_locations:
        raise Unscored(f"needs face_recognition_models: pip install {INSTALL}")
    folder = Path(spec.submodule_search_locations[0]) / "models"
    points = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
    network = "dlib_face_recognition_resnet_model_v1.dat"
    return (
        dlib,
        dlib.get_frontal_face_detector(),
        points,
        dlib.face_recognition_model_v1(str(folder / network)),
    )


def face_embedding(frames: np.ndarray) -> np.ndarray:
    """Mean embedding [128] of the largest face in frames uint8 [T, H, W, 3].

    Raises:
        Unscored: no face is found in any of the frames looked at, or dlib is not installed.
    """
    _, _, points, network = _networks()
    places = np.unique(np.linspace(0, len(frames) - 1, NUM_LOOKS).round().astype(int))
    found = []
    for frame in (np.ascontiguousarray(frames[place]) for place in places):
        if (box := _largest_face(frame)) is not None:
            found.append(network.compute_face_descriptor(frame, points(frame, box)))
    if not found:
        raise Unscored("no face was found to tell whose it is")
    return np.mean(np.array(found, np.float64), axis=0)


def upright_face(frame: np.ndarray, side: int, padding: float) -> np.ndarray:
    """The largest face of a frame uint8 [H, W, 3], turned upright, with its eyes in one place.

    Args:
        frame: The picture.
        side: Pixels of what comes out, [side, side, 3].
        padding: How much is seen around the face, of its size.

    Raises:
        Unscored: no face is found, or dlib is not installed.
    """
    dlib, _, points, _ = _networks()
    frame = np.ascontiguousarray(frame)
    if (box := _largest_face(frame)) is None:
        raise Unscored("no face was found to look at")
    return dlib.get_face_chip(frame, points(frame, box), size=side, padding=padding)


def _largest_face(frame: np.ndarray) -> Any:
    """The box of the largest face of a frame; None where none is found."""
    boxes = _networks()[1](frame, 1 if min(frame.shape[:2]) < SMALL else 0)
    return max(boxes, key=lambda box: box.area(), default=None)


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """1 less the distance of two embeddings: 1 is the same picture, 0.4 the edge of one person."""
    return 1 - float(np.linalg.norm(one - other))


def stretch_s(subject: Subject) -> float:
    """Seconds of a clip's first and last stretch that are compared: half of it at most."""
    return min(STRETCH_S, float(subject.clip.duration_s) / 2)


def _asked_for(subject: Subject) -> np.ndarray:
    """The embedding of the person whom a clip should show."""
    if subject.picture is not None:
        return face_embedding(read_image(subject.picture)[None])
    return face_embedding(subject.real.clip.frames)


def _last_second(subject: Subject) -> np.ndarray:
    return face_embedding(subject.clip.frames[-int(FPS) :])


def _likeness(subject: Subject, other: Subject | None = None) -> Values:
    """How like the given person a clip is, or how like another clip's person, as a control."""
    one = subject.once(_asked_for)
    found = {"similarity": similarity(one, (other or subject).once(_whole))}
    return found | {"last_second": similarity(one, (other or subject).once(_last_second))}


def _whole(subject: Subject) -> np.ndarray:
    return face_embedding(subject.clip.frames)


def _parts(subject: Subject) -> list[np.ndarray]:
    """Embeddings of a clip's first stretch, of the two halves of it, and of the last stretch."""
    frames = subject.clip.frames
    count = int(stretch_s(subject) * float(FPS))
    if count < 2:
        raise Unscored(f"{len(frames)} frames are too few to compare their beginning and end")
    parts = (frames[:count], frames[: count // 2], frames[count // 2 : count], frames[-count:])
    return [face_embedding(part) for part in parts]


def _drift(subject: Subject, other: Subject | None = None) -> Values:
    first, one, two, last = subject.once(_parts)
    if other is not None:
        last = other.once(_parts)[3]
    within, kept = similarity(one, two), similarity(first, last)
    return {"within_first": within, "last_to_first": kept, "kept": kept / within}


MEASURES = (
    Measure(
        "identity",
        "dlib-resnet-v1/1",
        {"similarity": Value(1), "last_second": Value(1)},
        _likeness,
        mismatch=_likeness,
        is_of_person=True,
        needs=("picture",),
        by_default=False,
    ),
    Measure(
        "face_drift",
        "dlib-resnet-v1-drift/1",
        {"kept": Value(1), "last_to_first": Value(1), "within_first": Value(1)},
        _drift,
        mismatch=_drift,
        is_of_person=True,
        by_default=False,
    ),
)
