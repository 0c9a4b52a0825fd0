"""Media made for the tests: frames that carry their own number, sound that carries its own time."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

BITS = 10
HEIGHT, WIDTH = 32, 16 * BITS


def draw_numbers(numbers: Sequence[int]) -> np.ndarray:
    """Frames [T, 32, 160, 3] whose ten bars are the bits of their numbers, white for 1."""
    frames = np.full((len(numbers), HEIGHT, WIDTH, 3), 16, dtype=np.uint8)
    for frame, number in zip(frames, numbers, strict=True):
        for bit in range(BITS):
            if number >> bit & 1:
                frame[:, bit * 16 : (bit + 1) * 16] = 235
    return frames


def read_numbers(frames: np.ndarray) -> list[int]:
    """The numbers that `draw_numbers` drew, however lossy the way here."""
    bars = np.linspace(0, frames.shape[2], BITS, endpoint=False) + frames.shape[2] / BITS / 2
    light = frames[:, frames.shape[1] // 2, bars.astype(int), 1] > 125
    return [int(sum(int(on) << bit for bit, on in enumerate(row))) for row in light]


def ramp(num_samples: int) -> np.ndarray:
    """Sound [1, N] that says which sample it is: (i + 1) / 2**20, exact in 24 bits."""
    return ((np.arange(num_samples) + 1) / 2**20).astype(np.float32)[None]


def ramp_index(samples: np.ndarray) -> np.ndarray:
    """Which samples of `ramp` these are; -1 for silence."""
    return np.rint(samples * 2**20).astype(int) - 1


def mux(
    path: Path,
    *,
    frames: np.ndarray | None = None,
    pts: Sequence[int] | None = None,
    tick: Fraction = Fraction(1, 25),
    video: str = "libx264",
    pixel_format: str = "yuv420p",
    gop: int = 12,
    setup: Callable[[av.VideoStream], None] | None = None,
    setup_sound: Callable[[av.AudioStream], None] | None = None,
    waveform: np.ndarray | None = None,
    sample_rate: int = 48_000,
    audio: str = "flac",
    audio_start_s: Fraction = Fraction(0),
    layout: str = "mono",
) -> Path:
    """A file made with PyAV alone, at the timestamps and with the codecs that a test wants."""
    with av.open(str(path), "w") as container:
        picture = sound = None
        if frames is not None:
            picture = container.add_stream(video, rate=1 / tick)
            picture.height, picture.width = frames.shape[1:3]
            picture.pix_fmt = pixel_format
            picture.codec_context.time_base = tick
            picture.codec_context.gop_size = gop
            picture.codec_context.thread_count = 1
            if video == "libx264":
                picture.codec_context.options = {"preset": "ultrafast", "bf": "2"}
            if setup is not None:
                setup(picture)
        if waveform is not None:
            sound = container.add_stream(audio, rate=sample_rate)
            sound.layout = layout
            sound.codec_context.time_base = Fraction(1, sample_rate)
            if audio == "flac":
                sound.format = "s32"
            if setup_sound is not None:
                setup_sound(sound)
        if frames is not None:
            for index, pixels in zip(pts or range(len(frames)), frames, strict=True):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                frame.pts, frame.time_base = index, tick
                container.mux(picture.encode(frame))
        if waveform is not None:
            packed = np.ascontiguousarray(waveform.T.reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
            frame.sample_rate, frame.time_base = sample_rate, Fraction(1, sample_rate)
            frame.pts = int(audio_start_s * sample_rate)
            resampler = av.AudioResampler(format=sound.format, layout=layout, rate=sample_rate)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(sound.encode(part))
        for stream in container.streams:
            container.mux(stream.encode(None))
    return path


class Media:
    """What the tests use of this file."""

    draw_numbers = staticmethod(draw_numbers)
    read_numbers = staticmethod(read_numbers)
    ramp = staticmethod(ramp)
    ramp_index = staticmethod(ramp_index)
    mux = staticmethod(mux)


@pytest.fixture(scope="session")
def media() -> type[Media]:
    """Makers and readers of test media."""
    return Media
