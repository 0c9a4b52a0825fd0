"""Where what is given ends and what is made begins: no step in picture or sound.

What is given comes out as it went in; what is made comes out of the codecs, which err a little. At
the join that error would appear from one frame, or one sample, to the next. It is known there, for
the codecs decode what was given as well, and so it is added to what is made and fades out.
"""

from __future__ import annotations

import numpy as np

EASED_FRAMES = 8  # frames over which the error fades out; a third of a second
EASED_S = 0.005  # likewise of the sound: long for a click, short for a vowel


def fade(length: int) -> np.ndarray:
    """Raised cosine from near 1 to near 0, float32 [length]."""
    return (0.5 + 0.5 * np.cos(np.pi * (np.arange(length) + 1) / (length + 1))).astype(np.float32)


def ease_frames(frames: np.ndarray, given: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Frames uint8 [T, H, W, 3] that go on from a given one.

    Args:
        frames: What was made.
        given: The frame before them, [H, W, 3].
        decoded: What the codec made of that frame.
    """
    length = min(EASED_FRAMES, len(frames))
    error = given.astype(np.float32) - decoded
    eased = frames[:length] + fade(length)[:, None, None, None] * error
    return np.concatenate([eased.round().clip(0, 255).astype(np.uint8), frames[length:]])


def ease_sound(
    waveform: np.ndarray, given: np.ndarray, decoded: np.ndarray, sample_rate: int
) -> np.ndarray:
    """A waveform float32 [C, N] that goes on from a given sample.

    Args:
        waveform: What was made.
        given: The sample before it, [C].
        decoded: What the codec made of that sample.
        sample_rate: In Hz.
    """
    length = min(round(EASED_S * sample_rate), waveform.shape[1])
    eased = waveform.copy()
    eased[:, :length] += (given - decoded)[:, None] * fade(length)
    return eased
