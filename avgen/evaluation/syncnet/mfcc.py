"""16-bit samples at 16 kHz in, SyncNet's cepstra out: 100 rows of 13 numbers a second.

The arithmetic of the package python_speech_features 0.6 with its defaults, which is what the
released SyncNet hears: windows of 25 ms every 10 ms, **rectangular**, pre-emphasis 0.97, a
512-point FFT, 26 triangles over 0 to 8000 Hz, orthonormal DCT-II, sine lifter 22, and the log of
the window's energy in place of coefficient 0.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.fft import dct

from avgen.errors import UserError

SAMPLE_RATE = 16_000  # Hz
HOP = 160  # samples from one row to the next
NUM_CEPSTRA = 13

_WINDOW = 400  # samples
_PREEMPHASIS = 0.97
_FFT_SIZE = 512
_NUM_FILTERS = 26
_LIFTER = 22
_LEAST = np.finfo(np.float64).eps  # in place of an energy of 0, whose log there is not


def int16_samples(waveform: np.ndarray) -> np.ndarray:
    """Sound [N] in [-1, 1] as FFmpeg's 16-bit samples: int16 [N], the nearest of x * 32768.

    SyncNet's cepstra are of these. Those of the floats differ in coefficient 0 alone, which is
    lower by ln(32768^2) = 20.794, and nothing downstream would notice.
    """
    return np.clip(np.rint(waveform.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)


def mfcc(samples: np.ndarray) -> np.ndarray:
    """Cepstra of a sound.

    Args:
        samples: int16 [N] at 16 kHz, N at least 1 (`int16_samples`).

    Returns:
        float64 [M, 13], M = 1 + ceil((N - 400) / 160) and at least 1; the last window is filled up
        with zeros. Column 0 is the log of the window's energy, in units of 16-bit samples squared.

    Raises:
        UserError: samples that are not int16, or none.
    """
    if samples.dtype != np.int16 or samples.ndim != 1 or not len(samples):
        raise UserError(
            f"samples of type {samples.dtype}, shape {list(samples.shape)}; "
            "SyncNet's cepstra are of int16 [N] (see int16_samples)"
        )
    signal = samples.astype(np.float64)
    signal = np.concatenate([signal[:1], signal[1:] - _PREEMPHASIS * signal[:-1]])
    num_rows = 1 + max(0, -(-(len(signal) - _WINDOW) // HOP))
    padded = np.zeros((num_rows - 1) * HOP + _WINDOW)
    padded[: len(signal)] = signal
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(windows, _FFT_SIZE)) ** 2 / _FFT_SIZE  # [M, 257]
    bands = power @ _filters().T
    cepstra = np.asarray(dct(np.log(_positive(bands)), type=2, norm="ortho", axis=1))
    cepstra = cepstra[:, :NUM_CEPSTRA]
    order = np.arange(NUM_CEPSTRA)
    cepstra *= 1 + _LIFTER / 2 * np.sin(np.pi * order / _LIFTER)
    cepstra[:, 0] = np.log(_positive(power.sum(1)))
    return cepstra


def _positive(energy: np.ndarray) -> np.ndarray:
    return np.where(energy == 0, _LEAST, energy)


@cache
def _filters() -> np.ndarray:
    """Triangles on the mel scale, with corners on whole bins: [26, 257].

    mel = 2595 log10(1 + Hz / 700); a corner's bin is rounded down from (512 + 1) Hz / 16000.
    """
    highest = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, highest, _NUM_FILTERS + 2) / 2595) - 1)
    corners = np.floor((_FFT_SIZE + 1) * hertz / SAMPLE_RATE)
    bins = np.arange(_FFT_SIZE // 2 + 1)
    filters = np.zeros((_NUM_FILTERS, len(bins)))
    for row, (low, top, high) in zip(
        filters, zip(corners[:-2], corners[1:-1], corners[2:], strict=True), strict=True
    ):
        rising, falling = (bins >= low) & (bins < top), (bins >= top) & (bins < high)
        row[rising] = (bins[rising] - low) / (top - low)
        row[falling] = (high - bins[falling]) / (high - top)
    return filters
