"""/v1/files and /v1/batches: many clips asked for by one file, as OpenAI's Batch API has them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from starlette.formparsers import MultiPartException
from starlette.requests import Request as Plain

from avgen import __version__
from avgen.errors import UserError
from avgen.pipeline.request_schema import recorded
from avgen.studio.asking import MAX_UPLOAD, keep_bytes, read_body
from avgen.studio.failures import ApiError, bad, missing
from avgen.studio.lines import URL, read_lines
from avgen.studio.places import new_id
from avgen.studio.queue import insert
from avgen.studio.state import Studio
from avgen.studio.video_object import video_object
from avgen.studio.videos_api import ERRORS, studio_of, takes

router = APIRouter(responses=ERRORS)
MAX_LINES = 2000
MAX_WAITING = 20_000  # clips of all batches; they let others pass
_FILE = {"type": "object", "required": ["file", "purpose"], "properties": {
    "file": {"type": "string", "format": "binary"}, "purpose": {"type": "string"}}}  # fmt: skip


@router.post("/v1/files", openapi_extra={"requestBody": {"content": {
    "multipart/form-data": {"schema": _FILE}}}})  # fmt: skip
async def upload(request: Request) -> dict[str, Any]:
    """Keep a file: a batch's lines, or something to give a clip."""
    studio = studio_of(request)
    content, purpose, name = await _sent(request)
    if purpose != "batch":
        return _file_object(studio, keep_bytes(content, studio, "file").name)
    if not content.strip():
        raise bad("file is an empty file", "file", "empty_file")
    if len(content) > MAX_UPLOAD:
        raise ApiError(413, "too_large", f"file has more than {MAX_UPLOAD // 2**20} MiB", "file")
    return _kept(studio, content, "batch", name)


async def _sent(request: Plain) -> tuple[bytes, str, str]:
    try:
        form = await request.form(max_files=1, max_fields=10)
    except (MultiPartException, ValueError, KeyError) as error:
        raise bad(f"the form cannot be read: {error}", code="invalid_form") from error
    try:
        file, purpose = form.get("file"), form.get("purpose")
        if file is None or isinstance(file, str):
            raise bad("file is missing; it must be a file of a form", "file", "missing_field")
        if not isinstance(purpose, str) or not purpose:
            raise bad("purpose is missing, as batch", "purpose", "missing_field")
        return await file.read(MAX_UPLOAD + 1), purpose, Path(file.filename or "file").name[-100:]
    finally:
        await form.close()


def _kept(studio: Studio, content: bytes, purpose: str, name: str) -> dict[str, Any]:
    path = studio.folder.upload(new_id("file"))
    path.write_bytes(content)
    with studio.queue.change() as change:
        change.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?)",
                       (path.name, purpose, name, len(content), time.time()))  # fmt: skip
    return _file_object(studio, path.name)


def _file_object(studio: Studio, name: str) -> dict[str, Any]:
    rows = studio.queue.read("SELECT * FROM files WHERE id = ?", name)
    if not rows:
        raise missing("file", name)
    row = rows[0]
    return {"id": row["id"], "object": "file", "bytes": row["bytes"], "filename": row["name"],
            "created_at": int(row["created_at"]), "purpose": row["purpose"],
            "status": "processed"}  # fmt: skip


@router.get("/v1/files")
def files(request: Request) -> dict[str, Any]:
    """All files, newest first."""
    studio = studio_of(request)
    rows = studio.queue.read("SELECT id FROM files ORDER BY created_at DESC LIMIT 1000")
    data = [_file_object(studio, row["id"]) for row in rows]
    return {"object": "list", "data": data, "has_more": False}


@router.get("/v1/files/{file_id}")
def file(request: Request, file_id: str) -> dict[str, Any]:
    """One file."""
    return _file_object(studio_of(request), file_id)


@router.delete("/v1/files/{file_id}")
def remove(request: Request, file_id: str) -> dict[str, Any]:
    """Remove a file."""
    studio = studio_of(request)
    _file_object(studio, file_id)
    with studio.queue.change() as change:
        change.execute("DELETE FROM files WHERE id = ?", (file_id,))
    studio.folder.upload(file_id).unlink(missing_ok=True)
    return {"id": file_id, "object": "file", "deleted": True}


@router.get("/v1/files/{file_id}/content", response_class=Response)
def content(request: Request, file_id: str) -> Response:
    """What is in a batch's file; what people gave of themselves is not handed out again."""
    studio = studio_of(request)
    about = _file_object(studio, file_id)
    if about["purpose"] not in ("batch", "batch_output"):
        raise ApiError(403, "not_handed_out", "what was given to a clip is not handed out again")
    return FileResponse(studio.folder.upload(file_id), media_type="application/jsonl")


@router.post("/v1/batches", openapi_extra=takes({"type": "object",
             "required": ["input_file_id", "endpoint"], "properties": {
                 "input_file_id": {"type": "string"}, "endpoint": {"const": URL},
                 "completion_window": {"type": "string"},
                 "metadata": {"type": "object"}}}))  # fmt: skip
async def create(request: Request) -> dict[str, Any]:
    """Queue the clips of a file; a line that cannot be made is an error of its own."""
    studio = studio_of(request)
    body = await read_body(request, studio)
    if body.get("endpoint") != URL:
        raise bad(f"endpoint is {str(body.get('endpoint'))[:80]!r}; it must be {URL}", "endpoint")
    about = _file_object(studio, str(body.get("input_file_id")))
    text = studio.folder.upload(about["id"]).read_text(encoding="utf-8", errors="replace")
    try:
        lines = read_lines(text, Path(about["filename"]).suffix)
    except UserError as error:
        raise bad(str(error), "input_file_id") from error
    if len(lines) > MAX_LINES:
        raise bad(f"{len(lines)} lines; at most {MAX_LINES} here", "input_file_id")
    name, own = new_id("batch"), studio.settings
    waiting = studio.queue.count("queued", of_batches=True)
    if waiting + len(lines) > MAX_WAITING:
        raise ApiError(429, "queue_full", f"{waiting} clips of batches wait; at most {MAX_WAITING} "
                       "may", retry_after_s=600)  # fmt: skip
    errors, asked = [], []
    for line in lines:
        try:
            if line.request is None:
                raise bad(str(line.error))
            request_json = recorded(line.request)
            plan = await studio.ask("check", str(own.model), request_json, "face",
                                    own.max_seconds, own.max_pixels)  # fmt: skip
        except ApiError as error:
            errors.append({"code": error.code, "line": line.number, "message": str(error),
                           "param": error.param, "custom_id": line.name})  # fmt: skip
            continue
        asked.append((line.name, request_json, {"crop": "face", "plan": plan, "given": []}))
    said = {"input_file_id": about["id"], "metadata": body.get("metadata"), "errors": errors,
            "total": len(lines), "cancelled": False,
            "completion_window": str(body.get("completion_window") or "24h")}  # fmt: skip
    with studio.queue.change() as change:  # the batch and its clips, or none of them
        said["jobs"] = {insert(change, request_json, options, collection=name, priority=-1): line
                        for line, request_json, options in asked}  # fmt: skip
        change.execute("INSERT INTO batches VALUES (?, ?, ?)",
                       (name, time.time(), json.dumps(said)))  # fmt: skip
    return batch_object(studio, name)


def batch_object(studio: Studio, name: str) -> dict[str, Any]:
    """A batch as the API has it; its files of results are written when all is ended."""
    rows = studio.queue.read("SELECT * FROM batches WHERE id = ?", name)
    if not rows:
        raise missing("batch", name)
    said = json.loads(rows[0]["about"])
    jobs = studio.queue.read(
        "SELECT * FROM jobs WHERE collection = ? AND NOT removed ORDER BY number", name
    )
    done = sum(job["status"] == "completed" for job in jobs)
    is_over = all(job["status"] in ("completed", "failed") for job in jobs)
    if is_over and "output_file_id" not in said:
        said |= _written(studio, name, said, jobs)
    status = "in_progress"
    if said["cancelled"]:
        status = "cancelled" if is_over else "cancelling"
    elif is_over:
        status = "completed"
    failed = said["total"] - len(jobs) + sum(job["status"] == "failed" for job in jobs)
    ended = max((job["completed_at"] or 0 for job in jobs), default=rows[0]["created_at"])
    return {
        "id": name, "object": "batch", "endpoint": URL, "status": status,
        "input_file_id": said["input_file_id"], "completion_window": said["completion_window"],
        "created_at": int(rows[0]["created_at"]), "metadata": said["metadata"],
        "completed_at": int(ended) if is_over else None,
        "errors": {"object": "list", "data": said["errors"]} if said["errors"] else None,
        "output_file_id": said.get("output_file_id"), "error_file_id": said.get("error_file_id"),
        "request_counts": {"total": said["total"], "completed": done, "failed": failed},
    }  # fmt: skip


def _written(
    studio: Studio, name: str, said: dict[str, Any], jobs: list[dict[str, Any]]
) -> dict[str, Any]:
    """Write a batch's results and errors; their files' ids."""
    good, wrong = [], []
    for error in said["errors"]:
        told = {"code": error["code"], "message": error["message"]}
        wrong.append({"id": None, "custom_id": error["custom_id"], "response": None, "error": told})
    for job in jobs:
        shown = video_object(job, studio.queue, studio.settings.name)
        answer = {"status_code": 200, "request_id": job["id"], "body": shown}
        line = {"id": job["id"], "custom_id": said["jobs"][job["id"]], "error": shown["error"],
                "response": None if shown["error"] else answer}  # fmt: skip
        (wrong if shown["error"] else good).append(line)
    found = {}
    for kind, lines in (("output_file_id", good), ("error_file_id", wrong)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        file = _kept(studio, text.encode(), "batch_output", f"{name}.jsonl") if lines else None
        found[kind] = file and file["id"]
    with studio.queue.change() as change:
        change.execute("UPDATE batches SET about = ? WHERE id = ?",
                       (json.dumps(said | found), name))  # fmt: skip
    return found


@router.get("/v1/batches")
def batches(request: Request) -> dict[str, Any]:
    """All batches, newest first."""
    studio = studio_of(request)
    rows = studio.queue.read("SELECT id FROM batches ORDER BY created_at DESC LIMIT 100")
    data = [batch_object(studio, row["id"]) for row in rows]
    return {"object": "list", "data": data, "has_more": False, "avgen_version": __version__}


@router.get("/v1/batches/{batch_id}")
def batch(request: Request, batch_id: str) -> dict[str, Any]:
    """One batch."""
    return batch_object(studio_of(request), batch_id)


@router.post("/v1/batches/{batch_id}/cancel")
def cancel(request: Request, batch_id: str) -> dict[str, Any]:
    """End the clips of a batch that are not made yet."""
    studio = studio_of(request)
    batch_object(studio, batch_id)
    with studio.queue.change() as change:
        (about,) = change.execute("SELECT about FROM batches WHERE id = ?", (batch_id,)).fetchone()
        said = json.dumps(json.loads(about) | {"cancelled": True})
        change.execute("UPDATE batches SET about = ? WHERE id = ?", (said, batch_id))
    for row in studio.queue.read("SELECT id FROM jobs WHERE collection = ?", batch_id):
        studio.queue.cancel(row["id"])
    return batch_object(studio, batch_id)
