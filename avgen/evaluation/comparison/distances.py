"""A made clip and the real one -> how far apart they are: pictures, mouths and sounds.

Every function compares arrays of one shape; `overlap` cuts two of unlike length. Nothing is
resized, resampled or moved in time to make a score better.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import librosa
import numpy as np
import torch

from avgen.errors import UserError
from avgen.evaluation.faces.mouths import EYES, NOSE
from avgen.evaluation.faces.tracking import LANDMARKER, landmarks_of, the_face, tracks_of
from avgen.evaluation.measure import Measure, Value, Values, optional
from avgen.evaluation.subject import SAMPLE_RATE, Subject, Unscored
from avgen.evaluation.sync.features import region

INSTALL = "'avgen[evaluate]'"
MAX_CUT = 0.1  # of the longer one's length
CHUNK = 8  # frames whose similarity is computed at a time

# MediaPipe's numbers: outer lips then inner lips, all round.
LIPS = (
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
    *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191),
)
# What the mouth does not move: corners of the eyes, bridge and tip of the nose.
STEADY = (EYES[0][0], EYES[0][3], EYES[1][0], EYES[1][3], 168, 6, NOSE)

MEL_RATE, NUM_MELS = 16_000, 80  # Hz
MEL_WINDOW, MEL_HOP = 400, 160  # samples: 25 and 10 ms
MEL_FLOOR_DB = -80.0  # of full scale; what is quieter is as quiet
PESQ_RATE = 16_000  # Hz, of wideband PESQ


def overlap(
    real: np.ndarray, made: np.ndarray, axis: int = 0
) -> tuple[np.ndarray, np.ndarray, int]:
    """Both cut to the shorter one's length along `axis`, from the beginning, and how much was cut.

    Args:
        real: frames [T, H, W, 3] (axis 0), or a waveform [C, N] (axis -1).
        made: likewise, of the same rate.
        axis: time's.

    Raises:
        Unscored: their other sizes differ, one is empty, or lengths differ by more than MAX_CUT.
    """
    lengths = real.shape[axis], made.shape[axis]
    least, most = min(lengths), max(lengths)
    sizes = [[n for i, n in enumerate(x.shape) if i != axis % x.ndim] for x in (real, made)]
    if sizes[0] != sizes[1]:
        raise Unscored(f"size {sizes[1]} against the reference's {sizes[0]}; they must be the same")
    if least == 0 or most - least > MAX_CUT * most:
        raise Unscored(
            f"length {lengths[1]} against the reference's {lengths[0]}; "
            f"at most {MAX_CUT:.0%} may be cut"
        )
    index = [slice(None)] * real.ndim
    index[axis] = slice(least)
    return real[tuple(index)], made[tuple(index)], most - least


# Pictures


def psnr(real: np.ndarray, made: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of arrays in [0, 255], over all numbers; inf where equal."""
    _same_shape(real, made)
    total = sum(
        float(((a.astype(np.float64) - b.astype(np.float64)) ** 2).sum())
        for a, b in zip(real, made, strict=True)
    )
    return math.inf if total == 0 else float(10 * np.log10(255**2 * real.size / total))


def ssim(real: np.ndarray, made: np.ndarray) -> float:
    """Mean structural similarity of frames uint8 [T, H, W, 3], -1 to 1 (Wang et al. 2004).

    Raises:
        Unscored: torchmetrics is not installed, or frames under its 11-pixel window.
    """
    image = optional("torchmetrics.functional.image", INSTALL)
    _same_shape(real, made)
    if min(real.shape[1:3]) < 11:
        raise Unscored(f"frames of {real.shape[2]}x{real.shape[1]}; SSIM's window is 11 pixels")
    total = 0.0
    for first in range(0, len(real), CHUNK):
        one, other = (
            torch.from_numpy(np.ascontiguousarray(x[first : first + CHUNK])).movedim(-1, 1).float()
            for x in (made, real)
        )
        similarity = image.structural_similarity_index_measure
        total += float(similarity(one / 255, other / 255, data_range=1.0, reduction="sum"))
    return total / len(real)


# Mouths


def mouth_distance(real: np.ndarray, made: np.ndarray) -> float:
    """Mean distance of the lips' landmarks [T, 478, 2 or 3] over that of the real eyes' centres.

    Each made frame is first laid over its real one by the similarity (shift, turn, size) that fits
    the points that a mouth does not move, so that neither the head's place nor its size counts,
    and none of the mouth's own error is fitted away. Chen et al. 2018, "Lip Movements Generation
    at a Glance", section 4.2, has the landmark distance; the eyes make it free of the picture's
    size.

    Raises:
        Unscored: no frame in which both faces are found.
    """
    _same_shape(real, made)
    distances = []
    for target, points in zip(real[..., :2], made[..., :2], strict=True):
        if np.isfinite(target).all() and np.isfinite(points).all():
            laid = _laid_over(points, target)
            eyes = [target[list(eye)].mean(0) for eye in EYES]
            apart = np.linalg.norm(laid[list(LIPS)] - target[list(LIPS)], axis=-1)
            distances.append(apart.mean() / np.linalg.norm(eyes[0] - eyes[1]))
    if not distances:
        raise Unscored("no frame in which both the made and the real face are found")
    return float(np.mean(distances))


def _laid_over(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Points [P, 2] moved by the similarity of least squares of STEADY points to the target's.

    As complex numbers it is target = a * points + b (Umeyama 1991, without reflection).
    """
    one, other = (x[:, 0] + 1j * x[:, 1] for x in (points.astype(float), target.astype(float)))
    steady = list(STEADY)
    here, there = one[steady] - one[steady].mean(), other[steady] - other[steady].mean()
    turn = np.vdot(here, there) / np.vdot(here, here)
    laid = turn * (one - one[steady].mean()) + other[steady].mean()
    return np.stack([laid.real, laid.imag], axis=-1)


# Sounds


def log_mel_distance(real: np.ndarray, made: np.ndarray, sample_rate: int) -> float:
    """Distance in dB of the log-mel spectrograms of waveforms [1, N].

    The root of the mean square over mel bands, then the mean over time: the log-spectral distance
    of Gray & Markel 1976, "Distance Measures for Speech Processing", over mel bands.

    Raises:
        Unscored: shorter than a window.
    """
    _same_shape(real, made)
    spectra = []
    for waveform in (real, made):
        sound = librosa.resample(waveform[0], orig_sr=sample_rate, target_sr=MEL_RATE)
        if len(sound) < MEL_WINDOW:
            raise Unscored(f"{len(sound)} samples at {MEL_RATE} Hz; a window has {MEL_WINDOW}")
        power = librosa.feature.melspectrogram(
            y=sound, sr=MEL_RATE, n_fft=MEL_WINDOW, hop_length=MEL_HOP, n_mels=NUM_MELS, norm=None
        )
        # A sine of full scale has a power of (window's sum / 2) ** 2 = (MEL_WINDOW / 4) ** 2.
        level = 10 * np.log10(np.maximum(power / (MEL_WINDOW / 4) ** 2, 1e-12))
        spectra.append(np.maximum(level, MEL_FLOOR_DB))
    return float(np.sqrt(((spectra[1] - spectra[0]) ** 2).mean(0)).mean())


def si_sdr(real: np.ndarray, made: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio of waveforms [1, N] in dB; inf where equal.

    Le Roux et al. 2019, "SDR - Half-baked or Well Done?", equation 3, of waveforms less their mean.

    Raises:
        Unscored: one of them is silent, of which there is no ratio.
    """
    _same_shape(real, made)
    one, other = (x[0].astype(np.float64) - x[0].mean(dtype=np.float64) for x in (real, made))
    if not (np.any(one) and np.any(other)):
        raise Unscored("the made or the real sound is silent; SI-SDR has no scale to find")
    target = (one @ other) / (one @ one) * one
    power, error = float(target @ target), float(((other - target) ** 2).sum())
    if power == 0:
        return -math.inf
    return math.inf if error == 0 else float(10 * np.log10(power / error))


def stoi(real: np.ndarray, made: np.ndarray, sample_rate: int) -> float:
    """Short-time objective intelligibility of waveforms [1, N], to 1 (Taal et al. 2011).

    Raises:
        Unscored: pystoi is not installed, or less than 0.4 s of the real sound is no silence.
    """
    of = optional("pystoi", INSTALL).stoi
    _same_shape(real, made)
    if not np.any(real):
        raise Unscored("the real sound is silent; STOI has nothing to be understood")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # pystoi returns 1e-5 and warns
        try:
            value = float(of(real[0], made[0], sample_rate, extended=False))
        except RuntimeWarning as warning:
            raise Unscored(f"STOI: {str(warning).split('.')[0]}") from warning
    if not math.isfinite(value):
        raise Unscored("STOI is not a number for this sound")
    return value


def pesq(real: np.ndarray, made: np.ndarray, sample_rate: int) -> float:
    """Wideband perceptual quality of speech, of waveforms [1, N]: 1 to 4.64 (ITU-T P.862.2).

    Raises:
        Unscored: pesq is not installed (it is compiled), or it finds no speech.
    """
    package = optional("pesq", "pesq, which needs a C compiler")
    _same_shape(real, made)
    if not (np.any(real) and np.any(made)):
        raise Unscored("the made or the real sound is silent; PESQ needs speech in both")
    one, other = (
        librosa.resample(x[0], orig_sr=sample_rate, target_sr=PESQ_RATE) for x in (real, made)
    )
    try:
        return float(package.pesq(PESQ_RATE, one, other, "wb"))
    except package.PesqError as error:
        reason = error.args[0] if error.args else type(error).__name__
        text = reason.decode() if isinstance(reason, bytes) else reason
        raise Unscored(f"PESQ: {text}") from error


def sharpness(frames: np.ndarray) -> float:
    """Mean size of the brightness gradient of frames uint8 [T, H, W, 3], in levels a pixel."""
    grey = frames.astype(np.float32).mean(-1)
    return float(np.hypot(np.diff(grey, axis=1)[:, :, :-1], np.diff(grey, axis=2)[:, :-1]).mean())


def _same_shape(real: np.ndarray, made: np.ndarray) -> None:
    if real.shape != made.shape:
        raise UserError(
            f"made {list(made.shape)} and real {list(real.shape)} differ; cut them with overlap()"
        )


# Of two clips


def _frames(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    return overlap(subject.real.clip.frames, subject.clip.frames)[:2]


def _mouths(subject: Subject) -> list[np.ndarray]:
    """The region of the real mouth in the frames of both: uint8 [T, 64, 64, 3]."""
    boxes = the_face(tracks_of(subject.real)).boxes
    return [
        np.stack([region(image, box) for image, box in zip(frames, boxes, strict=False)])
        for frames in _frames(subject)
    ]


def _sounds(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    real, made = subject.real.clip.waveform, subject.clip.waveform
    if real is None or made is None:
        raise Unscored("one of the two has no sound")
    return overlap(real, made, -1)[:2]


def _lips(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    return overlap(landmarks_of(subject.real), landmarks_of(subject))[:2]


def _distances(subject: Subject) -> Values:
    """Every distance from the real clip at 25 fps and 16 kHz that can be computed.

    Raises:
        Unscored: none can.
    """
    compute: dict[str, Callable[[], float]] = {
        "psnr": lambda: psnr(*_frames(subject)),
        "ssim": lambda: ssim(*_frames(subject)),
        "mouth_psnr": lambda: psnr(*_mouths(subject)),
        "mouth_sharpness": lambda: _ratio(*map(sharpness, _mouths(subject))),
        "log_mel_db": lambda: log_mel_distance(*_sounds(subject), SAMPLE_RATE),
        "si_sdr_db": lambda: si_sdr(*_sounds(subject)),
        "stoi": lambda: stoi(*_sounds(subject), SAMPLE_RATE),
        "pesq": lambda: pesq(*_sounds(subject), SAMPLE_RATE),
    }
    if LANDMARKER.name in subject.weights:
        compute["mouth_distance"] = lambda: mouth_distance(*_lips(subject))
    values: Values = {}
    notes: dict[str, list[str]] = {}
    for name, one in compute.items():
        try:
            values[name] = one()
        except Unscored as reason:
            notes.setdefault(str(reason), []).append(name)
    if not values:
        raise Unscored("; ".join(notes))
    lines = [f"{', '.join(names)}: {reason}" for reason, names in notes.items()]
    return values | ({"notes": lines} if lines else {})


def _ratio(real: float, made: float) -> float:
    return made / real if real else math.nan


MEASURES = (
    Measure(
        "reference",
        "avgen-reference/1",
        {
            "psnr": Value(1, "dB"),
            "ssim": Value(1),
            "mouth_psnr": Value(1, "dB"),
            "mouth_sharpness": Value(),
            "mouth_distance": Value(-1),
            "log_mel_db": Value(-1, "dB"),
            "si_sdr_db": Value(1, "dB"),
            "stoi": Value(1),
            "pesq": Value(1),
        },
        _distances,
        needs=("reference",),
    ),
)
