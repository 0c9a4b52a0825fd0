"""A clip alone -> how sharp it is, how much it moves, whether it flickers, jumps or stands still.

What these should be is what the real clips have: give `--reference`.
"""

from __future__ import annotations

import numpy as np

from avgen.evaluation.comparison.distances import sharpness
from avgen.evaluation.measure import Measure, Value, Values
from avgen.evaluation.subject import Subject, Unscored

STRIDE = 4  # frames that one latent of avgen's picture codecs covers
STILL_LEVELS = 0.05  # of 255: the mean change from a frame to its copy, encoded anew


def steps(frames: np.ndarray) -> np.ndarray:
    """Mean absolute difference of consecutive frames uint8 [T, H, W, 3], in levels: [T - 1]."""
    return np.array(
        [
            np.abs(after.astype(np.int16) - before).mean()
            for before, after in zip(frames[:-1], frames[1:], strict=True)
        ]
    )


def joins(num_frames: int, stride: int = STRIDE) -> np.ndarray:
    """Whether the step from frame t to t + 1 crosses two latent frames: bool [num_frames - 1].

    Latent 0 is frame 0; latent i > 0 is frames stride * (i - 1) + 1 to stride * i.
    """
    return np.arange(num_frames - 1) % stride == 0


def flicker(size: np.ndarray, stride: int = STRIDE) -> float:
    """Mean of steps [T - 1] at the joins of latent frames over that inside them; 1 is none."""
    join = joins(len(size) + 1, stride)
    inside = float(size[~join].mean())
    return float(size[join].mean()) / inside if inside else float("nan")


def largest(size: np.ndarray, usual: float) -> float:
    """The largest of steps [N] over the usual one, a quantile; NaN if that is 0."""
    typical = float(np.quantile(size, usual))
    return float(size.max()) / typical if typical else float("nan")


def _values(subject: Subject) -> Values:
    frames = subject.native.frames
    if len(frames) <= STRIDE:
        raise Unscored(f"{len(frames)} frames; motion is measured over more than {STRIDE}")
    size, sound = steps(frames), subject.native.waveform
    return {
        "jump": largest(size, 0.5),
        "sound_jump": None if sound is None else largest(np.abs(np.diff(sound[0])), 0.999),
        "sharpness": sharpness(frames),
        "step": float(size.mean()),
        "flicker": flicker(size),
        "frozen": float((size < STILL_LEVELS).mean()),
    }


MEASURES = (
    Measure(
        "picture",
        "avgen-picture/1",
        {
            "sharpness": Value(unit="levels"),
            "step": Value(unit="levels"),
            "flicker": Value(),
            "jump": Value(),
            "sound_jump": Value(),
            "frozen": Value(-1),
        },
        _values,
        by_default=False,
    ),
)
