"""A voice that is given in, when each of its phonemes is said out. No torch.

A model that was told timed phonemes in training needs them of a given voice too: lips follow what
is said. By pocketsphinx with the acoustic and language models of US English in its package. What is
not English is heard as English words that sound alike, most of what lips need.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

import numpy as np

from avgen.errors import UserError
from avgen.models.english import SpokenWord
from avgen.models.phonemes import VOWELS, TimedPhoneme, without_stress

RATE = 16_000  # of pocketsphinx's model
FRAMES_PER_S = 100  # of its alignments
FRAME = RATE // FRAMES_PER_S  # samples
SHORTEST_S = 0.1  # of sound in which anything can be said
PIECE_S = 15  # of sound at a time at most: aligning phonemes takes memory by its square
FAINTEST = 1e-3  # peak, of a full scale of 1; words are heard in digital silence too
_LOCK = Lock()

Segment = tuple[str, int, int]  # a word as a dictionary has it, and its frames [start, stop)


def hear(samples: np.ndarray) -> tuple[TimedPhoneme, ...]:
    """The phonemes of the words that are heard in samples [N] at `RATE`; none in silence.

    Dictionaries of the recogniser have no stress: schwas get none, other vowels the first.
    """
    if len(samples) < SHORTEST_S * RATE or abs(samples).max() < FAINTEST:
        return ()
    heard: list[TimedPhoneme] = []
    with _decoder_of(knows_language=True) as decoder:
        for start, stop in _pieces(samples):
            decoder.activate_search()  # for words
            segments = _words(decoder, samples[start:stop])
            spelled = [decoder.lookup_word(name).split() for name, *_ in segments]
            said = [[f"{p}{int(p != 'AH')}" if p in VOWELS else p for p in w] for w in spelled]
            if segments:
                heard += _phonemes(decoder, samples[start:stop], segments, said, start / RATE)
    return tuple(heard)


def align(samples: np.ndarray, words: Sequence[SpokenWord]) -> tuple[TimedPhoneme, ...]:
    """The phonemes of words in samples [N] at `RATE`, in which they are said: not checked.

    Raises:
        UserError: they do not fit there.
    """
    said = [[without_stress(phoneme) for phoneme in word.phonemes] for word in words]
    names, found = ["/".join(phonemes) for phonemes in said], []
    timed: list[TimedPhoneme] = []
    with _decoder_of(knows_language=False) as decoder:
        for name, phonemes in zip(names, said, strict=True):
            if decoder.lookup_word(name) is None:
                decoder.add_word(name, " ".join(phonemes), True)
        if len(samples) >= SHORTEST_S * RATE:
            decoder.set_align_text(" ".join(names))
            found = _words(decoder, samples)
        if [name for name, *_ in found] != names:
            raise UserError(
                f"{' '.join(word.text for word in words)!r} does not fit the sound that is given; "
                "leave it out to have the words of the sound heard, or give their times as words",
                "speech",
            )
        for first, last in _groups(found):
            start = found[first][1] if first else 0
            stop = found[last][1] if last < len(found) else len(samples) // FRAME
            part = samples[start * FRAME : stop * FRAME]
            segments = [(name, a - start, b - start) for name, a, b in found[first:last]]
            if last - first < len(found):  # again, for what is to be aligned next
                decoder.set_align_text(" ".join(names[first:last]))
                again = _words(decoder, part)
                segments = again if [s[0] for s in again] == names[first:last] else segments
            own = [word.phonemes for word in words[first:last]]
            timed += _phonemes(decoder, part, segments, own, start / FRAMES_PER_S)
    return tuple(timed)


def _pieces(samples: np.ndarray) -> Iterator[tuple[int, int]]:
    """[start, stop) of pieces of at most `PIECE_S`, cut where their last third is quietest."""
    start, longest, step = 0, PIECE_S * RATE, RATE // 20
    while len(samples) - start > longest:
        late = start + longest * 2 // 3
        loud = np.square(samples[late : start + longest]).reshape(-1, step).mean(1)
        cut = late + int(loud.argmin()) * step + step // 2
        yield start, cut
        start = cut
    yield start, len(samples)


def _groups(found: Sequence[Segment]) -> Iterator[tuple[int, int]]:
    """[first, last) of words one after another that last at most `PIECE_S` together."""
    first = 0
    for last in range(1, len(found) + 1):
        if last == len(found) or found[last][2] - found[first][1] > PIECE_S * FRAMES_PER_S:
            yield first, last
            first = last


def _words(decoder: Any, samples: np.ndarray) -> list[Segment]:
    """The words that are found; none where a search came to no end."""
    try:
        _decode(decoder, samples)
    except RuntimeError:
        return []
    found = ((s.word, s.start_frame, s.end_frame + 1) for s in decoder.seg() or ())
    return [segment for segment in found if segment[0][0] not in "<["]  # pauses and noises


def _phonemes(
    decoder: Any,
    samples: np.ndarray,
    segments: Sequence[Segment],
    said: Sequence[Sequence[str]],
    from_s: float,
) -> Iterator[TimedPhoneme]:
    """The phonemes of words that were found last; those of a word share it alike if need be."""
    edges: list[list[float]] = []
    try:
        decoder.set_alignment()  # of those words
        _decode(decoder, samples)
        for word in decoder.get_alignment():
            if word.name[0] not in "<[":
                edges.append([*(p.start for p in word), word.start + word.duration])
    except RuntimeError:  # phonemes are lost in one utterance of ten
        edges = []
    if [len(at) - 1 for at in edges] != [len(phonemes) for phonemes in said]:
        ends = [(start, stop) for _, start, stop in segments]
        both = zip(ends, said, strict=True)
        edges = [np.linspace(*end, len(phonemes) + 1).tolist() for end, phonemes in both]
    for at, phonemes in zip(edges, said, strict=True):
        for phoneme, start, stop in zip(phonemes, at[:-1], at[1:], strict=True):
            start_s, stop_s = from_s + start / FRAMES_PER_S, from_s + stop / FRAMES_PER_S
            yield TimedPhoneme(phoneme, round(start_s, 4), round(stop_s, 4))


def _decode(decoder: Any, samples: np.ndarray) -> None:
    sound = (samples.clip(-1, 1) * 32767).astype(np.int16).tobytes()
    decoder.reinit_feat()  # forgets the channel of the sound before
    decoder.start_utt()
    decoder.process_raw(sound, full_utt=True)
    decoder.end_utt()


@contextmanager
def _decoder_of(knows_language: bool) -> Iterator[Any]:
    """The one decoder of its kind, for one thread at a time; what was interrupted is not kept."""
    with _LOCK:
        try:
            yield _decoder(knows_language)
        except BaseException:
            _decoder.cache_clear()
            raise


@cache
def _decoder(knows_language: bool) -> Any:
    from pocketsphinx import Decoder

    more = {} if knows_language else {"lm": None}
    return Decoder(samprate=RATE, cmn="batch", loglevel="FATAL", **more)
