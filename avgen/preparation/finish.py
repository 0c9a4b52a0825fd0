"""A prepared folder: begun in one way, and, when every record has an outcome, completed.

Completing is the same however often it is done; one process does it at a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from avgen.corpora.manifest import write_manifest
from avgen.errors import UserError
from avgen.preparation.outcome import Outcome
from avgen.preparation.page import as_html
from avgen.preparation.store import SETTINGS, Store, write_bytes, write_json
from avgen.preparation.summary import Summary, as_card, summarize


@dataclass(frozen=True)
class Contents:
    """What all clips of a prepared folder have in common.

    Attributes:
        corpus: Its name.
        fps: Frames per second; None if clips have rates of their own.
        sample_rate: Samples per second.
        lexicon: Pronunciations that the corpus needs besides the dictionary's.
        tracks: Name of a track -> names of its numbers.
    """

    corpus: str
    fps: Fraction | None
    sample_rate: int
    lexicon: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tracks: Mapping[str, Sequence[str]] = field(default_factory=dict)


def begin(
    store: Store, wanted: Mapping[str, Any], default: Mapping[str, Any], contents: Contents
) -> None:
    """Make a folder, or make sure that the clips of this one are made in the same way.

    Args:
        store: The folder.
        wanted: How its clips are to be made, as JSON.
        default: What a setting was before it could be told.
        contents: What its clips have in common; written to rates.json, lexicon.json, tracks.json.

    Raises:
        UserError: it holds clips that were made in another way.
    """
    store.make()
    path = store.folder / SETTINGS
    if not path.is_file():
        write_json(path, wanted)
    before = {**default, **json.loads(path.read_text())}
    unlike = sorted(key for key in wanted if before.get(key) != wanted[key])
    if unlike:
        raise UserError(
            f"{store.folder}: holds clips made with other {', '.join(unlike)}; name another folder"
        )
    rates = {"fps": contents.fps and str(contents.fps), "sample_rate": contents.sample_rate}
    write_json(store.folder / "rates.json", rates)
    write_json(store.folder / "lexicon.json", contents.lexicon)
    if contents.tracks:
        write_json(store.folder / "tracks.json", contents.tracks)


def complete(store: Store, outcomes: Sequence[Outcome], contents: Contents) -> Summary:
    """Write summary, card, report and manifest, from the outcomes alone.

    Raises:
        UserError: two clips have one name.
    """
    folder, fps = store.folder, contents.fps
    clips = [kept.record for outcome in outcomes for kept in outcome.kept]
    if len({clip.id for clip in clips}) < len(clips):
        raise UserError(f"{folder}: two clips have one name; rename records that end in __1")
    summary = summarize(outcomes, fps)
    write_json(folder / "summary.json", summary.to_json())
    write_bytes(folder / "data_card.md", as_card(summary, outcomes, contents.corpus).encode())
    write_bytes(folder / "report.html", as_html(summary, outcomes, store, fps).encode())
    write_manifest(clips, folder / "manifest.jsonl")
    store.sweep()
    return summary
