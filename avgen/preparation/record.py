"""One record of a corpus in, its clips and its outcome on disk out.

The outcome is written last: a record that has one is done, whenever a run was stopped.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch
from threadpoolctl import threadpool_limits

from avgen.clips.media.read import read_audio
from avgen.clips.timebase import exact, to_index
from avgen.clips.transforms import crop as crop_frames
from avgen.clips.transforms import resize
from avgen.corpora.manifest import ClipRecord
from avgen.errors import UserError
from avgen.evaluation.faces.head import head_box
from avgen.preparation import crop, quality, source, spans, voice
from avgen.preparation.collect import Collector, Piece, call_plugin
from avgen.preparation.outcome import Dropped, Outcome
from avgen.preparation.settings import Settings
from avgen.preparation.source import Source
from avgen.preparation.store import Store, write_json
from avgen.preparation.talking import TalkingFaces


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
    record, store = job.record, Store(job.folder)
    collector = Collector(record, job.settings, store)
    duration_s = 0.0
    try:
        with _one_thread():
            found = source.find(record, job.root, job.settings)
            duration_s = float(found.end_s - found.start_s)
            collector.record = _with_words(job)
            _collect(found, collector)
    except Dropped as dropped:
        collector.drop(dropped)
    except UserError as error:
        collector.drop(Dropped("unreadable", str(error)))
    except MemoryError:
        collector.drop(Dropped("failed", "out of memory"))
    except Exception as error:  # one clip, or one bug, must not stop a run of thousands
        detail = f"{type(error).__name__}: {error}"
        collector.drop(Dropped("failed", detail), traceback=traceback.format_exc())
    kept, dropped = tuple(collector.kept), tuple(collector.dropped)
    outcome = Outcome(record.id, record.speaker, duration_s, kept, dropped)
    write_json(store.outcome(record.id), outcome.to_json())
    return record.id


@contextmanager
def _one_thread() -> Iterator[None]:
    """The same sums in the same order whichever engine runs it: one thread, as a worker has."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1, user_api="blas"):  # NumPy's
            yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _with_words(job: Job) -> ClipRecord:
    """The record, with the words' times that the aligner finds if the corpus gives none."""
    record, settings = job.record, job.settings
    if record.words or not record.transcript or settings.aligner is None:
        return record
    path = job.root / (record.sound or record.media)
    waveform, rate = read_audio(path, sample_rate=settings.sample_rate, num_channels=1)
    aligned = call_plugin(settings.aligner, waveform, rate, record.transcript)
    return replace(record, words=tuple(aligned))


def _collect(found: Source, collector: Collector) -> None:
    """All clips of a source."""
    if collector.settings.stages != "all":
        collector.keep(_whole(found, collector))
    elif found.has_picture:
        for stretch in source.stretches(found, collector.settings):
            TalkingFaces(stretch, collector).collect()
    else:
        for start_s, waveform in source.sounds(found, collector.settings):
            _collect_voice(start_s, waveform, collector)


def _whole(found: Source, collector: Collector) -> Piece:
    """A record as one clip.

    Raises:
        Dropped: it cannot be read, or no face is found where one is looked for.
    """
    settings, record = collector.settings, collector.record
    span = found.start_s, found.end_s
    if not found.has_picture:
        waveform = found.read_sound(*span, settings)
        return Piece(span, None, waveform, measures=_seconds(waveform.shape[1], settings))
    clip = found.read(*span, settings)
    if clip.waveform is None and not settings.keep_silent:
        raise Dropped("no sound", f"{found.path}: has no sound; --keep-silent keeps it")
    box = record.box
    if box is None and settings.stages == "head":
        box = head_box(clip.frames)
        if box is None:
            raise Dropped("no face", "no face is found")
        box = crop.narrowed(box, settings.size)
    frames = clip.frames if box is None else crop_frames(clip.frames, box)
    frames = frames if settings.size is None else resize(frames, *settings.size)
    height, width = clip.frames.shape[1:3]
    return Piece(
        span,
        frames,
        clip.waveform,
        box or (0, 0, width, height),
        {} if settings.fps else {"seconds": float(len(frames) / clip.fps)},
        own_fps=None if settings.fps else clip.fps,
    )


def _collect_voice(start_s: Fraction, waveform: np.ndarray, collector: Collector) -> None:
    """Clips of a stretch of a voice alone, float32 [1, N]."""
    settings = collector.settings
    limits, rate = settings.limits, settings.sample_rate
    source.require_sound(waveform)
    speech = voice.speech(waveform, rate)
    length_s = waveform.shape[1] / rate
    for first_s, last_s in spans.cut(0.0, length_s, speech, limits.min_s, limits.max_s):
        span = start_s + exact(first_s), start_s + exact(last_s)
        part = waveform[:, to_index(first_s, rate) : to_index(last_s, rate)]
        try:
            spoken = voice.within(speech, first_s, last_s)
            measures = quality.sound(part, rate, spoken, limits)
            collector.keep(
                Piece(span, None, part, measures=measures | _seconds(part.shape[1], settings))
            )
        except Dropped as dropped:
            collector.drop(dropped, span)


def _seconds(num_samples: int, settings: Settings) -> dict[str, float]:
    return {"seconds": num_samples / settings.sample_rate}
