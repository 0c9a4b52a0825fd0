"""Phonemes with times and the loudness of the sound in, weights of the mouth's expressions out.

A linear model of what was measured on real speech: a frame's weights are sums over the phonemes
around it, each by how far before or after the frame it is heard, so that neighbouring sounds colour
each other as they do in real mouths. recipes/people/measure_articulation.py fits it
(`articulation.npz`: statistics of many clips, nobody's likeness). A linear model smooths, so what
a sound cannot do without overrules it: lips close wholly on P, B and M, and the lower lip touches
the teeth on F and V.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from avgen.models.phonemes import TimedPhoneme, without_stress

MODEL = Path(__file__).with_name("articulation.npz")

# What a mouth does in a phoneme, in one or two equal parts, so that rare ones borrow from others.
SHAPES: dict[str, tuple[str, ...]] = {
    "AA": ("AA",), "AE": ("AE",), "AH": ("AH",), "AO": ("AO",), "EH": ("EH",), "ER": ("R",),
    "IH": ("IH",), "IY": ("IY",), "UH": ("UW",), "UW": ("UW",),
    "AW": ("AA", "UW"), "AY": ("AA", "IY"), "EY": ("EH", "IY"), "OW": ("AO", "UW"),
    "OY": ("AO", "IY"),
    "P": ("B",), "B": ("B",), "M": ("B",), "F": ("F",), "V": ("F",), "TH": ("TH",), "DH": ("TH",),
    "T": ("T",), "D": ("T",), "N": ("N",), "L": ("L",), "S": ("S",), "Z": ("S",), "SH": ("SH",),
    "ZH": ("SH",), "CH": ("T", "SH"), "JH": ("T", "SH"), "K": ("K",), "G": ("K",), "NG": ("K",),
    "HH": ("HH",), "R": ("R",), "W": ("W",), "Y": ("Y",),
}  # fmt: skip
UNITS = tuple(sorted({shape for shapes in SHAPES.values() for shape in shapes}))
CLOSED, ON_TEETH, TONGUE_UP = frozenset("PBM"), frozenset("FV"), frozenset(("L", "TH", "DH", "N"))
LAGS_S = np.arange(-5, 6) * 0.04  # of the phonemes that colour a frame
LOUD_LAGS_S = np.arange(-2, 3) * 0.04
REACH_S = 0.02  # half of the time that a frame stands for
AROUND_S = 0.05  # likewise, for its loudness

_CLOSED_S = 0.1  # lips stay closed at least so long: two frames of 25 in any phase
_BURST_S = 0.02  # the end of a p or b, by which the lips are apart
_RAMP_S = 0.05  # lips take so long to close and to part


@dataclass(frozen=True)
class ArticulationModel:
    """What `features` are multiplied with.

    Attributes:
        names: Expressions, without side where both do the same.
        matrix: float32 [features, K].
        rest: Weights where nothing is said: [K].
    """

    names: tuple[str, ...]
    matrix: np.ndarray
    rest: np.ndarray


@cache
def load_model() -> ArticulationModel:
    """The model that avgen ships."""
    with np.load(MODEL) as stored:
        names = tuple(str(name) for name in stored["names"])
        return ArticulationModel(names, stored["matrix"].astype(np.float32), stored["rest"])


def mouth_shapes(
    phonemes: Sequence[TimedPhoneme], waveform: np.ndarray, rate: int, times_s: np.ndarray
) -> dict[str, np.ndarray]:
    """Weights [T] by name: of the model's expressions, and what overrules them.

    "lipsClosed" is 1 where lips close wholly, "lipOnTeeth" 1 where the lower lip touches the upper
    teeth, "tongueUp" 1 where the tongue's tip is seen at the teeth.

    Args:
        phonemes: Of PHONEMES, with stress or without; times that none covers are silent.
        waveform: float32 [N], which is said; its loud sounds open the mouth wider.
        rate: Its samples a second.
        times_s: Middles of the frames: [T].
    """
    model = load_model()
    spoken = [TimedPhoneme(without_stress(p.phoneme), p.start_s, p.end_s) for p in phonemes]
    spoken = [one for one in spoken if one.phoneme in SHAPES]
    weights = features(spoken, waveform, rate, times_s) @ model.matrix + model.rest
    shapes = {name: weights[:, index] for index, name in enumerate(model.names)}
    for name, which, burst_s in (
        ("lipsClosed", CLOSED, _BURST_S),
        ("lipOnTeeth", ON_TEETH, 0.0),
        ("tongueUp", TONGUE_UP, 0.0),
    ):
        spans = [(p.start_s, p.end_s - burst_s) for p in spoken if p.phoneme in which]
        shapes[name] = plateaus(spans, times_s)
    return shapes


def plateaus(spans: Sequence[tuple[float, float]], times_s: np.ndarray) -> np.ndarray:
    """1 within spans of seconds, which are widened to _CLOSED_S, falling to 0 around them: [T]."""
    values = np.zeros(len(times_s))
    for start_s, end_s in spans:
        short = max(_CLOSED_S - (end_s - start_s), 0.0) / 2
        away = np.maximum(start_s - short - times_s, times_s - end_s - short)
        ramp = np.clip(1 - away / _RAMP_S, 0, 1)
        values = np.maximum(values, ramp * ramp * (3 - 2 * ramp))
    return values


def features(
    phonemes: Sequence[TimedPhoneme], waveform: np.ndarray, rate: int, times_s: np.ndarray
) -> np.ndarray:
    """How much of each unit is heard at each lag of each frame, and how loud: [T, features]."""
    columns = []
    for lag_s in LAGS_S:
        heard = np.zeros((len(times_s), len(UNITS)))
        for phoneme in phonemes:
            shapes = SHAPES[phoneme.phoneme]
            edges = np.linspace(phoneme.start_s, phoneme.end_s, len(shapes) + 1)
            for shape, start_s, end_s in zip(shapes, edges[:-1], edges[1:], strict=True):
                heard[:, UNITS.index(shape)] += coverage(times_s + lag_s, start_s, end_s)
        columns.append(heard)
    loudness = [relative_loudness(waveform, rate, times_s + lag_s) for lag_s in LOUD_LAGS_S]
    return np.concatenate([*columns, np.stack(loudness, 1)], 1)


def coverage(times_s: np.ndarray, start_s: float, end_s: float) -> np.ndarray:
    """The share of the time around each of `times_s` [T] that lies in [start_s, end_s): [T]."""
    first = np.maximum(times_s - REACH_S, start_s)
    last = np.minimum(times_s + REACH_S, end_s)
    return np.maximum(last - first, 0) / (2 * REACH_S)


def relative_loudness(waveform: np.ndarray, rate: int, times_s: np.ndarray) -> np.ndarray:
    """RMS around each of `times_s`, over that of the loudest tenth of the sound; at most 1.2."""
    power = np.concatenate([[0.0], np.cumsum(waveform.astype(np.float64) ** 2)])
    reach = round(AROUND_S * rate)

    def rms(centres: np.ndarray) -> np.ndarray:
        begins, ends = (np.clip(centres + d, 0, len(waveform)) for d in (-reach, reach))
        return np.sqrt(np.maximum(power[ends] - power[begins], 0) / (2 * reach))

    whole = rms(np.arange(reach, max(len(waveform) - reach, reach + 1), max(reach, 1)))
    loud = np.quantile(whole, 0.9)
    return np.clip(rms(np.round(times_s * rate).astype(int)) / max(loud, 1e-6), 0, 1.2)
