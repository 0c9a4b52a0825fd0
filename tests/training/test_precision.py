"""Precision follows the machine: bfloat16 only where there are units for it."""

import pytest
import torch
import yaml

from avgen.training import optimization, precision
from avgen.training.lightning_cli import instantiate
from avgen.training.precision import computes_bfloat16, precision_for


@pytest.fixture
def machine(monkeypatch):
    """Sets whether this CPU has units for bfloat16."""

    def set_to(has_units):
        for module in (precision, optimization):
            monkeypatch.setattr(module, "computes_bfloat16", lambda kind: has_units)

    return set_to


@pytest.mark.parametrize(("has_units", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_recipe_that_does_not_say_gets_what_the_machine_has(
    recipe, tmp_path, machine, has_units, expected
):
    del recipe["trainer"]["precision"]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    machine(has_units)
    assert precision_for("cpu") == expected
    assert instantiate(["--config", str(path)]).trainer.precision == expected
    chosen = instantiate(["--config", str(path), "--trainer.precision", "64-true"])
    assert chosen.trainer.precision == "64-true"


def test_newton_schulz_is_in_what_is_fast(machine):
    matrix = torch.randn(16, 40)
    for has_units, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        machine(has_units)
        assert optimization.orthogonalize(matrix).dtype == dtype


def test_this_machine_is_what_torch_says():
    flags = torch.backends.cpu.get_cpu_capability()
    if flags in ("DEFAULT", "AVX2"):
        assert not computes_bfloat16("cpu")
    assert computes_bfloat16("meta") is False
