"""Does something move when something sounds: AV-Align, and a correlation of onsets with motion.

AV-Align (Yariv et al. 2024, "Diverse and Aligned Audio-to-Video Generation via Text-to-Video Model
Adaptation", section 4) compares the times of onsets in the sound with those of peaks of motion. It
has been released three times, each computing something else; all are here, under their version's
name, for comparison with published figures. It hardly tells matched speech from mismatched.

`onset_motion` is for sounds that are not speech: how motion and onsets correlate at each lag.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import cv2
import librosa
import numpy as np

from avgen.clips.timebase import num_samples
from avgen.evaluation.file_timing import silence
from avgen.evaluation.measure import Measure, Value, Values
from avgen.evaluation.subject import FPS, Subject, Unscored, own_sound
from avgen.evaluation.sync.lags import (
    MAX_LAG,
    Offset,
    correlation_curve,
    milliseconds,
    offset,
    sentence,
)


@dataclass(frozen=True)
class Version:
    """One release of AV-Align.

    Attributes:
        protocol: its id.
        sample_rate: Hz, at which onsets are found; None for the sound's own.
        is_one_to_one: whether a peak of motion is matched by one onset at most. Where it may be by
            several, the score can exceed 1.
        least_motion: pixels a frame; a peak of less is none.
        epsilon: added to the denominator.
    """

    protocol: str
    sample_rate: int | None
    is_one_to_one: bool
    least_motion: float
    epsilon: float


VERSIONS = {
    # TempoTokens at 34d9502, with the length of the list that the release left undefined.
    "av_align@2023-10": Version("tempotokens-av-align@2023-10/1", 22_050, False, 0.0, 0.0),
    # TempoTokens at bf0b1e3.
    "av_align@2025-02": Version("tempotokens-av-align@2025-02/1", 22_050, True, 0.1, 0.0),
    # JavisBench at 5e2ffcd as it calls it: no resizing. Its README's formula is not its code's.
    "av_align@javisbench": Version("javisbench-av-align@2025-08/1", None, False, 0.0, 1e-6),
}

ONSET_SIDE = 72  # pixels of the shorter side, at which it does
STILL = 0.02  # pixels a frame: what encoders leave of a still moves a third as much at most


@dataclass(frozen=True)
class OnsetMotion:
    """How onsets of the sound go with motion in the picture.

    Attributes:
        r0: their correlation as they are, -1 to 1.
        curve: at lags -MAX_LAG to MAX_LAG; above 0 the sound comes first.
        offset: of the best lag, with its interval.
    """

    r0: float
    curve: np.ndarray
    offset: Offset


def picture_features(frames: np.ndarray, side: int | None = None) -> np.ndarray:
    """Mean length of the optical flow into each frame of uint8 [T, H, W, 3], in pixels: [T].

    Farneback's flow (2003, "Two-Frame Motion Estimation Based on Polynomial Expansion") of grey
    frames. The first frame has the second's.

    Args:
        frames: The picture.
        side: Pixels of the shorter side, to which larger frames are shrunk; None for full size,
            as AV-Align has it.

    Raises:
        Unscored: fewer than two frames, or nothing moves.
    """
    if len(frames) < 2:
        raise Unscored("the picture has one frame; motion needs at least 2")
    grey = [cv2.cvtColor(np.ascontiguousarray(f), cv2.COLOR_RGB2GRAY) for f in frames]
    scale = 1.0 if side is None else side / min(frames.shape[1:3])
    if scale < 1:
        grey = [cv2.resize(g, None, None, scale, scale, cv2.INTER_AREA) for g in grey]
    motion = []
    for before, after in pairwise(grey):
        still = np.zeros((*after.shape, 2), np.float32)
        flow = cv2.calcOpticalFlowFarneback(before, after, still, 0.5, 3, 15, 3, 5, 1.2, 0)
        motion.append(cv2.mean(cv2.magnitude(flow[..., 0], flow[..., 1]))[0])
    if max(motion) < STILL:
        raise Unscored("nothing moves in the picture")
    return np.array([motion[0], *motion])


def sound_features(waveform: np.ndarray, sample_rate: int, version: Version) -> np.ndarray:
    """Times in s of the onsets of a waveform float32 [C, N], as librosa finds them: [K].

    Raises:
        Unscored: no samples.
    """
    if not waveform.shape[-1]:
        raise Unscored("no samples of sound")
    rate = version.sample_rate or sample_rate
    mono = librosa.to_mono(waveform)
    if rate != sample_rate:
        mono = librosa.resample(mono, orig_sr=sample_rate, target_sr=rate)
    strength = librosa.onset.onset_strength(y=mono, sr=rate)
    frames = librosa.onset.onset_detect(onset_envelope=strength, sr=rate)
    return librosa.frames_to_time(frames, sr=rate)


def motion_peaks(motion: np.ndarray, fps: Fraction, version: Version) -> np.ndarray:
    """Times in s of the frames that move more than both neighbours, of motion [T]: [K]."""
    inside = motion[1:-1]
    is_peak = (inside > motion[:-2]) & (inside > motion[2:]) & (inside >= version.least_motion)
    return (np.flatnonzero(is_peak) + 1) / float(fps)


def score(motion: np.ndarray, onsets: np.ndarray, fps: Fraction, version: Version) -> float:
    """AV-Align of motion [T] and onsets [K] in s: matches over onsets and peaks less matches.

    An onset matches a peak that is less than a frame away. From 0 to 1, and beyond 1 where several
    onsets may match one peak.

    Raises:
        Unscored: neither onsets nor peaks, where the release divides by 0.
    """
    peaks, frame_s = motion_peaks(motion, fps, version), 1 / float(fps)
    used = np.zeros(len(peaks), bool)
    hits = 0
    for onset in onsets:
        near = (peaks - frame_s < onset) & (onset < peaks + frame_s)
        if version.is_one_to_one:
            near &= ~used
        if near.any():
            used[near.argmax()] = True
            hits += 1
    whole = len(onsets) + len(peaks) - hits + version.epsilon
    if whole == 0:
        raise Unscored("neither an onset in the sound nor a peak of motion, as this release counts")
    return float(hits / whole)


def onset_features(
    waveform: np.ndarray, sample_rate: int, num_frames: int, fps: Fraction
) -> np.ndarray:
    """How much begins to sound in each frame's time, in waveform [C, N]: [T], 0 and more.

    The mean over mel bands of the rise in dB (Boeck & Widmer 2013, "Maximum filter vibrato
    suppression for onset detection", without its filter), at its most within the frame.

    Raises:
        Unscored: the sound is silent, or ends before the last frame begins.
    """
    mono = librosa.to_mono(waveform)
    if len(mono) <= num_samples(num_frames - 1, fps, sample_rate):
        raise Unscored("the sound ends before the picture's last frame begins")
    if not np.any(mono):
        raise Unscored("the sound is silent")
    hop = max(1, sample_rate // 200)  # 5 ms
    strength = librosa.onset.onset_strength(y=mono, sr=sample_rate, hop_length=hop)
    edges = [num_samples(index, fps, sample_rate) // hop for index in range(num_frames + 1)]
    return np.array([strength[a : max(b, a + 1)].max(initial=0.0) for a, b in pairwise(edges)])


def onset_motion(motion: np.ndarray, onsets: np.ndarray, seed: int = 0) -> OnsetMotion:
    """How changes of motion [T] correlate with onset features [T], with the offset between them.

    What strikes stops or turns: the picture's part is how much motion changes into a frame and out
    of it (Davis & Agrawala 2018, "Visual Rhythm and Beat", section 4, take impacts from the flow's
    deceleration).

    Raises:
        Unscored: too few frames for the lags, or nothing moves or sounds.
    """
    step = np.abs(np.diff(motion))
    change = (np.pad(step, (1, 0)) + np.pad(step, (0, 1)))[:, None]
    sound = onsets[:, None]
    found = offset(change, sound, seed=seed)
    curve = correlation_curve(change, sound)
    return OnsetMotion(float(curve[MAX_LAG]), curve, found)


def _motion(subject: Subject) -> np.ndarray:
    """At the picture's own size and rate, for every release of AV-Align."""
    return picture_features(subject.native.frames)


def _av_align(version: Version) -> Measure:
    def extract(subject: Subject) -> tuple[np.ndarray, Fraction]:
        own_sound(subject)
        return subject.once(_motion), subject.native.fps

    def compute(seen: tuple[np.ndarray, Fraction], waveform: np.ndarray, rate: int) -> Values:
        motion, fps = seen
        if silence(waveform, rate) == 1:
            raise Unscored("the sound is silent")
        return {"score": score(motion, sound_features(waveform, rate, version), fps, version)}

    name = next(name for name, one in VERSIONS.items() if one is version)
    return Measure(
        name,
        version.protocol,
        {"score": Value(1)},
        extract,
        compute,
        sample_rate=version.sample_rate,
        by_default=False,
    )


def _onset_picture(subject: Subject) -> np.ndarray:
    own_sound(subject)
    return picture_features(subject.clip.frames, ONSET_SIDE)


def _onset_values(motion: np.ndarray, waveform: np.ndarray, rate: int) -> Values:
    found = onset_motion(motion, onset_features(waveform, rate, len(motion), FPS))
    return {
        "r0": found.r0,
        "offset_ms": milliseconds(found.offset.frames, FPS),
        "confidence": found.offset.confidence,
        "curve": found.curve,
        "words": sentence(found.offset, FPS),
    }


MEASURES = (
    *map(_av_align, VERSIONS.values()),
    Measure(
        "onsets",
        "avgen-onset-motion/3",  # 1 took pictures of full size, 2 of 144 pixels
        {"r0": Value(1), "offset_ms": Value(unit="ms")},
        _onset_picture,
        _onset_values,
    ),
)
