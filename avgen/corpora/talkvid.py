"""TalkVid -> records.

    ROOT/*.json                                             rows, as the dataset's page has them
    ROOT/output/VIDEO/VIDEO_001_0.100_5.141.mp4             clips, as its download script names them
    ROOT/clips/ID.mp4                                       or by the id of the row

VIDEO is the id of the video; the script cuts seconds off after the millisecond.

Reference: Chen et al. 2025, "TalkVid: A Large-Scale Diversified Dataset for Audio-Driven Talking
Head Synthesis".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from avgen.clips.files import fault
from avgen.corpora.layout import absent, files, folders, relative, wrong_layout
from avgen.corpora.manifest import ClipRecord, Problem, safe_name
from avgen.corpora.splits import split_by_speaker
from avgen.errors import UserError

NAME = "talkvid"
LICENCE = "CC BY-NC 4.0; see https://huggingface.co/datasets/FreedomIntelligence/TalkVid"
EXPECTED = (
    "ROOT/*.json of rows with ROOT/output/VIDEO/VIDEO_001_0.100_5.141.mp4 or ROOT/clips/ID.mp4"
)
LANGUAGES = {
    "arabic": "ar",
    "chinese": "zh",
    "english": "en",
    "french": "fr",
    "german": "de",
    "hindi": "hi",
    "italian": "it",
    "japanese": "ja",
    "korean": "ko",
    "polish": "pl",
    "portuguese": "pt",
    "russian": "ru",
    "spanish": "es",
    "thai": "th",
}
_CUT = re.compile(r".+_(\d+\.\d+)_(\d+\.\d+)")
_NEAR_S = 0.002  # of start and end, between a row and the name of its file
_LABELS = ("Ethnicity", "Age Group", "Gender", "Video Category")
_Place = tuple[float, float, Path]


def records(root: Path) -> Iterator[ClipRecord | Problem]:
    """All clips that were downloaded to `root`; see `manifest.Corpus`.

    Splits are by the corpus' Person ID. Captions are its descriptions.
    """
    rows = [(path, row) for path in files(root, (".json",)) for row in _rows(path)]
    cut = {video.name: _cut(video) for video in folders(root / "output")}
    named = {path.stem: path for path in files(root / "clips", (".mp4",))}
    if not rows or not (cut or named):
        raise wrong_layout(root, "TalkVid", EXPECTED)
    missing: list[str] = []
    seen: set[str] = set()
    for file, row in sorted(rows, key=lambda pair: str(pair[1].get("id", ""))):
        try:
            key, video = str(row["id"]), _video(str(row["info"]["Video Link"]))
            span = float(row["start-time"]), float(row["end-time"])
            speaker = str(row["info"]["Person ID"])
        except (KeyError, TypeError, ValueError) as error:
            name = row.get("id", "?")
            reason = f"row {name}: is not as the corpus describes it: {error!r}"
            yield Problem(f"{file.name}#{name}", reason)
            continue
        path = named.get(key) or _nearest(cut.get(video, []), span)
        if path is None:
            missing.append(key)
        elif (reason := fault(path)) is not None or key in seen:
            yield Problem(relative(path, root), reason or f"row {key} is there twice", speaker)
        else:
            seen.add(key)
            yield _record(key, row, relative(path, root), speaker)
    yield from absent("rows", missing, len(rows))


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a list.

    Raises:
        UserError: it is not a list of rows.
    """
    reason = fault(path)
    if reason is not None:
        raise UserError(f"{path}: {reason}")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error})") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: is not a list of TalkVid's rows")
    return rows


def _video(link: str) -> str:
    """The id of a video from its link."""
    found = re.search(r"(?:watch\?v=|youtu\.be/|/shorts/)([\w-]+)", link)
    if found is None:
        raise UserError(f"Video Link {link!r}")
    return found.group(1)


def _cut(video: Path) -> list[_Place]:
    """Start, end and path of each clip of a video."""
    found = [(_CUT.fullmatch(path.stem), path) for path in files(video, (".mp4",))]
    return [(float(m.group(1)), float(m.group(2)), path) for m, path in found if m is not None]


def _nearest(places: list[_Place], span: tuple[float, float]) -> Path | None:
    for start_s, end_s, path in places:
        if abs(start_s - span[0]) < _NEAR_S and abs(end_s - span[1]) < _NEAR_S:
            return path
    return None


def _record(key: str, row: dict[str, Any], media: str, speaker: str) -> ClipRecord:
    info = row["info"]
    labels = {name.lower(): str(info[name]) for name in _LABELS if info.get(name)}
    return ClipRecord(
        id=key if re.fullmatch(r"[\w-]+", key) else safe_name(key),
        media=media,
        corpus=NAME,
        speaker=speaker,
        split=split_by_speaker(speaker, NAME),
        caption=str(row.get("description") or "a person"),
        licence=LICENCE,
        language=LANGUAGES.get(str(info.get("Language", "")).lower(), ""),
        source=str(info["Video Link"]),
        labels=labels,
    )
