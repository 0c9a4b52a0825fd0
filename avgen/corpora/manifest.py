"""Clip records <-> a JSONL manifest: the one typed form in which every corpus reaches training.

A corpus is a module with a NAME, a LICENCE and `records(root)`; `find_corpus` names it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Literal, Protocol, cast

from avgen.clips.files import atomic
from avgen.clips.timed_words import Word
from avgen.errors import UserError
from avgen.models.phonemes import TimedPhoneme

Split = Literal["train", "validation", "test"]
Consent = Literal["given", "unknown", "withdrawn"]


@dataclass(frozen=True)
class ClipRecord:
    """One clip of a corpus.

    Attributes:
        id: Unique within the manifest; names files.
        media: Path of the clip, relative to the corpus' root; a file of sound where there is no
            picture: a voice alone.
        corpus: Its name.
        speaker: Who speaks.
        split: What the clip may be used for.
        caption: How it looks and sounds.
        words: What is said, and when, in seconds from the first frame: of the media in a corpus, of
            the clip in a prepared folder.
        box: Square to crop: (x, y, width, height) in pixels of the frames as `read_clip` returns
            them.
        licence: Of the media.
        span: Start and end of the clip in seconds of the media; None is the whole of it.
        sound: Path of the sound relative to the corpus' root, where it is a file of its own; None
            is the sound in `media`.
        transcript: What is said, where no times are known.
        language: BCP-47 tag, such as en or zh-CN; "" where unknown.
        source: URL, or name in the place it comes from.
        consent: Whether who is seen agreed to be in such data.
        labels: What else the corpus says of the clip: emotion, view, level, ...
        region: The face as the corpus annotates it: (x, y, width, height) as shares of the frame's
            width and height, where it does so in shares, not pixels (`box`).
        lasts_s: Seconds that the media has by what the corpus says of it; None where it does not
            say. What ends well before was cut short.
        phonemes: What is said, phoneme by phoneme, pauses among them, with times as `words` has;
            None where only the words are known.
        tracks: Numbers that go with the frames: name -> path relative to the corpus' root of a
            float16 array [T, K], whose K names are in the corpus' `tracks.json`.
    """

    id: str
    media: str
    corpus: str
    speaker: str
    split: Split
    caption: str
    words: tuple[Word, ...] = ()
    box: tuple[int, int, int, int] | None = None
    licence: str = ""
    span: tuple[float, float] | None = None
    sound: str | None = None
    transcript: str = ""
    language: str = ""
    source: str = ""
    consent: Consent = "unknown"
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    region: tuple[float, float, float, float] | None = None
    lasts_s: float | None = None
    phonemes: tuple[TimedPhoneme, ...] | None = None
    tracks: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Problem:
    """A file of a corpus that no record can be made of.

    Attributes:
        path: Relative to the corpus' root.
        reason: One line: what is wrong, and the rule.
        speaker: Who would be seen, where the path tells.
    """

    path: str
    reason: str
    speaker: str = ""

    @property
    def id(self) -> str:
        """Names files; no record has it."""
        return f"problem-{safe_name(self.path)}"


class Corpus(Protocol):
    """What a corpus' module has; it may have a LEXICON of pronunciations as well."""

    NAME: str
    LICENCE: str

    def records(self, root: Path) -> Iterator[ClipRecord | Problem]:
        """Records of the corpus at `root`, in the order of their media, and files that give none.

        No media is read.

        Raises:
            UserError: `root` has another layout than the corpus'.
        """
        ...


def corpora() -> list[str]:
    """The names of avgen's own corpora: the modules beside this one that have `records`."""
    beside = [module.name for module in iter_modules([str(Path(__file__).parent)])]
    return [name for name in beside if hasattr(import_module(f"avgen.corpora.{name}"), "records")]


def find_corpus(name: str) -> Corpus:
    """The module of a corpus: one of avgen's by its name, or any by its import path.

    Raises:
        UserError: there is no such module, or it is not a corpus.
    """
    path = name if "." in name else f"avgen.corpora.{name.lower().replace('-', '_')}"
    try:
        spec = find_spec(path)
    except (ImportError, ValueError):  # a package on the way is missing, or no name at all
        spec = None
    module = None if spec is None else import_module(path)
    missing = [part for part in ("NAME", "LICENCE", "records") if not hasattr(module, part)]
    if missing:
        rule = f"it must be one of {', '.join(corpora())}, or a module of yours as package.module"
        wrong = "no such module" if module is None else f"{path} has no {' and no '.join(missing)}"
        raise UserError(f"corpus {name!r}: {wrong}; {rule}")
    return cast(Corpus, module)


def safe_name(path: str) -> str:
    """A file name for a path: readable, unlike that of every other path, the same for ever."""
    digest = hashlib.sha256(path.encode()).hexdigest()[:8]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", path).strip("-")[-80:]
    return f"{readable}-{digest}" if readable else digest


def record_from_json(values: Mapping[str, Any]) -> ClipRecord:
    """The record that `dataclasses.asdict` and JSON made `values` of.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    values = dict(values)
    values["words"] = tuple(Word(**word) for word in values["words"])
    if values.get("phonemes") is not None:
        values["phonemes"] = tuple(TimedPhoneme(**timed) for timed in values["phonemes"])
    for name in ("box", "span", "region"):
        if values.get(name) is not None:
            values[name] = tuple(values[name])
    return ClipRecord(**values)


def read_manifest(path: str | Path) -> list[ClipRecord]:
    """Read a manifest.

    Raises:
        UserError: the file is missing, or a line is not a record (the line is named).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: not found; a prepared corpus has a manifest")
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            records.append(record_from_json(json.loads(line)))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}:{number}: is not a clip record: {error}") from error
    return records


def write_manifest(records: Iterable[ClipRecord], path: str | Path) -> None:
    """Write a manifest, beside its place first."""
    path = Path(path)
    lines = [json.dumps(asdict(record)) + "\n" for record in records]
    with atomic(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
