"""A record in, stretches of its picture and sound out, decoded once; or why there are none.

A long recording is read in stretches of half a minute at most, so that memory is bounded; a clip
never crosses from one into the next.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from avgen.clips.clip import Clip, MediaError
from avgen.clips.media.read import read_audio, read_clip
from avgen.clips.media.streams import probe
from avgen.clips.timebase import exact, num_samples
from avgen.corpora.manifest import ClipRecord
from avgen.preparation.outcome import Dropped
from avgen.preparation.settings import Settings

STRETCH_S = 30  # seconds that are decoded at a time
STRETCH_BYTES = 2**30  # and how much of frames, unless the longest clip needs more
CUT_SHORT_S = 0.3  # seconds by which words, or what the corpus says, may outlast the picture
SILENT_DB = -60.0  # RMS of full scale; what stays below has nobody speaking


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


def span_of(record: ClipRecord, root: Path, min_s: float) -> tuple[Fraction, Fraction]:
    """Start and end of what the record is of, in seconds of its picture.

    Raises:
        Dropped: it cannot be read, has no picture or no sound, or is too short.
    """
    path = root / record.media
    try:
        seen = probe(path)
        if not any(stream.kind == "video" and stream.is_read for stream in seen.streams):
            raise Dropped("unreadable", f"{path}: has no picture")
        heard = any(stream.kind == "audio" and stream.is_read for stream in seen.streams)
        if record.sound is not None:
            heard = bool(probe(root / record.sound).streams)
    except (MediaError, OSError) as error:
        raise Dropped("unreadable", str(error)) from error
    if not heard:
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
    if end - start < exact(min_s):
        raise Dropped("too short", f"{float(max(end - start, 0)):.2f} s; clips have {min_s} s")
    return start, end


def stretches(
    record: ClipRecord, root: Path, span: tuple[Fraction, Fraction], settings: Settings
) -> Iterator[Stretch]:
    """What the record is of, in stretches that tile it.

    Raises:
        Dropped: it cannot be decoded.
    """
    path = root / record.media
    start, end = span
    count = _num_stretches(path, end - start, settings)
    for index in range(count):
        first, last = (start + (end - start) * Fraction(i, count) for i in (index, index + 1))
        try:
            with warnings.catch_warnings():  # what they say is in the measures: the offset
                warnings.simplefilter("ignore", UserWarning)
                clip = read_clip(
                    path,
                    start_s=first,
                    end_s=last,
                    fps=settings.fps,
                    sample_rate=settings.sample_rate,
                    num_channels=1,
                )
                if record.sound is not None:
                    clip = _with_sound(clip, root / record.sound, first, settings.sample_rate)
        except (ValueError, OSError) as error:
            raise Dropped("unreadable", str(error)) from error
        yield Stretch(clip, first)


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
    power = float(np.mean(np.square(samples, dtype=np.float64))) if samples.size else 0.0
    return 10 * math.log10(max(power, 1e-12))


def _num_stretches(path: Path, length_s: Fraction, settings: Settings) -> int:
    video = next(s for s in probe(path).streams if s.kind == "video" and s.is_read)
    assert video.width is not None and video.height is not None
    second = settings.fps * video.width * video.height * 3
    stretch = max(min(Fraction(STRETCH_S), STRETCH_BYTES / second), exact(settings.limits.max_s))
    return max(1, math.ceil(length_s / stretch))


def _with_sound(clip: Clip, path: Path, start_s: Fraction, rate: int) -> Clip:
    """The clip with the sound of another file, whose first sample is heard with frame 0."""
    sound, _ = read_audio(path, sample_rate=rate, num_channels=1, start_s=start_s)
    waveform = np.zeros((1, num_samples(clip.num_frames, clip.fps, rate)), np.float32)
    count = min(sound.shape[1], waveform.shape[1])
    waveform[:, :count] = sound[:, :count]
    return Clip(clip.frames, clip.fps, waveform, rate)
