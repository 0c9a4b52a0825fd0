"""Looking while it trains: what is logged of a tiny model's clips, and of real ones."""

import csv
import json
import logging
from fractions import Fraction

import numpy as np
import pytest
import yaml

from avgen.clips import Clip, read_clip
from avgen.codecs.base import load_module
from avgen.training.callbacks import measure_clips
from avgen.training.prepared import encoder_fingerprint

pytestmark = pytest.mark.filterwarnings("ignore")


def parrot(waveform, sample_rate):
    return ["red", "cow"]


def test_clips_are_made_and_what_cannot_be_scored_is_said(
    recipe, prepared_latents, tiny_model, tmp_path, caplog
):
    from avgen.training.lightning_cli import main

    parts = [load_module(tiny_model / name) for name in ("video_codec", "audio_codec")]
    path = prepared_latents / "latents" / "config.json"
    config = json.loads(path.read_text()) | {"fingerprint": encoder_fingerprint(*parts)}
    path.write_text(json.dumps(config))
    arguments = {
        "folder": str(prepared_latents),
        "codecs": str(tiny_model),
        "num_frames": 9,
        "num_clips": 2,
        "recognizer": f"{__name__}.parrot",
    }
    trainer = recipe["trainer"]
    trainer["callbacks"] = [
        {"class_path": "avgen.training.callbacks.Synchrony", "init_args": arguments},
        trainer["callbacks"][0],
    ]
    trainer["logger"] = {
        "class_path": "lightning.pytorch.loggers.CSVLogger",
        "init_args": {"save_dir": str(tmp_path), "name": "log", "flush_logs_every_n_steps": 1},
    }
    trainer |= {"max_steps": 2, "val_check_interval": 2}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with caplog.at_level(logging.WARNING, "avgen.training.callbacks"):
        main(["--config", str(tmp_path / "recipe.yaml")])
    with (tmp_path / "log/version_0/metrics.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line.get("sync/scored")]
    assert [line["step"] for line in lines] == ["2"]
    assert float(lines[0]["sync/scored"]) == 0  # too short for any lag
    assert float(lines[0]["speech/word_error_rate"]) == 1 / 2  # "red now", heard "red cow"
    assert "sync/r0" not in lines[0]
    assert "validation clip 1: no sync: lasts 0.36 s; an offset needs 1 s" in caplog.text


def test_real_clips_are_in_sync_and_their_controls_are_not(clips_folder):
    paths = sorted((clips_folder / "grid" / "others").glob("*.mpg"))[:3]
    if len(paths) < 3:
        pytest.skip("no clips of other speakers")
    clips = [
        read_clip(path, fps=Fraction(25), sample_rate=16_000, num_channels=1) for path in paths
    ]
    found = measure_clips(clips, [""] * 3)
    assert found["sync/scored"] == 1
    assert found["sync/within_one_frame"] == 1
    assert found["sync/within_one_frame_delayed"] == 0
    assert found["sync/r0"] > found["sync/r0_mismatched"] + 0.1
    assert found["sync/r0"] > found["sync/r0_delayed"] + 0.1
    assert not any(name.startswith("speech") for name in found)


def test_one_clip_alone_has_no_mismatched_control(caplog):
    frames = np.zeros((30, 32, 32, 3), np.uint8)
    silent = Clip(frames, Fraction(25), np.zeros((1, 19_200), np.float32), 16_000)
    assert measure_clips([silent], ["red"]) == {"sync/scored": 0}
    assert "no sync: no face was found" in caplog.text
