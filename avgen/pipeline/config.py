"""What a model folder says besides its networks. No torch: it is read before that loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from avgen.clips.files import read_json
from avgen.codecs.normalize import LatentStatistics
from avgen.errors import UserError
from avgen.models.timing import SpeechTimer
from avgen.pipeline.request import GenerateRequest

DEFAULT_MODEL = Path(__file__).parents[1] / "checkpoints" / "people"

# Chosen by looking (LOG.md, nineteenth, twentieth and twenty-second to twenty-fourth session).
PICTURE = {"sampler": "renoise", "num_inference_steps": 12, "guidance_scale": 4.0,
           "guidance_rescale": 0.7, "guidance_limit": 0.66, "last_sigma": 0.15,
           "video_patch": 1}  # fmt: skip


@dataclass(frozen=True)
class PipelineConfig:
    """What a model folder says besides its networks.

    The fields that `GenerateRequest` has as well are what it makes unless asked otherwise.

    Attributes:
        height: Rows of pixels it was trained on.
        width: Columns.
        fps: Frames per second, as a fraction's text.
        num_frames: Frames it was trained on: the default length, and a window's but for its last.
        context_frames: Frames of a window that the next goes on from; 1 + a multiple of the stride.
        video_patch: Latents each way in a video token.
        audio_patch: Latents in an audio token.
        video_statistics: Mean and deviation of the video latents' channels.
        audio_statistics: Of the audio latents' channels.
        timer: How long words take, as `SpeechTimer`'s fields.
        caption: Used where a prompt says nothing but words.
        needs_words: Whether a clip needs words to say unless sound or picture is given.
        guidance_limit: Root mean square of how far guidance may move what is expected at its first
            step; where it would move it further, the scales are lowered, for all steps. 0 is none.
        temperature: Of the noise, all that is drawn: below 1 what is made is likelier and less
            varied (Kingma and Dhariwal, "Glow", 2018, section 6).
        last_sigma: Below this noise level what is expected is taken: smooth, and not mottled.
        sound_delay_s: By how many seconds the sound that it makes was seen to run ahead of the
            picture: it is told that its sound is so much earlier (where sound is given, it is not).
        picture: Those of these fields that are others while the first picture is made of a caption.
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
    sampler: str = "ab2"
    shift: float = 1.0
    audio_shift: float | None = None  # None is `shift`
    guidance_scale: float = 1.5
    audio_guidance_scale: float = 1.5
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    guidance_rescale: float = 0.0
    guidance_limit: float = 0.0
    synchrony_scale: float = 0.0
    temperature: float = 1.0
    last_sigma: float = 0.0
    sound_delay_s: float = 0.0
    picture: Mapping[str, Any] = field(default_factory=lambda: dict(PICTURE), hash=False)

    @classmethod
    def read(cls, folder: Path) -> PipelineConfig:
        """Read a model folder's.

        Raises:
            UserError: the folder is no model folder.
        """
        if not folder.is_dir():
            raise UserError(
                f"{folder}: not a folder; a model is one with config.json and its parts"
            )
        path = folder / "config.json"
        values = read_json(path)
        try:
            return cls.from_json(values)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: does not describe a pipeline: {error}") from error

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
        config = cls(**rebuilt)
        config.of_picture()  # a field that there is not is said now
        return config

    def of_picture(self) -> PipelineConfig:
        """The same while the first picture is made."""
        return replace(self, **self.picture)

    def picture_width(self, video_channels: int, audio_channels: int) -> int:
        """Numbers in a token of what makes the first picture."""
        patch = self.of_picture().video_patch
        return max(video_channels * patch**2, audio_channels * self.audio_patch)

    def settings(self, request: GenerateRequest) -> PipelineConfig:
        """The same with what a request asks for in place of what the model does by itself."""
        own = {about.name for about in fields(self)} - {"fps", "num_frames"}  # of training
        asked = {name: value for name, value in vars(request).items() if name in own}
        return replace(self, **{k: v for k, v in asked.items() if v is not None})
