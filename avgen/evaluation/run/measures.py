"""Every metric that `avgen evaluate` knows: what it needs, what it says, which way is better.

A `Measure` looks at a clip once and then judges it against any sound, so that the controls
(another clip's sound, the clip's own but late) cost little. One that does not listen judges none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avgen.errors import UserError
from avgen.evaluation.comparison.extractors import OWN, SCRIPTED, load_scripted
from avgen.evaluation.run.mouth_measures import syncnet_of
from avgen.evaluation.subject import FPS, SAMPLE_RATE, Subject, Unscored, own_sound

if TYPE_CHECKING:
    import numpy as np

WEIGHTS = {
    "syncnet": "SyncNet's released state dict, syncnet_v2.model: LSE-C, LSE-D",
    "face_landmarker": "MediaPipe's face_landmarker.task: mouths, blinks, the second opinion",
    "sync": "a folder of an avgen-sync network other than the one that ships",
    **{name: f"a TorchScript file that fd@{name} takes features from" for name in SCRIPTED},
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
        in_sets: whether its values are features, of which sets of clips are compared.
        recognizes: whether it needs a recogniser.
        ships: name of a network of avgen's that it uses; its hash goes into the report.
        delays: whether it is judged with the sound late as well; not where that changes nothing.
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
    in_sets: bool = False
    recognizes: bool = False
    ships: str | None = None
    delays: bool = True

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
    from avgen.evaluation import timing as media

    found = [
        Measure(
            "media",
            lambda: media.PROTOCOL,
            lambda subject, _: media.media_values(subject.path),
            better={"sound_start_ms": 0, "sound_end_ms": 0, "silence": 0, "clipping": -1},
        ),
        *_mouths(),
        *_events(),
        *_sets(),
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


def _mouths() -> list[Measure]:
    """Those of run_mouths.py."""
    from avgen.evaluation.run import mouth_measures as run_mouths

    lse = {"lse_c": 1, "lse_d": -1, "lse_c_valid": 1, "lse_d_valid": -1, "abs_offset_frames": -1}
    return [
        Measure(
            "sync",
            lambda: import_module("avgen.evaluation.sync.score").PROTOCOL,
            run_mouths.see_mouth,
            run_mouths.hear_mouth,
            {"r0": 1, "z": 1, "offset_ms": 0, "abs_offset_ms": -1, "reliable": 1},
            ships="sync",
        ),
        Measure(
            "landmark_sync",
            lambda: import_module("avgen.evaluation.sync.landmarks").PROTOCOL,
            run_mouths.see_landmarks,
            run_mouths.hear_landmarks,
            {"r0": 1, "z": 1, "offset_ms": 0, "abs_offset_ms": -1, "reliable": 1},
            needs="face_landmarker",
            ships="landmark_sync",
        ),
        *(
            Measure(
                name,
                run_mouths.LseProtocol(name),
                run_mouths.SeeSyncNet(name),
                run_mouths.hear_syncnet,
                lse,
                needs="syncnet",
            )
            for name in ("lse@joonson", "lse@wav2lip", "lse@latentsync")
        ),
        Measure(
            "mouth",
            lambda: import_module("avgen.evaluation.faces.mouths").PROTOCOL,
            run_mouths.mouth_values,
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
    ]


def _events() -> list[Measure]:
    """Those of run_events.py."""
    from avgen.evaluation.run import event_measures as run_events

    return [
        *(
            Measure(
                name,
                event.protocol,
                event.look,
                lambda seen, sound, rate, _, event=event: event.judge(seen, sound, rate),
                {"score": 1},
                sample_rate=rate,
                by_default=False,
            )
            for name, rate in AV_ALIGN.items()
            for event in [run_events.AvAlign(name)]
        ),
        Measure(
            "onsets",
            lambda: import_module("avgen.evaluation.sync.av_align").ONSET_PROTOCOL,
            run_events.see_motion,
            lambda seen, sound, rate, _: run_events.hear_onsets(seen, sound, rate),
            {"r0": 1, "offset_ms": 0},
        ),
        Measure(
            "reference",
            lambda: import_module("avgen.evaluation.comparison.reference").PROTOCOL,
            run_events.against_reference,
            better=run_events.BOTH_WAYS,
            paired=True,
        ),
        Measure(
            "wer",
            lambda: "wer/1",  # the recogniser's own id, where there is one (run.py)
            run_events.words_said,
            lambda seen, sound, rate, _: run_events.words_heard(seen, sound, rate),
            {"rate": -1},
            recognizes=True,
            delays=False,
        ),
        Measure(
            "dnsmos",
            lambda: import_module("avgen.evaluation.speech.recognition").DNSMOS_PROTOCOL,
            run_events.voice_quality,
            better=dict.fromkeys(("overall", "speech", "background", "p808"), 1),
            by_default=False,
        ),
        Measure(
            "speaker",
            lambda: import_module("avgen.evaluation.speech.recognition").SPEAKER_PROTOCOL,
            run_events.same_voice,
            better={"similarity": 1},
            paired=True,
            by_default=False,
        ),
    ]


def _sets() -> list[Measure]:
    """Those of run_sets.py: a clip's features, by our networks and by others' given as files."""
    from avgen.evaluation.run.set_measures import PREFIX, SetFeatures

    return [
        Measure(
            f"{PREFIX}{name}",
            SetFeatures(name).protocol,
            SetFeatures(name),
            needs=name if name in SCRIPTED else None,
            in_sets=True,
            ships=name if name in OWN else None,
        )
        for name in (*OWN, *SCRIPTED)
    ]


def chosen(names: list[str] | None) -> list[Measure]:
    """The measures of those names ("all" is every one), or those that are taken by default.

    Raises:
        UserError: a name that there is not.
    """
    known = measures()
    if names is not None and "all" in names:
        names = [*known, *(name for name in names if name != "all")]
    for name in names or []:
        if name not in known:
            raise UserError(f"metric {name!r}; there are {', '.join(known)}")
    return [m for m in known.values() if (m.by_default if names is None else m.name in names)]


def check_weights(weights: Weights, shipped: Collection[str] = ()) -> dict[str, str]:
    """The SHA-256 of every file (of a folder: of all its files but the card) by name.

    Args:
        weights: paths by name.
        shipped: names of avgen's own networks that are used, where no others are given for them.

    Raises:
        UserError: a name that nothing reads, or a path that is not there.
    """
    hashes = {}
    for name, path in weights.items():
        if name not in WEIGHTS:
            raise UserError(f"--weights {name}; there are {', '.join(WEIGHTS)}")
        if not path.exists():
            raise UserError(f"{path}: not found; --weights {name}=PATH names {WEIGHTS[name]}")
        hashes[name] = digest(path)
    if "syncnet" in weights:
        syncnet_of(weights["syncnet"])  # a wrong file is an error of the request, not of every clip
    if "sync" in weights:
        import_module("avgen.evaluation.sync.score").load(weights["sync"])
    for name in weights.keys() & SCRIPTED.keys():
        load_scripted(weights[name])
    folders = OWN | {
        name: import_module(f"avgen.evaluation.sync.{module}").CHECKPOINT
        for name, module in (("sync", "score"), ("landmark_sync", "landmarks"))
    }
    return hashes | {n: digest(folders[n]) for n in sorted(shipped) if n not in weights}


def digest(path: Path) -> str:
    """The SHA-256 of a file, or of all files of a folder but its card."""
    found = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file() and file.suffix != ".md":
            found.update(file.read_bytes())
    return found.hexdigest()


def _see_flashes(subject: Subject, _: Weights) -> np.ndarray:
    from avgen.evaluation.timing import flash_times

    own_sound(subject)
    flashes = flash_times(subject.clip.frames, FPS)
    if not len(flashes):
        raise Unscored("the picture never flashes")
    return flashes


def _hear_clicks(flashes: np.ndarray, waveform: np.ndarray, rate: int, _: Weights) -> Values:
    from avgen.evaluation.timing import click_times, match

    return asdict(match(flashes, click_times(waveform, rate), FPS))
