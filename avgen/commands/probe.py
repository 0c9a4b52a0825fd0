"""`avgen probe`: a media file in, what the reader sees of it out, as text or JSON."""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avgen.clips.media.streams import MediaProbe, StreamProbe

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

    seen = probe(args.file)
    print(json.dumps(seen.to_json(), indent=2, ensure_ascii=False) if args.json else as_text(seen))
    return 0


def as_text(seen: MediaProbe) -> str:
    """A line for the file, one for each stream, tag and warning."""
    lines = [f"{seen.path}: {seen.container}, {float(seen.duration_s):.3f} s"]
    for stream in seen.streams:
        parts = [stream.codec or "unknown codec", *_picture(stream), *_sound(stream)]
        if stream.start_s is not None and stream.duration_s is not None:
            start_s, duration_s = float(stream.start_s), float(stream.duration_s)
            parts.append(f"starts at {start_s:.3f} s, lasts {duration_s:.3f} s")
        parts += [] if stream.is_read else ["not read"]
        lines.append(f"  {stream.kind} (stream {stream.index}): {', '.join(parts)}")
    lines += [f"  tag {name}: {' '.join(value.split())}" for name, value in seen.metadata.items()]
    lines += [f"  warning: {warning}" for warning in seen.warnings]
    return "\n".join(lines)


def _picture(stream: StreamProbe) -> list[str]:
    """What there is to say of a stream of pictures."""
    parts = []
    if stream.width is not None:
        parts.append(f"{stream.width}x{stream.height}")
    if (stream.coded_width, stream.coded_height) != (stream.width, stream.height):
        parts.append(f"stored as {stream.coded_width}x{stream.coded_height}")
    if stream.sample_aspect_ratio not in (None, 1):
        parts.append(f"pixels {stream.sample_aspect_ratio} wide")
    if stream.rotation_degrees:
        parts.append(f"turned by {stream.rotation_degrees} degrees")
    parts += ["mirrored"] if stream.is_mirrored else []
    if stream.fps is not None:
        varies = stream.is_constant_rate is False
        parts.append(f"{_rate(stream.fps)}" + " (the file's rate varies)" * varies)
    return [*parts, stream.pixel_format] if stream.pixel_format else parts


def _sound(stream: StreamProbe) -> list[str]:
    """What there is to say of a stream of sound."""
    if stream.sample_rate is None:
        return []
    return [f"{stream.sample_rate} Hz", stream.channel_layout or f"{stream.num_channels} channels"]


def _rate(fps: Fraction) -> str:
    """25 as 25 fps, 30000/1001 as 29.97 fps (30000/1001)."""
    return f"{fps} fps" if fps.denominator == 1 else f"{float(fps):.2f} fps ({fps})"
