"""CelebV-HQ -> records.

    ROOT/celebvhq_info.json                             spans, boxes and attributes
    ROOT/downloaded_celebvhq/processed/CLIP.mp4         cut and cropped by the corpus' own script
    ROOT/downloaded_celebvhq/raw/VIDEO.mp4              or whole videos, of which spans are taken

A processed clip is taken where there is one. Boxes are shares of the raw video's frame.

Reference: Zhu et al. 2022, "CelebV-HQ: A Large-Scale Video Facial Attributes Dataset".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from avgen.clips.files import fault
from avgen.corpora.layout import absent, described, relative, wrong_layout
from avgen.corpora.manifest import ClipRecord, Problem
from avgen.corpora.splits import split_by_speaker
from avgen.errors import UserError

NAME = "celebv_hq"
LICENCE = "non-commercial research only; see https://github.com/CelebV-HQ/CelebV-HQ"
EXPECTED = (
    "ROOT/celebvhq_info.json with ROOT/downloaded_celebvhq/processed/CLIP.mp4 or "
    "ROOT/downloaded_celebvhq/raw/VIDEO.mp4"
)
INFO, MEDIA = "celebvhq_info.json", "downloaded_celebvhq"
# Attributes as a caption names them.
SEEN = {
    "eyeglasses": "glasses",
    "sunglasses": "sunglasses",
    "wearing_hat": "a hat",
    "beard": "a beard",
    "mustache": "a mustache",
    "bald": "a bald head",
    "bangs": "bangs",
    "black_hair": "black hair",
    "blonde_hair": "blonde hair",
    "blond_hair": "blonde hair",
    "brown_hair": "brown hair",
    "gray_hair": "gray hair",
    "long_hair": "long hair",
    "wavy_hair": "wavy hair",
    "wearing_earrings": "earrings",
    "wearing_necktie": "a necktie",
}
EMOTIONS = {
    "anger": "angry",
    "contempt": "contemptuous",
    "disgust": "disgusted",
    "fear": "fearful",
    "happy": "happy",
    "neutral": "neutral",
    "sadness": "sad",
    "surprise": "surprised",
}


def records(root: Path) -> Iterator[ClipRecord | Problem]:
    """All clips that were downloaded to `root`; see `manifest.Corpus`.

    Splits are by the video: the corpus does not tell who is in it.
    """
    info = root / INFO
    if not info.is_file() or not (root / MEDIA).is_dir():
        raise wrong_layout(root, "CelebV-HQ", EXPECTED)
    clips, names = _read(info)
    missing = []
    for key in sorted(clips):
        clip = clips[key]
        try:
            video = str(clip["ytb_id"])
            processed = root / MEDIA / "processed" / f"{key}.mp4"
            raw = root / MEDIA / "raw" / f"{video}.mp4"
            path = processed if processed.exists() else raw
            if not path.exists():
                missing.append(key)
            elif (reason := fault(path)) is not None:
                yield Problem(relative(path, root), f"{reason} (clip {key})", video)
            else:
                yield _record(key, clip, path, root, names)
        except (KeyError, TypeError, ValueError) as error:
            reason = (
                f"clip {key}: is not as the corpus describes it: {type(error).__name__} {error}"
            )
            yield Problem(f"{INFO}#{key}", reason)
    if len(missing) == len(clips):
        raise wrong_layout(root / MEDIA, "CelebV-HQ", EXPECTED)
    yield from absent(INFO, missing, len(clips))


def _read(info: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The clips by name, and the names of their attributes of appearance.

    Raises:
        UserError: the file is not the corpus' JSON.
    """
    reason = fault(info)
    if reason is not None:
        raise UserError(f"{info}: {reason}")
    try:
        values = json.loads(info.read_text(encoding="utf-8"))
        return dict(values["clips"]), list(values["meta_info"]["appearance_mapping"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{info}: is not CelebV-HQ's list of clips ({error!r})") from error


def _record(key: str, clip: dict[str, Any], path: Path, root: Path, names: list[str]) -> ClipRecord:
    video, emotion = str(clip["ytb_id"]), _emotion(clip["attributes"]["emotion"])
    has = {
        name.lower().replace(" ", "_")
        for name, value in zip(names, clip["attributes"]["appearance"], strict=True)
        if value
    }
    raw = path.parent.name == "raw"
    labels = {"emotion": emotion, "appearance": ", ".join(sorted(has))}
    return ClipRecord(
        id=key,
        media=relative(path, root),
        corpus=NAME,
        speaker=video,
        split=split_by_speaker(video, NAME),
        caption=_caption(has, emotion),
        licence=LICENCE,
        span=_span(clip["duration"]) if raw else None,
        source=f"https://www.youtube.com/watch?v={video}",
        labels={name: value for name, value in labels.items() if value},
        region=_region(clip["bbox"]) if raw else None,
    )


def _span(duration: dict[str, Any]) -> tuple[float, float]:
    start_s, end_s = float(duration["start_sec"]), float(duration["end_sec"])
    if not 0 <= start_s < end_s:
        raise UserError(f"duration from {start_s} to {end_s} s")
    return start_s, end_s


def _region(bbox: dict[str, Any]) -> tuple[float, float, float, float]:
    top, bottom, left, right = (float(bbox[side]) for side in ("top", "bottom", "left", "right"))
    if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
        raise UserError(f"bbox {bbox}; its sides are shares of the frame")
    return left, top, round(right - left, 6), round(bottom - top, 6)


def _emotion(values: dict[str, Any]) -> str:
    """The one emotion of a clip; "" where there are several, one after another."""
    labels = values["labels"]
    if values["sep_flag"]:
        several = {str(part["emotion"]) for part in labels}
        return several.pop() if len(several) == 1 else ""
    return str(labels)


def _caption(has: set[str], emotion: str) -> str:
    noun = "man" if "male" in has else "woman"
    looks = described(noun, "young" if "young" in has else "", EMOTIONS.get(emotion, emotion))
    details = [text for name, text in SEEN.items() if name in has]
    return f"{looks} with {', '.join(details)}" if details else looks
