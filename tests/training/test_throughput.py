"""Operations against torch's own counter; seconds, waits and joules against what they were."""

import copy
import time
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from avgen.latents.context import distinct_levels
from avgen.latents.packing import concatenate, make_layout
from avgen.models.phonemes import TimedPhoneme
from avgen.models.text import make_text
from avgen.models.transformer import AVTransformer, AVTransformerConfig
from avgen.preparation.latent_store import ClipShape, LatentConfig
from avgen.training.flops import FORWARDS_OF_A_STEP, forward_flops
from avgen.training.lightning_cli import instantiate
from avgen.training.throughput import Energy, Throughput

LATENTS = LatentConfig(64, 64, "25", (4, 16, 16), 4, 2, 24000, 320, 4, 3, "none")
CONFIG = AVTransformerConfig(token_width=16, width=48, depth=3, num_heads=2, mlp_ratio=3.0)


def layout_of(num_frames, height):
    shape = ClipShape(num_frames, height, 64, 25, True)
    return make_layout(*LATENTS.clip_grids(shape))


@pytest.mark.parametrize("packed", [False, True])
def test_operations_are_those_that_torch_counts(packed):
    """Forward exactly; a step within 5 %, for the first layers need no gradient of their input."""
    torch.manual_seed(0)
    layouts = [layout_of(17, 64), layout_of(9, 96)] if packed else [layout_of(17, 64)] * 2
    network = AVTransformer(CONFIG)
    text = make_text(["a man", "a"], [[TimedPhoneme("B", 0.0, 0.1)], []])
    layout = concatenate(layouts) if packed else layouts[0]
    size = (1 if packed else 2, layout.num_tokens)
    tokens, sigma = torch.randn(*size, 16), torch.rand(size)
    context = network.prepare(layout, text)
    own = forward_flops(CONFIG, context, len(distinct_levels(sigma, layout.modality).values))
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        network(tokens, sigma, context)
    assert counter.get_total_flops() == own
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):  # torch does not count its kernel for CPUs
        network(tokens, sigma, context).square().sum().backward()
    assert counter.get_total_flops() == pytest.approx(FORWARDS_OF_A_STEP * own, rel=0.05)


def test_a_clip_costs_what_it_costs_alone():
    layouts = [layout_of(17, 64), layout_of(17, 64), layout_of(9, 64)]
    with torch.device("meta"):
        network = AVTransformer(CONFIG)
    layouts = [layout.to("meta") for layout in layouts]
    one = [network.prepare(layout, make_text(["a"], [[]])) for layout in layouts]
    packed = network.prepare(concatenate(layouts), make_text(["a"] * 3, [[]] * 3))
    # the two rows of text's noise level are shared
    alone = sum(forward_flops(CONFIG, context, 2) for context in one)
    assert forward_flops(CONFIG, packed, 10) == alone


def test_a_run_logs_what_it_does_and_keeps_what_it_took(recipe, tmp_path):
    recipe = copy.deepcopy(recipe)
    throughput = {
        "class_path": "avgen.training.throughput.Throughput",
        "init_args": {"every_n_steps": 2, "peak_tflops": 0.5},
    }
    recipe["trainer"] |= {"callbacks": [throughput], "max_steps": 4, "precision": "32-true"}
    recipe["trainer"] |= {"enable_checkpointing": False, "default_root_dir": str(tmp_path)}
    recipe["trainer"]["logger"] = {
        "class_path": "lightning.pytorch.loggers.CSVLogger",
        "init_args": {"save_dir": str(tmp_path), "name": "log", "version": 0},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    made = instantiate(["--config", str(tmp_path / "recipe.yaml")])
    loads = made.datamodule.train_dataloader

    def slowly():
        loader = loads()
        collate = loader.collate_fn
        loader.collate_fn = lambda items: time.sleep(0.05) or collate(items)
        return loader

    made.datamodule.train_dataloader = slowly
    started = time.perf_counter()
    made.trainer.fit(made.model, made.datamodule)
    took = time.perf_counter() - started
    made.trainer.logger.save()
    header, *lines = (tmp_path / "log/version_0/metrics.csv").read_text().splitlines()
    names = header.split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in lines]
    rows = [row for row in rows if row.get("throughput/steps_per_s")]
    assert [row["step"] for row in rows] == ["2", "4"]
    for row in rows:
        value = {k.removeprefix("throughput/"): float(v) for k, v in row.items() if v}
        assert value["clips_per_s"] == pytest.approx(2 * value["steps_per_s"])
        assert value["tokens_per_s"] == pytest.approx(12 * value["clips_per_s"])
        assert value["mfu"] == pytest.approx(value["tflops_per_s"] / 0.5)
        waited = value["data_wait"] / value["steps_per_s"]  # seconds a step
        assert 0.05 <= waited < 1.0
        assert 0.05 < value["memory_gib"] < 16
    (callback,) = (c for c in made.trainer.callbacks if isinstance(c, Throughput))
    state = callback.state_dict()
    assert 0.2 <= state["seconds"] <= took + 1
    resumed = Throughput()
    resumed.load_state_dict({"seconds": 100.0, "joules": None})
    assert resumed.state_dict() == {"seconds": 100.0, "joules": None}


def counters(folder: Path, *microjoules):
    """Files as Linux has them: packages, and a part of the first that must not count twice."""
    for index, value in enumerate(microjoules):
        package = folder / f"intel-rapl:{index}"
        package.mkdir(parents=True, exist_ok=True)
        (package / "energy_uj").write_text(f"{value}\n")
        (package / "max_energy_range_uj").write_text("1000000000\n")
    part = folder / "intel-rapl:0:0"
    part.mkdir(exist_ok=True)
    (part / "energy_uj").write_text("123456789\n")


def test_joules_are_the_packages_and_survive_their_overflow(tmp_path):
    counters(tmp_path, 5_000_000, 999_000_000)
    energy = Energy(torch.device("cpu"), tmp_path)
    assert energy.joules() == 0.0
    counters(tmp_path, 7_000_000, 4_000_000)  # the second began again from 0 after 1000 J
    assert energy.joules() == pytest.approx(2 + 5)
    counters(tmp_path, 7_000_000, 6_000_000)
    assert energy.joules() == pytest.approx(9)


def test_energy_that_cannot_be_read_is_none(tmp_path):
    energy = Energy(torch.device("cpu"), tmp_path)
    assert energy.joules() is None
    assert "intel-rapl" in energy.missing
    assert Energy(torch.device("mps")).joules() is None
