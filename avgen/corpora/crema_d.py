"""CREMA-D, the crowd-sourced emotional multimodal actors dataset -> records.

    ROOT/VideoFlash/1001_DFA_ANG_XX.flv     picture and sound
    ROOT/AudioWAV/1001_DFA_ANG_XX.wav       the same sound, better coded; taken where it is there
    ROOT/VideoDemographics.csv              ActorID,Age,Sex,Race,Ethnicity; optional

A name is actor, sentence, emotion and level. The repository keeps its media in git-lfs: what was
not fetched is a small text file of the same name.

Reference: Cao et al. 2014, "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from avgen.clips.files import fault
from avgen.corpora.layout import described, files, person, read_rows, relative, wrong_layout
from avgen.corpora.manifest import ClipRecord, Problem
from avgen.corpora.splits import split_by_speaker

NAME = "crema_d"
LICENCE = "ODbL 1.0, contents DbCL 1.0; see https://github.com/CheyneyComputerScience/CREMA-D"
EXPECTED = "ROOT/VideoFlash/1001_DFA_ANG_XX.flv, with ROOT/AudioWAV beside it"
SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
EMOTIONS = {
    "ANG": "angry",
    "DIS": "disgusted",
    "FEA": "fearful",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
LEVELS = {"LO": "weak", "MD": "medium", "HI": "strong", "XX": ""}
_NAME = "names are actor_sentence_emotion_level, such as 1001_DFA_ANG_XX"


def records(root: Path) -> Iterator[ClipRecord | Problem]:
    """All clips of the corpus at `root`; see `manifest.Corpus`.

    Splits are by actor.
    """
    clips = files(root / "VideoFlash", (".flv", ".mp4"))
    if not clips:
        raise wrong_layout(root, "CREMA-D", EXPECTED)
    actors = _actors(root)
    pointers = []
    for path in clips:
        place, actor = relative(path, root), path.stem.split("_")[0]
        reason = fault(path)
        if reason is not None:
            yield Problem(place, reason, actor)
            continue
        sound = root / "AudioWAV" / f"{path.stem}.wav"
        unusable = fault(sound)
        pointers += [sound.name] if unusable is not None and sound.exists() else []
        yield _record(path, root, None if unusable else relative(sound, root), actors)
    if pointers:
        yield Problem(
            "AudioWAV",
            f"{len(pointers)} of its files are empty or git-lfs pointers, so that the sound of "
            f"VideoFlash is taken, such as that of {pointers[0]}",
        )
    pictures = {path.stem for path in clips}
    for sound in files(root / "AudioWAV", (".wav",)):
        if sound.stem not in pictures:
            missing = f"its picture, VideoFlash/{sound.stem}.flv, is missing"
            yield Problem(relative(sound, root), missing, sound.stem.split("_")[0])


def _actors(root: Path) -> dict[str, dict[str, str]]:
    """What is known of each actor; nothing without the table."""
    path = root / "VideoDemographics.csv"
    if not path.exists():
        return {}
    return {row["ActorID"]: row for row in read_rows(path, ("ActorID", "Sex"))}


def _record(
    path: Path, root: Path, sound: str | None, actors: dict[str, dict[str, str]]
) -> ClipRecord | Problem:
    place = relative(path, root)
    try:
        actor, code, emotion, level = path.stem.split("_")
        sentence, emotion, level = SENTENCES[code], EMOTIONS[emotion], LEVELS[level]
    except (KeyError, ValueError):
        return Problem(place, _NAME)
    known = actors.get(actor, {})
    looks = described(person(known.get("Sex", "")), emotion)
    labels = {"emotion": emotion, "level": level, "age": known.get("Age", "")}
    return ClipRecord(
        id=path.stem,
        media=place,
        corpus=NAME,
        speaker=actor,
        split=split_by_speaker(actor, NAME),
        caption=f"{looks}, {level}" if level else looks,
        licence=LICENCE,
        sound=sound,
        transcript=sentence,
        language="en",
        source=path.stem,
        labels={name: value for name, value in labels.items() if value},
    )
