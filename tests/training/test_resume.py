"""Training killed in mid-epoch and resumed ends where it would have ended, bit for bit."""

import copy
import signal

import pytest
import torch
import yaml
from ranks import Ranks

from avgen.training.lightning_cli import main

KILL = """
import os, signal
from lightning.pytorch.callbacks import Callback

class Kill(Callback):
    def __init__(self, step: int):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def write(recipe, folder, name, *callbacks):
    """The recipe as a file whose checkpoints go to folder / name."""
    recipe = copy.deepcopy(recipe)
    recipe["trainer"]["callbacks"][1]["init_args"]["dirpath"] = str(folder / name)
    recipe["trainer"]["callbacks"] += callbacks
    recipe["trainer"]["default_root_dir"] = str(folder / name)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def differing(one, other, path=""):
    """Names of what is not equal between two checkpoints' parts."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [path]
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return [name for key in one for name in differing(one[key], other[key], f"{path}.{key}")]
    if isinstance(one, list | tuple):
        assert len(one) == len(other)
        return [
            name
            for i, pair in enumerate(zip(one, other, strict=True))
            for name in differing(*pair, f"{path}.{i}")
        ]
    return [] if one == other else [path]


@pytest.mark.parametrize(
    ("every", "killed_at", "saved_at"),
    [(3, 7, 6), pytest.param(4, 6, 4, marks=pytest.mark.slow)],
    ids=["two steps into the second epoch of four", "at the end of the first epoch"],
)
def test_killed_and_resumed_is_as_if_nothing_had_happened(
    recipe, tmp_path, every, killed_at, saved_at
):
    torch.set_num_threads(1)
    recipe["trainer"]["callbacks"][1]["init_args"]["every_n_train_steps"] = every
    (tmp_path / "kill.py").write_text(KILL)
    main(["--config", str(write(recipe, tmp_path, "whole"))])

    kill = {"class_path": "kill.Kill", "init_args": {"step": killed_at}}
    killed = Ranks(write(recipe, tmp_path, "broken", kill), 1)
    output, _ = killed.communicate(timeout=600)
    assert [rank.exitcode for rank in killed.ranks] == [-signal.SIGKILL], output
    last = tmp_path / "broken" / "last.ckpt"
    assert torch.load(last)["global_step"] == saved_at

    main(["--config", str(write(recipe, tmp_path, "broken")), "--ckpt_path", str(last)])

    whole, resumed = (torch.load(tmp_path / name / "last.ckpt") for name in ("whole", "broken"))
    assert whole["global_step"] == resumed["global_step"] == 12
    parts = (
        "state_dict",
        "current_model_state",
        "averaging_state",
        "optimizer_states",
        "lr_schedulers",
    )
    for part in parts:
        assert differing(whole[part], resumed[part], part) == []
    # and there is something in it: training moved the weights, and their average lags behind
    moved = differing(whole["state_dict"], whole["current_model_state"])
    assert len(moved) > len(whole["state_dict"]) / 2


def test_an_unknown_key_is_named(recipe, tmp_path):
    recipe["model"]["init_args"]["network"]["colour"] = "red"
    with pytest.raises(ValueError, match="colour"):
        main(["--config", str(write(recipe, tmp_path, "wrong"))])
