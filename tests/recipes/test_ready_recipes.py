"""Recipes for corpora that are not at hand: parsed, and trained for two steps at tiny size.

What they train on is made of a small copy of the corpus' layout, through its own reader.
"""

import json
import re
import shlex
from fractions import Fraction
from pathlib import Path

import fake_corpora
import pytest
import yaml

from avgen.cli import make_parser
from avgen.codecs.base import load_module
from avgen.corpora.manifest import ClipRecord, find_corpus
from avgen.training.lightning_cli import instantiate
from avgen.training.lightning_cli import main as train
from avgen.training.prepared import encode, prepare

ROOT = Path(__file__).resolve().parents[2]
READY = ("celebv_hq", "crema_d", "hdtf", "mead", "ravdess", "voxceleb2")
TINY = {
    "model.init_args.network.width": 32,
    "model.init_args.network.depth": 1,
    "model.init_args.network.num_heads": 2,
    "data.init_args.batching.init_args.max_tokens": 200,
    "data.init_args.batching.init_args.shortest_s": 0.2,
    "data.init_args.stretches.num_frames": 9,
    "trainer.accelerator": "cpu",
    "trainer.precision": "32-true",
    "trainer.max_steps": 2,
    "trainer.log_every_n_steps": 1,
    "trainer.enable_progress_bar": "false",
    "trainer.logger": "false",
}
quiet = pytest.mark.filterwarnings("ignore:You are trying to `self.log")


def prepared(name, tmp_path, model):
    """The folder that the recipe names, of a small copy of its corpus."""
    root = fake_corpora.build(name, tmp_path / "corpora" / name, num_frames=25)
    found = find_corpus(name).records(root)
    records = [item for item in found if isinstance(item, ClipRecord) and item.span is None]
    folder = tmp_path / "prepared" / name
    failures = prepare(records, root, folder, (32, 32), Fraction(25), 24000)
    assert failures == []
    encode(folder, load_module(model / "video_codec"), load_module(model / "audio_codec"))
    return records


def arguments(name):
    flags = [part for key, value in TINY.items() for part in (f"--{key}", str(value))]
    return ["--config", str(ROOT / "recipes" / name / "config.yaml"), *flags]


@quiet
@pytest.mark.parametrize("name", READY)
def test_two_steps(name, tmp_path, monkeypatch, tiny_model):
    """In a folder of its own, with the recipe's own relative paths."""
    import torch

    monkeypatch.chdir(tmp_path)
    records = prepared(name, tmp_path, tiny_model)
    assert {record.split for record in records} >= {"train", "validation"}
    train(arguments(name))
    checkpoint = torch.load(tmp_path / "runs" / name / "last.ckpt", weights_only=False)
    assert checkpoint["global_step"] == 2
    assert all(
        torch.isfinite(v).all() for v in checkpoint["state_dict"].values() if v.is_floating_point()
    )


@pytest.mark.parametrize("name", READY)
def test_folders_agree(name):
    """Model and data read one prepared folder, and steps are said once."""
    recipe = yaml.safe_load((ROOT / "recipes" / name / "config.yaml").read_text())
    model, data = recipe["model"]["init_args"], recipe["data"]["init_args"]
    assert model["folder"] == data["folder"] == f"prepared/{name}"
    assert model["optimizer"]["total_steps"] == recipe["trainer"]["max_steps"]
    assert (ROOT / "data" / name / "README.md").is_file()


def commands(name):
    """Every command line of a recipe's README."""
    text = (ROOT / "recipes" / name / "README.md").read_text().replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^ {4}(avgen .+)$", text, re.MULTILINE)]


@pytest.mark.parametrize("name", READY)
def test_the_readme_says_what_runs(name):
    lines = commands(name)
    steps = "prepare train train export export prepare train export"
    assert " ".join(line[1] for line in lines) == steps
    for line in lines:
        args, rest = make_parser().parse_known_args(line[1:])
        assert callable(args.run)
        if args.run.__module__.endswith("prepare"):
            assert args.corpus == name
            assert rest == []
        for file in (part for part in line if part.endswith(".yaml")):
            assert (ROOT / file).is_file()


def test_codecs_are_trained_on_the_corpus_by_the_overrides(tmp_path, monkeypatch, tiny_model):
    """The README's overrides of another recipe reach its data and the folder of its checkpoints."""
    monkeypatch.chdir(tmp_path)
    prepared("ravdess", tmp_path, tiny_model)
    line = next(line for line in commands("ravdess") if "recipes/grid/video_codec.yaml" in line)
    line[line.index("--config") + 1] = str(ROOT / "recipes/grid/video_codec.yaml")
    run = instantiate([*line[2:], "--trainer.logger", "false", "--trainer.accelerator", "cpu"])
    assert run.datamodule.folders == [Path("prepared/ravdess")]
    callback = run.trainer.checkpoint_callback
    assert callback.dirpath.endswith("runs/ravdess_video_codec")
    assert json.loads((tmp_path / "prepared/ravdess/rates.json").read_text())["fps"] == "25"
