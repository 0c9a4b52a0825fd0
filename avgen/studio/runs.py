"""A folder of training runs in, their curves and newest samples out: read, never written."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

MAX_RUNS, MAX_POINTS, MAX_TAGS, MAX_SAMPLES = 20, 300, 60, 8


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """The newest runs below a folder that TensorBoard's files are in.

    Returns:
        Of each: "name", "updated_at", "curves" {tag: [[step, value], ...]}, and "samples"
        [{"tag", "step", "image"}], images as base64 of PNG.
    """
    events = sorted(folder.rglob("events.out.tfevents.*"), key=lambda p: -p.stat().st_mtime)
    places = list(dict.fromkeys(path.parent for path in events))[:MAX_RUNS]
    return [_read(place, folder) for place in places]


def _read(place: Path, folder: Path) -> dict[str, Any]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    held = EventAccumulator(str(place), {"scalars": MAX_POINTS, "images": 1})
    held.Reload()
    tags = held.Tags()
    curves = {
        tag: [[point.step, point.value] for point in held.Scalars(tag)]
        for tag in sorted(tags["scalars"])[:MAX_TAGS]
    }
    samples = []
    for tag in sorted(tags["images"])[:MAX_SAMPLES]:
        newest = held.Images(tag)[-1]
        image = base64.b64encode(newest.encoded_image_string).decode()
        samples.append({"tag": tag, "step": newest.step, "image": image})
    updated = max(path.stat().st_mtime for path in place.glob("events.out.tfevents.*"))
    return {
        "name": str(place.relative_to(folder)),
        "updated_at": int(updated),
        "curves": curves,
        "samples": samples,
    }
