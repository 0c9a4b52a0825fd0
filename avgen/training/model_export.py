"""A Lightning checkpoint -> a folder that avgen loads, with the averaged (EMA) weights.

What `avgen export` does. A codec's folder is what `load_module` reads; a model's is what
`AVPipeline.from_pretrained` and `avgen generate --model` read, and has a card. The checkpoint is a
file, or the folder of a sharded run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from avgen.clips.files import atomic
from avgen.codecs.base import load_module, save_module
from avgen.errors import UserError
from avgen.models.lora import adapted, merge, save_adapter
from avgen.pipeline.parts import PARTS, TEXT_TO_IMAGE
from avgen.training.audio_codec import AudioCodecSystem
from avgen.training.callbacks import build_pipeline
from avgen.training.card import write_card
from avgen.training.data import ClipData
from avgen.training.lightning_cli import TrainingCLI, instantiate
from avgen.training.sharding import AVERAGED, read_checkpoint
from avgen.training.system import DiffusionSystem
from avgen.training.video_codec import VideoCodecSystem


def export(checkpoint: Path, recipe: Sequence[str], codecs: Path | None, out: Path) -> str:
    """Save what a recipe trains, and say which it was: a codec, a transformer or a model.

    Args:
        checkpoint: Lightning's, of that recipe's run.
        recipe: What that run's `avgen train` was given: `--config FILE` and overrides.
        codecs: A folder with video_codec and audio_codec, for a model, and with such of the
            OPTIONAL parts as there are.
        out: The folder.

    Raises:
        UserError: the checkpoint was trained without averaging, a model is to have no codecs, or
            the recipe trains something else.
    """
    trained = instantiate(recipe)
    system, data = trained.model, trained.datamodule
    if isinstance(system, VideoCodecSystem | AudioCodecSystem):
        system.codec.load_state_dict(averaged_weights(checkpoint, "codec."))
        save_module(system.codec, out)
        return "codec"
    if not isinstance(system, DiffusionSystem):
        raise UserError(f"{recipe[1]}: trains a {type(system).__name__}; export knows no such")
    if codecs is None and not system.latents.fingerprint.startswith("."):
        raise UserError(f"{recipe[1]}: trains a transformer; give --codecs, which a model holds")
    system.transformer.load_state_dict(averaged_weights(checkpoint, "transformer."))
    if codecs is None:
        save_transformer(system, out)
        return "transformer"
    if not isinstance(data, ClipData):
        raise UserError(f"{recipe[1]}: has a {type(data).__name__}; a model's is a ClipData")
    if adapted(system.transformer):
        save_adapter(system.transformer, out / "adapter")
    merge(system.transformer)
    build_pipeline(system.eval(), data.folder, codecs, longest_clip(data)).save_pretrained(out)
    names = [name for name in (*PARTS, TEXT_TO_IMAGE) if (out / name).is_dir()]
    parts = {name: load_module(out / name) for name in names}
    write_card(out, parts, data.folder, read_checkpoint(checkpoint), seed_of(trained))
    return "model"


def save_transformer(system: DiffusionSystem, out: Path) -> None:
    """Save a transformer that was trained on voices alone, to go on from (`initial_weights`).

    The statistics of its latents stand beside its weights.
    """
    save_module(system.transformer, out, torch.float32)
    with atomic(out / "statistics.json") as temporary:
        temporary.write_text(json.dumps({"audio": asdict(system.audio_statistics)}))


def longest_clip(data: ClipData) -> int:
    """Frames of a training clip; of the longest, where they differ."""
    return max(shape.num_frames for shape in data.clips("train").shapes)


def seed_of(trained: TrainingCLI) -> int:
    """The seed that a recipe begins with."""
    seed = trained.config.get("seed_everything", 0)
    return int(seed)


def averaged_weights(checkpoint: Path, prefix: str) -> dict[str, Tensor]:
    """The EMA weights of one part of the system that a checkpoint is of.

    Lightning's averaging callback stores them as the checkpoint's own state, `ShardedEMA` under a
    name of their own.

    Args:
        checkpoint: Lightning's, a file or the folder of a sharded run.
        prefix: What the part's tensors are named with there, "transformer." say; taken off.

    Raises:
        UserError: the checkpoint was trained without averaging, or has no such part.
    """
    state = read_checkpoint(checkpoint)
    if prefix == "transformer." and any(name.startswith(AVERAGED) for name in state["state_dict"]):
        prefix = f"{AVERAGED}."
    elif "averaging_state" not in state:
        raise UserError(
            f"{checkpoint}: has no averaged weights; train with "
            "avgen.training.ema.EMAWeightAveraging, or with ShardedEMA"
        )
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in state["state_dict"].items()
        if name.startswith(prefix)
    }
    if not weights:
        raise UserError(f"{checkpoint}: has no tensor named {prefix}...; it is of another system")
    return weights
