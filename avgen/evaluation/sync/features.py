"""Frames and boxes -> how a mouth moves; a waveform -> what is heard, four times a frame.

What a mouth looks like does not carry over from one speaker to others; how it moves does. So the
picture is taken as motion: the optical flow around the mouth (Farneback 2003, "Two-frame motion
estimation based on polynomial expansion") on a coarse grid in the face's own coordinates, and how
each place's brightness departs from its mean over the clip. Nothing here is learned.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import torch
import torchaudio

from avgen.errors import UserError

FPS = 25  # of the pictures, which must come at this rate
SOUND_RATE = 16_000  # Hz; other rates are resampled
HOP = 160  # samples from one spectrum to the next: 10 ms
MELS_PER_FRAME = SOUND_RATE // HOP // FPS
WINDOW, FFT = 400, 512  # samples
NUM_MELS, LOWEST, HIGHEST = 28, 80.0, 7600.0  # bands, Hz
FLOOR_DB = -60.0  # of a band below the clip's loudest; what is quieter counts as silence

PIXELS = 64  # side of the region that flow is computed on
CELLS = 16  # side of the grid that it is averaged to
# The region: a square on the mouth. In sides of the cascade's box, from its left and top.
CENTRE, SIDE = (0.5, 0.85), 0.8
CHANNELS = 3  # flow to the right, flow down, brightness


def region(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The mouth's region of a grey image uint8 [H, W]: uint8 [PIXELS, PIXELS].

    Args:
        image: A whole frame.
        box: x, y, width, height of the face as the frontal cascade frames it, in pixels.
    """
    x, y, width, height = box
    side = SIDE * width
    left, top = x + CENTRE[0] * width - side / 2, y + CENTRE[1] * height - side / 2
    step = side / PIXELS
    matrix = np.array([[step, 0, left], [0, step, top]], np.float32)
    if step > 1.5:  # sampling every few pixels would alias
        image = cv2.blur(image, (round(step), round(step)))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        image, matrix, (PIXELS, PIXELS), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )


def flow(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Motion from one region uint8 [P, P] to the next, right and down: [2, CELLS, CELLS].

    In sides of the region a frame; exactly 0 between two pictures that are one, where Farneback's
    own answer is up to a tenth of a pixel at the border.
    """
    if np.array_equal(before, after):
        return np.zeros((2, CELLS, CELLS), np.float32)
    pixels = cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 2, 11, 2, 5, 1.1, 0)  # pyright: ignore[reportCallIssue, reportArgumentType]
    cells = cv2.resize(pixels, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return np.moveaxis(cells, -1, 0) / PIXELS


def motion(frames: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """How the mouth moves: float32 [T, CHANNELS, CELLS, CELLS].

    Flow into each frame (0 into the first), both images cut at the later frame's box so that a box
    that trembles moves nothing; and brightness, less its mean over the clip at each cell, over the
    contrast of the mean image.

    Args:
        frames: uint8 [T, H, W, 3], at FPS.
        boxes: float [T, 4], the face in each frame (`faces.Track.boxes`), without NaN.

    Raises:
        UserError: lengths that differ, or boxes with NaN.
    """
    if len(frames) != len(boxes):
        raise UserError(f"{len(frames)} frames and {len(boxes)} boxes; each frame needs its box")
    if not np.isfinite(boxes).all():
        raise UserError("boxes have NaN; the face must be known in every frame (faces.the_face)")
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in frames]
    regions = [region(image, box) for image, box in zip(grey, boxes, strict=True)]
    moved = np.zeros((len(frames), 2, CELLS, CELLS), np.float32)
    for index in range(1, len(frames)):
        moved[index] = flow(region(grey[index - 1], boxes[index]), regions[index])
    return np.concatenate([moved, brightness(np.stack(regions))], 1)


def brightness(regions: np.ndarray) -> np.ndarray:
    """Departure of regions uint8 [T, P, P] from their mean over time: [T, 1, CELLS, CELLS]."""
    cells = [
        cv2.resize(image.astype(np.float32), (CELLS, CELLS), interpolation=cv2.INTER_AREA)
        for image in regions
    ]
    values = np.stack(cells)
    mean = values.mean(0)
    return ((values - mean) / max(float(mean.std()), 1.0))[:, None].astype(np.float32)


def log_mel(waveform: np.ndarray, rate: int, num_frames: int, pitch: float = 1.0) -> np.ndarray:
    """Loudness in bands, a row every 10 ms: float32 [num_frames * MELS_PER_FRAME, NUM_MELS].

    In tens of dB, each band less its mean over the clip: neither gain nor a microphone's colour is
    left. Sound shorter than the pictures is followed by silence, longer sound is cut.

    Args:
        waveform: float32 [C, N] or [N]; channels are averaged.
        rate: Its samples a second.
        num_frames: Length of the picture at FPS.
        pitch: Frequencies are read as this much higher, pitch and formants alike: another voice.
    """
    mono = torch.from_numpy(np.ascontiguousarray(np.atleast_2d(waveform), np.float32)).mean(0)
    mono = torchaudio.functional.resample(mono, rate, SOUND_RATE)
    length = num_frames * MELS_PER_FRAME
    mono = torch.nn.functional.pad(mono, (0, max(0, length * HOP - len(mono))))[: length * HOP]
    spectrum = torch.stft(
        mono, FFT, HOP, WINDOW, torch.hann_window(WINDOW), return_complex=True, pad_mode="constant"
    )[:, :length]
    power = _filters(pitch) @ spectrum.abs().square()
    loudest = power.max().clamp(min=1e-12)
    level = 10 * torch.log10(power / loudest + 10 ** (FLOOR_DB / 10))
    return ((level - level.mean(1, keepdim=True)) / 10).T.numpy()


@cache
def _filters(pitch: float) -> torch.Tensor:
    """Triangular mel filters [NUM_MELS, FFT // 2 + 1]."""
    return torchaudio.functional.melscale_fbanks(
        FFT // 2 + 1, LOWEST, HIGHEST, NUM_MELS, round(SOUND_RATE * pitch), mel_scale="slaney"
    ).T


def picture_rows(motion: torch.Tensor) -> torch.Tensor:
    """Motion [B, T, CHANNELS, CELLS, CELLS] -> what the network reads [B, T, CHANNELS * CELLS**2].

    Flow and brightness each have a root mean square of 1 over the clip, so that a face that moves
    little counts as much as one that moves a lot.
    """
    moved, bright = motion[:, :, :2], motion[:, :, 2:]
    parts = [
        part / part.square().mean((1, 2, 3, 4), keepdim=True).sqrt().clamp(min=1e-5)
        for part in (moved, bright)
    ]
    return torch.cat(parts, 2).flatten(2)
