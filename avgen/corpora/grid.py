"""The GRID audiovisual sentence corpus -> records.

    ROOT/s1/bbaf2n.mpg                  (or .mp4; s1 to s34, of s21 there is no picture)
    ROOT/alignments/s1/bbaf2n.align     (or ROOT/align/bbaf2n.align)

A line of an alignment is `start end word`, in units of 1/25000 s. A clip's name spells its
sentence: command, colour, preposition, letter, digit, adverb.

Reference: Cooke et al. 2006, "An audio-visual corpus for speech perception and automatic speech
recognition".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from avgen.clips.files import fault
from avgen.clips.timed_words import Word
from avgen.corpora.layout import files, folders, relative, wrong_layout
from avgen.corpora.manifest import ClipRecord, Problem
from avgen.errors import UserError

NAME = "grid"
UNITS_PER_SECOND = 25000
SILENCE = frozenset(("sil", "sp"))
LICENCE = "free for research; see https://zenodo.org/records/3625687"
EXPECTED = "ROOT/s1/bbaf2n.mpg with ROOT/alignments/s1/bbaf2n.align or ROOT/align/bbaf2n.align"
WOMEN = frozenset((4, 7, 11, 15, 16, 18, 20, 21, 22, 23, 24, 25, 29, 31, 33, 34))  # 18 are men
# Letters are named, not read; Z is British. Everything else is in the dictionary.
LEXICON = {
    "a": ["EY"], "b": ["B", "IY"], "c": ["S", "IY"], "d": ["D", "IY"], "e": ["IY"],
    "f": ["EH", "F"], "g": ["JH", "IY"], "h": ["EY", "CH"], "i": ["AY"], "j": ["JH", "EY"],
    "k": ["K", "EY"], "l": ["EH", "L"], "m": ["EH", "M"], "n": ["EH", "N"], "o": ["OW"],
    "p": ["P", "IY"], "q": ["K", "Y", "UW"], "r": ["AA", "R"], "s": ["EH", "S"], "t": ["T", "IY"],
    "u": ["Y", "UW"], "v": ["V", "IY"], "x": ["EH", "K", "S"], "y": ["W", "AY"],
    "z": ["Z", "EH", "D"],
}  # fmt: skip
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SLOTS = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {letter: letter for letter in "abcdefghijklmnopqrstuvxyz"},
    dict(zip("z123456789", DIGITS, strict=True)),
    {"a": "again", "n": "now", "p": "please", "s": "soon"},
)


def sentence(name: str) -> tuple[str, ...]:
    """The six words that a clip's name spells.

    Raises:
        UserError: it is not a GRID name.
    """
    if len(name) != len(SLOTS) or any(
        letter not in slot for letter, slot in zip(name, SLOTS, strict=True)
    ):
        raise UserError(f"{name!r} is not the name of a GRID clip, such as bbaf2n")
    return tuple(slot[letter] for letter, slot in zip(name, SLOTS, strict=True))


def split_of(name: str) -> Literal["train", "validation", "test"]:
    """The split of a sentence, by its hash: the same for every speaker and for ever.

    Not by speaker as in the other corpora: the recipes train on one of GRID's, and what they hold
    out has to be sentences. `avgen prepare --split-by speaker` holds out speakers instead.

    Of forty buckets three are for testing, one for validation; of s1's 1000 sentences 75, 31 and
    894.
    """
    bucket = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 40
    if bucket in (0, 1, 20):
        return "test"
    return "validation" if bucket == 21 else "train"


def read_alignment(path: Path) -> tuple[Word, ...]:
    """Words and times of an .align file, silence left out.

    Raises:
        UserError: a line is not `start end word`, or times run backwards.
    """
    return tuple(word for word in _aligned(path) if word.text not in SILENCE)


def _aligned(path: Path) -> list[Word]:
    """All lines of an .align file, which last as long as the clip (0.02 s less)."""
    words = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            start, end, word = line.split()
            span = int(start) / UNITS_PER_SECOND, int(end) / UNITS_PER_SECOND
        except ValueError as error:
            raise UserError(
                f"{path}:{number}: {line!r}; a line is 'start end word' in 1/25000 s"
            ) from error
        if span[1] < span[0]:
            raise UserError(f"{path}:{number}: {line!r} ends before it starts")
        words.append(Word(word, *span))
    return words


def find_alignment(root: Path, speaker: str, name: str) -> Path:
    """The alignment of a clip, in either of the layouts the corpus comes in.

    Raises:
        UserError: there is none.
    """
    places = (root / "alignments" / speaker / f"{name}.align", root / "align" / f"{name}.align")
    for path in places:
        if path.is_file():
            return path
    raise UserError(f"{places[0]}: not found; GRID's alignments are a download of their own")


def records(root: Path) -> Iterator[ClipRecord | Problem]:
    """All clips of all speakers at `root`; see `manifest.Corpus`.

    An id has its speaker's name before the sentence's. Splits are by sentence (`split_of`).
    """
    speakers = [place for place in folders(root) if re.fullmatch(r"s\d{1,2}", place.name)]
    clips = [path for place in speakers for path in files(place, (".mpg", ".mp4"))]
    if not clips:
        raise wrong_layout(root, "GRID", EXPECTED)
    for path in clips:
        speaker, name, reason = path.parent.name, path.stem, fault(path)
        try:
            if reason is not None:
                raise UserError(reason)
            sentence(name)
            lines = _aligned(find_alignment(root, speaker, name))
        except ValueError as error:
            yield Problem(relative(path, root), str(error), speaker)
            continue
        yield ClipRecord(
            id=f"{speaker}_{name}",
            media=relative(path, root),
            corpus=NAME,
            speaker=speaker,
            split=split_of(name),
            caption="a woman" if int(speaker[1:]) in WOMEN else "a man",
            words=tuple(word for word in lines if word.text not in SILENCE),
            licence=LICENCE,
            transcript=" ".join(sentence(name)),
            language="en-GB",
            source=f"{speaker}/{name}",
            lasts_s=max((line.end_s for line in lines), default=None),
        )
