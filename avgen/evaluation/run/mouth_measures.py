"""Metrics that look at a mouth, as `avgen evaluate` takes them: both sync networks, LSE, mouths."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from avgen.evaluation.subject import FPS, SAMPLE_RATE, Subject, Unscored, own_sound

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

Weights = dict[str, "Path"]
Values = dict[str, Any]


@cache
def syncnet_of(path: Path) -> Any:
    """SyncNet with the weights of a file."""
    from avgen.evaluation.syncnet.towers import load_syncnet

    return load_syncnet(path).network


def see_mouth(subject: Subject, weights: Weights) -> np.ndarray:
    """What avgen-sync sees of a clip."""
    from avgen.evaluation.faces.tracks import the_face
    from avgen.evaluation.sync import score as sync

    own_sound(subject)
    _require_length(subject)
    boxes = the_face(subject.tracks).boxes
    return sync.load(weights.get("sync")).picture_features(subject.clip.frames, boxes)


def _require_length(subject: Subject) -> None:
    """Raises Unscored for a clip too short for any lag to be told, before faces are looked for."""
    from avgen.evaluation.sync.lags import MAX_LAG, MIN_OVERLAP

    least = MAX_LAG + MIN_OVERLAP
    if subject.clip.num_frames < least:
        raise Unscored(
            f"lasts {float(subject.clip.num_frames / FPS):.2f} s; "
            f"an offset needs {float(least / FPS):.0f} s"
        )


def hear_mouth(picture: np.ndarray, waveform: np.ndarray, rate: int, weights: Weights) -> Values:
    """How a sound [1, N] fits it, by avgen-sync."""
    from avgen.evaluation.sync import score as sync

    model = sync.load(weights.get("sync"))
    return _sync_values(model.score(picture, model.sound_features(waveform, rate, len(picture))))


def see_landmarks(subject: Subject, _: Weights) -> np.ndarray:
    """Shape and motion of the mouth in a clip, by landmarks."""
    from avgen.evaluation.sync import landmarks as landmark_sync

    own_sound(subject)
    _require_length(subject)
    return landmark_sync.picture_features(subject.landmarks)


def hear_landmarks(picture: np.ndarray, waveform: np.ndarray, rate: int, _: Weights) -> Values:
    """How a sound [1, N] fits it, by the regression."""
    from avgen.evaluation.sync import landmarks as landmark_sync

    model = landmark_sync.load()
    return _sync_values(model.score(picture, model.sound_features(waveform, rate, len(picture))))


def _sync_values(found: Any) -> Values:
    """What a `sync.SyncScore` puts into a row."""
    names = ("r0", "z", "offset_ms", "offset_frames", "confidence", "reliable")
    return {
        **{name: getattr(found, name) for name in names},
        "abs_offset_ms": abs(found.offset_ms),
        "interval_ms": list(found.interval_ms),
        "curve": found.curve,
        "words": found.words,
    }


@dataclass(frozen=True)
class LseProtocol:
    """The id of a variant of LSE."""

    variant: str

    def __call__(self) -> str:
        """Id with version."""
        from avgen.evaluation.syncnet.crops import VARIANTS

        return VARIANTS[self.variant].protocol


@dataclass(frozen=True)
class SeeSyncNet:
    """What SyncNet sees of a clip by one variant's crops."""

    variant: str

    def __call__(self, subject: Subject, weights: Weights) -> tuple[Any, ...]:
        """Features of the crops of a clip."""
        from avgen.evaluation.faces.tracks import the_speaker
        from avgen.evaluation.syncnet import lse as syncnet
        from avgen.evaluation.syncnet.crops import VARIANTS

        own_sound(subject)
        variant, boxes = VARIANTS[self.variant], None
        if variant.min_track is not None:
            boxes = the_speaker(subject.tracks).boxes
        network = syncnet_of(weights["syncnet"])
        return tuple(syncnet.picture_features(subject.clip.frames, FPS, network, variant, boxes))


def hear_syncnet(picture: Any, waveform: np.ndarray, rate: int, weights: Weights) -> Values:
    """LSE of a sound [1, N] with them."""
    from avgen.evaluation.syncnet import lse as syncnet

    sound = syncnet.sound_features(waveform, rate, syncnet_of(weights["syncnet"]), picture)
    found = syncnet.score(picture, sound)
    values: Values = {
        "lse_c": found.confidence,
        "lse_d": found.distance,
        "offset_frames": found.offset,
        "abs_offset_frames": abs(found.offset),
        "num_windows": found.num_windows,
        "curve": -found.curve,  # nearer is better, as in every other curve
        "words": found.words,
    }
    try:
        valid = syncnet.score_valid(picture, sound)
    except Unscored as reason:
        return values | {"notes": [f"no length-unbiased variant: {reason}"]}
    return values | {"lse_c_valid": valid.confidence, "lse_d_valid": valid.distance}


def mouth_values(subject: Subject, weights: Weights) -> Values:
    """What the mouth does in a clip."""
    from avgen.evaluation.faces import mouths

    clip = subject.clip
    found = mouths.mouth(subject.landmarks, own_sound(subject), SAMPLE_RATE, FPS)
    names = ("mean_opening", "articulation", "frozen", "motion_in_silence", "blinks_per_minute")
    values: Values = {name: getattr(found, name) for name in names}
    values["num_frames"] = clip.num_frames
    if subject.reference is not None:
        real = Subject(subject.reference, landmarker=weights["face_landmarker"])
        values["articulation_ratio"] = mouths.articulation_ratio(
            found.opening, mouths.opening(real.landmarks)
        )
    return values
