"""`avgen train`: a recipe in, checkpoints out; avgen/training/lightning_cli.py does the work."""

import argparse
from collections.abc import Sequence

from avgen.errors import UserError

SUMMARY = "train a codec or the transformer from a recipe"
DESCRIPTION = """\
Train what a recipe describes: a codec, or the transformer on a corpus.

A recipe is a complete YAML file (recipes/*/*.yaml). Anything in it can be overridden by its dotted
name; a key that the recipe's classes do not have is an error."""
EXAMPLES = """\
examples:
  avgen train --config recipes/puppets_tiny/config.yaml
  avgen train --config recipes/puppets_tiny/config.yaml --trainer.max_steps 200 --data.num_workers 2
  avgen train --config recipes/puppets_tiny/config.yaml --ckpt_path runs/puppets_tiny/last.ckpt
  avgen train --config recipes/puppets_tiny/config.yaml --print_config
  avgen train --config recipes/scale/1b_voxceleb2_256.yaml --plan --plan.gpus 64"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that every recipe has; what else is typed goes to the recipe's own parser."""
    parser.add_argument(
        "--config", metavar="RECIPE.yaml", help="the recipe; given twice, the later one's keys win"
    )
    parser.add_argument(
        "--ckpt_path", metavar="FILE", help="resume exactly where this checkpoint is"
    )
    parser.add_argument(
        "--print_config",
        action="store_true",
        help="print the complete configuration with the overrides applied, and stop",
    )
    parser.add_argument(
        "--plan",
        action="store_true",
        help="print what the recipe will cost, by its `plan` key, and stop: parameters, tokens, "
        "operations, memory, bytes sent, epochs, GPU-hours; no data is needed",
    )
    parser.add_argument_group("overrides").add_argument(
        "--KEY.SUBKEY", metavar="VALUE", help="any key of the recipe, e.g. --trainer.max_steps 200"
    )


def overrides(arguments: Sequence[str]) -> list[str]:
    """What follows the word `train`, untouched."""
    return list(arguments[arguments.index("train") + 1 :])


def run(args: argparse.Namespace) -> int:
    """Hand the recipe and its overrides to LightningCLI."""
    if args.config is None:
        raise UserError("train needs a recipe: avgen train --config recipes/.../config.yaml")
    from avgen.training.lightning_cli import main, plan

    if args.plan:
        print(plan([argument for argument in args.overrides if argument != "--plan"]))
        return 0
    main(args.overrides)
    return 0
