"""A corpus in, a prepared folder out: every record once, however often a run is stopped.

A record is done when outcomes/ has its file, which is written last. Several runs may work on one
folder at a time, each on its share of the records (`Request.shard`), as the tasks of a SLURM array
do; each that finds every record done completes the folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from avgen.corpora.consent import OptOut
from avgen.corpora.manifest import ClipRecord, Problem
from avgen.errors import UserError
from avgen.preparation import engines
from avgen.preparation import record as clip
from avgen.preparation.engines import Engine
from avgen.preparation.finish import Contents, begin, complete
from avgen.preparation.outcome import Outcome, outcome_of_drop, read_outcome
from avgen.preparation.settings import Settings
from avgen.preparation.store import Store, write_json
from avgen.preparation.summary import Summary, as_text, summarize

Item = ClipRecord | Problem
Progress = Callable[[int, int], None]
ENCODED_TOGETHER = 4  # records, whose frames are on disk at a time
Encode = Callable[[Sequence[ClipRecord], bool], None]  # clips, and whether they are all


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
    request: Request,
    items: Sequence[Item],
    opt_out: OptOut | None = None,
    progress: Progress | None = None,
    encode: Encode | None = None,
) -> Summary:
    """Prepare every record that has no outcome yet, or whose preparation failed.

    With all records done the folder is completed.

    Args:
        request: What and how.
        items: The corpus' records, and what it cannot make a record of.
        opt_out: Who does not want to be in the data. Clips of theirs that an earlier run kept are
            removed.
        progress: Called with records done and records in all.
        encode: Called with the clips of some records as they are done, with those of this share, if
            it is one of several, and at last with all.

    Returns:
        What came of all records, or, while other shares have records that are not done, of this
        share (`Summary.complete` is then False).

    Raises:
        UserError: two records of one name, a package that is missing, or a folder that holds clips
            made in another way.
    """
    progress, store = progress or (lambda done, total: None), Store(request.out)
    by_id = _by_id(items)
    _require_packages(request.settings)
    default = Settings().to_json()
    rates = request.settings.fps, request.settings.sample_rate
    contents = Contents(request.corpus, *rates, request.lexicon)
    begin(store, {"corpus": request.corpus, **request.settings.to_json()}, default, contents)
    own = {name: item for name, item in by_id.items() if _is_own(name, request.shard)}
    jobs = [job for item in own.values() if (job := _job(request, store, item, opt_out))]
    done = len(own) - len(jobs)
    progress(done, len(own))
    lost = partial(_lost, store)
    run = engines.run(request.engine, clip.prepare, jobs, request.workers, lost)
    waiting: list[str] = []
    for count, name in enumerate(run, done + 1):
        progress(count, len(own))
        waiting.append(name)
        if encode is not None and len(waiting) == ENCODED_TOGETHER:  # frames are never all on disk
            encode(_kept(store, waiting), False)
            waiting = []
    if encode is not None and len(own) < len(by_id):
        encode(_kept(store, own), False)
    if not all(store.outcome(name).is_file() for name in by_id):
        outcomes = [read_outcome(store.outcome(name)) for name in own]
        return summarize(outcomes, request.settings.fps, complete=False)
    with store.locked():
        outcomes = [read_outcome(store.outcome(name)) for name in by_id]
        summary = complete(store, outcomes, contents)
        if encode is not None:
            encode(_kept(store, by_id), True)
    return summary


def _kept(store: Store, names: Iterable[str]) -> list[ClipRecord]:
    """The clips that were kept of some records."""
    return [kept.record for name in names for kept in read_outcome(store.outcome(name)).kept]


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


def _require_packages(settings: Settings) -> None:
    for package in ("scenedetect", "silero_vad"):
        if settings.stages == "all" and find_spec(package) is None:
            raise UserError(f"preparing needs {package}: pip install 'avgen[prepare]'")


def _is_own(name: str, shard: tuple[int, int]) -> bool:
    """Whether a record is of a share; records that are added do not change those of others."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return number % shard[1] == shard[0]


def _job(request: Request, store: Store, item: Item, opt_out: OptOut | None) -> clip.Job | None:
    """What is to be done for a record; None if its outcome is known, which is then on disk."""
    known = store.outcome(item.id)
    before = read_outcome(known) if known.is_file() else None
    if isinstance(item, Problem):
        outcome = outcome_of_drop(item.id, item.speaker, "layout", item.reason)
    elif item in (opt_out or OptOut()):
        outcome = outcome_of_drop(item.id, item.speaker, "opted out", "on the list")
    elif before is not None and not before.failed:
        return None
    else:
        if before is not None:
            _forget(store, before)
        return clip.Job(item, request.root, request.out, request.settings)
    if before is not None:
        _forget(store, before)
    if before != outcome:
        write_json(known, outcome.to_json())
    return None


def _forget(store: Store, outcome: Outcome) -> None:
    """Remove all that was made of a record but its outcome."""
    for kept in outcome.kept:
        store.remove_media(kept.record.id)
        store.thumbnail(kept.record.id).unlink(missing_ok=True)
        store.latents(kept.record.id).unlink(missing_ok=True)
    for drop in outcome.dropped:
        if drop.thumbnail is not None:
            store.thumbnail(drop.thumbnail).unlink(missing_ok=True)


def _lost(store: Store, job: clip.Job, reason: str) -> str:
    """Take down a record whose process ended."""
    record = job.record
    outcome = outcome_of_drop(record.id, record.speaker, "failed", reason)
    write_json(store.outcome(record.id), outcome.to_json())
    return record.id


__all__ = ["Progress", "Request", "Summary", "as_text", "prepare"]
