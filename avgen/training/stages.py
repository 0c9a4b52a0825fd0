"""A recipe of several stages: one that is finished is skipped, a training resumes.

OUT/report.json         seconds of every stage, and what it came to
OUT/runs/NAME           logs and checkpoints of a training
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from avgen.clips.files import atomic
from avgen.training.lightning_cli import main as train
from avgen.training.lightning_cli import read_recipe
from avgen.training.model_export import export

Stage = tuple[Path, Callable[[], Mapping[str, Any] | None]]  # what it makes last, and how


def run_stages(out: Path, stages: Mapping[str, Stage]) -> Iterator[str]:
    """Run every stage that `report.json` does not tell of, in order; yields a line about each.

    A stage whose result is gone runs again. What each came to is kept in the report.
    """
    report = out / "report.json"
    for name, (made, stage) in stages.items():
        known = json.loads(report.read_text()) if report.is_file() else {}
        if name in known and made.exists():
            yield f"{name}: finished already"
            continue
        started = time.monotonic()
        result = stage() or {}
        assert made.exists(), f"{name} did not make {made}"
        result = {"seconds": round(time.monotonic() - started, 1), **result}
        with atomic(report) as temporary:
            temporary.write_text(json.dumps(known | {name: result}, indent=2) + "\n")
        yield f"{name}: {json.dumps(result)}"


def train_stage(
    out: Path,
    recipe: Path,
    made: Path,
    overrides: Sequence[str] = (),
    codecs: Path | None = None,
    steps_scale: float = 1.0,
) -> dict[str, Any]:
    """Train a recipe from its last checkpoint on, if any, and export what it trained.

    Args:
        out: The folder of the run; its logs and checkpoints go to `runs/` there.
        recipe: Its file.
        made: Where the codec or the model goes.
        overrides: As `avgen train` takes them, folders first of all.
        codecs: A folder with video_codec and audio_codec, which a model holds.
        steps_scale: Factor on the steps.

    Returns:
        How many steps, and the loss at both ends, as means over a tenth of what was logged.
    """
    runs = out / "runs" / f"{recipe.parent.name}_{recipe.stem}"
    values = read_recipe(recipe)
    steps = max(1, round(values["trainer"]["max_steps"] * steps_scale))
    warmup = values["model"]["init_args"]["optimizer"]["warmup_steps"]
    settings = {
        "trainer.default_root_dir": runs,
        "trainer.max_steps": steps,
        "model.init_args.optimizer.total_steps": steps,
        "model.init_args.optimizer.warmup_steps": max(1, min(warmup, steps // 10)),
    }
    # One process: of several, Lightning would start this whole script anew for each of the others.
    arguments = ["--config", str(recipe), "--trainer.devices", "1", *overrides]
    for key, value in settings.items():
        arguments += [f"--{key}", str(value)]
    last = runs / "last.ckpt"
    train([*arguments, "--ckpt_path", str(last)] if last.exists() else arguments)
    export(last, arguments, codecs, made)
    losses = logged(runs)
    edge = max(1, len(losses) // 10)
    return {
        "steps": steps,
        "first": sum(losses[:edge]) / edge,
        "last": sum(losses[-edge:]) / edge,
    }


TAGS = ("train/loss", "train/absolute", "train/mel")  # of the transformer and of both codecs


def logged(folder: Path) -> list[float]:
    """All values of the loss that a training and its resumptions logged, by step."""
    values = {}
    events = folder.glob("lightning_logs/version_*/events.*")
    for path in sorted(events, key=lambda path: path.stat().st_mtime):
        accumulated = EventAccumulator(str(path))
        accumulated.Reload()
        for tag in set(TAGS) & set(accumulated.Tags()["scalars"]):
            values |= {event.step: event.value for event in accumulated.Scalars(tag)}
    return [values[step] for step in sorted(values)]
