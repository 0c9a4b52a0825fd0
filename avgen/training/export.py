"""A Lightning checkpoint -> a folder that avgen loads, with the averaged (EMA) weights.

    python -m avgen.training.export codec CHECKPOINT RECIPE OUT
    python -m avgen.training.export model CHECKPOINT RECIPE CODECS OUT

A codec's folder is what `load_module` reads; a model's is what `AVPipeline.from_pretrained` and
`avgen generate --model` read. CODECS holds video_codec and audio_codec; the prepared folder is the
recipe's. Dotted overrides that training was given (`--data.init_args.folder ...`) are given again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from avgen.codecs.base import save_module
from avgen.training.audio_codec import AudioCodecSystem
from avgen.training.callbacks import build_pipeline
from avgen.training.cli import instantiate
from avgen.training.data_latents import LatentData
from avgen.training.diffusion import DiffusionSystem
from avgen.training.video_codec import VideoCodecSystem


def main(arguments: Sequence[str] | None = None) -> None:
    """Export what the command line names.

    Raises:
        SystemExit: with 2, and one line, where the checkpoint is not one of the recipe's.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind, names in (
        ("codec", ("checkpoint", "recipe", "out")),
        ("model", ("checkpoint", "recipe", "codecs", "out")),
    ):
        command = kinds.add_parser(kind, help=f"{' '.join(names).upper()} [--overrides]")
        for name in names:
            command.add_argument(name, type=Path)
    args, overrides = parser.parse_known_args(arguments)
    recipe = ["--config", str(args.recipe), *overrides]
    try:
        if args.kind == "codec":
            export_codec(args.checkpoint, recipe, args.out)
        else:
            export_model(args.checkpoint, recipe, args.codecs, args.out)
    except (ValueError, OSError) as error:
        parser.error(str(error))


def export_codec(checkpoint: Path, recipe: Sequence[str], out: Path) -> None:
    """Save a trained codec as a folder of its own.

    Args:
        checkpoint: Lightning's, of a run of `VideoCodecSystem` or `AudioCodecSystem`.
        recipe: What that run's `avgen train` was given: `--config FILE` and overrides.
        out: The folder.

    Raises:
        ValueError: the recipe trains no codec, or the checkpoint was trained without averaging.
    """
    system = instantiate(recipe).model
    if not isinstance(system, VideoCodecSystem | AudioCodecSystem):
        raise ValueError(f"{recipe[1]}: trains a {type(system).__name__}, which is no codec")
    system.codec.load_state_dict(averaged_weights(checkpoint, "codec."))
    save_module(system.codec, out)


def export_model(checkpoint: Path, recipe: Sequence[str], codecs: Path, out: Path) -> None:
    """Save a trained transformer and its two codecs as a model folder.

    Args:
        checkpoint: Lightning's, of a run of `DiffusionSystem`.
        recipe: What that run's `avgen train` was given: `--config FILE` and overrides.
        codecs: A folder with video_codec and audio_codec.
        out: The folder.

    Raises:
        ValueError: the recipe trains no transformer, or the checkpoint was trained without
            averaging.
    """
    trained = instantiate(recipe)
    system, data = trained.model, trained.datamodule
    if not isinstance(system, DiffusionSystem) or not isinstance(data, LatentData):
        raise ValueError(f"{recipe[1]}: trains a {type(system).__name__}, which is no transformer")
    system.transformer.load_state_dict(averaged_weights(checkpoint, "transformer."))
    build_pipeline(system.eval(), data.folder, codecs, data.num_frames).save_pretrained(out)


def averaged_weights(checkpoint: Path, prefix: str) -> dict[str, Tensor]:
    """The EMA weights of one part of the system that a checkpoint is of.

    Lightning's averaging callback stores them as the checkpoint's own state.

    Args:
        checkpoint: Lightning's.
        prefix: What the part's tensors are named with there, "transformer." say; taken off.

    Raises:
        ValueError: the checkpoint was trained without averaging, or has no such part.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if "averaging_state" not in state:
        raise ValueError(
            f"{checkpoint}: has no averaged weights; train with lightning's EMAWeightAveraging"
        )
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in state["state_dict"].items()
        if name.startswith(prefix)
    }
    if not weights:
        raise ValueError(f"{checkpoint}: has no tensor named {prefix}...; it is of another system")
    return weights


if __name__ == "__main__":
    main()
