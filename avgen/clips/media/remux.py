"""A file in, the same file with its sound moved against its picture out: packets are copied.

Nothing is decoded or encoded again, so picture and sound lose nothing but what is moved out of
the file: sound from before the first frame.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream

from avgen.clips.files import MediaError, atomic, may_write
from avgen.clips.media.container import media_errors, open_media, tick_s
from avgen.clips.media.packets import MediaScan, scan
from avgen.clips.timebase import Seconds, exact, to_index

# Tags that are not FFmpeg's own are kept; the index goes to the front, for players on the web.
_MUXER_OPTIONS = {
    ".mp4": {"movflags": "+faststart+use_metadata_tags"},
    ".m4v": {"movflags": "+faststart+use_metadata_tags"},
    ".mov": {"movflags": "+faststart+use_metadata_tags"},
}

# How far the sound of the new file may lie from where it was to go: a tick of the coarsest clock
# (Matroska: 1 ms), twice, and some rounding of the sound's packets.
_TOLERANCE_S = Fraction(1, 200)


def remux_delayed(
    source: str | Path, target: str | Path, delay_s: Seconds, *, overwrite: bool = False
) -> list[str]:
    """Writes `source` as `target` with all its sound heard `delay_s` later.

    Args:
        source: a video with sound.
        target: the container follows from the suffix; it may be another one than the source's.
        delay_s: seconds; below 0 the sound comes earlier, and what would then be heard before the
            first frame is cut, by whole packets.
        overwrite: replace a file that is there.

    Returns:
        The streams that were left out (covers, data), each as text.

    Raises:
        MediaError: no readable video with sound, a target that is the source or is there already,
            or a container that cannot hold these streams at these times. Nothing is left behind.
    """
    source, target, delay = Path(source), Path(target), exact(delay_s)
    may_write(target, overwrite=overwrite, inputs=[source])
    scanned = scan(source)
    scanned.require_whole()
    if scanned.video is None or scanned.audio is None:
        missing = "picture" if scanned.video is None else "sound"
        raise MediaError(f"{source}: has no {missing}; a video with sound is needed")
    if scanned.video.counted is not None:
        raise MediaError(
            f"{source}: does not say when each frame is shown, so that packets cannot be copied "
            "to their places; encode it anew, as .mp4 or .mkv"
        )
    with atomic(target) as temporary:
        left_out = _copy(scanned, temporary, target, delay)
        _check_place(scanned, scan(temporary), target, delay)
    return left_out


def _copy(scanned: MediaScan, temporary: Path, target: Path, delay: Fraction) -> list[str]:
    """Copy the packets, those of sound moved; what was left out."""
    assert scanned.video is not None
    unfit = f"{target.suffix or 'a file without a suffix'} cannot hold these streams"
    with open_media(scanned.path) as reader, _opened(temporary, target) as writer:
        kept = _kept(reader, scanned)
        copies: dict[int, Stream] = {}
        with media_errors(target, unfit):
            for stream in kept:
                try:
                    copies[stream.index] = writer.add_stream_from_template(stream)
                except ValueError as error:
                    raise MediaError(f"{target}: {unfit} ({error})") from error
                copies[stream.index].metadata.update(stream.metadata)
                copies[stream.index].disposition = stream.disposition
            writer.metadata.update(reader.metadata)
            for packet in _moved(reader.demux(kept), delay, scanned.video.first_s):
                packet.stream = copies[packet.stream.index]
                writer.mux(packet)
        return [
            f"{stream.type or 'data'} (stream {stream.index})"
            for stream in reader.streams
            if stream not in kept
        ]


@contextmanager
def _opened(path: Path, target: Path) -> Iterator[OutputContainer]:
    """The file opened for writing; closed whatever happens, loudly only where all went well."""
    options = _MUXER_OPTIONS.get(target.suffix.lower(), {})
    with media_errors(target, "cannot be written"):
        try:
            container = av.open(f"file:{path}", "w", container_options=options)
        except ValueError as error:
            raise MediaError(f"{target}: {target.suffix!r} is no container's suffix") from error
    try:
        yield container
    except BaseException:
        with suppress(av.error.FFmpegError):
            container.close()
        raise
    with media_errors(target, "cannot be written"):
        container.close()


def _kept(reader: InputContainer, scanned: MediaScan) -> list[Stream]:
    """The picture that is read, all sound and all subtitles that FFmpeg knows."""
    assert scanned.video is not None
    return [
        stream
        for stream in reader.streams
        if stream.index == scanned.video.index
        or (stream.type in ("audio", "subtitle") and stream.codec_context is not None)
    ]


def _moved(packets: Iterable[Packet], delay: Fraction, origin_s: Fraction) -> Iterator[Packet]:
    """The packets, those of sound `delay` seconds later, or gone if they end before the picture."""
    for packet in packets:
        if packet.size == 0:
            continue  # it ends a stream
        if packet.stream.type == "audio":
            tick = tick_s(packet.stream)
            steps = to_index(delay, 1 / tick)
            packet.dts = None if packet.dts is None else packet.dts + steps
            packet.pts = None if packet.pts is None else packet.pts + steps
            ends = None if packet.pts is None else packet.pts + (packet.duration or 0)
            if delay < 0 and ends is not None and ends * tick <= origin_s:
                continue
        yield packet


def _check_place(before: MediaScan, after: MediaScan, target: Path, delay: Fraction) -> None:
    """Refuse a file whose sound does not lie where it was put: the container could not say so.

    The last packets are compared: what precedes the first is trimmed by each container's own way.
    """
    if before.video is None or before.audio is None or after.video is None or after.audio is None:
        raise MediaError(f"{target}: nothing is left of its picture or its sound")
    wanted_s = before.audio.last_s - before.video.first_s + delay
    off_s = after.audio.last_s - after.video.first_s - wanted_s
    if abs(off_s) > _TOLERANCE_S:
        raise MediaError(
            f"{target}: {target.suffix} does not keep the sound's place: it would be "
            f"{float(abs(off_s) * 1000):.0f} ms off; .mkv or .mp4 keep it"
        )
