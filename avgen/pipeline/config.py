"""What a model folder says besides its networks, and how a clip is denoised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from avgen.codecs.normalize import LatentStatistics
from avgen.errors import UserError
from avgen.models.timing import SpeechTimer


@dataclass(frozen=True)
class PipelineConfig:
    """What a model folder says besides its networks.

    Attributes:
        height: Rows of pixels it was trained on, and makes by default.
        width: Columns.
        fps: Frames per second, as a fraction's text.
        num_frames: Frames it was trained on: the default length, and the length of a window.
        context_frames: Frames of the end of one window that the next goes on from; 1 + a multiple
            of the codec's stride.
        video_patch: Latents each way in a video token.
        audio_patch: Latents in an audio token.
        video_statistics: Mean and deviation of the video latents' channels.
        audio_statistics: Of the audio latents' channels.
        timer: How long words take, as `SpeechTimer`'s fields.
        caption: Used where a prompt says nothing but words.
        needs_words: Whether a clip needs words to say unless sound or picture is given.
        num_inference_steps: Default.
        guidance_scale: Default, of the picture.
        audio_guidance_scale: Default, of the sound.
        shift: Of the sampling grid, towards noise (see `shift_sigma`).
    """

    height: int
    width: int
    fps: str
    num_frames: int
    context_frames: int
    video_patch: int
    audio_patch: int
    video_statistics: LatentStatistics
    audio_statistics: LatentStatistics
    timer: SpeechTimer
    caption: str = ""
    needs_words: bool = True
    num_inference_steps: int = 24
    guidance_scale: float = 1.5
    audio_guidance_scale: float = 1.5
    shift: float = 1.0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PipelineConfig:
        """Rebuild from what `asdict` and JSON made of it."""
        rebuilt = dict(values)
        for name, kind in (
            ("video_statistics", LatentStatistics),
            ("audio_statistics", LatentStatistics),
            ("timer", SpeechTimer),
        ):
            rebuilt[name] = kind(**rebuilt[name])
        return cls(**rebuilt)


@dataclass(frozen=True)
class Sampling:
    """How a clip is denoised.

    Attributes:
        num_steps: Steps of the sampler.
        guidance_scale: Pull of the text on the picture; 1 is off.
        audio_guidance_scale: Pull of the text on the sound; 1 is off.
        seed: Of the noise.
        negative_caption: What guidance pushes away from, or None for no text at all.

    Raises:
        UserError: no steps, or a scale that is not a number.
    """

    num_steps: int
    guidance_scale: float
    audio_guidance_scale: float
    seed: int
    negative_caption: str | None

    def __post_init__(self) -> None:
        """Check what a sampler would only stumble over."""
        if self.num_steps < 1:
            raise UserError(f"num_inference_steps is {self.num_steps}; it must be at least 1")
        for name in ("guidance_scale", "audio_guidance_scale"):
            if not math.isfinite(getattr(self, name)):
                raise UserError(f"{name} is {getattr(self, name)}; it must be finite")
