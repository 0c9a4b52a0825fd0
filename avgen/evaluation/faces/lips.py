"""Lips against sound and against phonemes: does the mouth open when it is loud, close on P, B, M.

`opening` correlates the opening of the mouth with the loudness of each frame; another clip's sound
is the control. `lips` asks whether the lips meet where bilabial consonants are said; the times of
the phonemes come with the clip (transcripts.py), the control is the same question at other times.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avgen.clips.timed_words import Word
from avgen.evaluation.faces.mouths import FROZEN_RANGE, articulation, opening
from avgen.evaluation.faces.tracking import LANDMARKER, landmarks_of
from avgen.evaluation.measure import Measure, Value, Values
from avgen.evaluation.subject import FPS, Subject, Unscored, own_sound
from avgen.evaluation.sync.lags import MAX_LAG, milliseconds
from avgen.evaluation.waveforms import decibels, frame_power

RANGE_DB = 40.0  # below the loudest frame; what is quieter counts as silence
DETAIL_FRAMES = 11  # what changes more slowly is the sentence's outline, not its syllables
BILABIALS = ("P", "B", "M")
SLACK_S = 0.04  # before and after a consonant in which its closure is looked for: a frame of 25
# Heights of the face: a narrower gap between the inner lips is closed. The narrowest gap around P,
# B and M is below it in 48 of 49 cases in 30 real sentences of 11 speakers (docs/metrics.md).
CLOSED = 0.008


def smoothed(series: np.ndarray) -> np.ndarray:
    """Mean of a series [T] over three frames; the ends count double."""
    return np.convolve(np.pad(series, 1, mode="edge"), np.full(3, 1 / 3), mode="valid")


def loudness(waveform: np.ndarray, sample_rate: int, num_frames: int) -> np.ndarray:
    """Level in each frame's time, in dB below the loudest, at least -RANGE_DB, smoothed: [T]."""
    level = decibels(frame_power(waveform, sample_rate, num_frames, FPS), 1e-12)
    return smoothed(np.maximum(level - level.max(), -RANGE_DB))


def detail(series: np.ndarray) -> np.ndarray:
    """A series [T] less its mean over DETAIL_FRAMES around each frame.

    Sentences begin and end alike, so that another one's sound correlates with a mouth almost as
    well as its own; syllables do not.
    """
    padded = np.pad(series, DETAIL_FRAMES // 2, mode="edge")
    return series - np.convolve(padded, np.full(DETAIL_FRAMES, 1 / DETAIL_FRAMES), mode="valid")


def correlation(mouth: np.ndarray, sound: np.ndarray, lag: int = 0) -> float:
    """Pearson's correlation of mouth[t + lag] with sound[t], each [T]; 0 if one is constant."""
    length = len(mouth) - abs(lag)
    one, other = mouth[max(0, lag) :][:length], sound[max(0, -lag) :][:length]
    if not (np.ptp(one) > 0 and np.ptp(other) > 0):
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def closures(openings: np.ndarray, phonemes: Sequence[Word]) -> list[np.ndarray]:
    """The openings around each bilabial consonant, of openings [T] at 25 fps."""
    found = []
    for phoneme in phonemes:
        first = max(0, round((phoneme.start_s - SLACK_S) * float(FPS)))
        last = round((phoneme.end_s + SLACK_S) * float(FPS))
        if phoneme.text in BILABIALS and first < len(openings):
            found.append(openings[first : max(last, first + 1)])
    return found


def _opening(subject: Subject) -> np.ndarray:
    own_sound(subject)
    found = opening(landmarks_of(subject))
    if len(found) <= 2 * MAX_LAG:
        raise Unscored(f"{len(found)} frames; lags of {MAX_LAG} need more than {2 * MAX_LAG}")
    if articulation(found) < FROZEN_RANGE:
        raise Unscored("the mouth does not move")
    return found


def _against_loudness(mouth: np.ndarray, waveform: np.ndarray, rate: int) -> Values:
    sound = loudness(waveform, rate, len(mouth))
    fine = detail(mouth), detail(sound)
    curve = [correlation(*fine, lag) for lag in range(-MAX_LAG, MAX_LAG + 1)]
    offset = int(np.argmax(curve)) - MAX_LAG
    return {
        "r0": correlation(mouth, sound),
        "r0_detail": curve[MAX_LAG],
        "offset_ms": milliseconds(offset, FPS),
        "within_one_frame": abs(offset) <= 1,
        "curve": np.array(curve),
    }


def _closed(subject: Subject, spoken: Subject | None = None) -> Values:
    phonemes = (spoken or subject).transcript.phonemes
    if not phonemes:
        raise Unscored("no phonemes with times: not in --transcripts, nor in its sidecar or tags")
    openings = opening(landmarks_of(subject))
    found = closures(openings, phonemes)
    if not found:
        raise Unscored(f"none of {', '.join(BILABIALS)} is said in it")
    first, last = (round(t * float(FPS)) for t in (phonemes[0].start_s, phonemes[-1].end_s))
    elsewhere = []
    for width in map(len, found):  # of as many frames: a minimum over more is less
        spoken_time = openings[first : max(last, first + width)]
        windows = np.lib.stride_tricks.sliding_window_view(
            spoken_time, min(width, len(spoken_time))
        )
        elsewhere.append(np.mean(windows.min(1) < CLOSED))
    gaps = np.array([around.min() for around in found])
    return {
        "closed": float(np.mean(gaps < CLOSED)),
        "closed_elsewhere": float(np.mean(elsewhere)),
        "gap": float(np.mean(gaps)),
        "num_closures": len(found),
    }


MEASURES = (
    Measure(
        "opening",
        "avgen-opening/1",
        {
            "r0": Value(1),
            "r0_detail": Value(1),
            "offset_ms": Value(unit="ms"),
            "within_one_frame": Value(1),
        },
        _opening,
        _against_loudness,
        networks=(LANDMARKER,),
    ),
    Measure(
        "lips",
        "avgen-lips/2",
        {"closed": Value(1), "closed_elsewhere": Value(), "gap": Value(-1)},
        _closed,
        mismatch=_closed,
        networks=(LANDMARKER,),
    ),
)
