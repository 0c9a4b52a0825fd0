"""A prepared folder: where everything is in it, how it is written and how it is read."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avgen.clips.clip import Clip
from avgen.clips.files import atomic, sweep
from avgen.corpora.manifest import ClipRecord, Split, read_manifest
from avgen.errors import UserError

SETTINGS = "prepare.json"
FULL_SCALE = 32767  # int16 of a sample that is 1
FOLDERS = ("frames", "waveforms", "outcomes", "thumbs")
THUMB_SIDE = 96  # pixels of a thumbnail's longer side


@dataclass(frozen=True)
class Store:
    """A prepared folder, read and written.

        manifest.jsonl          the clips (corpora/manifest.py)
        rates.json              fps (null where clips have their own) and sample_rate
        lexicon.json            pronunciations besides the dictionary's
        frames/ID.npy           uint8 [T, H, W, 3]; none of a voice alone
        frames/ID.fps           frames a second of a clip that has its own rate
        waveforms/ID.npy        int16 [1, N]; [0, 0] of a clip without sound
        tracks.json, tracks/    numbers that go with the frames, if the corpus has any
        latents/                what both codecs make of them (encode.py)
        prepare.json            how the clips were made
        outcomes/ID.json        what became of every record of the corpus
        thumbs/                 what it looks like

    Attributes:
        folder: Where it is.
    """

    folder: Path

    def make(self) -> None:
        """Make its folders."""
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def sweep(self) -> None:
        """Remove what processes that are gone have left half written."""
        for folder in (self.folder, *(self.folder / name for name in FOLDERS)):
            sweep(folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else is in here meanwhile, in any process; a lock ends with its process."""
        with (self.folder / SETTINGS).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # lockf's ends when anybody here closes the file
            yield

    def frames(self, clip: str) -> Path:
        """Of a clip: uint8 [T, H, W, 3]."""
        return self.folder / "frames" / f"{clip}.npy"

    def waveform(self, clip: str) -> Path:
        """Of a clip: int16 [1, N]."""
        return self.folder / "waveforms" / f"{clip}.npy"

    def latents(self, clip: str) -> Path:
        """Of a clip, by both codecs."""
        return self.folder / "latents" / f"{clip}.safetensors"

    def outcome(self, record: str) -> Path:
        """Of a record of the corpus."""
        return self.folder / "outcomes" / f"{record}.json"

    def thumbnail(self, name: str) -> Path:
        """Of a piece, kept or not."""
        return self.folder / "thumbs" / f"{name}.jpg"

    def fps(self, clip: str) -> Fraction:
        """Frames a second of a clip: its own rate, or the one that all have."""
        common = self.rates()["fps"]
        own = self.folder / "frames" / f"{clip}.fps"
        return Fraction(own.read_text() if common is None else common)

    def rates(self) -> dict[str, Any]:
        """What `rates.json` says.

        Raises:
            UserError: there is none.
        """
        path = self.folder / "rates.json"
        if not path.is_file():
            raise UserError(f"{path}: not found; a prepared folder has one")
        return json.loads(path.read_text())

    def size(self) -> tuple[int, int] | None:
        """Height and width that all pictures were brought to; None if it is not known."""
        path = self.folder / SETTINGS
        size = json.loads(path.read_text()).get("size") if path.is_file() else None
        return None if size is None else (size[0], size[1])

    def num_channels(self) -> int:
        """Of the sound of all clips."""
        path = self.folder / SETTINGS
        return json.loads(path.read_text()).get("num_channels", 1) if path.is_file() else 1

    def lexicon(self) -> dict[str, list[str]]:
        """Pronunciations that the corpus needs besides the dictionary's."""
        return json.loads((self.folder / "lexicon.json").read_text())

    def has_picture(self, record: ClipRecord) -> bool:
        """Whether a clip of the manifest has frames; a voice alone has not."""
        return not record.media.startswith("waveforms/")

    def write_clip(
        self,
        clip: str,
        frames: np.ndarray | None,
        waveform: np.ndarray | None,
        own_fps: Fraction | None = None,
    ) -> None:
        """Write frames uint8 [T, H, W, 3] and a waveform float32 [1, N], whichever there is."""
        if frames is not None:
            self.write_array(self.frames(clip), frames)
        if own_fps is not None:
            write_bytes(self.folder / "frames" / f"{clip}.fps", str(own_fps).encode())
        sound = np.zeros((0, 0), np.int16) if waveform is None else to_int16(waveform)
        self.write_array(self.waveform(clip), sound)

    def read_waveform(self, clip: str) -> np.ndarray | None:
        """The sound of a clip: float32 [1, N] in [-1, 1]; None without sound."""
        sound = np.load(self.waveform(clip))
        return from_int16(sound) if len(sound) else None

    def remove_media(self, clip: str) -> None:
        """Remove the frames and the waveform of a clip."""
        for path in (self.frames(clip), self.frames(clip).with_suffix(".fps"), self.waveform(clip)):
            path.unlink(missing_ok=True)

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


@dataclass(frozen=True)
class Prepared:
    """The clips of one split of a prepared folder.

    Attributes:
        folder: Where it is.
        split: Which records of its manifest.
    """

    folder: Path
    split: Split

    def records(self) -> list[ClipRecord]:
        """Its records.

        Raises:
            UserError: none are of this split.
        """
        path = self.folder / "manifest.jsonl"
        records = [record for record in read_manifest(path) if record.split == self.split]
        if not records:
            raise UserError(f"{path}: no clip is of the split {self.split!r}")
        return records

    def clip(self, record: ClipRecord) -> Clip:
        """A record's frames and sound as they were prepared."""
        store = Store(self.folder)
        frames, waveform = np.load(store.frames(record.id)), store.read_waveform(record.id)
        if waveform is None:
            return Clip(frames, store.fps(record.id))
        return Clip(frames, store.fps(record.id), waveform, store.rates()["sample_rate"])


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Samples float32 in [-1, 1] as int16."""
    return np.round(waveform * FULL_SCALE).astype(np.int16)


def from_int16(samples: np.ndarray) -> np.ndarray:
    """What `to_int16` was given, to half a step: float32."""
    return samples.astype(np.float32) / FULL_SCALE


def write_json(path: Path, values: Any) -> None:
    """Write JSON."""
    write_bytes(path, (json.dumps(values, allow_nan=False, indent=1) + "\n").encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)
