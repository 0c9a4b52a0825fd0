"""The phonemes that avgen speaks, and when each one is heard. No network, no torch.

They are CMUdict's (ARPABET), vowels with their stress (0 none, 1 primary, 2 secondary), and pauses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from avgen.errors import UserError

ARPABET = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH",
    "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH",
    "UW", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
VOWELS = (
    "AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW",
)  # fmt: skip
PAUSES = (",", ".")  # within a sentence, after one
# Rows of a network's table of phonemes. Networks that know neither stress nor pauses have the first
# 39 rows.
PHONEMES = (*ARPABET, *(f"{vowel}{stress}" for vowel in VOWELS for stress in "012"), *PAUSES)
# hibari, Kokoro and misaki write a phoneme as one letter: diphthongs are capitals, T is a flap.
MISAKI = {
    "A": "EY", "I": "AY", "O": "OW", "Q": "OW", "W": "AW", "Y": "OY",
    "i": "IY", "ɪ": "IH", "ᵻ": "IH", "e": "EH", "ɛ": "EH", "æ": "AE", "a": "AE", "ɑ": "AA",  # noqa: RUF001
    "ɒ": "AA", "ɔ": "AO", "o": "AO", "ʊ": "UH", "u": "UW", "ʌ": "AH", "ə": "AH", "ɐ": "AH",
    "ᵊ": "AH", "ɜ": "ER", "ɚ": "ER",
    "p": "P", "b": "B", "m": "M", "f": "F", "v": "V", "w": "W", "θ": "TH", "ð": "DH", "t": "T",
    "d": "D", "ɾ": "T", "T": "T", "ʔ": "T", "n": "N", "l": "L", "ɹ": "R", "s": "S", "z": "Z",  # noqa: RUF001
    "ʃ": "SH", "ʒ": "ZH", "ʧ": "CH", "ʤ": "JH", "j": "Y", "k": "K", "ɡ": "G", "ŋ": "NG",  # noqa: RUF001
    "h": "HH",
}  # fmt: skip
MISAKI_STRESS = {"\u02c8": "1", "\u02cc": "2"}
MISAKI_PAUSES = {**dict.fromkeys(";:,\u2014", ","), **dict.fromkeys(".!?\u2026", ".")}
_ROWS = {phoneme: row for row, phoneme in enumerate(PHONEMES)}


@dataclass(frozen=True)
class TimedPhoneme:
    """A phoneme of `PHONEMES` and its seconds [start_s, end_s)."""

    phoneme: str
    start_s: float
    end_s: float


def without_stress(phoneme: str) -> str:
    """A vowel without its stress; any other phoneme as it is."""
    return phoneme.rstrip("012")


def known_to(phonemes: Iterable[TimedPhoneme], num_phonemes: int) -> list[TimedPhoneme]:
    """The phonemes that a table of `num_phonemes` rows has: all, or those without stress or pauses.

    Raises:
        UserError: a phoneme is not one of `PHONEMES`.
    """
    phonemes = list(phonemes)
    unknown = sorted({p.phoneme for p in phonemes} - _ROWS.keys())
    if unknown:
        raise UserError(f"{', '.join(unknown)}: not among the phonemes {' '.join(PHONEMES)}")
    if num_phonemes == len(PHONEMES):
        return phonemes
    return [
        TimedPhoneme(without_stress(p.phoneme), p.start_s, p.end_s)
        for p in phonemes
        if p.phoneme not in PAUSES
    ]


def table_rows(phonemes: Sequence[TimedPhoneme]) -> list[int]:
    """The row of each phoneme in a table."""
    return [_ROWS[phoneme.phoneme] for phoneme in phonemes]


def during(
    phonemes: Iterable[TimedPhoneme], start_s: float, stop_s: float
) -> tuple[TimedPhoneme, ...]:
    """The phonemes heard within [start_s, stop_s), in seconds from its start.

    Those that are cut keep their whole span, which then begins below 0 or ends beyond the stretch.
    """
    return tuple(
        TimedPhoneme(p.phoneme, p.start_s - start_s, p.end_s - start_s)
        for p in phonemes
        if p.end_s > start_s and p.start_s < stop_s
    )
