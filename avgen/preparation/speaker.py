"""Faces and a sound in, whose mouth the sound is of out, and how early it is (avgen-sync)."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from avgen.clips.timebase import num_samples, to_index, to_seconds
from avgen.evaluation.subject import FPS, Unscored
from avgen.evaluation.sync import score as sync
from avgen.preparation.outcome import Dropped
from avgen.preparation.settings import FIT_S, Limits

NEAR_FRAMES = 3  # lags as near as this to the best one belong to one peak
AROUND = 0.6  # of the face's box each way: what the mouth's region needs, and no more is looked at


def fit(
    frames: np.ndarray, boxes: np.ndarray, waveform: np.ndarray, fps: Fraction, rate: int
) -> sync.SyncScore:
    """How well the mouth of a face and a sound fit at every lag.

    Args:
        frames: uint8 [T, H, W, 3].
        boxes: float [T, 4], the face in each frame.
        waveform: float32 [1, N], of the same time.
        fps: Of the frames.
        rate: Of the waveform.

    Raises:
        Dropped: a face that does not move, or a sound that is silent.
    """
    frames, boxes = _around(*_at_sync_rate(frames, boxes, fps))
    model = sync.load()
    try:
        picture = model.picture_features(frames, boxes)
    except Unscored as error:
        raise Dropped("still", str(error)) from error
    try:
        return model.score(picture, model.sound_features(waveform, rate, len(picture)))
    except Unscored as error:
        raise Dropped("out of sync", str(error)) from error


def choose(scores: Mapping[int, sync.SyncScore]) -> int:
    """The face whose mouth fits the sound best at any lag."""
    return max(scores, key=lambda face: (float(scores[face].curve.max()), -face))


def lead(curve: np.ndarray) -> float:
    """By how much the best lag of a curve beats all that are not near it."""
    place = int(curve.argmax())
    far = np.abs(np.arange(len(curve)) - place) > NEAR_FRAMES
    return float(curve[place] - curve[far].max())


def offset_s(score: sync.SyncScore, length_s: float, limits: Limits) -> float:
    """By how many seconds the sound comes too early, 0 where that is too little to move it.

    Args:
        score: Of the face.
        length_s: Seconds that it is of.
        limits: What it must reach.

    Raises:
        Dropped: the mouth and the sound do not belong together, or are too far apart.
    """
    best, ahead = float(score.curve.max()), lead(score.curve)
    sure = score.confidence
    easier = (FIT_S / length_s) ** 0.5
    fit, lead_needed = limits.min_fit * easier, limits.min_lead * easier
    for wrong, detail in (
        (best < fit, f"mouth and sound correlate by {best:.2f} of {fit:.2f}"),
        (ahead < lead_needed, f"the best lag leads by {ahead:.2f} of {lead_needed:.2f}"),
        (sure < limits.min_confidence, f"{sure:.0%} of the resamplings agree on the lag"),
        (not score.reliable, "mouth and sound fit no better than unrelated speech does"),
    ):
        if wrong:
            raise Dropped("out of sync", detail)
    if abs(score.offset_frames) > limits.max_offset_frames:
        raise Dropped(
            "out of sync",
            f"{score.offset_ms:+.0f} ms; at most {limits.max_offset_frames:g} frames are corrected",
        )
    return 0.0 if abs(score.offset_frames) < limits.worth_frames else score.offset_ms / 1000


def moved(
    waveform: np.ndarray,
    rate: int,
    frames: tuple[int, int],
    fps: Fraction,
    early_s: float,
) -> tuple[tuple[int, int], np.ndarray]:
    """The sound of some frames where it belongs, and the frames of which there is sound.

    Args:
        waveform: float32 [1, N], of a whole stretch.
        rate: Its samples a second.
        frames: First frame and frame after the last, of the stretch.
        fps: Frames a second.
        early_s: By how much the sound comes before its picture.

    Returns:
        First frame and frame after the last, fewer where the stretch has no sound for them, and
        float32 [1, n] that covers them.
    """
    shift = to_index(early_s, rate)
    available = waveform.shape[1]
    first, last = frames
    while first < last and num_samples(first, fps, rate) - shift < 0:
        first += 1
    while last > first and num_samples(last, fps, rate) - shift > available:
        last -= 1
    start = num_samples(first, fps, rate) - shift
    count = num_samples(last - first, fps, rate)
    sound = waveform[:, start : start + count]
    missing = count - sound.shape[1]  # a sample, where two roundings differ
    return (first, last), np.pad(sound, ((0, 0), (0, missing)))


def _at_sync_rate(
    frames: np.ndarray, boxes: np.ndarray, fps: Fraction
) -> tuple[np.ndarray, np.ndarray]:
    """The frames nearest to the instants at which avgen-sync looks, 25 a second."""
    if fps == FPS:
        return frames, boxes
    count = max(1, to_index(to_seconds(len(frames), fps), FPS))
    chosen = [min(to_index(to_seconds(k, FPS), fps), len(frames) - 1) for k in range(count)]
    return frames[chosen], boxes[chosen]


def _around(frames: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of the frames, a view, that a face and what is around it takes."""
    reach = AROUND * boxes[:, 2:]
    left, top = np.floor((boxes[:, :2] - reach).min(0)).clip(0).astype(int)
    right, bottom = np.ceil((boxes[:, :2] + boxes[:, 2:] + reach).max(0)).astype(int)
    return frames[:, top:bottom, left:right], boxes - [left, top, 0, 0]
