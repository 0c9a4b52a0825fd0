"""A clip that spoils a step is named, and moves no weight."""

import copy
import logging
import math

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from avgen.training.guards import LossGuard, gradient_norm, spike
from avgen.training.lightning_cli import instantiate


def trainer_of(recipe, tmp_path, *callbacks, **options):
    """The recipe's training, with other callbacks."""
    recipe = copy.deepcopy(recipe)
    recipe["trainer"] |= {"precision": "32-true", "callbacks": [], "max_steps": 8, **options}
    recipe["trainer"] |= {"default_root_dir": str(tmp_path), "enable_checkpointing": False}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    made = instantiate(["--config", str(tmp_path / "recipe.yaml")])
    made.trainer.callbacks += callbacks
    return made


def spoil(folder, clip, change):
    """Change a clip's picture."""
    path = folder / "latents" / f"{clip}.safetensors"
    latents = load_file(path)
    latents["video"] = change(latents["video"])
    save_file(latents, path)


def fit(made):
    made.trainer.fit(made.model, made.datamodule)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run_and_names_the_clips(
    recipe, prepared_latents, tmp_path, value
):
    spoil(prepared_latents, "c3", lambda video: torch.full_like(video, value))
    with pytest.raises(ValueError, match=r"step \d: the loss is (nan|inf); clips: .*c3"):
        fit(trainer_of(recipe, tmp_path, LossGuard()))


class Watch(LossGuard):
    """Notes every step's clips, whether it was left out, and the weights after it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.steps = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        weight = pl_module.transformer.outward[0].weight.detach().clone()
        self.steps.append(({record.id for record in batch["records"]}, self.skipped, weight))


def test_a_step_is_left_out_and_no_weight_moves(recipe, prepared_latents, tmp_path, caplog):
    spoil(prepared_latents, "c3", lambda video: torch.full_like(video, math.nan))
    guard = Watch(action="skip")
    with caplog.at_level(logging.WARNING):
        fit(trainer_of(recipe, tmp_path, guard))
    before, skipped = torch.zeros(1), 0
    for clips, count, weight in guard.steps:
        assert count - skipped == ("c3" in clips)
        assert torch.equal(weight, before.expand_as(weight)) == ("c3" in clips)
        before, skipped = weight, count
    assert skipped == 2  # two epochs of four steps
    said = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert len(said) == 2
    assert all("c3" in line and "the loss is nan" in line for line in said)


def test_a_loss_that_jumps_is_caught(recipe, prepared_latents, tmp_path):
    """In the fifth step or later: four losses are known then."""
    spoil(prepared_latents, "c5", lambda video: 50 * video)
    guard = Watch(action="skip", z=20.0, window=8)
    made = trainer_of(recipe, tmp_path, guard, max_steps=16)
    fit(made)
    late = [("c5" in clips, count) for clips, count, _ in guard.steps]
    caught = [now - before for (_, before), (_, now) in zip(late, late[1:], strict=False)]
    assert guard.skipped >= 2
    for (spoiled, _), taken in zip(late[1:], caught, strict=True):
        assert spoiled or not taken
    with pytest.raises(ValueError, match=r"deviations above the median .* of the last \d; clips"):
        fit(trainer_of(recipe, tmp_path, LossGuard(z=20.0, window=8), max_steps=16))


def test_a_gradient_that_is_no_number_is_caught_though_the_loss_is_one(recipe, tmp_path):
    made = trainer_of(recipe, tmp_path, LossGuard())
    made.model.transformer.outward[0].weight.register_hook(lambda grad: grad * math.nan)
    with pytest.raises(ValueError, match="step 0: the gradient's norm is nan; clips: c"):
        fit(made)


def test_too_many_steps_left_out_in_a_row_stop_the_run(recipe, tmp_path):
    made = trainer_of(recipe, tmp_path, LossGuard(action="skip", max_skips=3))
    made.model.transformer.outward[0].weight.register_hook(lambda grad: grad * math.nan)
    with pytest.raises(ValueError, match="step 2: the gradient's norm is nan"):
        fit(made)


def test_deviations_are_those_of_the_median():
    history = [1.0, 2.0, 3.0, 4.0, 100.0]  # median 3, deviations 2 1 0 1 97: MAD 1
    assert spike(3.0 + 1.4826 * 5, history) == pytest.approx(5.0)
    assert spike(2.0, history) == 0.0
    assert spike(2.0, [1.0] * 5) == math.inf
    assert spike(1.0, [1.0] * 5) == 0.0
    with pytest.raises(ValueError, match="window is 3"):
        LossGuard(window=3)


def test_the_norm_is_of_all_gradients_and_judgement_survives_a_checkpoint():
    module = torch.nn.Linear(2, 1)
    assert gradient_norm(module) == 0.0
    module.weight.grad, module.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
    assert gradient_norm(module) == 5.0
    guard, other = LossGuard(window=4), LossGuard(window=4)
    guard.history.extend([1.0, 2.0])
    guard.skipped = 3
    other.load_state_dict(guard.state_dict())
    assert list(other.history) == [1.0, 2.0]
    assert other.skipped == 3


def test_a_step_does_not_look_at_the_device(recipe, tmp_path):
    """A look at a number makes a GPU's host wait; on the meta device it is an error.

    Clips are drawn on the CPU. `LossGuard` looks once a step, when loss and gradient are there.
    """
    made = trainer_of(recipe, tmp_path)
    system = made.model.to("meta")
    system.log = system.log_dict = lambda *args, **kwargs: None
    for batch in made.datamodule.train_dataloader():
        loss = system.loss(system.draw(batch, "train"), "train", 2)
        loss.backward()
    assert loss.device.type == "meta"
    guard = LossGuard()
    guard.on_before_backward(made.trainer, system, loss)
    assert not guard.history
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        guard.on_before_optimizer_step(made.trainer, system, None)
