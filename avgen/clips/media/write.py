"""A `Clip` in, a media file out: exact times, tagged colours, and never half a file.

Which suffix means which codecs is in formats.py.
"""

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from avgen.clips.clip import Clip
from avgen.clips.files import MediaError, atomic, may_write
from avgen.clips.media.container import media_errors, open_media
from avgen.clips.media.formats import CHANNEL_LAYOUTS, channels_of, check_size, format_of
from avgen.clips.timebase import num_samples
from avgen.errors import UserError

# ITU-T H.273: 1 is BT.709, for matrix, primaries and transfer alike. An encoder that is told
# nothing converts with BT.601 and tags nothing, and players show other colours than were made.
_BT709 = 1

# Sound and picture of a whole clip are handed to the muxer by turns of this many frames.
_INTERLEAVED_FRAMES = 32

# Sound is encoded in blocks of at most this many samples.
_AUDIO_BLOCK = 1 << 16

_QUALITY = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INP | Interpolation.ACCURATE_RND


def write_clip(
    clip: Clip,
    path: str | Path,
    *,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes the clip; the container and its codecs follow from the suffix (formats.py).

    Args:
        clip: what to write.
        path: *.mp4, *.mov, *.webm or *.mkv (lossless).
        metadata: tags; their names come back in lower case, as Matroska does not keep case.
        overwrite: replace a file that is there.

    Raises:
        MediaError: unknown suffix, a size that the format cannot hold, a folder that is not there
            or not writable, a file that is there already. Nothing is left behind then.
    """
    with ClipWriter(
        path,
        fps=clip.fps,
        height=clip.height,
        width=clip.width,
        sample_rate=clip.sample_rate,
        num_channels=clip.num_channels or None,
        metadata=metadata,
        overwrite=overwrite,
    ) as writer:
        for first in range(0, clip.num_frames, _INTERLEAVED_FRAMES):
            last = min(first + _INTERLEAVED_FRAMES, clip.num_frames)
            writer.write_frames(clip.frames[first:last])
            if clip.waveform is not None and clip.sample_rate is not None:
                begin = num_samples(first, clip.fps, clip.sample_rate)
                end = num_samples(last, clip.fps, clip.sample_rate)
                is_last = last == clip.num_frames
                writer.write_waveform(clip.waveform[:, begin : None if is_last else end])


def read_metadata(path: str | Path) -> dict[str, str]:
    """The tags of the file, names in lower case: what was written, and what the muxer added.

    Raises:
        MediaError: no media file.
    """
    with open_media(Path(path)) as container:
        return {name.lower(): value for name, value in container.metadata.items()}


def write_image(frame: np.ndarray, path: str | Path) -> None:
    """Write a picture uint8 [H, W, 3], RGB, as *.jpg or *.png, in place of what is there."""
    with atomic(Path(path)) as temporary:
        VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").save(str(temporary))


class ClipWriter:
    """Writes a clip piece by piece, as a context manager.

    The file appears under its name when the context ends well, and not at all when it does not.

    Args:
        path: *.mp4, *.mov, *.webm or *.mkv (lossless).
        fps: frames per second.
        height: of the picture, in pixels; even, unless it is .mkv.
        width: likewise.
        sample_rate: Hz of the waveform that will be written, or None for no sound.
        num_channels: of that waveform; 1, 2 or 6, unless it is .mkv (1 to 8).
        metadata: tags.
        overwrite: replace a file that is there.

    Raises:
        MediaError: as for `write_clip`, from the constructor where it can be known by then.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: Fraction | int,
        height: int,
        width: int,
        sample_rate: int | None = None,
        num_channels: int | None = None,
        metadata: Mapping[str, str] | None = None,
        overwrite: bool = False,
    ) -> None:
        self._path = Path(path)
        self._overwrite = overwrite
        self._kind = format_of(self._path)
        may_write(self._path, overwrite=overwrite)
        check_size(self._path, self._kind, height, width)
        if bool(sample_rate) != bool(num_channels):
            raise UserError("sample_rate and num_channels must be given together or not at all")
        if num_channels and num_channels not in channels_of(self._kind):
            raise MediaError(
                f"{self._path}: {num_channels} channels; "
                f"this format takes {', '.join(map(str, channels_of(self._kind)))}"
            )
        self._size = (height, width)
        self._source_rate = sample_rate or None
        self._num_channels = num_channels or 0
        self._converter = VideoReformatter()
        self._num_frames = 0
        self._num_samples = 0
        self._place = atomic(self._path)
        self._temporary = self._place.__enter__()
        try:
            with self._errors():
                self._container = self._open(metadata or {})
                self._video = self._add_video(Fraction(fps))
                self._audio = self._add_audio() if self._source_rate else None
        except BaseException:
            self._discard(*sys.exc_info())
            raise

    def _errors(self) -> AbstractContextManager[None]:
        return media_errors(self._path, "cannot be written")

    def _open(self, metadata: Mapping[str, str]) -> OutputContainer:
        container = av.open(
            f"file:{self._temporary}",
            "w",
            format=self._kind.format,
            container_options=self._kind.muxer_options,
        )
        container.metadata.update(metadata)
        return container

    def _add_video(self, fps: Fraction) -> av.VideoStream:
        stream = self._container.add_stream(
            self._kind.video_codec, rate=fps, options=dict(self._kind.video_options)
        )
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = self._size
        stream.pix_fmt = self._kind.pixel_format
        context = stream.codec_context
        context.time_base = 1 / fps
        if not self._kind.lossless:
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = ColorRange.MPEG
        return stream

    def _add_audio(self) -> av.AudioStream:
        rate = self._kind.sample_rate or self._source_rate
        stream = self._container.add_stream(self._kind.audio_codec, rate=rate)
        assert isinstance(stream, av.AudioStream) and rate is not None
        layout = CHANNEL_LAYOUTS[self._num_channels - 1]
        stream.layout = layout
        stream.codec_context.time_base = Fraction(1, rate)
        if self._kind.lossless:
            stream.format = "s32"  # of which FLAC keeps the upper 24 bits
        else:
            stream.bit_rate = (self._kind.audio_bit_rate or 0) * self._num_channels
        self._resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate)
        return stream

    def write_frames(self, frames: np.ndarray) -> None:
        """Appends frames, uint8 [T, H, W, 3].

        Raises:
            UserError: frames of another size or type than was announced.
            MediaError: the encoder or the disk refuses them.
        """
        if frames.dtype != np.uint8 or frames.shape[1:] != (*self._size, 3):
            raise UserError(
                f"frames are {frames.dtype} {list(frames.shape)}; "
                f"they must be uint8 [T, {self._size[0]}, {self._size[1]}, 3]"
            )
        for pixels in frames:
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            with self._errors():
                frame = self._to_encoder(frame)
                frame.pts = self._num_frames
                frame.time_base = self._video.codec_context.time_base
                self._container.mux(self._video.encode(frame))
            self._num_frames += 1

    def _to_encoder(self, frame: VideoFrame) -> VideoFrame:
        if self._kind.lossless:
            return self._converter.reformat(frame, format=self._kind.pixel_format, threads=1)
        return self._converter.reformat(
            frame,
            format=self._kind.pixel_format,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=_QUALITY,
            threads=1,
        )

    def write_waveform(self, waveform: np.ndarray) -> None:
        """Appends sound, float32 [C, N] in [-1, 1]; what is beyond is clipped.

        Raises:
            UserError: no sound was announced, or another type or number of channels.
            MediaError: the encoder or the disk refuses it.
        """
        if self._audio is None or self._source_rate is None:
            raise UserError(f"{self._path}: opened without sound; give sample_rate, num_channels")
        if waveform.dtype != np.float32 or waveform.shape[:-1] != (self._num_channels,):
            raise UserError(
                f"waveform is {waveform.dtype} {list(waveform.shape)}; "
                f"it must be float32 [{self._num_channels}, N]"
            )
        if not np.isfinite(waveform).all():
            raise UserError(f"{self._path}: the waveform has samples that are not finite")
        for first in range(0, waveform.shape[1], _AUDIO_BLOCK):
            block = np.clip(waveform[:, first : first + _AUDIO_BLOCK], -1, 1)
            self._encode_sound(block)

    def _encode_sound(self, block: np.ndarray) -> None:
        assert self._audio is not None and self._source_rate is not None
        layout = CHANNEL_LAYOUTS[self._num_channels - 1]
        if self._kind.lossless:
            steps = np.rint(block.astype(np.float64) * 2**23).clip(-(2**23), 2**23 - 1)
            packed = (steps.astype(np.int32) << 8).T.reshape(1, -1)
            frame = AudioFrame.from_ndarray(np.ascontiguousarray(packed), "s32", layout)
        else:
            frame = AudioFrame.from_ndarray(np.ascontiguousarray(block), "fltp", layout)
        frame.sample_rate = self._source_rate
        frame.pts = self._num_samples
        frame.time_base = Fraction(1, self._source_rate)
        self._num_samples += block.shape[1]
        with self._errors():
            for part in self._resampler.resample(frame):
                self._container.mux(self._audio.encode(part))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finishes the file and gives it its name, or removes what there is of it."""
        if kind is not None:
            self._discard(kind, error, traceback)
            return
        try:
            self._finish()
        except BaseException:
            self._discard(*sys.exc_info())
            raise

    def _finish(self) -> None:
        if not self._num_frames:
            raise MediaError(f"{self._path}: no frame was written; a clip has at least one")
        if self._audio is not None and not self._num_samples:
            raise MediaError(f"{self._path}: sound was announced and none was written")
        with self._errors():
            if self._audio is not None:
                for part in self._resampler.resample(None):
                    self._container.mux(self._audio.encode(part))
                self._container.mux(self._audio.encode(None))
            self._container.mux(self._video.encode(None))
            self._container.close()
        may_write(self._path, overwrite=self._overwrite)  # somebody else may have written meanwhile
        try:
            self._place.__exit__(None, None, None)
        except OSError as error:
            raise MediaError(f"{self._path}: cannot be written ({error.strerror})") from error

    def _discard(self, *error: Any) -> None:
        """Closes the container whatever it says, for its file goes."""
        container = getattr(self, "_container", None)
        if container is not None:
            with suppress(av.error.FFmpegError):
                container.close()
        self._place.__exit__(*error)
