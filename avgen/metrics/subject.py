"""A path in, the clip under evaluation out: decoded once, its faces found once, on first use."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from avgen.clips.media import read_clip

if TYPE_CHECKING:
    from avgen.clips.clip import Clip
    from avgen.metrics.faces import FaceTracker, Track

FPS = Fraction(25)  # what every sync protocol sees
SAMPLE_RATE = 16_000  # Hz, likewise


class Unscored(ValueError):  # noqa: N818 - it reads as what the clip is
    """Why a clip has no score: the message is the reason, in one line."""


@dataclass
class Subject:
    """One clip under evaluation.

    Attributes:
        path: of the file.
        reference: the real clip that it is compared with, where there is one.
        tracker: finds faces; None for OpenCV's cascade.
    """

    path: Path
    reference: Path | None = None
    tracker: FaceTracker | None = None

    @cached_property
    def clip(self) -> Clip:
        """Picture at 25 fps and sound as 16 kHz mono, by timestamp; for sync protocols.

        Raises:
            MediaError: no readable video, or a damaged one.
        """
        return self._read(FPS, SAMPLE_RATE, 1)

    @cached_property
    def native(self) -> Clip:
        """Picture and sound at their own rates, for measures that a resampling would change.

        Raises:
            MediaError: no readable video, or a damaged one.
        """
        return self._read(None, None, None)

    @cached_property
    def tracks(self) -> list[Track]:
        """The faces in `clip.frames`, the largest and longest seen first."""
        from avgen.metrics.faces import CascadeTracker

        return (self.tracker or CascadeTracker())(self.clip.frames)

    def _read(
        self, fps: Fraction | None, sample_rate: int | None, num_channels: int | None
    ) -> Clip:
        with warnings.catch_warnings():  # the media probe says them, in the report
            warnings.simplefilter("ignore", UserWarning)
            return read_clip(self.path, fps=fps, sample_rate=sample_rate, num_channels=num_channels)
