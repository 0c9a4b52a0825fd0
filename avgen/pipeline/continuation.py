"""Clips longer than the model was trained on: windows, what each hands on, when it can be decoded.

A window is made like a clip whose beginning is given: it is handed the last latents of the one
before. All windows of a clip lie on one grid of latents, that of the first, so that nothing is
decoded to be encoded again, and decoders see one unbroken row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avgen.clips.timebase import num_samples, to_seconds
from avgen.codecs.base import AudioCodec, VideoCodec
from avgen.pipeline.conditions import LONGER, Conditions, trained_frames


@dataclass(frozen=True)
class Window:
    """A stretch of a clip that is made at once.

    Attributes:
        index: Of the window.
        start: Its first frame.
        done: The first frame that is not there yet; what comes before is its context.
        stop: After its last frame.
        begin: The first sample of its first token of sound, at or just before its first frame's.
        end: The first sample after its last frame.
        lead: Samples that its first latent of sound is short of a hop.
        new_video: Its video latents that the window before did not hand on.
        new_audio: Its audio latents that are neither that nor made again by the window after it,
            as is a token that its end cuts.
    """

    index: int
    start: int
    done: int
    stop: int
    begin: int
    end: int
    lead: int
    new_video: slice
    new_audio: slice


def windows(conditions: Conditions, video: VideoCodec, audio: AudioCodec) -> Iterator[Window]:
    """The stretches that a clip is made in, as long as the model was trained on, the last shorter.

    A context is one frame and whole latents, and so is all that each window but the last makes. The
    last is longer by up to an eighth where few frames would be left: they would cost their context,
    and what the codec's decoder has to see beside them, once more.
    """
    settings, fps, rate, stride = (
        conditions.settings, conditions.fps, audio.sample_rate, video.stride[0],
    )  # fmt: skip
    token = settings.audio_patch * audio.hop_length  # samples
    length = max(settings.context_frames + stride, trained_frames(settings, fps))
    index, done, origin = 0, conditions.num_begun, 0
    while done < conditions.num_frames:
        context = min(done, settings.context_frames)
        context -= (context - 1) % stride if context else 0
        start = done - context
        left = conditions.num_frames - start
        stop = start + (left if left <= (1 + LONGER) * length else length)
        if is_whole := stop < conditions.num_frames:
            stop -= (length - 1) % stride
        begin, end = num_samples(start, fps, rate), num_samples(stop, fps, rate)
        lead = 0 if index else audio.lead
        origin = origin if index else begin - lead
        begin -= (begin - origin) % token if index else 0
        before, after = (  # latents of the tokens that end by these frames
            int((to_seconds(frame, fps) * rate - begin + lead) // token) * settings.audio_patch
            for frame in (done, stop)
        )
        new_video = slice(1 + (context - 1) // stride if index else 0, None)
        new_audio = slice(before if index else 0, after if is_whole else None)
        yield Window(index, start, done, stop, begin, end, lead, new_video, new_audio)
        index, done = index + 1, stop


class LatentQueue:
    """Latents from the start of a clip, and how many of them were decoded.

    They are kept to the end: a minute of them is smaller than a second of picture.

    Args:
        reach: The codec's: later latents may change what the last `reach` ones decode to.
    """

    def __init__(self, reach: int) -> None:
        self.reach, self.done = reach, 0
        self.latents: Tensor | None = None

    def push(self, new: Tensor, is_last: bool) -> tuple[Tensor, int, int]:
        """Add latents; all that there are, and the stretch [start, stop) of them to decode now."""
        self.latents = new if self.latents is None else torch.cat([self.latents, new], 2)
        start, total = self.done, self.latents.shape[2]
        self.done = total if is_last else max(start, total - self.reach)
        return self.latents, start, self.done


def padded(latents: Tensor | None, channels: int, length: int, *size: int) -> Tensor:
    """Latents [1, C, T, ...] cut or padded with 0 to a length; all 0 where None."""
    made = torch.zeros(1, channels, length, *size)
    if latents is not None:
        made = made.to(latents)
        made[:, :, : latents.shape[2]] = latents[:, :, :length]
    return made


def mirror(waveform: np.ndarray, length: int) -> np.ndarray:
    """A waveform [C, N] that goes on as its own reflection, float32 [C, length].

    The encoder hears a little of what comes after a token. On GRID's sentences the last token of a
    context was off by 0.42 of the latents' deviation with silence after it, by 0.25 with this.
    """
    return np.pad(waveform, [(0, 0), (0, length - waveform.shape[1])], mode="reflect")
