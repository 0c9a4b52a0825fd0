"""`avgen probe`: a media file in, what the reader sees of it out, as text or JSON."""

import argparse
import json
from typing import Any

SUMMARY = "say what is in a media file"
DESCRIPTION = """\
Say what avgen's reader sees in a media file: its streams, their rates and sizes, when each starts,
rotation, and warnings about what may go wrong with its timing."""
EXAMPLES = """\
examples:
  avgen probe clip.mp4
  avgen probe clip.mp4 --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, and how to print."""
    parser.add_argument("file", metavar="FILE", help="a video, a sound or a picture")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print what is in the file."""
    from avgen.clips import probe

    seen = probe(args.file).to_json()
    print(json.dumps(seen, indent=2) if args.json else as_text(seen))
    return 0


def as_text(value: Any, indent: int = 0) -> str:
    """Nested JSON as indented `name: value` lines, leaving out what is unknown (None) or empty."""
    lines = []
    for name, item in value.items():
        label = " " * indent + name.replace("_", " ")
        if isinstance(item, dict):
            lines += [f"{label}:", as_text(item, indent + 2)]
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            for number, entry in enumerate(item):
                lines += [f"{label} {number}:", as_text(entry, indent + 2)]
        elif isinstance(item, list):
            lines += [f"{label}: {entry}" for entry in item]
        elif item is not None:
            lines.append(f"{label}: {item}")
    return "\n".join(lines)
