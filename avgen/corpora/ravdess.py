"""RAVDESS, the Ryerson audio-visual database of emotional speech and song -> records.

    ROOT/Actor_01/01-01-06-01-02-01-01.mp4
    ROOT/Video_Speech_Actor_01/Actor_01/...     (as the archives unpack)

The seven numbers are modality (01 picture and sound, 02 picture, 03 sound), channel (01 speech, 02
song), emotion, intensity, statement, repetition and actor. Only modality 01 gives records: 02 are
the same takes without their sound, 03 are those without picture.

Reference: Livingstone & Russo 2018, "The Ryerson Audio-Visual Database of Emotional Speech and Song
(RAVDESS)".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from avgen.clips.files import fault
from avgen.corpora.layout import described, files, folders, relative, wrong_layout
from avgen.corpora.manifest import ClipRecord, Problem
from avgen.corpora.splits import split_by_speaker

NAME = "ravdess"
LICENCE = "CC BY-NC-SA 4.0; see https://zenodo.org/records/1188976"
EXPECTED = "ROOT/Actor_01/01-01-06-01-02-01-01.mp4"
CHANNELS = {"01": "speech", "02": "song"}
EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgusted",
    "08": "surprised",
}
INTENSITIES = {"01": "normal", "02": "strong"}
STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
_NAME = "names are seven numbers such as 01-01-06-01-02-01-12, the last of them the actor's"


def records(root: Path) -> Iterator[ClipRecord | Problem]:
    """All takes with picture and sound at `root`; see `manifest.Corpus`.

    Splits are by actor.
    """
    actors = [
        place
        for parent in (root, *folders(root))
        for place in folders(parent)
        if place.name.startswith("Actor_")
    ]
    clips = [path for place in actors for path in files(place, (".mp4",))]
    if not clips:
        raise wrong_layout(root, "RAVDESS", EXPECTED)
    seen: set[str] = set()
    for path in sorted(clips, key=lambda path: (path.name, path)):
        modality = path.stem.split("-")[0]
        if modality in ("02", "03"):
            continue
        place, speaker = relative(path, root), path.parent.name
        reason = fault(path) or ("is a second copy" if path.stem in seen else None)
        if reason is not None:
            yield Problem(place, reason, speaker)
            continue
        record = _record(path, root)
        seen |= {path.stem} if isinstance(record, ClipRecord) else set()
        yield record


def _record(path: Path, root: Path) -> ClipRecord | Problem:
    place, speaker = relative(path, root), path.parent.name
    try:
        _, channel, emotion, intensity, statement, _, actor = path.stem.split("-")
        sings = CHANNELS[channel] == "song"
        labels = {
            "channel": CHANNELS[channel],
            "emotion": EMOTIONS[emotion],
            "intensity": INTENSITIES[intensity],
        }
        spoken, number = STATEMENTS[statement], int(actor)
    except (KeyError, ValueError):
        return Problem(place, _NAME, speaker)
    if speaker != f"Actor_{number:02d}":
        return Problem(place, f"is of actor {number}, in the folder of {speaker}", speaker)
    looks = described("man" if number % 2 else "woman", labels["emotion"])
    strong = ", strong" if labels["intensity"] == "strong" else ""
    return ClipRecord(
        id=path.stem,
        media=place,
        corpus=NAME,
        speaker=speaker,
        split=split_by_speaker(speaker, NAME),
        caption=f"{looks}{', singing' if sings else ''}{strong}",
        licence=LICENCE,
        transcript=spoken,
        language="en",
        source=path.stem,
        labels=labels,
    )
