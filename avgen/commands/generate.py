"""`avgen generate`: a prompt and what is given (a picture, voice, video) in, a clip out."""

from __future__ import annotations

import argparse
import time
from dataclasses import Field, fields
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avgen.commands.output import (
    add_model_arguments,
    add_output_arguments,
    check_output,
    resolve_device,
    write_chunks,
)
from avgen.errors import UserError
from avgen.pipeline.config import DEFAULT_MODEL, PipelineConfig
from avgen.pipeline.request import GenerateRequest, check, read_files

if TYPE_CHECKING:
    import numpy as np

SUMMARY = "make a clip from a prompt, a picture, a voice, a silent video or a beginning"
DESCRIPTION = """\
Make a clip: picture and sound together, or one to go with the other.

Words in double quotes in the prompt are spoken; the rest says how the clip looks and sounds.
What you give with --image, --audio, --video or --extend comes out as it went in, and the model
makes the rest."""
EXAMPLES = """\
examples:
  avgen generate --prompt 'a man says "place red at g nine now"' --seed 1 -o a.mp4
  avgen generate --image face.png --speech "lay blue in b four please" -o a.mp4
  avgen generate --audio voice.wav -o a.mp4                 a face for a voice
  avgen generate --video silent.mp4 --speech "bin white by c two again" -o a.mp4
  avgen generate --extend start.mp4 --speech "set green with p one soon" --seconds 5 -o a.mp4
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
        choices=["face", "center"],
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
    fps = Fraction(PipelineConfig.read(folder).fps)
    request = read_files(asked, fps, partial(_cropped, args))
    # Not above: what is wrong with the request is said before the seconds that torch takes.
    import torch

    from avgen.pipeline import AVPipeline

    dtype = getattr(torch, args.dtype) if args.dtype else None
    pipe = AVPipeline.from_pretrained(folder, device=resolve_device(args.device), dtype=dtype)
    conditions = pipe.conditions(request)
    parameters = asked.record() | conditions.record()
    parameters["model"] = folder.resolve().name if args.model else "default"
    clip = write_chunks(pipe.stream(conditions, progress=True), args, "AI-generated", parameters)
    sound = f"{clip.sample_rate} Hz sound" if clip.sample_rate else "no sound"
    rate = f"{float(clip.fps):.2f}".rstrip("0").rstrip(".")
    print(
        f"{args.output}: {parameters['seconds']:.2f} s, {clip.width}x{clip.height}, {rate} fps, "
        f"{sound}, made in {time.monotonic() - started:.0f} s"
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


def _cropped(args: argparse.Namespace, frames: np.ndarray, path: Path) -> np.ndarray:
    """Given frames [T, H, W, 3] cut to the face, where --crop asks for it and they are not square.

    Square pictures are taken to be crops already; what the pipeline gets it scales to its size.

    Raises:
        UserError: there is no face to crop to.
    """
    if args.crop == "center" or frames.shape[1] == frames.shape[2] or args.height or args.width:
        return frames
    from avgen.clips.transforms import crop
    from avgen.evaluation.faces.head import head_box

    box = head_box(frames)
    if box is None:
        raise UserError(f"{path}: no face found to crop to; --crop center takes the middle")
    return crop(frames, box)
