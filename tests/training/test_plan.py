"""`avgen train --plan`: counted on the meta device, from a recipe alone."""

import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from avgen import cli
from avgen.models.transformer import AVTransformer, AVTransformerConfig
from avgen.training import optimization
from avgen.training.optimization import orthogonalize
from avgen.training.plan import Plan, newton_schulz_flops

RECIPES = sorted((Path(__file__).parents[2] / "recipes/scale").glob("*.yaml"))
ROWS = ("parameters", "a clip", "a step", "the run", "memory", "sent", "time")


def rows_of(text):
    return {name: line for name in ROWS for line in text.splitlines() if line.startswith(name)}


def planned(capsys, *arguments):
    assert cli.main(["train", "--plan", *map(str, arguments)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out.strip()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_has_its_plan_in_its_readme(path, capsys):
    """And fits into the GPU that it is planned for; no data is there."""
    text = planned(capsys, "--config", path)
    rows = rows_of(text)
    assert set(rows) == set(ROWS) and "DOES NOT FIT" not in text
    size = {"300m": 300, "1b": 1000, "7b": 7000}[path.stem.split("_")[0]]
    parameters = float(re.search(r"([\d,]+) M", rows["parameters"])[1].replace(",", ""))
    assert 0.8 * size < parameters < 1.35 * size
    assert text in (path.parent / "README.md").read_text()


def test_a_plan_follows_its_keys(capsys):
    path = RECIPES[0]
    eight, sixteen = (
        rows_of(planned(capsys, "--config", path, "--plan.gpus", gpus, "--plan.mfu", 0.5))
        for gpus in (8, 16)
    )
    epochs = [float(re.search(r"([\d.]+) epochs", rows["the run"])[1]) for rows in (eight, sixteen)]
    assert epochs[1] == pytest.approx(2 * epochs[0], rel=0.02)
    assert "50% of 989 TFLOP/s: assumed, not measured" in eight["time"]
    small = planned(
        capsys, "--config", path, "--data.init_args.batching.init_args.max_tokens", 10**6
    )
    assert "DOES NOT FIT" in small
    assert cli.main(["train", "--plan", "--config", str(path), "--plan.gpu", "abacus"]) == 2
    assert "plan.gpu is 'abacus'; it must be one of" in capsys.readouterr().err


def test_what_is_counted_is_what_is_computed(monkeypatch):
    monkeypatch.setattr(optimization, "computes_bfloat16", lambda _: True)  # as a GPU does
    config = AVTransformerConfig(16, 64, 2, 4)
    network = AVTransformer(config)
    matrices = [p for p in network.parameters() if p.ndim == 2 and min(p.shape) >= 16]
    with FlopCounterMode(display=False) as counter:
        for matrix in matrices:
            orthogonalize(matrix.detach())
    assert newton_schulz_flops(network) == counter.get_total_flops()
    own = Plan(hours=10.0, seconds=4.0, size=(256, 256))
    assert own.latents().num_tokens(own.shape()) == 14 * 64 + 101  # 1 + 99 / 8; 10 and 40 ms
    assert len(own.stream(config).own) == 14 * 64 + 101
    assert not any(p.is_meta for p in network.parameters()) and torch.get_default_device().type
