"""A prepared folder with latents, small enough to train on in seconds, and the recipe that does."""

import json
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from avgen.clips.timed_words import Word
from avgen.corpora.manifest import ClipRecord, write_manifest
from avgen.preparation.latent_store import ClipShape, LatentConfig, save_latents, write_statistics

NUM_FRAMES = 9


def prepare_latents(folder: Path, num_train: int = 8, num_validation: int = 2) -> LatentConfig:
    """Random latents of clips of nine frames at 32x32; no two channels are scaled alike."""
    config = LatentConfig(32, 32, str(Fraction(25)), (4, 16, 16), 4, 2, 24000, 320, 4, 3, "none")
    video, audio = config.grids(NUM_FRAMES)
    (folder / "latents").mkdir(parents=True)
    records = []
    generator = torch.Generator().manual_seed(0)
    for clip in range(num_train + num_validation):
        split = "train" if clip < num_train else "validation"
        words = (Word("red", 0.05, 0.2), Word("now", 0.2, 0.35))
        records.append(
            ClipRecord(
                f"c{clip}", f"c{clip}.mp4", "fake", "s0", split, "a man", words, None, "none"
            )
        )
        scale = torch.tensor([0.5, 1.0, 2.0, 4.0])
        latents = {
            "video": scale[:, None, None, None]
            * torch.randn(4, video.num_latents, 2, 2, generator=generator)
            + 1,
            "audio": scale[:, None] * torch.randn(4, audio.num_latents, generator=generator) - 3,
        }
        latents["still"] = latents["video"] + 100
        save_file(latents, folder / "latents" / f"c{clip}.safetensors")
    write_manifest(records, folder / "manifest.jsonl")
    (folder / "latents" / "config.json").write_text(json.dumps(asdict(config)))
    (folder / "lexicon.json").write_text("{}")
    write_statistics(
        folder / "latents", [record for record in records if record.split == "train"], config
    )
    return config


@pytest.fixture
def prepared_latents(tmp_path) -> Path:
    """The folder."""
    prepare_latents(tmp_path / "prepared")
    return tmp_path / "prepared"


@pytest.fixture
def recipe(prepared_latents) -> dict:
    """A recipe like recipes/grid/config.yaml: four steps an epoch, a checkpoint every third."""
    callbacks = "lightning.pytorch.callbacks"
    checkpoint = {
        "filename": "{step}",
        "save_last": True,
        "every_n_train_steps": 3,
        "save_top_k": 1,
    }
    return {
        "seed_everything": 0,
        "model": {
            "class_path": "avgen.training.system.DiffusionSystem",
            "init_args": {
                "folder": str(prepared_latents),
                "network": {"width": 32, "depth": 1, "num_heads": 2},
                "optimizer": {"lr": 0.01, "warmup_steps": 2, "total_steps": 12},
                "sigmas": {
                    "class_path": "avgen.diffusion.schedules.IndependentSigma",
                    "init_args": {
                        "base": {"mean": 0.0, "std": 1.0, "uniform_fraction": 0.2},
                        "shifts": {"video": 1.0, "audio": 1.0},
                    },
                },
                "tasks": {"weights": {"everything": 0.5, "sound": 0.25, "middle": 0.25}},
                "drops": {"both": 0.1},
                "weights": {"mouth": 2.0},
            },
        },
        "data": {
            "class_path": "avgen.training.data.ClipData",
            "init_args": {
                "folder": str(prepared_latents),
                "batching": {
                    "class_path": "avgen.training.batches.Buckets",
                    "init_args": {"batch_size": 2, "lengths_s": [NUM_FRAMES / 25]},
                },
            },
        },
        "trainer": {
            "accelerator": "cpu",
            "precision": "32-true",
            "max_steps": 12,
            "max_epochs": -1,
            "gradient_clip_val": 1.0,
            "use_distributed_sampler": False,
            "enable_model_summary": False,
            "enable_progress_bar": False,
            "logger": False,
            "num_sanity_val_steps": 0,
            "callbacks": [
                {"class_path": f"{callbacks}.EMAWeightAveraging", "init_args": {"decay": 0.9}},
                {"class_path": f"{callbacks}.ModelCheckpoint", "init_args": checkpoint},
            ],
        },
    }


# Shapes of a mixed corpus, three clips each: sizes, aspect ratios, lengths and rates; two of them
# without sound.
SHAPES = (
    ClipShape(17, 32, 32, Fraction(25), True),
    ClipShape(13, 32, 64, Fraction(30000, 1001), True),
    ClipShape(21, 64, 32, Fraction(24), False),
    ClipShape(9, 48, 32, Fraction(30), True),
    ClipShape(17, 32, 32, Fraction(25), False),
)


def prepare_mixed(folder: Path) -> LatentConfig:
    """Random latents of clips of `SHAPES`; every second one has no words."""
    config = LatentConfig(32, 32, "25", (4, 16, 16), 4, 2, 24000, 320, 4, 3, "none")
    (folder / "latents").mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    records = []
    for number in range(4 * len(SHAPES)):
        shape = SHAPES[number % len(SHAPES)]
        video, audio = config.clip_grids(shape)
        words = () if number % 2 else (Word("red", 0.05, 0.2),)
        split = "validation" if number >= 3 * len(SHAPES) else "train"
        name = f"m{number}"
        records.append(
            ClipRecord(name, f"{name}.mp4", "fake", "s0", split, "a man", words, None, "none")
        )
        size = (4, video.num_latents, *video.latent_size)
        latents = {"video": torch.randn(size, generator=generator) + 1}
        latents["still"] = latents["video"] + 100
        if shape.has_sound:
            latents["audio"] = torch.randn(4, audio.num_latents, generator=generator) - 3
        save_latents(folder / "latents" / f"{name}.safetensors", latents, shape)
    write_manifest(records, folder / "manifest.jsonl")
    (folder / "latents" / "config.json").write_text(json.dumps(asdict(config)))
    (folder / "lexicon.json").write_text("{}")
    write_statistics(
        folder / "latents", [record for record in records if record.split == "train"], config
    )
    return config


@pytest.fixture
def prepared_mixed(tmp_path) -> Path:
    """The folder."""
    prepare_mixed(tmp_path / "mixed")
    return tmp_path / "mixed"
