"""Portraits and voices in, a prepared folder of people who speak out.

A portrait is done when outcomes/ has its file, which is written last, so that a run that was
stopped goes on with the next and makes the same bytes. One that cannot be made to speak is left
out, with the reason, and stops nothing.
"""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avgen.clips.media.read import read_audio
from avgen.corpora.manifest import ClipRecord, Problem, read_manifest
from avgen.corpora.portraits import heads
from avgen.corpora.portraits.deformation import TRACK
from avgen.corpora.portraits.faces import Landmarker, read_picture, the_face
from avgen.corpora.portraits.heads import NAME, Line, Portrait, Take
from avgen.errors import UserError
from avgen.preparation import engines
from avgen.preparation.finish import Contents, begin, complete
from avgen.preparation.outcome import Drop, Kept, Origin, Outcome, outcome_of_drop, read_outcome
from avgen.preparation.store import Store, write_json
from avgen.preparation.summary import Summary

_AGES_NEAR = {"old": ("old", "middle-aged"), "young": ("young",), "middle-aged": ("middle-aged",)}


@dataclass(frozen=True)
class PortraitRequest:
    """What is to be made.

    Attributes:
        root: A folder of portraits (see `portraits.heads`).
        voices: Folders whose manifest.jsonl lists what voices say, with phonemes.
        out: The prepared folder.
        landmarker: MediaPipe's face_landmarker.task.
        clips: Of each portrait.
        first: Number of the first of them: where another folder has those before, these are others.
        size: Height and width in pixels.
        fps: Frames a second.
        sample_rate: Samples a second.
        seed: Of everything that is drawn.
        workers: Processes; 1 is this one.
    """

    root: Path
    voices: Sequence[Path]
    out: Path
    landmarker: Path
    clips: int = 4
    first: int = 0
    size: tuple[int, int] = (128, 128)
    fps: Fraction = field(default_factory=lambda: Fraction(25))
    sample_rate: int = 24_000
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if min(self.clips, self.workers) < 1 or self.first < 0:
            raise UserError(
                f"{self.clips} clips from {self.first} on, {self.workers} workers; at least 1 clip "
                "and worker, and from 0 on"
            )
        if min(self.size) < 32:
            raise UserError(f"size {self.size[0]}x{self.size[1]}; both must be at least 32 pixels")

    def settings(self) -> dict[str, Any]:
        """What must be the same for clips to lie in one folder."""
        return {
            "corpus": NAME,
            "clips": [self.first, self.first + self.clips],
            "size": list(self.size),
            "fps": str(self.fps),
            "sample_rate": self.sample_rate,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Job:
    """A portrait and what it says: (folder of the voice's manifest, record) each."""

    portrait: Portrait
    lines: tuple[tuple[Path, ClipRecord], ...]
    request: PortraitRequest


def prepare_portraits(
    request: PortraitRequest, progress: Callable[[int, int], None], people: Sequence[str] = ()
) -> Summary:
    """Make every portrait that has no outcome yet speak, then write what is of all.

    Args:
        request: What and how.
        progress: Called with portraits done and portraits in all.
        people: Only these, by name, where any are named.

    Raises:
        UserError: no portraits, none of such a name, no voices or too few, or a folder that holds
            clips made in another way.
    """
    found = heads.find_portraits(request.root)
    portraits = [one for one in found if isinstance(one, Portrait)]
    strangers = sorted(set(people) - {one.name for one in portraits})
    if strangers:
        raise UserError(f"{request.root}: no portrait is called {strangers[0]!r}")
    if people:
        portraits = [one for one in portraits if one.name in people]
    lines = _lines(request.voices)
    Landmarker(request.landmarker).close()  # one that is missing is said before the work
    store = Store(request.out)
    tracks = {"expressions": list(TRACK)}
    contents = Contents(NAME, request.fps, request.sample_rate, tracks=tracks)
    begin(store, request.settings(), {}, contents)
    (request.out / "tracks").mkdir(exist_ok=True)
    for one in found:
        if isinstance(one, Problem):
            write_json(
                store.outcome(one.id), outcome_of_drop(one.id, "", "layout", one.reason).to_json()
            )
    jobs = []
    for portrait in portraits:
        if not store.outcome(portrait.name).is_file():
            said = choose_lines(portrait, lines, request.first + request.clips)
            jobs.append(Job(portrait, tuple(said[request.first :]), request))
    done = len(portraits) - len(jobs)
    progress(done, len(portraits))
    engine = "pool" if request.workers > 1 else "process"
    lost = partial(_lost, store)
    for count, _ in enumerate(
        engines.run(engine, animate_portrait, jobs, request.workers, lost), done + 1
    ):
        progress(count, len(portraits))
    names = [one.id if isinstance(one, Problem) else one.name for one in found]
    made = [store.outcome(name) for name in sorted(names)]
    with store.locked():
        outcomes = [read_outcome(path) for path in made if path.is_file()]
        return complete(store, outcomes, contents)


def choose_lines(
    portrait: Portrait, lines: Sequence[tuple[Path, ClipRecord]], count: int
) -> list[tuple[Path, ClipRecord]]:
    """What a portrait says, in one voice of its sex, age and split.

    Where that one has said all it has, another of the kind goes on.

    Raises:
        UserError: no voice is of the portrait's split, or of its sex, or they say too little.
    """
    fits = [line for line in lines if line[1].split == portrait.split]
    if not fits:
        raise UserError(f"no voice is of the split {portrait.split!r}, which {portrait.name} is of")
    sex, age = (str(portrait.about.get(key, "")) for key in ("kind", "age"))
    if sex:
        fits = [line for line in fits if line[1].labels.get("sex", sex) == sex]
        if not fits:
            raise UserError(f"no {portrait.split} voice is a {sex}'s, which {portrait.name} needs")
    for near in _AGES_NEAR.get(age, ()):
        same = [line for line in fits if line[1].labels.get("age", near) == near]
        if len(same) >= count:
            fits = same
            break

    by_speaker: dict[str, list[tuple[Path, ClipRecord]]] = {}
    for line in fits:
        by_speaker.setdefault(line[1].speaker, []).append(line)
    chosen: list[tuple[Path, ClipRecord]] = []
    for speaker in sorted(by_speaker, key=lambda speaker: _hash(portrait.name, speaker)):
        said = by_speaker[speaker]
        chosen += sorted(said, key=lambda line: _hash(portrait.name, line[1].id))
        if len(chosen) >= count:
            return chosen[:count]
    raise UserError(
        f"{portrait.name} is to say {count} things; voices of its kind and split say {len(chosen)}"
    )


def animate_portrait(job: Job) -> str:
    """Make a portrait's clips, whatever happens, and its outcome last; its name."""
    store, portrait = Store(job.request.out), job.portrait
    cv2.setNumThreads(1)
    kept: list[Kept] = []
    drops: tuple[Drop, ...] = ()
    try:
        picture = read_picture(portrait.path)
        with closing(Landmarker(job.request.landmarker)) as landmarker:
            the_face(landmarker(picture), picture.shape[:2])
            for number, (root, record) in enumerate(job.lines, job.request.first):
                line = _line(root, record, job.request.sample_rate)
                kept.append(_make(job, store, number, line, picture, landmarker))
    except UserError as error:
        drops = (Drop("portrait", " ".join(str(error).split())),)
    except Exception as error:  # one picture, or one bug, must not stop a run of hundreds
        detail = f"{type(error).__name__}: {error}"
        drops = (Drop("failed", detail, traceback=traceback.format_exc()),)
    outcome = Outcome(portrait.name, portrait.name, 0.0, tuple(kept), drops)
    write_json(store.outcome(portrait.name), outcome.to_json())
    return portrait.name


def _line(root: Path, record: ClipRecord, sample_rate: int) -> Line:
    path = root / (record.sound or record.media)
    waveform, rate = read_audio(path, sample_rate=sample_rate, num_channels=1)
    return Line(record, waveform[0], rate)


def _make(
    job: Job, store: Store, number: int, line: Line, picture: np.ndarray, landmarker: Landmarker
) -> Kept:
    """Make and write one clip."""
    request = job.request
    take = Take(number, request.seed, request.size, request.fps)
    made = heads.make_clip(job.portrait, picture, line, take, landmarker)
    assert made.clip.waveform is not None
    name = made.record.id
    store.write_clip(name, made.clip.frames, made.clip.waveform)
    store.write_array(request.out / made.record.tracks["expressions"], made.expressions)
    store.write_thumbnail(name, made.clip.frames[len(made.clip.frames) // 2])
    height, width = picture.shape[:2]
    origin = Origin(job.portrait.path.name, (0.0, 0.0), (0, 0, width, height))
    return Kept(made.record, origin, made.clip.num_frames, {})


def _lines(folders: Sequence[Path]) -> list[tuple[Path, ClipRecord]]:
    """All that voices say in some folders, phonemes known.

    Raises:
        UserError: there is none.
    """
    lines = [
        (folder, record)
        for folder in folders
        for record in read_manifest(folder / "manifest.jsonl")
        if record.phonemes
    ]
    if not lines:
        raise UserError(f"{', '.join(map(str, folders))}: no record has phonemes with their times")
    return lines


def _hash(*texts: str) -> str:
    return hashlib.sha256("/".join(texts).encode()).hexdigest()


def _lost(store: Store, job: Job, reason: str) -> str:
    """Take down a portrait whose process ended."""
    name = job.portrait.name
    write_json(store.outcome(name), outcome_of_drop(name, name, "failed", reason).to_json())
    return name
