"""A media file in, a `Clip` out, and the names of everything else that touches files.

Time 0 of a clip is when its first frame is shown; sound is placed relative to that, by timestamp.
docs/time.md says how, and what can go wrong with other ways.
"""

import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from avgen.clips.clip import Clip
from avgen.clips.files import MediaError, memory_budget
from avgen.clips.media.packets import MediaScan, scan
from avgen.clips.media.picture import first_frame, frames_on_clock
from avgen.clips.media.sound import first_sample_s, sound_from
from avgen.clips.media.write import ClipWriter, read_metadata, write_clip
from avgen.clips.timebase import Seconds, exact, num_samples, to_index
from avgen.errors import UserError

__all__ = [
    "ClipWriter",
    "read_audio",
    "read_clip",
    "read_image",
    "read_metadata",
    "read_windows",
    "write_clip",
]


def read_clip(
    path: str | Path,
    *,
    start_s: Seconds = 0,
    end_s: Seconds | None = None,
    fps: Fraction | int | None = None,
    sample_rate: int | None = None,
    num_channels: int | None = None,
) -> Clip:
    """The picture and sound of [start_s, end_s), upright, with square pixels, on one clock.

    Args:
        path: a video. Of several streams the one that a player would choose is read.
        start_s: seconds after the first frame.
        end_s: seconds after the first frame, at most the picture's end (the default).
        fps: frames per second wanted; default the file's own, or for a variable rate the constant
            one that fits it best.
        sample_rate: Hz wanted; default the file's own.
        num_channels: wanted; default the file's own.

    Returns:
        The clip. Its waveform covers exactly its frames, padded with silence where the file has no
        sound; it is None if the file has no stream of sound.

    Raises:
        MediaError: no readable video, a damaged one, or a stretch that is not in it.
    """
    path = Path(path)
    reader = _Reader(path, fps, sample_rate, num_channels)
    start, end = exact(start_s), reader.duration_s if end_s is None else exact(end_s)
    if not 0 <= start < end:
        raise MediaError(
            f"{path}: from {float(start):.6g} s to {float(end):.6g} s; "
            "the start must be at least 0 and before the end, which for the whole picture is at "
            f"{float(reader.duration_s):.6g} s"
        )
    if to_index(end, reader.fps) > to_index(reader.duration_s, reader.fps):
        raise MediaError(
            f"{path}: up to {float(end):.6g} s was asked for; "
            f"its picture ends at {float(reader.duration_s):.6g} s"
        )
    count = max(1, to_index(end - start, reader.fps))
    return next(reader.clips(start, count, count))


def read_windows(
    path: str | Path,
    *,
    window_s: Seconds,
    fps: Fraction | int | None = None,
    sample_rate: int | None = None,
    num_channels: int | None = None,
) -> Iterator[Clip]:
    """The whole file as consecutive clips, in bounded memory however long it is.

    The windows tile the file: their frames and samples, joined, are those of `read_clip`. Each has
    the frames nearest to `window_s`, the last what remains.

    Args:
        path: a video.
        window_s: seconds per window, at least one frame.
        fps: as for `read_clip`.
        sample_rate: as for `read_clip`.
        num_channels: as for `read_clip`.

    Raises:
        MediaError: no readable video, or a damaged one, when the damage is reached at the latest.
        UserError: a window shorter than a frame.
    """
    reader = _Reader(Path(path), fps, sample_rate, num_channels)
    window = to_index(window_s, reader.fps)
    if window < 1:
        raise UserError(f"window_s is {window_s}; it must be at least a frame of 1/{reader.fps} s")
    total = max(1, to_index(reader.duration_s, reader.fps))
    yield from reader.clips(Fraction(0), total, window)


def read_audio(
    path: str | Path,
    *,
    sample_rate: int | None = None,
    num_channels: int | None = None,
    start_s: Seconds = 0,
    end_s: Seconds | None = None,
) -> tuple[np.ndarray, int]:
    """The sound of a file: float32 [C, N] in [-1, 1], and its rate in Hz.

    Time 0 is the first frame of a video, so that the sound fits what `read_clip` gives, and the
    first sample of a file without a picture.

    Args:
        path: a sound, or a video with sound.
        sample_rate: Hz wanted; default the file's own.
        num_channels: wanted; default the file's own.
        start_s: seconds.
        end_s: seconds, at most the sound's end (the default).

    Raises:
        MediaError: no readable sound, a damaged one, or a stretch that is not in it.
    """
    path = Path(path)
    scanned = scan(path)
    scanned.require_whole()
    if scanned.audio is None:
        raise MediaError(f"{path}: has no sound")
    _warn(scanned)
    start = exact(start_s)
    if start < 0:
        raise MediaError(f"{path}: sound from {float(start):.6g} s; the start must be at least 0")
    if scanned.video is not None:
        origin_s = scanned.video.first_s
    else:
        origin_s = first_sample_s(path, scanned.audio)
    rate, channels, blocks = sound_from(
        path, scanned.audio, origin_s + start, sample_rate, num_channels
    )
    until_s = scanned.audio.end_s - origin_s
    end = until_s if end_s is None else exact(end_s)
    if not start < end or to_index(end, rate) > to_index(until_s, rate):
        raise MediaError(
            f"{path}: sound from {float(start):.6g} s to {float(end):.6g} s; "
            f"the start must be before the end, and the sound ends at {float(until_s):.6g} s"
        )
    if end_s is not None:
        return _Samples(blocks, channels).take(to_index(end - start, rate)), rate
    # To the last sample there is: where the container's clock is coarse, that is more exact.
    rest = list(blocks)
    if not rest:
        raise MediaError(f"{path}: there is no sound after {float(start):.6g} s")
    return np.concatenate(rest, axis=1), rate


def read_image(path: str | Path) -> np.ndarray:
    """A picture (or the first frame of a video) as uint8 [H, W, 3], RGB, upright.

    Raises:
        MediaError: no readable picture.
    """
    path = Path(path)
    scanned = scan(path)
    if scanned.video is None:
        raise MediaError(f"{path}: has no picture")
    return first_frame(path, scanned.video)


def _warn(scanned: MediaScan) -> None:
    """Tell the caller of read_* what no reader can put right."""
    for risk in (*scanned.warnings, *scanned.colour_warnings):
        warnings.warn(f"{scanned.path}: {risk}", stacklevel=3)


class _Reader:
    """A video and what is asked of it: the target rates, and clips of consecutive frames."""

    def __init__(
        self,
        path: Path,
        fps: Fraction | int | None,
        sample_rate: int | None,
        num_channels: int | None,
    ) -> None:
        for name, value in (("fps", fps), ("sample_rate", sample_rate)):
            if value is not None and value <= 0:
                raise UserError(f"{name} is {value}; it must be positive")
        scanned = scan(path)
        if scanned.video is None:
            raise MediaError(f"{path}: has sound only; a video is needed")
        scanned.require_whole()
        _warn(scanned)
        assert scanned.video.rate is not None
        self._path = path
        self._video = scanned.video
        self._audio = scanned.audio
        self._sample_rate = sample_rate
        self._num_channels = num_channels
        self.fps = scanned.video.rate if fps is None else Fraction(fps)
        self.duration_s = scanned.video.end_s - scanned.video.first_s

    def clips(self, start_s: Fraction, num_frames: int, window: int) -> Iterator[Clip]:
        """`num_frames` frames from `start_s` on, `window` to a clip, with the sound they cover."""
        origin_s = self._video.first_s + start_s
        frames = frames_on_clock(self._path, self._video, origin_s, self.fps, num_frames)
        rate, sound = None, None
        if self._audio is not None:
            rate, channels, blocks = sound_from(
                self._path, self._audio, origin_s, self._sample_rate, self._num_channels
            )
            sound = _Samples(blocks, channels)
        for first in range(0, num_frames, window):
            last = min(first + window, num_frames)
            picture = _stack(frames, last - first, self._path)
            waveform = None
            if sound is not None and rate is not None:
                count = num_samples(last, self.fps, rate) - num_samples(first, self.fps, rate)
                waveform = sound.take(count)
            yield Clip(picture, self.fps, waveform, rate)


def _stack(frames: Iterator[np.ndarray], count: int, path: Path) -> np.ndarray:
    """The next `count` frames as one array [count, H, W, 3]."""
    first = next(frames)
    needed, there = count * first.nbytes, memory_budget()
    if needed > there:
        raise MediaError(
            f"{path}: {count} frames of {first.shape[1]}x{first.shape[0]} need "
            f"{needed / 2**30:.0f} GiB and {there / 2**30:.0f} may be used here; "
            "read a part of it, or windows"
        )
    stacked = np.empty((count, *first.shape), dtype=np.uint8)
    stacked[0] = first
    for index in range(1, count):
        frame = next(frames)
        if frame.shape != first.shape:
            raise MediaError(
                f"{path}: the picture changes from {first.shape[1]}x{first.shape[0]} to "
                f"{frame.shape[1]}x{frame.shape[0]}; one size is needed"
            )
        stacked[index] = frame
    return stacked


class _Samples:
    """Blocks of sound, given out in the numbers that are asked for."""

    def __init__(self, blocks: Iterator[np.ndarray], num_channels: int) -> None:
        self._blocks = blocks
        self._rest = np.zeros((num_channels, 0), dtype=np.float32)

    def take(self, count: int) -> np.ndarray:
        """The next `count` samples, float32 [C, count]; silence after the end."""
        taken = np.zeros((self._rest.shape[0], count), dtype=np.float32)
        filled = 0
        while filled < count:
            if self._rest.shape[1] == 0:
                block = next(self._blocks, None)
                if block is None:
                    break
                self._rest = block
            piece = self._rest[:, : count - filled]
            taken[:, filled : filled + piece.shape[1]] = piece
            filled += piece.shape[1]
            self._rest = self._rest[:, piece.shape[1] :]
        return taken
