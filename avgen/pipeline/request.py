"""What is asked for and given -> a `Request`: lengths are numbers, words have times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
import torchaudio

from avgen.clips.clip import Clip, Word
from avgen.clips.files import memory_budget
from avgen.clips.timebase import num_samples, to_index, to_seconds
from avgen.clips.transforms import center_crop_resize, remix
from avgen.errors import UserError
from avgen.models.timing import spread
from avgen.pipeline.config import PipelineConfig

SMALLEST_SIDE = 16  # pixels: one latent
LATE_S = 0.05  # a last word may end this much after the clip: half a syllable's tail, unheard
# Memory for a pixel of one frame: the clip is held twice as bytes; a window as three float copies
# (36), and as its share of a token of 4 x 32 x 32 pixels whose activations take 60 000 bytes (15).
CLIP_BYTES = 6
WINDOW_BYTES = 51


@dataclass(frozen=True)
class Asked:
    """What is asked for, in the user's words; None leaves it to the model.

    Attributes:
        caption: How it looks and sounds; empty for the model's own.
        speech: What is said; may be empty.
        words: What is said, with times in seconds, instead of `speech`. After a beginning they
            count from its end.
        seconds: Of the whole clip.
        num_frames: Of the whole clip, instead of `seconds`.
        height: Rows of pixels.
        width: Columns.
        fps: Frames per second.
    """

    caption: str = ""
    speech: str = ""
    words: Sequence[Word] | None = None
    seconds: float | None = None
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    fps: Fraction | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where lengths are said twice or are not positive."""
        if self.speech and self.words is not None:
            raise UserError("words and speech are both given; either says what is said")
        if self.seconds is not None and self.num_frames is not None:
            raise UserError("seconds and num_frames are both given; either says how long")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise UserError(f"seconds is {self.seconds}; it must be more than 0")
        if self.fps is not None and self.fps <= 0:
            raise UserError(f"fps is {self.fps}; it must be more than 0")
        for name in ("height", "width"):
            value = getattr(self, name)
            if value is not None and value < SMALLEST_SIDE:
                raise UserError(f"{name} is {value}; it must be at least {SMALLEST_SIDE} pixels")


@dataclass(frozen=True)
class Given:
    """What is handed over, and comes out as it went in.

    Attributes:
        image: The first frame, uint8 [H, W, 3].
        audio: All the sound: (float32 [C, N], sample rate).
        video: All the picture.
        extend: A beginning of both.
    """

    image: np.ndarray | None = None
    audio: tuple[np.ndarray, int] | None = None
    video: Clip | None = None
    extend: Clip | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where one contradicts another, or is not what it should be."""
        if self.audio is not None and self.video is not None:
            raise UserError("audio and video are both given; then there is nothing to make")
        if self.image is not None and self.video is not None:
            raise UserError("image and video are both given; a video has its first frame")
        others = (self.image, self.audio, self.video)
        if self.extend is not None and any(other is not None for other in others):
            raise UserError(
                "extend is given with image, audio or video; a beginning already has both"
            )
        if self.extend is not None and self.extend.waveform is None:
            raise UserError("extend has no sound; a beginning needs both (or give it as video)")
        if self.image is not None and (
            self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3
        ):
            raise UserError(
                f"image is {self.image.dtype} {list(self.image.shape)}; it must be uint8 [H, W, 3]"
            )
        if self.audio is not None:
            waveform, rate = self.audio
            if waveform.dtype != np.float32 or waveform.ndim != 2 or waveform.size == 0:
                raise UserError(
                    f"audio is {waveform.dtype} {list(waveform.shape)}; it must be float32 [C, N]"
                )
            if rate <= 0:
                raise UserError(f"the sample rate of audio is {rate}; it must be more than 0")


@dataclass(frozen=True)
class Request:
    """What is asked for, resolved.

    Attributes:
        caption: How it looks and sounds.
        words: What is said, and when, in seconds of the whole clip.
        num_frames: Of the whole clip.
        fps: Frames per second.
        height: Rows of pixels.
        width: Columns.
        num_begun: Frames that are given with their sound; making starts after them.
        frames: Given frames from the start, uint8 [t, height, width, 3], t <= num_frames.
        waveform: Given sound from the start, float32 [1, n] at the codec's rate: of the whole
            clip, or of the beginning.
    """

    caption: str
    words: tuple[Word, ...]
    num_frames: int
    fps: Fraction
    height: int
    width: int
    num_begun: int = 0
    frames: np.ndarray | None = None
    waveform: np.ndarray | None = None

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
        return self.waveform is not None and self.num_begun == 0


def resolve(asked: Asked, given: Given, config: PipelineConfig, sample_rate: int) -> Request:
    """Settle sizes, lengths and times.

    Args:
        asked: What is asked for.
        given: What is handed over.
        config: The model's own sizes, and how long it takes to say something.
        sample_rate: The audio codec's; given sound is brought to it.

    Raises:
        UserError: words are missing, late or cannot be pronounced; rates or lengths do not fit
            what is given; the clip would not fit into memory.
    """
    fps = Fraction(config.fps) if asked.fps is None else Fraction(asked.fps)
    for clip in (given.video, given.extend):
        if clip is not None and clip.fps != fps:
            raise UserError(
                f"a clip at {clip.fps} fps is given, {fps} fps asked for; read it at that rate"
            )
    is_silent = not asked.speech and not asked.words
    if is_silent and config.needs_words and given.audio is None and given.video is None:
        raise UserError(
            "nothing to say: this model needs words, as in "
            "prompt='a man says \"place red at g nine now\"'"
        )
    begun = 0 if given.extend is None else given.extend.num_frames
    total = _num_frames(asked, given, config, fps)
    if total <= begun:
        raise UserError(f"{total} frames asked for; it must be more than the {begun} given")
    height = config.height if asked.height is None else asked.height
    width = config.width if asked.width is None else asked.width
    check_memory(total, height, width, config.num_frames)
    return Request(
        caption=asked.caption or config.caption,
        words=_words(asked, config, to_seconds(begun, fps), to_seconds(total, fps)),
        num_frames=total,
        fps=fps,
        height=height,
        width=width,
        num_begun=begun,
        frames=_frames(given, total, height, width),
        waveform=_waveform(given, num_samples(begun or total, fps, sample_rate), sample_rate),
    )


def _num_frames(asked: Asked, given: Given, config: PipelineConfig, fps: Fraction) -> int:
    """Frames of the whole clip: as asked, else as long as what is given, else as the words take."""
    begun = 0 if given.extend is None else given.extend.num_frames
    tail_s = config.timer.tail_s
    if asked.num_frames is not None:
        total = asked.num_frames
    elif asked.seconds is not None:
        total = to_index(asked.seconds, fps)
    elif given.video is not None:
        total = given.video.num_frames
    elif given.audio is not None:
        waveform, rate = given.audio
        total = max(1, to_index(to_seconds(waveform.shape[1], rate), fps))
    elif asked.words:
        total = begun + to_index(max(word.end_s for word in asked.words) + tail_s, fps)
    else:
        total = begun + to_index(to_seconds(config.num_frames, Fraction(config.fps)), fps)
        if asked.speech:
            last = config.timer.time(asked.speech).words[-1]
            total = max(total, begun + to_index(last.end_s + tail_s, fps))
    if given.video is not None and total > given.video.num_frames:
        raise UserError(
            f"{total} frames asked for, {given.video.num_frames} given by video; it must give all"
        )
    return total


def _words(
    asked: Asked, config: PipelineConfig, start_s: Fraction, end_s: Fraction
) -> tuple[Word, ...]:
    """The words, timed to lie in [start_s, end_s) of the clip, all of which can be pronounced."""
    if asked.words is not None:
        own = tuple(asked.words)
    else:
        own = config.timer.time(asked.speech, float(end_s - start_s)).words if asked.speech else ()
    shift = float(start_s)
    words = tuple(Word(word.text, word.start_s + shift, word.end_s + shift) for word in own)
    for word in words:
        if word.end_s > end_s + LATE_S:
            raise UserError(
                f"the word {word.text!r} ends at {word.end_s:.2f} s; "
                f"the clip ends at {float(end_s):.2f} s"
            )
    spread(words, config.timer.lexicon)  # says now which word cannot be pronounced
    return words


def _frames(given: Given, num_frames: int, height: int, width: int) -> np.ndarray | None:
    """Given frames of the asked size, uint8 [t, height, width, 3]; what is too long is cut."""
    clip = given.extend if given.video is None else given.video
    if given.image is not None:
        frames = given.image[None]
    elif clip is not None:
        frames = clip.frames[:num_frames]
    else:
        return None
    return center_crop_resize(frames, height, width)


def _waveform(given: Given, length: int, sample_rate: int) -> np.ndarray | None:
    """Given sound, float32 [1, length] at the codec's rate."""
    if given.audio is not None:
        waveform, rate = given.audio
    elif given.extend is not None:
        assert given.extend.waveform is not None and given.extend.sample_rate is not None
        waveform, rate = given.extend.waveform, given.extend.sample_rate
    else:
        return None
    mono = torch.from_numpy(np.ascontiguousarray(remix(waveform, 1)))
    return fit(torchaudio.functional.resample(mono, rate, sample_rate).numpy(), length)


def fit(waveform: np.ndarray, length: int) -> np.ndarray:
    """A waveform [C, N] cut or padded with silence to `length` samples."""
    return np.pad(waveform[:, :length], [(0, 0), (0, max(0, length - waveform.shape[1]))])


def check_memory(num_frames: int, height: int, width: int, window: int) -> None:
    """Raise ValueError where a clip made in windows would not fit into this machine's memory."""
    frames = CLIP_BYTES * num_frames + WINDOW_BYTES * min(num_frames, window)
    need = height * width * frames
    have = memory_budget()
    if need > have:
        raise UserError(
            f"{num_frames} frames of {height}x{width} need about {need / 2**30:.0f} GiB of memory; "
            f"{have / 2**30:.0f} may be used here"
        )
