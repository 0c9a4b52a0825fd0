"""One record of a corpus in, its clips and its outcome on disk out: all stages, one after another.

The outcome is written last: where there is one, the clip is done, whenever a run was stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from avgen.clips.clip import Word
from avgen.clips.media.read import read_audio
from avgen.clips.timebase import num_samples, to_index, to_seconds
from avgen.corpora.manifest import ClipRecord, Split
from avgen.corpora.splits import split_by_speaker
from avgen.preparation import crop, people, quality, scenes, source, spans, speaker, voice, words
from avgen.preparation.outcome import Drop, Dropped, Kept, Origin, Outcome
from avgen.preparation.people import Person
from avgen.preparation.settings import Settings, SplitBy
from avgen.preparation.source import Stretch
from avgen.preparation.store import Store, write_json

SyncScores = dict[tuple[int, tuple[int, int]], speaker.sync.SyncScore | Dropped]


@dataclass(frozen=True)
class Job:
    """A record to prepare.

    Attributes:
        record: Of the corpus.
        root: What its paths are relative to.
        folder: The prepared folder.
        settings: How.
    """

    record: ClipRecord
    root: Path
    folder: Path
    settings: Settings


def prepare(job: Job) -> str:
    """Prepare one record, whatever happens: clips, thumbnails, and its outcome last.

    Returns:
        The record's id.
    """
    store = Store(job.folder)
    with _one_thread():
        outcome = _Preparation(job, store).run()
    write_json(store.outcome(job.record.id), outcome.to_json())
    return job.record.id


def split_of(record: ClipRecord, by: SplitBy) -> Split:
    """The split of a record: the corpus' own, or by hash of the speaker's or the clip's name."""
    if by == "corpus":
        return record.split
    return split_by_speaker(record.speaker if by == "speaker" else record.id, record.corpus)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The same sums in the same order whichever engine runs it: one thread, as a worker has."""
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


class _Preparation:
    """What has become of a record so far."""

    def __init__(self, job: Job, store: Store) -> None:
        self.record, self.root, self.settings = job.record, job.root, job.settings
        self.store = store
        self.kept: list[Kept] = []
        self.dropped: list[Drop] = []
        self.words: tuple[Word, ...] = ()
        self.fps, self.rate = job.settings.fps, job.settings.sample_rate
        self.min_frames = to_index(job.settings.limits.min_s, self.fps)

    def run(self) -> Outcome:
        """All stages."""
        duration_s = 0.0
        try:
            span = source.span_of(self.record, self.root, self.settings.limits.min_s)
            duration_s = float(span[1] - span[0])
            self.words = self._words_of_source()
            for stretch in source.stretches(self.record, self.root, span, self.settings):
                self._stretch(stretch)
        except Dropped as dropped:
            self._drop(dropped)
        except MemoryError:
            self._drop(Dropped("failed", "out of memory"))
        except Exception as error:  # one clip, or one bug, must not stop a run of thousands
            self._drop(Dropped("failed", f"{type(error).__name__}: {error}"))
        record = self.record
        return Outcome(record.id, record.speaker, duration_s, tuple(self.kept), tuple(self.dropped))

    def _words_of_source(self) -> tuple[Word, ...]:
        """The corpus' words, with the times that it or the aligner gives them."""
        if self.record.words or not self.record.transcript or self.settings.aligner is None:
            return self.record.words
        aligner = words.load_plugin(self.settings.aligner)
        path = self.root / (self.record.sound or self.record.media)
        waveform, rate = read_audio(path, sample_rate=self.rate, num_channels=1)
        return tuple(aligner(waveform, rate, self.record.transcript))

    def _stretch(self, stretch: Stretch) -> None:
        """Every scene of a stretch."""
        source.require_sound(stretch.waveform)
        speech = voice.speech(stretch.waveform, self.rate)
        frames = stretch.clip.frames
        for scene in scenes.cut(frames):
            try:
                scenes.require_length(scene, self.min_frames, float(self.fps))
                present = people.find(frames, scene, float(self.fps), self.min_frames)
                present = people.annotated(present, self.record, frames.shape[1:3])
            except Dropped as dropped:
                self._drop(dropped, stretch, scene, frames[sum(scene) // 2])
                continue
            scores: SyncScores = {}
            for index in range(len(present)):
                for piece in self._pieces(present[index], speech):
                    try:
                        self._piece(stretch, present, index, piece, speech, scores)
                    except Dropped as dropped:
                        self._drop(dropped, stretch, piece, frames[sum(piece) // 2])

    def _pieces(self, person: Person, speech: voice.Times) -> list[tuple[int, int]]:
        """First frame and frame after the last of each span of a face."""
        limits = self.settings.limits
        start_s, end_s = (float(to_seconds(i, self.fps)) for i in (person.first, person.last))
        found = spans.cut(start_s, end_s, speech, limits.min_s, limits.max_s)
        return [(to_index(a, self.fps), to_index(b, self.fps)) for a, b in found]

    def _piece(
        self,
        stretch: Stretch,
        present: list[Person],
        index: int,
        piece: tuple[int, int],
        speech: voice.Times,
        scores: SyncScores,
    ) -> None:
        """One span of one face, to a clip on disk."""
        settings, limits = self.settings, self.settings.limits
        start_s, end_s = (float(to_seconds(i, self.fps)) for i in piece)
        if voice.seconds(voice.within(speech, start_s, end_s)) < limits.min_speech_s:
            raise Dropped("no speech", f"nobody speaks from {start_s:.2f} to {end_s:.2f} s")
        score = self._speaks(stretch, present, index, piece, scores)
        early_s = speaker.offset_s(score, end_s - start_s, limits)
        piece, waveform = speaker.moved(stretch.waveform, self.rate, piece, self.fps, early_s)
        if piece[1] - piece[0] < self.min_frames:
            raise Dropped("too short", f"with the sound {1000 * early_s:+.0f} ms where it belongs")
        boxes = present[index].within(*piece)
        assert boxes is not None
        frames = stretch.clip.frames[piece[0] : piece[1]]
        window = crop.path(
            boxes, frames.shape[1:3], settings.size, float(self.fps), limits.max_enlargement
        )
        heard_s = [float(to_seconds(i, self.fps)) - early_s for i in piece]
        measures = quality.picture(frames, boxes, limits)
        measures |= quality.sound(
            waveform, self.rate, voice.within(speech, heard_s[0], heard_s[1]), limits
        )
        measures |= {
            "fit": float(score.curve.max()),
            "lead": speaker.lead(score.curve),
            "confidence": score.confidence,
            "offset_ms": score.offset_ms,
            "corrected_ms": 1000 * early_s,
        }
        self._keep(
            stretch, piece, crop.cut(frames, window, settings.size), waveform, window, measures
        )

    def _speaks(
        self,
        stretch: Stretch,
        present: list[Person],
        index: int,
        piece: tuple[int, int],
        scores: SyncScores,
    ) -> speaker.sync.SyncScore:
        """How the face fits the sound, if no other face fits it better."""
        first, last = piece
        samples = [num_samples(i, self.fps, self.rate) for i in piece]
        waveform = stretch.waveform[:, samples[0] : samples[1]]
        for other, person in enumerate(present):
            boxes = person.within(first, last)
            if boxes is None or (other, piece) in scores:
                continue
            frames = stretch.clip.frames[first:last]
            try:
                scores[other, piece] = speaker.fit(frames, boxes, waveform, self.fps, self.rate)
            except Dropped as dropped:
                scores[other, piece] = dropped
        own = scores[index, piece]
        if isinstance(own, Dropped):
            raise own
        rivals = {
            other: score
            for (other, where), score in scores.items()
            if where == piece and not isinstance(score, Dropped)
        }
        best = speaker.choose(rivals)
        if best != index:
            raise Dropped(
                "another speaks",
                f"mouth and sound correlate by {own.curve.max():.2f}, "
                f"those of another face by {rivals[best].curve.max():.2f}",
            )
        return own

    def _keep(
        self,
        stretch: Stretch,
        piece: tuple[int, int],
        frames: np.ndarray,
        waveform: np.ndarray,
        window: np.ndarray,
        measures: dict[str, float],
    ) -> None:
        """Write a clip, and take it down."""
        name = self.record.id + (f"__{len(self.kept)}" if self.kept else "")
        begin = stretch.start_s + to_seconds(piece[0], self.fps)
        end = stretch.start_s + to_seconds(piece[1], self.fps)
        moved_s = measures["corrected_ms"] / 1000  # words belong to the sound
        placed = words.place(self.words, float(begin) - moved_s, float(end) - moved_s)
        if not placed and self.settings.recognizer is not None:
            placed = tuple(words.load_plugin(self.settings.recognizer)(waveform, self.rate))
        record = replace(
            self.record,
            id=name,
            media=f"frames/{name}.npy",
            split=split_of(self.record, self.settings.split_by),
            words=placed,
            box=None,
            span=None,
            sound=None,
            region=None,
            lasts_s=None,
        )
        left, top, width, height = (int(value) for value in np.round(np.median(window, axis=0)))
        origin = Origin(
            media=self.record.media,
            span=(round(float(begin), 6), round(float(end), 6)),
            box=(left, top, width, height),
        )
        if self.settings.captioner is not None:
            caption = words.load_plugin(self.settings.captioner)(frames, record)
            record = replace(record, caption=str(caption))
        self.store.write_clip(name, frames, waveform)
        self.store.write_thumbnail(name, frames[len(frames) // 2])
        rounded = {key: round(float(value), 5) for key, value in measures.items()}
        self.kept.append(Kept(record, origin, len(frames), rounded))

    def _drop(
        self,
        dropped: Dropped,
        stretch: Stretch | None = None,
        frames: tuple[int, int] | None = None,
        picture: np.ndarray | None = None,
    ) -> None:
        """Take a piece down that is left out, with a picture of it where there is one."""
        span = thumbnail = None
        if stretch is not None and frames is not None:
            times = (float(stretch.start_s + to_seconds(i, self.fps)) for i in frames)
            start_s, end_s = (round(value, 6) for value in times)
            span = (start_s, end_s)
        if picture is not None:
            thumbnail = f"{self.record.id}__x{len(self.dropped)}"
            self.store.write_thumbnail(thumbnail, picture)
        self.dropped.append(Drop(dropped.reason, dropped.detail, span, thumbnail))
