"""Where what is given ends and what is made begins: no step in picture or sound.

What is given comes out as it went in; what is made comes out of the codecs, which err a little. At
the join that error would appear from one frame, or one sample, to the next. It is known there, for
the codecs decode what was given as well, and so it is added to what is made and fades out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from avgen.clips.clip import Clip
from avgen.clips.timebase import num_samples
from avgen.pipeline.conditions import Conditions, fit

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


def ease_expressions(expressions: Tensor) -> Tensor:
    """Expressions [B, T, S, K] of S frames a latent, without steps from latent to latent.

    A network tells them latent by latent: by how much they change between the last frame of one and
    the first of the next beyond what they change inside both is spread over the S / 2 frames on
    each side. The first latent, of one frame, is left as it is, and so is its join.
    """
    if expressions.shape[2] == 1:
        return expressions
    before, after = expressions[:, 1:-1], expressions[:, 2:]
    inside = (before[:, :, -1] - before[:, :, -2] + after[:, :, 1] - after[:, :, 0]) / 2
    step = after[:, :, 0] - before[:, :, -1] - inside
    frames = torch.arange(expressions.shape[2]).to(step)[:, None]
    ramp = ((frames - len(frames) // 2).clamp(min=-0.5) + 0.5) / len(frames)
    eased = expressions.clone()
    eased[:, 1:-1] += step[:, :, None] * ramp
    eased[:, 2:] -= step[:, :, None] * ramp.flip(0)
    return eased


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


class Join:
    """A queue of what is given, then of what is made, eased into it; time is the first axis.

    Args:
        given: What is given from the start of the clip.
        start: Where in it the first decoded block lies; what comes before is ready at once.
        ease: `ease_frames`, or what does the same to sound.
    """

    def __init__(self, given: np.ndarray, start: int, ease: Callable) -> None:
        self.given, self.at, self.ease = given, start, ease
        self.before = given[:0]  # the decoded step before the next block
        self.ready = given[:start]

    def push(self, block: np.ndarray) -> None:
        """Add the next stretch of time, as it was decoded."""
        kept = self.given[self.at : self.at + len(block)]
        made, before = block[len(kept) :], np.concatenate([self.before, block[: len(kept)]])[-1:]
        if len(made) and len(before) and self.at + len(kept) == len(self.given):
            made = self.ease(made, self.given[-1], before[0])
        self.at, self.before = self.at + len(block), block[-1:]
        self.ready = np.concatenate([self.ready, kept, made])

    def pop(self, count: int) -> np.ndarray:
        """Take what is ready from the front."""
        taken, self.ready = self.ready[:count], self.ready[count:]
        return taken


class Output:
    """What is decoded in, frames and sound; chunks of the clip out, as both are there.

    Args:
        conditions: What is given.
        start: The first frame that is decoded.
        begin: The first sample that is decoded.
        rate: Samples per second of what is decoded.
    """

    def __init__(self, conditions: Conditions, start: int, begin: int, rate: int) -> None:
        self.fps, self.rate, self.shown = conditions.fps, rate, 0
        shape = (0, conditions.settings.height, conditions.settings.width, 3)
        frames = np.zeros(shape, np.uint8) if conditions.frames is None else conditions.frames
        self.frames = Join(frames, len(frames) if conditions.is_pictured else start, ease_frames)
        sound = conditions.waveform
        if sound is None:
            sound = np.zeros((conditions.num_channels, 0), np.float32)
        if conditions.sound is not None:  # as it was given, whatever the codec's rate
            sound, self.rate = conditions.sound
            sound = fit(sound, num_samples(conditions.num_frames, self.fps, self.rate))
            begin = sound.shape[1]

        def ease(made: np.ndarray, given: np.ndarray, decoded: np.ndarray) -> np.ndarray:
            return ease_sound(made.T, given, decoded, rate).T

        self.sound = Join(sound.T, begin, ease)

    def pop(self) -> Iterator[Clip]:
        """The frames whose sound is there, with it; nothing if there are none."""
        begin = num_samples(self.shown, self.fps, self.rate)
        count = len(self.frames.ready)
        while num_samples(self.shown + count, self.fps, self.rate) - begin > len(self.sound.ready):
            count -= 1
        if count:
            length = num_samples(self.shown + count, self.fps, self.rate) - begin
            waveform = np.ascontiguousarray(self.sound.pop(length).T)
            self.shown += count
            yield Clip(self.frames.pop(count), self.fps, waveform, self.rate)
