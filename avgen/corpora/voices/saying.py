"""A sentence and a voice in, a clip of sound with the times of its words and phonemes out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hibari import Hibari

from avgen.clips.timebase import to_index
from avgen.clips.timed_words import Word
from avgen.corpora.voices.character import Voice
from avgen.corpora.voices.letters import PAUSES, timed_letters
from avgen.corpora.voices.synthesis import (
    SAMPLE_RATE,
    grapheme_reader,
    hibari_network,
    hibari_speech,
    kokoro_speech,
)
from avgen.errors import UserError
from avgen.models.phonemes import MISAKI_PAUSES, TimedPhoneme

_LOUDNESS = 0.08  # root mean square of the speech, of full scale
_SILENCE = 0.05  # what is softer than this part of the loudest tenth is taken for silence
_SHORTEST_S = 0.03  # no last phoneme is cut shorter than this when it ends with the sound
_MOST_LETTERS = 400  # that either network says at once


@dataclass(frozen=True)
class Speech:
    """Something said.

    Attributes:
        waveform: float32 [1, N], at SAMPLE_RATE.
        words: What was said, in lower case, with times in the waveform.
        phonemes: Likewise, vowels with their stress, and pauses, the last of which lasts to the
            end. Where there is none is silence.
    """

    waveform: np.ndarray
    words: tuple[Word, ...]
    phonemes: tuple[TimedPhoneme, ...]


def letters_of(text: str, british: bool = False) -> str:
    """How a sentence of plain words is said, a group of letters for each word.

    Raises:
        UserError: the words do not map one to one to what is said.
    """
    said = " ".join(grapheme_reader(british)(text).split())
    groups = [group for group in said.split(" ") if group.strip(PAUSES)]
    spellings = _spellings(text)
    unknown = sorted(set(said) - hibari_network().vocab.keys())
    if (
        len(groups) != len(spellings)
        or len(Hibari.split_sentences(text)) != 1
        or unknown
        or not all(spelling.replace("'", "").isalpha() for spelling in spellings)
        or not 0 < len(said) <= _MOST_LETTERS
    ):
        raise UserError(f"cannot say {text!r}: one sentence of plain words is wanted")
    return said


def say(
    text: str, voice: Voice, seed: int, *, margins_s: tuple[float, float], kokoro: Path | None
) -> Speech:
    """A sentence said by a voice; the same arguments give the same samples.

    Args:
        text: Words and punctuation; numbers have to be spelled.
        voice: Who speaks.
        seed: Of the noise in hibari's breath.
        margins_s: Seconds of silence before and after the speech.
        kokoro: The folder of Kokoro's voices (`NAME.bin`), for voices that need it.

    Raises:
        UserError: the text cannot be said, or `kokoro` is needed and not there.
    """
    said = letters_of(text, voice.british)
    if voice.warp is not None:
        waveform, units = hibari_speech(said, voice.warp, voice.speed, seed)
    elif kokoro is not None:
        waveform, units = kokoro_speech(said, voice.styles, voice.speed, kokoro)
    else:
        raise UserError(f"voice {voice.name!r}: the folder of Kokoro's voices has to be given")
    try:
        words, pauses = timed_letters(said, units)
    except ValueError as error:
        raise UserError(f"cannot say {text!r}: {error}") from error
    begin, end = _sounding(waveform)
    last = words[-1][-1]
    end_s = min(last.end_s, max(end / SAMPLE_RATE, last.start_s + _SHORTEST_S))
    words[-1][-1] = TimedPhoneme(last.phoneme, last.start_s, end_s)
    pauses = [p for p in pauses if p.start_s < last.start_s]
    before, after = (to_index(margin, SAMPLE_RATE) for margin in margins_s)
    waveform = _with_margins(
        waveform, begin - before, max(end, to_index(end_s, SAMPLE_RATE)) + after
    )
    ending = MISAKI_PAUSES.get(said[-1], ".")
    pauses.append(TimedPhoneme(ending, end_s, (begin - before + len(waveform)) / SAMPLE_RATE))
    moved = (before - begin) / SAMPLE_RATE
    timed = [[_moved(phoneme, moved) for phoneme in word] for word in words]
    phonemes = [phoneme for word in timed for phoneme in word] + [_moved(p, moved) for p in pauses]
    return Speech(
        waveform=waveform[None],
        words=tuple(
            Word(spelling, word[0].start_s, word[-1].end_s)
            for spelling, word in zip(_spellings(text), timed, strict=True)
        ),
        phonemes=tuple(sorted(phonemes, key=lambda phoneme: phoneme.start_s)),
    )


def _spellings(text: str) -> list[str]:
    return [word.strip(PAUSES + "\"'()").lower() for word in text.split()]


def _sounding(waveform: np.ndarray) -> tuple[int, int]:
    """The samples between which there is sound."""
    reach = to_index(0.005, SAMPLE_RATE)
    loudness = np.convolve(np.abs(waveform), np.ones(2 * reach + 1), mode="same")
    loud = np.flatnonzero(loudness > _SILENCE * np.quantile(loudness, 0.9))
    return int(loud[0]), int(loud[-1]) + 1


def _with_margins(waveform: np.ndarray, begin: int, end: int) -> np.ndarray:
    """Samples [begin, end), zeros where there are none, at `_LOUDNESS`, float32."""
    zeros = (max(-begin, 0), max(end - len(waveform), 0))
    cut = np.pad(waveform, zeros)[begin + zeros[0] : end + zeros[0]]
    return np.clip(cut * (_LOUDNESS / np.sqrt(np.mean(cut**2))), -1, 1).astype(np.float32)


def _moved(phoneme: TimedPhoneme, by_s: float) -> TimedPhoneme:
    return TimedPhoneme(phoneme.phoneme, max(phoneme.start_s + by_s, 0.0), phoneme.end_s + by_s)
