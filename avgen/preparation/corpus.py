"""The name of a corpus and where it is -> its records, its pronunciations, who opted out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from avgen.corpora.consent import OptOut, apply_opt_out, read_opt_out
from avgen.corpora.manifest import ClipRecord, Problem, find_corpus
from avgen.errors import UserError

Item = ClipRecord | Problem


def items(
    corpus: str, root: Path, speakers: Sequence[str] = (), limit: int | None = None
) -> list[Item]:
    """The records of a corpus, and what it cannot make a record of.

    Args:
        corpus: Its name (avgen/corpora).
        root: Where it is.
        speakers: Only these, where any are named.
        limit: Only the first so many.

    Raises:
        UserError: an unknown corpus, another layout than the corpus', or no such speaker.
    """
    found = find_corpus(corpus).records(root)
    chosen = (item for item in found if not speakers or item.speaker in speakers)
    records = list(islice(chosen, limit))
    if not records:
        whom = f" of {', '.join(speakers)}" if speakers else ""
        raise UserError(f"{root}: the corpus {corpus!r} has no records{whom} here")
    return records


def lexicon(corpus: str) -> dict[str, list[str]]:
    """Pronunciations that a corpus needs besides the dictionary's."""
    return dict(getattr(find_corpus(corpus), "LEXICON", {}))


def opt_out(lists: Sequence[Path]) -> OptOut:
    """All of some lists of those who do not want to be in the data, as one.

    Raises:
        UserError: a list cannot be read or names nobody.
    """
    return OptOut(frozenset().union(*(read_opt_out(path).entries for path in lists)))


def unmatched(found: Sequence[Item], who: OptOut) -> int:
    """How many names of a list are of no record: spelled otherwise they protect nobody."""
    records = [item for item in found if isinstance(item, ClipRecord)]
    return apply_opt_out(records, who)[1]["unmatched"]
