"""`avgen resync`: a video that is out of sync in, the same video put right out."""

from __future__ import annotations

import argparse
from pathlib import Path

from avgen.clips.files import may_write
from avgen.errors import UserError

SUMMARY = "put the sound of a video of a person who speaks where it belongs"
DESCRIPTION = """\
Find out by how much the sound of a video comes before or after the lips, and write the video with
the sound moved. Picture and sound are copied, not encoded again, so neither loses quality. Where
the evidence is weak (no face, several faces, no speech, scenes that differ) nothing is written."""
EXAMPLES = """\
examples:
  avgen resync late.mp4 fixed.mp4
  avgen resync late.mp4 fixed.mp4 --dry-run
  avgen resync late.mp4 fixed.mp4 --offset-ms -120    (as measured elsewhere: the sound trails)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Input, output, and what to do."""
    parser.add_argument("input", type=Path, metavar="IN", help="a video of a person who speaks")
    parser.add_argument(
        "output", type=Path, metavar="OUT", help="another file; .mp4 and .mkv hold most videos"
    )
    parser.add_argument(
        "--offset-ms",
        type=float,
        metavar="MS",
        help="do not measure: the sound comes this much before the picture (below 0: after)",
    )
    parser.add_argument("--dry-run", action="store_true", help="measure and say, write nothing")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the output if it is there already"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, move, and say what was done and how sure it is."""
    from avgen.clips.media.remux import remux_delayed

    if not args.dry_run:
        may_write(args.output, overwrite=args.overwrite, inputs=[args.input])
    offset_ms = args.offset_ms
    if offset_ms is None:
        from avgen.evaluation.subject import Unscored
        from avgen.evaluation.sync.correction import find_offset

        try:
            found = find_offset(args.input)
        except Unscored as reason:
            raise UserError(f"{args.input}: nothing was written: {reason}") from reason
        looked = f"{found.places[0]} of {found.places[1]} places" if found.places[1] > 1 else "it"
        print(f"{args.input}: {found.words}; {found.confidence:.0%} sure, from {looked}")
        if found.is_in_sync:
            print(f"{args.input}: in sync as far as can be told; nothing was written")
            return 0
        offset_ms = found.offset_ms
    elif not abs(offset_ms) < 60_000:
        raise UserError(f"--offset-ms {offset_ms}; it must be less than a minute")
    if args.dry_run:
        print(f"{args.output}: would be written with the sound {_moved(offset_ms)}")
        return 0
    left_out = remux_delayed(args.input, args.output, offset_ms / 1000, overwrite=args.overwrite)
    print(f"{args.output}: the sound is {_moved(offset_ms)}; picture and sound were copied")
    if left_out:
        print(f"{args.output}: left out: {', '.join(left_out)}")
    return 0


def _moved(offset_ms: float) -> str:
    return f"{abs(offset_ms):.0f} ms {'later' if offset_ms > 0 else 'earlier'}"
