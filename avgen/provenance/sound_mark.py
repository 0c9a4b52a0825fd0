"""Sound in, sound that carries an inaudible mark out; any sound in, how sure the mark is there out.

The loudness of short stretches of narrow bands between 400 and 3800 Hz, where speech is, is raised
or lowered by DEPTH_DB in a pattern of a key that repeats every PERIOD cells. It is found without
the original: loudness less that of its neighbours in time and in pitch is correlated with the
pattern at every shift, so a clip that was cut at its start is found as well.
"""

from __future__ import annotations

import numpy as np

from avgen.provenance.mark_key import PUBLIC_KEY, signs

WINDOW_S = 0.032
LOW_HZ, HIGH_HZ, BAND_HZ = 400.0, 3800.0, 62.5
NUM_BANDS = int((HIGH_HZ - LOW_HZ) / BAND_HZ)
FRAMES_OF_CELL = 3  # hops of half a window: 48 ms
PERIOD = 32  # cells: 1.5 s
DEPTH_DB = 1.9
THRESHOLD = 6.0
SPEEDS = (0.99, 1.0, 1.01)


def pattern(key: str = PUBLIC_KEY) -> np.ndarray:
    """+1 and -1 of every cell and band: float32 [PERIOD, NUM_BANDS]."""
    return signs(key, "sound", PERIOD, NUM_BANDS)


class Marker:
    """Sound goes in by pieces, and comes out with the mark, half a window later.

    Args:
        sample_rate: In Hz.
        key: Of the mark.
    """

    def __init__(self, sample_rate: int, key: str = PUBLIC_KEY) -> None:
        self.hop = round(WINDOW_S / 2 * sample_rate)
        self.window = np.sqrt(np.hanning(2 * self.hop + 1)[:-1]).astype(np.float32)
        bands = _bands(sample_rate, 2 * self.hop)
        inside = bands >= 0
        self.gains = np.ones((PERIOD, len(bands)), np.float32)
        self.gains[:, inside] = 10 ** (DEPTH_DB / 20 * pattern(key)[:, bands[inside]])
        self.index = 0  # of the next frame
        self.waiting: np.ndarray | None = None
        self.tail: np.ndarray | None = None

    def push(self, waveform: np.ndarray, is_last: bool = False) -> np.ndarray:
        """Marked samples float32 [C, M] that are ready, of the next ones [C, N].

        By the last call as many have come out as went in.
        """
        channels, hop = len(waveform), self.hop
        if self.waiting is None:  # half a window of silence before the first sample
            self.waiting = np.zeros((channels, hop), np.float32)
            self.tail = np.zeros((channels, hop), np.float32)
            self.drop, self.owed = hop, 0
        assert self.tail is not None
        self.owed += waveform.shape[1]
        self.waiting = np.concatenate([self.waiting, waveform], 1)
        if is_last:
            self.waiting = np.pad(self.waiting, [(0, 0), (0, 2 * hop)])
        made = []
        while self.waiting.shape[1] >= 2 * hop:
            spectrum = np.fft.rfft(self.waiting[:, : 2 * hop] * self.window)
            gain = self.gains[self.index // FRAMES_OF_CELL % PERIOD]
            frame = (np.fft.irfft(spectrum * gain, 2 * hop) * self.window).astype(np.float32)
            made.append(self.tail + frame[:, :hop])
            self.tail = frame[:, hop:]
            self.waiting, self.index = self.waiting[:, hop:], self.index + 1
        ready = np.concatenate(made, 1) if made else waveform[:, :0]
        dropped = min(self.drop, ready.shape[1])
        self.drop -= dropped
        ready = ready[:, dropped:]
        if is_last:
            ready = ready[:, : self.owed]
        self.owed -= ready.shape[1]
        return np.clip(ready, -1, 1)


def embed(waveform: np.ndarray, sample_rate: int, key: str = PUBLIC_KEY) -> np.ndarray:
    """A waveform float32 [C, N] with the mark."""
    return Marker(sample_rate, key).push(waveform, is_last=True)


def find(waveform: np.ndarray, sample_rate: int, key: str = PUBLIC_KEY) -> float:
    """How far the mark stands out of chance, in its standard deviations, after a search of shifts.

    Args:
        waveform: float32 [C, N].
        sample_rate: In Hz, at least twice HIGH_HZ.
        key: Of the mark.
    """
    mono = waveform.mean(0)
    return max(score(evidence(mono, sample_rate * speed), key) for speed in SPEEDS)


def evidence(mono: np.ndarray, sample_rate: float) -> np.ndarray:
    """Loudness of bands over their neighbours', [quarters of a hop, NUM_BANDS]; silence is 0.

    Rows are a quarter of a hop apart, so that a shift by any number of samples is nearly met.
    """
    hop = WINDOW_S / 2 * sample_rate
    length = round(2 * hop)
    starts = np.arange(0, max(len(mono) - length, 0), hop / 4).round().astype(int)
    bands = _bands(sample_rate, length)
    if len(starts) < 4 * FRAMES_OF_CELL * 4:
        return np.zeros((0, NUM_BANDS), np.float32)
    window = np.hanning(length + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(mono, length)[starts]
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    by_band = np.stack([power[:, bands == band].sum(1) for band in range(NUM_BANDS)], 1)
    loud = by_band.sum(1) > 1e-4 * by_band.sum(1).max()
    level = np.log(by_band + 1e-9 * by_band.max() + 1e-20)
    level -= _smooth(level, 5, 1)
    level -= _smooth(level, 4 * 4 * FRAMES_OF_CELL + 1, 0)
    level = np.clip(level / (level[loud].std() + 1e-9), -2.5, 2.5)
    return (level * loud[:, None]).astype(np.float32)


def score(level: np.ndarray, key: str) -> float:
    """z of the pattern at its likeliest shift; what z means is in picture_mark.py."""
    if not len(level):
        return 0.0
    step = 4 * FRAMES_OF_CELL
    period = PERIOD * step
    folded = np.zeros((period, NUM_BANDS), np.float64)
    np.add.at(folded, np.arange(len(level)) % period, level)
    wanted = pattern(key)
    spectrum = np.fft.rfft(folded, axis=0) * np.conj(np.fft.rfft(wanted.repeat(step, 0), axis=0))
    shift = int(np.fft.irfft(spectrum.sum(1), period).argmax())
    sums = np.roll(folded, -shift, 0).reshape(PERIOD, step, NUM_BANDS).sum(1)
    spread = np.sqrt((sums**2).sum())
    return float((wanted * sums).sum() / spread) if spread else 0.0


def _bands(sample_rate: float, length: int) -> np.ndarray:
    """The band of each frequency of a real FFT, int [length // 2 + 1]; -1 outside all of them."""
    hz = np.arange(length // 2 + 1) * sample_rate / length
    band = np.floor((hz - LOW_HZ) / BAND_HZ).astype(int)
    return np.where((band >= 0) & (band < NUM_BANDS), band, -1)


def _smooth(values: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Moving mean of an odd length along an axis; edges are repeated."""
    width = [(0, 0), (0, 0)]
    width[axis] = (length // 2 + 1, length // 2)
    summed = np.pad(values.astype(np.float64), width, mode="edge").cumsum(axis)
    ahead = np.take(summed, range(length, summed.shape[axis]), axis)
    return (ahead - np.take(summed, range(summed.shape[axis] - length), axis)) / length
