"""A file in, what its packets say of its timing out, without decoding anything.

Headers are not enough: `average_rate` means nothing for a variable rate, Matroska states no end of
a stream, and a file cut short still promises all of itself. One pass over the packets knows.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream

from avgen.clips.files import MediaError
from avgen.clips.media.container import open_media, readable_streams, tick_s
from avgen.clips.media.formats import HIGH_DYNAMIC_RANGE
from avgen.clips.media.rates import keeps_rate, usual_rate

# Containers whose header states how long they are, so that one that ends earlier was cut short.
# MPEG program and transport streams, ADTS and MP3 do not: what is left is all they ever say.
_STATES_DURATION = ("mp4", "matroska", "avi", "wav", "flac")

# Where FFmpeg, after a seek into a packet of several frames, gives each the time of a later one.
_LOSES_PLACE = ("mpeg",)

_GAPLESS = ("flac", "wav")

# How much shorter than its header says a stream may be before the file counts as cut short, in
# seconds: muxers round durations to a frame of sound or picture.
_DURATION_TOLERANCE_S = Fraction(1, 5)

# How much of a sound may be undecodable where its container does not say how long it is: tags and
# garbage after the last frame, the seam of two files. More is damage.
UNDECODABLE_S = 1

# How long nothing may be shown or heard, in seconds.
_LONGEST_LEAP_S = 600

# Frames per second beyond which a header is wrong, not a camera fast.
_FASTEST = Fraction(1000)


@dataclass(frozen=True)
class StreamTimes:
    """When one stream begins and ends, in seconds of the container's clock.

    Attributes:
        index: the stream's index in the container.
        first_s: when its first packet that is shown or heard begins.
        last_s: when its last packet begins.
        end_s: when its last packet ends.
        is_stated: whether the container states how long it is, so that what is missing is known.
        is_seekable: whether what follows a seek has the same times as without.
        is_gapless: whether the container can state no gap: where there is one, a piece is missing.
        back_s: of a sound, the most that a packet begins before one that came earlier.
        rate: of a video, frames per second: the rate it keeps, or for a variable rate the constant
            one that holds its frames best (that of its usual interval).
        constant: of a video, whether it keeps that rate.
        counted: of a video whose packets do not say when they are shown (AVI with B-frames, raw
            streams), when frame 0, 1, 2 ... is shown, in ticks; None where the packets say it.
        tick_s: seconds of a tick of the stream's clock.
    """

    index: int
    first_s: Fraction
    last_s: Fraction
    end_s: Fraction
    is_stated: bool
    is_seekable: bool
    is_gapless: bool = False
    back_s: Fraction = Fraction(0)
    rate: Fraction | None = None
    constant: bool | None = None
    counted: tuple[int, ...] | None = None
    tick_s: Fraction = Fraction(1, 1000)

    def counted_s(self, number: int) -> Fraction:
        """When frame `number` is shown of a video that is counted, in seconds."""
        assert self.counted is not None and self.rate is not None
        beyond = max(0, number - len(self.counted) + 1)
        return self.counted[number - beyond] * self.tick_s + beyond / self.rate


@dataclass(frozen=True)
class MediaScan:
    """What the packets of a file say.

    Attributes:
        path: of the file.
        video: the stream of pictures that the reader takes, or None.
        audio: the stream of sound that the reader takes, or None.
        damage: what is wrong with the file as a whole, if anything: "is cut short: ...".
        warnings: why its sound may not be where its timestamps say.
        colour_warnings: why its picture may not look as it was recorded.
    """

    path: Path
    video: StreamTimes | None
    audio: StreamTimes | None
    damage: str | None
    warnings: tuple[str, ...]
    colour_warnings: tuple[str, ...] = ()

    def require_whole(self) -> None:
        """Refuse a damaged file.

        Raises:
            MediaError: cut short, or with packets that cannot be read.
        """
        if self.damage is not None:
            raise MediaError(f"{self.path}: {self.damage}")

    @property
    def origin_s(self) -> Fraction:
        """The container's time that avgen calls 0: the first frame, or else the first sound."""
        first = self.video or self.audio
        assert first is not None
        return first.first_s


def scan(path: Path) -> MediaScan:
    """Reads the packets of the file once; remembered as long as the file does not change.

    Raises:
        MediaError: not a media file, or one with neither picture nor sound.
    """
    path = Path(path)
    if not path.is_file():
        with open_media(path):  # says why not
            pass
    state = path.stat()
    return _scan(path, state.st_mtime_ns, state.st_size)


@dataclass
class _Packets:
    """The times of one stream's packets, in its ticks, as they are read."""

    pts: list[int] = field(default_factory=list)
    dts: list[int] = field(default_factory=list)
    untimed: list[int] = field(default_factory=list)  # durations of packets without either
    last: int | None = None  # of the packet that is shown or heard last
    last_duration: int = 0

    def add(self, packet: Packet) -> None:
        duration = packet.duration or 0
        if packet.pts is None:
            if packet.dts is None:
                self.untimed.append(duration)
            return
        self.pts.append(packet.pts)
        self.dts.append(packet.pts if packet.dts is None else packet.dts)
        if self.last is None or packet.pts >= self.last:
            self.last, self.last_duration = packet.pts, duration

    @property
    def end(self) -> int:
        assert self.last is not None
        return self.last + self.last_duration

    def count(self, in_order: bool) -> tuple[int, ...] | None:
        """When the frames are shown whose packets do not say it; None where they do.

        Args:
            in_order: whether the container has decoding times only (AVI). Frames are shown at the
                same times, in another order.
        """
        if in_order and self.pts != self.dts:
            self.pts = sorted(self.dts)
            self.last = self.pts[-1]
            return tuple(self.pts)
        if not self.pts and self.untimed and max(self.untimed) <= 2 * min(self.untimed):
            self.pts = list(accumulate(self.untimed[:-1], initial=0))
            self.last, self.last_duration = self.pts[-1], self.untimed[-1]
            return tuple(self.pts)
        return None


@lru_cache(maxsize=512)
def _scan(path: Path, _mtime_ns: int, _size: int) -> MediaScan:
    with open_media(path) as container:
        videos, sounds = (readable_streams(container, kind) for kind in ("video", "audio"))
        if not videos and not sounds:
            raise MediaError(f"{path}: has neither picture nor sound{_unread(container)}")
        packets, broken, rest = _collected(container)
        in_order = container.format.name == "avi"
        counted = {s.index: packets[s.index].count(in_order) for s in videos if s.index in packets}
        packets = {index: times for index, times in packets.items() if times.pts}
        stated = any(name in container.format.name for name in _STATES_DURATION)
        # A picture that stands before the film, not marked as its cover, is not the film.
        video = max(
            (s for s in videos if s.index in packets),
            key=lambda s: len(packets[s.index].pts) > 1,
            default=None,
        )
        audio = next((s for s in sounds if s.index in packets), None)
        picture = sound = None
        if isinstance(video, av.VideoStream):
            picture = _video_times(path, video, packets[video.index], stated, counted[video.index])
        if isinstance(audio, av.AudioStream):
            sound = _audio_times(container, audio, packets[audio.index], stated)
        read = [s for s in (video, audio) if s is not None]
        empty = [s for s in (*videos[:1], *sounds[:1]) if s.frames and s.index not in packets]
        broken = broken or ("a stream has none of its packets" if stated and empty else None)
        if broken and not stated and sound and not picture:
            # What follows the last frame of a sound (tags, a stray byte) is none of it.
            is_tail = rest * float(sound.end_s - sound.first_s) < UNDECODABLE_S
            broken = None if is_tail else broken
        damage = _damage(container, read if stated else [], packets, broken)
        if not read:
            nothing = "has no packets of picture or sound that say when they belong"
            raise MediaError(f"{path}: {damage or nothing}")
        _require_no_leap(path, read, packets)
        risks, colours = _timing_risks(container, audio, sound), _colour_risks(video)
    if picture is not None and picture.counted is not None and not in_order:
        risks = (*risks, f"states no times; read at {picture.rate} frames a second")
    return MediaScan(path, picture, sound, damage, risks, colours)


def _collected(container: InputContainer) -> tuple[dict[int, _Packets], str | None, float]:
    """The packets of every stream, what went wrong on the way, and which share of bytes is left."""
    packets: dict[int, _Packets] = {}
    broken, end = None, 0
    try:
        for packet in container.demux():
            if packet.size == 0 or packet.is_discard:
                continue  # size 0 ends a stream; what is discarded lies outside the edit list
            if packet.is_corrupt:
                broken = "a packet is incomplete"
                continue
            end = max(end, (packet.pos or 0) + packet.size)
            packets.setdefault(packet.stream.index, _Packets()).add(packet)
    except av.error.FFmpegError as error:
        broken = str(error.strerror)
    return packets, broken, 1 - end / container.size


def _unread(container: InputContainer) -> str:
    """What is there that cannot be decoded."""
    if any(stream.disposition & Disposition.dependent for stream in container.streams):
        return " in one piece; save the picture, which is in tiles (HEIC), as JPEG or PNG"
    kinds = [s.type for s in container.streams if s.codec_context is None]
    return f" that can be decoded, but {', '.join(kinds)} of an unknown codec" if kinds else ""


def _require_no_leap(path: Path, read: list[Stream], packets: dict[int, _Packets]) -> None:
    """Refuse a file in which nothing is shown and nothing heard for long: its clock is wrong.

    What a camera stamps with the time of day lies half a century after what it counts from 0. The
    silence between them would fill any memory.

    Raises:
        MediaError: there is such a gap.
    """
    times = [np.array(packets[s.index].pts, dtype=np.float64) * float(tick_s(s)) for s in read]
    ends = [packets[s.index].end * float(tick_s(s)) for s in read]
    line = np.unique(np.concatenate([*times, ends]))
    leaps = np.diff(line)
    if leaps.size and leaps.max() > _LONGEST_LEAP_S:
        at = int(leaps.argmax())
        raise MediaError(
            f"{path}: its clock leaps from {line[at]:.3f} s to {line[at + 1]:.3f} s; between two "
            f"pictures or sounds lie at most {_LONGEST_LEAP_S} s"
        )


def _timing_risks(
    container: InputContainer, audio: Stream | None, times: StreamTimes | None
) -> tuple[str, ...]:
    """Delays that the encoder made and the container does not state."""
    if audio is None or times is None:
        return ()
    name, codec = container.format.name, audio.codec_context.codec.canonical_name
    if name == "avi" and codec.startswith("mp3"):
        return ("MP3 in AVI is heard 23 to 69 ms late, and nothing in the file says by how much",)
    if "matroska" in name and codec == "aac" and times.first_s >= 0:
        # With the delay stated, the first packet begins before 0 and the decoder drops it.
        return (
            "AAC in Matroska without a stated delay: its sound may be 21 to 64 ms late "
            "(the encoder's priming)",
        )
    return ()


def _colour_risks(video: Stream | None) -> tuple[str, ...]:
    """Why what is read does not look as what was recorded."""
    if isinstance(video, av.VideoStream):
        name = HIGH_DYNAMIC_RANGE.get(video.codec_context.color_trc)
        if name is not None:
            return (f"high dynamic range ({name}); read as BT.709, highlights are clipped",)
    return ()


def _damage(
    container: InputContainer,
    read: list[Stream],
    packets: dict[int, _Packets],
    broken: str | None,
) -> str | None:
    """What is wrong: packets that cannot be read, or an end before the one that is promised.

    Args:
        container: of the packets.
        read: the streams that are read, if they promise anything. Where their headers do not, the
            container does for the stream that ends last.
        packets: by stream.
        broken: what went wrong when they were read.
    """
    ends = {i: times.end * tick_s(container.streams[i]) for i, times in packets.items()}
    promised = Fraction(0)
    missing = broken is not None
    for stream in read:
        if stream.duration is not None:
            end = ((stream.start_time or 0) + stream.duration) * tick_s(stream)
            promised = max(promised, end)
            missing |= ends[stream.index] < end - _DURATION_TOLERANCE_S
    if read and container.duration is not None and all(s.duration is None for s in read):
        # Microseconds; Matroska's is when its last stream ends, not how long they are.
        start = 0 if "matroska" in container.format.name else container.start_time or 0
        promised = Fraction(start + container.duration, 1_000_000)
        missing |= max(ends.values(), default=Fraction(0)) < promised - _DURATION_TOLERANCE_S
    if not missing:
        return None
    there = min((ends[stream.index] for stream in read), default=max(ends.values(), default=0))
    of = f" of {float(promised):.2f} s" if promised else ""
    because = f" ({broken})" if broken else ""
    return f"is cut short or damaged: {float(there):.2f} s{of} can be read{because}"


def _audio_times(
    container: InputContainer, stream: av.AudioStream, packets: _Packets, is_stated: bool
) -> StreamTimes:
    tick = tick_s(stream)
    # A clock coarser than samples (Matroska: 1 ms) rounds the end down as often as up; what the
    # decoder gives beyond is then sound. With a fine clock this is one sample.
    end = packets.end + 1 if tick * stream.codec_context.sample_rate > 1 else packets.end
    if stream.duration is not None and "mp4" in container.format.name:
        # The edit list may end inside the last packet: what follows is the encoder's padding.
        end = min(end, (stream.start_time or 0) + stream.duration)
    return StreamTimes(
        index=stream.index,
        first_s=packets.pts[0] * tick,
        last_s=max(packets.pts) * tick,
        end_s=end * tick,
        is_stated=is_stated,
        is_seekable=container.format.name not in _LOSES_PLACE,
        is_gapless=container.format.name in _GAPLESS,
        back_s=int((np.maximum.accumulate(packets.pts) - packets.pts).max()) * tick,
    )


def _video_times(
    path: Path,
    stream: av.VideoStream,
    packets: _Packets,
    is_stated: bool,
    counted: tuple[int, ...] | None,
) -> StreamTimes:
    tick = tick_s(stream)
    pts = np.unique(np.array(packets.pts, dtype=np.int64))
    first, last = int(pts[0]) * tick, int(pts[-1]) * tick
    times = partial(
        StreamTimes,
        index=stream.index,
        first_s=first,
        last_s=last,
        is_stated=is_stated,
        is_seekable=counted is None and stream.container.format.name not in _LOSES_PLACE,
        counted=counted,
        tick_s=tick,
    )
    stated = [rate for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate) if rate]
    stated = [rate for rate in stated if rate <= _FASTEST]
    if len(pts) == 1:
        length = packets.last_duration * tick
        if length < 1 / _FASTEST:
            length = 1 / stated[0] if stated else Fraction(0)
        if not length:
            raise MediaError(f"{path}: one frame without a duration; no rate fits")
        return times(end_s=first + length, rate=1 / length, constant=True)
    if (len(pts) - 1) / (last - first) > _FASTEST:
        raise MediaError(
            f"{path}: {len(pts)} frames in {float(last - first):.3g} s; "
            f"at most {_FASTEST} a second are read"
        )
    rate = next((rate for rate in stated if keeps_rate(pts, tick, rate)), None)
    if rate is not None:
        return times(end_s=first + len(pts) / rate, rate=rate, constant=True)
    rate = usual_rate(pts, tick)
    end = last + (packets.last_duration * tick or 1 / rate)
    if stream.duration is not None and "mp4" in stream.container.format.name:
        # Durations of its packets are in decoding order, so the last one shown may have another's.
        end = max(last + tick, ((stream.start_time or 0) + stream.duration) * tick)
    return times(end_s=end, rate=rate, constant=False)
