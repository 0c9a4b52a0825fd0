"""One clip in, its row out: every metric's values or the reason why there are none, and controls.

Two controls show what a number is worth. **mismatched**: the same picture with the sound of another
clip, which starts with it and goes round where it is shorter. **delayed**: the same picture with
its own sound 5 frames (200 ms) late; what is missing at the start is silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from avgen.clips.timebase import num_samples
from avgen.evaluation.run.measures import Measure, Values, Weights, measures
from avgen.evaluation.subject import FPS, SAMPLE_RATE, Subject, Unscored, own_sound
from avgen.evaluation.timing import read_audio_quietly

DELAY_FRAMES = 5  # of 25 fps
ALONE = "there is no other clip with sound"
SAME_SOUND = 0.95  # cosine of two waveforms, above which one is the other, encoded anew


@dataclass(frozen=True)
class Job:
    """One clip to be measured.

    Attributes:
        group: "clips" or "reference".
        id: its place in its folder.
        path: of the file.
        metrics: names.
        weights: paths by name.
        reference: the real clip that it is compared with, or None.
        partner: whose sound it is mismatched with, or None.
        in_sets: whether there is a set of real clips, which sets are compared with.
        transcript: what is said in it, or None.
        recognizer: import path of what hears words, or None.
    """

    group: str
    id: str
    path: Path
    metrics: tuple[str, ...]
    weights: Weights
    reference: Path | None
    partner: Path | None
    in_sets: bool = False
    transcript: str | None = None
    recognizer: str | None = None


def guarded_row(job: Job) -> dict[str, Any]:
    """The row of a clip; whatever goes wrong is in it."""
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
    """The row of a clip: `status` is "scored" where any metric but the probe has values."""
    subject = Subject(
        job.path,
        job.reference,
        landmarker=job.weights.get("face_landmarker"),
        transcript=job.transcript,
        recognizer=job.recognizer,
    )
    known = measures()
    results: dict[str, dict[str, Any]] = {}
    for name in job.metrics:
        measure = known[name]
        missing = _missing(measure, job)
        if missing is not None:
            results[name] = {"status": "skipped", "reason": missing}
        else:
            results[name] = _measured(measure, subject, job)
    scored = [n for n, r in results.items() if r["status"] == "scored" and n != "media"]
    reasons = [r["reason"] for r in results.values() if r["status"] in ("unscored", "failed")]
    row = _heading(job) | {"status": "scored" if scored else "failed", "metrics": results}
    if not scored:
        row["reason"] = reasons[0] if reasons else "no metric was asked for that applies to it"
    return row


def _missing(measure: Measure, job: Job) -> str | None:
    """Why a clip of this run cannot have a measure, or None where it can."""
    if measure.in_sets and not job.in_sets:
        return "skipped: no --reference to compare with"
    if measure.recognizes and job.recognizer is None:
        return "skipped: no recogniser given (--recognizer IMPORT.PATH)"
    return measure.missing(job.weights, job.reference is not None)


def _heading(job: Job) -> dict[str, Any]:
    return {
        "set": job.group,
        "id": job.id,
        "path": str(job.path.resolve()),
        "reference": str(job.reference.resolve()) if job.reference else None,
        "mismatched_with": str(job.partner.resolve()) if job.partner else None,
    }


def _measured(measure: Measure, subject: Subject, job: Job) -> dict[str, Any]:
    """A metric's result: its status, its values or its reason, and its controls."""
    judge = measure.judge
    if judge is None:
        return _result(lambda: measure.look(subject, job.weights), subject.path)
    seen: list[Any] = []

    def rate() -> int:
        return measure.sample_rate or subject.native.sample_rate or SAMPLE_RATE

    def own() -> Values:
        seen.append(measure.look(subject, job.weights))
        return judge(seen[0], own_sound(subject, rate()), rate(), job.weights)

    result = _result(own, subject.path)
    if seen:
        sounds = {"mismatched": _mismatched}
        if measure.delays:
            sounds["delayed"] = _delayed
        result["controls"] = {
            name: _result(
                lambda sound=sound, judge=judge: judge(
                    seen[0], sound(subject, job, rate()), rate(), job.weights
                ),
                subject.path,
            )
            for name, sound in sounds.items()
        }
    return result


def _result(compute: Callable[[], Values], path: Path) -> dict[str, Any]:
    """What `compute` gives, or why it gives nothing. An error of ours is a reason too."""
    try:
        return {"status": "scored", "values": _plain(compute())}
    except (Unscored, ValueError, OSError) as reason:
        line = _line(reason).removeprefix(f"{_line(path)}: ")
        return {"status": "unscored", "reason": line}
    except MemoryError:
        raise
    except Exception as error:  # one bad clip, or one bug, must not stop a run of thousands
        return {"status": "failed", "reason": f"{type(error).__name__}: {_line(error)}"}


def _line(said: object) -> str:
    """In one line that can be printed: a file's name may be bytes that are no text."""
    return " ".join(str(said).encode("utf-8", "replace").decode("utf-8").split())


def _mismatched(subject: Subject, job: Job, sample_rate: int) -> np.ndarray:
    """Another clip's sound [1, N], as long as the clip's own."""
    if job.partner is None:
        raise Unscored(ALONE)
    sound, _ = read_audio_quietly(job.partner, sample_rate)
    if not sound.shape[1]:
        raise Unscored(f"{job.partner.name} has no sound")
    own = own_sound(subject, sample_rate)
    other = np.resize(sound[:1], own.shape)
    likeness = np.vdot(own, other) / (np.linalg.norm(own) * np.linalg.norm(other) + 1e-9)
    if likeness > SAME_SOUND:
        raise Unscored(f"{job.partner.name} has the same sound: nothing would be mismatched")
    return other


def _delayed(subject: Subject, job: Job, sample_rate: int) -> np.ndarray:
    """The clip's own sound [1, N], `DELAY_FRAMES` late."""
    sound = own_sound(subject, sample_rate)
    count = num_samples(DELAY_FRAMES, FPS, sample_rate)
    if sound.shape[1] <= count:
        raise Unscored(f"the clip is shorter than {DELAY_FRAMES} frames")
    return np.concatenate([np.zeros((1, count), sound.dtype), sound[:, :-count]], axis=1)


def _plain(values: Values) -> Values:
    """Values as JSON has them; what is not finite becomes None and a note."""
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
