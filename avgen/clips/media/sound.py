"""A file in, its sound from a given instant on out, in blocks: placed by timestamp, gaps silent.

Sample n of the result is what is heard n / sample_rate after that instant. Sound that begins late
is preceded by silence, what is heard before is cut, and so is what an encoder padded at the end.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer

from avgen.clips.clip import MediaError
from avgen.clips.media.container import (
    decode_packet,
    heed_checksums,
    media_errors,
    open_media,
    tick_s,
)
from avgen.clips.media.formats import CHANNEL_LAYOUTS
from avgen.clips.media.packets import StreamTimes
from avgen.clips.timebase import to_index
from avgen.clips.transforms import remix

# Blocks whose timestamps say less than this of a gap or an overlap are joined as they are: clocks
# of 1 ms (Matroska) and rounded packet times say that much of nothing. Half of the 10 ms we keep.
_JITTER_S = Fraction(1, 200)

# Decoding begins this much earlier than wanted, and resampling with it: a decoder needs a frame or
# two to be right (AAC overlap, Opus 80 ms), a resampler its filter. Whole seconds are whole samples
# at any rate, so that the grid does not move.
_PREROLL_S = 1

# A gap is filled in pieces of at most this many samples, so that a long one needs no memory.
_SILENCE_BLOCK = 1 << 16


@dataclass(frozen=True)
class _Block:
    """Decoded samples, float32 [C, n], and when the first of them is heard."""

    samples: np.ndarray
    rate: int
    at_s: Fraction


def sound_from(
    path: Path,
    times: StreamTimes,
    start_s: Fraction,
    sample_rate: int | None,
    num_channels: int | None,
) -> tuple[int, Iterator[np.ndarray]]:
    """The sound from `start_s` of the container's clock to its end.

    Args:
        path: of the file.
        times: of its stream of sound.
        start_s: the instant of sample 0.
        sample_rate: Hz of the result, or None for the file's own.
        num_channels: of the result, or None for the file's own.

    Returns:
        The sample rate, and blocks, float32 [C, n] in [-1, 1], each following the one before.

    Raises:
        MediaError: the sound cannot be decoded, or changes its rate or its channels on the way.
    """
    decoded = _decoded_from(path, times, start_s)
    first = next(decoded, None)
    if first is None:
        raise MediaError(f"{path}: its stream of sound has no sound")
    if first.samples.shape[0] > len(CHANNEL_LAYOUTS):
        raise MediaError(
            f"{path}: {first.samples.shape[0]} channels; at most {len(CHANNEL_LAYOUTS)} are read"
        )
    placed = _placed(chain([first], decoded), path, times, start_s)
    mixed = placed if num_channels is None else _remixed(placed, path, num_channels)
    rate = sample_rate or first.rate
    blocks = _resampled(mixed, first.rate, rate)
    return rate, _without_preroll(blocks, _PREROLL_S * rate)


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
    with open_media(path) as container:
        stream = container.streams[times.index]
        assert isinstance(stream, av.AudioStream)
        heed_checksums(stream)
        wanted_s = min(start_s - _PREROLL_S, times.last_s)
        if wanted_s > times.first_s:
            with media_errors(path, "cannot seek"):
                container.seek(int(wanted_s / tick_s(stream)), stream=stream)
            blocks = _decode(container, stream, path, times, after_seek=True)
            first = next(blocks, None)
            if first is not None and first.at_s <= wanted_s:
                yield first
                yield from blocks
                return
            # No index, and the seek went too far (MPEG program streams do this).
            with media_errors(path, "cannot seek"):
                container.seek(int(times.first_s / tick_s(stream)), stream=stream)
        yield from _decode(container, stream, path, times)


def _decode(
    container: InputContainer,
    stream: av.AudioStream,
    path: Path,
    times: StreamTimes,
    *,
    after_seek: bool = False,
) -> Iterator[_Block]:
    """Every block, in order; after a seek from the first one that is whole."""
    shape: tuple[int, int] | None = None  # channels, rate
    where = times.first_s
    packets = container.demux(stream)
    while True:
        so_far = f"the sound decodes to {float(where - times.first_s):.2f} s and no further"
        with media_errors(path, so_far):
            packet = next(packets, None)
            frames = [] if packet is None else decode_packet(packet, shape is None and after_seek)
        if packet is None:
            return
        for frame in frames:
            if frame.pts is None:
                raise MediaError(f"{path}: sound at about {float(where):.2f} s has no timestamp")
            samples = _to_float(frame)
            if np.isnan(samples).any():
                raise MediaError(
                    f"{path}: sound at about {float(where):.2f} s has samples that are no numbers"
                )
            where = frame.pts * tick_s(frame)
            if shape is not None and shape != (samples.shape[0], frame.sample_rate):
                raise MediaError(
                    f"{path}: its sound changes to {samples.shape[0]} channels at "
                    f"{frame.sample_rate} Hz after {float(where):.2f} s; one format is needed"
                )
            shape = samples.shape[0], frame.sample_rate
            yield _Block(samples, frame.sample_rate, where)


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
        if position is None or abs(by_time - position) > _JITTER_S * block.rate:
            position = by_time
        samples = block.samples[:, max(0, written - position) : max(0, end - position)]
        position += block.samples.shape[1]
        if samples.shape[1] == 0:
            continue
        silence = position - block.samples.shape[1] - written
        while silence > 0:
            piece = min(silence, _SILENCE_BLOCK)
            yield np.zeros((samples.shape[0], piece), dtype=np.float32)
            written, silence = written + piece, silence - piece
        yield samples
        written += samples.shape[1]
    # By where the last packet begins: where it ends, a coarse clock does not know.
    if (
        position is not None
        and position < to_index(times.last_s - start_s, block.rate) - _JITTER_S * block.rate
    ):
        raise MediaError(
            f"{path}: the sound decodes to {float(start_s + Fraction(position, block.rate)):.2f} s "
            f"only, of {float(times.end_s):.2f} s; the file is damaged"
        )


def _remixed(blocks: Iterator[np.ndarray], path: Path, num_channels: int) -> Iterator[np.ndarray]:
    for block in blocks:
        try:
            yield remix(block, num_channels)
        except ValueError as error:
            raise MediaError(f"{path}: {error}") from error


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
