"""A request and a model's settings in, `Conditions` out: lengths are numbers, words have times."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
import torchaudio
from torch import Tensor

from avgen.clips.clip import Clip
from avgen.clips.files import memory_budget
from avgen.clips.timebase import num_samples, parse_rate, to_index, to_seconds
from avgen.clips.transforms import center_crop_resize, remix
from avgen.errors import UserError
from avgen.models.phonemes import TimedPhoneme, during
from avgen.models.prompt import parse_prompt
from avgen.models.timing import SpeechTiming
from avgen.pipeline.config import PipelineConfig
from avgen.pipeline.request import GenerateRequest

# Memory for a pixel of one frame: a clip is held twice as bytes, or, where it is written as it is
# made, as latents; a window as three float copies (36), and as its share of a token of 4 x 32 x 32
# pixels whose activations take 60 000 bytes (15).
CLIP_BYTES, LATENT_BYTES, WINDOW_BYTES = 6, 0.2, 51
LONGER = 0.125  # of a window: so much of a clip's end is no window of its own
LATE_S = 0.05  # a last word may end this much after the clip: half a syllable's tail, unheard


@dataclass(frozen=True)
class Conditions:
    """What a clip is made from.

    Attributes:
        settings: The model's, with what was asked for.
        seed: Of the noise.
        caption: How it looks and sounds.
        negative_caption: What guidance pushes away from; empty for no text at all.
        phonemes: What is said, and when, in seconds of the whole clip.
        num_frames: Of the whole clip.
        fps: Frames per second.
        num_begun: Frames that are given with their sound; making starts after them.
        frames: Given frames from the start, uint8 [t, height, width, 3], t <= num_frames.
        waveform: Given sound from the start, float32 [num_channels, n] at the codec's rate: of
            the whole clip, or of the beginning.
        sound: All the sound as it was given, which comes out again: (float32 [C, N], rate).
        face: Normalised latents of a picture to look like, [1, C, 1, H, W].
        voice: Normalised latents of a voice to sound like, [1, C, T].
        num_channels: Of the sound that is made.
    """

    settings: PipelineConfig
    seed: int
    caption: str
    negative_caption: str
    phonemes: tuple[TimedPhoneme, ...]
    num_frames: int
    fps: Fraction
    num_begun: int = 0
    frames: np.ndarray | None = None
    waveform: np.ndarray | None = None
    sound: tuple[np.ndarray, int] | None = None
    face: Tensor | None = None
    voice: Tensor | None = None
    num_channels: int = 1

    @property
    def captions(self) -> list[str]:
        """How it looks and sounds, and what guidance pushes away from."""
        return [self.caption, self.negative_caption]

    @property
    def num_pictured(self) -> int:
        """Frames whose picture is given."""
        return 0 if self.frames is None else len(self.frames)

    @property
    def is_pictured(self) -> bool:
        """Whether all the picture is given."""
        return self.num_pictured == self.num_frames

    @property
    def is_voiced(self) -> bool:
        """Whether all the sound is given."""
        return self.sound is not None

    def record(self) -> dict[str, Any]:
        """The size and settings that it is made with, JSON-able."""
        settings = {
            about.name: getattr(self.settings, about.name)
            for about in fields(GenerateRequest)
            if getattr(self.settings, about.name, None) is not None
        }
        clip = {"num_frames": self.num_frames, "fps": str(self.fps)}
        return settings | clip | {"seconds": float(self.num_frames / self.fps)}


def resolve(
    request: GenerateRequest,
    config: PipelineConfig,
    sample_rate: int,
    timing: SpeechTiming,
    num_channels: int = 1,
) -> Conditions:
    """Settle sizes, lengths and times.

    Args:
        request: Without files.
        config: Of the model, with what the request asks for (`PipelineConfig.settings`).
        sample_rate: The audio codec's; given sound is brought to it.
        timing: Where times of speech come from.
        num_channels: The audio codec's.

    Raises:
        UserError: words are missing, late or cannot be pronounced; rates or lengths do not fit
            what is given.
    """
    fps = Fraction(config.fps) if request.fps is None else parse_rate(str(request.fps))
    for clip in (request.video, request.extend):
        if isinstance(clip, Clip) and clip.fps != fps:
            raise UserError(
                f"a clip at {clip.fps} fps is given, {fps} fps asked for; read it at that rate",
                "fps",
            )
    caption, quoted = parse_prompt(request.prompt)
    speech = (quoted if request.words is None else "") if request.speech is None else request.speech
    is_silent = not speech and not request.words
    if is_silent and config.needs_words and request.audio is None and request.video is None:
        raise UserError(
            "nothing to say: this model needs words, as in "
            "prompt='a man says \"place red at g nine now\"'",
            "prompt",
        )
    begun = request.extend.num_frames if isinstance(request.extend, Clip) else 0
    total = _num_frames(request, speech, config, fps, timing)
    if total <= begun:
        raise UserError(
            f"{total} frames asked for; it must be more than the {begun} given", "seconds"
        )
    check_memory(total, fps, config, LATENT_BYTES)
    return Conditions(
        settings=config,
        seed=request.seed,
        caption=caption or config.caption,
        negative_caption=request.negative_prompt or "",
        phonemes=_phonemes(request, speech, timing, to_seconds(begun, fps), to_seconds(total, fps)),
        num_frames=total,
        fps=fps,
        num_begun=begun,
        frames=_frames(request, total, config),
        waveform=_waveform(
            request, num_samples(begun or total, fps, sample_rate), sample_rate, num_channels
        ),
        sound=request.audio if isinstance(request.audio, tuple) else None,
        num_channels=num_channels,
    )


def silent(conditions: Conditions, sample_rate: int) -> Conditions:
    """The same with a sound that is given, silence where there is none, for who makes no sound."""
    begun = conditions.waveform
    given = np.zeros((conditions.num_channels, 0), np.float32) if begun is None else begun
    given = fit(given, num_samples(conditions.num_frames, conditions.fps, sample_rate))
    return replace(conditions, waveform=given, sound=(given, sample_rate))


def _num_frames(
    request: GenerateRequest,
    speech: str,
    config: PipelineConfig,
    fps: Fraction,
    timing: SpeechTiming,
) -> int:
    """Frames of the whole clip: as asked, else as long as what is given, else as the words take."""
    begun = request.extend.num_frames if isinstance(request.extend, Clip) else 0
    if request.num_frames is not None:
        total = request.num_frames
    elif request.seconds is not None:
        total = to_index(request.seconds, fps)
    elif isinstance(request.video, Clip):
        total = request.video.num_frames
    elif isinstance(request.audio, tuple):
        waveform, rate = request.audio
        total = max(1, to_index(to_seconds(waveform.shape[1], rate), fps))
    elif request.words:
        last_s = max(word.end_s for word in request.words)
        total = begun + to_index(last_s + timing.tail_s, fps)
    else:
        total = begun + trained_frames(config, fps)
        if speech:
            timed = timing.time(speech, rate=request.rate)
            total = max(total, begun + to_index(timed.words[-1].end_s + timed.tail_s, fps))
    if isinstance(request.video, Clip) and total > request.video.num_frames:
        raise UserError(
            f"{total} frames asked for, {request.video.num_frames} given by video; "
            "it must give all",
            "seconds",
        )
    return total


def _phonemes(
    request: GenerateRequest,
    speech: str,
    timing: SpeechTiming,
    start_s: Fraction,
    end_s: Fraction,
) -> tuple[TimedPhoneme, ...]:
    """What is said, timed to lie in [start_s, end_s) of the clip."""
    length_s = end_s - start_s
    if speech:
        timed = timing.time(speech, float(length_s), request.rate)
        words, phonemes = timed.words, timed.phonemes
    else:
        words = tuple(request.words or ())
        phonemes = timing.spread(words)
    for word in words:
        if word.end_s > length_s + LATE_S:
            raise UserError(
                f"the word {word.text!r} ends at {start_s + word.end_s:.2f} s; "
                f"the clip ends at {float(end_s):.2f} s",
                "words" if request.words else "speech",
            )
    return during(phonemes, -float(start_s), float(end_s))


def _frames(request: GenerateRequest, num_frames: int, config: PipelineConfig) -> np.ndarray | None:
    """Given frames of the asked size, uint8 [t, height, width, 3]; what is too long is cut."""
    clip = request.extend if request.video is None else request.video
    if isinstance(request.image, np.ndarray):
        frames = request.image[None]
    elif isinstance(clip, Clip):
        frames = clip.frames[:num_frames]
    else:
        return None
    return center_crop_resize(frames, config.height, config.width)


def _waveform(
    request: GenerateRequest, length: int, sample_rate: int, num_channels: int
) -> np.ndarray | None:
    """Given sound, float32 [num_channels, length] at the codec's rate."""
    if isinstance(request.audio, tuple):
        return fit(at_rate(*request.audio, sample_rate, num_channels), length)
    if isinstance(request.extend, Clip):
        assert request.extend.waveform is not None and request.extend.sample_rate is not None
        rates = request.extend.sample_rate, sample_rate
        return fit(at_rate(request.extend.waveform, *rates, num_channels), length)
    return None


def at_rate(waveform: np.ndarray, rate: int, sample_rate: int, num_channels: int = 1) -> np.ndarray:
    """A waveform [C, N] at `rate` in other channels, float32 [num_channels, M], `sample_rate`."""
    mixed = torch.from_numpy(np.ascontiguousarray(remix(waveform, num_channels)))
    return torchaudio.functional.resample(mixed, rate, sample_rate).numpy()


def fit(waveform: np.ndarray, length: int) -> np.ndarray:
    """A waveform [C, N] cut or padded with silence to `length` samples."""
    return np.pad(waveform[:, :length], [(0, 0), (0, max(0, length - waveform.shape[1]))])


def trained_frames(settings: PipelineConfig, fps: Fraction) -> int:
    """As many frames, at a rate, as last as long as what the model was trained on."""
    return to_index(to_seconds(settings.num_frames, Fraction(settings.fps)), fps)


def check_memory(num_frames: int, fps: Fraction, settings: PipelineConfig, held: float) -> None:
    """Raise UserError where a clip does not fit, of which `held` bytes a pixel stay in memory."""
    height, width = settings.height, settings.width
    window = WINDOW_BYTES * min(num_frames, (1 + LONGER) * trained_frames(settings, fps))
    need, have = height * width * (held * num_frames + window), memory_budget()
    if need > have:
        raise UserError(
            f"{num_frames} frames of {height}x{width} need about {need / 2**30:.0f} GiB of memory; "
            f"{have / 2**30:.0f} may be used here",
            "seconds",
        )
