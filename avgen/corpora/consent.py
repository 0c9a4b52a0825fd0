"""Records and a list of those who want out in, the records that may be used and counts out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from avgen.clips.files import fault
from avgen.corpora.layout import read_rows
from avgen.corpora.manifest import ClipRecord
from avgen.errors import UserError

KINDS = ("id", "speaker", "source")


@dataclass(frozen=True)
class OptOut:
    """Who and what is not to be used.

    Attributes:
        entries: Pairs of a kind (`id`, `speaker`, `source`, or "" where the list does not say) and
            a name. A speaker may be named as `corpus/speaker`.
    """

    entries: frozenset[tuple[str, str]] = field(default_factory=frozenset)

    def matching(self, record: ClipRecord) -> tuple[str, set[tuple[str, str]]]:
        """Why a record is out, and the entries that say so; "" and none where it may be used.

        The reason is the first of `consent` (the corpus itself says that it was withdrawn), `id`,
        `speaker` and `source`.
        """
        speaker = f"{record.corpus}/{record.speaker}"
        names = {
            "id": (record.id,),
            "speaker": (record.speaker, speaker),
            "source": (record.source,),
        }
        reason = "consent" if record.consent == "withdrawn" else ""
        found = set()
        for kind in KINDS:
            own = {(k, name) for k in (kind, "") for name in names[kind] if name} & self.entries
            found |= own
            reason = reason or (kind if own else "")
        return reason, found

    def __contains__(self, record: ClipRecord) -> bool:
        return bool(self.matching(record)[0])


def read_opt_out(path: str | Path) -> OptOut:
    """Read a list of those who do not want to be in the data.

    Either text, a name a line (an id, a speaker or a source; `#` begins a comment), or a CSV file
    with at least one of the columns id, speaker and source, whose cells name what they are.

    Raises:
        UserError: the file cannot be read, or names nobody: a list that is there was meant.
    """
    path = Path(path)
    reason = fault(path)
    if reason is not None:
        raise UserError(f"{path}: {reason}; a list of who opted out is wanted")
    if path.suffix.lower() == ".csv":
        rows = read_rows(path, ())
        if rows and not set(KINDS) & rows[0].keys():
            raise UserError(f"{path}: has columns {list(rows[0])}; one of {KINDS} is wanted")
        entries = {(kind, row[kind]) for row in rows for kind in KINDS if row.get(kind)}
    else:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: is not text in UTF-8 ({error})") from error
        bare = (line.split(" #")[0].strip() for line in lines if not line.startswith("#"))
        entries = {("", name) for name in bare if name}
    if not entries:
        raise UserError(f"{path}: names nobody; leave the list away if nobody opted out")
    return OptOut(frozenset(entries))


def apply_opt_out(
    records: Iterable[ClipRecord], opt_out: OptOut
) -> tuple[list[ClipRecord], dict[str, int]]:
    """The records that may be used, and how many are out for which reason.

    Args:
        records: Of any corpora.
        opt_out: Who is out. Records whose corpus says that consent was withdrawn are out as well.

    Returns:
        The rest, in order; counts of records under `consent`, `id`, `speaker` and `source`, and
        under `unmatched` how many entries of the list are of no record: a name that is spelled
        otherwise protects nobody.
    """
    kept: list[ClipRecord] = []
    seen: set[tuple[str, str]] = set()
    counts: dict[str, int] = dict.fromkeys(["consent", *KINDS, "unmatched"], 0)
    for record in records:
        reason, found = opt_out.matching(record)
        seen |= found
        if reason:
            counts[reason] += 1
        else:
            kept.append(record)
    counts["unmatched"] = len(opt_out.entries - seen)
    return kept, counts


def licence_summary(records: Iterable[ClipRecord]) -> str:
    """A Markdown table of the licences of some records, for a model card.

    One row a licence and corpus, with clips, speakers, and for how many clips consent is known.
    """
    rows: dict[tuple[str, str], list[ClipRecord]] = {}
    for record in records:
        rows.setdefault((record.corpus, record.licence or "not stated"), []).append(record)
    lines = ["| corpus | licence | clips | speakers | consent given |", "|---|---|---|---|---|"]
    for (corpus, licence), own in sorted(rows.items()):
        speakers = len({record.speaker for record in own})
        given = sum(record.consent == "given" for record in own)
        lines.append(f"| {corpus} | {licence} | {len(own)} | {speakers} | {given} |")
    return "\n".join(lines)
