"""`avgen generate`: a prompt and what is given (a picture, voice, video) in, a clip out."""

from __future__ import annotations

import argparse
import time
from dataclasses import Field, fields
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from avgen.commands.output import (
    add_model_arguments,
    add_output_arguments,
    check_output,
    resolve_device,
)
from avgen.errors import UserError
from avgen.pipeline.config import DEFAULT_MODEL, PipelineConfig
from avgen.pipeline.request import CROPS, GenerateRequest, check

SUMMARY = "make a clip from a prompt, a picture, a voice, a silent video or a beginning"
DESCRIPTION = """\
Make a clip: picture and sound together, or one to go with the other.

Words in double quotes in the prompt are spoken; the rest says how the clip looks and sounds.
What you give with --image, --audio, --video or --extend comes out as it went in, and the model
makes the rest."""
EXAMPLES = """\
examples:
  avgen generate --prompt 'a young woman with red hair says "the train leaves at 7:30"' -o a.mp4
  avgen generate --image face.png --speech "my brother plays the violin on Sundays" -o a.mp4
  avgen generate --audio voice.wav -o a.mp4                 a face for a voice
  avgen generate --video silent.mp4 --speech "you can say that again" -o a.mp4
  avgen generate --extend start.mp4 --speech "and then it rained" --seconds 5 -o a.mp4
  avgen generate --words "place 0.5-0.8 red 0.8-1.1" --seconds 2 -o a.mp4"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A flag for every field of `GenerateRequest`, in its groups, and where to and how."""
    groups: dict[str, Any] = {}
    for about in fields(GenerateRequest):
        name = about.metadata["group"]
        if name not in groups:
            groups[name] = parser.add_argument_group(name)
        groups[name].add_argument(
            f"--{about.name.replace('_', '-')}",
            type=partial(_value, about),
            default=about.default,
            help=about.metadata["help"],
            metavar=about.metadata.get("metavar"),
        )
    groups["what is given"].add_argument(
        "--crop",
        choices=CROPS,
        default="face",
        help="what of a given picture that is not square is used: a square around the face, as in "
        "training, or the middle (default: face, unless --height or --width is given)",
    )
    group = parser.add_argument_group("model and output")
    add_model_arguments(group)
    group.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="a .mp4, .mov, .webm or .mkv",
    )
    add_output_arguments(group)
    group.add_argument(
        "--no-marks",
        action="store_true",
        help="leave out the invisible marks in picture and sound that say that a model made them",
    )


def _value(about: Field, text: str) -> Any:
    """What a flag's text stands for."""
    try:
        value = about.metadata["parse"](text)
        check(about, value)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}; it must be a number") from error
    return value


def run(args: argparse.Namespace) -> int:
    """Check the request, make the clip, write it as it is made, and say so."""
    check_output(args.output, overwrite=args.overwrite)
    asked = GenerateRequest(**{f.name: getattr(args, f.name) for f in fields(GenerateRequest)})
    _check_size(asked, args.output)
    started, folder = time.monotonic(), Path(args.model) if args.model else DEFAULT_MODEL
    from avgen.studio.making import Manner, make_clip, read

    request = read(asked, Fraction(PipelineConfig.read(folder).fps), args.crop)
    # Not above: what is wrong with the request is said before the seconds that torch takes.
    import torch

    from avgen.pipeline import AVPipeline

    dtype = getattr(torch, args.dtype) if args.dtype else None
    pipe = AVPipeline.from_pretrained(folder, device=resolve_device(args.device), dtype=dtype)
    manner = Manner(
        model=folder.resolve().name if args.model else "default",
        metadata=not args.no_metadata,
        marks=not args.no_marks,
        overwrite=args.overwrite,
    )
    made = make_clip(pipe, asked, request, args.output, manner, True)
    said, energy = made["parameters"], made["energy"]
    rate = f"{float(Fraction(said['fps'])):.2f}".rstrip("0").rstrip(".")
    joules = "" if energy["joules"] is None else f", {energy['joules']:.0f} J"
    print(
        f"{args.output}: {said['seconds']:.2f} s, {said['width']}x{said['height']}, {rate} fps, "
        f"{made['sample_rate']} Hz sound, made in {time.monotonic() - started:.0f} s "
        f"({energy['cpu_seconds']:.0f} s of processor{joules})"
    )
    return 0


def _check_size(asked: GenerateRequest, output: Path) -> None:
    """The one rule about sizes that is the container's and not the model's."""
    for name in ("height", "width"):
        size = getattr(asked, name)
        if size is not None and size % 2 and output.suffix.lower() != ".mkv":
            raise UserError(
                f"--{name} {size}: {output.suffix} holds even sizes only; .mkv holds odd ones"
            )
