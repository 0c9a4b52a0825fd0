"""Frames in, frames with an invisible mark out; any frames in, how sure the mark is there out.

The mark is a fixed pattern of light and dark on 44 x 44 cells of the picture, so faint that the
picture's own texture hides it: stronger where there is texture, weaker where there is none. It
stands still, so that no frame steps and a video encoder keeps what the first frame has. It is found
by correlation with the mean of the frames, whitened: texture that is louder counts for less. Cells
are shares of the picture, so scaling leaves them; a crop is searched for by shifting and scaling.

Reference: Cox et al. 1997, "Secure Spread Spectrum Watermarking for Multimedia" (IEEE TIP 6(12)).
"""

from __future__ import annotations

import numpy as np

from avgen.provenance.mark_key import PUBLIC_KEY, signs

CELLS = 44
MIN_SIDE = 96  # pixels; a smaller picture has too few of them a cell to hold the mark
FLAT, SLOPE, CEILING = 1.7, 0.1, 4.5  # levels of 255: on a wall, per level of texture, at most
LOUDEST = 2.45  # levels, of a frame's mark in the root of the mean square: 40.2 dB when rounded
LEAN, LEAN_RANGE = 0.6, (0.2, 2.2)  # how much less or more a cell that leans gets
THRESHOLD = 5.0
MAX_FRAMES = 100  # looked at, spread over the clip
SHARES = (0.95, 0.9, 0.85, 0.8)  # of the picture's sides that a crop may have left
SEARCHED = 1.0  # taken off the best of a crop's thousand places, which chance makes larger by that


def _between(length: int) -> np.ndarray:
    """Weights [length, CELLS] of the two cells that each pixel's middle lies between."""
    at = np.clip((np.arange(length) + 0.5) / length * CELLS - 0.5, 0, CELLS - 1)
    low = np.minimum(at.astype(int), CELLS - 2)
    weights = np.zeros((length, CELLS), np.float32)
    weights[np.arange(length), low] = 1 - (at - low)
    weights[np.arange(length), low + 1] = at - low
    return weights


def embed(frames: np.ndarray, key: str = PUBLIC_KEY) -> np.ndarray:
    """The frames uint8 [T, H, W, 3] with the mark; those of a small picture as they are.

    The picture itself leans a cell to one side or the other. A cell that leans the mark's way needs
    less of it, one that leans against it needs more (Malvar and Florencio 2003, "Improved Spread
    Spectrum", IEEE TSP 51(4)): what is seen stays as faint, what is found grows.
    """
    height, width = frames.shape[1:3]
    if min(height, width) < MIN_SIDE:
        return frames
    rows, columns = _between(height), _between(width)
    cells = signs(key, "picture", CELLS, CELLS)
    marked = np.empty_like(frames)
    for index, frame in enumerate(frames):
        picture = luma(frame)
        leaning = cells * (rows.T @ whitened(picture) @ columns)
        leaning /= np.sqrt((leaning**2).mean()) + 1e-6
        pushed = cells * np.clip(1 - LEAN * leaning, *LEAN_RANGE)
        strength = np.minimum(FLAT + SLOPE * _texture(picture), CEILING)
        mark = strength * (rows @ pushed @ columns.T)
        mark *= min(1.0, LOUDEST / (np.sqrt((mark**2).mean()) + 1e-6))
        marked[index] = np.clip(np.rint(frame + mark[..., None]), 0, 255)
    return marked


def find(frames: np.ndarray, key: str = PUBLIC_KEY) -> float:
    """How far the mark stands out of chance, in its standard deviations.

    The picture is looked at as it is, and as a crop of a larger one, wherever it fits best; the
    larger of both counts (see `best`). Without a mark it is about 2.

    Args:
        frames: uint8 [T, H, W, 3].
        key: Of the mark.
    """
    some = frames[np.unique(np.linspace(0, len(frames) - 1, MAX_FRAMES).astype(int))]
    seen = whitened(np.mean([luma(frame) for frame in some], axis=0))
    return best(seen, key)


def best(seen: np.ndarray, key: str) -> float:
    """z of the mark in a whitened picture, as it is or where a crop of it fits best."""
    crops = [score(seen, key, share) for share in SHARES]
    return max(score(seen, key, 1.0), max(crops) - SEARCHED)


def score(seen: np.ndarray, key: str, share: float) -> float:
    """z of the mark at its likeliest place in a picture that is a share of the original's sides.

    Seen are sums over the cells, weighted with the pattern's signs. Were the signs drawn anew, the
    sum would have mean 0 and the cells' squares as its variance, whatever the picture: z above t is
    rarer than exp(-t^2 / 2) at any one place (Hoeffding 1963, JASA 58:13).
    """
    height, width = seen.shape
    size = round(height / share), round(width / share)
    rows, columns = _between(size[0]), _between(size[1])
    cells = signs(key, "picture", CELLS, CELLS)
    top = left = 0
    if share != 1:
        shape = size[0] + height, size[1] + width
        whole = np.fft.rfft2(rows @ cells @ columns.T, shape)
        places = np.fft.irfft2(whole * np.conj(np.fft.rfft2(seen, shape)), shape)
        inside = places[: size[0] - height + 1, : size[1] - width + 1]
        top, left = np.unravel_index(inside.argmax(), inside.shape)
    sums = rows[top : top + height].T @ seen @ columns[left : left + width]
    spread = np.sqrt((sums**2).sum())
    return float((cells * sums).sum() / spread) if spread else 0.0


def whitened(picture: np.ndarray) -> np.ndarray:
    """A picture [H, W] without what is smooth in it, each place divided by its own contrast."""
    high = _high(picture)
    contrast = np.sqrt(np.maximum(_box(high**2, 7), 0))  # sums round below 0 where all is smooth
    return _high(np.clip(high / (contrast + 0.2), -1.5, 1.5))


def luma(frame: np.ndarray) -> np.ndarray:
    """BT.709 luma of RGB uint8 [H, W, 3], float32 [H, W] from 0 to 255."""
    return frame.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32)


def _texture(picture: np.ndarray) -> np.ndarray:
    """Standard deviation around each pixel, of 7 x 7."""
    mean = _box(picture, 7)
    return np.sqrt(np.maximum(_box(picture**2, 7) - mean**2, 0))


def _high(picture: np.ndarray) -> np.ndarray:
    """What is left when each pixel's neighbourhood, a cell and a half wide, is taken away."""
    return picture - _box(picture, 2 * round(0.7 * max(picture.shape) / CELLS) + 1)


def _box(picture: np.ndarray, side: int) -> np.ndarray:
    """Mean over a square of `side` (odd) pixels around each; edges are repeated."""
    half = side // 2
    summed = np.pad(picture.astype(np.float64), half + 1, mode="edge")[:-1, :-1].cumsum(0).cumsum(1)
    total = summed[side:, side:] - summed[:-side, side:] - summed[side:, :-side]
    return ((total + summed[:-side, :-side]) / side**2).astype(np.float32)
