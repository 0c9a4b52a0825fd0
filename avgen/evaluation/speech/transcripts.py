"""A clip in, the words that are said in it out, as whoever made the clip wrote them down.

They come from a file that is given, or else from the clip itself: `avgen generate` writes into a
clip's tags, and beside it, what it was asked to say.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

from avgen.errors import UserError

TAG = "avgen_parameters"  # that `avgen generate` writes, as JSON


def spoken_words(text: str) -> list[str]:
    """The words of a text as they are compared: lower case, without punctuation but apostrophes.

    Numbers are left as they are written: "9" is not "nine".
    """
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower().replace("\u2019", "'"))


def read_transcripts(path: Path) -> dict[str, str]:
    """The transcripts of a file, by id.

    A line of JSONL is {"id": ..., "text": ...}; or, as avgen's manifests have it, `words` in
    place of `text`. A CSV has a line of names with `id` and `text` first.

    Raises:
        UserError: no such file, or a line without an id or a text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error})") from error
    found: dict[str, str] = {}
    if path.suffix.lower() == ".csv":
        lines = list(csv.DictReader(text.splitlines()))
        if not lines or not {"id", "text"} <= set(lines[0]):
            raise UserError(f"{path}: its first line must name the columns id and text")
        return {line["id"]: line["text"] or "" for line in lines}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            said = record.get("text")
            found[str(record["id"])] = _joined(record["words"]) if said is None else str(said)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise UserError(
                f'{path}:{number}: must be {{"id": ..., "text": ...}} ({error})'
            ) from error
    return found


def transcript_of(name: str, path: Path, given: dict[str, str]) -> str | None:
    """What is said in a clip, or None where nobody says.

    Args:
        name: the clip's place in its folder; it is looked for as it is ("s1/a.mp4"), without its
            suffix ("s1/a") and without its folders ("a").
        path: of the clip, in whose sidecar and tags it is looked for next.
        given: transcripts by id.
    """
    bare = Path(name).with_suffix("")
    for key in (name, bare.as_posix(), bare.name):
        if key in given:
            return given[key]
    parameters = _beside(path) or _inside(path)
    return _said(parameters) if parameters else None


def _beside(path: Path) -> dict[str, Any] | None:
    """The parameters in a clip's sidecar, a.mp4.json."""
    sidecar = path.with_name(path.name + ".json")
    try:
        found = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return _dictionary(found.get("parameters")) if isinstance(found, dict) else None


def _inside(path: Path) -> dict[str, Any] | None:
    """The parameters in a clip's tags."""
    from avgen.clips.media.write import read_metadata

    try:
        return _dictionary(json.loads(read_metadata(path).get(TAG, "null")))
    except (OSError, ValueError):  # a file that cannot be read says so where it is measured
        return None


def _dictionary(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


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
