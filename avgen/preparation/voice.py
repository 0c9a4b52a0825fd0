"""Sound in, when somebody speaks out (Silero VAD; its network is in its package)."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import torch

from avgen.evaluation.waveforms import SPEECH_RATE, at_speech_rate

Times = list[tuple[float, float]]


def speech(waveform: np.ndarray, sample_rate: int) -> Times:
    """Starts and ends of speech in a waveform float32 [1, N], in seconds."""
    model, get_speech_timestamps = _network()
    sound = torch.from_numpy(at_speech_rate(waveform, sample_rate))
    found = get_speech_timestamps(sound, model, sampling_rate=SPEECH_RATE)
    return [(item["start"] / SPEECH_RATE, item["end"] / SPEECH_RATE) for item in found]


def within(times: Times, start_s: float, end_s: float) -> Times:
    """The part of the times that lies in [start_s, end_s), counted from start_s."""
    cut = [(max(a, start_s) - start_s, min(b, end_s) - start_s) for a, b in times]
    return [(a, b) for a, b in cut if a < b]


def seconds(times: Times) -> float:
    """How long they are together."""
    return sum(b - a for a, b in times)


@cache
def _network() -> tuple[Any, Any]:
    from silero_vad import get_speech_timestamps, load_silero_vad

    with warnings.catch_warnings():  # torch.jit, which it is stored in, is being replaced
        warnings.simplefilter("ignore")
        return load_silero_vad(), get_speech_timestamps
