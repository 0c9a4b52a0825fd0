"""Looking while it trains: what is logged of a tiny model's clips, and of real ones."""

import csv
import json
import logging
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import yaml
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from avgen.clips import Clip, Word, read_clip
from avgen.codecs.base import load_module
from avgen.corpora.manifest import ClipRecord
from avgen.preparation.latent_store import ClipShape, encoder_fingerprint
from avgen.training.callbacks import (
    WORDLESS,
    Samples,
    log_clip,
    measure_clips,
    timer_of,
    usual_caption,
)
from avgen.training.sharding import ShardedEMA

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


def record(name, words=(), caption="a man"):
    return ClipRecord(name, "", "fake", "s", "train", caption, words, None, "none")


def test_every_clip_has_its_own_length_in_the_silence_after_words():
    """2 s and 10 s, with 0.25 s after the last word of each (faults.md, 3.6)."""
    shapes = [ClipShape(frames, 32, 32, Fraction(25), True) for frames in (50, 250, 250)]
    records = [
        record("short", (Word("red", 0.5, 1.75),)),
        record("long", (Word("red", 0.5, 9.75),)),
        record("silent"),
    ]
    timer = timer_of(records, shapes, {})
    assert timer.tail_s == pytest.approx(0.25)
    assert timer.lead_s == pytest.approx(0.5)
    assert timer_of(records[2:], shapes[2:], {}) is None


def test_the_caption_of_a_model_is_that_of_most_clips_or_of_nobody():
    man, women = record("a"), [record(f"b{i}", caption=f"woman {i}") for i in range(2)]
    assert usual_caption([man, man, *women[:1]]) == "a man"
    assert usual_caption([man, *women]) == ""


def test_a_model_without_words_says_that_it_cannot_say_any():
    with pytest.raises(ValueError, match="trained on clips without words; it cannot say any"):
        WORDLESS.time("red")


@pytest.mark.parametrize("average", [EMAWeightAveraging(decay=0.9), ShardedEMA(decay=0.9)])
def test_what_watches_stands_before_the_average(tmp_path, average):
    samples = Samples(tmp_path, tmp_path, ["a man"], num_frames=9)
    trainer = L.Trainer(accelerator="cpu", logger=False, callbacks=[average, samples])
    with pytest.raises(ValueError, match=f"Samples stands after {type(average).__name__}; it must"):
        samples.setup(trainer, L.LightningModule(), "fit")
    trainer = L.Trainer(accelerator="cpu", logger=False, callbacks=[samples, average])
    samples.setup(trainer, L.LightningModule(), "fit")


class Board(WandbLogger):
    """Stands in for the service: keeps what it is given."""

    def __init__(self):
        self.logged = {}

    def log_image(self, key, images, step=None, **kwargs):
        self.logged[key] = images[0], step

    def log_audio(self, key, audios, step=None, **kwargs):
        self.logged[key] = audios[0], step, kwargs["sample_rate"]


def test_samples_go_to_loggers_that_take_them_and_others_are_named(tmp_path, caplog):
    clip = Clip(
        np.arange(9, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(6, 2).repeat(3, 3),
        Fraction(25),
        np.full((1, 8640), 0.25, np.float32),
        24000,
    )
    samples = Samples(tmp_path, tmp_path, ["a man", "a woman"], num_frames=9)
    board = Board()
    trainer = SimpleNamespace(loggers=[CSVLogger(tmp_path), board], global_step=7)
    with caplog.at_level(logging.WARNING, "avgen.training.callbacks"):
        samples.log_clips({0: clip, 1: clip}, trainer)
    assert caplog.text.count("samples are not logged by CSVLogger: it takes no pictures") == 1
    sheet, step = board.logged["sample_1/frames"]
    assert sheet.shape == (4, 12 * 6, 3)
    assert sheet[0, ::6, 0].tolist() == [0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 7, 8]
    stereo = replace(clip, waveform=np.concatenate([clip.waveform, -0.75 * clip.waveform]))
    board_on_disk = TensorBoardLogger(tmp_path, "events")
    assert log_clip(board_on_disk, "both", stereo, 7)
    board_on_disk.experiment.flush()
    events = EventAccumulator(board_on_disk.log_dir)
    events.Reload()
    assert events.Audio("both")[0].sample_rate == 24000
    sound, _, rate = board.logged["sample_0/sound"]
    assert (step, sound.shape, float(sound[5]), rate) == (7, (8640,), 0.25, [24000])
