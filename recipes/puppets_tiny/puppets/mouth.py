"""Phonemes with times in, the shape of the mouth at any time out.

Every phoneme has a target shape and a dominance that decays before and after it; the mouth is the
dominance-weighted mean of all targets, so neighbouring sounds colour each other. What a sound
cannot do without, such as the closed lips of p, b and m, overrules the mean.

Reference: Cohen, Massaro 1993, "Modeling Coarticulation in Synthetic Visual Speech", eqs. 1 to 3.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from avgen.errors import UserError
from avgen.models.phonemes import TimedPhoneme


@dataclass(frozen=True)
class Mouth:
    """Shape of the mouth; each number is from 0 to 1 but `width`.

    Attributes:
        opening: gap between the lips; 0 is closed.
        width: of the mouth; 0 at rest, 1 spread, -1 narrow.
        rounding: 1 is a round mouth with protruded lips.
        teeth: how much of the gap's upper part shows teeth.
        tongue: how high its tip is.
        tuck: 1 has the lower lip under the upper teeth.
    """

    opening: float = 0.0
    width: float = 0.0
    rounding: float = 0.0
    teeth: float = 0.3
    tongue: float = 0.0
    tuck: float = 0.0


# opening, width, rounding, teeth, tongue, tuck, and dominance.
_TARGETS: dict[str, tuple[float, ...]] = {
    "": (0.0, 0.0, 0.0, 0.3, 0.0, 0.0, 1.2),
    "AA": (1.0, 0.0, 0.0, 0.35, 0.0, 0.0, 1.0),
    "AE": (0.85, 0.5, 0.0, 0.5, 0.1, 0.0, 1.0),
    "AH": (0.55, 0.0, 0.0, 0.4, 0.1, 0.0, 0.8),
    "AO": (0.85, -0.45, 0.6, 0.1, 0.0, 0.0, 1.0),
    "EH": (0.65, 0.4, 0.0, 0.5, 0.2, 0.0, 1.0),
    "ER": (0.45, -0.45, 0.5, 0.3, 0.3, 0.0, 1.0),
    "IH": (0.45, 0.5, 0.0, 0.6, 0.3, 0.0, 0.9),
    "IY": (0.42, 1.0, 0.0, 0.7, 0.3, 0.0, 1.0),
    "UH": (0.45, -0.6, 0.7, 0.1, 0.1, 0.0, 1.0),
    "UW": (0.4, -1.0, 1.0, 0.0, 0.1, 0.0, 1.1),
    "W": (0.22, -1.0, 1.0, 0.0, 0.0, 0.0, 1.1),
    "R": (0.32, -0.6, 0.6, 0.3, 0.3, 0.0, 0.8),
    "L": (0.42, 0.1, 0.0, 0.3, 1.0, 0.0, 0.7),
    "TH": (0.30, 0.2, 0.0, 0.3, 1.0, 0.0, 0.9),
    "T": (0.22, 0.3, 0.0, 0.8, 0.7, 0.0, 0.6),
    "S": (0.20, 0.5, 0.0, 1.0, 0.3, 0.0, 0.8),
    "SH": (0.28, -0.6, 0.7, 0.9, 0.2, 0.0, 1.0),
    "K": (0.3, 0.1, 0.0, 0.4, 0.1, 0.0, 0.4),
    "HH": (0.40, 0.0, 0.0, 0.3, 0.0, 0.0, 0.2),
    "F": (0.14, 0.1, 0.0, 1.0, 0.0, 1.0, 1.4),
    "P": (0.0, -0.1, 0.1, 0.0, 0.0, 0.0, 1.4),
}
_LIKE = {
    "AA": ("AA",), "AE": ("AE",), "AH": ("AH",), "AO": ("AO",), "EH": ("EH",), "ER": ("ER",),
    "IH": ("IH",), "IY": ("IY",), "UH": ("UH",), "UW": ("UW",),
    "AW": ("AA", "UW"), "AY": ("AA", "IH"), "EY": ("EH", "IY"), "OW": ("AO", "UW"),
    "OY": ("AO", "IY"),
    "B": ("P",), "P": ("P",), "M": ("P",), "F": ("F",), "V": ("F",), "W": ("W",), "R": ("R",),
    "L": ("L",), "TH": ("TH",), "DH": ("TH",), "T": ("T",), "D": ("T",), "N": ("T",),
    "S": ("S",), "Z": ("S",), "SH": ("SH",), "ZH": ("SH",), "CH": ("SH",), "JH": ("SH",),
    "K": ("K",), "G": ("K",), "NG": ("K",), "Y": ("IY",), "HH": ("HH",),
}  # fmt: skip

# A target's pull falls to 1/e this long before and after it.
_DECAY_S = 0.03
# Lips close and open again within this.
_CLOSING_S = 0.04
# The last part of a p or b is its burst, by which the lips are apart.
_BURST = 0.25
# Of all openings that of f and v is the one that lip and teeth limit.
_TUCKED_OPENING = 0.14
# Silences shorter than this leave the mouth to the sounds around them.
_REST_S = 0.06


def shape_mouth(phonemes: Sequence[TimedPhoneme], times_s: np.ndarray) -> list[Mouth]:
    """The mouth at each of `times_s`; closed and at rest away from the phonemes.

    Raises:
        UserError: if a phoneme is none of ARPAbet's 39.
    """
    segments = list(_segments(phonemes))
    starts_s, ends_s = (np.array([s[i] for s in segments])[:, None] for i in (1, 2))
    targets = np.array([_TARGETS[s[0]] for s in segments])
    away_s = np.maximum(np.maximum(starts_s - times_s, times_s - ends_s), 0)
    dominance = targets[:, -1:] * np.exp(-away_s / _DECAY_S)
    shapes = (dominance / dominance.sum(axis=0)).T @ targets[:, :-1]
    for shape, time_s in zip(shapes, times_s, strict=True):
        closed, tucked = (_holding(phonemes, time_s, kinds) for kinds in ("PBM", "FV"))
        shape[0] *= 1 - closed
        shape[0] += tucked * min(_TUCKED_OPENING - shape[0], 0)
        shape[5] = max(shape[5], tucked) * (1 - closed)
    return [Mouth(*map(float, shape)) for shape in shapes]


def _segments(phonemes: Sequence[TimedPhoneme]) -> Iterator[tuple[str, float, float]]:
    """(target, start_s, end_s) without gaps: diphthongs split in two, silences filled with rest."""
    end_s = -np.inf
    for phoneme in phonemes:
        if phoneme.phoneme not in _LIKE:
            raise UserError(f"{phoneme.phoneme!r} is no ARPAbet phoneme without stress")
        if phoneme.start_s - end_s > _REST_S:
            yield "", end_s, phoneme.start_s
        parts = _LIKE[phoneme.phoneme]
        middle_s = phoneme.start_s + 0.6 * (phoneme.end_s - phoneme.start_s)
        if len(parts) == 2:
            yield parts[0], phoneme.start_s, middle_s
            yield parts[1], middle_s, phoneme.end_s
        else:
            yield parts[0], phoneme.start_s, phoneme.end_s
        end_s = phoneme.end_s
    yield "", end_s, np.inf


def _holding(phonemes: Sequence[TimedPhoneme], time_s: float, kinds: str) -> float:
    """1 while one of the phonemes `kinds` is held, falling smoothly to 0 around it."""
    held = 0.0
    for phoneme in phonemes:
        if phoneme.phoneme in kinds:
            burst = _BURST if phoneme.phoneme in "PB" else 0.0
            end_s = phoneme.end_s - burst * (phoneme.end_s - phoneme.start_s)
            away_s = max(phoneme.start_s - time_s, time_s - end_s, 0.0)
            if away_s < _CLOSING_S:
                held = max(held, 0.5 + 0.5 * np.cos(np.pi * away_s / _CLOSING_S))
    return held
