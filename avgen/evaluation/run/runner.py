"""A clip or a folder -> a report folder: one row a clip, whatever happens to the others.

    summary = evaluate(Request(Path("made"), reference=Path("real")), Path("report"))

`clips.jsonl` has a row for each file, appended as it is done; a run that was stopped continues
there. `run.json` states how the rows were made, and a folder holds rows of one way only. The
summary and the page are made of the two (report/).
"""

from __future__ import annotations

import fcntl
import json
import os
import random
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import cv2

from avgen import __version__
from avgen.clips.files import VIDEO_SUFFIXES, atomic
from avgen.clips.media.container import decoder_versions
from avgen.clips.media.packets import scan
from avgen.errors import UserError
from avgen.evaluation.report.summarize import write_report
from avgen.evaluation.rows import ROWS, RUN, read_rows, read_run
from avgen.evaluation.run.catalogue import check_weights, chosen, digest
from avgen.evaluation.run.jobs import DELAY_FRAMES, Job, guarded_row, row_of_failure
from avgen.evaluation.run.processes import in_processes
from avgen.evaluation.speech.recognition import recognizer_protocol
from avgen.evaluation.speech.transcripts import Transcript, read_transcripts, transcript_of
from avgen.evaluation.subject import Weights

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac")


@dataclass(frozen=True)
class Request:
    """What is to be evaluated, and how.

    Attributes:
        clips: A video, or a folder of videos (with its folders).
        reference: A folder of real videos; one of the same name, whatever its suffix, is the clip's
            own reference.
        metrics: Names; None for those computed by default.
        weights: Paths by name.
        seed: Of the choice of mismatched sounds and of every bootstrap.
        speakers_by_folder: Whether clips of one folder are of one speaker; intervals then count
            speakers.
        transcripts: A file of what is said in the clips, by id (transcripts.py); None for what the
            clips themselves state.
        recognizer: Import path of a recogniser (recognition.py); None for no word error rate.
        persons: A folder of pictures and sounds named as the clips: whose face and whose voice each
            should have; None for the references'.
    """

    clips: Path
    reference: Path | None = None
    metrics: Sequence[str] | None = None
    weights: Weights = field(default_factory=dict)
    seed: int = 0
    speakers_by_folder: bool = False
    transcripts: Path | None = None
    recognizer: str | None = None
    persons: Path | None = None


def evaluate(
    request: Request,
    report: Path,
    *,
    workers: int = 1,
    timeout_s: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Evaluate every clip that has no row yet, and write the report anew.

    Args:
        request: What and how.
        report: A folder for the report; made if it is not there.
        workers: Processes. With more than one, a file that ends its process costs its own row only.
        timeout_s: Seconds that a clip may take; for more than one process.
        progress: Called with rows done and rows in all.

    Returns:
        The summary, as `summary.json` has it.

    Raises:
        UserError: nothing to evaluate, a wrong name or weight, or a folder that holds another run.
    """
    selected = chosen(request.metrics)
    hashes = check_weights(request.weights, selected)
    protocols = {m.name: m.protocol for m in selected}
    if request.recognizer is not None and "wer" in protocols:
        protocols["wer"] = recognizer_protocol(request.recognizer)
    jobs = _jobs(request, list(protocols))
    header = _header(request, hashes, protocols)
    report.mkdir(parents=True, exist_ok=True)
    _start(report, header)
    rows = _still_true(report, jobs)
    with (report / ROWS).open("a+b") as file:
        _lock(file, report)
        done = {(row["set"], row["id"]) for row in rows}
        left = [job for job in jobs if (job.group, job.id) not in done]
        if progress is not None:
            progress(len(jobs) - len(left), len(jobs))
        made = _rows(left, workers, timeout_s)
        for count, row in enumerate(made, len(jobs) - len(left) + 1):
            file.write((json.dumps(row, allow_nan=False) + "\n").encode())
            file.flush()
            if progress is not None:
                progress(count, len(jobs))
    return write_report(report, [(job.group, job.id) for job in jobs])


def _still_true(report: Path, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """The rows of a report whose files are there as they were; all others are taken out of it."""
    path, now = report / ROWS, {(job.group, job.id): job.files() for job in jobs}
    with path.open("a+b") as file:
        _lock(file, report)
        _end_last_line(file)
        rows = read_rows(report)
        kept = [row for row in rows if row.get("files") == now.get((row["set"], row["id"]), 0)]
        if len(kept) < len(rows):
            with atomic(path) as temporary:
                temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
    return kept


def find_videos(path: Path) -> dict[str, Path]:
    """The videos of a folder by their place in it ("s1/a.mp4"), or one video by its name.

    Raises:
        UserError: nothing there.
    """
    if path.is_file():
        return {path.name: path}
    found = find_files(path, VIDEO_SUFFIXES)
    if not found:
        raise UserError(f"{path}: has no videos ({' '.join(sorted(VIDEO_SUFFIXES))})")
    return found


def find_files(folder: Path, suffixes: Collection[str]) -> dict[str, Path]:
    """The files of a folder and its folders with those suffixes, by their place in it.

    Raises:
        UserError: no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such file or folder")
    files = (p for p in sorted(folder.rglob("*")) if p.suffix.lower() in suffixes)
    return {
        p.relative_to(folder).as_posix(): p
        for p in files
        if not p.is_dir() and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    }


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
    paths = {name: getattr(request, name) for name in ("clips", "reference", "persons")}
    asked = asdict(request) | {
        **{name: str(path.resolve()) if path else None for name, path in paths.items()},
        "metrics": list(protocols),
        "weights": {name: str(path.resolve()) for name, path in request.weights.items()},
        "transcripts": digest(request.transcripts) if request.transcripts else None,
    }
    if request.persons is None:
        del asked["persons"]  # as in reports from before there was such a thing
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


def _jobs(request: Request, metrics: list[str]) -> list[Job]:
    """A job for each clip, and for each reference, which is measured as the clips are."""
    clips = find_videos(request.clips)
    references = find_videos(request.reference) if request.reference else {}
    given = read_transcripts(request.transcripts) if request.transcripts else {}
    real, pictures, sounds = (
        {_stem(name): path for name, path in files.items()}
        for files in (
            references,
            find_files(request.persons, PICTURES) if request.persons else {},
            find_files(request.persons, SOUNDS) if request.persons else {},
        )
    )
    is_read = request.recognizer is not None or "lips" in metrics  # it opens every file
    jobs = []
    for group, files in (("clips", clips), ("reference", references)):
        partners = partners_of(files, request.seed, by_folder=request.speakers_by_folder)
        said = {
            n: transcript_of(n, p, given) if is_read else Transcript() for n, p in files.items()
        }
        for name, path in files.items():
            partner = partners[name]
            jobs.append(
                Job(
                    group=group,
                    id=name,
                    path=path,
                    metrics=tuple(metrics),
                    weights=request.weights,
                    reference=real.get(_stem(name)) if group == "clips" else None,
                    partner=files[partner] if partner else None,
                    is_partner_somebody_else=not request.speakers_by_folder
                    or (partner is not None and Path(partner).parent != Path(name).parent),
                    has_real_clips=bool(references),
                    partner_transcript=said[partner] if partner else Transcript(),
                    transcript=said[name],
                    recognizer=request.recognizer if "wer" in metrics else None,
                    picture=pictures.get(_stem(name)),
                    voice=sounds.get(_stem(name)),
                )
            )
    return jobs


def _stem(name: str) -> str:
    return Path(name).with_suffix("").as_posix()


def partners_of(
    clips: dict[str, Path],
    seed: int,
    has_sound: Callable[[Path], bool] | None = None,
    by_folder: bool = False,
) -> dict[str, str | None]:
    """Whose sound each clip is mismatched with: the next clip with sound, in a shuffled round.

    Args:
        clips: Files by name.
        seed: Of the order.
        has_sound: Whether a file's sound can be read; None looks into the files.
        by_folder: Take the next of another folder, if there is one.
    """
    order = sorted(clips)
    random.Random(seed).shuffle(order)
    heard = [place for place, name in enumerate(order) if (has_sound or _has_sound)(clips[name])]
    folders = {name: Path(name).parent for name in order}
    by_folder = by_folder and len({folders[order[place]] for place in heard}) > 1
    partners: dict[str, str | None] = {}
    for place, name in enumerate(order):
        first = bisect_right(heard, place)
        turn = (order[heard[(first + k) % len(heard)]] for k in range(len(heard)))
        others = (other for other in turn if other != name)
        partners[name] = found = next(others, None)
        if by_folder and found is not None and folders[found] == folders[name]:
            partners[name] = next((n for n in others if folders[n] != folders[name]), found)
    return partners


def _has_sound(path: Path) -> bool:
    try:
        scanned = scan(path)
    except ValueError:
        return False
    return scanned.audio is not None and scanned.damage is None


def _rows(jobs: Sequence[Job], workers: int, timeout_s: float | None) -> Iterable[dict[str, Any]]:
    """A row for each job, in the order in which they are done."""
    if workers < 2 or len(jobs) < 2:
        return map(guarded_row, jobs)
    return in_processes(guarded_row, jobs, workers, row_of_failure, timeout_s)
