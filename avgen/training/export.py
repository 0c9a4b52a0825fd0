"""A Lightning checkpoint and two codecs -> a model folder, with the averaged (EMA) weights.

    python -m avgen.training.export runs/grid/last.ckpt recipes/grid/config.yaml CODECS OUT

CODECS holds video_codec and audio_codec; the prepared folder is the recipe's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from jsonargparse import ArgumentParser

from avgen.training.callbacks import build_pipeline
from avgen.training.data import LatentData
from avgen.training.diffusion import DiffusionSystem


def main() -> None:
    """Assemble and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("checkpoint", "recipe", "codecs", "out"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    recipe = ArgumentParser()
    recipe.add_argument("--model", type=DiffusionSystem)
    recipe.add_argument("--data", type=LatentData)
    values = recipe.instantiate(recipe.parse_object(_classes(args.recipe)))
    values.model.transformer.load_state_dict(averaged_weights(args.checkpoint))
    data = values.data
    build_pipeline(values.model.eval(), data.folder, args.codecs, data.num_frames).save_pretrained(
        args.out
    )


def _classes(recipe: Path) -> dict:
    """What of a recipe builds classes: its model, not compiled, and its data."""
    import yaml

    values = yaml.safe_load(recipe.read_text())
    values["model"]["init_args"]["network"]["compile"] = False
    return {name: values[name] for name in ("model", "data")}


def averaged_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The transformer's EMA weights.

    Lightning's averaging callback stores them as the checkpoint's own state.

    Raises:
        ValueError: the checkpoint was trained without averaging.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)
    if "averaging_state" not in state:
        raise ValueError(
            f"{checkpoint}: has no averaged weights; train with lightning's EMAWeightAveraging"
        )
    prefix = "transformer."
    return {
        name.removeprefix(prefix): t
        for name, t in state["state_dict"].items()
        if name.startswith(prefix)
    }


if __name__ == "__main__":
    main()
