"""Clip records <-> a JSONL manifest: the one typed form in which every corpus reaches training."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from avgen.clips.clip import Word


@dataclass(frozen=True)
class ClipRecord:
    """One clip of a corpus.

    Attributes:
        id: Unique within the manifest; names files.
        media: Path of the clip, relative to the corpus' root.
        corpus: Its name.
        speaker: Who speaks.
        split: What the clip may be used for.
        caption: How it looks and sounds.
        words: What is said, and when, in seconds from the first frame.
        box: Square to crop: (x, y, width, height) in pixels of the frames as `read_clip` returns
            them.
        licence: Of the media.
    """

    id: str
    media: str
    corpus: str
    speaker: str
    split: Literal["train", "validation", "test"]
    caption: str
    words: tuple[Word, ...]
    box: tuple[int, int, int, int] | None
    licence: str


def read_manifest(path: str | Path) -> list[ClipRecord]:
    """Read a manifest.

    Raises:
        ValueError: the file is missing, or a line is not a record (the line is named).
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: not found; a prepared corpus has a manifest")
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            values = json.loads(line)
            values["words"] = tuple(Word(**word) for word in values["words"])
            values["box"] = None if values["box"] is None else tuple(values["box"])
            records.append(ClipRecord(**values))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}:{number}: is not a clip record: {error}") from error
    return records


def write_manifest(records: Iterable[ClipRecord], path: str | Path) -> None:
    """Write a manifest, beside its place first."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(
        "".join(json.dumps(asdict(record)) + "\n" for record in records), encoding="utf-8"
    )
    temporary.replace(path)
