"""Recipes (YAML) -> training runs, through LightningCLI.

Classes are named by import path and checked by type.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

import lightning as L
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from avgen.errors import UserError


class _Parser(LightningArgumentParser):
    """A parser whose errors are exceptions, for the command line to say in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise ValueError with what is wrong, without the whole of the value that holds it."""
        raise UserError(message.partition("Given value type:")[0].strip()) from ex


class TrainingCLI(LightningCLI):
    """LightningCLI that trains, and nothing else."""

    def before_instantiate_classes(self) -> None:
        """Quiet what a user can do nothing about."""
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*weight_norm.*")
        # After the step is when a checkpoint of manual optimisation is meant to be taken here.
        warnings.filterwarnings("ignore", message="Using ModelCheckpoint with manual optimization")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what a recipe describes.

    `--config RECIPE.yaml [--key.subkey value ...] [--ckpt_path FILE]`.

    Raises:
        UserError: the recipe is not one (an unknown key is named).
    """
    _parse(["fit", *(sys.argv[1:] if arguments is None else arguments)], run=True)


def instantiate(arguments: Sequence[str]) -> TrainingCLI:
    """The model, data and trainer that `main` would train with, untouched.

    Args:
        arguments: `--config RECIPE.yaml [--key.subkey value ...]`.

    Raises:
        UserError: the recipe is not one (an unknown key is named).
    """
    return _parse(list(arguments), run=False)


def _parse(arguments: list[str], run: bool) -> TrainingCLI:
    # The arguments are a command line's or a recipe's own; sys.argv is whoever called's.
    warnings.filterwarnings("ignore", message=".*args parameter is intended to run from within.*")
    return TrainingCLI(
        L.LightningModule,
        L.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        parser_class=_Parser,
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
        run=run,
        args=arguments,
    )
