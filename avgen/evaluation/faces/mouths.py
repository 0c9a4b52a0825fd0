"""Landmarks of a face -> how its mouth opens, when it moves, and when the eyes blink.

Lengths are in heights of the face (hairline to chin), which makes them independent of the sizes of
face and picture. Landmarks are MediaPipe's 478 points, in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from avgen.errors import UserError
from avgen.evaluation.faces.tracking import LANDMARKER, landmarks_of
from avgen.evaluation.measure import Measure, Value, Values
from avgen.evaluation.subject import FPS, SAMPLE_RATE, Subject, Unscored, own_sound
from avgen.evaluation.waveforms import frame_power

# MediaPipe's numbers of points.
TOP, CHIN = 10, 152
INNER_LIPS, OUTER_LIPS, CORNERS = (13, 14), (0, 17), (61, 291)
NOSE = 1
# Eyes as p1..p6 of Soukupova & Cech 2016: outer corner, two above, inner corner, two below.
EYES = ((33, 160, 158, 133, 153, 144), (362, 385, 387, 263, 373, 380))

QUIET_DB = -35.0  # below the loudest frame; what is quieter counts as silence
LEAST_SILENCE = 5  # frames of silence or of speech, for a mean over them to be one
# 5th to 95th percentile of the opening: a fifth of the least of 49 sentences of 11 GRID speakers.
FROZEN_RANGE = 0.01
BLINK_DEPTH, BLINK_FRAMES = 0.65, (1, 12)  # of the eye's usual aspect ratio; at 25 fps


@dataclass(frozen=True)
class Mouth:
    """What a mouth does in a clip.

    Attributes:
        opening: Of the inner lips, in heights of the face: [T].
        mean_opening: Its mean.
        articulation: Its 5th to 95th percentile.
        frozen: Whether the mouth stands still while there is sound.
        motion_in_silence: Mean speed of the opening in silence over that in sound; None where
            there is too little of either.
        blinks: How many.
        blinks_per_minute: Their rate.
    """

    opening: np.ndarray
    mean_opening: float
    articulation: float
    frozen: bool
    motion_in_silence: float | None
    blinks: int
    blinks_per_minute: float


def geometry(landmarks: np.ndarray) -> np.ndarray:
    """Shape of the mouth in landmarks [T, 478, 3], whatever the head does: float64 [T, 6].

    Inner opening, outer opening, width, drop of the jaw (nose to chin), height of the corners over
    the lips' middle, and how far the lips stand out (depth, nose to lips), in heights of the face.
    The head's turn in the picture is taken out first; its turn to the side is not.
    """
    points = landmarks.astype(np.float64)
    axis = points[:, CHIN, :2] - points[:, TOP, :2]
    height = np.median(np.linalg.norm(axis, axis=1))
    down = axis / np.linalg.norm(axis, axis=1, keepdims=True)
    along = np.einsum("tpc,tc->tp", points[:, :, :2], down) / height
    lips = points[:, [*INNER_LIPS, *OUTER_LIPS]].mean(1)
    corners = [points[:, index, :2] for index in CORNERS]
    return np.stack(
        [
            along[:, INNER_LIPS[1]] - along[:, INNER_LIPS[0]],
            along[:, OUTER_LIPS[1]] - along[:, OUTER_LIPS[0]],
            np.linalg.norm(corners[1] - corners[0], axis=1) / height,
            along[:, CHIN] - along[:, NOSE],
            along[:, [*INNER_LIPS]].mean(1) - along[:, [*CORNERS]].mean(1),
            (points[:, NOSE, 2] - lips[:, 2]) / height,
        ],
        1,
    )


def opening(landmarks: np.ndarray) -> np.ndarray:
    """Opening of the inner lips in landmarks [T, 478, 3], in heights of the face: [T]."""
    return np.maximum(geometry(landmarks)[:, 0], 0)


def articulation(openings: np.ndarray) -> float:
    """How far a mouth opens and closes: 5th to 95th percentile of openings [T]."""
    low, high = np.quantile(openings, [0.05, 0.95])
    return float(high - low)


def articulation_ratio(made: np.ndarray, real: np.ndarray) -> float:
    """Articulation of openings [T] over that of a reference's [T']; 1 is as much.

    Raises:
        Unscored: the reference's mouth stands still.
    """
    reference = articulation(real)
    if reference < FROZEN_RANGE:
        raise Unscored("the reference's mouth stands still: there is nothing to compare with")
    return articulation(made) / reference


def sounding(waveform: np.ndarray, rate: int, num_frames: int, fps: Fraction) -> np.ndarray:
    """Whether there is sound in each frame's time: bool [T]; QUIET_DB below the loudest is none.

    Args: as of `waveforms.frame_power`.
    """
    power = frame_power(waveform, rate, num_frames, fps)
    return power > max(power.max() * 10 ** (QUIET_DB / 10), 1e-9)


def motion_in_silence(openings: np.ndarray, sound: np.ndarray) -> float | None:
    """Mean speed of openings [T] in silence over that in sound, bool [T]; None for too little."""
    speed = np.abs(np.diff(openings))
    quiet, loud = ~sound[1:] & ~sound[:-1], sound[1:] & sound[:-1]
    if min(quiet.sum(), loud.sum()) < LEAST_SILENCE or speed[loud].mean() == 0:
        return None
    return float(speed[quiet].mean() / speed[loud].mean())


def eye_aspect_ratio(landmarks: np.ndarray) -> np.ndarray:
    """Mean of both eyes' height over width in landmarks [T, 478, 3]: [T].

    Soukupova & Cech 2016, "Real-Time Eye Blink Detection using Facial Landmarks", equation (1).
    """

    def distance(one: int, other: int) -> np.ndarray:
        return np.linalg.norm(landmarks[:, one, :2] - landmarks[:, other, :2], axis=1)

    ratios = [(distance(b, f) + distance(c, e)) / (2 * distance(a, d)) for a, b, c, d, e, f in EYES]
    return np.mean(ratios, axis=0)


def blinks(ratios: np.ndarray) -> int:
    """How often eyes of aspect ratio [T] shut: below BLINK_DEPTH of the median, for a while."""
    shut = np.concatenate([[False], ratios < BLINK_DEPTH * np.median(ratios), [False]])
    edges = np.flatnonzero(np.diff(shut.astype(int)))
    lengths = edges[1::2] - edges[::2]
    return int(np.sum((lengths >= BLINK_FRAMES[0]) & (lengths <= BLINK_FRAMES[1])))


def mouth(landmarks: np.ndarray, waveform: np.ndarray, rate: int, fps: Fraction) -> Mouth:
    """What the mouth of landmarks [T, 478, 3] does while a sound float32 [C, N] is heard.

    Raises:
        Unscored: landmarks with NaN: a face that is not there in some frame.
    """
    if not np.isfinite(landmarks).all():
        raise Unscored("the face is not there in every frame")
    openings = opening(landmarks)
    sound = sounding(waveform, rate, len(openings), fps)
    num_blinks = blinks(eye_aspect_ratio(landmarks))
    reach = articulation(openings)
    return Mouth(
        opening=openings,
        mean_opening=float(openings.mean()),
        articulation=reach,
        frozen=bool(reach < FROZEN_RANGE and sound.any()),
        motion_in_silence=motion_in_silence(openings, sound),
        blinks=num_blinks,
        blinks_per_minute=float(num_blinks * 60 * fps / len(openings)),
    )


def _values(subject: Subject) -> Values:
    found = mouth(landmarks_of(subject), own_sound(subject), SAMPLE_RATE, FPS)
    names = ("mean_opening", "articulation", "frozen", "motion_in_silence", "blinks_per_minute")
    values: Values = {name: getattr(found, name) for name in names}
    values |= {"num_frames": len(found.opening), "spread": float(found.opening.std())}
    if subject.reference is not None:
        try:
            real = opening(landmarks_of(subject.real))
            values["articulation_ratio"] = articulation_ratio(found.opening, real)
            values["spread_ratio"] = values["spread"] / float(real.std())
        except UserError as reason:
            values["notes"] = [f"no ratios to the reference: {reason}"]
    return values


MEASURES = (
    Measure(
        "mouth",
        "avgen-mouth/1",
        {
            "articulation": Value(),
            "articulation_ratio": Value(),
            "mean_opening": Value(),
            "spread": Value(),
            "spread_ratio": Value(),
            "motion_in_silence": Value(-1),
            "frozen": Value(-1),
            "blinks_per_minute": Value(),
        },
        _values,
        networks=(LANDMARKER,),
    ),
)
