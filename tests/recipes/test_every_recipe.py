"""Every recipe trains two steps, exports, generates and evaluates, at tiny size.

What the untrained ones train on is made of a small copy of the corpus' layout by its own reader.
"""

import re
import shlex
import shutil
from fractions import Fraction
from pathlib import Path

import fake_corpora
import numpy as np
import pytest
import torch

from avgen import cli
from avgen.cli import make_parser
from avgen.clips import Clip, Word, read_clip, write_clip
from avgen.codecs.base import load_module, save_module
from avgen.corpora.manifest import ClipRecord, find_corpus
from avgen.pipeline import PipelineConfig
from avgen.preparation.encode import encode
from avgen.preparation.run import Request, prepare
from avgen.preparation.settings import Settings
from avgen.training.lightning_cli import instantiate, read_recipe

ROOT = Path(__file__).resolve().parents[2]
UNTRAINED = sorted(path.stem for path in (ROOT / "recipes/untrained").glob("*.yaml"))
SPOKEN = {"crema_d", "ravdess"}  # with --aligner: these copies have sentences, not words
TRANSFORMERS = (*(f"untrained/{name}" for name in UNTRAINED), "grid/config", "grid/config_more",
                "mixed/config", "mixed/config_more", "finetune_speaker/config",
                "distill/config", "people/sound", "people/faces", "people/joint")  # fmt: skip
CODECS = sorted(
    path.relative_to(ROOT / "recipes").with_suffix("").as_posix()
    for name in ("video_*", "audio_codec", "speech_codec")
    for path in (ROOT / "recipes").glob(f"*/{name}.yaml")
)
RUN = {
    "trainer.accelerator": "cpu",
    "trainer.max_steps": 2,
    "trainer.log_every_n_steps": 1,
    "trainer.num_sanity_val_steps": 0,
    "trainer.limit_val_batches": 0,
    "trainer.enable_progress_bar": "false",
    "trainer.logger": "false",
}
NETWORK = "model.init_args.network"
TINY = {
    f"{NETWORK}.width": 16,
    f"{NETWORK}.depth": 1,
    f"{NETWORK}.num_heads": 2,
    f"{NETWORK}.compile": "false",
    "data.init_args.stretches.num_frames": 9,
}
PACKED = {"max_tokens": 200, "shortest_s": 0.2}
STACKED = {"batch_size": 2, "lengths_s": "[0.36]"}
pytestmark = pytest.mark.filterwarnings("ignore")


def fake(folder, count=4):
    """Clips of a square and a tone, whose records say words at their times."""
    clip = Clip(
        np.random.default_rng(0).integers(0, 255, (25, 32, 48, 3), np.uint8),
        Fraction(25),
        0.3 * np.sin(np.arange(24000) / 9)[None].astype(np.float32),
        24000,
    )
    folder.mkdir(parents=True)
    write_clip(clip, folder / "clip.mp4")
    words = (Word("place", 0.1, 0.4), Word("red", 0.4, 0.8))
    return [
        ClipRecord(f"f{i}", "clip.mp4", "own", "s", split, "a man", words, None, "")
        for i, split in enumerate(["train"] * count + ["validation"])
    ]


@pytest.fixture
def prepare_for(tmp_path, monkeypatch, tiny_model):
    """Makes the folder that a recipe reads, where it looks for it, and the codecs beside it."""

    def make(name, recipe):
        monkeypatch.chdir(tmp_path)
        corpus, folder = Path(name).name, Path(recipe["data"]["init_args"]["folder"])
        root = tmp_path / "corpora"
        if name.startswith("untrained/"):
            root = fake_corpora.build(corpus, root / corpus, num_frames=25)
            found = find_corpus(corpus).records(root)
            records = [item for item in found if isinstance(item, ClipRecord) and not item.span]
        else:
            records = fake(root)
        settings = Settings((32, 48), stages="none")
        assert prepare(Request("own", root, folder, settings), records).clips == len(records)
        encode(folder, *(load_module(tiny_model / part) for part in ("video_codec", "audio_codec")))
        for part in ("video_codec", "audio_codec"):
            shutil.copytree(tiny_model / part, tmp_path / "codecs" / part)
        return records

    return make


def flags(values):
    return [part for key, value in values.items() for part in (f"--{key}", str(value))]


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformer_goes_all_the_way(name, prepare_for, tmp_path, tiny_model, capsys):
    path = ROOT / "recipes" / f"{name}.yaml"
    recipe = read_recipe(path)
    records = prepare_for(name, recipe)
    packed = recipe["data"]["init_args"]["batching"]["class_path"].endswith("Packs")
    batching = flags(
        {
            f"data.init_args.batching.init_args.{key}": value
            for key, value in (PACKED if packed else STACKED).items()
        }
    )
    start = recipe["model"]["init_args"]["network"]
    starts = {}
    if "distillation" in start:
        starts = {f"{NETWORK}.distillation.teacher": tiny_model}
    elif "initial_model" in start and not name.startswith("people/"):
        starts = {f"{NETWORK}.initial_model": tiny_model}
    elif name == "people/faces":
        begin_with_sound(path, [*flags(TINY | RUN), *batching])
    elif name == "people/joint":
        begin_with_faces(path, [*flags(TINY | RUN), *batching])
    elif "initial_weights" in start:
        starts = {f"{NETWORK}.initial_weights": tiny_model / "transformer/model.safetensors"}
    arguments = ["--config", str(path), *flags(TINY | RUN | starts), *batching]
    assert cli.main(["train", *arguments]) == 0
    last = Path(recipe["trainer"]["default_root_dir"]) / "last.ckpt"
    state = torch.load(last, weights_only=False)
    assert state["global_step"] == 2
    assert all(v.isfinite().all() for v in state["state_dict"].values() if v.is_floating_point())

    given = arguments[2:]
    exported = ["--config", str(path), "--checkpoint", str(last), "--codecs", "codecs"]
    assert cli.main(["export", *exported, "-o", "model", *given]) == 0, capsys.readouterr().err
    spoken = any(record.words for record in records)
    assert PipelineConfig.from_json(json_of("model")).needs_words == spoken
    made = ["generate", "--model", "model", "--num-frames", "9", "--seed", "1"]
    prompt = 'a man says "red"' if spoken else "a man"
    assert cli.main([*made, "--prompt", prompt, "-o", "clip.mp4"]) == 0, capsys.readouterr().err
    assert read_clip("clip.mp4").frames.shape == (9, 32, 48, 3)
    if not spoken:
        assert cli.main([*made, "--prompt", 'a man says "red"', "-o", "no.mp4"]) == 2
        assert "trained on clips without words" in capsys.readouterr().err
    evaluated = ["evaluate", "clip.mp4", "-o", "report", "--metrics", "media"]
    assert cli.main(evaluated) == 0, capsys.readouterr().err


def begin_with_sound(path, arguments):
    """Write sound/, which faces.yaml goes on from, as sound.yaml makes it on that folder."""
    folder = read_recipe(path)["data"]["init_args"]["folder"]
    arguments = ["--config", str(path.with_name("sound.yaml")), *arguments]
    arguments += flags({f"{part}.init_args.folder": folder for part in ("model", "data")})
    save_module(instantiate(arguments).model.transformer, "sound")


def begin_with_faces(path, arguments):
    """Write faces/, which joint.yaml goes on from."""
    faces = path.with_name("faces.yaml")
    begin_with_sound(faces, arguments)
    last = Path(read_recipe(faces)["trainer"]["default_root_dir"]) / "last.ckpt"
    assert cli.main(["train", "--config", str(faces), *arguments]) == 0
    exported = ["--config", str(faces), "--checkpoint", str(last), "--codecs", "codecs"]
    assert cli.main(["export", *exported, "-o", "faces", *arguments]) == 0


def json_of(model):
    import json

    return json.loads((Path(model) / "config.json").read_text())


@pytest.mark.parametrize("name", CODECS)
def test_a_codec_trains_and_is_exported(name, tmp_path, monkeypatch, capsys):
    """With the recipe's own class, loss and variation; small, and from nothing."""
    path = ROOT / "recipes" / f"{name}.yaml"
    recipe = read_recipe(path)
    folders = recipe["data"]["init_args"]["folder"]
    monkeypatch.chdir(tmp_path)
    for folder in [folders] if isinstance(folders, str) else folders:
        root = tmp_path / "corpora" / folder
        request = Request("own", root, Path(folder), Settings((32, 48), stages="none"))
        assert prepare(request, records := fake(root)).clips == len(records)
    sizes = {"encoder_width": 8, "encoder_hidden": 8, "encoder_depth": 1, "decoder_width": 8}
    sizes |= {"decoder_hidden": 8, "decoder_depth": 1}
    if "speech" in name:
        sizes = {"width": 8, "hidden": 8, "depth": 1}
    if "video" in name:
        parts = ("encoder", "decoder", *(["mover"] if "mover" in name else []))
        sizes = {f"{part}_widths": "[8,8,8]" for part in parts}
    values = {f"model.init_args.codec.{key}": value for key, value in sizes.items()}
    values |= {"data.init_args.batch_size": 2}
    if "speech" not in name:
        values["model.init_args.initial_weights"] = "null"
    if "video" in name:
        values["model.init_args.compile"] = "false"
        values["data.init_args.length"] = 5
    arguments = ["--config", str(path), *flags(RUN | values)]
    assert cli.main(["train", *arguments]) == 0
    last = Path(recipe["trainer"]["default_root_dir"]) / "last.ckpt"
    exported = ["--config", str(path), "--checkpoint", str(last), "-o", "codec", *arguments[2:]]
    assert cli.main(["export", *exported]) == 0, capsys.readouterr().err
    codec = load_module("codec")
    if "speech" not in name:  # whose encoder is a formula
        frozen = recipe["model"]["init_args"].get("freeze_encoder", False)
        assert frozen == (not any(p.requires_grad for p in read_encoder(arguments)))
    assert sum(p.numel() for p in codec.parameters()) < 200_000


def read_encoder(arguments):
    return instantiate(arguments).model.codec.encoder.parameters()


@pytest.mark.parametrize("name", UNTRAINED)
def test_an_untrained_recipe_is_said_to_be(name):
    """Its corpus is documented, and steps are said alike in both places."""
    recipe = read_recipe(ROOT / "recipes/untrained" / f"{name}.yaml")
    assert recipe["data"]["init_args"]["folder"] == f"prepared/{name}"
    steps = recipe["model"]["init_args"]["optimizer"]["total_steps"]
    assert steps == recipe["trainer"]["max_steps"]
    assert recipe["trainer"]["default_root_dir"] == f"runs/{name}"
    assert (ROOT / "data" / name / "README.md").is_file()
    readme = (ROOT / "recipes/untrained/README.md").read_text()
    assert f"| {name}.yaml | [" in readme
    assert "**None of these was trained.**" in readme


def test_the_readme_says_what_runs():
    text = (ROOT / "recipes/untrained/README.md").read_text()
    lines = [shlex.split(line) for line in re.findall(r"^ {4}(avgen .+)$", text, re.MULTILINE)]
    steps = "prepare train train export export prepare train export"
    assert " ".join(line[1] for line in lines) == steps
    for line in lines:
        args, rest = make_parser().parse_known_args(line[1:])
        assert callable(args.run)
        if args.run.__module__.endswith("prepare"):
            assert args.corpus == "hdtf"
            assert rest == []
        for file in (part for part in line if part.endswith(".yaml")):
            assert (ROOT / file).is_file()
