"""A mouth's landmarks and a sound in, how well they fit out: a second opinion on avgen-sync's.

A ridge regression (Hoerl & Kennard 1970) predicts the shape and motion of a mouth from the loudness
in bands around a frame; the score is the correlation at each lag of the prediction with the
landmarks. It shares neither the picture's features nor the network with avgen-sync: a regression of
a few thousand numbers, on lips found by MediaPipe, whose model file has to be given.
recipes/sync/landmark_regression.py fits it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from avgen.codecs.base import load_module
from avgen.errors import UserError
from avgen.evaluation.faces.mouths import geometry
from avgen.evaluation.faces.tracking import LANDMARKER, landmarks_of
from avgen.evaluation.measure import Measure, Rows, Values
from avgen.evaluation.rows import values_of
from avgen.evaluation.subject import Network, Subject, Unscored
from avgen.evaluation.sync.features import MELS_PER_FRAME, NUM_MELS, log_mel
from avgen.evaluation.sync.lags import standardized
from avgen.evaluation.sync.score import (
    VALUES,
    SyncScore,
    require_length,
    score_features,
    stretches,
    sync_values,
)
from avgen.evaluation.waveforms import require_audible

PROTOCOL = "avgen-landmark-sync/2"
CHECKPOINT = Path(__file__).resolve().parents[2] / "checkpoints" / "landmark_sync"
CONTEXT = 3  # frames heard before and after the one that is told
NUM_INPUTS = 2 * NUM_MELS * (2 * CONTEXT + 1)
# Of mouths.geometry: inner and outer opening and the jaw's drop, the three that a regression tells
# best of s1's validation sentences (correlations of 0.8; depth 0.7, width 0.6, corners 0.4).
SHAPES = (0, 1, 3)
NUM_OUTPUTS = 2 * len(SHAPES)
# z of the best lag, and confidence, below which it is not to be believed; chosen when s1 was all
# there was, of whose validation sentences 87 % reached them with their own sound, 8 % with others'.
WEAK = (1.5, 0.5)
FROZEN = 1e-4  # heights of the face: spread of every shape below which a mouth stands still


@dataclass(frozen=True)
class RegressionConfig:
    """Size of a `LandmarkRegression`.

    Attributes:
        bank_frames: Rows of the bank: what it says of speech that belongs to no clip.
    """

    bank_frames: int = 0


class LandmarkRegression(nn.Module):
    """Coefficients that say a mouth's shape and motion from what is heard.

    Args:
        config: Size of its bank.
    """

    weight: Tensor
    bank: Tensor

    def __init__(self, config: RegressionConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("weight", torch.zeros(NUM_INPUTS, NUM_OUTPUTS))
        self.register_buffer("bank", torch.zeros(config.bank_frames, NUM_OUTPUTS))

    def sound_features(self, waveform: np.ndarray, rate: int, num_frames: int) -> np.ndarray:
        """What the mouth should do: float64 [num_frames, NUM_OUTPUTS], less its mean.

        Args:
            waveform: float32 [C, N] in [-1, 1], from the picture's first frame on.
            rate: Its samples a second.
            num_frames: Of the picture at 25 fps.

        Raises:
            Unscored: silence.
        """
        heard = standardized(inputs(waveform, rate, num_frames))
        return heard @ self.weight.double().numpy()

    def score(self, picture: np.ndarray, sound: np.ndarray) -> SyncScore:
        """How picture features and sound features [T, NUM_OUTPUTS] fit; see sync.SyncScore.

        Raises:
            Unscored: too short a clip for lags of 15 frames, or no lag to find.
        """
        unrelated = stretches(self.bank.numpy(), len(picture))
        return score_features(picture, sound, unrelated, WEAK)


def picture_features(landmarks: np.ndarray) -> np.ndarray:
    """Shape of the mouth (SHAPES) and how it changes: float64 [T, NUM_OUTPUTS].

    Args:
        landmarks: float32 [T, 478, 3], in pixels, at 25 fps.

    Raises:
        Unscored: the mouth stands still.
    """
    shape = geometry(landmarks)[:, SHAPES]
    if shape.std(0).max() < FROZEN:
        raise Unscored("the mouth does not move")
    return np.concatenate([shape, _change(shape)], 1)


def inputs(waveform: np.ndarray, rate: int, num_frames: int) -> np.ndarray:
    """What is heard around each frame: [num_frames, NUM_INPUTS].

    Loudness in bands (sync_features.log_mel), the mean of each frame's time, and its change; of the
    frame and of CONTEXT frames before and after it, the first and last repeated.

    Raises:
        Unscored: silence.
    """
    require_audible(waveform)
    bands = log_mel(waveform, rate, num_frames).astype(np.float64)
    bands = bands.reshape(num_frames, MELS_PER_FRAME, NUM_MELS).mean(1)
    rows = np.concatenate([bands, _change(bands)], 1)
    padded = np.pad(rows, ((CONTEXT, CONTEXT), (0, 0)), mode="edge")
    return np.concatenate([padded[k : k + num_frames] for k in range(2 * CONTEXT + 1)], 1)


def fit(heard: list[np.ndarray], seen: list[np.ndarray], ridge: float) -> np.ndarray:
    """Coefficients [NUM_INPUTS, NUM_OUTPUTS] of the ridge regression over all frames of clips.

    Args:
        heard: `inputs` of each clip.
        seen: `picture_features` of each clip.
        ridge: What is added to the diagonal of the inputs' covariance, whose own is 1 a frame:
            as many frames as it would take to believe otherwise.
    """
    one = np.concatenate([standardized(clip) for clip in heard])
    other = np.concatenate([standardized(clip) for clip in seen])
    return np.linalg.solve(one.T @ one + ridge * np.eye(one.shape[1]), one.T @ other)


@cache
def load(path: Path | None = None) -> LandmarkRegression:
    """The regression in a folder; None for the one that ships with avgen.

    Raises:
        UserError: not a folder of a `LandmarkRegression`.
    """
    folder = path or CHECKPOINT
    model = load_module(folder)
    if not isinstance(model, LandmarkRegression):
        raise UserError(f"{folder}: a {type(model).__name__}; it must be a LandmarkRegression")
    return model


def _change(rows: np.ndarray) -> np.ndarray:
    """Half the difference of the next row and the last of [T, D]; at the ends of the two there."""
    return np.gradient(rows, axis=0) if len(rows) > 1 else np.zeros_like(rows)


def _picture(subject: Subject) -> tuple[LandmarkRegression, np.ndarray]:
    require_length(subject)
    return subject.network(NETWORK), picture_features(landmarks_of(subject))


def _values(seen: tuple[LandmarkRegression, np.ndarray], waveform: np.ndarray, rate: int) -> Values:
    model, picture = seen
    return sync_values(model.score(picture, model.sound_features(waveform, rate, len(picture))))


def _beside_sync(rows: Rows, _: int) -> dict[str, Any]:
    """In how many clips the two estimators agree within one frame."""
    one, other = (
        values_of(rows, name, "offset_frames", "clips") for name in ("sync", "landmark_sync")
    )
    apart = [abs(one[clip] - other[clip]) for clip in one.keys() & other.keys()]
    if not apart:
        return {}
    near = sum(distance <= 1 for distance in apart)
    return {
        "beside_sync": {"n": len(apart), "within_one_frame": near},
        "sentences": [
            "landmark_sync and sync put the sound within one frame of each other in "
            f"{near} of {len(apart)} clips."
        ],
    }


NETWORK = Network("landmark_sync", "a folder of a LandmarkRegression", load, CHECKPOINT)
MEASURES = (
    Measure(
        "landmark_sync",
        PROTOCOL,
        VALUES,
        _picture,
        _values,
        networks=(LANDMARKER, NETWORK),
        combine=_beside_sync,
    ),
)
