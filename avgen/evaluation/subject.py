"""A path in, the clip under evaluation out: decoded once, its faces found once, on first use."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avgen.clips.files import memory_budget
from avgen.clips.media.read import read_clip
from avgen.clips.media.streams import probe
from avgen.clips.timebase import num_samples
from avgen.errors import UserError

if TYPE_CHECKING:
    from avgen.clips.clip import Clip
    from avgen.clips.media.streams import StreamProbe
    from avgen.evaluation.faces.tracks import FaceTracker, Track

FPS = Fraction(25)  # what every sync protocol sees
SAMPLE_RATE = 16_000  # Hz, likewise
MAX_BYTES = memory_budget() // 4  # of decoded frames; several clips are decoded at a time


class Unscored(UserError):  # noqa: N818 - it reads as what the clip is
    """Why a clip has no score: the message is the reason, in one line."""


@dataclass
class Subject:
    """One clip under evaluation.

    Attributes:
        path: of the file.
        reference: the real clip that it is compared with, where there is one.
        tracker: finds faces; None for OpenCV's cascade.
        landmarker: MediaPipe's `face_landmarker.task`, where it was given.
        transcript: what is said in it, where that is known.
        recognizer: import path of what hears words (`speech.Recognizer`), where it was given.
    """

    path: Path
    reference: Path | None = None
    tracker: FaceTracker | None = None
    landmarker: Path | None = None
    transcript: str | None = None
    recognizer: str | None = None

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
        video = self._video
        if video is None or video.fps != FPS:
            return self._read(None, None, None)
        if self.clip.waveform is None:
            return self.clip
        from avgen.evaluation.timing import read_audio_quietly

        sound, rate = read_audio_quietly(self.path)  # the pictures are those of `clip`
        return replace(self.clip, waveform=_beside(sound, self.clip, rate), sample_rate=rate)

    @cached_property
    def tracks(self) -> list[Track]:
        """The faces in `clip.frames`, the largest and longest seen first."""
        from avgen.evaluation.faces.tracks import CascadeTracker

        return (self.tracker or CascadeTracker())(self.clip.frames)

    @cached_property
    def motion(self) -> np.ndarray:
        """Mean length of the optical flow into each of `native`'s frames, in pixels: [T]."""
        from avgen.evaluation.sync.av_align import picture_features

        return picture_features(self.native.frames)

    @cached_property
    def landmarks(self) -> np.ndarray:
        """The face's points in `clip.frames`: float32 [T, 478, 3], in pixels.

        Raises:
            Unscored: no model was given, or not one face throughout.
        """
        if self.landmarker is None:
            raise Unscored("landmarks need --weights face_landmarker=PATH (face_landmarker.task)")
        from avgen.evaluation.faces.tracks import LandmarkTracker, the_face

        points = the_face(LandmarkTracker(self.landmarker)(self.clip.frames)).landmarks
        assert points is not None
        return points

    @property
    def _video(self) -> StreamProbe | None:
        """The picture that is read, as the file describes it."""
        return next((s for s in probe(self.path).streams if s.kind == "video" and s.is_read), None)

    def _read(
        self, fps: Fraction | None, sample_rate: int | None, num_channels: int | None
    ) -> Clip:
        video = self._video
        if video is not None and video.duration_s and video.width and video.height:
            count = float(video.duration_s * (fps or video.fps or FPS))
            needed = count * video.width * video.height * 3
            if needed > MAX_BYTES:
                raise Unscored(
                    f"{count:.0f} frames of {video.width}x{video.height} need "
                    f"{needed / 2**30:.0f} GiB; at most {MAX_BYTES / 2**30:.0f} are decoded: "
                    "cut it into shorter clips"
                )
        with warnings.catch_warnings():  # the media probe says them, in the report
            warnings.simplefilter("ignore", UserWarning)
            return read_clip(self.path, fps=fps, sample_rate=sample_rate, num_channels=num_channels)


def own_sound(subject: Subject, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """The clip's sound, float32 [1, N], beside its picture from the first frame to the last.

    Raises:
        Unscored: it has none.
    """
    if subject.clip.waveform is None:
        raise Unscored("has no sound")
    if sample_rate == SAMPLE_RATE:
        return subject.clip.waveform
    from avgen.evaluation.timing import read_audio_quietly

    return _beside(read_audio_quietly(subject.path, sample_rate)[0], subject.clip, sample_rate)


def _beside(sound: np.ndarray, clip: Clip, rate: int) -> np.ndarray:
    """Sound [C, N] as long as a clip's picture: cut, or followed by silence."""
    count = num_samples(clip.num_frames, clip.fps, rate)
    return np.pad(sound[:, :count], ((0, 0), (0, max(0, count - sound.shape[1]))))
