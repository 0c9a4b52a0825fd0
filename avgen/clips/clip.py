"""What a file becomes and what is written back: frames and sound that share one beginning.

Frame 0 is shown and sample 0 is heard at the same instant, time 0; frame i is shown at i / fps and
sample n is heard at n / sample_rate.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from avgen.clips.files import MediaError
from avgen.clips.timed_words import Word
from avgen.errors import UserError

__all__ = ["Clip", "MediaError", "Word"]


@dataclass(frozen=True)
class Clip:
    """Frames and the sound that belongs to them, both from time 0.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB, T >= 1.
        fps: frames per second, exact.
        waveform: float32 [C, N] in [-1, 1], or None for a clip without sound.
        sample_rate: Hz; given exactly when `waveform` is.

    Raises:
        UserError: an array of another shape or type, or a rate that is missing or not positive.
    """

    frames: np.ndarray
    fps: Fraction
    waveform: np.ndarray | None = None
    sample_rate: int | None = None

    def __post_init__(self) -> None:
        if self.frames.dtype != np.uint8 or self.frames.ndim != 4 or self.frames.shape[3] != 3:
            raise UserError(
                f"frames are {self.frames.dtype} {list(self.frames.shape)}; "
                "they must be uint8 [T, H, W, 3]"
            )
        if 0 in self.frames.shape:
            raise UserError(f"frames are {list(self.frames.shape)}; no axis may be empty")
        if self.fps <= 0:
            raise UserError(f"fps is {self.fps}; it must be positive")
        if (self.waveform is None) != (self.sample_rate is None):
            raise UserError("waveform and sample_rate must be given together or not at all")
        if self.waveform is not None and (
            self.waveform.dtype != np.float32 or self.waveform.ndim != 2
        ):
            raise UserError(
                f"waveform is {self.waveform.dtype} {list(self.waveform.shape)}; "
                "it must be float32 [C, N]"
            )
        if self.sample_rate is not None and self.sample_rate <= 0:
            raise UserError(f"sample_rate is {self.sample_rate}; it must be positive")

    @property
    def num_frames(self) -> int:
        """How many frames."""
        return self.frames.shape[0]

    @property
    def height(self) -> int:
        """Of the picture, in pixels."""
        return self.frames.shape[1]

    @property
    def width(self) -> int:
        """Of the picture, in pixels."""
        return self.frames.shape[2]

    @property
    def num_channels(self) -> int:
        """Of the sound; 0 without sound."""
        return 0 if self.waveform is None else self.waveform.shape[0]

    @property
    def num_samples(self) -> int:
        """Of the sound, per channel; 0 without sound."""
        return 0 if self.waveform is None else self.waveform.shape[1]

    @property
    def duration_s(self) -> Fraction:
        """Of the picture, in seconds: num_frames / fps."""
        return self.num_frames / Fraction(self.fps)
