"""Timestamps of frames in, the constant rate that they keep, or that holds them best, out."""

from fractions import Fraction

import numpy as np

# Frames that stay longer than the first are seen to come late; a rate that holds each of them
# exactly is taken where it is no faster than 1 / the second.
_SEEN_S, _SHORTEST_S = Fraction(1, 10), Fraction(1, 25)

# What a variable rate is rounded to where its clock is too coarse to say exactly (Matroska: 1 ms).
_COMMON_RATES = (
    *(Fraction(rate) for rate in (10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 100, 120)),
    *(Fraction(rate * 1000, 1001) for rate in (24, 30, 48, 60, 120)),
)


def keeps_rate(pts: np.ndarray, tick: Fraction, rate: Fraction) -> bool:
    """Whether frame i is at i / rate, as nearly as the clock's ticks can say.

    Where a tick is a whole frame (AVI), a tick off is a frame missing.
    """
    interval = float(1 / (rate * tick))  # in ticks
    off = np.abs((pts - pts[0]) - np.arange(len(pts)) * interval)
    return bool(off.max() <= min(1.0, interval / 4))


def usual_rate(pts: np.ndarray, tick: Fraction) -> Fraction:
    """Frames per second at the usual interval: a rate that people use where the clock allows it."""
    intervals = np.diff(pts)
    usual = intervals[intervals <= 1.5 * np.median(intervals)]
    interval_s = Fraction(float(usual.mean())).limit_denominator(1000) * tick
    every_s = int(np.gcd.reduce(intervals)) * tick
    if interval_s > _SEEN_S and every_s >= _SHORTEST_S:
        return 1 / every_s  # at which each is shown exactly as long as it says
    near = [rate for rate in _COMMON_RATES if abs(1 / rate - interval_s) <= tick / 2]
    if near:
        return min(near, key=lambda rate: abs(1 / rate - interval_s))
    return (1 / interval_s).limit_denominator(1001)
