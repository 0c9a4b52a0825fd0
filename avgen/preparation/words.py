"""Words and phonemes with times -> those of a clip; plug-ins that find them.

A plug-in is any callable, named by its import path ("package.module.name"):

    aligner(waveform, sample_rate, transcript) -> words of the transcript with their times
    recognizer(waveform, sample_rate)          -> recognised words with their times
    captioner(frames, record)                  -> a caption

with a waveform float32 [1, N], frames uint8 [T, H, W, 3], a `ClipRecord` and `Word`s in seconds of
the waveform.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from avgen.clips.timed_words import Word
from avgen.models.phonemes import TimedPhoneme

LEAST_INSIDE = 0.5  # of a word or phoneme, for it to be of the clip
Timed = TypeVar("Timed", Word, TimedPhoneme)


def place(timed: Sequence[Timed], start_s: float, end_s: float) -> tuple[Timed, ...]:
    """The words or phonemes of [start_s, end_s), in seconds from start_s.

    One that is cut counts if at least half of it is inside.
    """
    placed = []
    for one in timed:
        first, last = max(one.start_s, start_s), min(one.end_s, end_s)
        if last - first >= LEAST_INSIDE * (one.end_s - one.start_s):
            start, end = round(first - start_s, 4), round(last - start_s, 4)
            if start < end:
                placed.append(replace(one, start_s=start, end_s=end))
    return tuple(placed)
