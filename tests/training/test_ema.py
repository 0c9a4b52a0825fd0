"""Averages by a power of the step, against their closed form."""

import copy
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn

from avgen.models.word_vectors import WordCaptions
from avgen.training.ema import EMAWeightAveraging, PowerEMA, power_of
from avgen.training.sharding import ShardedEMA


@pytest.mark.parametrize("std", [0.05, 0.1, 0.2])
def test_the_profile_has_the_deviation_that_was_asked_for(std):
    """Of the density (gamma + 1) t^gamma on [0, 1]."""
    gamma, times = power_of(std), np.linspace(0, 1, 400_001)
    density = (gamma + 1) * times**gamma
    mean = np.trapezoid(density * times, times)
    variance = np.trapezoid(density * (times - mean) ** 2, times)
    assert variance**0.5 == pytest.approx(std, rel=1e-4)


def test_the_average_is_the_weighted_mean_of_all_steps():
    """Weights of step t count t^(gamma + 1) - (t - 1)^(gamma + 1)."""
    callback = PowerEMA(0.1)
    model = torch.nn.Linear(1, 1, bias=False)
    averaged = AveragedModel(model, avg_fn=callback.average)
    values = torch.linspace(3, -2, 40, dtype=torch.float64)
    model.double(), averaged.double()
    for value in values:
        with torch.no_grad():
            model.weight.fill_(value)
        averaged.update_parameters(model)
    steps = np.arange(41) ** (power_of(0.1) + 1)
    expected = float((np.diff(steps) * values.numpy()).sum() / steps[-1])
    assert float(averaged.module.weight) == pytest.approx(expected, rel=1e-6)


def test_a_deviation_that_no_power_has_is_refused():
    with pytest.raises(ValueError, match=r"std is 0\.3"):
        PowerEMA(0.3)


@pytest.mark.parametrize("average", [None, PowerEMA(0.1).average])
def test_what_is_not_trained_is_its_own_average(average):
    captions = WordCaptions(8)
    means = (
        {"multi_avg_fn": get_ema_multi_avg_fn(0.995)} if average is None else {"avg_fn": average}
    )
    averaged = AveragedModel(captions, use_buffers=True, **means)
    before = captions.vectors.clone()
    for _ in range(7):
        averaged.update_parameters(captions)
    assert before.abs().max() > 1
    assert torch.equal(averaged.module.vectors, before)


def test_the_average_that_is_sharded_is_lightnings():
    """From the first step on, and whichever batches were no step's end."""
    system, callback = torch.nn.Module(), ShardedEMA(0.7)
    system.transformer = torch.nn.Linear(3, 2)
    system.averaged = copy.deepcopy(system.transformer)
    other = AveragedModel(system.transformer, avg_fn=get_ema_avg_fn(0.7))
    for step in (1, 2, 2, 3, 4):
        if step > callback.step:
            torch.nn.init.normal_(system.transformer.weight)
            other.update_parameters(system.transformer)
        callback.on_train_batch_end(SimpleNamespace(global_step=step), system, None, None, 0)
        torch.testing.assert_close(system.averaged.weight, other.module.weight)
    assert not torch.equal(system.averaged.weight, system.transformer.weight)


@pytest.mark.parametrize("average", [EMAWeightAveraging(decay=0.9), PowerEMA(0.1)])
def test_the_average_lies_where_the_weights_will(average):
    """At `setup` they are on the CPU still, wherever the training is to run."""
    strategy = SimpleNamespace(root_device=torch.device("meta"))
    module = L.LightningModule()
    module.layer = torch.nn.Linear(3, 2)
    average.setup(SimpleNamespace(strategy=strategy), module, "fit")
    assert average._average_model.module.layer.weight.device.type == "meta"
    assert module.layer.weight.device.type == "cpu"
