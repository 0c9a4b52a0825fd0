"""Features of a picture and of a sound -> how well they agree at each lag, and which lag is right.

Both are [T, D], one row a frame; dimension d of one is meant to follow dimension d of the other.

The sign, here and everywhere: a lag or an offset above 0 means that **the sound comes before the
picture** (sound[t] belongs to picture[t + lag]); delaying the sound by it puts them in sync. It is
SyncNet's own sign (Chung & Zisserman 2016, "Out of time", as its released code computes it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from avgen.errors import UserError
from avgen.evaluation.subject import Unscored

MAX_LAG = 15  # frames each way, as SyncNet searches
BLOCK_FRAMES = 10  # length of the stretches that the bootstrap draws: 0.4 s, about a word
NUM_RESAMPLINGS = 500
LEVEL = 0.95  # of the interval
MIN_OVERLAP = 10  # frames; correlations of fewer are noise
FLAT = 1e-6  # a feature whose spread is less does not move


@dataclass(frozen=True)
class Offset:
    """Where the sound lies against the picture.

    Attributes:
        frames: Above 0 where the sound comes first; a fraction of a frame is meant.
        interval: Ends of its interval, in frames, at LEVEL.
        confidence: Share of the resamplings whose best lag is within one frame of `frames`.
    """

    frames: float
    interval: tuple[float, float]
    confidence: float


def products(picture: np.ndarray, sound: np.ndarray, max_lag: int = MAX_LAG) -> np.ndarray:
    """What each frame adds to the correlation at each lag: [2 * max_lag + 1, T].

    Row max_lag + k holds, at picture frame t, the mean over features of the product of picture[t]
    and sound[t - k], both standardised over the frames that overlap at that lag, over the number of
    such frames: the row sums to the mean over features of Pearson's correlation. Frames outside the
    overlap are 0; a constant feature correlates 0.

    Raises:
        Unscored: fewer than MIN_OVERLAP frames overlap at the largest lag.
        UserError: shapes that differ.
    """
    if picture.shape != sound.shape or picture.ndim != 2:
        raise UserError(
            f"picture {list(picture.shape)} and sound {list(sound.shape)}; both must be [T, D]"
        )
    length = len(picture)
    if length - max_lag < MIN_OVERLAP:
        raise Unscored(
            f"{length} frames are too few for lags of up to {max_lag} frames: "
            f"at least {max_lag + MIN_OVERLAP} are needed"
        )
    rows = np.zeros((2 * max_lag + 1, length))
    for lag in range(-max_lag, max_lag + 1):
        count = length - abs(lag)
        first = max(0, lag)
        one = standardized(picture[first : first + count])
        other = standardized(sound[first - lag : first - lag + count])
        rows[max_lag + lag, first : first + count] = (one * other).mean(1) / count
    return rows


def standardized(features: np.ndarray) -> np.ndarray:
    """Features [T, D] with mean 0 and variance 1 over time; 0 where one stands still."""
    centred = features.astype(np.float64) - features.mean(0)
    spread = centred.std(0)
    return np.where(spread > FLAT, centred / np.maximum(spread, FLAT), 0.0)


def correlation_curve(picture: np.ndarray, sound: np.ndarray, max_lag: int = MAX_LAG) -> np.ndarray:
    """Mean correlation of picture[t + lag] with sound[t], lags -max_lag to max_lag: [2 m + 1]."""
    return products(picture, sound, max_lag).sum(1)


def correlation_curves(
    picture: np.ndarray, sounds: np.ndarray, max_lag: int = MAX_LAG
) -> np.ndarray:
    """`correlation_curve` of one picture with many sounds, [B, T, D] -> [B, 2 m + 1], at once.

    The same numbers by sums of products, means and squares; a feature counts as standing still
    where it varies by less than a millionth of what it does in the clip.
    """
    picture = picture.astype(np.float64) - picture.mean(0)
    sounds = sounds.astype(np.float64) - sounds.mean(1, keepdims=True)
    curves = np.zeros((len(sounds), 2 * max_lag + 1))
    for lag in range(-max_lag, max_lag + 1):
        count, first = len(picture) - abs(lag), max(0, lag)
        one = picture[first : first + count]
        others = sounds[:, first - lag : first - lag + count]
        one_mean, other_means = one.mean(0), others.mean(1)
        joint = np.einsum("td,btd->bd", one, others) / count - one_mean * other_means
        one_spread = np.sqrt((np.square(one).mean(0) - one_mean**2).clip(0))
        squares = np.einsum("btd,btd->bd", others, others) / count
        other_spreads = np.sqrt((squares - other_means**2).clip(0))
        moves = (one_spread > 1e-6 * picture.std(0)) & (other_spreads > 1e-6 * sounds.std(1))
        moves &= (one_spread > FLAT) & (other_spreads > FLAT)
        spread = np.where(moves, one_spread * other_spreads, 1.0)
        curves[:, max_lag + lag] = np.where(moves, joint / spread, 0.0).mean(1)
    return curves


def best_lag(curve: np.ndarray, num_frames: int) -> float:
    """The lag in frames, above 0 where the sound comes first, at which the two agree best.

    Correlations over n frames of things unrelated spread by 1 / sqrt(n), so a lag of short overlap
    has more chances; each is weighed by sqrt(n / T), which spreads them alike. A parabola through
    the best lag and its neighbours gives the fraction.
    """
    max_lag = len(curve) // 2
    return float(_peaks(curve[None] * _overlap_weight(max_lag, num_frames))[0]) - max_lag


def offset(picture: np.ndarray, sound: np.ndarray, max_lag: int = MAX_LAG, seed: int = 0) -> Offset:
    """The offset of sound [T, D] against picture [T, D], with an interval.

    The interval is a percentile interval of a moving-block bootstrap over the clip's frames
    (Kuensch 1989): stretches of BLOCK_FRAMES frames are drawn with replacement, and the best lag is
    found again in each of NUM_RESAMPLINGS drawings.

    Raises:
        Unscored: too few frames (`products`), or a picture or a sound that never changes.
    """
    rows = products(picture, sound, max_lag)
    if not np.any(rows):
        raise Unscored("the mouth or the sound never changes: there is no lag to find")
    length = len(picture)
    weight = _overlap_weight(max_lag, length)
    best = best_lag(rows.sum(1), length)
    generator = np.random.default_rng(seed)
    counts = _block_counts(length, generator)
    overlap = counts @ (rows != 0).T / np.count_nonzero(rows, axis=1).clip(1)
    again = _peaks(counts @ rows.T / np.maximum(overlap, 0.25) * weight) - max_lag
    low, high = np.quantile(again, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    within = float(np.mean(np.abs(again - best) <= 1))
    return Offset(best, (min(float(low), best), max(float(high), best)), within)


def z_score(value: float, mismatched: Sequence[float] | np.ndarray) -> float:
    """How many standard deviations `value` lies above what unrelated sounds score.

    Raises:
        Unscored: fewer than three mismatched values, or values that are all the same.
    """
    values = np.asarray(mismatched, dtype=np.float64)
    if len(values) < 3:
        raise Unscored(f"{len(values)} mismatched sounds; at least 3 are needed for a z-score")
    spread = values.std(ddof=1)
    if spread <= FLAT:
        raise Unscored("every mismatched sound scores the same: there is no spread to compare with")
    return float((value - values.mean()) / spread)


def sentence(found: Offset, fps: Fraction) -> str:
    """An offset in words, in ms: "the sound leads the picture by 38 ms [21, 52]"."""
    ms = milliseconds(found.frames, fps)
    low, high = (milliseconds(end, fps) for end in found.interval)
    if abs(ms) < 1:
        return f"sound and picture are in sync [{low:+.0f}, {high:+.0f} ms]"
    if ms < 0:
        low, high = -high, -low
    verb = "leads" if ms > 0 else "trails"
    return f"the sound {verb} the picture by {abs(ms):.0f} ms [{low:.0f}, {high:.0f}]"


def milliseconds(frames: float, fps: Fraction) -> float:
    """Frames as ms."""
    return float(frames * 1000 / fps)


def _overlap_weight(max_lag: int, num_frames: int) -> np.ndarray:
    lags = np.arange(-max_lag, max_lag + 1)
    return np.sqrt((num_frames - np.abs(lags)) / num_frames)


def _peaks(curves: np.ndarray) -> np.ndarray:
    """Index of each curve's [R, L] highest point, by a parabola: [R]; at an end, the end."""
    best = curves.argmax(1)
    inside = np.clip(best, 1, curves.shape[1] - 2)
    row = np.arange(len(curves))
    before, at, after = (curves[row, inside + step] for step in (-1, 0, 1))
    bend = before - 2 * at + after
    shift = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, -1), 0.0)
    return best + np.where(best == inside, np.clip(shift, -0.5, 0.5), 0.0)


def _block_counts(length: int, generator: np.random.Generator) -> np.ndarray:
    """How often each frame is drawn, in each resampling: [NUM_RESAMPLINGS, length]."""
    block = min(BLOCK_FRAMES, length)
    num_blocks = -(-length // block)
    # Blocks go round the end, so that the first and last frames are drawn as often as others.
    starts = generator.integers(0, length, (NUM_RESAMPLINGS, num_blocks))
    drawn = (starts[..., None] + np.arange(block)) % length
    drawn = drawn.reshape(NUM_RESAMPLINGS, -1)[:, :length]
    counts = np.zeros((NUM_RESAMPLINGS, length))
    np.add.at(counts, (np.arange(NUM_RESAMPLINGS)[:, None], drawn), 1)
    return counts
