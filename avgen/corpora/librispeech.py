"""LibriSpeech, people who read books aloud -> records of sound without picture.

    ROOT/.../103/1240/103-1240-0000.flac    with 103-1240.trans.txt, as the archives unpack
    ROOT/103/103-1240-0000.flac             with 103-1240-0000.txt, or without transcript
    ROOT/.../SPEAKERS.TXT                   who is a woman, who a man; may be missing

Splits are by speaker, whatever the set that an archive was.

Reference: Panayotov et al. 2015, "LibriSpeech: an ASR corpus based on public domain audio books".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from avgen.clips.files import fault
from avgen.corpora.layout import described, person, relative, wrong_layout
from avgen.corpora.manifest import ClipRecord, Problem
from avgen.corpora.splits import split_by_speaker

NAME = "librispeech"
LICENCE = "CC BY 4.0; see https://www.openslr.org/12"
EXPECTED = "ROOT/.../103-1240-0000.flac"

_STEM = re.compile(r"([0-9]+)-[0-9]+-[0-9]+")
_NAMED = "is not named as 103-1240-0000.flac: speaker, chapter, number"


def records(root: Path) -> Iterator[ClipRecord | Problem]:
    """All utterances at `root`, by name; see `manifest.Corpus`."""
    paths = sorted(root.rglob("*.flac"), key=lambda path: (path.stem, path))
    paths = [path for path in paths if not path.name.startswith(".")]
    if not paths:
        raise wrong_layout(root, "LibriSpeech", EXPECTED)
    transcripts, people = _transcripts(root), _people(root)
    seen: set[str] = set()
    for path in paths:
        place, match = relative(path, root), _STEM.fullmatch(path.stem)
        if match is None:
            yield Problem(place, _NAMED)
            continue
        reason = fault(path) or ("is a second copy" if path.stem in seen else None)
        if reason is not None:
            yield Problem(place, reason, match[1])
            continue
        seen.add(path.stem)
        yield ClipRecord(
            id=path.stem,
            media=place,
            corpus=NAME,
            speaker=match[1],
            split=split_by_speaker(match[1], NAME),
            caption=f"{described(person(people.get(match[1], '')))} reads aloud",
            words=(),
            box=None,
            licence=LICENCE,
            transcript=transcripts.get(path.stem, ""),
            language="en",
            source=path.stem,
        )


def _transcripts(root: Path) -> dict[str, str]:
    """Utterance -> what is said, in lower case."""
    found = {}
    for path in root.rglob("*.txt"):
        text = path.read_text(encoding="utf-8")
        if path.name.endswith(".trans.txt"):
            found |= dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
        elif _STEM.fullmatch(path.stem):
            found[path.stem] = text
    return {name: " ".join(text.split()).lower() for name, text in found.items()}


def _people(root: Path) -> dict[str, str]:
    """Speaker -> "F" or "M", from lines such as `14 | F | train-clean-360 | 25.03 | Kristin`."""
    found = {}
    for path in root.rglob("SPEAKERS.TXT"):
        for line in path.read_text(encoding="utf-8").splitlines():
            fields = [field.strip() for field in line.split("|")]
            if len(fields) > 2 and fields[0].isdigit():
                found[fields[0]] = fields[1]
    return found
