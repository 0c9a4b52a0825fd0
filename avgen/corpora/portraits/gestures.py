"""What a head does while it speaks, besides speaking: blinks, gaze, brows, a smile, and sway."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avgen.clips.timed_words import Word

BLINK_S = (0.09, 0.17)  # to close and to open
BLINKS_EVERY_S = (1.6, 4.5)
LOOK_S = (0.5, 2.2)  # that the eyes rest on something
SACCADE_S = 0.05
STRESS_S = 0.16  # half the length of a nod or of raised brows


def gestures(
    rng: np.random.Generator, words: Sequence[Word], loudness: np.ndarray, times_s: np.ndarray
) -> dict[str, np.ndarray]:
    """Weights, degrees and units [T] by name; see `deformation.TRACK`.

    Args:
        rng: Decides everything that is not said.
        words: Those that are loud or long are stressed, some by a nod, some by the brows.
        loudness: Of each frame, 1 as the loudest tenth: [T].
        times_s: Middles of the frames: [T].
    """
    nods, brows = np.zeros(len(times_s)), np.zeros(len(times_s))
    for middle_s, strength in _stresses(words, loudness, times_s):
        pulse = np.exp(-(((times_s - middle_s) / STRESS_S) ** 2))
        nods += rng.normal(0.35, 0.5) * strength * pulse
        brows += (rng.random() < 0.5) * rng.uniform(0.15, 0.6) * strength * pulse
    lively = rng.uniform(0.5, 1.3)
    away = _gaze(rng, times_s)
    return {
        "eyeBlink": _blinks(rng, times_s, words),
        "eyeSquint": np.clip(_drift(rng, times_s, 0.1), 0, 1),
        "browInnerUp": brows * 0.7 + np.clip(_drift(rng, times_s, 0.08), 0, 1),
        "browOuterUp": brows * 0.6,
        "browDown": np.clip(_drift(rng, times_s, 0.1), 0, 1) * rng.integers(2),
        "mouthSmile": np.clip(rng.uniform(-0.1, 0.22) + _drift(rng, times_s, 0.08), 0, 1),
        "gazeX": away[:, 0],
        "gazeY": away[:, 1],
        "yaw": lively * _drift(rng, times_s, 2.6) + rng.normal(0, 1.2),
        "pitch": lively * (_drift(rng, times_s, 1.3) + 2.2 * nods),
        "roll": lively * _drift(rng, times_s, 1.5),
        "shiftX": lively * _drift(rng, times_s, 0.022),
        "shiftY": lively * _drift(rng, times_s, 0.012) + 0.012 * nods,
    }


def _stresses(
    words: Sequence[Word], loudness: np.ndarray, times_s: np.ndarray
) -> list[tuple[float, float]]:
    """Middles of words and how stressed they are, 0 to 1: by length times loudness."""
    if not words:
        return []
    weights = []
    for word in words:
        inside = (times_s >= word.start_s) & (times_s < word.end_s)
        loud = loudness[inside].max() if inside.any() else 0.0
        weights.append((word.end_s - word.start_s) * loud)
    top = max(weights) or 1.0
    return [
        ((word.start_s + word.end_s) / 2, (weight / top) ** 1.5)
        for word, weight in zip(words, weights, strict=True)
    ]


def _drift(rng: np.random.Generator, times_s: np.ndarray, amplitude: float) -> np.ndarray:
    """A slow wandering of standard deviation `amplitude`: waves of 0.1 to 0.9 Hz."""
    hertz = rng.uniform(0.1, 0.9, 5)[:, None]
    weight = rng.uniform(0.4, 1.0, 5)[:, None] / (1 + (hertz / 0.35) ** 2)
    waves = weight * np.sin(2 * np.pi * (hertz * times_s + rng.random(5)[:, None]))
    return amplitude * waves.sum(0) / np.sqrt((weight**2).sum() / 2)


def _blinks(rng: np.random.Generator, times_s: np.ndarray, words: Sequence[Word]) -> np.ndarray:
    """Lids 0 open to 1 shut; a blink likes the end of a word."""
    shut = np.zeros(len(times_s))
    close_s, open_s = BLINK_S
    at = times_s[0] + rng.uniform(0.1, BLINKS_EVERY_S[1])
    while at < times_s[-1]:
        ends = [word.end_s for word in words if abs(word.end_s - at) < 0.3]
        middle = min(ends, key=lambda end_s: abs(end_s - at)) if ends else at
        phase = np.where(
            times_s < middle, (times_s - middle) / close_s + 1, 1 - (times_s - middle) / open_s
        )
        # A frame or two of 25 a second are shut wholly.
        shut = np.maximum(shut, np.clip(1.35 * np.clip(phase, 0, 1), 0, 1))
        at = max(at, middle) + rng.uniform(*BLINKS_EVERY_S)
    return shut


def _gaze(rng: np.random.Generator, times_s: np.ndarray) -> np.ndarray:
    """Where the eyes look, in units of their distance: [T, 2]; mostly at the viewer."""
    target, at = np.zeros(2), times_s[0] + rng.uniform(0, LOOK_S[1])
    looked = np.zeros((len(times_s), 2))
    while at < times_s[-1]:
        away = rng.random() < 0.5
        goal = rng.normal(0, [0.016, 0.005]) * away
        share = np.clip((times_s - at) / SACCADE_S, 0, 1)[:, None]
        looked = np.where(times_s[:, None] >= at, target + (goal - target) * share, looked)
        target, at = goal, at + rng.uniform(*LOOK_S) * (0.6 if away else 1.2)
    return looked
