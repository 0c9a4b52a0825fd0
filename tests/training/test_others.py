"""Codecs, text encoders and transformers of others: all the way from clips to a made clip."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from avgen import AVPipeline, cli
from avgen.clips import Clip, read_clip, write_clip
from avgen.codecs.base import load_module
from avgen.corpora.manifest import ClipRecord
from avgen.latents.packing import AUDIO, VIDEO, make_layout
from avgen.preparation.latent_store import load_statistics, read_latent_config
from avgen.preparation.run import Request, prepare
from avgen.preparation.settings import Settings
from avgen.training.lightning_cli import instantiate

diffusers = pytest.importorskip("diffusers", reason="pip install 'avgen[pretrained]'")
from tiny_pretrained import save_tiny  # noqa: E402

from avgen.models.diffusers_backbones import (  # noqa: E402
    LTX2Backbone,
    LTX2Config,
    ltx_coordinates,
)

FRAMES, SIZE = 17, (64, 64)
LTX2 = {"in_channels": 8, "out_channels": 8, "num_layers": 2, "caption_channels": 24}
LTX2 |= {"num_attention_heads": 2, "attention_head_dim": 16, "cross_attention_dim": 32}
LTX2 |= {"audio_num_attention_heads": 2, "audio_attention_head_dim": 16, "audio_in_channels": 8}
LTX2 |= {"audio_out_channels": 8, "audio_cross_attention_dim": 32}
WAN = {"in_channels": 4, "out_channels": 4, "num_layers": 2, "num_attention_heads": 2}
WAN |= {"attention_head_dim": 12, "ffn_dim": 32, "text_dim": 24, "freq_dim": 16}
KINDS = {
    "ltx": (("ltx", "ltx_audio"), "LTX2VideoTransformer3DModel", LTX2, (1, 1), (16000, 2)),
    "wan": (("wan", "encodec"), "WanTransformer3DModel", WAN, (2, 2), (24000, 1)),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Makes clips, and a prepared folder of them that was encoded by somebody else's codecs."""

    def make(kind):
        monkeypatch.chdir(tmp_path)
        codecs, _, _, patches, (rate, channels) = KINDS[kind]
        draw, records = np.random.default_rng(0), []
        (tmp_path / "films").mkdir()
        for index in range(3):
            frames = draw.integers(0, 256, (FRAMES, *SIZE, 3), np.uint8)
            sound = 0.3 * draw.standard_normal((2, FRAMES * rate // 25)).astype(np.float32)
            clip = Clip(frames, Fraction(25), sound.clip(-1, 1), rate)
            write_clip(clip, tmp_path / f"films/c{index}.mkv")
            split = "train" if index < 2 else "validation"
            about = ("own", "s", split, "a man", (), None, "none")
            records.append(ClipRecord(f"c{index}", f"c{index}.mkv", *about))
        own = Settings(SIZE, sample_rate=rate, num_channels=channels, stages="none")
        out = tmp_path / "prepared"
        assert prepare(Request("own", tmp_path / "films", out, own), records).clips == 3
        saved = [save_tiny(name, tmp_path / name) for name in codecs]
        named = ["#".join(field for field in fields.values()) for fields in saved]
        asked = ["--video", named[0], "--audio", named[1], "--patches", *map(str, patches)]
        assert cli.main(["encode", str(out), *asked]) == 0
        return out

    return make


def recipe_of(kind, tmp_path, prepared):
    torch.manual_seed(0)
    getattr(diffusers, KINDS[kind][1])(**KINDS[kind][2]).save_pretrained(tmp_path / "network")
    batching = {"batch_size": 2, "lengths_s": [FRAMES / 25]}
    average = {"decay": 0.5}
    callbacks = [
        {"class_path": "avgen.training.ema.EMAWeightAveraging", "init_args": average},
        {"class_path": "avgen.training.saving.Saving"},
    ]
    values = {
        "base": str(Path(__file__).parents[2] / "recipes/transformer.yaml"),
        "model": {
            "init_args": {
                "network": {"backbone": {"source": str(tmp_path / "network")}},
                "optimizer": {
                    "lr": 0.003, "warmup_steps": 1, "total_steps": 9,
                    "optimizer": "torch.optim.AdamW",
                },
            }
        },
        "data": {
            "init_args": {
                "folder": str(prepared),
                "batching": {
                    "class_path": "avgen.training.batches.Buckets", "init_args": batching,
                },
            }
        },
        "trainer": {
            "accelerator": "cpu", "precision": "32-true", "max_steps": 2, "logger": False,
            "limit_val_batches": 0, "enable_progress_bar": False, "callbacks": callbacks,
            "default_root_dir": str(tmp_path / "run"),
        },
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    return str(tmp_path / "recipe.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_from_clips_to_a_made_clip(kind, folder, tmp_path, capsys):
    prepared = folder(kind)
    config, (rate, channels) = read_latent_config(prepared), KINDS[kind][4]
    assert not config.windows_are_exact
    assert config.audio_lead == (480 if kind == "ltx" else 0)
    if kind == "wan":
        assert load_statistics(prepared)[0].mean == (0.5, -1.0, 2.0, 0.0)  # the codec's own
    for name in ("video_codec", "audio_codec"):  # referred to, not copied
        assert [p.name for p in (prepared / "codecs" / name).iterdir()] == ["config.json"]
    recipe = recipe_of(kind, tmp_path, prepared)

    trained = instantiate(["--config", recipe])
    system = trained.model
    batch = next(iter(trained.datamodule.train_dataloader()))
    sample = system.draw(batch, "train")
    optimizer, losses = torch.optim.Adam(system.parameters(), 0.01), []
    for _ in range(12):
        errors, _ = system.errors(sample)
        is_made = (sample.layout.modality == VIDEO) | (kind == "ltx")
        losses.append((errors * is_made * ~sample.given).mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert float(losses[-1]) < 0.8 * float(losses[0]), losses
    if kind == "wan":  # it says nothing of sound
        assert bool((system.transformer(sample.clean, sample.levels, context_of(system, sample))
                     [:, sample.layout.modality == AUDIO] == 0).all())  # fmt: skip

    assert cli.main(["train", "--config", recipe]) == 0, capsys.readouterr().err
    exported = ["--checkpoint", str(tmp_path / "run/last.ckpt"), "--codecs", "prepared/codecs"]
    code = cli.main(["export", "--config", recipe, *exported, "-o", "model"])
    assert code == 0, capsys.readouterr().err
    weights = [path.parent.name for path in (tmp_path / "model").rglob("*.safetensors")]
    assert weights == ["transformer"]
    saved = json.loads((tmp_path / "model/video_codec/config.json").read_text())
    assert saved["source"] == str(tmp_path / kind)
    made = ["generate", "--model", "model", "--prompt", "a man", "--num-frames", "12"]
    assert cli.main([*made, "--seed", "1", "-o", "clip.mkv"]) == 0, capsys.readouterr().err
    clip = read_clip(tmp_path / "clip.mkv")
    assert clip.frames.shape == (12, *SIZE, 3)
    assert (clip.sample_rate, clip.num_channels) == (24000, channels)
    assert clip.num_samples == 12 * 960
    assert (float(abs(clip.waveform).max()) > 1e-4) == (kind == "ltx")  # Wan's clip is silent
    pipe = AVPipeline.from_pretrained("model")
    again = pipe("a man", num_frames=40, seed=1, progress=False)  # in windows
    assert again.frames.shape[0] == 40 and again.num_samples == 40 * 960
    heard = 0.2 * np.random.default_rng(1).standard_normal((2, rate)).astype(np.float32)
    voiced = pipe("a man", audio=(heard, rate), seed=1, progress=False)
    assert np.array_equal(voiced.waveform, heard)  # both channels come out as they went in


def context_of(system, sample):
    return system.transformer.prepare(sample.layout, sample.text)


def test_ltx_has_our_tokens_where_it_has_its_own(tmp_path):
    """In seconds and pixels, picture and sound, as its own pipeline places them."""
    from avgen.latents.geometry import AudioGrid, VideoGrid

    video = VideoGrid(33, 96, 64, Fraction(25), (8, 32, 32), 8, 1)
    audio = AudioGrid(33 * 640, 16000, 640, 8, 1, lead=480)
    layout = make_layout(video, audio)
    own = LTX2Backbone(LTX2Config(8, LTX2 | {"vae_scale_factors": (8, 32, 32)}))
    theirs = own.model.rope.prepare_video_coords(1, 5, 3, 2, torch.device("cpu"), fps=25.0)
    sound = own.model.audio_rope.prepare_audio_coords(1, audio.num_latents, torch.device("cpu"))
    ours = ltx_coordinates(layout)
    torch.testing.assert_close(ours[0], theirs, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(ours[1], sound, atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="of a WanTransformer3DModel, not of a LTX2"):
        LTX2Backbone(LTX2Config(8, {"_class_name": "WanTransformer3DModel"}))


def test_a_codec_that_is_named_twice_or_not_at_all_is_refused(tmp_path, capsys):
    (tmp_path / "manifest.jsonl").write_text("")
    for asked in ([], ["--codecs", "x", "--video", "y"], ["--video", "y"]):
        assert cli.main(["encode", str(tmp_path), *asked]) == 2
        assert "name codecs by --codecs, or both" in capsys.readouterr().err


def test_a_folder_without_stills_has_no_stretches(folder, tmp_path, capsys):
    prepared = folder("wan")
    recipe = recipe_of("wan", tmp_path, prepared)
    data = instantiate(["--config", recipe, "--data.init_args.stretches.share", "0.5"]).datamodule
    with pytest.raises(ValueError, match=r"stretches of its clips are other latents"):
        data.train_dataloader()
    assert load_module(prepared / "codecs/video_codec").fingerprint
