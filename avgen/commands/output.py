"""What the commands that write a clip share: a check of its place first, how it was made last."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avgen import __version__
from avgen.clips.files import atomic, may_write
from avgen.clips.media.formats import format_of
from avgen.errors import UserError

if TYPE_CHECKING:
    from avgen.clips import Clip

Flags = argparse.ArgumentParser | argparse._ArgumentGroup  # argparse has no public name for both


def add_output_arguments(parser: Flags) -> None:
    """`--overwrite` and `--no-metadata`."""
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the output if it is there already"
    )
    parser.add_argument(
        "--no-metadata",
        action="store_true",
        help="do not write how the clip was made, neither into it nor beside it (OUT.json)",
    )


def add_model_arguments(parser: Flags) -> None:
    """`--model`, `--device` and `--dtype`."""
    parser.add_argument(
        "--model", metavar="FOLDER", help="a model folder (default: the model that avgen ships)"
    )
    parser.add_argument(
        "--device",
        type=_device,
        default="auto",
        help="cpu, cuda, cuda:1, mps (default: cuda where there is one, else cpu)",
    )
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16", "float16"],
        help="what the networks compute in (default: float32)",
    )


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(
            f"{text!r}; it must be auto, cpu, mps, cuda or cuda:NUMBER"
        )
    return text


def resolve_device(name: str) -> str:
    """The device to use: `auto` is CUDA where there is one.

    Raises:
        UserError: this machine does not have it.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    index = int(name.partition(":")[2] or 0)
    if name.startswith("cuda") and index >= torch.cuda.device_count():
        raise UserError(
            f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices"
        )
    if name == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: this machine has none")
    return name


def check_output(path: Path, *, overwrite: bool) -> None:
    """Make sure that a clip can be written to `path`, before the work that it would hold.

    Raises:
        MediaError: unknown suffix, or neither the clip nor the JSON beside it may be written.
    """
    format_of(path)
    may_write(path, overwrite=overwrite)
    may_write(sidecar(path), overwrite=overwrite)


def sidecar(path: Path) -> Path:
    """Where the JSON about the clip at `path` goes: a.mp4 -> a.mp4.json."""
    return path.with_name(path.name + ".json")


def tags(comment: str, parameters: Mapping[str, Any]) -> dict[str, str]:
    """What goes into the container: that avgen made the clip, and with which parameters."""
    return {
        "comment": f"{comment} with avgen {__version__}",
        "ai_generated": "true",
        "avgen_version": __version__,
        "avgen_parameters": json.dumps(parameters),
    }


def write_sidecar(path: Path, comment: str, parameters: Mapping[str, Any]) -> None:
    """Write the same beside the clip at `path`, atomically."""
    content = {
        "file": path.name,
        "comment": f"{comment} with avgen {__version__}",
        "ai_generated": True,
        "avgen_version": __version__,
        "parameters": parameters,
    }
    with atomic(sidecar(path)) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_chunks(
    chunks: Iterator[Clip], args: argparse.Namespace, made: str, parameters: Mapping[str, Any]
) -> Clip:
    """Write the pieces of a clip as they come, and into it and beside it how it was made.

    Args:
        chunks: At least one.
        args: What `add_output_arguments` added, and `output`.
        made: How, in words.
        parameters: How, JSON-able.

    Returns:
        The first piece.
    """
    from avgen.clips import ClipWriter

    first = next(chunks)
    with ClipWriter(
        args.output,
        fps=first.fps,
        height=first.height,
        width=first.width,
        sample_rate=first.sample_rate,
        num_channels=first.num_channels or None,
        metadata=None if args.no_metadata else tags(made, parameters),
        overwrite=args.overwrite,
    ) as writer:
        for chunk in chain([first], chunks):
            writer.write_frames(chunk.frames)
            if chunk.waveform is not None:
                writer.write_waveform(chunk.waveform)
    if not args.no_metadata:
        write_sidecar(args.output, made, parameters)
    return first
