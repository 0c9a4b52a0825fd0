"""A voice that is given in, when each of its phonemes is said out. No torch.

A model that was told timed phonemes in training needs them of a given voice too: lips follow what
is said. By pocketsphinx with the acoustic and language models of US English in its package. What is
not English is heard as English words that sound alike, most of what lips need.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from avgen.errors import UserError
from avgen.models.english import SpokenWord
from avgen.models.phonemes import VOWELS, TimedPhoneme, without_stress

RATE = 16_000  # of pocketsphinx's model
FRAMES_PER_S = 100  # of its alignments
SHORTEST_S = 0.1  # of sound in which anything can be said
FAINTEST = 1e-3  # peak, of a full scale of 1; words are heard in digital silence too


def hear(samples: np.ndarray) -> tuple[TimedPhoneme, ...]:
    """The phonemes of the words that are heard in samples [N] at `RATE`; none in silence.

    Dictionaries of the recogniser have no stress: schwas get none, other vowels the first.
    """
    if len(samples) < SHORTEST_S * RATE or abs(samples).max() < FAINTEST:
        return ()
    decoder = _decoder(knows_language=True)
    decoder.activate_search()  # for words
    segments = _words(decoder, samples)
    spelled = [decoder.lookup_word(name).split() for name, *_ in segments]
    said = [[f"{p}{int(p != 'AH')}" if p in VOWELS else p for p in word] for word in spelled]
    return tuple(_phonemes(decoder, samples, segments, said)) if segments else ()


def align(samples: np.ndarray, words: Sequence[SpokenWord]) -> tuple[TimedPhoneme, ...]:
    """The phonemes of known words in samples [N] at `RATE`, in which they are said.

    Raises:
        UserError: they are not found there, one after another.
    """
    decoder, names = _decoder(knows_language=False), []
    for word in words:
        said = [without_stress(phoneme) for phoneme in word.phonemes]
        names.append("/".join(said))
        if decoder.lookup_word(names[-1]) is None:
            decoder.add_word(names[-1], " ".join(said), True)
    segments = []
    if len(samples) >= SHORTEST_S * RATE:
        decoder.set_align_text(" ".join(names))
        segments = _words(decoder, samples)
    if [name for name, *_ in segments] != names:
        raise UserError(
            f"{' '.join(word.text for word in words)!r} is not what is heard in the sound; leave "
            "speech out to have its words heard, or give their times as words",
            "speech",
        )
    return tuple(_phonemes(decoder, samples, segments, [word.phonemes for word in words]))


def _words(decoder: Any, samples: np.ndarray) -> list[tuple[str, int, int]]:
    """Words as the dictionary has them and their frames [start, stop); none where none fit."""
    try:
        _decode(decoder, samples)
    except RuntimeError:  # its word for a search that came to no end
        return []
    found = ((s.word, s.start_frame, s.end_frame + 1) for s in decoder.seg() or ())
    return [segment for segment in found if segment[0][0] not in "<["]  # pauses and noises


def _phonemes(
    decoder: Any,
    samples: np.ndarray,
    segments: Sequence[tuple[str, int, int]],
    said: Sequence[Sequence[str]],
) -> Iterator[TimedPhoneme]:
    """The phonemes of words that were just found; those of a word share it alike if need be."""
    decoder.set_alignment()  # of those words
    edges: list[list[int]] = []
    try:
        _decode(decoder, samples)
        for word in decoder.get_alignment():
            if word.name[0] not in "<[":
                edges.append([p.start for p in word] + [word.start + word.duration])
    except RuntimeError:  # its beam has lost them, as of one utterance in ten
        for (_, start, stop), phonemes in zip(segments, said, strict=True):
            edges.append(np.linspace(start, stop, len(phonemes) + 1).tolist())
    for at, phonemes in zip(edges, said, strict=True):
        for phoneme, start, stop in zip(phonemes, at[:-1], at[1:], strict=True):
            yield TimedPhoneme(phoneme, start / FRAMES_PER_S, stop / FRAMES_PER_S)


def _decode(decoder: Any, samples: np.ndarray) -> None:
    decoder.reinit_feat()  # forgets the channel of the sound before
    decoder.start_utt()
    decoder.process_raw((samples.clip(-1, 1) * 32767).astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()


@cache
def _decoder(knows_language: bool) -> Any:
    from pocketsphinx import Decoder

    more = {} if knows_language else {"lm": None}
    return Decoder(samprate=RATE, cmn="batch", loglevel="FATAL", **more)
