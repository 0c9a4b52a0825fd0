"""Levels of a waveform: how loud it is, in which frames, and whether it is silent."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import torch
import torchaudio

from avgen.clips.timebase import num_samples
from avgen.evaluation.subject import Unscored

SPEECH_RATE = 16_000  # Hz, of every speech model here
SILENT_DB = -60.0  # RMS re full scale; what stays below is silent


def decibels(power: Any, least: float = 1e-18) -> np.ndarray:
    """10 log10 of a power, of at least `least`."""
    return 10 * np.log10(np.maximum(power, least))


def require_audible(waveform: np.ndarray) -> None:
    """Refuse a waveform whose RMS is below SILENT_DB.

    Raises:
        Unscored: it is silent.
    """
    level = float(decibels(np.mean(waveform.astype(np.float64) ** 2)))
    if level < SILENT_DB:
        raise Unscored(f"the sound is silent ({level:.0f} dB of full scale)")


def require_samples(waveform: np.ndarray) -> None:
    """Refuse a waveform that is empty or all 0.

    Raises:
        Unscored: it is silent.
    """
    if not np.any(waveform):
        raise Unscored("the sound is silent")


def frame_power(waveform: np.ndarray, rate: int, num_frames: int, fps: Fraction) -> np.ndarray:
    """Mean square of waveform float32 [C, N] in each frame's time; missing sound is 0: [T]."""
    edges = [num_samples(index, fps, rate) for index in range(num_frames + 1)]
    squares = np.square(waveform.astype(np.float64)).mean(0)
    squares = np.pad(squares, (0, max(0, edges[-1] - len(squares))))
    return np.add.reduceat(squares[: edges[-1]], edges[:-1]) / np.diff(edges)


def at_speech_rate(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """A waveform float32 [C, N] in [-1, 1] as one channel at 16 kHz: [n], clipped."""
    sound = torchaudio.functional.resample(
        torch.from_numpy(waveform.mean(0)), sample_rate, SPEECH_RATE
    )
    return sound.clamp(-1, 1).numpy()
