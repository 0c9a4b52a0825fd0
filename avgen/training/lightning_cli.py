"""Recipes (YAML) -> training runs, through LightningCLI.

Classes are named by import path and checked by type. A recipe may begin with `base: FILE`, relative
to itself: it then says what differs from that one. Mappings are merged, unless they are of another
class; everything else, lists among it, takes the base's place.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import signal
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from avgen.errors import UserError
from avgen.training.plan import Codecs, Plan, as_text, cost_of
from avgen.training.precision import precision_for
from avgen.training.sharding import Sharding
from avgen.training.system import NetworkConfig

log = logging.getLogger(__name__)


class _Parser(LightningArgumentParser):
    """A parser whose errors are exceptions, for the command line to say in one line."""

    def parse_args(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        """As the parent does, where `--key=None` is null.

        jsonargparse hands `--model.init_args.KEY null` on to the class's own parser as Python
        spells it; a path or a text would be called "None".
        """
        if args is not None:
            args = [re.sub(r"^(--[^=]+=)None$", r"\1null", str(one)) for one in args]
        return super().parse_args(args, *more, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise ValueError with what is wrong, without the whole of the value that holds it."""
        raise UserError(message.partition("Given value type:")[0].strip()) from ex


STARTS = ("initial_weights", "initial_model", "initial_wan")


class TrainingCLI(LightningCLI):
    """LightningCLI that trains, and nothing else."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Fit alone: a parser of each of the others, which nothing asks for, took half a second."""
        return {"fit": LightningCLI.subcommands()["fit"]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Say once where the data is, which model and data must agree on."""
        parser.link_arguments("data.init_args.folder", "model.init_args.folder")
        parser.add_argument(
            "--sharding", type=Sharding | None, default=None, help="weights spread over processes"
        )
        parser.add_argument("--plan", type=Plan | None, default=None, help="what it is planned for")

    def before_instantiate_classes(self) -> None:
        """Choose the precision that a recipe leaves open; quiet what cannot be helped."""
        trainer = self._get(self.config, "trainer")
        sharding = self._get(self.config, "sharding")
        if sharding is not None and self.subcommand is not None:  # to train, not to export
            shard_recipe(self._get(self.config, "model"), trainer, sharding)
        if trainer.precision is None:
            trainer.precision = precision_for(str(trainer.accelerator))
            log.info("precision: %s, by what this machine has", trainer.precision)
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*weight_norm.*")
        # After the step is when a checkpoint of manual optimisation is meant to be taken here.
        warnings.filterwarnings("ignore", message="Using ModelCheckpoint with manual optimization")


class _PlanningCLI(TrainingCLI):
    """Reads a recipe, and makes nothing of it."""

    def instantiate_classes(self) -> None:
        """Nothing."""


def shard_recipe(model: Namespace, trainer: Namespace, sharding: Namespace) -> None:
    """Change what a recipe trains for what trains the same with its weights spread.

    Raises:
        UserError: it trains something else than `DiffusionSystem`.
    """
    room = "avgen.training.sharding"
    if model.class_path != "avgen.training.system.DiffusionSystem":
        raise UserError(f"sharding: {model.class_path} cannot be spread; DiffusionSystem can")
    model.class_path = f"{room}.LateDiffusionSystem"
    own = Namespace(replicas=sharding.replicas)
    trainer.strategy = Namespace(class_path=f"{room}.ShardedStrategy", init_args=own)
    for callback in trainer.callbacks or []:
        if callback.class_path.endswith(".PowerEMA"):
            raise UserError("sharding: PowerEMA cannot be spread; EMAWeightAveraging can")
        if callback.class_path.endswith(".EMAWeightAveraging"):
            callback.class_path = f"{room}.ShardedEMA"
            callback.init_args = Namespace(decay=callback.init_args.decay)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what a recipe describes.

    `--config RECIPE.yaml [--key.subkey value ...] [--ckpt_path FILE]`.

    Raises:
        UserError: the recipe is not one (an unknown key is named).
    """
    _ignore_profiling()
    _parse(["fit", *_whole(sys.argv[1:] if arguments is None else arguments)], run=True)


def _ignore_profiling() -> None:
    """Keep SIGPROF from ending this process.

    MediaPipe handles it, unknown to Python, and has a timer send it while it looks for faces. When
    a training ends, Lightning sets every signal to what Python knew before: to SIGPROF's default,
    which ends the process without a word when MediaPipe is asked next.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if (
        is_main
        and hasattr(signal, "SIGPROF")
        and signal.getsignal(signal.SIGPROF) == signal.SIG_DFL
    ):
        signal.signal(signal.SIGPROF, signal.SIG_IGN)


def plan(arguments: Sequence[str]) -> str:
    """What a recipe will cost, as lines to read; nothing of its data is looked at.

    Args:
        arguments: As of `main`, with `--plan.KEY VALUE` among them.

    Raises:
        UserError: the recipe is not one, says nothing of a plan, or trains no AVTransformer.
    """
    found = _parse(_whole(arguments), run=False, kind=_PlanningCLI).config
    network = found.model.init_args.get("network")
    if found.get("plan") is None or network is None or network.get("backbone") is not None:
        raise UserError("plan: the recipe needs `plan`, with hours at least, and an AVTransformer")
    values = found.plan.as_dict()
    codecs: dict[str, Any] = {
        n: tuple(v) if isinstance(v, list) else v for n, v in values["codecs"].items()
    }
    own = Plan(**values | {"codecs": Codecs(**codecs), "size": tuple(values["size"])})
    plain = {n: v for n, v in network.as_dict().items() if n not in ("lora", "distillation")}
    plain |= dict.fromkeys((*STARTS, "caption_encoder"))  # which nothing is downloaded for
    config = NetworkConfig(**plain).sizes(own.latents())
    return as_text(own, cost_of(own, config, found.as_dict()))


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


def _parse(arguments: list[str], run: bool, kind: type[TrainingCLI] = TrainingCLI) -> TrainingCLI:
    # The arguments are a command line's or a recipe's own; sys.argv is whoever called's.
    warnings.filterwarnings("ignore", message=".*args parameter is intended to run from within.*")
    return kind(
        L.LightningModule,
        L.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        parser_class=_Parser,
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
        load_from_checkpoint_support=False,  # nothing is saved of it, and it spells out all twice
        run=run,
        args=arguments,
    )
