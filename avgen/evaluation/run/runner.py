"""A clip or a folder in, a report folder out: one row a clip, whatever happens to the others.

    report = evaluate(Path("made"), Path("report"), reference=Path("real"))

`clips.jsonl` has a row for each file, appended as it is done; a run that was stopped goes on from
there. `run.json` says how the rows were made, and a folder holds rows of one way only. The summary
and the page are made of the two (report.py).
"""

from __future__ import annotations

import fcntl
import json
import os
import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from avgen import __version__
from avgen.clips.files import VIDEO_SUFFIXES, atomic
from avgen.clips.media.packets import scan
from avgen.errors import UserError
from avgen.evaluation.run.measures import Weights, check_weights, chosen, digest
from avgen.evaluation.run.processes import in_processes
from avgen.evaluation.run.rows import DELAY_FRAMES, Job, guarded_row, row_of_failure
from avgen.evaluation.speech.recognition import recognizer_protocol
from avgen.evaluation.speech.transcripts import read_transcripts, transcript_of

ROWS, RUN = "clips.jsonl", "run.json"


@dataclass(frozen=True)
class Request:
    """What is to be evaluated, and how.

    Attributes:
        clips: a video, or a folder of videos (with its folders).
        reference: a folder of real videos, or None. One of the same name, whatever its suffix, is
            the clip's own reference.
        metrics: names; None for those that are taken by default.
        weights: paths by name.
        seed: of the choice of mismatched sounds and of every bootstrap.
        speakers_by_folder: whether clips of one folder are of one speaker; intervals then count
            speakers.
        transcripts: a file of what is said in the clips, by id (transcripts.py); None for what the
            clips themselves say.
        recognizer: import path of what hears words (speech.py); None for no word error rate.
    """

    clips: Path
    reference: Path | None = None
    metrics: Sequence[str] | None = None
    weights: Weights = field(default_factory=dict)
    seed: int = 0
    speakers_by_folder: bool = False
    transcripts: Path | None = None
    recognizer: str | None = None


def evaluate(
    request: Request,
    report: Path,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Evaluate every clip that has no row yet, and write the report anew.

    Args:
        request: What and how.
        report: A folder for the report; made where it is not there.
        workers: Processes. With more than one, a file that ends its process costs its own row only.
        progress: Called with rows done and rows in all.

    Returns:
        The summary, as `summary.json` has it.

    Raises:
        UserError: nothing to evaluate, a wrong name or weight, or a folder that holds another run.
    """
    from avgen.evaluation.report.summary_of_rows import write_report

    selected = chosen(list(request.metrics) if request.metrics is not None else None)
    hashes = check_weights(request.weights, {m.ships for m in selected if m.ships})
    protocols = {m.name: m.protocol for m in selected}
    if request.recognizer is not None and "wer" in protocols:
        protocols["wer"] = recognizer_protocol(request.recognizer)
    found = find_videos(request.clips)
    references = find_videos(request.reference) if request.reference else {}
    jobs = _jobs(request, found, references, list(protocols))
    header = _header(request, hashes, protocols)
    report.mkdir(parents=True, exist_ok=True)
    _start(report, header)
    with (report / ROWS).open("a+b") as file:
        _lock(file, report)
        _end_last_line(file)
        done = {(row["set"], row["id"]) for row in read_rows(report)}
        left = [job for job in jobs if (job.group, job.id) not in done]
        if progress is not None:
            progress(len(jobs) - len(left), len(jobs))
        for count, row in enumerate(_rows(left, workers), len(jobs) - len(left) + 1):
            file.write((json.dumps(row, allow_nan=False) + "\n").encode())
            file.flush()
            if progress is not None:
                progress(count, len(jobs))
    return write_report(report, [(job.group, job.id) for job in jobs])


def find_videos(path: Path) -> dict[str, Path]:
    """The videos of a folder by their place in it ("s1/a.mp4"), or one video by its name.

    Raises:
        UserError: nothing there.
    """
    if path.is_file():
        return {path.name: path}
    if not path.is_dir():
        raise UserError(f"{path}: there is no such file or folder")
    files = (p for p in sorted(path.rglob("*")) if p.suffix.lower() in VIDEO_SUFFIXES)
    found = {
        p.relative_to(path).as_posix(): p
        for p in files
        if not p.is_dir() and not any(part.startswith(".") for part in p.relative_to(path).parts)
    }
    if not found:
        raise UserError(f"{path}: has no videos ({' '.join(sorted(VIDEO_SUFFIXES))})")
    return found


def read_rows(report: Path) -> list[dict[str, Any]]:
    """The rows of a report but a last line that is not finished: its run was stopped, or goes on.

    Raises:
        UserError: a line that is no row.
    """
    path = report / ROWS
    if not path.is_file():
        return []
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    rows = []
    for number, line in enumerate(whole.decode("utf-8").splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number}: not a row of a report ({error.msg})") from error
    return rows


def read_run(report: Path) -> dict[str, Any]:
    """How the rows of a report were made.

    Raises:
        UserError: not a report.
    """
    path = report / RUN
    if not path.is_file():
        raise UserError(f"{report}: is not a report of avgen evaluate (it has no {RUN})")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not JSON ({error})") from error


def _lock(file: BinaryIO, report: Path) -> None:
    """Hold the report until the file is closed: two runs would write every row twice.

    Raises:
        UserError: another run holds it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise UserError(f"{report}: another run writes this report") from error


def _end_last_line(file: BinaryIO) -> None:
    """Cut off a last line that a killed run left unfinished; no complete row is touched."""
    end = file.seek(0, os.SEEK_END)
    kept = end
    while kept:
        start = max(0, kept - 65_536)
        file.seek(start)
        newline = file.read(kept - start).rfind(b"\n")
        kept = start + newline + 1
        if newline >= 0 or not start:
            break
    if kept < end:
        file.truncate(kept)


def _header(request: Request, hashes: dict[str, str], protocols: dict[str, str]) -> dict[str, Any]:
    """What makes rows comparable: all of this is the same for every row of a folder."""
    from importlib.metadata import version

    import cv2

    from avgen.clips.media.container import decoder_versions

    asked = asdict(request) | {
        "clips": str(request.clips.resolve()),
        "reference": str(request.reference.resolve()) if request.reference else None,
        "metrics": list(protocols),
        "weights": {name: str(path.resolve()) for name, path in request.weights.items()},
        "transcripts": digest(request.transcripts) if request.transcripts else None,
    }
    return {
        "avgen": __version__,
        "protocols": protocols,
        "weights": hashes,
        "versions": {
            **decoder_versions(),
            **{name: version(name) for name in ("numpy", "torch")},
            "opencv": cv2.__version__,
        },
        "seed": request.seed,
        "delay_frames": DELAY_FRAMES,
        "request": asked,
    }


def _start(report: Path, header: dict[str, Any]) -> None:
    """Begin a report, or make sure that this one was begun in the same way."""
    path = report / RUN
    if path.is_file():
        before = read_run(report)
        unlike = sorted(key for key in header if before.get(key) != header[key])
        if unlike:
            raise UserError(
                f"{report}: holds a run with other {', '.join(unlike)}; name another folder"
            )
        return
    if any(report.iterdir()):
        raise UserError(f"{report}: holds files that are no report; name another folder")
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")


def _jobs(
    request: Request, clips: dict[str, Path], references: dict[str, Path], metrics: list[str]
) -> list[Job]:
    """A job for each clip, and for each reference, which is measured as the clips are."""
    own = {Path(name).with_suffix("").as_posix(): path for name, path in references.items()}
    others = partners_of(clips, request.seed)
    real = partners_of(references, request.seed)
    given = read_transcripts(request.transcripts) if request.transcripts else {}
    recognizer = request.recognizer if "wer" in metrics else None

    def job(group: str, name: str, path: Path) -> Job:
        made = group == "clips"
        partner = others[name] if made else real[name]
        return Job(
            group=group,
            id=name,
            path=path,
            metrics=tuple(metrics),
            weights=request.weights,
            reference=own.get(Path(name).with_suffix("").as_posix()) if made else None,
            partner=(clips if made else references)[partner] if partner else None,
            in_sets=bool(references),
            transcript=transcript_of(name, path, given) if recognizer else None,
            recognizer=recognizer,
        )

    jobs = [job("clips", name, path) for name, path in clips.items()]
    return jobs + [job("reference", name, path) for name, path in references.items()]


def partners_of(
    clips: dict[str, Path], seed: int, has_sound: Callable[[Path], bool] | None = None
) -> dict[str, str | None]:
    """Whose sound each clip is mismatched with: the next clip with sound, in a shuffled round.

    Args:
        clips: Files by name.
        seed: Of the order.
        has_sound: Whether a file's sound can be read; None looks into the files.
    """
    order = sorted(clips)
    random.Random(seed).shuffle(order)
    heard = [place for place, name in enumerate(order) if (has_sound or _has_sound)(clips[name])]
    partners: dict[str, str | None] = {}
    for place, name in enumerate(order):
        following = heard[bisect_right(heard, place) % len(heard)] if heard else place
        partners[name] = order[following] if following != place else None
    return partners


def _has_sound(path: Path) -> bool:
    try:
        scanned = scan(path)
    except ValueError:
        return False
    return scanned.audio is not None and scanned.damage is None


def _rows(jobs: Sequence[Job], workers: int) -> Iterable[dict[str, Any]]:
    """A row for each job, in the order in which they are done."""
    if workers < 2 or len(jobs) < 2:
        return map(guarded_row, jobs)
    return in_processes(guarded_row, jobs, workers, _died)


def _died(job: Job) -> dict[str, Any]:
    return row_of_failure(job, "the process that read it ended: out of memory, or a bug")
