"""A file in, what its packets say of its timing out, without decoding anything.

Headers are not enough: `average_rate` means nothing for a variable rate, Matroska states no end of
a stream, and a file cut short still promises all of itself. One pass over the packets knows.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import av.error
import numpy as np
from av.container import InputContainer

from avgen.clips.clip import MediaError
from avgen.clips.media.container import best_stream, open_media, tick_s

# Containers whose header states how long they are, so that one that ends earlier was cut short.
# MPEG program and transport streams, ADTS and MP3 do not: what is left is all they ever say.
_STATES_DURATION = ("mp4", "matroska", "avi", "wav", "flac")

# How much shorter than its header says a stream may be before the file counts as cut short, in
# seconds: muxers round durations to a frame of sound or picture.
_DURATION_TOLERANCE_S = Fraction(1, 5)

# What a variable rate is rounded to where its clock is too coarse to say exactly (Matroska: 1 ms).
_COMMON_RATES = (
    *(Fraction(rate) for rate in (10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 100, 120)),
    *(Fraction(rate * 1000, 1001) for rate in (24, 30, 48, 60, 120)),
)


@dataclass(frozen=True)
class StreamTimes:
    """When one stream begins and ends, in seconds of the container's clock.

    Attributes:
        index: the stream's index in the container.
        first_s: when its first packet that is shown or heard begins.
        last_s: when its last packet begins.
        end_s: when its last packet ends.
        rate: of a video, frames per second: the rate it keeps, or for a variable rate the constant
            one that holds its frames best (that of its usual interval).
        constant: of a video, whether it keeps that rate.
    """

    index: int
    first_s: Fraction
    last_s: Fraction
    end_s: Fraction
    rate: Fraction | None = None
    constant: bool | None = None


@dataclass(frozen=True)
class MediaScan:
    """What the packets of a file say.

    Attributes:
        path: of the file.
        video: the stream of pictures that the reader takes, or None.
        audio: the stream of sound that the reader takes, or None.
        damage: what is wrong with the file as a whole, if anything: "is cut short: ...".
        warnings: why its sound may not be where its timestamps say.
    """

    path: Path
    video: StreamTimes | None
    audio: StreamTimes | None
    damage: str | None
    warnings: tuple[str, ...]

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
    last: int | None = None  # of the packet that is shown or heard last
    last_duration: int = 0

    def add(self, pts: int, duration: int) -> None:
        self.pts.append(pts)
        if self.last is None or pts >= self.last:
            self.last, self.last_duration = pts, duration

    @property
    def end(self) -> int:
        assert self.last is not None
        return self.last + self.last_duration


@lru_cache(maxsize=512)
def _scan(path: Path, _mtime_ns: int, _size: int) -> MediaScan:
    with open_media(path) as container:
        video, audio = best_stream(container, "video"), best_stream(container, "audio")
        if video is None and audio is None:
            raise MediaError(f"{path}: has neither picture nor sound")
        packets: dict[int, _Packets] = {}
        broken = None
        try:
            for packet in container.demux():
                if packet.size == 0 or packet.pts is None or packet.is_discard:
                    continue  # size 0 ends a stream; what is discarded lies outside the edit list
                if packet.is_corrupt:
                    broken = "a packet is incomplete"
                    continue
                times = packets.setdefault(packet.stream.index, _Packets())
                times.add(packet.pts, packet.duration or 0)
        except av.error.FFmpegError as error:
            broken = str(error.strerror)
        video_times = audio_times = None
        if isinstance(video, av.VideoStream) and video.index in packets:
            video_times = _video_times(video, packets[video.index])
        if isinstance(audio, av.AudioStream) and audio.index in packets:
            audio_times = _audio_times(container, audio, packets[audio.index])
        ends = {
            index: times.end * tick_s(container.streams[index]) for index, times in packets.items()
        }
        damage = _damage(container, ends, broken)
        container_name = container.format.name
        audio_codec = "" if audio is None else audio.codec_context.codec.canonical_name
    if video_times is None and audio_times is None:
        raise MediaError(f"{path}: {damage or 'has no packets of picture or sound'}")
    risks = () if audio_times is None else _timing_risks(container_name, audio_codec, audio_times)
    return MediaScan(path, video_times, audio_times, damage, risks)


def _timing_risks(container: str, codec: str, times: StreamTimes) -> tuple[str, ...]:
    """Delays that the encoder made and the container does not state."""
    if container == "avi" and codec.startswith("mp3"):
        return ("MP3 in AVI is heard 23 to 69 ms late, and nothing in the file says by how much",)
    if "matroska" in container and codec == "aac" and times.first_s >= 0:
        # With the delay stated, the first packet begins before 0 and the decoder drops it.
        return (
            "AAC in Matroska without a stated delay: its sound may be 21 to 64 ms late "
            "(the encoder's priming)",
        )
    return ()


def _damage(container: InputContainer, ends: dict[int, Fraction], broken: str | None) -> str | None:
    """What is wrong: packets that cannot be read, or an end before the one that is promised."""
    promised = Fraction(0)
    missing = broken is not None
    if any(name in container.format.name for name in _STATES_DURATION):
        for stream in container.streams:
            if stream.type not in ("video", "audio") or stream.duration is None:
                continue
            end = ((stream.start_time or 0) + stream.duration) * tick_s(stream)
            promised = max(promised, end)
            missing |= ends.get(stream.index, Fraction(0)) < end - _DURATION_TOLERANCE_S
        if container.duration is not None:  # microseconds
            whole = Fraction((container.start_time or 0) + container.duration, 1_000_000)
            promised = max(promised, whole)
            missing |= max(ends.values(), default=Fraction(0)) < whole - _DURATION_TOLERANCE_S
    if not missing:
        return None
    there = min(ends.values(), default=Fraction(0))
    of = f" of {float(promised):.2f} s" if promised else ""
    because = f" ({broken})" if broken else ""
    return f"is cut short or damaged: {float(there):.2f} s{of} can be read{because}"


def _audio_times(
    container: InputContainer, stream: av.AudioStream, packets: _Packets
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
    )


def _video_times(stream: av.VideoStream, packets: _Packets) -> StreamTimes:
    tick = tick_s(stream)
    pts = np.unique(np.array(packets.pts, dtype=np.int64))
    first, last = int(pts[0]) * tick, int(pts[-1]) * tick
    stated = [rate for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate) if rate]
    if len(pts) == 1:
        length = packets.last_duration * tick or (1 / stated[0] if stated else Fraction(0))
        if not length:
            raise MediaError(f"{stream.container.name}: one frame without a duration; no rate fits")
        return StreamTimes(stream.index, first, last, first + length, 1 / length, True)
    rate = next((rate for rate in stated if _keeps(pts, tick, rate)), None)
    if rate is not None:
        return StreamTimes(stream.index, first, last, first + len(pts) / rate, rate, True)
    rate = _usual_rate(pts, tick)
    end = last + (packets.last_duration * tick or 1 / rate)
    if stream.duration is not None and "mp4" in stream.container.format.name:
        # Durations of its packets are in decoding order, so the last one shown may have another's.
        end = max(last + tick, ((stream.start_time or 0) + stream.duration) * tick)
    return StreamTimes(stream.index, first, last, end, rate, False)


def _keeps(pts: np.ndarray, tick: Fraction, rate: Fraction) -> bool:
    """Whether frame i is at i / rate, as nearly as the clock's ticks can say.

    Where a tick is a whole frame (AVI), a tick off is a frame missing.
    """
    interval = float(1 / (rate * tick))  # in ticks
    off = np.abs((pts - pts[0]) - np.arange(len(pts)) * interval)
    return bool(off.max() <= min(1.0, interval / 4))


def _usual_rate(pts: np.ndarray, tick: Fraction) -> Fraction:
    """Frames per second at the usual interval: a rate that people use where the clock allows it."""
    intervals = np.diff(pts)
    usual = intervals[intervals <= 1.5 * np.median(intervals)]
    interval_s = Fraction(float(usual.mean())).limit_denominator(1000) * tick
    near = [rate for rate in _COMMON_RATES if abs(1 / rate - interval_s) <= tick / 2]
    if near:
        return min(near, key=lambda rate: abs(1 / rate - interval_s))
    return (1 / interval_s).limit_denominator(1001)
