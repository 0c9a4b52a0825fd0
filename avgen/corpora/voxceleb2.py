"""VoxCeleb2 -> records.

    ROOT/dev/mp4/id00012/21Uxsk56VDQ/00001.mp4      crops of faces
    ROOT/dev/aac/id00012/21Uxsk56VDQ/00001.m4a      (or wav/.../00001.wav), where kept apart
    ROOT/test/...
    ROOT/vox2_meta.csv                              gender of each id; optional

or ROOT/mp4 and ROOT/aac, where dev and test are not told apart. A sound file of its own is taken
where there is one; otherwise the sound is in the mp4. The boxes in txt/ are of the videos that
the crops were cut from, so that nothing here needs them.

Reference: Chung et al. 2018, "VoxCeleb2: Deep Speaker Recognition".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from avgen.clips.files import fault
from avgen.corpora.layout import (
    described,
    files,
    folders,
    person,
    read_rows,
    relative,
    wrong_layout,
)
from avgen.corpora.manifest import ClipRecord, Problem, Split
from avgen.corpora.splits import split_by_speaker

NAME = "voxceleb2"
LICENCE = "not verified; see https://www.robots.ox.ac.uk/~vgg/data/voxceleb/"
EXPECTED = "ROOT/dev/mp4/id00012/21Uxsk56VDQ/00001.mp4, with aac/ or wav/ beside mp4/"
SOUNDS = {"wav": ".wav", "aac": ".m4a"}
SETS = ("dev", "test", "")


def records(root: Path) -> Iterator[ClipRecord | Problem]:
    """All utterances at `root`; see `manifest.Corpus`.

    The corpus' test set, whose speakers are not in dev, is for testing; of dev's speakers a
    twentieth is for validation.
    """
    parts = [name for name in SETS if (root / name / "mp4").is_dir()]
    if not parts:
        raise wrong_layout(root, "VoxCeleb2", EXPECTED)
    genders = _genders(root)
    empty = True
    for part in parts:
        for speaker in folders(root / part / "mp4"):
            for video in folders(speaker):
                for path in files(video, (".mp4",)):
                    empty = False
                    yield _record(path, root, part, genders)
        yield from _without_picture(root, part)
    if empty:
        raise wrong_layout(root, "VoxCeleb2", EXPECTED)


def _genders(root: Path) -> dict[str, str]:
    """The gender, m or f, by speaker; nothing without the table, whose cells are padded."""
    path = root / "vox2_meta.csv"
    if not path.exists():
        return {}
    rows = read_rows(path, ("VoxCeleb2 ID", "Gender"))
    return {row["VoxCeleb2 ID"]: row.get("Gender", "") for row in rows}


def _split(speaker: str, part: str) -> Split:
    if part == "test":
        return "test"
    return split_by_speaker(speaker, NAME, test=0.0 if part == "dev" else 0.1)


def _record(path: Path, root: Path, part: str, genders: dict[str, str]) -> ClipRecord | Problem:
    speaker, video = path.parts[-3:-1]
    reason = fault(path)
    if reason is not None:
        return Problem(relative(path, root), reason, speaker)
    sound = None
    for folder, suffix in SOUNDS.items():
        apart = root / part / folder / speaker / video / f"{path.stem}{suffix}"
        if apart.exists():
            reason = fault(apart)
            if reason is not None:
                return Problem(relative(apart, root), reason, speaker)
            sound = relative(apart, root)
            break
    return ClipRecord(
        id="_".join((speaker, video, path.stem)),
        media=relative(path, root),
        corpus=NAME,
        speaker=speaker,
        split=_split(speaker, part),
        caption=described(person(genders.get(speaker, ""))),
        licence=LICENCE,
        sound=sound,
        source=f"https://www.youtube.com/watch?v={video}",
    )


def _without_picture(root: Path, part: str) -> Iterator[Problem]:
    """Sounds whose picture is missing."""
    for folder, suffix in SOUNDS.items():
        for speaker in folders(root / part / folder):
            for video in folders(speaker):
                for sound in files(video, (suffix,)):
                    picture = root / part / "mp4" / speaker.name / video.name / f"{sound.stem}.mp4"
                    if not picture.exists():
                        missing = f"its picture, {relative(picture, root)}, is missing"
                        yield Problem(relative(sound, root), missing, speaker.name)
