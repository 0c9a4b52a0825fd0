"""A folder in, what of a corpus' layout is there, and what is wrong with a file, out.

Nothing here reads media: a file is judged by its size and its first bytes.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from avgen.clips.files import fault
from avgen.corpora.manifest import Problem
from avgen.errors import UserError

_NAMED = 6  # of what was found instead, at most so many


def wrong_layout(root: Path, corpus: str, expected: str) -> UserError:
    """The error that says what `root` has, and what it would have to have."""
    if not root.is_dir():
        found = "is not a folder" if root.exists() else "is not there"
    else:
        names = [entry.name + ("/" if entry.is_dir() else "") for entry in listed(root)]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        found = f"has {', '.join(names[:_NAMED])}{more}" if names else "is empty"
    return UserError(f"{root}: {found}; {corpus} is laid out as {expected}")


def listed(folder: Path) -> list[Path]:
    """What is in a folder, by name, without hidden files; nothing where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def folders(folder: Path) -> list[Path]:
    """The folders in a folder, by name."""
    return [path for path in listed(folder) if path.is_dir()]


def files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """The files in a folder with one of some suffixes (in lower case), by name.

    What only looks like one, such as a git-lfs pointer or a broken link, is among them.
    """
    wanted = frozenset(suffixes)
    return [p for p in listed(folder) if p.suffix.lower() in wanted and not p.is_dir()]


def relative(path: Path, root: Path) -> str:
    """A path relative to the corpus' root, with slashes."""
    return path.relative_to(root).as_posix()


def read_rows(path: Path, columns: Sequence[str], delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a CSV file, spaces around names and values taken off; empty ones left out.

    What a row has not is empty.

    Raises:
        UserError: it is not readable text, or a column is missing.
    """
    reason = fault(path)
    if reason is not None:
        raise UserError(f"{path}: {reason}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, delimiter=delimiter, skipinitialspace=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: is not a CSV file in UTF-8 ({error})") from error
    header = [name.strip() for name in lines[0]] if lines else []
    missing = [name for name in columns if name not in header]
    if missing:
        raise UserError(f"{path}: has no column {missing[0]!r}; its columns are {header}")
    rows = [[value.strip() for value in line] for line in lines[1:]]
    blank = [""] * len(header)
    return [dict(zip(header, [*row, *blank], strict=False)) for row in rows if any(row)]


def absent(path: str, names: Sequence[str], of: int) -> Iterator[Problem]:
    """One problem for everything that a list has and the folder has not, if there is any."""
    if names:
        shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        yield Problem(path, f"{len(names)} of {of} clips that it lists are not here: {shown}")


def person(gender: str) -> str:
    """What to call who is "male", "F" and the like: man, woman, or person where it is not said."""
    return {"m": "man", "f": "woman"}.get(gender[:1].lower(), "person")


def described(noun: str, *adjectives: str) -> str:
    """A noun with its article and adjectives, empty ones left out: an angry woman."""
    words = " ".join([*(adjective for adjective in adjectives if adjective), noun])
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
