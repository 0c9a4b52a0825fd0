"""What a clip is made of, in numbers.

How many latents and tokens, and which seconds each one covers.

Everything is derived from the clip's own rates and the codec's own strides with Fractions; nothing
is typed in. Reference: the clip arithmetic of MMAudio's `sequence_config.py`, and positions in
seconds as in LTX-2's patchifiers (both read, neither copied).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from avgen.clips.timebase import to_seconds
from avgen.errors import UserError

Span = tuple[Fraction, Fraction]  # [start, end) in seconds


@dataclass(frozen=True)
class VideoGrid:
    """The latents of a picture stream, and the patches of latents that become tokens.

    Attributes:
        num_frames: Frames of the clip.
        height: Rows of pixels.
        width: Columns of pixels.
        fps: Frames per second.
        stride: Frames, rows and columns that one latent stands for (the codec's).
        channels: Numbers in one latent (the codec's).
        patch: Latents each way in one token.
    """

    num_frames: int
    height: int
    width: int
    fps: Fraction
    stride: tuple[int, int, int]
    channels: int
    patch: int

    def __post_init__(self) -> None:
        """Check that there is something to cover."""
        for name in ("num_frames", "height", "width", "fps"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} is {getattr(self, name)}; it must be greater than 0")

    @property
    def num_latents(self) -> int:
        """Latent frames: one for the first frame, then one for every `stride[0]` frames."""
        return 1 - (-(self.num_frames - 1) // self.stride[0])

    @property
    def latent_size(self) -> tuple[int, int]:
        """Rows and columns of latents."""
        return -(-self.height // self.stride[1]), -(-self.width // self.stride[2])

    @property
    def token_size(self) -> tuple[int, int]:
        """Rows and columns of tokens; an odd last row or column of latents is padded."""
        rows, columns = self.latent_size
        return -(-rows // self.patch), -(-columns // self.patch)

    @property
    def tokens_per_latent(self) -> int:
        """Tokens of one latent frame."""
        return self.token_size[0] * self.token_size[1]

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole clip."""
        return self.num_latents * self.tokens_per_latent

    @property
    def token_channels(self) -> int:
        """Numbers in one token."""
        return self.channels * self.patch**2

    def latent_frames(self, latent: int) -> tuple[int, int]:
        """Frames [first, last + 1) that a latent frame covers.

        The end of the clip not considered.
        """
        step = self.stride[0]
        return (0, 1) if latent == 0 else (step * (latent - 1) + 1, step * latent + 1)

    def span(self, latent: int) -> Span:
        """Seconds [start, end) of a latent frame."""
        first, stop = self.latent_frames(latent)
        return to_seconds(first, self.fps), to_seconds(stop, self.fps)

    def center(self, row: int, column: int) -> tuple[float, float]:
        """Pixels from the middle of the picture to the middle of a token: (down, right)."""
        size_y, size_x = self.patch * self.stride[1], self.patch * self.stride[2]
        return (row + 0.5) * size_y - self.height / 2, (column + 0.5) * size_x - self.width / 2


@dataclass(frozen=True)
class AudioGrid:
    """The latents of a sound stream, and the runs of latents that become tokens.

    Attributes:
        num_samples: Samples of the clip, per channel.
        sample_rate: Samples per second.
        hop_length: Samples that one latent stands for (the codec's).
        channels: Numbers in one latent (the codec's).
        patch: Latents in one token.
        start_s: When the first sample is heard.
        lead: Samples that the first latent is short of a hop (the codec's).
    """

    num_samples: int
    sample_rate: int
    hop_length: int
    channels: int
    patch: int
    start_s: Fraction = Fraction(0)
    lead: int = 0

    def __post_init__(self) -> None:
        """Check that there is something to cover."""
        if self.num_samples < 1:
            raise UserError(f"num_samples is {self.num_samples}; it must be greater than 0")

    @property
    def num_latents(self) -> int:
        """Latents of the whole clip."""
        return -(-(self.num_samples + self.lead) // self.hop_length)

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole clip; a last run that is short is padded."""
        return -(-self.num_latents // self.patch)

    @property
    def token_channels(self) -> int:
        """Numbers in one token."""
        return self.channels * self.patch

    def span(self, token: int) -> Span:
        """Seconds [start, end) of a token."""
        length = to_seconds(self.patch * self.hop_length, self.sample_rate)
        origin = self.start_s - to_seconds(self.lead, self.sample_rate)
        return max(self.start_s, origin + token * length), origin + (token + 1) * length
