"""A corpus in, a prepared folder out: every record once, however often a run is stopped.

A record is done when outcomes/ has its file, which is written last. Several runs may work on one
folder at a time, each on its share of the records (`Request.shard`), as the tasks of a SLURM array
do; the one that finds every record done writes the manifest, the shards and the report.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from avgen.corpora.consent import OptOut
from avgen.corpora.manifest import ClipRecord, Problem, write_manifest
from avgen.errors import UserError
from avgen.preparation import engines, shards
from avgen.preparation import record as clip
from avgen.preparation.engines import Engine
from avgen.preparation.outcome import Kept, Outcome, outcome_of_drop, read_outcome
from avgen.preparation.page import as_html
from avgen.preparation.settings import Settings
from avgen.preparation.store import Store, write_bytes, write_json
from avgen.preparation.summary import Summary, as_card, as_text, summarize

SETTINGS = "prepare.json"
Item = ClipRecord | Problem
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """What is to be prepared, and by whom.

    Attributes:
        corpus: Its name.
        root: Where it is.
        out: The prepared folder.
        settings: How.
        engine: What runs the stages.
        workers: How many at a time.
        shard: Which share of the records, and of how many: (0, 1) are all.
        lexicon: Pronunciations that the corpus needs besides the dictionary's.
    """

    corpus: str
    root: Path
    out: Path
    settings: Settings = field(default_factory=Settings)
    engine: Engine = "process"
    workers: int = 1
    shard: tuple[int, int] = (0, 1)
    lexicon: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.engine not in engines.ENGINES:
            raise UserError(f"engine {self.engine!r}; it must be one of {engines.ENGINES}")
        if self.workers < 1:
            raise UserError(f"{self.workers} workers; at least 1 is needed")
        if not 0 <= self.shard[0] < self.shard[1]:
            raise UserError(f"shard {self.shard[0]} of {self.shard[1]}; they count from 0")


def prepare(
    request: Request, items: Sequence[Item], opt_out: OptOut, progress: Progress
) -> Summary | None:
    """Prepare every record that has no outcome yet; with all of them done, write what is of all.

    Args:
        request: What and how.
        items: The corpus' records, and what it cannot make a record of.
        opt_out: Who does not want to be in the data. Clips of theirs that an earlier run kept are
            removed.
        progress: Called with records done and records in all.

    Returns:
        What came of it; None where other shares have records that are not done yet.

    Raises:
        UserError: two records of one name, or a folder that holds clips made in another way.
    """
    store = Store(request.out)
    by_id = _by_id(items)
    store.make()
    _start(request)
    own = {name: item for name, item in by_id.items() if _is_own(name, request.shard)}
    jobs = []
    for name, item in own.items():
        if isinstance(item, Problem):
            _write(store, outcome_of_drop(name, item.speaker, "layout", item.reason))
        elif item in opt_out:
            _forget(store, name)
            _write(store, outcome_of_drop(name, item.speaker, "opted out", "on the list"))
        elif not _is_done(store, name):
            jobs.append(clip.Job(item, request.root, request.out, request.settings))
    done = len(own) - len(jobs)
    progress(done, len(own))
    lost = partial(_lost, store)
    run = partial(engines.run, request.engine, workers=request.workers)
    for count, _ in enumerate(run(clip.prepare, jobs, lost=lost), done + 1):
        progress(count, len(own))
    if not all(store.outcome(name).is_file() for name in by_id):
        return None
    outcomes = [read_outcome(store.outcome(name)) for name in by_id]
    return _finish(request, store, outcomes, run)


def _by_id(items: Sequence[Item]) -> dict[str, Item]:
    """Records by name, in order of it."""
    by_id: dict[str, Item] = {}
    for item in sorted(items, key=lambda item: item.id):
        if item.id in by_id:
            raise UserError(f"{item.id}: two records of the corpus have this name")
        by_id[item.id] = item
    if not by_id:
        raise UserError("the corpus has no records here")
    return by_id


def _start(request: Request) -> None:
    """Begin a folder, or make sure that this one was begun in the same way."""
    path = request.out / SETTINGS
    wanted = {"corpus": request.corpus, **request.settings.to_json()}
    if path.is_file():
        before = json.loads(path.read_text())
        unlike = sorted(key for key in wanted if before.get(key) != wanted[key])
        if unlike:
            raise UserError(
                f"{request.out}: holds clips made with other {', '.join(unlike)}; "
                "name another folder"
            )
        return
    write_json(path, wanted)


def _is_own(name: str, shard: tuple[int, int]) -> bool:
    """Whether a record is of a share; records that are added do not change those of others."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return number % shard[1] == shard[0]


def _is_done(store: Store, name: str) -> bool:
    return store.outcome(name).is_file()


def _write(store: Store, outcome: Outcome) -> None:
    path = store.outcome(outcome.id)
    if not path.is_file() or read_outcome(path) != outcome:
        write_json(path, outcome.to_json())


def _lost(store: Store, job: clip.Job) -> str:
    """A record whose process ended twice."""
    record = job.record
    detail = "the process that read it ended: out of memory, or a bug"
    _write(store, outcome_of_drop(record.id, record.speaker, "failed", detail))
    return record.id


def _forget(store: Store, name: str) -> None:
    """Remove all that was made of a record."""
    path = store.outcome(name)
    if not path.is_file():
        return
    outcome = read_outcome(path)
    for kept in outcome.kept:
        clip_name = kept.record.id
        latents = store.folder / "latents" / f"{clip_name}.safetensors"
        made = store.frames(clip_name), store.waveform(clip_name), store.thumbnail(clip_name)
        for file in (*made, latents):
            file.unlink(missing_ok=True)
    for drop in outcome.dropped:
        if drop.thumbnail is not None:
            store.thumbnail(drop.thumbnail).unlink(missing_ok=True)


def _finish(
    request: Request,
    store: Store,
    outcomes: Sequence[Outcome],
    run: Callable[..., Iterator[str]],
) -> Summary:
    """Manifest, rates, lexicon, shards, summary and report, from the outcomes alone."""
    settings = request.settings
    clips = [kept for outcome in outcomes for kept in outcome.kept]
    if len({kept.record.id for kept in clips}) < len(clips):
        raise UserError(f"{request.out}: two clips have one name; rename records that end in __1")
    rates = {"fps": str(settings.fps), "sample_rate": settings.sample_rate}
    write_json(store.folder / "rates.json", rates)
    write_json(store.folder / "lexicon.json", request.lexicon)
    write_manifest([kept.record for kept in clips], store.folder / "manifest.jsonl")
    shards.pack(store, clips, (settings.fps, settings.sample_rate), partial(run, lost=_lost_shard))
    summary = summarize(outcomes, settings.fps)
    write_json(store.folder / "summary.json", summary.to_json())
    write_bytes(store.folder / "data_card.md", as_card(summary, outcomes, request.corpus).encode())
    page = as_html(summary, outcomes, store, float(settings.fps))
    write_bytes(store.folder / "report.html", page.encode())
    store.sweep()
    return summary


def remove_frames(folder: Path, clips: Sequence[Kept] | Sequence[ClipRecord]) -> None:
    """Remove frames and waveforms: shards hold them as well, and training reads latents."""
    store = Store(folder)
    for item in clips:
        name = item.record.id if isinstance(item, Kept) else item.id
        store.frames(name).unlink(missing_ok=True)
        store.waveform(name).unlink(missing_ok=True)


def _lost_shard(job: Any) -> str:
    raise MemoryError(f"shards/{job.name}: the process that wrote it ended")


__all__ = ["Progress", "Request", "Summary", "as_text", "prepare", "remove_frames"]
