"""What is kept and what is left out of one record, written to the folder as it is found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from avgen.corpora.manifest import ClipRecord, Split
from avgen.corpora.splits import split_by_speaker
from avgen.errors import UserError
from avgen.plugins import load_plugin
from avgen.preparation import words
from avgen.preparation.outcome import Drop, Dropped, Kept, Origin
from avgen.preparation.settings import Settings, SplitBy
from avgen.preparation.store import Store


@dataclass(frozen=True)
class Piece:
    """A clip that is good enough to be kept.

    Attributes:
        span: Start and end in seconds of the source.
        frames: uint8 [T, H, W, 3]; None of a voice alone.
        waveform: float32 [1, N]; None without sound.
        box: Window of the source that the frames are of: x, y, width and height in pixels.
        measures: Numbers by name.
        early_s: By how many seconds the sound came too early before it was moved.
        own_fps: Of the frames, if the folder's clips have rates of their own.
    """

    span: tuple[Fraction, Fraction]
    frames: np.ndarray | None
    waveform: np.ndarray | None
    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    measures: dict[str, float] = field(default_factory=dict)
    early_s: float = 0.0
    own_fps: Fraction | None = None


class Collector:
    """Writes clips and thumbnails of one record, and lists them.

    Args:
        record: Of the corpus, with the words that are known.
        settings: How clips are made.
        store: The prepared folder.
    """

    def __init__(self, record: ClipRecord, settings: Settings, store: Store) -> None:
        self.record, self.settings, self.store = record, settings, store
        self.kept: list[Kept] = []
        self.dropped: list[Drop] = []

    def keep(self, piece: Piece) -> None:
        """Write a clip.

        Raises:
            Dropped: a plug-in refuses it.
        """
        name = self.record.id + (f"__{len(self.kept)}" if self.kept else "")
        record = self._record(name, piece)
        self.store.write_clip(name, piece.frames, piece.waveform, piece.own_fps)
        if piece.frames is not None:
            self.store.write_thumbnail(name, piece.frames[len(piece.frames) // 2])
        start_s, end_s = (round(float(time), 6) for time in piece.span)
        origin = Origin(self.record.media, (start_s, end_s), piece.box)
        measures = {key: round(float(value), 5) for key, value in piece.measures.items()}
        num_frames = 0 if piece.frames is None else len(piece.frames)
        self.kept.append(Kept(record, origin, num_frames, measures))

    def drop(
        self,
        dropped: Dropped,
        span: tuple[Fraction, Fraction] | None = None,
        picture: np.ndarray | None = None,
        traceback: str = "",
    ) -> None:
        """List a piece that is left out, with a picture of it if there is one."""
        thumbnail = None
        if picture is not None:
            thumbnail = f"{self.record.id}__x{len(self.dropped)}"
            self.store.write_thumbnail(thumbnail, picture)
        where = None if span is None else (round(float(span[0]), 6), round(float(span[1]), 6))
        self.dropped.append(Drop(dropped.reason, dropped.detail, where, thumbnail, traceback))

    def _record(self, name: str, piece: Piece) -> ClipRecord:
        """The record of a clip, with its words and caption, by plug-ins if there are any."""
        start_s, end_s = (float(time) - piece.early_s for time in piece.span)
        said, phonemes = self.record.words, self.record.phonemes
        if self.settings.stages == "all" or self.record.span is not None:
            said = words.place(said, start_s, end_s)
            phonemes = None if phonemes is None else words.place(phonemes, start_s, end_s)
        if not said and self.settings.recognizer is not None and piece.waveform is not None:
            mono, rate = piece.waveform.mean(0, keepdims=True), self.settings.sample_rate
            said = tuple(call_plugin(self.settings.recognizer, mono, rate))
        record = replace(
            self.record,
            id=name,
            media=f"{'waveforms' if piece.frames is None else 'frames'}/{name}.npy",
            split=split_of(self.record, self.settings.split_by),
            words=said,
            phonemes=phonemes,
            box=None,
            span=None,
            sound=None,
            region=None,
            lasts_s=None,
            tracks={},
        )
        if self.settings.captioner is None or piece.frames is None:
            return record
        caption = call_plugin(self.settings.captioner, piece.frames, record)
        return replace(record, caption=str(caption))


def split_of(record: ClipRecord, by: SplitBy) -> Split:
    """The split of a record: the corpus' own, or by hash of the speaker's or the clip's name."""
    if by == "corpus":
        return record.split
    return split_by_speaker(record.speaker if by == "speaker" else record.id, record.corpus)


def call_plugin(path: str, *arguments: Any) -> Any:
    """What a plug-in returns.

    Raises:
        Dropped: it raises a UserError.
    """
    try:
        return load_plugin(path)(*arguments)
    except UserError as error:
        raise Dropped("plug-in", f"{path}: {error}") from error
