"""Any folder of clips, however deep, and what a table beside them says of them -> records.

    ROOT/holiday/one.mov
    ROOT/two.mp4
    ROOT/metadata.csv  or  ROOT/metadata.jsonl        optional, a row a clip

A row has `file_name` (relative to ROOT) and any of `caption`, `transcript`, `speaker`, `language`,
`source`, `licence`, `consent` (given, unknown or withdrawn), `split`, `sound` (a file of its own,
relative to ROOT), `start_s` and `end_s` (both or neither); in JSONL also `words`, a list of
{"text", "start_s", "end_s"}. Whatever else a row has is a label. Without a row a clip is "a
person", a speaker of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from avgen.clips.files import VIDEO_SUFFIXES, fault
from avgen.clips.timed_words import Word
from avgen.corpora.layout import files, folders, read_rows, relative, wrong_layout
from avgen.corpora.manifest import ClipRecord, Consent, Problem, Split, safe_name
from avgen.corpora.splits import split_by_speaker
from avgen.errors import UserError

NAME = "folder"
LICENCE = ""
EXPECTED = "videos in ROOT or in folders in it, such as ROOT/one.mp4"
TABLES = ("metadata.csv", "metadata.jsonl")
_TEXTS = ("caption", "transcript", "speaker", "language", "source", "licence")
_KNOWN = (*_TEXTS, "file_name", "consent", "split", "sound", "start_s", "end_s", "words")


def records(root: Path) -> Iterator[ClipRecord | Problem]:
    """Every video under `root`, by path; see `manifest.Corpus`.

    Splits are by speaker where the table names one and has no `split`, by the clip otherwise.

    Raises:
        UserError: there is no video, or a table that cannot be read.
    """
    table = _table(root)
    empty = True
    for path in _videos(root):
        empty = False
        place = relative(path, root)
        row, reason = table.pop(place, {}), fault(path)
        if (written := place.encode("utf-8", "backslashreplace").decode()) != place:
            place, reason = written, "its name is not in UTF-8; rename it"
        if reason is None:
            try:
                yield _record(path, root, row)
                continue
            except (KeyError, TypeError, ValueError) as error:
                reason = f"its row cannot be used: {error}"
        yield Problem(place, reason, str(row.get("speaker", "")))
    if empty:
        raise wrong_layout(root, "a folder of clips", EXPECTED)
    for place in sorted(table):
        yield Problem(place, "the table has it, the folder has not", "")


def _videos(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """The videos in a folder and in those in it, each once: a link back to where it is in ends."""
    yield from files(folder, VIDEO_SUFFIXES)
    above |= {folder.resolve()}
    for inner in folders(folder):
        if inner.resolve() not in above:
            yield from _videos(inner, above)


def _table(root: Path) -> dict[str, dict[str, Any]]:
    """The rows by `file_name`.

    Raises:
        UserError: both tables are there, a line cannot be read, or a clip has two rows.
    """
    found = [root / name for name in TABLES if (root / name).exists()]
    if len(found) > 1:
        raise UserError(f"{root}: has {' and '.join(TABLES)}; one of them is to be read")
    table: dict[str, dict[str, Any]] = {}
    for path in found:
        rows = read_rows(path, ("file_name",)) if path.suffix == ".csv" else _lines(path)
        for row in rows:
            if table.setdefault(row["file_name"], row) is not row:
                raise UserError(f"{path}: {row['file_name']} has two rows")
    return table


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text in UTF-8 ({error})") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}:{number}: is not JSON ({error})") from error
        if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
            raise UserError(f"{path}:{number}: has no file_name")
        rows.append(row)
    return rows


def _record(path: Path, root: Path, row: dict[str, Any]) -> ClipRecord:
    """A record of a clip and its row, in which empty cells say nothing."""
    place = relative(path, root)
    row = {name: value for name, value in row.items() if value not in ("", None)}
    texts = {name: str(row[name]) for name in _TEXTS if name in row}
    key = safe_name(place)
    speaker = texts.get("speaker", key)
    consent, split = (
        row.get("consent", "unknown"),
        row.get("split", split_by_speaker(speaker, NAME)),
    )
    for name, value, rule in (("consent", consent, Consent), ("split", split, Split)):
        if value not in get_args(rule):
            raise UserError(f"{name} {value!r}; it must be one of {', '.join(get_args(rule))}")
    sound = row.get("sound")
    if sound is not None and (reason := fault(root / sound)) is not None:
        raise UserError(f"its sound, {sound}, {reason}")
    return ClipRecord(
        id=key,
        media=place,
        corpus=NAME,
        speaker=speaker,
        split=split,
        caption=texts.get("caption", "a person"),
        words=tuple(Word(**word) for word in row.get("words", ())),
        licence=texts.get("licence", LICENCE),
        span=_span(row),
        sound=sound,
        transcript=texts.get("transcript", ""),
        language=texts.get("language", ""),
        source=texts.get("source", ""),
        consent=consent,
        labels={name: str(value) for name, value in row.items() if name not in _KNOWN},
    )


def _span(row: dict[str, Any]) -> tuple[float, float] | None:
    if ("start_s" in row) != ("end_s" in row):
        raise UserError("start_s and end_s are given together or not at all")
    if "start_s" not in row:
        return None
    span = float(row["start_s"]), float(row["end_s"])
    if not 0 <= span[0] < span[1]:
        raise UserError(f"span from {span[0]} to {span[1]} s")
    return span
