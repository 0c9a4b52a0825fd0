"""What a preparation is asked for: sizes, rates, and below which numbers a clip is left out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any, Literal, get_args

from avgen.errors import UserError

FIT_S = 3.0  # seconds of the clips that the limits of sync were chosen on
SplitBy = Literal["corpus", "speaker", "clip"]
Stages = Literal["all", "head", "none"]


@dataclass(frozen=True)
class Limits:
    """What a clip must reach to be kept.

    Those of picture and sound are far from what good footage has, and only leave out what nobody
    would train on. Those of sync were chosen with avgen-sync/2 on 69 of GRID s1's training
    sentences: all stayed as they are, 99 % with their sound moved by up to 12 frames, and 5 % with
    the sound of another of his sentences, which lie alike in time. They are for clips of FIT_S:
    what unrelated things correlate by falls with the root of the length, and so do they.

    Attributes:
        min_s: Seconds of the shortest clip.
        max_s: Seconds of the longest clip.
        min_face: Width of the face in pixels of the source (brows to chin: `faces.Track`).
        max_enlargement: How many times the crop may have to be enlarged.
        min_sharpness: Least share of the face's contrast that is in its finest detail.
        brightness: Least and most of the face's mean luma, 0 to 255.
        min_contrast: Standard deviation of the face's luma.
        min_speech_s: Seconds of speech in a clip.
        min_level_db: Loudness of the speech, RMS in dB of full scale.
        max_clipped: Share of samples at full scale.
        min_snr_db: Level of the speech over that of the quietest tenth of the clip.
        min_dnsmos: DNSMOS P.835 overall, 1 to 5; None does not measure it (it takes a second of a
            core for each clip, more than all the rest).
        min_fit: Best correlation of mouth and sound by avgen-sync, over all lags.
        min_lead: By how much that beats every lag more than three frames away from it.
        min_confidence: Share of its resamplings that agree on the lag.
        max_offset_frames: Largest offset that is corrected, in frames of 1/25 s.
        worth_frames: A smaller offset is left alone.
    """

    min_s: float = 2.0
    max_s: float = 10.0
    min_face: int = 48
    max_enlargement: float = 2.0
    min_sharpness: float = 0.002
    brightness: tuple[float, float] = (30.0, 230.0)
    min_contrast: float = 10.0
    min_speech_s: float = 0.4
    min_level_db: float = -50.0
    max_clipped: float = 0.01
    min_snr_db: float = 5.0
    min_dnsmos: float | None = None
    min_fit: float = 0.3
    min_lead: float = 0.15
    min_confidence: float = 0.85
    max_offset_frames: float = 13.0
    worth_frames: float = 0.5


@dataclass(frozen=True)
class Settings:
    """How every clip of a prepared folder is made; a folder holds clips made in one way only.

    Attributes:
        size: Height and width in pixels; None leaves each clip its own.
        fps: Frames per second; None leaves each clip its own.
        sample_rate: Samples per second.
        num_channels: That sound is mixed to: 1, or 2 for a codec of stereo.
        stages: "all" finds scenes, faces, speech and the speaker, and applies the limits. The
            others keep each record whole and apply no limit: "head" crops it to the record's box
            or else to a still square around the head, "none" to the box alone.
        keep_silent: Keep clips without sound; not with "all", which measures sync.
        limits: What a clip must reach.
        split_by: Whether splits are the corpus' own, or by hash of the speaker or of the clip.
        aligner: Import path of what gives a transcript's words their times, or None.
        recognizer: Import path of what recognises words if there is no transcript, or None.
        captioner: Import path of what describes a clip, or None for the corpus' own captions.
    """

    size: tuple[int, int] | None = (128, 128)
    fps: Fraction | None = Fraction(25)
    sample_rate: int = 24_000
    num_channels: int = 1
    stages: Stages = "all"
    keep_silent: bool = False
    limits: Limits = field(default_factory=Limits)
    split_by: SplitBy = "corpus"
    aligner: str | None = None
    recognizer: str | None = None
    captioner: str | None = None

    def __post_init__(self) -> None:
        if self.stages not in get_args(Stages):
            raise UserError(f"stages {self.stages!r}; it must be one of {get_args(Stages)}")
        if self.stages == "all" and (self.size is None or self.fps is None or self.keep_silent):
            raise UserError(
                "all stages need a size, a frame rate and sound; stages head and none do not"
            )
        if self.size is not None and min(self.size) < 16:
            raise UserError(f"size {self.size[0]}x{self.size[1]}; both must be at least 16 pixels")
        if (self.fps is not None and self.fps <= 0) or self.sample_rate <= 0:
            raise UserError(f"{self.fps} fps, {self.sample_rate} Hz; both must be positive")
        if not 0 < self.limits.min_s < self.limits.max_s:
            raise UserError(
                f"clips of {self.limits.min_s} to {self.limits.max_s} s; "
                "the first must be positive and less than the second"
            )

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        values: dict[str, Any] = asdict(self)
        values["size"] = None if self.size is None else list(self.size)
        values["fps"] = None if self.fps is None else str(self.fps)
        values["limits"]["brightness"] = list(self.limits.brightness)
        return values
