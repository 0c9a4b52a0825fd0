"""Where everything lies in a prepared folder; files written beside their place and renamed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avgen.clips.files import atomic, sweep

FOLDERS = ("frames", "waveforms", "outcomes", "thumbs")
THUMB_SIDE = 96  # pixels of a thumbnail's longer side


@dataclass(frozen=True)
class Store:
    """A prepared folder.

    manifest.jsonl, rates.json, lexicon.json, frames/ and waveforms/ are what training reads
    (avgen/training/data.py); prepare.json is how they were made, outcomes/ what became of every
    record of the corpus, thumbs/ what it looks like, shards/ and manifest.parquet the same clips
    for readers of WebDataset.

    Attributes:
        folder: Where it is.
    """

    folder: Path

    def make(self) -> None:
        """Make its folders."""
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def sweep(self) -> None:
        """Take away what runs that were killed left half written; for when nobody writes here."""
        for folder in (self.folder, *(self.folder / name for name in FOLDERS)):
            sweep(folder)

    def frames(self, clip: str) -> Path:
        """Of a clip: uint8 [T, H, W, 3]."""
        return self.folder / "frames" / f"{clip}.npy"

    def waveform(self, clip: str) -> Path:
        """Of a clip: int16 [1, N]."""
        return self.folder / "waveforms" / f"{clip}.npy"

    def outcome(self, record: str) -> Path:
        """Of a record of the corpus."""
        return self.folder / "outcomes" / f"{record}.json"

    def thumbnail(self, name: str) -> Path:
        """Of a piece, kept or not."""
        return self.folder / "thumbs" / f"{name}.jpg"

    def write_clip(self, clip: str, frames: np.ndarray, waveform: np.ndarray) -> None:
        """Write frames uint8 [T, H, W, 3] and a waveform float32 [1, N]."""
        self.write_array(self.frames(clip), frames)
        self.write_array(self.waveform(clip), np.round(waveform * 32767).astype(np.int16))

    def write_array(self, path: Path, array: np.ndarray) -> None:
        """Write an array as .npy."""
        with atomic(path) as temporary:
            np.save(temporary, array)

    def write_thumbnail(self, name: str, frame: np.ndarray) -> None:
        """Write a small picture of a frame uint8 [H, W, 3]."""
        scale = THUMB_SIDE / max(frame.shape[:2])
        size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
        small = cv2.resize(np.ascontiguousarray(frame), size, interpolation=cv2.INTER_AREA)
        done, data = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
        assert done
        write_bytes(self.thumbnail(name), data.tobytes())


def write_json(path: Path, values: Any) -> None:
    """Write JSON."""
    write_bytes(path, (json.dumps(values, allow_nan=False, indent=1) + "\n").encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)
