"""Puppets -> codecs -> transformer -> a clip, all of it from nothing, in minutes on two cores.

`python recipes/puppets_tiny/run.py OUT` writes

    OUT/corpus/             puppets, drawn and spoken here
    OUT/prepared/           their frames, waveforms and latents
    OUT/runs/               logs and checkpoints of the three trainings
    OUT/codecs/, OUT/model/ what was trained, with averaged weights
    OUT/demo.mp4            a clip that the model made, of a sentence of the puppets' grammar
    OUT/report.json         seconds of each stage, losses of each training

Run again, it skips what is finished and resumes a training from its last checkpoint. Another
`--steps-scale` or `--clips` wants another OUT.
"""

import argparse
import json
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from avgen import cli
from avgen.codecs.base import load_module
from avgen.corpora.manifest import read_manifest
from avgen.corpora.puppets.dataset import PuppetCorpus, write_puppets
from avgen.training.lightning_cli import main as train
from avgen.training.model_export import export_codec, export_model
from avgen.training.prepared import encode, prepare

RECIPES = Path(__file__).parent
CODECS = ("video_codec", "audio_codec")
SIZE = (64, 64)
FPS = 25
NUM_FRAMES = 73  # 1 + 4 * 18: what config.yaml trains on
SAMPLE_RATE = 24000
NUM_PUPPETS = 4
NUM_CLIPS = 112
SAVED_EVERY = 20  # steps between checkpoints in the recipes, so that the last step has one
SPEECH = "we paint two red boats today"
# What is logged of each training, and compared between its beginning and its end.
LOSSES = {"video_codec": "train/absolute", "audio_codec": "train/mel", "config": "train/loss"}


def main() -> None:
    """Run every stage that is not finished."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="a folder for everything")
    parser.add_argument("--steps-scale", type=float, default=1.0, help="of all three trainings")
    parser.add_argument("--clips", type=int, default=NUM_CLIPS, help="puppets' clips in all")
    args = parser.parse_args()
    if args.clips < 16:
        parser.error(f"--clips {args.clips}: at least 16, 8 of them for a batch")
    run(args.out, args.steps_scale, args.clips)


def run(out: Path, steps_scale: float, num_clips: int) -> None:
    """Run every stage that is not finished.

    Args:
        out: A folder for everything.
        steps_scale: Factor on the steps of all three trainings.
        num_clips: Clips of puppets, an eighth of them for validation, four for testing.
    """
    stages: dict[str, tuple[Path, Callable[[], Any]]] = {
        "corpus": (out / "corpus/manifest.jsonl", lambda: write_corpus(out, num_clips)),
        "prepare": (out / "prepared/manifest.jsonl", lambda: prepare_corpus(out)),
    }
    for name in CODECS:
        stages[name] = (
            out / "codecs" / name / "config.json",
            lambda name=name: train_codec(out, name, steps_scale),
        )
    stages["encode"] = (out / "prepared/latents/statistics.json", lambda: encode_corpus(out))
    stages["transformer"] = (out / "model/config.json", lambda: train_model(out, steps_scale))
    stages["demo"] = (out / "demo.mp4", lambda: make_demo(out))
    for name, (made, stage) in stages.items():
        if made.is_file():
            print(f"{name}: finished already")
            continue
        started = time.monotonic()
        result = stage()
        note(out, name, {"seconds": round(time.monotonic() - started, 1)} | (result or {}))


def note(out: Path, stage: str, result: dict[str, Any]) -> None:
    """Print what a stage came to, and keep it in `report.json`."""
    path = out / "report.json"
    report = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(report | {stage: result}, indent=2) + "\n")
    print(f"{stage}: {json.dumps(result)}")


def write_corpus(out: Path, num_clips: int) -> None:
    """Draw and speak the puppets."""
    corpus = PuppetCorpus(
        num_clips=num_clips,
        num_puppets=NUM_PUPPETS,
        seed=0,
        height=SIZE[0],
        width=SIZE[1],
        fps=str(FPS),
        seconds=NUM_FRAMES / FPS,
        num_validation=num_clips // 8,
        num_test=4,
    )
    write_puppets(out / "corpus", corpus)


def prepare_corpus(out: Path) -> None:
    """Store frames and waveforms."""
    corpus = out / "corpus"
    records = read_manifest(corpus / "manifest.jsonl")
    (out / "prepared").mkdir(exist_ok=True)
    failures = prepare(records, corpus, out / "prepared", SIZE, Fraction(FPS), SAMPLE_RATE)
    if failures:
        raise ValueError("; ".join(failures))


def encode_corpus(out: Path) -> None:
    """Cache the latents of both codecs."""
    encode(out / "prepared", *(load_module(out / "codecs" / name) for name in CODECS))


def train_codec(out: Path, name: str, steps_scale: float) -> dict[str, Any]:
    """Train one codec and save it."""
    recipe, result = train_recipe(out, name, steps_scale)
    export_codec(last_checkpoint(out, name), recipe, out / "codecs" / name)
    return result


def train_model(out: Path, steps_scale: float) -> dict[str, Any]:
    """Train the transformer and save it with both codecs."""
    folder = ["--model.init_args.folder", str(out / "prepared")]
    recipe, result = train_recipe(out, "config", steps_scale, folder)
    export_model(last_checkpoint(out, "config"), recipe, out / "codecs", out / "model")
    return result


def train_recipe(
    out: Path, name: str, steps_scale: float, overrides: list[str] | None = None
) -> tuple[list[str], dict[str, Any]]:
    """Train what `name`.yaml describes, from its last checkpoint on where there is one.

    Returns:
        What `avgen train` would be given for the same, and how the loss went.
    """
    path = RECIPES / f"{name}.yaml"
    values = yaml.safe_load(path.read_text())
    steps = SAVED_EVERY * max(1, round(values["trainer"]["max_steps"] * steps_scale / SAVED_EVERY))
    warmup = values["model"]["init_args"]["optimizer"]["warmup_steps"]
    settings = {
        "data.init_args.folder": out / "prepared",
        "trainer.default_root_dir": out / "runs" / name,
        "trainer.max_steps": steps,
        "model.init_args.optimizer.total_steps": steps,
        "model.init_args.optimizer.warmup_steps": max(1, min(warmup, steps // 10)),
    }
    recipe = ["--config", str(path), *(overrides or [])]
    for key, value in settings.items():
        recipe += [f"--{key}", str(value)]
    checkpoint = last_checkpoint(out, name)
    train(recipe if checkpoint is None else [*recipe, "--ckpt_path", str(checkpoint)])
    losses = logged(out / "runs" / name, LOSSES[name])
    edge = max(1, len(losses) // 10)
    return recipe, {
        "steps": steps,
        "loss": LOSSES[name],
        "first": sum(losses[:edge]) / edge,
        "last": sum(losses[-edge:]) / edge,
    }


def last_checkpoint(out: Path, name: str) -> Path | None:
    """The newest `last.ckpt` of a training, whose every start has a folder of its own."""
    found = (out / "runs" / name).glob("lightning_logs/version_*/checkpoints/last.ckpt")
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def logged(folder: Path, tag: str) -> list[float]:
    """All values of one scalar that a training and its resumptions logged, by step."""
    values = {}
    for path in sorted(folder.glob("lightning_logs/version_*/events.*"), key=mtime):
        events = EventAccumulator(str(path))
        events.Reload()
        if tag in events.Tags()["scalars"]:
            values |= {event.step: event.value for event in events.Scalars(tag)}
    return [values[step] for step in sorted(values)]


def mtime(path: Path) -> float:
    """When a file was last written."""
    return path.stat().st_mtime


def make_demo(out: Path) -> None:
    """Generate a clip as a user would."""
    caption = read_manifest(out / "corpus/manifest.jsonl")[0].caption
    arguments = ["--model", str(out / "model"), "--prompt", f'{caption} says "{SPEECH}"']
    arguments += ["--num-frames", str(NUM_FRAMES), "--seed", "1", "-o", str(out / "demo.mp4")]
    code = cli.main(["generate", *arguments, "--overwrite"])
    if code:
        raise RuntimeError(f"avgen generate ended with {code}")


if __name__ == "__main__":
    main()
