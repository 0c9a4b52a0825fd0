"""Muon for matrices, Adam for the rest: against closed forms and torch's own Adam."""

import copy
import math

import pytest
import torch
from ranks import fork
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from avgen.models.lora import LoraConfig, adapt
from avgen.training import optimization
from avgen.training.optimization import (
    ADAM_RMS,
    Muon,
    OptimizerConfig,
    configure,
    orthogonalize,
    owners_of,
)


@pytest.mark.parametrize("shape", [(32, 32), (24, 80), (80, 24)])
def test_orthogonalize_brings_singular_values_near_one(shape):
    matrix = torch.randn(shape) @ torch.diag(torch.logspace(-1, 1, shape[1]))
    made = orthogonalize(matrix).float()
    values = torch.linalg.svdvals(made)
    assert made.shape == matrix.shape
    # the coefficients trade exactness for speed: Jordan et al. give about 0.7 to 1.2
    assert float(values.max()) < 1.3
    assert float(values.median()) > 0.6
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert float((made * (left @ right)).sum() / (made.norm() * min(shape) ** 0.5)) > 0.9


@pytest.mark.parametrize("shape", [(40, 40), (30, 50), (24, 80), (80, 24)])
def test_orthogonalize_is_its_polynomial_of_the_singular_values(shape, monkeypatch):
    """Whichever products it is made of: five times a s + b s^3 + c s^5."""
    monkeypatch.setattr(optimization, "computes_bfloat16", lambda _: False)
    left, values, right = torch.linalg.svd(torch.randn(shape).double(), full_matrices=False)
    values = torch.logspace(-3, 0.4, len(values), dtype=torch.float64)
    made = values / values.norm()
    for _ in range(5):
        made = 3.4445 * made - 4.7750 * made**3 + 2.0315 * made**5
    given = (left * values @ right).float()
    expected = (left * made @ right).float()
    with FlopCounterMode(display=False) as counter:
        torch.testing.assert_close(orthogonalize(given), expected, atol=1e-3, rtol=0)
    short, long = sorted(shape)
    flops = 20 * short**2 * long + 10 * short**3
    if long >= 2 * short:
        flops = 4 * short**2 * long + 34 * short**3
    assert counter.get_total_flops() == flops


@pytest.mark.parametrize("has_units", [False, True])
def test_several_matrices_together_are_each_alone(has_units, monkeypatch):
    """In float32, by either set of products, and in bfloat16."""
    monkeypatch.setattr(optimization, "computes_bfloat16", lambda _: has_units)
    for shape in [(3, 40, 40), (3, 24, 80), (3, 80, 24)]:
        several = torch.randn(shape)
        alone = torch.stack([orthogonalize(matrix) for matrix in several])
        torch.testing.assert_close(orthogonalize(several), alone, atol=2e-2, rtol=2e-2)


def test_matrices_of_one_shape_move_as_each_alone_does(monkeypatch):
    """In rounds of two of the five: of each shape all move, and by their own gradients."""
    monkeypatch.setattr(optimization, "computes_bfloat16", lambda _: False)
    monkeypatch.setattr(optimization, "TOGETHER", 2 * 20 * 60)
    shapes = [(20, 60), (30, 16), (20, 60), (20, 60), (30, 16)]
    starts, gradients = ([torch.randn(shape) for shape in shapes] for _ in range(2))

    def moved(groups):
        parameters = [nn.Parameter(start.clone()) for start in starts]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        for some in groups:
            params = [parameters[index] for index in some]
            Muon([{"params": params, "muon": True}], lr=0.01, weight_decay=0.1).step()
        return [parameter.detach() for parameter in parameters]

    together, alone = moved([range(5)]), moved([[index] for index in range(5)])
    for start, one, other in zip(starts, together, alone, strict=True):
        assert (one - start).abs().max() > 1e-3
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_scale_does_not_matter():
    matrix = torch.randn(16, 40)
    torch.testing.assert_close(
        orthogonalize(1e-3 * matrix), orthogonalize(matrix), atol=0.05, rtol=0.05
    )


def test_the_learning_rate_rises_and_falls_as_it_says():
    config = OptimizerConfig(lr=1.0, warmup_steps=10, total_steps=110, final_share=0.1)
    assert [config.factor(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    for step in (10, 35, 60, 109):
        done = (step - 10) / 100
        assert config.factor(step) == pytest.approx(
            0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done))
        )
    assert config.factor(60) == pytest.approx(0.55)
    assert config.factor(110) == config.factor(10_000) == pytest.approx(0.1)
    assert OptimizerConfig(1.0, 0, 100).factor(0) == 1.0


def steps(optimizer, parameter, gradients):
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_what_is_no_matrix_is_adam(weight_decay):
    start, gradients = torch.randn(50), torch.randn(6, 50)
    own, torchs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    group = {"params": [own], "muon": False, "weight_decay": weight_decay}
    made = steps(Muon([group], lr=0.01), own, gradients)
    adam = torch.optim.AdamW(
        [torchs], lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=weight_decay
    )
    torch.testing.assert_close(made, steps(adam, torchs, gradients), atol=1e-6, rtol=1e-5)


def test_a_muon_step_is_the_formula():
    start, gradients = torch.randn(20, 60), torch.randn(3, 20, 60)
    parameter = nn.Parameter(start.clone())
    optimizer = Muon(
        [{"params": [parameter], "muon": True}], lr=0.01, momentum=0.9, weight_decay=0.1
    )
    made = steps(optimizer, parameter, gradients)
    expected, average = start.clone(), torch.zeros(20, 60)
    for gradient in gradients:
        average = 0.9 * average + 0.1 * gradient
        step = orthogonalize(0.1 * gradient + 0.9 * average).float()
        expected = expected * (1 - 0.01 * 0.1) - 0.01 * ADAM_RMS * math.sqrt(60) * step
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-3)
    assert float((made - start).square().mean().sqrt()) == pytest.approx(
        3 * 0.01 * ADAM_RMS, rel=0.6
    )


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(40, 32)
        self.linear = nn.Linear(32, 48)
        self.conv = nn.Conv2d(16, 24, 3)
        self.depthwise = nn.Conv1d(32, 32, 7, groups=32)
        self.modulation = nn.Parameter(torch.zeros(4, 192))
        self.frozen = nn.Linear(32, 32).requires_grad_(False)


def test_matrices_go_to_muon_and_nothing_is_left_out():
    network = Network()
    made = configure(
        network, OptimizerConfig(lr=0.5, warmup_steps=4, total_steps=10, weight_decay=0.1)
    )
    optimizer = made["optimizer"]
    names = {id(p): name for name, p in network.named_parameters()}
    by_kind = {
        group["muon"]: [names[id(p)] for p in group["params"]] for group in optimizer.param_groups
    }
    assert by_kind[True] == ["linear.weight", "conv.weight"]
    assert sorted(by_kind[False]) == sorted(
        [
            "table.weight",
            "linear.bias",
            "conv.bias",
            "depthwise.weight",
            "depthwise.bias",
            "modulation",
        ]
    )
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert [group["lr"] for group in optimizer.param_groups] == [
        0.125,
        0.125,
    ]  # the first of four steps up
    assert made["lr_scheduler"]["interval"] == "step"


def test_state_comes_back_exactly():
    def train(parameters, optimizer, seed):
        generator = torch.Generator().manual_seed(seed)
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()

    def make():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(20, 20), nn.LayerNorm(20))
        return list(network.parameters()), configure(network, OptimizerConfig(0.1, 1, 10))[
            "optimizer"
        ]

    parameters, optimizer = make()
    train(parameters, optimizer, 1)
    state, values = copy.deepcopy(optimizer.state_dict()), [p.detach().clone() for p in parameters]
    others, resumed = make()
    for other, value in zip(others, values, strict=True):
        other.data.copy_(value)
    resumed.load_state_dict(state)
    train(parameters, optimizer, 2)
    train(others, resumed, 2)
    assert all(torch.equal(a, b) for a, b in zip(parameters, others, strict=True))


@pytest.mark.parametrize("rank", [15, 16, 40])
def test_low_rank_additions_are_adams_at_any_rank(rank):
    network = nn.ModuleDict({"mlp": nn.Linear(64, 48)})
    adapt(network, LoraConfig(rank=rank, alpha=1.0, targets=("mlp.",)))
    optimizer = configure(network, OptimizerConfig(0.1, 1, 10))["optimizer"]
    by_kind = {group["muon"]: len(group["params"]) for group in optimizer.param_groups}
    assert by_kind == {True: 0, False: 2}


def test_another_optimizer_is_named():
    settings = {"betas": [0.9, 0.95], "eps": 1e-7}
    config = OptimizerConfig(
        0.5, 1, 10, weight_decay=0.1, optimizer="torch.optim.AdamW", settings=settings
    )
    optimizer = configure(Network(), config)["optimizer"]
    assert type(optimizer) is torch.optim.AdamW
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert all(tuple(group["betas"]) == (0.9, 0.95) for group in optimizer.param_groups)
    for other, said in (("torch.optim.Nothing", "no such plug-in"), ("torch.optim.LBFGS", "LBFGS")):
        config = OptimizerConfig(0.5, 1, 10, optimizer=other, settings={"no": 1})
        with pytest.raises(ValueError, match=said):
            configure(Network(), config)


def test_owners_share_the_work():
    shapes = [
        torch.Size(s) for s in ((64, 64), (64, 256), (256, 64), (64, 192), (32, 32), (64, 64))
    ]
    cost = [s[0] * s[1] * min(s) for s in shapes]
    assert owners_of(shapes, 1) == [0] * 6
    owners = owners_of(shapes, 2)
    work = [sum(c for c, owner in zip(cost, owners, strict=True) if owner == r) for r in (0, 1)]
    assert max(work) < 0.6 * sum(cost)


def owned(rank, world, folder):
    """Two steps of one of several processes that have the same gradients."""
    if world > 1:
        address = f"file://{folder}/rendezvous"
        torch.distributed.init_process_group(
            "gloo", init_method=address, rank=rank, world_size=world
        )
    torch.manual_seed(3)
    torch.set_num_threads(1)
    network = nn.Sequential(*(nn.Linear(96, 96) for _ in range(5)), nn.Linear(96, 17))
    optimizer = configure(network, OptimizerConfig(0.1, 1, 10))["optimizer"]
    flops = 0
    for _ in range(2):
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter)
        with FlopCounterMode(display=False) as counter:
            optimizer.step()
        flops += counter.get_total_flops()
    torch.save((network.state_dict(), flops), f"{folder}/{world}-{rank}.pt")


def test_each_process_orthogonalises_its_share_and_all_weights_are_those_of_one(tmp_path):
    owned(0, 1, tmp_path)
    fork(owned, 2, str(tmp_path))
    (one, all_flops), *shares = (
        torch.load(tmp_path / name) for name in ("1-0.pt", "2-0.pt", "2-1.pt")
    )
    for weights, flops in shares:
        assert flops <= 0.6 * all_flops
        assert all(torch.equal(weights[name], weight) for name, weight in one.items())
    assert sum(flops for _, flops in shares) == all_flops
