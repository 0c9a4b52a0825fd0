"""A file in, what the reader sees of it out: streams, rates, offsets, orientation, warnings."""

from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Stream

from avgen.clips.media.container import is_picture, open_media
from avgen.clips.media.packets import MediaScan, StreamTimes, scan
from avgen.clips.media.picture import first_decoded

# Sound that begins or ends this far from the picture is worth saying, in seconds.
_WORTH_SAYING_S = Fraction(1, 10)


@dataclass(frozen=True)
class StreamProbe:
    """One stream. What does not apply to its kind is None.

    Attributes:
        index: in the container.
        kind: "video", "audio", "picture" (a cover), "subtitle", "data" or "attachment".
        codec: FFmpeg's name of it.
        is_read: whether `read_clip` reads this one.
        start_s: when it begins, in seconds after the first frame that is read (of a file without
            picture, after the first sample).
        duration_s: seconds.
        fps: frames per second that `read_clip` gives by default.
        average_fps: what the header says on average.
        is_constant_rate: whether the frames keep `fps`.
        width: as shown, in pixels: upright and with square pixels.
        height: as shown, in pixels.
        coded_width: as stored.
        coded_height: as stored.
        rotation_degrees: how far the stored picture is turned anticlockwise for showing.
        is_mirrored: whether it is then mirrored left to right as well.
        sample_aspect_ratio: of the stored pixels, width to height.
        pixel_format: FFmpeg's name, such as yuv420p10le.
        is_interlaced: whether its first frame holds two moments, in every other row.
        sample_rate: Hz.
        num_channels: of the sound.
        channel_layout: FFmpeg's name, such as stereo or 5.1.
    """

    index: int
    kind: str
    codec: str | None
    is_read: bool
    start_s: Fraction | None = None
    duration_s: Fraction | None = None
    fps: Fraction | None = None
    average_fps: Fraction | None = None
    is_constant_rate: bool | None = None
    width: int | None = None
    height: int | None = None
    coded_width: int | None = None
    coded_height: int | None = None
    rotation_degrees: int | None = None
    is_mirrored: bool | None = None
    sample_aspect_ratio: Fraction | None = None
    pixel_format: str | None = None
    is_interlaced: bool | None = None
    sample_rate: int | None = None
    num_channels: int | None = None
    channel_layout: str | None = None


@dataclass(frozen=True)
class MediaProbe:
    """A media file as the reader sees it.

    Attributes:
        path: of the file.
        container: FFmpeg's name of the format.
        duration_s: of the picture, or of the sound where there is no picture, in seconds.
        streams: all of them, in the container's order.
        metadata: its tags, names in lower case.
        warnings: what may go wrong with timing, and what was chosen.
    """

    path: Path
    container: str
    duration_s: Fraction
    streams: tuple[StreamProbe, ...]
    metadata: dict[str, str]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as JSON: seconds are numbers; rates and ratios are strings ("30000/1001")."""
        return {
            "path": str(self.path),
            "container": self.container,
            "duration_s": float(self.duration_s),
            "streams": [_stream_to_json(stream) for stream in self.streams],
            "metadata": self.metadata,
            "warnings": list(self.warnings),
        }


def _stream_to_json(stream: StreamProbe) -> dict[str, Any]:
    values = {item.name: getattr(stream, item.name) for item in fields(stream)}
    for name, value in values.items():
        if isinstance(value, Fraction):
            values[name] = float(value) if name.endswith("_s") else str(value)
    return values


def probe(path: str | Path) -> MediaProbe:
    """What the reader sees of a video, a sound or a picture.

    Raises:
        MediaError: no readable media file, or one that is cut short or damaged.
    """
    path = Path(path)
    scanned = scan(path)
    scanned.require_whole()
    with open_media(path) as container:
        streams = tuple(_stream(stream, scanned) for stream in container.streams)
        name = container.format.name
        metadata = {key.lower(): value for key, value in container.metadata.items()}
    main = scanned.video or scanned.audio
    assert main is not None
    warnings = (*scanned.warnings, *scanned.colour_warnings, *_notes(scanned, streams))
    return MediaProbe(path, name, main.end_s - main.first_s, streams, metadata, warnings)


def _stream(stream: Stream, scanned: MediaScan) -> StreamProbe:
    base: dict[str, Any] = {"index": stream.index}
    base["codec"] = None if stream.codec_context is None else stream.codec_context.name
    times = next((t for t in (scanned.video, scanned.audio) if t and t.index == stream.index), None)
    if times is not None:
        base["start_s"] = times.first_s - scanned.origin_s
        base["duration_s"] = times.end_s - times.first_s
    elif stream.duration is not None and stream.time_base is not None:
        base["start_s"] = (stream.start_time or 0) * stream.time_base - scanned.origin_s
        base["duration_s"] = stream.duration * stream.time_base
    if is_picture(stream):
        return StreamProbe(kind="picture", is_read=False, **base)
    if stream.codec_context is None:  # there is no decoder for it
        return StreamProbe(kind=stream.type or "data", is_read=False, **base)
    if isinstance(stream, av.VideoStream):
        return _video(stream, scanned, times, base)
    if isinstance(stream, av.AudioStream):
        context = stream.codec_context
        return StreamProbe(
            kind="audio",
            is_read=times is not None,
            sample_rate=context.sample_rate,
            num_channels=context.layout.nb_channels,
            channel_layout=context.layout.name,
            **base,
        )
    return StreamProbe(kind=stream.type or "data", is_read=False, **base)


def _video(
    stream: av.VideoStream, scanned: MediaScan, times: StreamTimes | None, base: dict[str, Any]
) -> StreamProbe:
    seen: dict[str, Any] = {}
    if times is not None:
        stored = first_decoded(scanned.path, times)
        height, width = stored.shown_size(scanned.path)
        seen = {
            "fps": times.rate,
            "is_constant_rate": times.constant,
            "width": width,
            "height": height,
            "rotation_degrees": stored.orientation.rotation_degrees,
            "is_mirrored": stored.orientation.is_mirrored,
            "pixel_format": stored.frame.format.name,
            "is_interlaced": stored.frame.interlaced_frame,
        }
    return StreamProbe(
        kind="video",
        is_read=times is not None,
        average_fps=stream.average_rate,
        coded_width=stream.codec_context.width,
        coded_height=stream.codec_context.height,
        sample_aspect_ratio=stream.sample_aspect_ratio,
        **seen,
        **base,
    )


def _notes(scanned: MediaScan, streams: tuple[StreamProbe, ...]) -> list[str]:
    """What was chosen, and what a reader of the file should know."""
    notes = []
    for kind in ("video", "audio"):
        indices = [stream.index for stream in streams if stream.kind == kind]
        read = [stream.index for stream in streams if stream.kind == kind and stream.is_read]
        if len(indices) > 1:
            chosen = f"number {read[0]}" if read else "none"
            notes.append(f"{len(indices)} {kind} streams; read is {chosen}")
    video, audio = scanned.video, scanned.audio
    if video is not None and not video.constant:
        notes.append(f"variable frame rate; read at a constant {video.rate}")
    if any(stream.is_interlaced for stream in streams):
        notes.append("interlaced; read as it is woven, with combs where something moves")
    if video is not None and audio is not None:
        late, short = audio.first_s - video.first_s, video.end_s - audio.end_s
        if late > _WORTH_SAYING_S:
            notes.append(f"sound begins {float(late):.3f} s after the picture")
        if short > _WORTH_SAYING_S:
            notes.append(f"sound ends {float(short):.3f} s before the picture")
        if -short > _WORTH_SAYING_S:
            notes.append(f"sound goes on {float(-short):.3f} s after the picture")
    return notes
