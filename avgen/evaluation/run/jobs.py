"""One clip -> its row: every metric's values or the reason why there are none, and controls.

Two controls show what a number is worth. **mismatched**: the same picture with the sound of another
clip, which starts with it and is repeated if it is shorter. **delayed**: the same picture with its
own sound 5 frames (200 ms) late; what is missing at the start is silence.

A result is "scored", "unscored" (the clip cannot have it), "skipped" (no clip of the run can) or
"failed": a fault of avgen's, kept with its traceback.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from avgen.clips.timebase import num_samples
from avgen.errors import UserError
from avgen.evaluation.measure import NEEDS, Measure, Values
from avgen.evaluation.run.catalogue import MEASURES
from avgen.evaluation.speech.transcripts import Transcript
from avgen.evaluation.subject import (
    FPS,
    SAMPLE_RATE,
    Subject,
    Unscored,
    Weights,
    own_sound,
    read_audio_quietly,
)

DELAY_FRAMES = 5  # of 25 fps
ALONE = "there is no other clip with sound"
SAME_SOUND = 0.95  # cosine of two waveforms, above which one is the other, encoded anew


@dataclass(frozen=True)
class Job:
    """One clip to be measured.

    Attributes:
        group: "clips" or "reference".
        id: Its place in its folder.
        path: The file.
        metrics: Names.
        weights: Paths by name.
        reference: The real clip of the same name, if there is one.
        partner: The clip with whose sound it is mismatched, if there is one.
        is_partner_somebody_else: Whether that one may be of another speaker.
        partner_transcript: What is said in that one.
        has_real_clips: Whether there is a set of real clips to compare sets with.
        transcript: What is said in it.
        recognizer: Import path of a recogniser, if given.
        picture: Of the person whom it should show, if given.
        voice: A recording of the voice that it should have, if given.
    """

    group: str
    id: str
    path: Path
    metrics: tuple[str, ...]
    weights: Weights
    reference: Path | None = None
    partner: Path | None = None
    is_partner_somebody_else: bool = True
    partner_transcript: Transcript = field(default_factory=Transcript)
    has_real_clips: bool = False
    transcript: Transcript = field(default_factory=Transcript)
    recognizer: str | None = None
    picture: Path | None = None
    voice: Path | None = None

    def files(self) -> list[list[int] | None]:
        """Size and time of every file that a row is of; None for one that is not there."""
        found: list[list[int] | None] = []
        for path in (self.path, self.reference, self.partner, self.picture, self.voice):
            about = path.stat() if path is not None and path.exists() else None
            found.append(None if about is None else [about.st_size, about.st_mtime_ns])
        return found


def guarded_row(job: Job) -> dict[str, Any]:
    """The row of a clip, with the seconds that it took; it never raises."""
    start = time.perf_counter()
    try:
        row = row_of(job)
    except MemoryError:
        row = row_of_failure(job, "out of memory")
    return row | {"took_s": round(time.perf_counter() - start, 3)}


def row_of_failure(job: Job, reason: str) -> dict[str, Any]:
    """The row of a clip that could not be measured at all."""
    return _heading(job) | {"status": "failed", "reason": reason, "metrics": {}, "took_s": 0.0}


def row_of(job: Job) -> dict[str, Any]:
    """The row of a clip: "scored" if any metric has values; the probe counts only by itself."""
    shared = {"weights": job.weights, "recognizer": job.recognizer}
    subject = Subject(
        job.path,
        job.reference,
        transcript=job.transcript,
        picture=job.picture,
        voice=job.voice,
        **shared,
    )
    partner = None
    if job.partner is not None:
        partner = Subject(job.partner, transcript=job.partner_transcript, **shared)
    results: dict[str, dict[str, Any]] = {}
    for name in job.metrics:
        missing = _missing(MEASURES[name], job)
        results[name] = (
            _measured(MEASURES[name], subject, partner, job.is_partner_somebody_else)
            if missing is None
            else {"status": "skipped", "reason": missing}
        )
    counted = [name for name in results if name != "media"] or ["media"]
    scored = [name for name in counted if results[name]["status"] == "scored"]
    reasons = [r["reason"] for r in results.values() if r["status"] in ("unscored", "failed")]
    row = _heading(job) | {"status": "scored" if scored else "failed", "metrics": results}
    if not scored:
        row["reason"] = reasons[0] if reasons else "no metric was asked for that applies to it"
    return row


def _missing(measure: Measure, job: Job) -> str | None:
    """Why no clip like this can have a measure, or None if it can."""
    has = {
        "reference": job.reference,
        "real clips": job.has_real_clips,
        "recognizer": job.recognizer,
        "picture": job.picture or job.reference,
        "voice": job.voice or job.reference,
    }
    for network in measure.networks:
        if network.shipped is None and network.name not in job.weights:
            return f"skipped: weights not given (--weights {network.name}=PATH)"
    return next((NEEDS[need] for need in measure.needs if not has[need]), None)


def _heading(job: Job) -> dict[str, Any]:
    return {
        "set": job.group,
        "id": job.id,
        "path": str(job.path.resolve()),
        "reference": str(job.reference.resolve()) if job.reference else None,
        "mismatched_with": str(job.partner.resolve()) if job.partner else None,
        "files": job.files(),
    }


def _measured(
    measure: Measure, subject: Subject, partner: Subject | None, is_somebody_else: bool = True
) -> dict[str, Any]:
    """A metric's result: its status, its values or its reason, and its controls."""

    def other() -> Subject:
        if partner is None:
            raise Unscored(ALONE)
        if measure.is_of_person and not is_somebody_else:
            raise Unscored("there is no clip with sound of another speaker")
        return partner

    if measure.score is None:
        result = _result(lambda: measure.extract(subject), subject.path)
        if measure.mismatch is not None and result["status"] == "scored":
            mismatch = measure.mismatch
            control = _result(lambda: mismatch(subject, other()), subject.path)
            result["controls"] = {"mismatched": control}
        return result
    score = measure.score
    extracted: list[Any] = []

    def rate() -> int:
        return measure.sample_rate or subject.native.sample_rate or SAMPLE_RATE

    def own() -> Values:
        extracted.append(measure.extract(subject))
        return score(extracted[0], own_sound(subject, rate()), rate())

    result = _result(own, subject.path)
    if extracted:
        sounds: dict[str, Callable[[], np.ndarray]] = {
            "mismatched": lambda: _mismatched(subject, other(), rate())
        }
        if measure.has_delayed:
            sounds["delayed"] = lambda: _delayed(subject, rate())
        result["controls"] = {
            name: _result(lambda sound=sound: score(extracted[0], sound(), rate()), subject.path)
            for name, sound in sounds.items()
        }
    return result


def _result(compute: Callable[[], Values], path: Path) -> dict[str, Any]:
    """What `compute` returns, or why it returns nothing."""
    try:
        return {"status": "scored", "values": _plain(compute())}
    except (UserError, OSError) as reason:
        line = _line(reason).removeprefix(f"{_line(path)}: ")
        return {"status": "unscored", "reason": line}
    except MemoryError:
        raise
    except Exception as error:  # a fault of avgen's must not stop a run of thousands, nor be hidden
        return {
            "status": "failed",
            "reason": f"{type(error).__name__}: {_line(error)}",
            "traceback": traceback.format_exc().encode("utf-8", "replace").decode(),
        }


def _line(said: object) -> str:
    """In one line that can be printed: a file's name may be bytes that are no text."""
    return " ".join(str(said).encode("utf-8", "replace").decode("utf-8").split())


def _mismatched(subject: Subject, partner: Subject, sample_rate: int) -> np.ndarray:
    """Another clip's sound [1, N], as long as the clip's own."""
    sound, _ = read_audio_quietly(partner.path, sample_rate)
    if not sound.shape[1]:
        raise Unscored(f"{partner.path.name} has no sound")
    own = own_sound(subject, sample_rate)
    other = np.resize(sound[:1], own.shape)
    likeness = np.vdot(own, other) / (np.linalg.norm(own) * np.linalg.norm(other) + 1e-9)
    if likeness > SAME_SOUND:
        raise Unscored(f"{partner.path.name} has the same sound: nothing would be mismatched")
    return other


def _delayed(subject: Subject, sample_rate: int) -> np.ndarray:
    """The clip's own sound [1, N], `DELAY_FRAMES` late."""
    sound = own_sound(subject, sample_rate)
    count = num_samples(DELAY_FRAMES, FPS, sample_rate)
    if sound.shape[1] <= count:
        raise Unscored(f"the clip is shorter than {DELAY_FRAMES} frames")
    return np.concatenate([np.zeros((1, count), sound.dtype), sound[:, :-count]], axis=1)


def _plain(values: Values) -> Values:
    """Values as JSON has them; what is NaN or infinite becomes None and a note."""
    plain: Values = {}
    notes = list(values.get("notes", []))
    for name, value in values.items():
        if isinstance(value, Fraction):
            value = str(value)
        elif isinstance(value, np.ndarray):
            value = [round(float(item), 5) for item in value]
        elif isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, float):
            if not np.isfinite(value):
                notes.append(f"{name} is {value}")
                value = None
            else:
                value = float(f"{value:.7g}")
        plain[name] = value
    return plain | ({"notes": notes} if notes else {})
