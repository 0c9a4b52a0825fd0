"""Outcomes in, what came of a preparation out: counts, hours, speakers, reasons, licences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from avgen.corpora.consent import licence_summary
from avgen.preparation.outcome import REASONS, Outcome


@dataclass(frozen=True)
class Summary:
    """What came of a preparation.

    Attributes:
        records: Of the corpus.
        records_kept: Of those, with a clip that was kept.
        clips: That were kept; a record may give several.
        pieces_dropped: Spans and scenes of records that were left out, those of records that were
            left out as a whole among them.
        hours: Of the records that could be read, and of the clips.
        speakers: Of the records, and of the clips.
        splits: Clips of each split.
        reasons: Records of which nothing was kept, by reason.
        pieces: Pieces that were left out, by reason.
        licences: Clips and hours by licence.
        complete: Whether it is of all records, not of one share.
    """

    records: int
    records_kept: int
    clips: int
    pieces_dropped: int
    hours: tuple[float, float]
    speakers: tuple[int, int]
    splits: dict[str, int]
    reasons: dict[str, int]
    pieces: dict[str, int]
    licences: dict[str, tuple[int, float]]
    complete: bool = True

    @property
    def failed(self) -> int:
        """Pieces that were left out by an error of avgen's."""
        return self.pieces.get("failed", 0)

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return asdict(self)


def summarize(
    outcomes: Sequence[Outcome], fps: Fraction | None, *, complete: bool = True
) -> Summary:
    """What came of records, in a folder of `fps` frames a second."""
    kept = [clip for outcome in outcomes for clip in outcome.kept]
    dropped = [drop for outcome in outcomes for drop in outcome.dropped]
    licences: dict[str, tuple[int, float]] = {}
    for clip in kept:
        count, hours = licences.get(clip.record.licence, (0, 0.0))
        hours += clip.seconds(fps) / 3600
        licences[clip.record.licence] = count + 1, hours
    return Summary(
        records=len(outcomes),
        records_kept=sum(bool(outcome.kept) for outcome in outcomes),
        clips=len(kept),
        pieces_dropped=len(dropped),
        hours=(
            sum(outcome.duration_s for outcome in outcomes) / 3600,
            sum(clip.seconds(fps) for clip in kept) / 3600,
        ),
        speakers=(
            len({outcome.speaker for outcome in outcomes}),
            len({clip.record.speaker for clip in kept}),
        ),
        splits=dict(Counter(clip.record.split for clip in kept)),
        reasons=_counted(outcome.reason for outcome in outcomes if outcome.reason is not None),
        pieces=_counted(drop.reason for drop in dropped),
        licences=licences,
        complete=complete,
    )


def _counted(reasons: Iterable[str]) -> dict[str, int]:
    counts = Counter(reasons)
    return {reason: counts[reason] for reason in REASONS if counts[reason]}


def as_text(summary: Summary) -> str:
    """The table that ends a run."""
    lines = [
        f"{'records':<16}{summary.records:>8}",
        f"{'  kept':<16}{summary.records_kept:>8}",
        f"{'  left out':<16}{summary.records - summary.records_kept:>8}",
        *(f"{'    ' + reason:<16}{count:>8}" for reason, count in summary.reasons.items()),
        f"{'clips':<16}{summary.clips:>8}   "
        + ", ".join(f"{count} {split}" for split, count in summary.splits.items()),
        f"{'pieces left out':<16}{summary.pieces_dropped:>8}   "
        + ", ".join(f"{count} {reason}" for reason, count in summary.pieces.items()),
        f"{'hours':<16}{summary.hours[1]:>8.2f}   of {summary.hours[0]:.2f}",
        f"{'speakers':<16}{summary.speakers[1]:>8}   of {summary.speakers[0]}",
    ]
    return "\n".join(line.rstrip() for line in lines)


def as_card(summary: Summary, outcomes: Sequence[Outcome], corpus: str) -> str:
    """What a model's card says of the data: Markdown."""
    left_out = summary.records - summary.records_kept
    return "\n".join(
        [
            f"Corpus `{corpus}`: {summary.clips} clips, {summary.hours[1]:.2f} hours, "
            f"{summary.speakers[1]} speakers; of {summary.records} records {left_out} were left "
            f"out, {summary.reasons.get('opted out', 0)} because somebody wants out.",
            "",
            licence_summary(kept.record for outcome in outcomes for kept in outcome.kept),
            "",
        ]
    )
