"""A row of the queue in, the object that the API calls a video out: OpenAI's, with `avgen`."""

from __future__ import annotations

import json
from typing import Any

from avgen.studio.queue import Queue

# Percent that phases stand at; denoising goes from DENOISING to DECODING.
DENOISING, DECODING = 2, 90
PERCENT = {"encoding": 1, "decoding": DECODING, "signing": 97, "measuring": 99}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["id", "object", "created_at", "status", "model", "progress", "seconds", "size"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "video"},
        "created_at": {"type": "integer"},
        "completed_at": {"type": ["integer", "null"]},
        "expires_at": {"type": "null"},
        "status": {"enum": ["queued", "in_progress", "completed", "failed"]},
        "model": {"type": "string"},
        "prompt": {"type": ["string", "null"]},
        "progress": {"type": "integer", "minimum": 0, "maximum": 100},
        "seconds": {"type": "string"},
        "size": {"type": "string"},
        "remixed_from_video_id": {"type": ["string", "null"]},
        "error": {"type": ["object", "null"]},
        "avgen": {"type": "object"},
    },
}


def percent(progress: dict[str, Any]) -> int:
    """How much of a job is done, 0 to 99."""
    phase = progress.get("phase", "")
    if phase == "denoising":
        return round(DENOISING + progress["share"] * (DECODING - DENOISING))
    return PERCENT.get(phase, 0)


def video_object(row: dict[str, Any], queue: Queue, model: str) -> dict[str, Any]:
    """The object of a job."""
    request, options = json.loads(row["request"]), json.loads(row["options"])
    progress = json.loads(row["progress"])
    result = json.loads(row["result"]) if row["result"] else {}
    error = json.loads(row["error"]) if row["error"] else None
    plan = options.get("plan", {})
    status, phase = row["status"], progress.get("phase")
    states = {"in_progress": "cancelling" if row["cancelling"] else phase or "in_progress"}
    if error and error["code"] == "cancelled":
        states["failed"] = "cancelled"
    done = 100 if status == "completed" else percent(progress) if status == "in_progress" else 0
    return {
        "id": row["id"],
        "object": "video",
        "created_at": int(row["created_at"]),
        "completed_at": int(row["completed_at"]) if row["completed_at"] else None,
        "expires_at": None,
        "status": status,
        "model": model,
        "prompt": request.get("prompt") or request.get("speech"),
        "progress": done,
        "seconds": f"{plan.get('seconds', 0):g}",
        "size": f"{plan.get('width', 0)}x{plan.get('height', 0)}",
        "remixed_from_video_id": options.get("remixed_from"),
        "error": error and {"type": "server_error" if error["code"] in _OURS else
                            "invalid_request_error", "param": None, **error},
        "metadata": options.get("metadata"),
        "avgen": {
            "state": states.get(status, status),
            "queue_position": queue.position(row),
            **{name: progress.get(name) for name in ("phase", "step", "steps", "eta_s")},
            "preview": preview_url(row["id"], progress) if status == "in_progress" else None,
            "seed": request.get("seed", 0),
            "words": plan.get("words"),
            "fps": plan.get("fps"),
            "num_frames": plan.get("num_frames"),
            "request": {k: "given" if k in options.get("given", ()) else v
                        for k, v in request.items()},
            "given": options.get("given", []),
            "crop": options.get("crop"),
            "group": row["collection"],
            "favourite": bool(row["favourite"]),
            "tries": row["tries"],
            "metrics": result.get("metrics"),
            "energy": result.get("energy"),
            "provenance": result.get("provenance"),
            "sha256": result.get("sha256"),
        },
    }  # fmt: skip


_OURS = ("worker_died", "out_of_memory", "disk_full", "server_error", "not_written", "timeout")


def preview_url(job: str, progress: dict[str, Any]) -> str | None:
    """Where the newest preview is; another address each time, so that browsers do not keep it."""
    at = progress.get("preview")
    return f"/v1/videos/{job}/preview?step={progress.get('window', 0)}-{at}" if at else None
