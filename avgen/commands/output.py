"""What the commands that write a clip share: their flags, and a check of its place first."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from avgen.clips.files import may_write
from avgen.clips.media.formats import format_of
from avgen.errors import UserError
from avgen.provenance.sidecar import sidecar

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
