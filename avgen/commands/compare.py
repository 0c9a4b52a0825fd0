"""`avgen compare`: two reports in, paired differences with intervals out."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

SUMMARY = "compare two reports of `avgen evaluate`, clip by clip"
DESCRIPTION = """\
Compare two reports: clips of the same name are paired, and the mean of their differences is given
with its 95 % interval. An interval that holds 0 means that the two cannot be told apart. Reports of
other protocols or other weights are refused: their numbers mean different things."""
EXAMPLES = """\
examples:
  avgen compare report_before report_after
  avgen compare report_before report_after --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The reports, and how to print."""
    parser.add_argument("first", type=Path, metavar="REPORT_A", help="a folder of avgen evaluate")
    parser.add_argument("second", type=Path, metavar="REPORT_B", help="another one")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print by how much the reports differ."""
    from avgen.evaluation.report.differences import as_text, compare

    found = compare(args.first, args.second)
    print(json.dumps(found, indent=2) if args.json else as_text(found))
    return 0
