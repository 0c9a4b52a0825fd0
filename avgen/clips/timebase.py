"""Seconds to indices and back, in Fractions, with one rounding rule: nearest, halves up.

Nothing else in avgen turns seconds into an index. Rounding half up (never to even) makes the grid
shift-invariant: an offset of a whole number of steps never changes which way a time is rounded.
"""

import math
from fractions import Fraction

from avgen.errors import UserError

Seconds = int | float | Fraction

# A float is taken for the simplest fraction very near it: 0.04 is 1/25, and 1 / 30 is 1/30. What
# lies between is off by at most a picosecond.
_MAX_DENOMINATOR = 1_000_000

# The NTSC rates as people write them, which are no decimal fractions (SMPTE 170M: 30 / 1.001).
_NTSC_RATES = {
    "23.976": Fraction(24000, 1001),
    "23.98": Fraction(24000, 1001),
    "29.97": Fraction(30000, 1001),
    "47.95": Fraction(48000, 1001),
    "59.94": Fraction(60000, 1001),
    "119.88": Fraction(120000, 1001),
}


def exact(seconds: Seconds) -> Fraction:
    """The time as a Fraction; a float becomes the simplest fraction it can stand for.

    Raises:
        UserError: not a finite number.
    """
    if isinstance(seconds, float):
        if not math.isfinite(seconds):
            raise UserError(f"a time of {seconds} s; it must be finite")
        return Fraction(seconds).limit_denominator(_MAX_DENOMINATOR)
    return Fraction(seconds)


def to_index(seconds: Seconds, rate: int | Fraction) -> int:
    """The index of the step nearest to `seconds` on a grid of `rate` steps a second, halves up."""
    return math.floor(exact(seconds) * rate + Fraction(1, 2))


def to_seconds(index: int, rate: int | Fraction) -> Fraction:
    """When step `index` of a grid of `rate` steps a second begins, in seconds, exactly."""
    return Fraction(index) / rate


def parse_rate(text: str) -> Fraction:
    """A rate per second from text: "25", "30000/1001", or "29.97" for the 30000/1001 it means.

    Raises:
        UserError: not a positive number.
    """
    text = text.strip()
    try:
        rate = _NTSC_RATES[text] if text in _NTSC_RATES else Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"rate {text!r}; it must be a number such as 25 or 30000/1001") from error
    if rate <= 0:
        raise UserError(f"rate {text!r}; it must be positive")
    return rate


def num_samples(num_frames: int, fps: int | Fraction, sample_rate: int) -> int:
    """How many audio samples cover `num_frames` of picture.

    It is also the index of the first sample of frame `num_frames`, so that the sound of frames
    [a, b) is samples [num_samples(a), num_samples(b)) and consecutive stretches tile.
    """
    return to_index(to_seconds(num_frames, fps), sample_rate)


def frame_times(start_s: Seconds, num_frames: int, fps: int | Fraction) -> list[Fraction]:
    """When each of `num_frames` frames is shown, in seconds, the first of them at `start_s`."""
    return [exact(start_s) + to_seconds(index, fps) for index in range(num_frames)]
