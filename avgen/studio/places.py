"""The studio's folder: where everything is. Files are named by ids, never by what a user says."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avgen.clips.files import atomic, may_write, sweep

ID = re.compile(r"(video|file|batch)_[0-9a-f]{24}")


def new_id(kind: str) -> str:
    """`video_`, `file_` or `batch_` and 24 hexadecimal digits that nobody can guess."""
    return f"{kind}_{secrets.token_hex(12)}"


@dataclass(frozen=True)
class Folder:
    """Paths below one folder.

    Attributes:
        root: Of all of them.
    """

    root: Path

    def prepare(self) -> None:
        """Make what is not there, private to its owner, and sweep what dead processes left.

        Raises:
            MediaError: it cannot be written to.
        """
        for name in ("clips", "uploads", "previews"):
            (self.root / name).mkdir(parents=True, exist_ok=True, mode=0o700)
            sweep(self.root / name)
        may_write(self.database, overwrite=True)

    @property
    def database(self) -> Path:
        """The queue, and all that is said of clips."""
        return self.root / "studio.sqlite3"

    def clip(self, job: str) -> Path:
        """A clip's file; beside it, by longer names, all that belongs to it."""
        return self.root / "clips" / f"{job}.mp4"

    def beside(self, job: str, kind: str) -> Path:
        """A file that is made of a clip: "thumbnail.jpg", "spritesheet.jpg", "report.json" ..."""
        return self.root / "clips" / f"{job}.{kind}"

    def preview(self, job: str) -> Path:
        """The newest preview of a clip that is being made."""
        return self.root / "previews" / f"{job}.jpg"

    def upload(self, file: str) -> Path:
        """What a user sent; its name and type are forgotten."""
        return self.root / "uploads" / file

    def remove(self, job: str) -> None:
        """Remove a clip with all that belongs to it."""
        for path in (*self.root.glob(f"clips/{job}.*"), self.preview(job)):
            path.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, all at once."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
