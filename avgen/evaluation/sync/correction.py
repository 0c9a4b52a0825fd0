"""A video out of sync in, by how much out, and how sure: what `avgen resync` does to it.

A long video is looked at in several places. They must agree: sound that drifts, or scenes of
different offsets, cannot be put right by one delay, and are refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from avgen.clips.media.read import read_clip
from avgen.clips.media.streams import probe
from avgen.evaluation.faces.tracking import CascadeTracker, the_face
from avgen.evaluation.subject import FPS, SAMPLE_RATE, Unscored, read_stream
from avgen.evaluation.sync import lags
from avgen.evaluation.sync import score as sync

WINDOW_S = Fraction(12)  # of each place that is looked at
MAX_PLACES = 8
MAX_SPREAD_MS = 60.0  # between places: one and a half frames
MIN_CONFIDENCE = 0.85
MAX_HALF_WIDTH_MS = 60.0  # of the interval
WORTH_MS = 10.0  # a smaller offset is left alone: nobody sees a quarter of a frame


@dataclass(frozen=True)
class Evidence:
    """What was found in a video.

    Attributes:
        offset_ms: above 0 where the sound comes first: what it must be delayed by.
        interval_ms: 95 %.
        confidence: share of the bootstrap within a frame of the offset; the least of the places.
        places: how many places gave an offset, and of how many that were looked at.
        words: the offset as a sentence.
    """

    offset_ms: float
    interval_ms: tuple[float, float]
    confidence: float
    places: tuple[int, int]
    words: str

    @property
    def is_in_sync(self) -> bool:
        """Whether there is nothing to put right: too little to see, or perhaps none."""
        low, high = self.interval_ms
        return abs(self.offset_ms) < WORTH_MS or low <= 0 <= high


def find_offset(path: Path, weights: dict[str, Path] | None = None) -> Evidence:
    """How far the sound of a video lies from its picture.

    Args:
        path: a video of a person who speaks.
        weights: of `avgen evaluate`; none are needed.

    Raises:
        Unscored: the evidence is too weak to act on, with what it is.
        MediaError: no readable video.
    """
    places = _places(path)
    found, reasons = [], []
    for start_s, end_s in places:
        try:
            found.append(_look(path, start_s, end_s, weights or {}))
        except Unscored as reason:
            reasons.append(str(reason))
    if not found:
        raise Unscored(reasons[0])
    offsets = np.array([values["offset_ms"] for values in found])
    middle = float(np.median(offsets))
    if len(found) > 1 and np.abs(offsets - middle).max() > MAX_SPREAD_MS:
        raise Unscored(
            f"places do not agree: the sound is {offsets.min():+.0f} to {offsets.max():+.0f} ms "
            "ahead; it drifts, or scenes differ, and one delay cannot put it right"
        )
    interval = interval_of(middle, [values["interval_ms"] for values in found])
    confidence = min(values["confidence"] for values in found)
    words = _words(middle, interval)
    return Evidence(middle, interval, confidence, (len(found), len(places)), words)


def interval_of(middle: float, places: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The interval around a median of independent places, of theirs, in ms.

    It shrinks as that of a mean, nearly: 1.25 / sqrt(n). What it has for what is the same at all of
    them (`SLACK`: how far a mouth precedes the voice) does not.
    """
    shrink = min(1.0, 1.25 / np.sqrt(len(places)))
    slack = lags.milliseconds(sync.SLACK, FPS)
    low, high = np.mean(places, axis=0)
    half = float(((high - low) / 2 - slack) * shrink + slack)
    return middle - half, middle + half


def _words(offset_ms: float, interval_ms: tuple[float, float]) -> str:
    frames = float(FPS) / 1000
    low, high = interval_ms
    return lags.sentence(lags.Offset(offset_ms * frames, (low * frames, high * frames), 1.0), FPS)


def _places(path: Path) -> list[tuple[Fraction, Fraction]]:
    """Up to `MAX_PLACES` stretches of `WINDOW_S`, spread over the picture: (start, end) in s."""
    seen = probe(path)
    if read_stream(seen, "video") is None or read_stream(seen, "audio") is None:
        raise Unscored(f"{path.name} needs both picture and sound")
    length = seen.duration_s
    if length <= 2 * WINDOW_S:
        return [(Fraction(0), length)]
    count = min(MAX_PLACES, int(length / WINDOW_S))
    starts = [(length - WINDOW_S) * i / (count - 1) for i in range(count)]
    return [(start, start + WINDOW_S) for start in starts]


def _look(path: Path, start_s: Fraction, end_s: Fraction, weights: dict[str, Path]) -> Any:
    """The values of avgen-sync in one place, if they can be believed.

    Raises:
        Unscored: they cannot.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        clip = read_clip(
            path, start_s=start_s, end_s=end_s, fps=FPS, sample_rate=SAMPLE_RATE, num_channels=1
        )
    assert clip.waveform is not None  # _places made sure
    face = the_face(CascadeTracker()(clip.frames))
    model = sync.load(weights.get("sync"))
    picture = model.picture_features(clip.frames, face.boxes)
    found = model.score(picture, model.sound_features(clip.waveform, SAMPLE_RATE, len(picture)))
    low, high = found.interval_ms
    weak = []
    if not found.reliable:
        weak.append("sound and picture fit no better than unrelated speech does")
    if found.confidence < MIN_CONFIDENCE:
        weak.append(f"only {found.confidence:.0%} of the resamplings agree")
    if high - low > 2 * MAX_HALF_WIDTH_MS:
        weak.append(f"the interval is {low:+.0f} to {high:+.0f} ms")
    if weak:
        raise Unscored(f"the evidence is weak: {'; '.join(weak)}")
    return {
        "offset_ms": found.offset_ms,
        "interval_ms": found.interval_ms,
        "confidence": found.confidence,
    }
