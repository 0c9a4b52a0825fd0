"""HDTF, the high-definition talking face dataset -> records.

Clips that were cut and cropped already, in ROOT, ROOT/source or ROOT/clips:

    WDA_TinaSmith_000.mp4       (or TinaSmith_0.mp4: the set before the name is optional)

or, where there are none, whole videos in ROOT, ROOT/videos or ROOT/_videos_raw with the lists of
https://github.com/MRzzm/HDTF in ROOT/HDTF_dataset, of which each span becomes a record:

    WDA_TinaSmith.mp4                           (or TinaSmith.mp4)
    HDTF_dataset/WDA_annotion_time.txt          TinaSmith.mp4 00:12-03:55 ...      (sic)
    HDTF_dataset/WDA_video_url.txt              TinaSmith https://...              (optional)
    HDTF_dataset/WDA_crop_wh.txt, _resolution.txt                                  (optional)

A crop is in pixels of the video at the listed resolution, which need not be that of the file here:
it becomes the labels `crop` (left, width, top, height) and `resolution` (height), no box.

Reference: Zhang et al. 2021, "Flow-guided One-shot Talking Face Generation with a High-resolution
Audio-visual Dataset".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from avgen.clips.files import fault
from avgen.corpora.layout import absent, files, relative, wrong_layout
from avgen.corpora.manifest import ClipRecord, Problem
from avgen.corpora.splits import split_by_speaker
from avgen.errors import UserError

NAME = "hdtf"
LICENCE = "annotations CC BY 4.0, videos their owners'; see https://github.com/MRzzm/HDTF"
EXPECTED = (
    "clips such as ROOT/WDA_TinaSmith_000.mp4, or videos such as ROOT/videos/TinaSmith.mp4 with "
    "the lists in ROOT/HDTF_dataset"
)
SETS = ("RD", "WDA", "WRA")
_CLIP = re.compile(r"(?:(RD|WDA|WRA)_)?(.+)_(\d{1,3})")
_VIDEO = re.compile(r"(?:(RD|WDA|WRA)_)?(.+)")
_SPAN = re.compile(r"(\d+):(\d\d)-(\d+):(\d\d)")


def records(root: Path) -> Iterator[ClipRecord | Problem]:
    """All clips at `root`; see `manifest.Corpus`.

    Splits are by speaker. Politicians' videos are numbered after their names, which are the
    speakers; who speaks on the radio is not told, and each of those videos counts as a speaker.
    """
    cut = [path for name in ("", "source", "clips") for path in files(root / name, (".mp4",))]
    cut = [path for path in cut if _CLIP.fullmatch(path.stem)]
    if cut:
        yield from _cut(root, cut)
        return
    whole = [p for name in ("", "videos", "_videos_raw") for p in files(root / name, (".mp4",))]
    lists = root / "HDTF_dataset"
    if not whole or not any((lists / f"{part}_annotion_time.txt").is_file() for part in SETS):
        raise wrong_layout(root, "HDTF", EXPECTED)
    yield from _whole(root, whole, lists)


def speaker_of(name: str) -> str:
    """Who is in a video: AmyKlobuchar0 and AmyKlobuchar1 are one, Radio1 and Radio2 are not."""
    return name if name.startswith("Radio") else name.rstrip("0123456789") or name


@dataclass(frozen=True)
class _Video:
    """What the lists say of a video; `crops` are by the number of the clip."""

    part: str
    spans: tuple[tuple[float, float], ...]
    url: str
    resolution: str
    crops: dict[int, str]


def _cut(root: Path, clips: list[Path]) -> Iterator[ClipRecord | Problem]:
    seen: set[str] = set()
    for path in clips:
        found = _CLIP.fullmatch(path.stem)
        assert found is not None
        part, name, _ = found.groups()
        reason = fault(path) or ("is a second copy" if path.stem in seen else None)
        if reason is not None:
            yield Problem(relative(path, root), reason, speaker_of(name))
            continue
        seen.add(path.stem)
        labels = {"set": part} if part else {}
        yield _record(path.stem, relative(path, root), name, labels=labels)


def _whole(root: Path, videos: list[Path], lists: Path) -> Iterator[ClipRecord | Problem]:
    listed = {name: video for part in SETS for name, video in _read_lists(lists, part).items()}
    here: set[str] = set()
    for path in videos:
        found = _VIDEO.fullmatch(path.stem)
        assert found is not None
        name = found.group(2)
        video = listed.get(name)
        reason = fault(path)
        if reason is None and name in here:
            reason = "is a second copy"
        if reason is None and video is None:
            reason = "HDTF_dataset/*_annotion_time.txt has no such video"
        if reason is not None or video is None:
            yield Problem(relative(path, root), str(reason), speaker_of(name))
            continue
        here.add(name)
        for index, span in enumerate(video.spans):
            labels = {"set": video.part}
            if index in video.crops:
                labels |= {"crop": video.crops[index], "resolution": video.resolution}
            key = f"{video.part}_{name}_{index:03d}"
            yield _record(
                key, relative(path, root), name, span=span, source=video.url, labels=labels
            )
    yield from absent("HDTF_dataset", sorted(listed.keys() - here), len(listed))


def _read_lists(lists: Path, part: str) -> dict[str, _Video]:
    """The videos of a set, by name.

    Raises:
        UserError: a span is not mm:ss-mm:ss.
    """
    urls = _table(lists / f"{part}_video_url.txt")
    resolutions = _table(lists / f"{part}_resolution.txt")
    crops = _table(lists / f"{part}_crop_wh.txt")
    videos = {}
    for name, texts in _table(lists / f"{part}_annotion_time.txt").items():
        spans = []
        for text in texts:
            found = _SPAN.fullmatch(text)
            if found is None:
                file = lists / f"{part}_annotion_time.txt"
                raise UserError(f"{file}: {name}: {text!r} is not mm:ss-mm:ss")
            a, b, c, d = map(int, found.groups())
            spans.append((60.0 * a + b, 60.0 * c + d))
        own = {
            i: " ".join(crops[f"{name}_{i}"]) for i in range(len(spans)) if f"{name}_{i}" in crops
        }
        url = " ".join(urls.get(name, ()))
        videos[name] = _Video(part, tuple(spans), url, " ".join(resolutions.get(name, ())), own)
    return videos


def _table(path: Path) -> dict[str, list[str]]:
    """The lines of a list by their first word, without its .mp4; none without the list."""
    if not path.is_file():
        return {}
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    return {line[0].removesuffix(".mp4"): line[1:] for line in lines if line}


def _record(
    key: str,
    media: str,
    name: str,
    *,
    labels: dict[str, str],
    span: tuple[float, float] | None = None,
    source: str = "",
) -> ClipRecord:
    speaker = speaker_of(name)
    return ClipRecord(
        id=key,
        media=media,
        corpus=NAME,
        speaker=speaker,
        split=split_by_speaker(speaker, NAME),
        caption="a person",
        licence=LICENCE,
        span=span,
        language="en",
        source=source or name,
        labels=labels,
    )
