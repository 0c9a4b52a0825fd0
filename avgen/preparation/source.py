"""A record in, stretches of its picture and sound out, decoded once; or why there are none.

A long recording is read in stretches of half a minute at most, so that memory is bounded; a clip
never crosses from one into the next.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from avgen.clips.clip import Clip
from avgen.clips.media.read import read_audio, read_clip
from avgen.clips.media.streams import probe
from avgen.clips.timebase import exact, num_samples, to_index
from avgen.corpora.manifest import ClipRecord
from avgen.errors import UserError
from avgen.evaluation.waveforms import SILENT_DB, decibels
from avgen.preparation.outcome import Dropped
from avgen.preparation.settings import Settings

STRETCH_S = 30  # seconds that are decoded at a time
STRETCH_BYTES = 2**30  # and bytes of frames, unless the longest clip needs more
CUT_SHORT_S = 0.3  # seconds by which words, or what the corpus says, may outlast the picture


@dataclass(frozen=True)
class Stretch:
    """Part of a source.

    Attributes:
        clip: Its frames at the folder's rate, its waveform float32 [1, N] at the folder's.
        start_s: When it begins, in seconds of the source's picture.
    """

    clip: Clip
    start_s: Fraction

    @property
    def waveform(self) -> np.ndarray:
        """Its sound: float32 [1, N]."""
        assert self.clip.waveform is not None
        return self.clip.waveform


@dataclass(frozen=True)
class Source:
    """The part of the media that a record is of.

    Attributes:
        path: Of the picture, or of the sound of a voice alone.
        sound: Of the sound, if it is a file of its own; its first sample is heard with frame 0.
        start_s: Seconds of the media.
        end_s: Likewise.
        has_picture: Whether there is a picture.
        picture_size: Height and width in pixels; (0, 0) without one.
    """

    path: Path
    sound: Path | None
    start_s: Fraction
    end_s: Fraction
    has_picture: bool
    picture_size: tuple[int, int]

    def read(self, start_s: Fraction, end_s: Fraction, settings: Settings) -> Clip:
        """Picture and sound of a part of it.

        Raises:
            Dropped: it cannot be decoded.
        """
        rate = settings.sample_rate
        with _unreadable(), warnings.catch_warnings():  # the measures say what they would: offsets
            warnings.simplefilter("ignore", UserWarning)
            clip = read_clip(
                self.path,
                start_s=start_s,
                end_s=end_s,
                fps=settings.fps,
                sample_rate=rate,
                num_channels=settings.num_channels,
            )
            if self.sound is None:
                return clip
            channels = settings.num_channels
            shape = channels, num_samples(clip.num_frames, clip.fps, rate)
            waveform = np.zeros(shape, np.float32)
            sound, _ = read_audio(
                self.sound, sample_rate=rate, num_channels=channels, start_s=start_s
            )
            count = min(sound.shape[1], waveform.shape[1])
            waveform[:, :count] = sound[:, :count]
            return Clip(clip.frames, clip.fps, waveform, rate)

    def read_sound(self, start_s: Fraction, end_s: Fraction, settings: Settings) -> np.ndarray:
        """The sound of a part of it, where there is no picture: float32 [1, N].

        Raises:
            Dropped: it cannot be decoded.
        """
        rate, channels = settings.sample_rate, settings.num_channels
        with _unreadable():
            part_of = None if end_s == self.end_s else end_s
            sound, _ = read_audio(
                self.path, sample_rate=rate, num_channels=channels, start_s=start_s, end_s=part_of
            )
        return sound[:, : to_index(end_s - start_s, rate)]


def find(record: ClipRecord, root: Path, settings: Settings) -> Source:
    """What a record is of; nothing is decoded.

    Raises:
        Dropped: it cannot be read, has no sound where that is needed, or is too short.
    """
    path, sound = root / record.media, None if record.sound is None else root / record.sound
    with _unreadable():
        seen = probe(path)
        video = next((s for s in seen.streams if s.kind == "video" and s.is_read), None)
        heard = any(s.kind == "audio" and s.is_read for s in seen.streams)
        if video is None and not heard:
            raise Dropped("unreadable", f"{path}: has no picture and no sound")
        if video is None and sound is not None:
            raise Dropped("unreadable", f"{path}: has no picture")
        if sound is not None:
            heard = any(s.kind == "audio" and s.is_read for s in probe(sound).streams)
    if not heard and not settings.keep_silent:
        raise Dropped("no sound", f"{path}: has no stream of sound")
    # A container that does not state its length (MPEG) does not know that it was cut short.
    ends_s = max((word.end_s for word in record.words), default=0.0)
    ends_s, what = max((ends_s, "its words"), (record.lasts_s or 0.0, "by the corpus it ends"))
    if ends_s > seen.duration_s + CUT_SHORT_S:
        raise Dropped(
            "unreadable",
            f"{path}: is cut short: it ends at {float(seen.duration_s):.2f} s, {what} at "
            f"{ends_s:.2f} s",
        )
    start, end = (Fraction(0), seen.duration_s)
    if record.span is not None:
        start, end = exact(record.span[0]), min(exact(record.span[1]), end)
    min_s = settings.limits.min_s if settings.stages == "all" else 0.0
    if end <= start or end - start < exact(min_s):
        raise Dropped("too short", f"{float(max(end - start, 0)):.2f} s; clips have {min_s} s")
    size = (0, 0) if video is None else (video.height or 0, video.width or 0)
    return Source(path, sound, start, end, video is not None, size)


def stretches(source: Source, settings: Settings) -> Iterator[Stretch]:
    """The picture and sound of a source, in stretches that tile it.

    Raises:
        Dropped: it cannot be decoded.
    """
    assert settings.fps is not None
    height, width = source.picture_size
    longest_s = STRETCH_BYTES / (settings.fps * width * height * 3)
    for start_s, end_s in _tiles(source, min(Fraction(STRETCH_S), longest_s), settings):
        yield Stretch(source.read(start_s, end_s, settings), start_s)


def sounds(source: Source, settings: Settings) -> Iterator[tuple[Fraction, np.ndarray]]:
    """The sound of a voice alone, in stretches that tile it: start in seconds, float32 [1, N].

    Raises:
        Dropped: it cannot be decoded.
    """
    for start_s, end_s in _tiles(source, Fraction(STRETCH_S), settings):
        yield start_s, source.read_sound(start_s, end_s, settings)


def _tiles(
    source: Source, longest_s: Fraction, settings: Settings
) -> Iterator[tuple[Fraction, Fraction]]:
    """Starts and ends of equal stretches, none longer than `longest_s` or the longest clip."""
    length_s = source.end_s - source.start_s
    count = max(1, math.ceil(length_s / max(longest_s, exact(settings.limits.max_s))))
    ends = [source.start_s + length_s * Fraction(i, count) for i in range(count + 1)]
    yield from pairwise(ends)


@contextmanager
def _unreadable() -> Iterator[None]:
    """Errors of files, as a reason to leave a record out."""
    try:
        yield
    except (UserError, OSError) as error:
        raise Dropped("unreadable", str(error)) from error


def require_sound(waveform: np.ndarray) -> None:
    """Refuse silence.

    Raises:
        Dropped: the waveform float32 [1, N] is silent.
    """
    level = level_db(waveform)
    if level < SILENT_DB:
        raise Dropped("no sound", f"the sound is silent ({level:.0f} dB of full scale)")


def level_db(samples: np.ndarray) -> float:
    """Root mean square of samples in dB of full scale; at least -120."""
    power = np.mean(np.square(samples, dtype=np.float64)) if samples.size else 0.0
    return float(decibels(power, 1e-12))
