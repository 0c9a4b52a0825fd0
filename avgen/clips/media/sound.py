"""A file in, its sound from a given instant on out, in blocks: placed by timestamp, gaps silent.

Sample n of the result is what is heard n / sample_rate after that instant. Sound that begins late
is preceded by silence, what is heard before is cut, and so is what an encoder padded at the end.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer

from avgen.clips.files import MediaError
from avgen.clips.media.container import (
    decode_packet,
    heed_checksums,
    media_errors,
    open_media,
    tick_s,
)
from avgen.clips.media.formats import CHANNEL_LAYOUTS
from avgen.clips.media.packets import UNDECODABLE_S, StreamTimes
from avgen.clips.timebase import to_index
from avgen.clips.transforms import fold, is_out_of_phase, remix
from avgen.errors import UserError

# Blocks whose timestamps say less than this of a gap or an overlap are joined as they are: clocks
# of 1 ms (Matroska) and rounded packet times say that much of nothing. Half of the 10 ms we keep.
_JITTER_S = Fraction(1, 200)

# How much of a block may be said to be heard at the same time as the one before: it is cut.
_LONGEST_OVERLAP_S = Fraction(1, 20)

# Decoding begins this much earlier than wanted, and resampling with it: a decoder needs a frame or
# two to be right (AAC overlap, Opus 80 ms), a resampler its filter. Whole seconds are whole samples
# at any rate, so that the grid does not move.
_PREROLL_S = 1

# A gap is filled in pieces of at most this many samples, so that a long one needs no memory.
_SILENCE_BLOCK = 1 << 16


# How much of a sound is listened to, to find out whether left and right are out of phase.
_LISTENED_S = 60


@dataclass(frozen=True)
class _Block:
    """Decoded samples, float32 [C, n], when the first of them is heard, and the channels' names."""

    samples: np.ndarray
    rate: int
    at_s: Fraction
    channels: tuple[str, ...]


def sound_from(
    path: Path,
    times: StreamTimes,
    start_s: Fraction,
    sample_rate: int | None,
    num_channels: int | None,
) -> tuple[int, int, Iterator[np.ndarray]]:
    """The sound from `start_s` of the container's clock to its end.

    Args:
        path: of the file.
        times: of its stream of sound.
        start_s: the instant of sample 0.
        sample_rate: Hz of the result, or None for the file's own.
        num_channels: of the result, or None for the file's own.

    Returns:
        The sample rate, the number of channels, and blocks, float32 [C, n] in [-1, 1], each
        following the one before.

    Raises:
        MediaError: the sound cannot be decoded, changes its rate or its channels on the way, or has
            times that run backwards anywhere: what belongs into this part may come after it.
    """
    if times.back_s > _LONGEST_OVERLAP_S:
        raise MediaError(f"{path}: timestamps of the sound run backwards")
    decoded = _decoded_from(path, times, start_s)
    first = next(decoded, None)
    if first is None:
        raise MediaError(f"{path}: its stream of sound has no sound")
    placed = _placed(chain([first], decoded), path, times, start_s)
    mixed = placed
    if num_channels not in (None, len(first.channels)):
        mixed = _remixed(placed, path, times, first.channels, num_channels)
    rate = sample_rate or first.rate
    blocks = _resampled(mixed, first.rate, rate)
    return rate, num_channels or len(first.channels), _without_preroll(blocks, _PREROLL_S * rate)


def first_sample_s(path: Path, times: StreamTimes) -> Fraction:
    """When the first sample is heard, by the container's clock: after what the encoder put before.

    Raises:
        MediaError: the sound cannot be decoded.
    """
    block = next(_decoded_from(path, times, times.first_s), None)
    if block is None:
        raise MediaError(f"{path}: its stream of sound has no sound")
    return block.at_s


def _decoded_from(path: Path, times: StreamTimes, start_s: Fraction) -> Iterator[_Block]:
    """Blocks as the decoder gives them, from the preroll before `start_s` if there is as much."""
    wanted_s = min(start_s - _PREROLL_S, times.last_s)
    if times.is_seekable and wanted_s > times.first_s:
        with open_media(path) as container:
            stream = container.streams[times.index]
            with media_errors(path, "cannot seek"):
                container.seek(int(wanted_s / tick_s(stream)), stream=stream)
            blocks = _decode(container, path, times, after_seek=True)
            first = next(blocks, None)
            if first is not None and first.at_s <= wanted_s:
                yield first
                yield from blocks
                return
    # Or there is no index, and the seek went too far.
    with open_media(path) as container:
        yield from _decode(container, path, times)


def _decode(
    container: InputContainer, path: Path, times: StreamTimes, *, after_seek: bool = False
) -> Iterator[_Block]:
    """Every block, in order; after a seek from the first one that is whole."""
    stream = container.streams[times.index]
    heed_checksums(stream)
    shape: tuple[int, tuple[str, ...]] | None = None  # rate, channels
    where = times.first_s
    lost = Fraction(0)
    packer = av.AudioResampler(format=stream.codec_context.format.packed)  # pyright: ignore
    packets = container.demux(stream)
    while True:
        so_far = f"the sound decodes to {float(where - times.first_s):.2f} s and no further"
        try:
            with media_errors(path, so_far):
                packet = next(packets, None)
                frames = [] if packet is None else decode_packet(packet, after_seek and not shape)
        except MediaError:
            lost += (packet.duration or 0) * tick_s(stream) if packet else 0
            if times.is_stated or packet is None or lost > UNDECODABLE_S:
                raise
            continue
        if packet is None:
            break
        for frame in frames:
            where = where if frame.pts is None else frame.pts * tick_s(frame)
            block = _block(frame, where, path, packer)
            if shape not in (None, (block.rate, block.channels)):
                raise MediaError(
                    f"{path}: its sound changes to {len(block.channels)} channels at "
                    f"{block.rate} Hz after {float(where):.2f} s; one format is needed"
                )
            shape = block.rate, block.channels
            yield block
            where += Fraction(block.samples.shape[1], block.rate)
    if lost:
        warnings.warn(f"{path}: {float(lost):.3f} s of its sound cannot be decoded", stacklevel=2)


def _block(frame: AudioFrame, at_s: Fraction, path: Path, packer: av.AudioResampler) -> _Block:
    """The samples of a frame, and where they are heard.

    Args:
        frame: decoded.
        at_s: where its first sample is heard.
        path: of the file, for messages.
        packer: interleaves channels. PyAV 18 dies of eight planes: it looks for a ninth.

    Raises:
        MediaError: too many channels, or samples that are NaN.
    """
    channels = tuple(channel.name for channel in frame.layout.channels)
    if len(channels) > len(CHANNEL_LAYOUTS):
        raise MediaError(
            f"{path}: {len(channels)} channels; at most {len(CHANNEL_LAYOUTS)} are read"
        )
    if frame.format.is_planar and len(channels) == len(CHANNEL_LAYOUTS):
        try:
            (frame,) = packer.resample(frame)
        except ValueError as error:  # PyAV's: another format than the one before
            raise MediaError(f"{path}: its sound changes at {float(at_s):.2f} s") from error
    samples = _to_float(frame)
    if np.isnan(samples).any():
        raise MediaError(
            f"{path}: sound at about {float(at_s):.2f} s has samples that are no numbers"
        )
    return _Block(samples, frame.sample_rate, at_s, channels)


def _to_float(frame: AudioFrame) -> np.ndarray:
    """The samples as float32 [C, n]; integers become [-1, 1)."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if np.issubdtype(samples.dtype, np.integer):
        return (samples / 2.0 ** (8 * samples.dtype.itemsize - 1)).astype(np.float32)
    return samples.astype(np.float32)


def _placed(
    blocks: Iterator[_Block], path: Path, times: StreamTimes, start_s: Fraction
) -> Iterator[np.ndarray]:
    """The samples at their places, from the preroll before `start_s` on: one unbroken line."""
    position = None  # where the next block belongs by the samples before it, counted from start_s
    written = end = 0
    for block in blocks:
        by_time = to_index(block.at_s - start_s, block.rate)
        if position is None:
            written = -_PREROLL_S * block.rate
            end = to_index(times.end_s - start_s, block.rate)
        if position is not None and position - by_time > _LONGEST_OVERLAP_S * block.rate:
            raise MediaError(f"{path}: timestamps of the sound run backwards")
        if position is None or abs(by_time - position) > _JITTER_S * block.rate:
            position = by_time
        samples = block.samples[:, max(0, written - position) : max(0, end - position)]
        position += block.samples.shape[1]
        if samples.shape[1] == 0:
            continue
        silence = position - block.samples.shape[1] - written
        if times.is_gapless and silence > _JITTER_S * block.rate and block.at_s > times.first_s:
            raise MediaError(
                f"{path}: {float(Fraction(silence, block.rate)):.3f} s of its sound are missing "
                f"before {float(block.at_s):.3f} s; the file is damaged"
            )
        while silence > 0:
            piece = min(silence, _SILENCE_BLOCK)
            yield np.zeros((samples.shape[0], piece), dtype=np.float32)
            written, silence = written + piece, silence - piece
        yield samples
        written += samples.shape[1]
    # By where the last packet begins: where it ends, a coarse clock does not know.
    slack_s = _JITTER_S if times.is_stated else UNDECODABLE_S
    if (
        position is not None
        and position < to_index(times.last_s - start_s, block.rate) - slack_s * block.rate
    ):
        raise MediaError(
            f"{path}: the sound decodes to {float(start_s + Fraction(position, block.rate)):.2f} s "
            f"only, of {float(times.end_s):.2f} s; the file is damaged"
        )


def _remixed(
    blocks: Iterator[np.ndarray],
    path: Path,
    times: StreamTimes,
    channels: tuple[str, ...],
    num_channels: int,
) -> Iterator[np.ndarray]:
    """The same sound in another number of channels, by the names of those that it has."""
    state = path.stat()
    opposed = num_channels == 1 and _is_out_of_phase(path, times, state.st_mtime_ns, state.st_size)
    if opposed:
        warnings.warn(f"{path}: left and right are out of phase; one is inverted", stacklevel=2)
    for block in blocks:
        try:
            yield remix(block, num_channels, channels, out_of_phase=opposed)
        except UserError as error:
            raise MediaError(f"{path}: {error}") from error


@lru_cache(maxsize=512)
def _is_out_of_phase(path: Path, times: StreamTimes, _mtime_ns: int, _size: int) -> bool:
    """Whether left and right cancel each other, by the file's beginning, whatever part is read."""
    heard = []
    for block in _decoded_from(path, times, times.first_s):
        if block.at_s > times.first_s + _LISTENED_S:
            break
        heard.append(fold(block.samples, block.channels))
    return bool(heard) and is_out_of_phase(np.concatenate(heard, axis=1))


def _resampled(
    blocks: Iterator[np.ndarray], source_rate: int, sample_rate: int
) -> Iterator[np.ndarray]:
    """The same sound at another rate; sample 0 stays sample 0."""
    if source_rate == sample_rate:
        yield from (np.clip(block, -1, 1) for block in blocks)
        return
    resampler = None
    for block in blocks:
        layout = CHANNEL_LAYOUTS[block.shape[0] - 1]
        if resampler is None:
            resampler = av.AudioResampler(format="fltp", layout=layout, rate=sample_rate)
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=layout)
        frame.sample_rate = source_rate
        yield from (np.clip(part.to_ndarray(), -1, 1) for part in resampler.resample(frame))
    if resampler is not None:
        yield from (np.clip(part.to_ndarray(), -1, 1) for part in resampler.resample(None))


def _without_preroll(blocks: Iterator[np.ndarray], preroll: int) -> Iterator[np.ndarray]:
    for block in blocks:
        dropped = min(preroll, block.shape[1])
        preroll -= dropped
        if dropped < block.shape[1]:
            yield block[:, dropped:]
