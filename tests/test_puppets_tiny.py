"""The smallest recipe, run as its README says: puppets in, a labelled clip out."""

import json
import runpy
import shutil
from contextlib import redirect_stdout
from fractions import Fraction
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from avgen.clips.media.read import read_clip, read_metadata
from avgen.codecs.audio import AudioAutoencoder
from avgen.codecs.base import load_module, save_module
from avgen.codecs.video import ConvVideoCodec
from avgen.corpora.manifest import read_manifest
from avgen.preparation.latent_store import load_statistics, read_latent_config
from avgen.training.callbacks import build_pipeline

ROOT = Path(__file__).resolve().parents[1]
SCALE = "0.05"  # 20, 20 and 40 steps


def run(out: Path) -> str:
    """What the recipe prints, of a small corpus and few steps."""
    command = [str(ROOT / "recipes/puppets_tiny/run.py"), str(out)]
    command += ["--steps-scale", SCALE, "--clips", "16"]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
        patch.setattr("sys.argv", command)
        runpy.run_path(command[0], run_name="__main__")
    return printed.getvalue()


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """Everything that one run wrote."""
    folder = tmp_path_factory.mktemp("puppets_tiny")
    run(folder)
    return folder


def test_corpus_has_the_splits_and_words(out):
    records = read_manifest(out / "prepared/manifest.jsonl")
    splits = [record.split for record in records]
    assert splits == ["train"] * 10 + ["validation"] * 2 + ["test"] * 4
    assert all(len(record.words) >= 6 and record.words[-1].end_s < 73 / 25 for record in records)


@pytest.mark.parametrize(
    ("stage", "steps", "factor"),
    [("video_codec", 20, 0.8), ("audio_codec", 20, 0.9), ("transformer", 40, 0.9)],
)
def test_losses_fall(out, stage, steps, factor):
    report = json.loads((out / "report.json").read_text())[stage]
    assert report["steps"] == steps
    assert report["last"] < factor * report["first"], report


def test_codecs_are_folders_of_their_own(out):
    video, audio = (load_module(out / "codecs" / name) for name in ("video_codec", "audio_codec"))
    assert isinstance(video, ConvVideoCodec) and isinstance(audio, AudioAutoencoder)
    with torch.inference_mode():
        made = video.decode(torch.zeros(1, 16, 2, 4, 4), num_frames=5, height=64, width=64)
    assert made.shape == (1, 3, 5, 64, 64)


def test_transformer_has_about_a_million_parameters(out):
    transformer = load_module(out / "model/transformer")
    assert 0.5e6 < sum(p.numel() for p in transformer.parameters()) < 2e6


def test_clip_has_what_was_asked_for(out):
    clip = read_clip(out / "demo.mp4", sample_rate=24000)
    assert clip.frames.shape == (73, 64, 64, 3)
    assert clip.fps == Fraction(25)
    assert clip.waveform is not None
    assert clip.waveform.shape == (1, 73 * 24000 // 25)


def test_clip_is_not_constant(out):
    """It differs from place to place and from moment to moment, and it is heard."""
    clip = read_clip(out / "demo.mp4")
    frames = clip.frames.astype(np.float32)
    assert frames.std(axis=(1, 2)).mean() > 4
    assert np.abs(np.diff(frames, axis=0)).mean() > 0.1
    assert clip.waveform is not None
    assert clip.waveform.std() > 1e-3


def test_clip_says_that_it_was_generated(out):
    tags = read_metadata(out / "demo.mp4")
    assert tags["ai_generated"] == "true"
    assert tags["comment"].startswith("AI-generated")
    assert "we paint two red boats today" in tags["avgen_parameters"]
    assert json.loads((out / "demo.mp4.json").read_text())["ai_generated"] is True


def test_a_second_run_does_nothing_again(out):
    """Every stage says that it is finished, and no file is written."""
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    printed = run(out)
    assert printed.count("finished already") == 7
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def test_codecs_that_did_not_make_the_latents_are_refused(out, tmp_path):
    """Latents of one encoder mean nothing to another; another decoder is welcome."""
    video_statistics, audio_statistics = load_statistics(out / "prepared")
    system = SimpleNamespace(
        video_statistics=video_statistics,
        audio_statistics=audio_statistics,
        latents=read_latent_config(out / "prepared"),
        lexicon={},
        device=torch.device("cpu"),
        transformer=load_module(out / "model/transformer"),
        sampling={},
    )
    shutil.copytree(out / "codecs", tmp_path / "codecs")
    codec = load_module(out / "codecs/video_codec")
    with torch.no_grad():
        next(codec.decoder.parameters()).add_(1)
    save_module(codec, tmp_path / "codecs/video_codec")
    build_pipeline(system, out / "prepared", tmp_path / "codecs", 73)
    with torch.no_grad():
        next(codec.encoder.parameters()).add_(1)
    save_module(codec, tmp_path / "codecs/video_codec")
    with pytest.raises(ValueError, match="not the codecs that made the latents"):
        build_pipeline(system, out / "prepared", tmp_path / "codecs", 73)
