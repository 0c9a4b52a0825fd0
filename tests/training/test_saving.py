"""`last.ckpt` is the newest whole checkpoint, of this run, at the end of it too."""

import copy
import logging
from types import SimpleNamespace

import pytest
import torch
import yaml

from avgen.training.lightning_cli import main
from avgen.training.saving import Saving

pytestmark = pytest.mark.filterwarnings("ignore")


def train(recipe, folder, steps, *arguments, **options):
    recipe = copy.deepcopy(recipe)
    saving = {"class_path": "avgen.training.saving.Saving", "init_args": options}
    recipe["trainer"] |= {
        "max_steps": steps,
        "default_root_dir": str(folder),
        "callbacks": [recipe["trainer"]["callbacks"][0], saving],
        "limit_val_batches": 0,
    }
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(recipe))
    main(["--config", str(path), *arguments])
    return torch.load(folder / "last.ckpt", weights_only=False)["global_step"]


def test_the_last_steps_are_saved_and_last_is_a_link(recipe, tmp_path):
    folder = tmp_path / "run"
    assert train(recipe, folder, 5, every_n_train_steps=2) == 5
    assert (folder / "last.ckpt").is_symlink()
    kept = sorted(path.name for path in folder.glob("step=*.ckpt"))
    assert kept == ["step=4.ckpt", "step=5.ckpt"]  # one more, should the run be killed in between


def test_a_run_that_starts_afresh_takes_the_name(recipe, tmp_path):
    """Lightning would write last-v1.ckpt, and who exports last.ckpt would get the old run."""
    folder = tmp_path / "run"
    assert train(recipe, folder, 4, every_n_train_steps=2) == 4
    assert train(recipe, folder, 3, every_n_train_steps=2) == 3
    assert not list(folder.glob("last-v*"))


def test_last_is_found_by_its_name(recipe, tmp_path, caplog):
    folder = tmp_path / "run"
    assert train(recipe, folder, 3, every_n_train_steps=2) == 3
    with caplog.at_level(logging.INFO):
        assert train(recipe, folder, 6, "--ckpt_path", "last", every_n_train_steps=2) == 6
    assert f"Restoring states from the checkpoint path at {folder / 'last.ckpt'}" in caplog.text


def test_the_last_checkpoint_has_the_weights_and_their_average(recipe, tmp_path):
    """When a run has ended, the average stands in the weights' place."""
    folder = tmp_path / "run"
    assert train(recipe, folder, 3, every_n_train_steps=2) == 3
    state = torch.load(folder / "last.ckpt", weights_only=False)
    name = "transformer.blocks.0.mlp.0.weight"
    assert not torch.equal(state["state_dict"][name], state["current_model_state"][name])


def test_a_trial_run_takes_nothing_over(recipe, tmp_path):
    folder = tmp_path / "run"
    assert train(recipe, folder, 3, every_n_train_steps=2) == 3
    assert train(recipe, folder, 9, "--trainer.fast_dev_run", "true", every_n_train_steps=2) == 3


def test_a_sharded_checkpoint_that_is_not_whole_is_not_the_last(tmp_path):
    saving = Saving(dirpath=str(tmp_path))
    for step in (7, 9):
        (tmp_path / f"step={step}.ckpt").mkdir()
    (tmp_path / "last.ckpt").symlink_to("step=9.ckpt")
    (tmp_path / "step=7.ckpt/.metadata").touch()
    trainer = SimpleNamespace(default_root_dir=str(tmp_path))
    assert saving._find_last_checkpoints(trainer) == {str(tmp_path / "step=7.ckpt")}
    (tmp_path / "step=9.ckpt/.metadata").touch()
    assert saving._find_last_checkpoints(trainer) == {str(tmp_path / "last.ckpt")}
