"""Frames of a face, a sound and when there is speech in it -> numbers, or why it is not good."""

from __future__ import annotations

import cv2
import numpy as np

from avgen.clips.timebase import to_index
from avgen.evaluation.speech.rating import dnsmos
from avgen.preparation.outcome import Dropped
from avgen.preparation.settings import Limits
from avgen.preparation.source import level_db
from avgen.preparation.voice import Times, seconds

LOOKS = 5  # frames that the picture is judged by
FACE_SIDE = 96  # pixels to which a larger face is brought, so that detail means the same for all
FINEST = 1.0  # sigma of the blur, in those pixels, that takes the finest detail away
FULL_SCALE = 0.999  # samples beyond are taken for clipped
MOMENT_S = 0.025  # seconds over which a level is taken
QUIETEST = 0.1  # share of them that are taken for the noise behind the speech


def picture(frames: np.ndarray, boxes: np.ndarray, limits: Limits) -> dict[str, float]:
    """Numbers of the face in frames uint8 [T, H, W, 3] of the source, boxes float [T, 4].

    Raises:
        Dropped: too small, too dark, too bright, too flat, or blurred.
    """
    faces = [
        _face(frames[index], boxes[index])
        for index in np.linspace(0, len(frames) - 1, LOOKS).astype(int)
    ]
    width = float(np.median(boxes[:, 2]))
    brightness = float(np.median([face.mean() for face in faces]))
    contrast = float(np.median([face.std() for face in faces]))
    sharpness = float(np.median([_sharpness(face) for face in faces]))
    low, high = limits.brightness
    for wrong, detail in (
        (width < limits.min_face, f"the face is {width:.0f} pixels wide of {limits.min_face}"),
        (
            not low <= brightness <= high,
            f"the face's luma is {brightness:.0f}, not {low} to {high}",
        ),
        (contrast < limits.min_contrast, f"contrast {contrast:.1f} of {limits.min_contrast}"),
        (sharpness < limits.min_sharpness, f"sharpness {sharpness:.4f} of {limits.min_sharpness}"),
    ):
        if wrong:
            raise Dropped("picture", detail)
    return {
        "face_px": width,
        "brightness": brightness,
        "contrast": contrast,
        "sharpness": sharpness,
    }


def sound(waveform: np.ndarray, rate: int, speech: Times, limits: Limits) -> dict[str, float]:
    """Numbers of a waveform float32 [C, N], with speech at the times.

    Raises:
        Dropped: too little speech, too quiet, too noisy, or clipped.
    """
    waveform = waveform.mean(0, keepdims=True)
    spoken = seconds(speech)
    if spoken < limits.min_speech_s:
        raise Dropped("no speech", f"{spoken:.2f} s of speech of {limits.min_speech_s}")
    level = level_db(waveform[0, _mask(speech, waveform.shape[1], rate)])
    found = {
        "speech_s": spoken,
        "level_db": level,
        "clipped": float(np.mean(np.abs(waveform) >= FULL_SCALE)),
        "snr_db": level - _quietest_db(waveform[0], rate),
    }
    if limits.min_dnsmos is not None:
        found["dnsmos"] = dnsmos(waveform, rate).overall
    for wrong, detail in (
        (found["level_db"] < limits.min_level_db, "the speech is at {level_db:.0f} dB"),
        (found["clipped"] > limits.max_clipped, "{clipped:.1%} of the samples are clipped"),
        (found["snr_db"] < limits.min_snr_db, "speech is {snr_db:.0f} dB over the quietest part"),
        (found.get("dnsmos", 5) < (limits.min_dnsmos or 0), "DNSMOS {dnsmos:.2f}"),
    ):
        if wrong:
            raise Dropped("sound", detail.format(**found))
    return found


def _face(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Luma of the face: float32 [h, w], at most FACE_SIDE a side."""
    left, top = np.floor(box[:2]).clip(0).astype(int)
    right, bottom = np.ceil(box[:2] + box[2:]).astype(int)
    part = np.ascontiguousarray(frame[top:bottom, left:right])
    grey = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
    if min(grey.shape) > FACE_SIDE:
        grey = cv2.resize(grey, (FACE_SIDE, FACE_SIDE), interpolation=cv2.INTER_AREA)
    return grey.astype(np.float32)


def _sharpness(face: np.ndarray) -> float:
    """Share of the variance of luma [h, w] that a small blur takes away."""
    fine = face - cv2.GaussianBlur(face, (0, 0), FINEST)
    return float(fine.var() / max(float(face.var()), 1.0))


def _quietest_db(samples: np.ndarray, rate: int) -> float:
    """Level of the quietest moments of samples [N], in dB of full scale; at least -120."""
    length = to_index(MOMENT_S, rate)
    moments = samples[: len(samples) // length * length].reshape(-1, length)
    return float(np.quantile([level_db(moment) for moment in moments], QUIETEST))


def _mask(times: Times, count: int, rate: int) -> np.ndarray:
    mask = np.zeros(count, bool)
    for start, end in times:
        mask[to_index(start, rate) : to_index(end, rate)] = True
    return mask
