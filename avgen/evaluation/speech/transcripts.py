"""A clip -> what is said in it, and when, as whoever made the clip wrote it down.

It comes from a file that is given, or else from the clip itself: `avgen generate` writes what it
was asked to say into a clip's tags and beside it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avgen.clips.media.read import read_metadata
from avgen.clips.timed_words import Word
from avgen.errors import UserError

TAG = "avgen_parameters"  # that `avgen generate` writes, as JSON
BAD = (ValueError, LookupError, AttributeError, TypeError)  # what JSON of another shape raises


@dataclass(frozen=True)
class Transcript:
    """What is said in a clip.

    Attributes:
        text: The words, or None if not known.
        phonemes: ARPAbet symbols without stress, with their times; empty if not known.
    """

    text: str | None = None
    phonemes: tuple[Word, ...] = ()


def spoken_words(text: str) -> list[str]:
    """The words of a text as they are compared: lower case, without punctuation but apostrophes.

    Numbers are left as they are written: "9" is not "nine".
    """
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower().replace("\u2019", "'"))


def read_transcripts(path: Path) -> dict[str, Transcript]:
    """The transcripts of a file, by clip id.

    A line of JSONL is {"id": ..., "text": ...} or, as in avgen's manifests, has `words`, and
    `phonemes` as [symbol, start, end] or {"phoneme": ..., "start_s": ..., "end_s": ...}. A CSV has
    a first line of names with `id` and `text`.

    Raises:
        UserError: no such file, or a line without an id or a text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error})") from error
    if path.suffix.lower() == ".csv":
        lines = list(csv.DictReader(io.StringIO(text, newline="")))
        if not lines or not {"id", "text"} <= set(lines[0]):
            raise UserError(f"{path}: its first line must name the columns id and text")
        return {line["id"]: Transcript(line["text"] or "") for line in lines}
    found = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            said = record.get("text")
            words = _joined(record["words"]) if said is None else str(said)
            found[str(record["id"])] = Transcript(words, _phonemes(record))
        except BAD as error:
            raise UserError(
                f'{path}:{number}: must be {{"id": ..., "text": ...}} ({error})'
            ) from error
    return found


def transcript_of(name: str, path: Path, given: Mapping[str, Transcript]) -> Transcript:
    """What is said in a clip, as far as known.

    Args:
        name: The clip's place in its folder; it is looked for as it is ("s1/a.mp4"), without its
            suffix ("s1/a") and without its folders ("a").
        path: Of the clip, in whose sidecar and tags it is looked for next.
        given: Transcripts by id.
    """
    bare = Path(name).with_suffix("")
    for key in (name, bare.as_posix(), bare.name):
        if key in given:
            return given[key]
    parameters = _sidecar(path) or _tags(path)
    try:
        return Transcript(_said(parameters), _phonemes(parameters)) if parameters else Transcript()
    except BAD:  # somebody else's, of the same name
        return Transcript()


def _sidecar(path: Path) -> dict[str, Any] | None:
    """The parameters in a clip's sidecar, a.mp4.json, with the phonemes beside them."""
    try:
        found = json.loads(path.with_name(path.name + ".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    parameters = found.get("parameters") if isinstance(found, dict) else None
    if not isinstance(parameters, dict):
        return None
    return {"phonemes": found.get("phonemes"), **parameters}


def _tags(path: Path) -> dict[str, Any] | None:
    """The parameters in a clip's tags."""
    try:
        found = json.loads(read_metadata(path).get(TAG, "null"))
    except (OSError, ValueError):  # a file that cannot be read says so where it is measured
        return None
    return found if isinstance(found, dict) else None


def _said(parameters: dict[str, Any]) -> str | None:
    """The words that the pipeline was asked for: with times, plain, or quoted in the prompt."""
    words, speech, prompt = (parameters.get(name) for name in ("words", "speech", "prompt"))
    if words:
        return _joined(words)
    if isinstance(speech, str) and speech:
        return speech
    quoted = re.findall(r'["\u201c]([^"\u201c\u201d]*)["\u201d]', prompt or "")
    return " ".join(quoted) or None


def _joined(words: Any) -> str:
    """Words given as text, [text, start, end] or {"text": ...}, as one line."""
    texts = (
        w.get("text") if isinstance(w, dict) else w[0] if isinstance(w, list) else w for w in words
    )
    return " ".join(str(text) for text in texts)


def _phonemes(record: dict[str, Any]) -> tuple[Word, ...]:
    """The phonemes of a record, without the digits of stress and without pauses."""
    parts = [
        (p["phoneme"], p["start_s"], p["end_s"]) if isinstance(p, dict) else p
        for p in record.get("phonemes") or ()
    ]
    return tuple(
        Word(symbol.rstrip("012"), float(start), float(end))
        for symbol, start, end in parts
        if symbol[:1].isalpha()
    )
