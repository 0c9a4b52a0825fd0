"""Frames, sound and words of a clip -> figures: pictures, sound, and lips against sound.

Plain functions on numpy arrays; what needs a network of somebody else's (face landmarks) imports it
when it is used: `pip install '.[evaluate]'`. Words heard and speech quality are in
avgen/evaluation/speech/recognition.py.

A lag is in frames and positive where the mouth comes after the sound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avgen.clips.clip import Word
from avgen.clips.timebase import num_samples, to_index
from avgen.clips.transforms import resize

# Of the crops that prepare.py makes: around the lips, which landmarks put at rows 0.78 to 0.92 and
# columns 0.39 to 0.64 (least and most of 45 frames of the train split).
MOUTH_ROWS, MOUTH_COLUMNS = (0.72, 0.97), (0.32, 0.70)
FROZEN_LEVELS = 0.4  # of 255; while words are said, no mouth of the train split changes by less
ENERGY_RANGE_DB = 40.0  # below the loudest frame; what is quieter than this counts as silence
MAX_LAG = 15  # frames each way
DETAIL_FRAMES = 11  # what changes more slowly than this is the sentence's outline, not its words
DELAY = 5  # frames, of the control


# Pictures


def psnr(real: np.ndarray, made: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of arrays in [0, 255], over all numbers; inf where equal."""
    error = np.mean((real.astype(np.float64) - made.astype(np.float64)) ** 2)
    return math.inf if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(real: np.ndarray, made: np.ndarray) -> float:
    """Mean structural similarity of frames uint8 [T, H, W, 3] (Wang et al. 2004; torchmetrics)."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    both = [
        torch.from_numpy(np.ascontiguousarray(x)).movedim(-1, 1).float() / 255 for x in (made, real)
    ]
    value = structural_similarity_index_measure(*both, data_range=1.0)
    assert isinstance(value, torch.Tensor)
    return float(value)


def mouth_region(frames: np.ndarray) -> np.ndarray:
    """The part of face crops [T, H, W, 3] where the mouth is."""
    height, width = frames.shape[1:3]
    (top, bottom), (left, right) = (
        [round(share * size) for share in span]
        for span, size in ((MOUTH_ROWS, height), (MOUTH_COLUMNS, width))
    )
    return frames[:, top:bottom, left:right]


def sharpness(frames: np.ndarray) -> float:
    """Mean size of the brightness gradient of frames uint8 [T, H, W, 3], in levels a pixel."""
    grey = frames.astype(np.float32).mean(-1)
    return float(np.hypot(np.diff(grey, axis=1)[:, :, :-1], np.diff(grey, axis=2)[:, :-1]).mean())


def joins(num_frames: int, stride: int) -> np.ndarray:
    """Whether the step from frame t to t + 1 crosses two latent frames: bool [num_frames - 1].

    Latent 0 is frame 0; latent i > 0 is frames stride * (i - 1) + 1 to stride * i.
    """
    return np.arange(num_frames - 1) % stride == 0


def steps(frames: np.ndarray) -> np.ndarray:
    """Mean absolute difference of consecutive frames uint8 [T, H, W, 3], in levels: [T - 1]."""
    return np.abs(np.diff(frames.astype(np.int16), axis=0)).mean((1, 2, 3))


def step_errors(real: np.ndarray, made: np.ndarray, stride: int) -> tuple[float, float]:
    """RMS error, in levels, of frame differences: at the joins of latent frames, and inside."""
    error = np.diff(made.astype(np.float32), axis=0) - np.diff(real.astype(np.float32), axis=0)
    square = (error**2).mean((1, 2, 3))
    join = joins(len(real), stride)
    return float(np.sqrt(square[join].mean())), float(np.sqrt(square[~join].mean()))


def flicker(frames: np.ndarray, stride: int) -> dict[str, float]:
    """Mean step in levels at the joins of latent frames and inside, and their ratio; 1 is none."""
    size, join = steps(frames), joins(len(frames), stride)
    at, inside = float(size[join].mean()), float(size[~join].mean())
    return {"step_join": at, "step_inside": inside, "flicker": at / inside if inside else math.nan}


def frozen(frames: np.ndarray, active: np.ndarray) -> float:
    """Share of the steps inside speech at which the mouth stands still (see FROZEN_LEVELS).

    Args:
        frames: uint8 [T, H, W, 3].
        active: bool [T], whether a word is said.
    """
    inside = active[:-1] & active[1:]
    still = steps(mouth_region(frames)) < FROZEN_LEVELS
    return float(still[inside].mean()) if inside.any() else math.nan


def identity(frames: np.ndarray, face: np.ndarray) -> dict[str, float]:
    """How like a face uint8 [H, W, 3] the mean of frames [T, H, W, 3] is: PSNR in dB and cosine.

    The cosine is of pixels less their mean, colour by colour; it asks for the same head in the same
    place and light.
    """
    mean = frames.astype(np.float64).mean(0)
    one, other = (x - x.mean((0, 1)) for x in (mean, face.astype(np.float64)))
    cosine = float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))
    return {"psnr": psnr(face, mean), "cosine": cosine}


# Sound


def stoi(real: np.ndarray, made: np.ndarray, sample_rate: int) -> float:
    """Short-time objective intelligibility of waveforms [1, N], 0 to 1 (Taal et al. 2011)."""
    from pystoi import stoi as of

    return float(of(real[0], made[0], sample_rate, extended=False))


def sample_jump(waveform: np.ndarray, index: int, radius: int = 2) -> float:
    """Largest step between samples near `index` over the 99.9th percentile of all steps.

    Args:
        waveform: float32 [1, N].
        index: First sample after the join.
        radius: Samples each way.
    """
    size = np.abs(np.diff(waveform[0]))
    typical = np.percentile(size, 99.9)
    return (
        float(size[max(0, index - radius - 1) : index + radius].max() / typical)
        if typical
        else math.nan
    )


# Lips


class MouthTracker:
    """Opening of the mouth by MediaPipe's face landmarks, each frame by itself.

    Args:
        landmarks: MediaPipe's `face_landmarker.task`, from its model page.
        scale: Frames are enlarged by this first; 128-pixel crops are small for the detector.

    Raises:
        ValueError: the file is not there.
    """

    INNER_LIPS, FACE = (13, 14), (10, 152)  # upper and lower lip; top of the forehead and chin

    def __init__(self, landmarks: Path, scale: int = 4) -> None:
        if not landmarks.is_file():
            raise ValueError(
                f"{landmarks}: not found; face_landmarker.task is on MediaPipe's model page"
            )
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(landmarks))
        )
        self.landmarker = vision.FaceLandmarker.create_from_options(options)
        self.scale = scale

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Distance of the inner lips over the face's height, [T]; NaN where no face is found."""
        import mediapipe

        height, width = (self.scale * size for size in frames.shape[1:3])
        openings = np.full(len(frames), np.nan)
        for index, frame in enumerate(resize(frames, height, width)):
            image = mediapipe.Image(
                image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame)
            )
            found = self.landmarker.detect(image).face_landmarks
            if found:
                points = np.array([(p.x * width, p.y * height) for p in found[0]])
                lips, face = (
                    np.linalg.norm(points[a] - points[b]) for a, b in (self.INNER_LIPS, self.FACE)
                )
                openings[index] = lips / face
        return openings


def filled(series: np.ndarray) -> np.ndarray:
    """A series [T] with its NaNs interpolated; all NaN where more than half of it are."""
    there = ~np.isnan(series)
    if there.mean() < 0.5:
        return np.full(len(series), np.nan)
    return np.interp(np.arange(len(series)), np.flatnonzero(there), series[there])


def smoothed(series: np.ndarray) -> np.ndarray:
    """Mean over three frames; the ends count double."""
    return np.convolve(np.pad(series, 1, mode="edge"), np.full(3, 1 / 3), mode="valid")


def log_energy(
    waveform: np.ndarray, sample_rate: int, num_frames: int, fps: Fraction
) -> np.ndarray:
    """Loudness of waveform [1, N] in each frame's time, in dB below the loudest: [T], smoothed."""
    edges = [num_samples(index, fps, sample_rate) for index in range(num_frames + 1)]
    power = [np.mean(np.square(waveform[0, a:b], dtype=np.float64)) for a, b in pairwise(edges)]
    level = 10 * np.log10(np.maximum(power, 1e-12))
    return smoothed(np.maximum(level - level.max(), -ENERGY_RANGE_DB))


def activity(words: Sequence[Word], num_frames: int, fps: Fraction) -> np.ndarray:
    """1 in frames in which a word is said, else 0: [T], smoothed."""
    said = np.zeros(num_frames)
    for word in words:
        said[to_index(word.start_s, fps) : to_index(word.end_s, fps)] = 1
    return smoothed(said)


def detail(series: np.ndarray) -> np.ndarray:
    """A series [T] less its mean over `DETAIL_FRAMES` around each frame.

    All of GRID's sentences begin and end alike, so that the sound of another sentence correlates
    with a mouth almost as well as its own; what they do from syllable to syllable does not.
    """
    mean = np.convolve(
        np.pad(series, DETAIL_FRAMES // 2, mode="edge"),
        np.full(DETAIL_FRAMES, 1 / DETAIL_FRAMES),
        mode="valid",
    )
    return series - mean


def correlation(mouth: np.ndarray, sound: np.ndarray, lag: int = 0) -> float:
    """Pearson's correlation of mouth[t + lag] with sound[t]; NaN where one stands still."""
    length = len(mouth) - abs(lag)
    one, other = mouth[max(0, lag) :][:length], sound[max(0, -lag) :][:length]
    if not (np.ptp(one) > 0 and np.ptp(other) > 0):  # NaN is not more than 0 either
        return math.nan
    return float(np.corrcoef(one, other)[0, 1])


def best_lag(mouth: np.ndarray, sound: np.ndarray, max_lag: int = MAX_LAG) -> float:
    """The lag within `max_lag` frames at which mouth and sound correlate most; NaN for none."""
    lags = range(-max_lag, max_lag + 1)
    values = [correlation(mouth, sound, lag) for lag in lags]
    return math.nan if np.isnan(values).all() else float(lags[int(np.nanargmax(values))])


def synchrony(name: str, mouth: np.ndarray, sound: np.ndarray) -> dict[str, Any]:
    """Correlation at lag 0, the best lag, and the correlations at -MAX_LAG to MAX_LAG, by name."""
    lags = range(-MAX_LAG, MAX_LAG + 1)
    return {
        f"{name}_correlation": correlation(mouth, sound),
        f"{name}_lag": best_lag(mouth, sound),
        f"{name}_by_lag": [correlation(mouth, sound, lag) for lag in lags],
    }


# Many clips


def mismatched(
    mouths: Sequence[Sequence[float]], energies: Sequence[Sequence[float]]
) -> list[float]:
    """Correlation in detail of each mouth with the sound of the next clip: nothing in sync."""
    others = [*energies[1:], *energies[:1]]
    return [
        correlation(detail(np.array(mouth)), detail(np.array(energy)))
        for mouth, energy in zip(mouths, others, strict=True)
    ]


def pooled_lag(curves: Sequence[Sequence[float]]) -> float:
    """The lag at which the correlations [clips][2 MAX_LAG + 1] are highest on average.

    One clip's best lag is uncertain, as a sentence is one long burst of sound; that of all is not.
    """
    there = [curve for curve in curves if not np.isnan(curve).any()]
    return float(np.argmax(np.mean(there, axis=0)) - MAX_LAG) if there else math.nan


def distribution(values: Sequence[float]) -> dict[str, float]:
    """Mean, 10th, 50th and 90th percentile of the values that are numbers, and their count."""
    there = np.array([value for value in values if not math.isnan(value)])
    if not len(there):
        return {"mean": math.nan, "p10": math.nan, "p50": math.nan, "p90": math.nan, "count": 0}
    low, middle, high = np.percentile(there, (10, 50, 90))
    return {
        "mean": float(there.mean()),
        "p10": float(low),
        "p50": float(middle),
        "p90": float(high),
        "count": len(there),
    }
