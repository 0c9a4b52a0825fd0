"""What is not a clip's: timeline of words, checks of files, judgements, model, health, runs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import psutil
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from avgen import __version__
from avgen.pipeline.request_schema import MAX_TEXT, request_schema
from avgen.studio import judging
from avgen.studio.asking import EXTRA, find_file, read_body
from avgen.studio.desk import MAX_GIVEN_S
from avgen.studio.failures import ApiError, bad
from avgen.studio.videos_api import ERRORS, row_of, studio_of, takes

router = APIRouter(responses=ERRORS)
_FILE = {"type": "object", "required": ["file"], "properties": {
    "file": {"anyOf": [{"type": "string"}, {"type": "object"}]}}}  # fmt: skip


@router.post(
    "/v1/speech/timeline",
    openapi_extra=takes({"type": "object", "required": ["speech"], "properties": {
        "speech": {"type": "string", "maxLength": MAX_TEXT}, "seconds": {"type": "number"},
        "rate": {"type": "number"}}}),
)  # fmt: skip
async def timeline(request: Request) -> dict[str, Any]:
    """When each word of a speech would be said."""
    studio = studio_of(request)
    body = await read_body(request, studio)
    speech = body.get("speech")
    if not isinstance(speech, str) or not speech.strip() or len(speech) > MAX_TEXT:
        raise bad(f"speech must be text of 1 to {MAX_TEXT} characters", "speech")
    seconds = _number(body, "seconds", None, 0.1, studio.settings.max_seconds)
    rate = _number(body, "rate", 1.0, 0.25, 4.0)
    try:
        return await studio.ask("timeline", str(studio.settings.model), speech, seconds, rate)
    except ApiError as error:
        error.param = error.param or "speech"
        raise


def _number(body: dict[str, Any], name: str, default: Any, low: float, high: float) -> Any:
    if body.get(name) in (None, ""):
        return default
    try:
        value = float(body[name])
    except (TypeError, ValueError):
        raise bad(f"{name} is {str(body[name])[:80]!r}; it must be a number", name) from None
    if not low <= value <= high:
        raise bad(f"{name} is {value:g}; it must be from {low:g} to {high:g}", name)
    return value


async def _file(request: Request) -> Path:
    studio = studio_of(request)
    body = await read_body(request, studio)
    if body.get("file") in (None, ""):
        raise bad("file is missing", "file", "missing_field")
    return find_file(body["file"], studio, "file")


@router.post("/v1/content_provenance_checks", openapi_extra=takes(_FILE))
async def provenance(request: Request) -> dict[str, Any]:
    """What a file says of where it came from, layer by layer."""
    path = await _file(request)
    found = await studio_of(request).ask("verify_file", str(path))
    manifest = found["c2pa"]
    state = "valid" if manifest["state"] == "expired" else manifest["state"]
    results: list[dict[str, Any]] = [{
        "type": "c2pa", "outcome": "detected" if manifest["ai"] else "not_detected",
        "validation_state": state, "expired": manifest["state"] == "expired",
        "issuer": manifest["signer"], "model": manifest["generator"],
        "generated_at": None, "reasons": manifest["reasons"],
    }]  # fmt: skip
    for layer in ("picture", "sound"):
        mark = found[layer]
        outcome = "detected" if mark["state"] == "detected" else "not_detected"
        results.append({"type": f"avgen_{layer}", "outcome": outcome, **mark})
    return {"object": "content_provenance_check", "created_at": int(time.time()),
            "results": results, "avgen": found}  # fmt: skip


@router.post("/v1/evaluations", openapi_extra=takes(_FILE))
async def evaluate(request: Request) -> dict[str, Any]:
    """Whether lips and sound of a file fit, with a control."""
    path = await _file(request)
    return await studio_of(request).ask("sync_report", str(path))


@router.post("/v1/peaks", openapi_extra=takes(_FILE))
async def peaks(request: Request) -> dict[str, Any]:
    """The loudness of a file's sound, to draw."""
    path = await _file(request)
    return await studio_of(request).ask("waveform", str(path))


@router.post("/v1/judgements", openapi_extra=takes(judging.SCHEMA))
async def judge(request: Request) -> dict[str, Any]:
    """Keep which of two clips somebody who could not know them preferred."""
    studio = studio_of(request)
    body = await read_body(request, studio)
    kept = judging.checked(body)
    for side in ("a", "b"):
        row_of(studio, kept[side])
    with studio.queue.change() as change:
        change.execute("INSERT INTO judgements (created_at, about) VALUES (?, ?)",
                       (time.time(), json.dumps(kept)))  # fmt: skip
    return kept


@router.get("/v1/judgements")
def judgements(request: Request) -> dict[str, Any]:
    """All judgements, and what they say together."""
    rows = studio_of(request).queue.read("SELECT created_at, about FROM judgements ORDER BY number")
    data = [json.loads(row["about"]) | {"created_at": int(row["created_at"])} for row in rows]
    return {"object": "list", "data": data, "summary": judging.summary(data)}


@router.get("/v1/judgements/pair")
def pair(request: Request, question: Annotated[str, Query(max_length=40)] = "") -> dict[str, Any]:
    """Two clips of the same words, sides drawn, under names that tell nothing."""
    return judging.draw_pair(studio_of(request), question)


@router.get("/v1/judgements/{ticket}/{side}", response_class=Response)
def hidden(request: Request, ticket: str, side: str) -> Response:
    """A clip of a pair, by its side."""
    return judging.content(studio_of(request), ticket, side)


@router.get("/v1/models")
def models(request: Request) -> dict[str, Any]:
    """The model, its limits, and what the page can ask of it."""
    studio, own = studio_of(request), studio_of(request).settings
    readme = own.model / "README.md"
    return {"object": "list", "data": [{
        "id": own.name, "object": "model", "created": int(own.model.stat().st_mtime),
        "owned_by": "avgen",
        "avgen": {
            "version": __version__, "device": own.device, "dtype": own.dtype or "float32",
            "defaults": studio.card, "fault": studio.fault,
            "limits": {"max_seconds": own.max_seconds, "max_pixels": own.max_pixels,
                       "max_queued": own.max_queued, "max_n": EXTRA["n"]["maximum"],
                       "max_given_s": MAX_GIVEN_S},
            "card": readme.read_text(encoding="utf-8") if readme.is_file() else None,
            "schema": request_schema(),
        },
    }]}  # fmt: skip


@router.get("/v1/queue")
def queue(request: Request) -> dict[str, Any]:
    """Whether the queue is paused, and how long clips took lately."""
    return _queue(request)


@router.post("/v1/queue", openapi_extra=takes({"type": "object", "required": ["paused"],
             "properties": {"paused": {"type": "boolean"}}}))  # fmt: skip
async def pause(request: Request) -> dict[str, Any]:
    """Take no new job, or go on; the running one is finished."""
    studio = studio_of(request)
    body = await read_body(request, studio)
    if not isinstance(body.get("paused"), bool):
        raise bad("paused must be true or false", "paused")
    with studio.queue.change() as change:
        change.execute("DELETE FROM settings WHERE name = 'paused'")
        if body["paused"]:
            change.execute("INSERT INTO settings VALUES ('paused', '1')")
    return _queue(request)


def _queue(request: Request) -> dict[str, Any]:
    queue = studio_of(request).queue
    rows = queue.read("SELECT result, options FROM jobs WHERE status = 'completed' "
                      "ORDER BY completed_at DESC LIMIT 10")  # fmt: skip
    costs = []
    for row in rows:
        plan, made = json.loads(row["options"])["plan"], json.loads(row["result"])["metrics"]
        work = plan["num_frames"] * plan["width"] * plan["height"] * plan["steps"]
        costs.append(made["generate_s"] / work)
    cost = sorted(costs)[len(costs) // 2] if costs else None
    paused = bool(queue.read("SELECT 1 FROM settings WHERE name = 'paused'"))
    return {"object": "queue", "paused": paused, "queued": queue.count("queued"),
            "in_progress": queue.count("in_progress"), "s_per_step_pixel": cost}  # fmt: skip


@router.get("/v1/runs")
async def runs(request: Request) -> dict[str, Any]:
    """Training runs in the folder that `--runs` names, read only."""
    studio = studio_of(request)
    folder = studio.settings.runs
    data = [] if folder is None else await studio.ask("training_runs", folder)
    return {"object": "list", "data": data, "folder": folder.name if folder else None}


@router.get("/health")
def health() -> dict[str, str]:
    """The server is there."""
    return {"status": "ok", "version": __version__}


@router.get("/ready")
def ready(request: Request) -> Response:
    """A clip that is asked for now will be made: the model is known, the worker runs."""
    studio = studio_of(request)
    worker = studio.worker is not None and studio.worker.poll() is None
    if studio.card is None or not worker:
        why = studio.fault or "the model is being loaded"
        raise ApiError(503, "loading", why, retry_after_s=None if studio.fault else 2)
    return JSONResponse({"status": "ready", "model": studio.settings.name})


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request) -> Response:
    """Counts for monitors, in Prometheus' text format."""
    studio = studio_of(request)
    lines = ["# TYPE avgen_jobs gauge"]
    for status in ("queued", "in_progress", "completed", "failed"):
        lines.append(f'avgen_jobs{{status="{status}"}} {studio.queue.count(status)}')
    lines += [
        "# TYPE avgen_worker_deaths_total counter",
        f"avgen_worker_deaths_total {studio.deaths}",
        "# TYPE avgen_watchers gauge",
        f"avgen_watchers {request.app.state.events.watchers}",
        "# TYPE process_resident_memory_bytes gauge",
        f"process_resident_memory_bytes {psutil.Process(os.getpid()).memory_info().rss}",
    ]
    return PlainTextResponse("\n".join(lines) + "\n")
