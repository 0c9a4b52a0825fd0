"""Damaged media in, a table of what avgen makes of them out: equal, restated, refused, or a fault.

    python benchmarks/fuzz_media.py --tries 10000 --seed 1 [FILE or FOLDER ...]

Clips are made in every container and codec that avgen reads, with a number in the pixels of each
frame and the pitch of that number beside it, and each try damages one: bytes, runs of bytes,
lengths, boxes, its end, packets, timestamps. Real files that are named are damaged as well. Every
try is read in a forked child with limits of memory, processor time and the clock:

equal       all frames and their sounds are those of the undamaged file
touched     frames or sounds that the damaged bytes belong to differ, and no others
warned      read with a warning: so much of the sound cannot be decoded, or no times are stated
restated    what the file's headers or timestamps say now: FFmpeg, decoding it from its beginning
            without a seek, has each frame and each sound at the same place
refused     a MediaError
WRONG       neither: read without a word as something else, or a part is not the part of the whole
TRACEBACK, CRASH, HANG, MEMORY   faults

Of real files the picture has no number: their tries are "read" where they are neither equal,
refused nor a fault.
"""

import argparse
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path

import av
import av.error
import av.logging
import numpy as np

from avgen.clips import MediaError, probe, read_audio, read_clip, read_image
from avgen.clips.media.packets import StreamTimes, scan
from avgen.clips.timebase import to_index

FPS, RATE, COUNT, BITS = 25, 48_000, 20, 8
PER_FRAME = RATE // FPS
LOWEST_HZ, STEP_HZ = 500, 100
BATCH = 25  # tries of a child, if it lives as long
MEMORY, PROCESSOR_S, CLOCK_S = 3 << 30, 20, 300  # bytes of a child, seconds of a try
LONGEST_S = 700  # of what is compared: the reader lets a clock leap for 600

# Container, codec of the picture, codec of the sound.
MADE = [
    *[("mp4", "libx264", "aac"), ("mp4", "libx265", "alac"), ("mov", "mjpeg", "pcm_s16le")],
    *[("mkv", "ffv1", "flac"), ("mkv", "libx264", "aac"), ("mkv", "libx264", "libopus")],
    *[("webm", "libvpx", "libopus"), ("webm", "libvpx-vp9", "libopus"), ("flv", "libx264", "aac")],
    *[("avi", "mpeg4", "libmp3lame"), ("avi", "mjpeg", "pcm_s16le"), ("avi", "libx264", "pcm_u8")],
    *[("ts", "libx264", "aac"), ("ts", "mpeg2video", "mp2"), ("mpg", "mpeg1video", "mp2")],
    *[("vob", "mpeg2video", "ac3"), ("wmv", "wmv2", "wmav2"), ("mp4", "mpeg4", "libmp3lame")],
    *[("h264", "libx264", None), ("gif", "gif", None), ("mp4", "libx264", None)],
    *[("wav", None, "pcm_s16le"), ("flac", None, "flac"), ("mp3", None, "libmp3lame")],
    *[("ogg", None, "libopus"), ("m4a", None, "aac"), ("aac", None, "aac")],
    *[
        ("png", "png", None),
        ("jpg", "mjpeg", None),
        ("tiff", "tiff", None),
        ("webp", "libwebp", None),
    ],
]
STILLS = ("png", "jpg", "tiff", "webp")


@dataclass
class Source:
    """A file to be damaged, and what is read of it when it is whole."""

    path: Path
    data: bytes
    has_numbers: bool
    seen: dict = field(default_factory=dict)


@dataclass
class Damage:
    """What was done to a file.

    Attributes:
        kind: of damage.
        data: the file now.
        places: the bytes of the undamaged file that were changed, where others stayed in place.
        packets: which of its packets were changed, where others stayed as they are.
    """

    kind: str
    data: bytes
    places: list[tuple[int, int]] | None = None
    packets: set[int] | None = None


def draw(number: int) -> np.ndarray:
    """A frame [32, 128, 3] whose eight bars are the bits of its number."""
    frame = np.full((32, 16 * BITS, 3), 16, np.uint8)
    for bit in range(BITS):
        if number + 1 >> bit & 1:
            frame[:, bit * 16 : bit * 16 + 16] = 235
    return frame


def number_of(frame: np.ndarray) -> int | None:
    """The number in a frame of whatever size; None where no bar is light or dark."""
    places = ((np.arange(BITS) + 0.5) * frame.shape[1] / BITS).astype(int)
    light = frame[frame.shape[0] // 2, places, 1].astype(int)
    if ((light > 70) & (light < 180)).any():
        return None
    return int(((light > 125) << np.arange(BITS)).sum()) - 1


def pitches(mono: np.ndarray, rate: int) -> list[int | None]:
    """The number whose pitch is heard beside each frame; None for silence and noise."""
    found: list[int | None] = []
    for index in range(int(mono.size * FPS / rate)):
        start = int(index * rate / FPS)
        part = mono[start + rate // 200 : start + rate // 28]
        if part.size < 64 or np.sqrt(np.square(part).mean()) < 0.02:
            found.append(None)
            continue
        power = np.abs(np.fft.rfft(part * np.hanning(part.size), 8192))
        hz = float(power.argmax()) * rate / 8192
        found.append(round((hz - LOWEST_HZ) / STEP_HZ))
    return found


def make(folder: Path, suffix: str, video: str | None, audio: str | None) -> Source:
    """A clip of 20 numbered frames, or a picture, or its sound alone."""
    path = folder / f"{video}-{audio}.{suffix}"
    numbers = [5] if suffix in STILLS else range(COUNT)
    with av.open(str(path), "w") as out:
        picture = sound = None
        if video:
            picture = out.add_stream(video, rate=FPS)
            picture.height, picture.width = 32, 16 * BITS
            formats = {"png": "rgb24", "tiff": "rgb24", "gif": "rgb8", "ffv1": "bgr0"}
            picture.pix_fmt = "yuvj420p" if video == "mjpeg" else formats.get(video, "yuv420p")
            picture.codec_context.gop_size = 10
            picture.codec_context.thread_count = 1
            if video in ("libx264", "mpeg4", "mpeg2video", "mpeg1video"):
                picture.codec_context.max_b_frames = 2
            options = {
                "libx264": {"preset": "ultrafast", "bf": "2"},
                "libx265": {"preset": "ultrafast"},
            }
            picture.codec_context.options = options.get(video, {})
        if audio:
            sound = out.add_stream(audio, rate=RATE)
            sound.layout = "mono"
            if audio in ("wmav2", "mp2", "ac3", "libmp3lame", "aac"):
                sound.bit_rate = 96_000
        for number in numbers if picture else ():
            frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
            frame.pts, frame.time_base = (0 if suffix in STILLS else number), Fraction(1, FPS)
            out.mux(picture.encode(frame))
        if sound:
            hz = np.repeat(LOWEST_HZ + STEP_HZ * np.arange(COUNT), PER_FRAME)
            wave = (0.3 * np.sin(np.cumsum(hz) * 2 * np.pi / RATE)).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(wave, format="flt", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            resampler = av.AudioResampler(sound.format, "mono", RATE)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                out.mux(sound.encode(part))
        for stream in out.streams:
            out.mux(stream.encode(None))
    return Source(path, path.read_bytes(), True)


def look(path: Path, has_numbers: bool, *, every_way: bool = True) -> dict:
    """What avgen reads of a file: the number of each frame, the pitch beside it; of a part, too."""
    seen: dict = {}
    if every_way:
        probe(path)
    scanned = scan(path)
    if scanned.video is None:
        waveform, rate = read_audio(path, num_channels=1)
        seen["sound"] = pitches(waveform[0], rate) if has_numbers else waveform.tobytes()
        return seen
    if every_way:
        read_image(path)
    until = None if has_numbers else min(Fraction(1), scanned.video.end_s - scanned.video.first_s)
    clip = read_clip(path, end_s=until, num_channels=1, fps=FPS if has_numbers else None)
    if not has_numbers:
        return {"frames": clip.frames.tobytes(), "sound": clip.waveform is not None}
    seen["frames"] = [number_of(frame) for frame in clip.frames]
    if clip.waveform is not None:
        if every_way:
            read_audio(path, num_channels=1)
        seen["sound"] = pitches(clip.waveform[0], clip.sample_rate or 1)
    if every_way and clip.num_frames > 16:
        part = read_clip(
            path, start_s=Fraction(11, FPS), end_s=Fraction(14, FPS), fps=FPS, num_channels=1
        )
        seen["part"] = [number_of(frame) for frame in part.frames]
        if part.waveform is not None and clip.waveform is not None:
            rate = clip.sample_rate or 1
            whole = clip.waveform[0, int(11 * rate / FPS) : int(14 * rate / FPS)]
            count = min(whole.size, part.num_samples)
            off = np.abs(whole[:count] - part.waveform[0, :count])
            seen["part off"] = float(np.quantile(off, 0.9)) if count else 0.0
    return seen


def plainly(path: Path) -> dict:
    """The same by FFmpeg alone, from the beginning to the end, whatever it complains of."""
    scanned = scan(path)
    found: dict = {}
    for kind, times in (("frames", scanned.video), ("sound", scanned.audio)):
        if times is None:
            continue
        with av.open(str(path), metadata_errors="replace") as container:
            stream = container.streams[times.index]
            decoded = []
            for packet in container.demux(stream):
                try:
                    decoded += packet.decode()
                except av.error.FFmpegError:
                    continue
            origin = None if scanned.video is None else scanned.origin_s
            # What a clip is heard of lies beside its picture.
            length_s = float((scanned.video or times).end_s - scanned.origin_s)
            if kind == "frames":
                found[kind] = _plain_frames(decoded, times, length_s)
            else:
                found[kind] = _plain_sound(decoded, origin, length_s)
    return found


def _plain_frames(decoded: list, times: StreamTimes, length_s: float) -> list[int | None]:
    timed = []
    for index, frame in enumerate(decoded):
        at = times.counted_s(index) if times.counted else (frame.pts or 0) * times.tick_s
        number = number_of(frame.to_ndarray(format="rgb24"))
        timed.append((to_index(at - times.first_s, FPS), number))
    timed.sort(key=lambda pair: pair[0])
    count = max(1, int(min(length_s, LONGEST_S) * FPS + 0.5))
    return [
        next((n for at, n in reversed(timed) if at <= slot), timed[0][1]) for slot in range(count)
    ]


def _plain_sound(decoded: list, origin: Fraction | None, length_s: float) -> list[int | None]:
    rate = decoded[0].sample_rate
    line = np.zeros(int(min(length_s, LONGEST_S) * rate) + 1, np.float32)
    at = 0
    for frame in decoded:
        if frame.pts is not None:
            origin = frame.pts * frame.time_base if origin is None else origin
            at = round(float(frame.pts * frame.time_base - origin) * rate)
        for piece in av.AudioResampler(format="flt", layout="mono").resample(frame):
            samples = piece.to_ndarray()[0]
            room = line[max(0, at) : max(0, at + samples.size)]
            room[:] = samples[max(0, -at) :][: room.size]
        at += frame.samples
    return pitches(line, rate)


def unlike(one: list, other: list, slack: int) -> list[int]:
    """The places at which two lists of numbers differ, by more than `slack`."""
    return [
        index
        for index, (a, b) in enumerate(zip_longest(one, other))
        if a != b and (a is None or b is None or abs(a - b) > slack)
    ]


def touched(source: Source, damage: Damage) -> tuple[set[int], set[int]]:
    """The frames and the frames' sounds that what was damaged has a part in."""
    frames: set[int] = set()
    sounds: set[int] = set()
    with av.open(str(source.path)) as container:
        in_pieces = container.format.name in ("mpegts", "mpeg", "ogg")
        origin = float(scan(source.path).origin_s)
        for index, packet in enumerate(p for p in container.demux() if p.size):
            if packet.pts is None or packet.pos is None:
                continue
            slack = 600 + packet.size // 4 if in_pieces else 24
            start, stop = packet.pos - slack, packet.pos + packet.size + slack
            if index not in (damage.packets or ()) and not any(
                a < stop and b > start for a, b in damage.places or ()
            ):
                continue
            at = float(packet.pts * packet.time_base) - origin
            if packet.stream.type == "audio":
                sounds |= set(range(int(at * FPS) - 4, int(at * FPS) + 7))
            else:  # a group of ten, and what is predicted from it
                frames |= set(range(int(at * FPS) - 12, int(at * FPS) + 14))
    return frames, sounds


def judge(source: Source, damage: Damage, path: Path, every_way: bool) -> str:
    """The outcome of reading the damaged file at `path`."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            seen = look(path, source.has_numbers, every_way=every_way)
        except MediaError:
            return "refused"
    if not source.has_numbers:
        return "equal" if seen == source.seen else "read"
    said = " ".join(str(warning.message) for warning in told)
    if "cannot be decoded" in said or ("states no times" in said and source.path.suffix != ".h264"):
        return "warned"
    off = differences(seen, source.seen)
    if is_another_part(seen, off):
        return "WRONG"
    if not any(off.values()):
        return "equal"
    if damage.places is not None or damage.packets is not None:
        frames, sounds = touched(source, damage)
        if set(off["frames"]) <= frames and set(off["sound"]) <= sounds:
            return "touched"
    off = differences(seen, plainly(path))
    # A frame's sound at its edge, and the last one of all, may be heard as either's.
    return "WRONG" if len(off["frames"]) > 1 or len(off["sound"]) > 3 else "restated"


def is_another_part(seen: dict, off: dict[str, list[int]]) -> bool:
    """Whether the part that was read alone is not that part of the whole, where that is sound."""
    whole = set(range(11, 14)) - set(off["frames"])
    wrong = unlike(seen["part"], seen["frames"][11:14], 0) if "part" in seen else []
    heard = not set(range(10, 15)) & set(off["sound"])
    return any(index + 11 in whole for index in wrong) or (heard and seen.get("part off", 0) > 0.05)


def differences(one: dict, other: dict) -> dict[str, list[int]]:
    """Where the frames and the sounds of two readings differ."""
    slack = {"frames": 0, "sound": 1}
    return {name: unlike(one.get(name, []), other.get(name, []), slack[name]) for name in slack}


def spoil_bytes(rng: np.random.Generator, source: Source) -> Damage:
    """Single bytes changed."""
    data = bytearray(source.data)
    places = []
    for _ in range(int(rng.integers(1, 9))):
        at = int(rng.integers(min(len(data), 1500) if rng.random() < 0.3 else len(data)))
        data[at] = int(rng.integers(256))
        places.append((at, at + 1))
    return Damage("bytes", bytes(data), places)


def spoil_run(rng: np.random.Generator, source: Source) -> Damage:
    """A run of bytes overwritten, by noise or zeros."""
    data = bytearray(source.data)
    size = int(rng.integers(8, 400))
    at = int(rng.integers(max(1, len(data) - size)))
    data[at : at + size] = rng.bytes(size) if rng.random() < 0.5 else bytes(size)
    return Damage("run of bytes", bytes(data[: len(source.data)]), [(at, at + size)])


def spoil_length(rng: np.random.Generator, source: Source) -> Damage:
    """A length of a box, or any four bytes, changed."""
    data = bytearray(source.data)
    boxes = boxes_of(source.data) or [(int(rng.integers(max(1, len(data) - 8))), 0)]
    at = boxes[int(rng.integers(len(boxes)))][0]
    value = [0, 1, 7, 2**31 - 1, 2**32 - 1, int(rng.integers(2**32))][int(rng.integers(6))]
    data[at : at + 4] = value.to_bytes(4, "big" if rng.random() < 0.7 else "little")
    return Damage("lengths", bytes(data))


def spoil_boxes(rng: np.random.Generator, source: Source) -> Damage:
    """A box, or any part, left out, doubled, or swapped with what follows."""
    data = source.data
    boxes = [b for b in boxes_of(data) if b[1] > b[0]]
    if boxes:
        a, b = boxes[int(rng.integers(len(boxes)))]
    else:
        a, b = sorted(int(v) for v in rng.integers(len(data), size=2))
    choice = int(rng.integers(3))
    middle = (b"", data[a:b] * 2, data[b : b + 4096] + data[a:b])[choice]
    return Damage("boxes", data[:a] + middle + data[b + (4096 if choice == 2 else 0) :])


def boxes_of(data: bytes) -> list[tuple[int, int]]:
    """Start and end of the boxes of MP4, or the chunks of RIFF, as deep as they go."""
    found = []
    inner = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf"}

    def walk(start: int, end: int) -> None:
        while start + 8 <= end:
            size = int.from_bytes(data[start : start + 4], "big")
            if size < 8 or start + size > end:
                return
            found.append((start, start + size))
            if data[start + 4 : start + 8] in inner:
                walk(start + 8, start + size)
            start += size

    if data[4:8] in (b"ftyp", b"wide"):
        walk(0, len(data))
    elif data[:4] == b"RIFF":
        at = 12
        while at + 8 <= len(data):
            size = int.from_bytes(data[at + 4 : at + 8], "little")
            found.append((at, min(len(data), at + 8 + size)))
            at += 8 + size + size % 2
    return found


def spoil_end(rng: np.random.Generator, source: Source) -> Damage:
    """Cut, or followed by noise or by itself."""
    data = source.data
    cut = data[: int(rng.integers(1, len(data)))]
    return Damage(
        "end",
        (cut, data + rng.bytes(int(rng.integers(1, 3000))), data + data)[int(rng.integers(3))],
    )


def spoil_packets(rng: np.random.Generator, source: Source) -> Damage:
    """Packets dropped, doubled, cut, spoilt or with other times, in a file that is whole."""
    times = rng.random() < 0.5
    target = Path(tempfile.gettempdir()) / f"again{source.path.suffix}"
    jumps = (1, -1, 7, -7, 1000, -1000, 10**6, 10**9, 2**33, -(2**33))
    with av.open(str(source.path)) as reader, av.open(str(target), "w") as writer:
        copies = {s.index: writer.add_stream_from_template(s) for s in reader.streams}
        packets = [p for p in reader.demux() if p.size]
        chosen = set(rng.integers(len(packets), size=int(rng.integers(1, 5))).tolist())
        for index, packet in enumerate(packets):
            again = av.Packet(bytes(packet))
            again.time_base, again.pts, again.dts = packet.time_base, packet.pts, packet.dts
            again.duration, again.is_keyframe = packet.duration, packet.is_keyframe
            copy = copies[packet.stream.index]
            amount = 1
            if index in chosen and times:
                jump = jumps[int(rng.integers(len(jumps)))]
                again.pts = None if again.pts is None else again.pts + jump
                again.dts = None if again.dts is None or rng.random() < 0.5 else again.dts + jump
            elif index in chosen:
                amount = (0, 2, 1, 1)[int(rng.integers(4))]
                payload = bytearray(bytes(packet))
                if amount == 1:
                    payload[int(rng.integers(len(payload)))] ^= 255
                    payload = payload[: int(rng.integers(1, len(payload) + 1))]
                fresh = av.Packet(bytes(payload))
                fresh.time_base, fresh.pts, fresh.dts = again.time_base, again.pts, again.dts
                fresh.duration, fresh.is_keyframe = again.duration, again.is_keyframe
                again = fresh
            for _ in range(amount):
                again.stream = copy
                writer.mux(again)
    data = target.read_bytes()
    target.unlink()
    return Damage("timestamps", data) if times else Damage("packets", data, packets=chosen)


SPOIL: list[Callable[[np.random.Generator, Source], Damage]] = [
    *[spoil_bytes, spoil_run, spoil_length, spoil_boxes, spoil_end, spoil_packets, spoil_packets],
]


def attempt(source: Source, seed: list[int], folder: Path) -> dict:
    """One try, in a child: the kind of damage and the outcome."""
    rng = np.random.default_rng(seed)
    try:
        damage = SPOIL[int(rng.integers(len(SPOIL)))](rng, source)
    except (ArithmeticError, OSError, ValueError):  # FFmpeg does not write that
        damage = spoil_bytes(rng, source)
    path = folder / f"try{source.path.suffix}"
    path.write_bytes(damage.data)
    told: dict = {"kind": damage.kind}
    try:
        told["outcome"] = judge(source, damage, path, seed[1] % 3 == 0)
    except MemoryError:
        told["outcome"] = "MEMORY"
    except Exception:
        told["outcome"], told["error"] = "TRACEBACK", traceback.format_exc()
    return told


def in_children(work: Callable[[int], dict], numbers: Sequence[int]) -> Iterator[dict]:
    """What `work` says of each number, from processes that may die, each of at most BATCH tries."""
    numbers = list(numbers)
    while numbers:
        child, answers = _forked(work, numbers[:BATCH])
        with os.fdopen(answers, "rb", buffering=0) as stream:
            for number in numbers[:BATCH]:
                ready, _, _ = select.select([stream], [], [], CLOCK_S)
                line = stream.readline() if ready else b""
                numbers.remove(number)
                if line.endswith(b"\n"):
                    yield json.loads(line)
                    continue
                if not ready:
                    os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                died_of = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
                hung = died_of in (signal.SIGXCPU, signal.SIGKILL)
                yield {
                    "kind": "?",
                    "outcome": "HANG" if hung else "CRASH",
                    "error": f"signal {died_of}",
                }
                break
            else:
                os.waitpid(child, 0)


def _forked(work: Callable[[int], dict], numbers: list[int]) -> tuple[int, int]:
    """A child that writes what `work` says, a line a number: its process, where to read."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    try:
        os.close(reader)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        for number in numbers:
            spent = int(time.process_time()) + PROCESSOR_S
            resource.setrlimit(resource.RLIMIT_CPU, (spent, resource.RLIM_INFINITY))
            os.write(writer, json.dumps(work(number)).encode() + b"\n")
    finally:
        os._exit(0)


def sources(folder: Path, real: list[Path]) -> list[Source]:
    """Everything that is to be damaged, read once while it is whole."""
    found = []
    for suffix, video, audio in MADE:
        source = make(folder, suffix, video, audio)
        source.seen = look(source.path, True)
        wanted = [5] if suffix in STILLS else list(range(COUNT))
        if video and suffix != "gif":
            assert source.seen["frames"] == wanted, (source.path, source.seen)
        assert len(unlike(source.seen.get("sound", wanted), wanted, 1)) <= (3 if audio else COUNT)
        found.append(source)
    files = [p for path in real for p in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    for path in files:
        if path.is_file() and path.stat().st_size < 4_000_000:
            try:
                found.append(Source(path, path.read_bytes(), False, look(path, False)))
            except (MediaError, ValueError):
                continue  # not one that is read
    return found


def main() -> int:
    """Damage, read and count; a fault can be made again by its number (--first N --tries 1)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="real files, or folders of them")
    parser.add_argument("--tries", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first try")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    av.logging.set_level(None)
    counts: Counter[tuple[str, str]] = Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        tempfile.tempdir = name
        whole = sources(folder, args.files)
        real = [source for source in whole if not source.has_numbers]
        made = [source for source in whole if source.has_numbers]
        print(f"{len(made)} files made, {len(real)} real", flush=True)
        numbers = range(args.first, args.first + args.tries)

        def source_of(number: int) -> Source:
            if real and number % 10 == 0:
                return real[number // 10 % len(real)]
            return made[number % len(made)]

        tries = in_children(lambda n: attempt(source_of(n), [args.seed, n], folder), numbers)
        for number, told in zip(numbers, tries, strict=True):
            counts[told["kind"], told["outcome"]] += 1
            if told["outcome"].isupper():
                name = source_of(number).path.name
                print(
                    number, name, told["kind"], told["outcome"], told.get("error", ""), flush=True
                )
            if number % 500 == 499:
                print(f"{number + 1} after {time.monotonic() - began:.0f} s", flush=True)
    commit = subprocess.check_output(["git", "log", "-1", "--format=%h"], text=True).strip()
    print(f"seed {args.seed}, commit {commit}, {time.monotonic() - began:.0f} s")
    outcomes = sorted({outcome for _, outcome in counts}, key=lambda o: (o.isupper(), o))
    print("| damage | " + " | ".join(outcomes) + " |\n|---|" + "---|" * len(outcomes))
    for kind in sorted({kind for kind, _ in counts}):
        print(f"| {kind} | " + " | ".join(str(counts[kind, o]) for o in outcomes) + " |")
    totals = [sum(n for (_, o), n in counts.items() if o == outcome) for outcome in outcomes]
    print("| all | " + " | ".join(map(str, totals)) + " |")
    return int(any(outcome.isupper() for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
