"""avgen-sync: whether a mouth and a sound belong together, how far apart they are, and how sure.

A picture becomes features by the mouth's motion (features.py, network.py), a sound by its loudness
in bands; the score is their correlation over a clip at each lag (lags.py). The network's weights
ship with avgen: avgen/checkpoints/sync states how it was trained and measured. Never train a
generator against it and report it as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import torch

from avgen.codecs.base import load_module
from avgen.errors import UserError
from avgen.evaluation.faces.tracking import the_face, tracks_of
from avgen.evaluation.measure import Measure, Value, Values
from avgen.evaluation.subject import Network, Subject, Unscored, own_sound
from avgen.evaluation.sync import lags
from avgen.evaluation.sync.features import FPS, log_mel, motion, picture_rows
from avgen.evaluation.sync.network import SyncNetwork
from avgen.evaluation.waveforms import require_audible

PROTOCOL = "avgen-sync/3"  # 2 had learned of one man; 1 had intervals without SLACK
CHECKPOINT = Path(__file__).resolve().parents[2] / "checkpoints" / "sync"
NUM_BANK = 40  # stretches of the shipped unrelated speech that z compares with
STILL = 4e-4  # region sides a frame: RMS motion below which it is a still; encoders leave 1.4e-4
WEAK = (1.5, 0.85)  # z and confidence: below either, the best lag is not to be believed
SLACK = 0.4  # frames that an interval is wider at each end than the clip's own frames say it is


@dataclass(frozen=True)
class SyncScore:
    """How a clip's picture and sound fit.

    Attributes:
        r0: Correlation at lag 0, in [-1, 1].
        z: r0 above what unrelated sounds score with the same picture, in their standard deviations.
        offset_frames: Lag at which the two agree best; above 0 where the sound comes first.
        offset_ms: The same in ms.
        interval_ms: Its 95 % interval: `lags.offset`'s, and SLACK at both ends for what no drawing
            of the clip's frames shows, such as how far a speaker's mouth precedes the voice. It was
            chosen on GRID s1's validation sentences (recipes/sync).
        confidence: Share of the bootstrap's resamplings whose best lag is within one frame of it.
        reliable: Whether the evidence for the offset is strong enough to act on it.
        curve: Correlation at lags -15 to 15 frames, [31].
        words: The offset as a sentence.
    """

    r0: float
    z: float
    offset_frames: float
    offset_ms: float
    interval_ms: tuple[float, float]
    confidence: float
    reliable: bool
    curve: np.ndarray
    words: str


class SyncModel:
    """A `SyncNetwork` and the features that it reads.

    Args:
        network: With its bank of unrelated speech.
    """

    protocol = PROTOCOL

    def __init__(self, network: SyncNetwork) -> None:
        self.network = network.eval()

    def picture_features(self, frames: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Features of the mouth's motion: float32 [T, D].

        Args:
            frames: uint8 [T, H, W, 3], at 25 fps.
            boxes: float [T, 4], the face in each frame (`faces.the_face(tracks).boxes`).

        Raises:
            Unscored: the picture does not move.
            UserError: lengths that differ, or boxes with NaN.
        """
        moved = motion(frames, boxes)
        if np.sqrt(np.mean(moved[:, :2] ** 2)) < STILL:
            raise Unscored("the face does not move")
        with torch.inference_mode():
            return self.network.picture(picture_rows(torch.from_numpy(moved)[None]))[0].numpy()

    def sound_features(self, waveform: np.ndarray, rate: int, num_frames: int) -> np.ndarray:
        """Features of the sound: float32 [num_frames, D].

        Args:
            waveform: float32 [C, N] in [-1, 1], from the picture's first frame on; what is longer
                than the picture is cut, what is missing is silence.
            rate: Its samples a second.
            num_frames: Of the picture at 25 fps.

        Raises:
            Unscored: silence.
        """
        require_audible(waveform)
        mels = torch.from_numpy(log_mel(waveform, rate, num_frames))[None]
        with torch.inference_mode():
            return self.network.sound(mels)[0].numpy()

    def bank(self, num_frames: int) -> list[np.ndarray]:
        """Unrelated speech's features, NUM_BANK stretches of [num_frames, D], always the same."""
        return stretches(self.network.bank.numpy(), num_frames)

    def score(
        self, picture: np.ndarray, sound: np.ndarray, others: Sequence[np.ndarray] | None = None
    ) -> SyncScore:
        """How picture features [T, D] and sound features [T, D] fit.

        Args:
            picture: Of `picture_features`.
            sound: Of `sound_features`.
            others: Features of unrelated sounds [T, D], at least 3, that z compares with; None for
                the bank that ships with the model.

        Raises:
            Unscored: too short a clip for lags of 15 frames, or no lag to find.
        """
        unrelated = self.bank(len(picture)) if others is None else others
        return score_features(picture, sound, unrelated, slack=SLACK)


def score_features(
    picture: np.ndarray,
    sound: np.ndarray,
    unrelated: Sequence[np.ndarray],
    weak: tuple[float, float] = WEAK,
    slack: float = 0.0,
) -> SyncScore:
    """How features [T, D] of a picture and of a sound fit, beside those of unrelated sounds.

    Args:
        picture: Of a mouth.
        sound: Of what is heard.
        unrelated: Of unrelated sounds, at least 3.
        weak: z of the best lag, and confidence, below which it is not to be believed.
        slack: Frames by which the interval is wider at each end than its bootstrap has it.

    Raises:
        Unscored: too short a clip for lags of 15 frames, or no lag to find.
    """
    curve = lags.correlation_curve(picture, sound)
    r0 = float(curve[lags.MAX_LAG])
    z = lags.z_score(r0, mismatched(picture, unrelated))
    found = lags.offset(picture, sound)
    found = replace(found, interval=(found.interval[0] - slack, found.interval[1] + slack))
    best = float(curve.max())
    z_best = lags.z_score(best, lags.correlation_curves(picture, np.stack(unrelated)).max(1))
    reliable = z_best >= weak[0] and found.confidence >= weak[1]
    fps = Fraction(FPS)
    low, high = (lags.milliseconds(end, fps) for end in found.interval)
    words = lags.sentence(found, fps)
    if not reliable:
        words = "sound and picture do not fit well at any lag; the best one says: " + words
    return SyncScore(
        r0=r0,
        z=z,
        offset_frames=found.frames,
        offset_ms=lags.milliseconds(found.frames, fps),
        interval_ms=(low, high),
        confidence=found.confidence,
        reliable=reliable,
        curve=curve,
        words=words,
    )


def stretches(bank: np.ndarray, num_frames: int) -> list[np.ndarray]:
    """NUM_BANK stretches [num_frames, D] of a bank [N, D]; it goes round where it is shorter."""
    starts = np.linspace(0, len(bank), NUM_BANK, endpoint=False).astype(int)
    return [np.take(bank, np.arange(s, s + num_frames), 0, mode="wrap") for s in starts]


def mismatched(picture: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """Correlation at lag 0 of picture features [T, D] with each of other sounds' [T, D]."""
    one = lags.standardized(picture)
    return np.array([float((one * lags.standardized(other)).mean()) for other in others])


@cache
def load(path: Path | None = None) -> SyncModel:
    """The model in a folder; None for the one that ships with avgen.

    Raises:
        UserError: not a folder of a `SyncNetwork`.
    """
    folder = path or CHECKPOINT
    network = load_module(folder)
    if not isinstance(network, SyncNetwork):
        raise UserError(f"{folder}: a {type(network).__name__}; it must be a SyncNetwork")
    return SyncModel(network)


def require_length(subject: Subject) -> None:
    """Refuse a clip without sound, or too short for any lag, before faces are looked for.

    Raises:
        Unscored: it is.
    """
    own_sound(subject)
    least = lags.MAX_LAG + lags.MIN_OVERLAP
    if subject.clip.num_frames < least:
        raise Unscored(
            f"lasts {subject.clip.num_frames / FPS:.2f} s; an offset needs {least / FPS:.0f} s"
        )


def sync_values(found: SyncScore) -> Values:
    """What a row holds of a score."""
    names = ("r0", "z", "offset_ms", "offset_frames", "confidence", "reliable")
    return {
        **{name: getattr(found, name) for name in names},
        "abs_offset_ms": abs(found.offset_ms),
        "interval_ms": list(found.interval_ms),
        "curve": found.curve,
        "words": found.words,
    }


def _picture(subject: Subject) -> tuple[SyncModel, np.ndarray]:
    require_length(subject)
    boxes = the_face(tracks_of(subject)).boxes
    model = subject.network(NETWORK)
    return model, model.picture_features(subject.clip.frames, boxes)


def _values(seen: tuple[SyncModel, np.ndarray], waveform: np.ndarray, rate: int) -> Values:
    model, picture = seen
    return sync_values(model.score(picture, model.sound_features(waveform, rate, len(picture))))


NETWORK = Network(
    "sync", "a folder of an avgen-sync network other than the one that ships", load, CHECKPOINT
)
VALUES = {
    "r0": Value(1),
    "z": Value(1),
    "offset_ms": Value(unit="ms"),
    "abs_offset_ms": Value(-1, "ms"),
    "reliable": Value(1),
}
MEASURES = (Measure("sync", PROTOCOL, VALUES, _picture, _values, networks=(NETWORK,)),)
