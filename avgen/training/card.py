"""A trained model -> its card: what it is, of which data, how it was trained, what that took.

Everything here is read from the run's own files; what only people can say (how good it is, what it
is not for) is left to them, with a line that says so.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from avgen import __version__
from avgen.clips.files import atomic
from avgen.corpora.manifest import ClipRecord, read_manifest
from avgen.preparation.latent_store import read_latent_config, read_shapes

PROVENANCE = "avgen"  # where a checkpoint keeps `provenance`
SPLITS = ("train", "validation", "test")


@cache
def provenance() -> dict[str, str]:
    """The version of avgen that runs, and its commit ("unknown" where it is no git checkout)."""
    folder = Path(__file__).parent
    git = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=True, timeout=10)
        commit = done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = "unknown"
    return {"version": __version__, "commit": commit}


def write_card(
    out: Path,
    parts: Mapping[str, nn.Module],
    folder: Path,
    checkpoint: Mapping[str, Any],
    seed: int,
) -> bool:
    """Write `README.md` of a model folder, if it has none: people may have written theirs.

    Args:
        out: The model folder.
        parts: Its networks by name.
        folder: The prepared folder that it was trained on.
        checkpoint: Lightning's, as `read_checkpoint` reads it.
        seed: Of the run.

    Returns:
        Whether it was written.
    """
    path = out / "README.md"
    if path.exists():
        return False
    sections = [
        f"# {out.name}",
        networks(parts),
        data(folder),
        training(checkpoint, seed),
        "**Results.** To be written by who measures them: `avgen evaluate` on the test split.",
        "**Limits.** To be written by who publishes this: what it cannot do, what it is not for, "
        "and whether the people in the data agreed to be imitated.",
        "Every clip made says in its tags that it is AI-generated.",
    ]
    with atomic(path) as temporary:
        temporary.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return True


def networks(parts: Mapping[str, nn.Module]) -> str:
    """A table of the networks, their classes and sizes."""
    lines = ["| part | class | parameters |", "|---|---|---|"]
    for name, module in parts.items():
        count = sum(parameter.numel() for parameter in module.parameters())
        lines.append(f"| {name} | {type(module).__name__} | {count / 1e6:.1f} M |")
    return "\n".join(lines)


def data(folder: Path) -> str:
    """What was trained on: clips, hours and speakers of each split; corpora; licences.

    The hours are those of the clips in the folder, of which a recipe may use parts.
    """
    records = read_manifest(folder / "manifest.jsonl")
    config = read_latent_config(folder)
    seconds: Counter[str] = Counter()
    mute = 0
    for record, shape in zip(records, read_shapes(folder, records, config), strict=True):
        seconds[record.split] += float(shape.num_frames / shape.fps)  # pyright: ignore[reportArgumentType]
        mute += not shape.has_sound
    lines = ["| split | clips | hours | speakers |", "|---|---|---|---|"]
    for split in SPLITS:
        own = [record for record in records if record.split == split]
        speakers = len({(record.corpus, record.speaker) for record in own})
        lines.append(f"| {split} | {len(own)} | {seconds[split] / 3600:.2f} | {speakers} |")
    wordless = sum(not record.words for record in records)
    size = f"{config.width}x{config.height} at {config.fps} fps"
    return "\n".join(
        [
            f"**Data.** {size} (where a clip's own are not others), sound at {config.sample_rate} "
            f"Hz; {mute} clips without sound, {wordless} without words.\n",
            *lines,
            "",
            f"Corpora: {counted(records, 'corpus')}.",
            f"Licences, as the corpora state them: {counted(records, 'licence')}. "
            "Whoever uses this model should hold to each.",
        ]
    )


def counted(records: Sequence[ClipRecord], field: str) -> str:
    """Values of a field of the records, the most frequent first, with how many have each."""
    counts = Counter(getattr(record, field) or "not stated" for record in records)
    return "; ".join(f"{value} ({count} clips)" for value, count in counts.most_common())


def training(checkpoint: Mapping[str, Any], seed: int) -> str:
    """Steps, epochs, seed, versions, and what the run logged that it took."""
    made = checkpoint.get(PROVENANCE, {"version": "unknown", "commit": "unknown"})
    took = checkpoint.get("callbacks", {}).get("Throughput", {})
    hours, energy = "hours were not logged", "energy was not measured"
    if took.get("seconds") is not None:
        hours = f"{took['seconds'] / 3600:.2f} hours a process, all waiting included"
    if took.get("joules") is not None:
        energy = f"{took['joules'] / 3.6e6:.3f} kWh, of the first process's device alone"
    return (
        f"**Training.** {checkpoint['global_step']} steps, {checkpoint['epoch'] + 1} epochs begun, "
        f"seed {seed}; {hours}; {energy}. avgen {made['version']}, commit {made['commit']}, torch "
        f"{torch.__version__}."
    )
