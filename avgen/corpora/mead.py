"""MEAD, the multi-view emotional audio-visual dataset -> records.

    ROOT/M003/video/front/angry/level_1/001.mp4     seven views
    ROOT/M003/audio/angry/level_1/001.m4a           one sound for all of them; neutral has level_1

M is an actor, W an actress. Some copies unpack to video-001/ instead of video/, or to video/ in it.
The sound is taken from audio/ where it is there, from the picture's file otherwise.

Reference: Wang et al. 2020, "MEAD: A Large-scale Audio-visual Dataset for Emotional Talking-face
Generation".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from avgen.clips.files import fault
from avgen.corpora.layout import described, files, folders, relative, wrong_layout
from avgen.corpora.manifest import ClipRecord, Problem
from avgen.corpora.splits import split_by_speaker

NAME = "mead"
LICENCE = "not verified; see https://wywu.github.io/projects/MEAD/MEAD.html"
EXPECTED = "ROOT/M003/video/front/angry/level_1/001.mp4, with ROOT/M003/audio beside video"
VIEWS = {
    "front": "from the front",
    "left_30": "from 30 degrees left",
    "left_60": "from 60 degrees left",
    "right_30": "from 30 degrees right",
    "right_60": "from 60 degrees right",
    "top": "from above",
    "down": "from below",
}
# Folders are spelled in more than one way.
EMOTIONS = {
    "angry": "angry",
    "anger": "angry",
    "contempt": "contemptuous",
    "disgust": "disgusted",
    "disgusted": "disgusted",
    "fear": "fearful",
    "happy": "happy",
    "neutral": "neutral",
    "sad": "sad",
    "surprise": "surprised",
    "surprised": "surprised",
}
LEVELS = {"level_1": "weak", "level_2": "medium", "level_3": "strong"}


def records(root: Path) -> Iterator[ClipRecord | Problem]:
    """All views of all takes at `root`; see `manifest.Corpus`.

    Splits are by actor, not by the take as in the corpus' own paper, which has every actor in both.
    """
    actors = [place for place in folders(root) if re.fullmatch(r"[MW]\d{3}", place.name)]
    if not actors:
        raise wrong_layout(root, "MEAD", EXPECTED)
    for actor in actors:
        views = {view.name: view for view in _parts(actor, "video") if view.name in VIEWS}
        sounds = {place.name: place for place in _parts(actor, "audio")}
        if not views:
            packed = any((actor / name).exists() for name in ("video.tar", "video.zip"))
            reason = "its video archive is not unpacked" if packed else "has no video/front/..."
            yield Problem(relative(actor, root), reason, actor.name)
        for _, view in sorted(views.items()):
            for path in _takes(view):
                yield _record(path, root, actor.name, sounds)


def _parts(actor: Path, kind: str) -> list[Path]:
    """What is in video/ or audio/ of an actor, wherever that lies."""
    bases = [place for place in folders(actor) if re.fullmatch(rf"{kind}(-\d+)?", place.name)]
    return [part for base in bases for parent in (base, base / kind) for part in folders(parent)]


def _takes(view: Path) -> list[Path]:
    """The clips of a view, in order of emotion, level and number."""
    return [
        path
        for emotion in folders(view)
        for level in folders(emotion)
        for path in files(level, (".mp4",))
    ]


def _record(path: Path, root: Path, actor: str, sounds: dict[str, Path]) -> ClipRecord | Problem:
    view, emotion, level = path.parts[-4:-1]
    place, reason = relative(path, root), fault(path)
    if reason is None and emotion not in EMOTIONS:
        reason = f"{emotion!r} is none of {', '.join(EMOTIONS)}"
    if reason is None and level not in LEVELS:
        reason = f"{level!r} is none of {', '.join(LEVELS)}"
    if reason is not None:
        return Problem(place, reason, actor)
    sound = sounds.get(emotion, path) / level / f"{path.stem}.m4a"
    if emotion in sounds and sound.exists() and fault(sound) is not None:
        return Problem(relative(sound, root), str(fault(sound)), actor)
    strength = "" if emotion == "neutral" else f", {LEVELS[level]}"
    gender = "man" if actor.startswith("M") else "woman"
    return ClipRecord(
        id=f"{actor}_{view}_{emotion}_{level}_{path.stem}",
        media=place,
        corpus=NAME,
        speaker=actor,
        split=split_by_speaker(actor, NAME),
        caption=f"{described(gender, EMOTIONS[emotion])}{strength}, seen {VIEWS[view]}",
        licence=LICENCE,
        sound=relative(sound, root) if sound.is_file() else None,
        language="en",
        source=f"{actor}/{emotion}/{level}/{path.stem}",
        labels={"emotion": EMOTIONS[emotion], "level": level, "view": view},
    )
