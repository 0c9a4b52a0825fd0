"""Recipes (YAML) -> training runs, through LightningCLI.

Classes are named by import path and checked by type. A recipe may begin with `base: FILE`, relative
to itself: it then says what differs from that one. Mappings are merged, unless they are of another
class; everything else, lists among it, takes the base's place.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import yaml
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from avgen.errors import UserError
from avgen.training.precision import precision_for

log = logging.getLogger(__name__)


class _Parser(LightningArgumentParser):
    """A parser whose errors are exceptions, for the command line to say in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise ValueError with what is wrong, without the whole of the value that holds it."""
        raise UserError(message.partition("Given value type:")[0].strip()) from ex


class TrainingCLI(LightningCLI):
    """LightningCLI that trains, and nothing else."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Say once where the data is, which model and data must agree on."""
        parser.link_arguments("data.init_args.folder", "model.init_args.folder")

    def before_instantiate_classes(self) -> None:
        """Choose the precision that a recipe leaves open; quiet what cannot be helped."""
        trainer = self._get(self.config, "trainer")
        if trainer.precision is None:
            trainer.precision = precision_for(str(trainer.accelerator))
            log.info("precision: %s, by what this machine has", trainer.precision)
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
    _parse(["fit", *_whole(sys.argv[1:] if arguments is None else arguments)], run=True)


def instantiate(arguments: Sequence[str]) -> TrainingCLI:
    """The model, data and trainer that `main` would train with, untouched.

    Args:
        arguments: `--config RECIPE.yaml [--key.subkey value ...]`.

    Raises:
        UserError: the recipe is not one (an unknown key is named).
    """
    return _parse(_whole(arguments), run=False)


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe with all that it has of its base, and its base's base.

    Raises:
        UserError: a file is missing, or is not a mapping.
    """
    values = _read(path)
    base = values.pop("base", None)
    return values if base is None else merged(read_recipe(path.parent / base), values)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path}: is no recipe: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: is no recipe: it must be a mapping")
    return values


def merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`own`, and what it does not say of `base`."""
    values = dict(base)
    for name, value in own.items():
        before = base.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            kind = before.get("class_path")
            value = merged(before, value) if value.get("class_path", kind) == kind else value
        values[name] = value
    return values


def _whole(arguments: Sequence[str]) -> list[str]:
    """The arguments, recipes first; one that has a base is spelled out in its file's place."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", action="append", default=[])
    found, rest = parser.parse_known_args(arguments)
    whole = []
    for path in found.config:
        recipe = read_recipe(Path(path))
        whole += ["--config", path if recipe == _read(Path(path)) else json.dumps(recipe)]
    return whole + rest


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
