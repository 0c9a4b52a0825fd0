"""What is said in a clip, and when; how it looks, in words: from the corpus, or by a plug-in.

A plug-in is any callable, named by its import path ("package.module.name"):

    aligner(waveform, sample_rate, transcript) -> words of the transcript with their times
    recognizer(waveform, sample_rate)          -> words that it hears with their times
    captioner(frames, record)                  -> a caption

with a waveform float32 [1, N], frames uint8 [T, H, W, 3], a `ClipRecord` and `Word`s in seconds of
the waveform.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from avgen.clips.clip import Word
from avgen.errors import UserError

LEAST_INSIDE = 0.5  # of a word, for it to be of the clip


@cache
def load_plugin(path: str) -> Callable[..., Any]:
    """What an import path names.

    Raises:
        UserError: nothing that can be called.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{path}: no such plug-in; name one as package.module.name") from error
    if not callable(found):
        raise UserError(f"{path}: is a {type(found).__name__}; a plug-in is called")
    return found


def place(words: Sequence[Word], start_s: float, end_s: float) -> tuple[Word, ...]:
    """The words of [start_s, end_s), in seconds from start_s.

    One that is cut counts where at least half of it is inside.
    """
    placed = []
    for word in words:
        first, last = max(word.start_s, start_s), min(word.end_s, end_s)
        if last - first >= LEAST_INSIDE * (word.end_s - word.start_s):
            start, end = round(first - start_s, 4), round(last - start_s, 4)
            if start < end:
                placed.append(Word(word.text, start, end))
    return tuple(placed)
