"""Real clips and those made from them -> contact sheets and spectrograms that a person looks at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import librosa
import numpy as np
from PIL import Image

from avgen.clips.clip import Clip
from avgen.training.callbacks import contact_sheet

# Of the crops that prepare.py makes: around the lips, which landmarks put at rows 0.78 to 0.92 and
# columns 0.39 to 0.64 (least and most of 45 frames of the train split).
MOUTH_ROWS, MOUTH_COLUMNS = (0.72, 0.97), (0.32, 0.70)
ENLARGED = 2  # the mouth's region in its own sheet
SPECTROGRAM = {"n_fft": 1024, "hop_length": 240, "n_mels": 80, "power": 2.0}
LOUDNESS_DB = 80.0  # shown, below the loudest of both


def write_sheets(pairs: Sequence[tuple[Clip, Clip]], folder: Path) -> None:
    """Write sheet, mouths and spectrograms as PNG: each real clip above the one made from it."""
    rows = [clip.frames for pair in pairs for clip in pair]
    mouths = [mouth_region(frames).repeat(ENLARGED, 1).repeat(ENLARGED, 2) for frames in rows]
    pictures = {
        "sheet": [contact_sheet(frames) for frames in rows],
        "mouths": [contact_sheet(frames) for frames in mouths],
        "spectrograms": [spectrograms(pair) for pair in pairs],
    }
    for name, parts in pictures.items():
        Image.fromarray(stacked(parts)).save(folder / f"{name}.png")


def stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures [H, W, ...] one above the other; what is narrower than the widest ends in black."""
    widest = max(part.shape[1] for part in parts)
    rest = [(0, 0)] * (parts[0].ndim - 2)
    return np.concatenate(
        [np.pad(part, [(0, 0), (0, widest - part.shape[1]), *rest]) for part in parts]
    )


def mouth_region(frames: np.ndarray) -> np.ndarray:
    """The part of face crops [T, H, W, 3] where the mouth is."""
    height, width = frames.shape[1:3]
    (top, bottom), (left, right) = (
        [round(share * size) for share in span]
        for span, size in ((MOUTH_ROWS, height), (MOUTH_COLUMNS, width))
    )
    return frames[:, top:bottom, left:right]


def spectrograms(pair: tuple[Clip, Clip]) -> np.ndarray:
    """Mel spectrograms of two clips, one above the other, low tones below: uint8 [rows, time]."""
    mels = []
    for clip in pair:
        assert clip.waveform is not None and clip.sample_rate is not None
        mels.append(
            librosa.feature.melspectrogram(y=clip.waveform[0], sr=clip.sample_rate, **SPECTROGRAM)
        )
    levels = [10 * np.log10(np.maximum(mel[::-1], 1e-10)) for mel in mels]
    loudest = max(level.max() for level in levels)
    grey = [np.clip(1 + (level - loudest) / LOUDNESS_DB, 0, 1) * 255 for level in levels]
    line = np.full((4, min(part.shape[1] for part in grey)), 255.0)
    grey = [part[:, : line.shape[1]] for part in grey]
    return np.concatenate([grey[0], line, grey[1], line * 0]).astype(np.uint8)
