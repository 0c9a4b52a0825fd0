"""A transcript and its sound in, when each word is said out: plug-ins for `--aligner`.

`align_english` needs no download: pocketsphinx with its US English model, whose dictionary the
package carries. Others are written likewise; a word that is not known is an error, not a guess.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np

from avgen.clips.timed_words import Word
from avgen.errors import UserError
from avgen.evaluation.waveforms import SPEECH_RATE, at_speech_rate

FRAMES_PER_S = 100  # of pocketsphinx's segments
_PAUSE = re.compile(r"<.*>|\[.*\]|\(.*\)")  # <sil>, [NOISE], (NULL)


def align_english(waveform: np.ndarray, sample_rate: int, transcript: str) -> tuple[Word, ...]:
    """The words of a transcript with their times in a waveform float32 [1, N].

    Raises:
        UserError: a word is not in the dictionary, or the transcript does not fit the sound.
    """
    spelled = re.findall(r"[a-z']+", transcript.lower())
    if not spelled:
        raise UserError(f"{transcript!r}: has no words")
    decoder = _decoder()
    unknown = sorted({word for word in spelled if decoder.lookup_word(word) is None})
    if unknown:
        raise UserError(f"not in the dictionary: {', '.join(unknown)}")
    decoder.set_align_text(" ".join(spelled))
    decoder.start_utt()
    sound = (at_speech_rate(waveform, sample_rate) * 32767).astype(np.int16)
    decoder.process_raw(sound.tobytes(), full_utt=True)
    decoder.end_utt()
    segments = [s for s in decoder.seg() or () if not _PAUSE.fullmatch(s.word)]
    found = [re.sub(r"\(\d+\)$", "", segment.word) for segment in segments]
    if found != spelled:
        raise UserError(f"{transcript!r}: does not fit the sound")
    return tuple(
        Word(word, segment.start_frame / FRAMES_PER_S, (segment.end_frame + 1) / FRAMES_PER_S)
        for word, segment in zip(found, segments, strict=True)
    )


@cache
def _decoder() -> Any:
    from pocketsphinx import Decoder

    return Decoder(samprate=SPEECH_RATE, lm=None, cmn="batch", loglevel="FATAL")
