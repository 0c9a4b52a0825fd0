"""A model goes on from its folder on a new speaker's clips, and comes out as such a folder."""

import copy
import json
import re
import signal
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from avgen import AVPipeline, cli
from avgen.clips import Word
from avgen.codecs.base import load_module
from avgen.corpora.manifest import ClipRecord, write_manifest
from avgen.latents.context import Segments
from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import make_layout
from avgen.models.layers import Block, Modulation
from avgen.models.lora import LoraConfig, adapt, load_adapter, merge, save_adapter
from avgen.models.text import make_text
from avgen.models.transformer import AVTransformer, AVTransformerConfig
from avgen.preparation.encode import encode
from avgen.preparation.latent_store import load_statistics, read_latent_config
from avgen.training.lightning_cli import instantiate
from avgen.training.lightning_cli import main as train
from avgen.training.start import in_patches

NUM_FRAMES, SAMPLES = 9, 8640  # 0.36 s


@pytest.fixture(scope="module")
def model(tiny_model, tmp_path_factory) -> Path:
    """The tiny model with random weights: at its own start its gates are closed."""
    pipe = AVPipeline.from_pretrained(tiny_model)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in pipe.transformer.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    folder = tmp_path_factory.mktemp("random") / "model"
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def speaker(model, tmp_path_factory) -> Path:
    """A prepared folder of six clips of a new speaker, with latents of the model's codecs."""
    folder = tmp_path_factory.mktemp("speaker")
    random = np.random.default_rng(0)
    for name in ("frames", "waveforms"):
        (folder / name).mkdir()
    records = []
    for clip in range(6):
        frames = random.integers(0, 256, (NUM_FRAMES, 32, 48, 3), dtype=np.uint8)
        np.save(folder / "frames" / f"n{clip}.npy", frames)
        sound = random.integers(-9000, 9000, (1, SAMPLES), dtype=np.int16)
        np.save(folder / "waveforms" / f"n{clip}.npy", sound)
        split, words = ("train", "validation")[clip > 3], (Word("red", 0.05, 0.2),)
        licence = "CC-BY-4.0" if clip else "research only"
        record = ClipRecord(
            f"n{clip}", f"n{clip}.mp4", "own", "ada", split, "ada", words, None, licence
        )
        records.append(record)
    (folder / "rates.json").write_text(json.dumps({"fps": "25", "sample_rate": 24000}))
    (folder / "lexicon.json").write_text("{}")
    write_manifest(records, folder / "manifest.jsonl")
    encode(folder, *(load_module(model / name) for name in ("video_codec", "audio_codec")))
    return folder


@pytest.fixture
def finetune(recipe, speaker, model, tmp_path):
    """Writes the recipe: three steps from the model on, all of it, by additions, or few steps."""

    def write(lora, **network):
        made = copy.deepcopy(recipe)
        start = {} if network else {"initial_model": str(model)}
        network = {"width": 16, "depth": 1, "num_heads": 2} | start | network
        made["model"]["init_args"] |= {
            "folder": str(speaker),
            "network": network | ({"lora": lora} if lora else {}),
        }
        made["data"]["init_args"]["folder"] = str(speaker)
        throughput = {"class_path": "avgen.training.throughput.Throughput"}
        callbacks = [*made["trainer"]["callbacks"], throughput]
        callbacks[1]["init_args"] |= {"dirpath": str(tmp_path), "every_n_train_steps": 3}
        made["trainer"] |= {"max_steps": 3, "callbacks": callbacks, "precision": "32-true"}
        made["trainer"] |= {"default_root_dir": str(tmp_path)}
        made["seed_everything"] = 11
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(made))
        return tmp_path / "recipe.yaml"

    return write


def test_a_network_starts_as_the_model_and_sees_latents_as_it_did(finetune, model, speaker):
    system = instantiate(["--config", str(finetune(None))]).model
    trained = load_module(model / "transformer").state_dict()
    own = system.transformer.state_dict()
    assert all(torch.equal(own[name], weight) for name, weight in trained.items())
    assert system.video_statistics == AVPipeline.from_pretrained(model).config.video_statistics
    assert system.video_statistics != load_statistics(speaker)[0]


@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8.0}], ids=["whole", "additions"])
def test_a_model_is_finetuned_and_exported_with_its_card(
    finetune, model, speaker, tmp_path, lora, capsys
):
    path, out = finetune(lora), tmp_path / "ada-model"
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    train(["--config", str(path)])
    assert signal.getsignal(signal.SIGPROF) == signal.SIG_IGN  # or MediaPipe's timer ends us later
    state = torch.load(tmp_path / "last.ckpt")
    arguments = ["--checkpoint", str(tmp_path / "last.ckpt"), "--codecs", str(model)]
    arguments = ["export", "--config", str(path), *arguments, "-o", str(out)]
    assert cli.main([*arguments, "--data.init_args.batching.init_args.batch_size", "1"]) == 0, (
        capsys.readouterr().err
    )
    before = load_module(model / "transformer").state_dict()
    after = load_module(out / "transformer").state_dict()
    assert before.keys() == after.keys()
    moved = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    name = "blocks.0.attention.inward.weight"
    if lora is None:
        assert {name, "modulation.weight", "inward.0.weight"} <= moved
        expected = state["state_dict"][f"transformer.{name}"]
    else:
        parts = ("attention.inward", "attention.outward", "mlp.0", "mlp.2")
        assert moved <= {f"blocks.0.{part}.weight" for part in parts}
        averaged = state["state_dict"]
        stem = "transformer.blocks.0.attention.inward"
        # an average of equal numbers is rounded too
        torch.testing.assert_close(averaged[f"{stem}.weight"], before[name], atol=1e-6, rtol=0)
        parts = (averaged[f"{stem}.lora_{part}.weight"] for part in "BA")
        expected = before[name] + 2 * torch.mm(*parts)
        other = load_module(model / "transformer")
        load_adapter(other, out / "adapter")  # saved by itself too
        merge(other)
        torch.testing.assert_close(other.state_dict()[name], expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(after[name], expected, atol=1e-4, rtol=2**-7)  # bfloat16's
    assert name in moved
    clip = AVPipeline.from_pretrained(out)('ada says "red"', progress=False)
    assert clip.frames.shape == (NUM_FRAMES, 32, 48, 3)

    card = (out / "README.md").read_text()
    for said in (
        "# ada-model", "| transformer | AVTransformer |", "48x32 at 25 fps", "24000 Hz",
        "| train | 4 | 0.00 | 1 |", "| validation | 2 | 0.00 | 1 |", "own (6 clips)",
        "CC-BY-4.0 (5 clips); research only (1 clips)", "3 steps", "seed 11", "To be written by",
        "AI-generated",
    ):  # fmt: skip
        assert said in card, said
    assert re.search(r"0\.00 hours a process; ", card.replace(", all waiting included", ""))
    assert re.search(r"commit ([0-9a-f]{12}|unknown)", card)
    (out / "README.md").write_text("mine")
    assert cli.main(arguments) == 0
    assert (out / "README.md").read_text() == "mine"


def test_a_student_learns_what_its_teacher_is_guided_to(finetune, model):
    """Steps without length: the target is the guided velocity; it starts as its teacher."""
    steps = {"instant_fraction": 1.0, "from_noise_fraction": 0.5, "lowest_scale": 2.0,
             "highest_scale": 2.5}  # fmt: skip
    lesson = {"teacher": str(model), "steps": steps}
    trained = instantiate(["--config", str(finetune(None, distillation=lesson))])
    system, teacher = trained.model, load_module(model / "transformer")
    trained.datamodule.setup("fit")
    batch = next(iter(trained.datamodule.train_dataloader()))
    drawn = system.draw(batch, "train")
    told = drawn.levels.told[drawn.levels.index]
    assert (told[..., 0] == 0).all()
    assert (told[..., 1] >= 2).all() and (told[..., 1] <= 2.5).all()
    scale = told[..., 1]
    assert len(scale.unique()) == len(scale) > 1  # one a clip
    noisy = drawn.clean + drawn.sigma[..., None] * (drawn.noise - drawn.clean)
    with torch.no_grad():
        nobody = torch.ones(len(scale), dtype=torch.bool)
        texts = drawn.text, drawn.text.drop(nobody, nobody)
        cond, uncond = (
            teacher(noisy, drawn.sigma, teacher.prepare(drawn.layout, text)) for text in texts
        )
        guided = uncond + scale[..., None] * (cond - uncond)
        aim, _ = system.teacher.targets(noisy, drawn)
        torch.testing.assert_close(aim, guided, atol=1e-5, rtol=1e-5)
        context = system.transformer.prepare(drawn.layout, drawn.text)
        started = system.transformer(noisy, drawn.levels, context)
        torch.testing.assert_close(started, cond, atol=1e-5, rtol=1e-5)
        errors, _ = system.errors(drawn)
    expected = (cond - guided).square().sum(-1) / drawn.layout.used.sum(-1)
    torch.testing.assert_close(errors, expected, atol=1e-5, rtol=1e-4)
    assert not [name for name in system.state_dict() if "teacher" in name]


def test_a_model_of_few_steps_is_trained_exported_and_asked(finetune, model, tmp_path, capsys):
    lesson = {"teacher": str(model), "steps": {"instant_fraction": 0.2}, "num_inference_steps": 3}
    path, out = finetune(None, distillation=lesson), tmp_path / "quick"
    train(["--config", str(path)])
    arguments = ["--checkpoint", str(tmp_path / "last.ckpt"), "--codecs", str(model)]
    assert cli.main(["export", "--config", str(path), *arguments, "-o", str(out)]) == 0, (
        capsys.readouterr().err
    )
    pipe = AVPipeline.from_pretrained(out)
    assert pipe.transformer.config.distilled
    assert (pipe.config.sampler, pipe.config.num_inference_steps) == ("mean", 3)
    calls = []
    pipe.transformer.register_forward_hook(lambda _, given, __: calls.append(given[0].shape[0]))
    clip = pipe('ada says "red"', progress=False)
    assert calls == [1, 1, 1]  # guidance costs nothing
    stronger = pipe('ada says "red"', guidance_scale=2.9, progress=False)
    assert not np.array_equal(clip.frames, stronger.frames)
    again = AVPipeline.from_pretrained(out)('ada says "red"', sampler="ab2", progress=False)
    assert again.frames.shape == clip.frames.shape


def test_a_start_that_does_not_fit_is_refused(finetune, speaker, model, tmp_path):
    path = finetune(None)
    recipe = yaml.safe_load(path.read_text())
    config = speaker / "latents" / "config.json"
    kept = config.read_text()
    for field, value, match in (
        ("fingerprint", "another", "its codecs did not make the latents"),
        ("audio_patch", 2, r"tokens of \(2, 3\) latents .* has \(2, 2\)"),
    ):
        try:
            config.write_text(json.dumps(json.loads(kept) | {field: value}))
            with pytest.raises(ValueError, match=match):
                instantiate(["--config", str(path)])
        finally:
            config.write_text(kept)
    recipe["model"]["init_args"]["network"]["width"] = 32
    path.write_text(yaml.safe_dump(recipe))
    with pytest.raises(ValueError, match="tensors do not match the configuration"):
        instantiate(["--config", str(path)])


def test_smaller_patches_start_as_the_mean_of_what_larger_ones_do(speaker):
    """Values written out, place by place; what is of sound is cut or padded."""
    torch.manual_seed(3)
    small = replace(
        read_latent_config(speaker),
        video_patch=2,
        video_channels=5,
        audio_channels=7,
        audio_patch=4,
    )
    old, new, width = 6, 28, 8  # latents each way in a token before, numbers of one now, D
    numbers = 5 * old * old
    state = {"blocks.0.weight": torch.randn(3, 3)}
    for kind in (0, 1):
        state[f"inward.{kind}.weight"] = torch.randn(width, numbers)
        state[f"outward.{kind}.weight"] = torch.randn(numbers, width)
        state[f"outward.{kind}.bias"] = torch.randn(numbers)
    made = in_patches(state, old, small)
    assert made.keys() == state.keys()
    assert torch.equal(made["blocks.0.weight"], state["blocks.0.weight"])
    for row, column, channel in product(range(2), range(2), range(5)):
        places = [
            ((2 * r + row) * old + 2 * s + column) * 5 + channel
            for r, s in product(range(3), range(3))
        ]
        at = (row * 2 + column) * 5 + channel
        for name, axis, times in (
            ("inward.0.weight", 1, 3),
            ("outward.0.weight", 0, 1),
            ("outward.0.bias", 0, 1),
        ):
            expected = times * state[name].index_select(axis, torch.tensor(places)).mean(axis)
            torch.testing.assert_close(made[name].select(axis, at), expected)
    assert made["inward.0.weight"].shape == (width, new)
    assert not made["inward.0.weight"][:, 20:].any() and not made["outward.0.bias"][20:].any()
    assert torch.equal(made["inward.1.weight"], state["inward.1.weight"][:, :new])
    assert torch.equal(made["outward.1.bias"], state["outward.1.bias"][:new])
    assert in_patches(state, 2, small) is state
    foreign = {"proj_in.weight": torch.randn(3, 3)}  # `load_tensors` says what is wrong with it
    assert in_patches(foreign, old, small) is foreign


def test_additions_start_at_nothing_and_merge_into_the_weights():
    network = torch.nn.ModuleDict(
        {"mlp": torch.nn.Linear(24, 32), "table": torch.nn.Linear(24, 32), "head": torch.nn.ReLU()}
    )
    kept, tokens = copy.deepcopy(network), torch.randn(3, 24)
    adapt(network, LoraConfig(rank=2, alpha=6.0, targets=("mlp.",)))
    assert torch.equal(network["mlp"](tokens), kept["mlp"](tokens))
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    assert [p.shape for p in trained.values()] == [(2, 24), (32, 2)]
    down, up = trained.values()
    with torch.no_grad():
        up.copy_(torch.randn(32, 2))
    expected = kept["mlp"](tokens) + 3 * tokens @ down.T @ up.T
    torch.testing.assert_close(network["mlp"](tokens), expected, atol=1e-5, rtol=1e-5)
    merge(network)
    assert network.state_dict().keys() == kept.state_dict().keys()
    torch.testing.assert_close(network["mlp"](tokens), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(network["table"].weight, kept["table"].weight)
    with pytest.raises(ValueError, match=r"holds any of \['nose'\]"):
        adapt(network, LoraConfig(1, 1.0, ("nose",)))
    with pytest.raises(ValueError, match="rank is 0"):
        LoraConfig(0, 1.0)


def test_an_adapter_is_saved_in_the_names_that_peft_reads(tmp_path):
    network = torch.nn.ModuleDict({"mlp": torch.nn.Linear(24, 32), "head": torch.nn.Linear(8, 8)})
    kept, tokens = copy.deepcopy(network), torch.randn(3, 24)
    with pytest.raises(ValueError, match="has no adapter to save"):
        save_adapter(network, tmp_path / "none")
    adapt(network, LoraConfig(rank=4, alpha=6.0, targets=("mlp.",)))
    torch.nn.init.normal_(network["mlp"].lora_B.weight)
    save_adapter(network, tmp_path / "own")
    tensors = load_file(tmp_path / "own/adapter_model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "base_model.model.mlp.lora_A.weight": (4, 24),
        "base_model.model.mlp.lora_B.weight": (32, 4),
    }
    facts = json.loads((tmp_path / "own/adapter_config.json").read_text())
    assert (facts["peft_type"], facts["r"], facts["lora_alpha"]) == ("LORA", 4, 6.0)
    assert facts["target_modules"] == ["mlp"]
    load_adapter(kept, tmp_path / "own")
    assert torch.equal(kept["mlp"](tokens), network["mlp"](tokens))
    with pytest.raises(ValueError, match="mlp: is an adapter of another network"):
        load_adapter(torch.nn.ModuleDict({"mlp": torch.nn.Linear(25, 32)}), tmp_path / "own")
    (tmp_path / "own/adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="is no adapter"):
        load_adapter(kept, tmp_path / "own")


@pytest.mark.parametrize(
    ("depth", "targets", "most"),
    [(1, ("attention.", "mlp."), 1.8), (4, ("attention.", "mlp."), 2.0), (4, ("attention.",), 2.0),
     (4, ("1.", "2.", "3."), 1.8)],
)  # fmt: skip
def test_a_step_of_an_adapter_costs_less_than_full_training(depth, targets, most):
    """Counted on the meta device, 4096 wide: no gradient of a frozen weight is made, and none of
    what is below the first adapter. Where all of n blocks are adapted that alone is 2 - 1 / 4n.
    """
    with torch.device("meta"):
        blocks = torch.nn.ModuleList(Block(4096, 32, 4.0, 4) for _ in range(depth))
        modulation = Modulation(
            torch.zeros(3, 6 * 4096), torch.zeros(3).long(), torch.zeros(512).long()
        )
        angle, tokens = torch.zeros(512, 64), torch.zeros(512, 4096)
        segments = Segments((512,), torch.tensor([0, 512]), None)
        adapt(blocks, LoraConfig(16, 16.0, targets))
        counts = []
        for _ in range(2):
            stream = tokens
            with FlopCounterMode(display=False) as counter:
                for block in blocks:
                    stream = block(stream, modulation, angle, angle, segments)
                if counts:
                    stream.sum().backward()
            counts.append(counter.get_total_flops())
    assert 1.5 < counts[1] / counts[0] <= most, counts[1] / counts[0]


def test_gradients_end_at_the_first_adapter():
    """A whole network whose upper three quarters are adapted: at most 1.8 forward passes a step."""
    video = VideoGrid(17, 128, 128, Fraction(25), (4, 16, 16), 4, 2)
    layout = make_layout(video, AudioGrid(17 * 960, 24000, 320, 4, 3))
    network = AVTransformer(AVTransformerConfig(layout.token_width, 512, 4, 8)).train()
    adapt(network, LoraConfig(4, 4.0, ("blocks.1.", "blocks.2.", "blocks.3.")))
    tokens, counts = torch.randn(1, layout.num_tokens, layout.token_width), []
    for learns in (False, True):
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(learns):
            context = network.prepare(layout, make_text(["a man"], [[]]))
            made = network(tokens, torch.full((1, layout.num_tokens), 0.5), context)
            if learns:
                made.square().mean().backward()
        counts.append(counter.get_total_flops())
    assert 1.5 < counts[1] / counts[0] <= 1.8, counts[1] / counts[0]


def test_what_export_does_not_know_is_an_error(capsys, tmp_path, finetune):
    path = finetune(None)
    arguments = ["export", "--config", str(path), "--checkpoint", "none.ckpt", "-o", str(tmp_path)]
    assert cli.main(arguments) == 2
    assert "give --codecs" in capsys.readouterr().err
    assert cli.main([*arguments, "--codecs", str(tmp_path)]) == 2
    assert "none.ckpt: neither a checkpoint file nor" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        cli.main([*arguments, "--colour", "red"])
    assert stop.value.code == 2
    assert "--colour" in capsys.readouterr().err
