"""LRS3-TED -> records.

    ROOT/pretrain/VIDEO/00001.mp4 + 00001.txt       words with their times
    ROOT/trainval/VIDEO/00001.mp4 + 00001.txt       the text alone
    ROOT/test/VIDEO/...

A text file has lines `Text:  THE WORDS`, `Conf:  N`, `Ref:  VIDEO`, a block FRAME X Y W H of boxes
in the video that the crop was cut from (not read), and for pretrain a block WORD START END
ASDSCORE, in seconds of the clip.

Reference: Afouras et al. 2018, "LRS3-TED: a large-scale dataset for visual speech recognition".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from avgen.clips.files import fault
from avgen.clips.timed_words import Word
from avgen.corpora.layout import files, folders, relative, wrong_layout
from avgen.corpora.manifest import ClipRecord, Problem, Split
from avgen.corpora.splits import split_by_speaker
from avgen.errors import UserError

NAME = "lrs3"
LICENCE = "not verified; see https://www.robots.ox.ac.uk/~vgg/data/lip_reading/lrs3.html"
EXPECTED = "ROOT/pretrain/VIDEO/00001.mp4 with 00001.txt, likewise trainval/ and test/"
SETS = ("pretrain", "trainval", "test")
_WORDS = ["WORD", "START", "END", "ASDSCORE"]


def records(root: Path) -> Iterator[ClipRecord | Problem]:
    """All clips at `root`; see `manifest.Corpus`.

    The corpus' test set is for testing; of the other videos a twentieth is for validation. A
    speaker is a video: who speaks in two talks counts twice.
    """
    clips = [
        (part, path)
        for part in SETS
        for video in folders(root / part)
        for path in files(video, (".mp4", ".txt"))
    ]
    if not any(path.suffix == ".mp4" for _, path in clips):
        raise wrong_layout(root, "LRS3", EXPECTED)
    for part, path in clips:
        other = path.with_suffix(".txt" if path.suffix == ".mp4" else ".mp4")
        reason = fault(path)
        if reason is None and not other.exists():
            reason = f"its other half, {other.name}, is missing"
        if reason is not None:
            yield Problem(relative(path, root), reason, path.parent.name)
        elif path.suffix == ".mp4" and fault(other) is None:
            yield _record(path, other, root, part)


def read_text(path: Path) -> tuple[str, tuple[Word, ...]]:
    """The text, in lower case, and the words with their times, if the file has any.

    What is in braces is a noise, not a word, and is left out.

    Raises:
        UserError: there is no text, or a line (which is named, unlike the file) of the words is
            not WORD START END ASDSCORE.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    texts = [line.partition(":")[2] for line in lines if line.startswith("Text:")]
    if not texts:
        raise UserError("has no line that begins with Text:")
    spoken = " ".join(word for word in texts[0].lower().split() if not word.startswith("{"))
    begins = [i for i, line in enumerate(lines, 1) if line.split() == _WORDS]
    words = []
    for number, line in enumerate(lines, 1):
        if not begins or number <= begins[0] or not line.strip():
            continue
        try:
            text, start, end, _ = line.split()
            if not text.startswith("{"):
                words.append(Word(text.lower(), float(start), float(end)))
        except ValueError as error:
            raise UserError(f"line {number}: {line!r} is not {' '.join(_WORDS)}") from error
    return spoken, tuple(words)


def _record(path: Path, text: Path, root: Path, part: str) -> ClipRecord | Problem:
    video = path.parent.name
    try:
        spoken, words = read_text(text)
    except ValueError as error:
        return Problem(relative(text, root), str(error), video)
    split: Split = "test" if part == "test" else split_by_speaker(video, NAME, test=0.0)
    return ClipRecord(
        id=f"{part}_{video}_{path.stem}",
        media=relative(path, root),
        corpus=NAME,
        speaker=video,
        split=split,
        caption="a person",
        words=words,
        licence=LICENCE,
        transcript=spoken,
        language="en",
        source=f"https://www.youtube.com/watch?v={video}",
        labels={"set": part},
    )
