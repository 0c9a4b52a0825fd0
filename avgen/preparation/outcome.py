"""What became of a record: clips, and pieces that were left out, each with its reason; as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from avgen.corpora.manifest import ClipRecord, record_from_json
from avgen.errors import UserError

REASONS = {
    "layout": "the corpus says of it what cannot be used",
    "opted out": "on the list of those who do not want to be in the data",
    "unreadable": "the file is missing, damaged, or no media file",
    "no sound": "there is no sound, or it is silent",
    "too short": "shorter than the shortest clip",
    "no face": "no face is seen for long enough",
    "still": "the face does not move",
    "no speech": "nobody speaks",
    "another speaks": "another face fits the sound better",
    "out of sync": "sound and lips do not fit at any offset, or at one too large to correct",
    "picture": "the picture is too small, too dark, too bright, or blurred",
    "plug-in": "the aligner, recogniser or captioner refuses it",
    "portrait": "a still picture that cannot be made to speak",
    "sound": "the sound is too quiet, too noisy, or clipped",
    "failed": "an error of avgen's, or a process that ended",
}


class Dropped(Exception):  # noqa: N818 - it reads as what became of the clip
    """A clip, or a piece of one, is left out.

    Args:
        reason: A key of REASONS.
        detail: The numbers or the error, in one line.
    """

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in REASONS, reason
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, " ".join(detail.split())


@dataclass(frozen=True)
class Drop:
    """A piece that was left out.

    Attributes:
        reason: A key of REASONS.
        detail: More of it, in one line.
        span: Seconds of the source's picture.
        thumbnail: Whether thumbs/ has a picture of it, and under which name.
        traceback: Of an error that is avgen's; "" for all else.
    """

    reason: str
    detail: str
    span: tuple[float, float] | None = None
    thumbnail: str | None = None
    traceback: str = ""


@dataclass(frozen=True)
class Origin:
    """Where a clip was cut from.

    Attributes:
        media: Path relative to the corpus' root.
        span: Seconds of its picture.
        box: Window around the head, x, y, width and height in pixels: its median over the clip.
    """

    media: str
    span: tuple[float, float]
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Kept:
    """A clip that was kept.

    Attributes:
        record: Of the clip as it lies in the prepared folder: its media are the frames there, its
            words are in seconds of the clip, and what the corpus annotates of the source is done.
        origin: Where it was cut from.
        num_frames: Of its picture; 0 without one.
        measures: Numbers by name, such as the offset that was corrected; "seconds" if the folder's
            frame rate does not tell how long it is.
    """

    record: ClipRecord
    origin: Origin
    num_frames: int
    measures: Mapping[str, float]

    def seconds(self, fps: Fraction | None) -> float:
        """How long it is, in a folder of `fps` frames a second."""
        known = self.measures.get("seconds")
        if known is not None:
            return known
        assert fps is not None
        return float(self.num_frames / fps)


@dataclass(frozen=True)
class Outcome:
    """What became of one record of a corpus.

    Attributes:
        id: The record's.
        speaker: The record's.
        duration_s: Of the source's picture; 0 where it could not be read.
        kept: Its clips.
        dropped: What was left out of it.
    """

    id: str
    speaker: str
    duration_s: float = 0.0
    kept: tuple[Kept, ...] = ()
    dropped: tuple[Drop, ...] = field(default_factory=tuple)

    @property
    def reason(self) -> str | None:
        """Why nothing of the record was kept; of several reasons the first. None if any was."""
        return None if self.kept else self.dropped[0].reason

    @property
    def failed(self) -> bool:
        """Whether something of avgen's went wrong, so that another run should try again."""
        return any(drop.reason == "failed" for drop in self.dropped)

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return asdict(self)


def outcome_of_drop(record_id: str, speaker: str, reason: str, detail: str) -> Outcome:
    """The outcome of a record that nothing was read of."""
    dropped = Dropped(reason, detail)
    return Outcome(record_id, speaker, dropped=(Drop(dropped.reason, dropped.detail),))


def read_outcome(path: Path) -> Outcome:
    """Read an outcome's file.

    Raises:
        UserError: it is none.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        kept = tuple(
            Kept(
                record_from_json(item["record"]),
                _origin(item["origin"]),
                item["num_frames"],
                item["measures"],
            )
            for item in values["kept"]
        )
        dropped = tuple(
            Drop(**(item | {"span": tuple(item["span"]) if item["span"] else None}))
            for item in values["dropped"]
        )
        return Outcome(values["id"], values["speaker"], values["duration_s"], kept, dropped)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: is not the outcome of a clip: {error}") from error


def _origin(values: dict[str, Any]) -> Origin:
    return Origin(values["media"], tuple(values["span"]), tuple(values["box"]))
