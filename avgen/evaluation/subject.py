"""A clip under evaluation: decoded once, and what metrics share of it computed once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from avgen.clips.clip import Clip
from avgen.clips.files import memory_budget
from avgen.clips.media.read import read_audio, read_clip
from avgen.clips.media.streams import MediaProbe, StreamProbe, probe
from avgen.clips.timebase import num_samples
from avgen.errors import UserError
from avgen.evaluation.speech.transcripts import Transcript

FPS = Fraction(25)  # of the picture, for every sync protocol
SAMPLE_RATE = 16_000  # Hz, likewise of the sound
MAX_BYTES = memory_budget() // 4  # of decoded frames; several clips are decoded at a time

Weights = dict[str, Path]
Shared = TypeVar("Shared")


class Unscored(UserError):  # noqa: N818 - it reads as what the clip is
    """A clip has no score; the message is the reason, in one line."""


@dataclass(frozen=True)
class Network:
    """A network that a metric needs.

    Attributes:
        name: As in `--weights NAME=PATH`.
        description: Of the file, for messages.
        load: Makes the network of a path, once a process; raises UserError for a wrong file.
        shipped: Its folder in the package; None for one that the user has to give.
    """

    name: str
    description: str
    load: Callable[[Path], Any]
    shipped: Path | None = None


@dataclass
class Subject:
    """One clip under evaluation, and what it is compared with.

    Attributes:
        path: The file.
        reference: The real clip of the same name, if there is one.
        weights: Paths by the name of a `Network`.
        transcript: What is said in it, as far as known.
        recognizer: Import path of a `speech.recognition.Recognizer`, if given.
        picture: A picture of the person whom it should show, if given.
        voice: A recording of the voice that it should have, if given.
    """

    path: Path
    reference: Path | None = None
    weights: Weights = field(default_factory=dict)
    transcript: Transcript = field(default_factory=Transcript)
    recognizer: str | None = None
    picture: Path | None = None
    voice: Path | None = None
    _shared: dict[Any, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def clip(self) -> Clip:
        """Picture at 25 fps and sound as 16 kHz mono, by timestamp.

        Raises:
            MediaError: no readable video, or a damaged one.
        """
        return self._read(FPS, SAMPLE_RATE, 1)

    @cached_property
    def native(self) -> Clip:
        """Picture and sound at their own rates.

        Raises:
            MediaError: no readable video, or a damaged one.
        """
        video = read_stream(probe(self.path), "video")
        if video is None or video.fps != FPS:
            return self._read(None, None, None)
        if self.clip.waveform is None:
            return self.clip
        sound, rate = read_audio_quietly(self.path)  # the frames are those of `clip`
        return replace(self.clip, waveform=_beside(sound, self.clip, rate), sample_rate=rate)

    @cached_property
    def real(self) -> Subject:
        """The reference, as a subject of its own."""
        assert self.reference is not None
        return Subject(self.reference, weights=self.weights)

    def once(self, compute: Callable[[Subject], Shared]) -> Shared:
        """What `compute` returns for this clip, computed on the first call and kept."""
        if compute not in self._shared:
            self._shared[compute] = compute(self)
        return self._shared[compute]

    def network(self, network: Network) -> Any:
        """The network that the user gave under this name, or else the one that ships."""
        path = self.weights.get(network.name, network.shipped)
        if path is None:
            raise Unscored(f"needs --weights {network.name}=PATH ({network.description})")
        return network.load(path)

    def _read(
        self, fps: Fraction | None, sample_rate: int | None, num_channels: int | None
    ) -> Clip:
        video = read_stream(probe(self.path), "video")
        if video is not None and video.duration_s and video.width and video.height:
            count = float(video.duration_s * (fps or video.fps or FPS))
            needed = count * video.width * video.height * 3
            if needed > MAX_BYTES:
                raise Unscored(
                    f"{count:.0f} frames of {video.width}x{video.height} need "
                    f"{needed / 2**30:.0f} GiB; at most {MAX_BYTES / 2**30:.0f} are decoded: "
                    "cut it into shorter clips"
                )
        with warnings.catch_warnings():  # the metric `media` reports them
            warnings.simplefilter("ignore", UserWarning)
            return read_clip(self.path, fps=fps, sample_rate=sample_rate, num_channels=num_channels)


def own_sound(subject: Subject, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """The clip's sound, float32 [1, N], from the picture's first frame to its last.

    Raises:
        Unscored: it has none.
    """
    if subject.clip.waveform is None:
        raise Unscored("has no sound")
    if sample_rate == SAMPLE_RATE:
        return subject.clip.waveform
    return _beside(read_audio_quietly(subject.path, sample_rate)[0], subject.clip, sample_rate)


def read_stream(seen: MediaProbe, kind: str) -> StreamProbe | None:
    """The stream of that kind, "video" or "audio", that avgen reads, if there is one."""
    return next((s for s in seen.streams if s.kind == kind and s.is_read), None)


def read_audio_quietly(path: Path, sample_rate: int | None = None) -> tuple[np.ndarray, int]:
    """`read_audio` without its warnings: float32 [C, N] and Hz; mono if `sample_rate` is given.

    The last few are kept, as several metrics read the same; they are read-only.

    Raises:
        MediaError: no readable sound.
    """
    status = path.stat()
    return _sound_of(path, sample_rate, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=6)  # a clip's own sound and its partner's, at three rates
def _sound_of(
    path: Path, sample_rate: int | None, _mtime_ns: int, _size: int
) -> tuple[np.ndarray, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        sound, rate = read_audio(
            path, sample_rate=sample_rate, num_channels=None if sample_rate is None else 1
        )
    sound.setflags(write=False)
    return sound, rate


def _beside(sound: np.ndarray, clip: Clip, rate: int) -> np.ndarray:
    """Sound [C, N] as long as a clip's picture: cut, or followed by silence."""
    count = num_samples(clip.num_frames, clip.fps, rate)
    return np.pad(sound[:, :count], ((0, 0), (0, max(0, count - sound.shape[1]))))
