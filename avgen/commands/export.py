"""`avgen export`: a training's checkpoint in, a model folder with its card out."""

import argparse
from collections.abc import Sequence
from pathlib import Path

SUMMARY = "a checkpoint to a folder that generate reads, with its card"
DESCRIPTION = """\
Save what a recipe trained as a folder: a model, which `avgen generate --model` reads, or a codec.

The weights are the averaged ones; low-rank additions are merged into them. A model's folder gets a
card (README.md) with its data, their licences, steps, seed, commit and hours; its limits are left
for people to write. A card that is there already is left as it is."""
EXAMPLES = """\
examples:
  avgen export --config recipes/grid/config.yaml --checkpoint last.ckpt --codecs codecs -o model
  avgen export --config recipes/grid/video_codec.yaml --checkpoint last.ckpt -o codecs/video_codec
  avgen export --config RECIPE.yaml --checkpoint last.ckpt --codecs codecs -o model \\
      --data.init_args.folder prepared/other"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What was trained, and where it goes."""
    parser.add_argument("--config", required=True, metavar="RECIPE.yaml", help="what was trained")
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=Path,
        metavar="FILE",
        help="a file, or a sharded run's folder",
    )
    parser.add_argument(
        "--codecs", type=Path, metavar="FOLDER", help="video_codec and audio_codec, for a model"
    )
    parser.add_argument(
        "-o", "--out", required=True, type=Path, metavar="FOLDER", help="the result"
    )
    parser.add_argument_group("overrides").add_argument(
        "--KEY.SUBKEY", metavar="VALUE", help="any that training was given, again"
    )


def overrides(arguments: Sequence[str]) -> list[str]:
    """The dotted keys and their values, as typed."""
    found: list[str] = []
    for index, argument in enumerate(arguments):
        name, equals, _ = argument.partition("=")
        if name.startswith("--") and "." in name:
            found += [argument] if equals else list(arguments[index : index + 2])
    return found


def run(args: argparse.Namespace) -> int:
    """Export, and say where to."""
    from avgen.training.model_export import export

    recipe = ["--config", args.config, *args.overrides]
    kind = export(args.checkpoint, recipe, args.codecs, args.out)
    print(f"{args.out}: the {kind}")
    return 0
