"""Text in, speech with the times of its words and phonemes out, by a voice that needs no download.

The speech is hibari-tts's (Apache-2.0; its one packaged voice, 24 kHz). Two numbers turn that voice
into others: its pitch is scaled, and its spectral envelopes are stretched, as a longer or shorter
vocal tract would stretch them.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import hibari
import numpy as np
from hibari import dsp, voices

from avgen.clips.clip import Word
from avgen.clips.timebase import to_index
from avgen.corpora.puppets.person import Voice
from avgen.errors import UserError
from avgen.models.phonemes import MISAKI, MISAKI_PAUSES, MISAKI_STRESS, TimedPhoneme

SAMPLE_RATE = hibari.SAMPLE_RATE  # Hz

# The network's durations come in units of two of its 12.5 ms frames.
_DURATION_S = 2 * dsp.HOP / SAMPLE_RATE
# They run late against the sound: by 80 ms where a forced aligner (pocketsphinx) puts the starts of
# 66 words, by 85 ms where the opening of the mouth follows the loudness of 30 sentences best.
_LATE_S = 0.08
# What is softer than this part of the loudest tenth is taken for silence.
_SILENCE = 0.05
# Silence left at both ends of the speech.
_MARGIN_S = 0.05
# No phoneme beside a silence is made shorter than this when it is fitted to the sound.
_SHORTEST_S = 0.03
# Root mean square of the speech, of full scale.
_LOUDNESS = 0.08

_OUTPUTS = ("lh", "theta", "ln", "lr", "phi", "f0", "/Round_output_0")


@dataclass(frozen=True)
class Speech:
    """Something said.

    Attributes:
        waveform: float32 [1, N], at SAMPLE_RATE.
        words: what was said, in lower case, with times in the waveform.
        phonemes: likewise; gaps between them are silent.
    """

    waveform: np.ndarray
    words: tuple[Word, ...]
    phonemes: tuple[TimedPhoneme, ...]


def speak(text: str, voice: Voice, *, speed: float = 1.0, seed: int = 0) -> Speech:
    """Says one short sentence.

    Starts and ends of speech are fitted to the sound; between them times are the network's own,
    right to about 30 ms.

    Args:
        text: words and punctuation; numbers have to be spelled.
        voice: who speaks.
        speed: 1 is the voice's own pace, 2 twice as fast.
        seed: of the breath noise; the same arguments give the same samples.

    Raises:
        UserError: if there is nothing to say, or the words do not map one to one to what is said.
    """
    spellings = [word.strip("".join(MISAKI_PAUSES) + "\"'()").lower() for word in text.split()]
    sentences = _hibari().phonemize(text)
    said = " ".join(sentences)
    groups = [group for group in said.split(" ") if group.strip("".join(MISAKI_PAUSES))]
    if (
        len(sentences) != 1
        or len(groups) != len(spellings)
        or not all(spelling.replace("'", "").isalpha() for spelling in spellings)
    ):
        raise UserError(f"cannot say {text!r}: one sentence of plain words is wanted")
    waveform, durations_s = _synthesize(said, voice, speed, seed)
    starts_s = np.concatenate([[0.0], np.cumsum(durations_s)]) - _LATE_S
    words = _group_phonemes(said, starts_s)
    begin, end = _sounding(waveform)
    words = _fit_to_sound(words, begin / SAMPLE_RATE, end / SAMPLE_RATE)
    margin = to_index(_MARGIN_S, SAMPLE_RATE)
    cut = max(begin - margin, 0)
    waveform = waveform[cut : end + margin]
    waveform = waveform * (_LOUDNESS / np.sqrt(np.mean(waveform**2)))
    words = [[_moved(phoneme, -cut / SAMPLE_RATE) for phoneme in word] for word in words]
    return Speech(
        waveform=np.clip(waveform, -1, 1).astype(np.float32)[None],
        words=tuple(
            Word(spelling, word[0].start_s, word[-1].end_s)
            for spelling, word in zip(spellings, words, strict=True)
        ),
        phonemes=tuple(phoneme for word in words for phoneme in word),
    )


@functools.cache
def _hibari() -> hibari.Hibari:
    """The packaged voice, with the durations of its phonemes among the network's outputs.

    A model file is one protocol-buffer message, and of a message field that is written twice the
    two are merged: one more `graph { output { name } }` at the end adds that output.
    """

    def field(number: int, payload: bytes) -> bytes:
        assert len(payload) < 128, "lengths of more than one byte are written otherwise"
        return bytes([number << 3 | 2, len(payload)]) + payload

    name = _OUTPUTS[-1].encode()
    model = Path(voices.voice_path(voices.DEFAULT)).read_bytes()
    return hibari.Hibari(model=model + field(7, field(12, field(1, name))))


def _synthesize(said: str, voice: Voice, speed: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sound float32 [N], and the seconds of each letter of `said` with a silence before and after.

    The sum of the seconds is the length of the sound.
    """
    tts = _hibari()
    unknown = sorted(set(said) - tts.vocab.keys())
    if unknown:
        raise UserError(f"cannot say {said!r}: there is no sound for {unknown}")
    inputs = {
        "ids": np.array([tts.ids(said)], np.int64),
        "speed": np.array([speed], np.float32),
    }
    outputs = (np.asarray(output) for output in tts.sess.run(_OUTPUTS, inputs))
    lh, theta, ln, lr, phi, f0, units = outputs
    own = dsp.synth(lh[0], theta[0], ln[0], lr[0], phi[0], f0[0], np.random.default_rng(seed))
    silent = -12.0  # of log magnitude
    changed = dsp.synth(
        _stretch(lh[0], voice.formant, silent),
        _stretch(theta[0], voice.formant, 0.0),
        _stretch(ln[0], voice.formant, silent),
        _stretch(lr[0], voice.formant, silent),
        phi[0],
        f0[0] * voice.pitch,
        np.random.default_rng(seed),
    )
    # Below the packaged voice's pitch its spectra say nothing, so a lower voice booms now and then.
    waveform = changed * (_loudness(own) / _loudness(changed))
    return waveform, units.reshape(-1) * _DURATION_S


def _loudness(waveform: np.ndarray) -> np.ndarray:
    """Root mean square around each sample, over about three periods of a low voice."""
    reach = to_index(0.02, SAMPLE_RATE)
    window = np.hanning(2 * reach + 1).astype(np.float32)
    power = np.convolve(waveform**2, window / window.sum(), mode="same")
    return np.sqrt(np.maximum(power, 1e-8))


def _stretch(spectrum: np.ndarray, factor: float, beyond: float) -> np.ndarray:
    """A spectrum [bins, frames] with what was at bin b moved to b * factor, `beyond` above."""
    source = np.arange(len(spectrum)) / factor
    below = np.minimum(source.astype(int), len(spectrum) - 2)
    part = np.clip(source - below, 0, 1)[:, None]
    stretched = spectrum[below] * (1 - part) + spectrum[below + 1] * part
    stretched[source > len(spectrum) - 1] = beyond
    return stretched.astype(np.float32)


def _group_phonemes(said: str, starts_s: np.ndarray) -> list[list[TimedPhoneme]]:
    """The phonemes of each word; `starts_s` are those of the letters, after a first silence."""
    words: list[list[TimedPhoneme]] = [[]]
    pause = True
    stressed_at: float | None = None
    for index, letter in enumerate(said, start=1):
        start_s, end_s = float(starts_s[index]), float(starts_s[index + 1])
        word = words[-1]
        if letter in MISAKI_STRESS:
            stressed_at = start_s
        elif letter in MISAKI:
            if stressed_at is not None:
                start_s, stressed_at = stressed_at, None
            if not word and not pause:
                # Without punctuation there is no silence between words: the space is spoken over.
                before = words[-2].pop()
                words[-2].append(TimedPhoneme(before.phoneme, before.start_s, start_s))
            if letter == "ɹ" and word and said[index - 2] in "əɜ":
                start_s = word.pop().start_s
                word.append(TimedPhoneme("ER", start_s, end_s))
            else:
                word.append(TimedPhoneme(MISAKI[letter], start_s, end_s))
            pause = False
        elif letter in MISAKI_PAUSES:
            pause = True
        elif letter == " " and word:
            words.append([])
        elif letter != " ":
            raise UserError(f"cannot say {said!r}: {letter!r} is no phoneme")
    return [word for word in words if word]


def _sounding(waveform: np.ndarray) -> tuple[int, int]:
    """The samples between which there is sound."""
    reach = to_index(0.005, SAMPLE_RATE)
    loudness = np.convolve(np.abs(waveform), np.ones(2 * reach + 1), mode="same")
    loud = np.flatnonzero(loudness > _SILENCE * np.quantile(loudness, 0.9))
    return int(loud[0]), int(loud[-1]) + 1


def _fit_to_sound(
    words: list[list[TimedPhoneme]], begin_s: float, end_s: float
) -> list[list[TimedPhoneme]]:
    """Moves the first start and the last end to those of the sound, others only if they must."""
    phonemes = [phoneme for word in words for phoneme in word]
    count = len(phonemes)
    fitted = []
    for index, phoneme in enumerate(phonemes):
        earliest, latest = begin_s + index * _SHORTEST_S, end_s - (count - index) * _SHORTEST_S
        start_s = begin_s if index == 0 else min(max(phoneme.start_s, earliest), latest)
        stop_s = (
            end_s
            if index == count - 1
            else min(max(phoneme.end_s, earliest + _SHORTEST_S), latest + _SHORTEST_S)
        )
        fitted.append(TimedPhoneme(phoneme.phoneme, start_s, stop_s))
    parts = iter(fitted)
    return [[next(parts) for _ in word] for word in words]


def _moved(phoneme: TimedPhoneme, by_s: float) -> TimedPhoneme:
    return TimedPhoneme(phoneme.phoneme, phoneme.start_s + by_s, phoneme.end_s + by_s)
