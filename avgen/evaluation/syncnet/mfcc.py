"""16-bit samples at 16 kHz -> SyncNet's cepstra: 100 rows of 13 numbers a second.

They are those of the package python_speech_features 0.6 with its defaults, which the released
SyncNet was trained on.
"""

from __future__ import annotations

import numpy as np

from avgen.errors import UserError
from avgen.evaluation.measure import optional

SAMPLE_RATE = 16_000  # Hz
HOP = 160  # samples from one row to the next


def int16_samples(waveform: np.ndarray) -> np.ndarray:
    """Sound [N] in [-1, 1] as FFmpeg's 16-bit samples: int16 [N], the nearest of x * 32768.

    SyncNet's cepstra are of these. Those of the floats differ in coefficient 0 alone, which is
    lower by ln(32768^2) = 20.794, and nothing downstream would notice.
    """
    return np.clip(np.rint(waveform.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)


def mfcc(samples: np.ndarray) -> np.ndarray:
    """Cepstra of int16 [N] at 16 kHz (`int16_samples`): float64 [1 + ceil((N - 400) / 160), 13].

    Column 0 is the log of the window's energy, in units of 16-bit samples squared.

    Raises:
        UserError: samples that are not int16, or none.
        Unscored: python_speech_features is not installed.
    """
    if samples.dtype != np.int16 or samples.ndim != 1 or not len(samples):
        raise UserError(
            f"samples of type {samples.dtype}, shape {list(samples.shape)}; "
            "SyncNet's cepstra are of int16 [N] (see int16_samples)"
        )
    return optional("python_speech_features", "'avgen[evaluate]'").mfcc(samples, SAMPLE_RATE)
