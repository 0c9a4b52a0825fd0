"""A path in, an open container out, or one clear error."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import av.error
import av.logging
from av.container import InputContainer
from av.frame import Frame
from av.packet import Packet
from av.stream import Disposition, Stream

from avgen.clips.files import MediaError, fault

_CHECKSUMMED = ("flac",)
_COMPLAINS = {"ffv1": "CRC mismatch"}  # has a checksum as well, of which the decoder only complains

_INVALID_DATA = 1094995529  # AVERROR_INVALIDDATA

# FFmpeg takes text for a film of a terminal, and a playlist for the files that it names.
_NOT_MEDIA = {"tty", "concat", "hls", "dash", "imf"}


def decoder_versions() -> dict[str, str]:
    """Of PyAV and of the FFmpeg libraries that decode, by name."""
    found = {"av": av.__version__}
    for name in ("libavcodec", "libavformat", "libswresample", "libswscale"):
        found[name] = ".".join(str(number) for number in av.library_versions[name])
    return found


@contextmanager
def media_errors(path: Path, what: str) -> Iterator[None]:
    """Turns PyAV's errors into a MediaError: "PATH: WHAT (reason)"."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise MediaError(f"{path}: {what} ({error.strerror})") from error


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """The file opened for reading.

    Raises:
        MediaError: missing, not a file, empty, a git-lfs pointer, or nothing FFmpeg can read.
    """
    check_readable(path)
    with media_errors(path, "is no media file that can be read, or its header is damaged"):
        # Tags of old files are in any encoding; a strange tag must not hide the picture.
        # By `file:`, what stands before a colon in its name is no protocol.
        container = av.open(f"file:{path}", metadata_errors="replace")
    with container:
        if container.format.name in _NOT_MEDIA:
            raise MediaError(f"{path}: is text or a playlist; a media file is needed")
        yield container


def check_readable(path: Path) -> None:
    """Say what is wrong with a file that FFmpeg could only call invalid, or would wait for.

    Raises:
        MediaError: missing, not a regular file, unreadable, empty, or a git-lfs pointer.
    """
    reason = fault(path)
    if reason is not None:
        raise MediaError(f"{path}: {reason}")


def heed_checksums(stream: Stream) -> None:
    """Have the decoder refuse what fails its own checksum, which FFmpeg ignores unless told.

    Only where there is one: other decoders would refuse what merely departs from their standard.
    """
    if stream.codec_context.name in _CHECKSUMMED:
        stream.codec_context.options = {"err_detect": "crccheck+explode"}


def decode_packet(packet: Packet, is_first: bool) -> list[Any]:
    """The frames of a packet; none where it is the `is_first` after a seek and was cut by it.

    A seek in a container without an index (MPEG program streams) lands anywhere in a packet.
    """
    try:
        complaint = _COMPLAINS.get(packet.stream.codec_context.name)
        return packet.decode() if complaint is None else _decode_strictly(packet, complaint)
    except av.error.InvalidDataError:
        if is_first:
            return []
        raise


def _decode_strictly(packet: Packet, complaint: str) -> list[Any]:
    """The frames of a packet, unless FFmpeg's log has that complaint of it."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as log:
            frames = packet.decode()
    finally:
        av.logging.set_level(level)
    if any(complaint in message for _, _, message in log):
        raise av.error.InvalidDataError(_INVALID_DATA, complaint)
    return frames


def tick_s(timed: Stream | Frame) -> Fraction:
    """Seconds per tick of the timestamps of a stream or a frame."""
    assert timed.time_base is not None  # whatever has been opened or decoded has one
    return timed.time_base


def is_picture(stream: Stream) -> bool:
    """Whether it is a cover or a thumbnail, and no video to wait for."""
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def readable_streams(container: InputContainer, kind: Literal["video", "audio"]) -> list[Stream]:
    """The streams of that kind that can be decoded, first the one that a player would choose."""
    best = container.streams.best(kind)
    found = [
        stream
        for stream in container.streams
        if stream.type == kind
        and stream.codec_context is not None
        and not is_picture(stream)
        # A tile of a picture (HEIC) is no picture.
        and not stream.disposition & Disposition.dependent
    ]
    return sorted(found, key=lambda stream: stream is not best)
