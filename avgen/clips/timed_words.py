"""Words with their times, and the texts that people write them as. Needs neither numpy nor PyAV."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avgen.errors import UserError


@dataclass(frozen=True)
class Word:
    """A spoken word and when it is heard, in seconds from the start of its clip."""

    text: str
    start_s: float
    end_s: float

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < self.end_s:
            raise UserError(
                f"word {self.text!r} from {self.start_s} s to {self.end_s} s: "
                "it must start at 0 or later and end after its start"
            )


def parse_words(text: str) -> tuple[Word, ...]:
    """The timed words of `place 0.5-0.8 red 0.8-1.1` or of a JSON file of [word, start, end].

    Raises:
        UserError: a word without times.
        OSError: the JSON file cannot be read.
    """
    if text.endswith(".json"):
        entries = _read_entries(Path(text))
    else:
        parts = text.split()
        if not parts or len(parts) % 2:
            raise UserError(f"words {text!r}: each needs its times, as in 'place 0.5-0.8'")
        entries = [
            (word, *times.split("-")) for word, times in zip(parts[::2], parts[1::2], strict=True)
        ]
    words = []
    for entry in entries:
        try:
            name, start_s, end_s = str(entry[0]), *map(float, entry[1:])
        except (IndexError, TypeError, ValueError) as error:
            raise UserError(
                f"words: {entry!r}; it must be a word, its start and its end in seconds"
            ) from error
        words.append(Word(name, start_s, end_s))
    return tuple(words)


def _read_entries(path: Path) -> list[Any]:
    """The list in a JSON file of timed words; objects with the fields of `Word` do as well."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error})") from error
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: words must be a JSON list of [word, start, end]")
    names = ("text", "start_s", "end_s")
    return [[e.get(n) for n in names] if isinstance(e, dict) else e for e in entries]
