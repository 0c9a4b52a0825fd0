"""Every metric that `avgen evaluate` knows: what it needs, what it says, which way is better.

A `Measure` looks at a clip once and then judges it against any sound, so that the controls
(another clip's sound, the clip's own but late) cost little. One that does not listen judges none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avgen.metrics.subject import FPS, SAMPLE_RATE, Subject, Unscored

if TYPE_CHECKING:
    import numpy as np

WEIGHTS = {
    "syncnet": "SyncNet's released state dict, syncnet_v2.model: LSE-C, LSE-D",
    "face_landmarker": "MediaPipe's face_landmarker.task: mouths, blinks, the second opinion",
    "sync": "a folder of an avgen-sync network other than the one that ships",
}

AV_ALIGN = {  # Hz that each release hears at; None for the clip's own
    "av_align@2023-10": 22_050,
    "av_align@2025-02": 22_050,
    "av_align@javisbench": None,
}

Weights = dict[str, Path]
Values = dict[str, Any]


@dataclass(frozen=True)
class Measure:
    """One metric.

    Attributes:
        name: as `--metrics` names it.
        identify: gives `protocol`; what it imports loads when it is asked for.
        look: what of a clip does not depend on its sound; or, where `judge` is None, the values.
        judge: values of what `look` found with a sound, float32 [1, N], and its rate in Hz; or
            None for a measure that has no controls.
        better: of each value that is averaged: 1 where more is better, -1 where less is, 0 where
            neither is.
        needs: name of the weights without which it is skipped.
        sample_rate: Hz, at which it hears; None for the clip's own.
        paired: whether it compares with a reference, and is skipped without.
        by_default: whether it is taken when nothing is asked for.
    """

    name: str
    identify: Callable[[], str]
    look: Callable[[Subject, Weights], Any]
    judge: Callable[[Any, np.ndarray, int, Weights], Values] | None = None
    better: dict[str, int] = field(default_factory=dict)
    needs: str | None = None
    sample_rate: int | None = SAMPLE_RATE
    paired: bool = False
    by_default: bool = True

    @property
    def protocol(self) -> str:
        """Id with version; reports of unlike protocols are not compared."""
        return self.identify()

    def missing(self, weights: Weights, has_reference: bool) -> str | None:
        """Why no clip can have this measure, or None where they can."""
        if self.needs is not None and self.needs not in weights:
            return f"skipped: weights not given (--weights {self.needs}=PATH)"
        if self.paired and not has_reference:
            return "skipped: no --reference to compare with"
        return None


@cache
def measures() -> dict[str, Measure]:
    """Every metric by its name, in the order of a report."""
    from avgen.metrics import media

    lse = {"lse_c": 1, "lse_d": -1, "lse_c_valid": 1, "lse_d_valid": -1, "abs_offset_frames": -1}
    found = [
        Measure(
            "media",
            lambda: media.PROTOCOL,
            lambda subject, _: media.media_values(subject.path),
            better={"sound_start_ms": 0, "sound_end_ms": 0, "silence": 0, "clipping": -1},
        ),
        Measure(
            "sync",
            lambda: import_module("avgen.metrics.sync").PROTOCOL,
            _see_mouth,
            _hear_mouth,
            {"r0": 1, "z": 1, "offset_ms": 0, "abs_offset_ms": -1, "reliable": 1},
        ),
        *(
            Measure(name, _Protocol(name), _SeeSyncNet(name), _hear_syncnet, lse, needs="syncnet")
            for name in ("lse@joonson", "lse@wav2lip", "lse@latentsync")
        ),
        Measure(
            "mouth",
            lambda: import_module("avgen.metrics.mouths").PROTOCOL,
            _mouth,
            better={
                "articulation": 0,
                "articulation_ratio": 0,
                "mean_opening": 0,
                "motion_in_silence": -1,
                "frozen": -1,
                "blinks_per_minute": 0,
            },
            needs="face_landmarker",
        ),
        *_events(),
        Measure(
            "flash_click",
            lambda: "avgen-flash-click/1",
            _see_flashes,
            _hear_clicks,
            {"offset_ms": 0, "num_pairs": 1},
            by_default=False,
        ),
    ]
    return {measure.name: measure for measure in found}


def _events() -> list[Measure]:
    """Those of run_events.py."""
    from avgen.metrics import run_events

    return [
        *(
            Measure(
                name,
                event.protocol,
                event.look,
                lambda seen, sound, rate, _, event=event: event.judge(seen, sound, rate),
                {"score": 1},
                sample_rate=rate,
            )
            for name, rate in AV_ALIGN.items()
            for event in [run_events.AvAlign(name)]
        ),
        Measure(
            "onsets",
            lambda: import_module("avgen.metrics.av_align").ONSET_PROTOCOL,
            run_events.see_motion,
            lambda seen, sound, rate, _: run_events.hear_onsets(seen, sound, rate),
            {"r0": 1, "offset_ms": 0},
        ),
        Measure(
            "reference",
            lambda: import_module("avgen.metrics.reference").PROTOCOL,
            run_events.against_reference,
            better=run_events.BOTH_WAYS,
            paired=True,
        ),
        Measure(
            "dnsmos",
            lambda: import_module("avgen.metrics.speech").DNSMOS_PROTOCOL,
            run_events.voice_quality,
            better=dict.fromkeys(("overall", "speech", "background", "p808"), 1),
        ),
        Measure(
            "speaker",
            lambda: import_module("avgen.metrics.speech").SPEAKER_PROTOCOL,
            run_events.same_voice,
            better={"similarity": 1},
            paired=True,
            by_default=False,
        ),
    ]


def chosen(names: list[str] | None) -> list[Measure]:
    """The measures of those names, or those that are taken by default.

    Raises:
        ValueError: a name that there is not.
    """
    known = measures()
    for name in names or []:
        if name not in known:
            raise ValueError(f"metric {name!r}; there are {', '.join(known)}")
    return [m for m in known.values() if (m.by_default if names is None else m.name in names)]


def check_weights(weights: Weights, *, shipped: bool = False) -> dict[str, str]:
    """The SHA-256 of every file (of a folder: of all its files but the card) by name.

    Args:
        weights: paths by name.
        shipped: whether avgen-sync is used, so that its shipped weights count where none are given.

    Raises:
        ValueError: a name that nothing reads, or a path that is not there.
    """
    hashes = {}
    for name, path in weights.items():
        if name not in WEIGHTS:
            raise ValueError(f"--weights {name}; there are {', '.join(WEIGHTS)}")
        if not path.exists():
            raise ValueError(f"{path}: not found; --weights {name}=PATH names {WEIGHTS[name]}")
        hashes[name] = _digest(path)
    if "syncnet" in weights:
        _syncnet(weights["syncnet"])  # a wrong file is an error of the request, not of every clip
    if "sync" in weights:
        sync_model(weights["sync"])
    elif shipped:
        hashes["sync"] = _digest(import_module("avgen.metrics.sync").CHECKPOINT)
    return hashes


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file() and file.suffix != ".md":
            digest.update(file.read_bytes())
    return digest.hexdigest()


def own_sound(subject: Subject, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """The clip's sound, float32 [1, N], beside its picture from the first frame to the last.

    Raises:
        Unscored: it has none.
    """
    if subject.clip.waveform is None:
        raise Unscored("has no sound")
    if sample_rate == SAMPLE_RATE:
        return subject.clip.waveform
    import numpy as np

    from avgen.clips.timebase import num_samples
    from avgen.metrics.media import read_audio_quietly

    sound, _ = read_audio_quietly(subject.path, sample_rate)
    count = num_samples(subject.clip.num_frames, FPS, sample_rate)
    return np.pad(sound[:, :count], ((0, 0), (0, max(0, count - sound.shape[1]))))


@cache
def sync_model(path: Path | None) -> Any:
    """The avgen-sync model in a folder, or the one that ships with avgen."""
    from avgen.metrics import sync

    return sync.load(path)


@cache
def _syncnet(path: Path) -> Any:
    from avgen.metrics.syncnet_network import load_syncnet

    return load_syncnet(path).network


def _see_mouth(subject: Subject, weights: Weights) -> np.ndarray:
    from avgen.metrics.faces import the_face

    own_sound(subject)
    boxes = the_face(subject.tracks).boxes
    return sync_model(weights.get("sync")).picture_features(subject.clip.frames, boxes)


def _hear_mouth(picture: np.ndarray, waveform: np.ndarray, rate: int, weights: Weights) -> Values:
    model = sync_model(weights.get("sync"))
    found = model.score(picture, model.sound_features(waveform, rate, len(picture)))
    names = ("r0", "z", "offset_ms", "offset_frames", "confidence", "reliable")
    return {
        **{name: getattr(found, name) for name in names},
        "abs_offset_ms": abs(found.offset_ms),
        "interval_ms": list(found.interval_ms),
        "curve": found.curve,
        "words": found.words,
    }


@dataclass(frozen=True)
class _Protocol:
    """The id of a variant of LSE."""

    variant: str

    def __call__(self) -> str:
        from avgen.metrics.syncnet_crop import VARIANTS

        return VARIANTS[self.variant].protocol


@dataclass(frozen=True)
class _SeeSyncNet:
    """What SyncNet sees of a clip by one variant's crops."""

    variant: str

    def __call__(self, subject: Subject, weights: Weights) -> tuple[Any, ...]:
        from avgen.metrics import syncnet
        from avgen.metrics.faces import the_speaker
        from avgen.metrics.syncnet_crop import VARIANTS

        own_sound(subject)
        variant, boxes = VARIANTS[self.variant], None
        if variant.min_track is not None:
            boxes = the_speaker(subject.tracks).boxes
        network = _syncnet(weights["syncnet"])
        return tuple(syncnet.picture_features(subject.clip.frames, FPS, network, variant, boxes))


def _hear_syncnet(picture: Any, waveform: np.ndarray, rate: int, weights: Weights) -> Values:
    from avgen.metrics import syncnet

    sound = syncnet.sound_features(waveform, rate, _syncnet(weights["syncnet"]), picture)
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


def _mouth(subject: Subject, weights: Weights) -> Values:
    from avgen.metrics import mouths

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


def _see_flashes(subject: Subject, _: Weights) -> np.ndarray:
    from avgen.metrics.media import flash_times

    own_sound(subject)
    flashes = flash_times(subject.clip.frames, FPS)
    if not len(flashes):
        raise Unscored("the picture never flashes")
    return flashes


def _hear_clicks(flashes: np.ndarray, waveform: np.ndarray, rate: int, _: Weights) -> Values:
    from avgen.metrics.media import click_times, match

    return asdict(match(flashes, click_times(waveform, rate), FPS))
