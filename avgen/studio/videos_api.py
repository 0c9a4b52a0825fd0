"""/v1/videos and its relatives: what OpenAI's client calls, and what the page needs besides."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import time
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

from avgen.pipeline.request import FILES
from avgen.studio.asking import asked_from, body_schema, find_file, read_body
from avgen.studio.failures import ApiError, bad, missing
from avgen.studio.places import new_id, write_json
from avgen.studio.queue import RUNNING, tell
from avgen.studio.state import Studio
from avgen.studio.video_object import SCHEMA, video_object

REMOVAL_S = 30.0  # that a removal waits for the worker
VARIANTS = {
    "video": ("mp4", "video/mp4"),
    "thumbnail": ("thumbnail.jpg", "image/jpeg"),
    "spritesheet": ("spritesheet.jpg", "image/jpeg"),
    "audio": ("sound.wav", "audio/wav"),
    "json": ("mp4.json", "application/json"),
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "object", "required": ["message", "type", "param", "code"]}},
}
ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "an error", "content": {"application/json": {"schema": _ERROR}}},
    "5XX": {"description": "a fault", "content": {"application/json": {"schema": _ERROR}}},
}
ONE: dict[int | str, dict[str, Any]] = {
    200: {"description": "a video", "content": {"application/json": {"schema": SCHEMA}}},
    **ERRORS,
}
router = APIRouter(responses=ERRORS)


def takes(schema: dict[str, Any]) -> dict[str, Any]:
    """How a body that is read by hand is described: as JSON and as a form."""
    plain = {"schema": {k: v for k, v in schema.items() if not k.startswith("$")}}
    content = {"application/json": plain, "multipart/form-data": plain}
    return {"requestBody": {"content": content}}


def studio_of(request: Request) -> Studio:
    """The server's state."""
    return request.app.state.studio


def row_of(studio: Studio, name: str) -> dict[str, Any]:
    """A job's row.

    Raises:
        ApiError: there is none.
    """
    row = studio.queue.get(name)
    if row is None:
        raise missing("video", name)
    return row


def shown(studio: Studio, row: dict[str, Any]) -> JSONResponse:
    """A job as an answer, with when to ask again."""
    made = video_object(row, studio.queue, studio.settings.name)
    headers = {}
    if made["status"] in ("queued", RUNNING):
        eta_s = made["avgen"]["eta_s"]
        wait_ms = 1000 if eta_s is None else max(250, min(5000, round(250 * eta_s)))
        headers["openai-poll-after-ms"] = str(wait_ms)
    return JSONResponse(made, headers=headers)


async def queue_up(
    studio: Studio, body: dict[str, Any], key: str | None = None, **options: Any
) -> dict[str, Any]:
    """Check what a body asks for and queue it; the first job's row.

    Raises:
        ApiError: it cannot be made, or the queue is full.
    """
    if studio.fault is not None:
        raise ApiError(503, "no_model", f"the model cannot be used: {studio.fault}")
    text = json.dumps(body, sort_keys=True, default=str)
    digest = hashlib.sha256(re.sub(r"file_[0-9a-f]{24}", "", text).encode()).hexdigest()
    if key is not None and (known := studio.queue.known(key)) is not None:
        if known[1] != digest:
            raise _other_body()
        return row_of(studio, known[0])
    asked, own = asked_from(body, studio), studio.settings
    waiting = studio.queue.count("queued", of_batches=False)  # those let others pass
    if waiting + len(asked.requests) > own.max_queued:
        raise ApiError(
            429, "queue_full", f"{waiting} clips wait; at most {own.max_queued} may",
            retry_after_s=30,
        )  # fmt: skip
    first = asked.requests[0]
    plan = await studio.ask(
        "check", str(own.model), first, asked.options["crop"], own.max_seconds, own.max_pixels
    )
    given = [name for name in FILES if name in first]
    options = {**asked.options, "plan": plan, "given": given, **options}
    group = new_id("batch").replace("batch", "group") if len(asked.requests) > 1 else None
    more = {"priority": asked.priority, "collection": group, "key": key, "body": digest}
    try:
        (name, *_) = studio.queue.add(asked.requests, options, **more)
    except sqlite3.IntegrityError:  # the same key came again while this was checked
        known = studio.queue.known(str(key))
        if known is None or known[1] != digest:
            raise _other_body() from None
        name = known[0]
    return row_of(studio, name)


def _other_body() -> ApiError:
    return bad("Idempotency-Key came before with another body", None, "idempotency_error")


@router.post("/v1/videos", responses=ONE, openapi_extra=takes(body_schema()))
async def create(request: Request) -> Response:
    """Queue a clip, or several of consecutive seeds."""
    studio = studio_of(request)
    body = await read_body(request, studio)
    return shown(studio, await queue_up(studio, body, request.headers.get("idempotency-key")))


@router.get("/v1/videos")
def listing(
    request: Request,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
    status: Annotated[str | None, Query(pattern="^(queued|in_progress|completed|failed)$")] = None,
    group: str | None = None,
    search: Annotated[str | None, Query(max_length=200)] = None,
    favourite: bool | None = None,
) -> dict[str, Any]:
    """Clips, newest first unless asked otherwise."""
    studio = studio_of(request)
    wanted, values = ["NOT removed"], []
    if after:
        sign = "<" if order == "desc" else ">"
        wanted.append(f"number {sign} (SELECT number FROM jobs WHERE id = ?)")
        values.append(row_of(studio, after)["id"])
    for column, value in (("status", status), ("collection", group), ("favourite", favourite)):
        if value is not None:
            wanted.append(f"{column} = ?")
            values.append(value)
    if search:
        wanted.append("(request LIKE ? ESCAPE '!' OR options LIKE ? ESCAPE '!')")
        values += ["%" + re.sub("([!%_])", r"!\1", search) + "%"] * 2
    rows = studio.queue.read(
        f"SELECT * FROM jobs WHERE {' AND '.join(wanted)} ORDER BY number "
        f"{'DESC' if order == 'desc' else 'ASC'} LIMIT ?",
        *values,
        limit + 1,
    )
    data = [video_object(row, studio.queue, studio.settings.name) for row in rows[:limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(rows) > limit,
    }


@router.post("/v1/videos/extensions", responses=ONE, openapi_extra=takes(body_schema()))
async def extend(request: Request) -> Response:
    """Go on from the end of a clip; `seconds` are those that are added."""
    studio = studio_of(request)
    body = await read_body(request, studio)
    if not body.get("video"):
        raise bad("video is missing; it is the clip to go on from", "video", "missing_field")
    body["extend"] = find_file(body.pop("video"), studio, "video")
    if body.get("seconds") not in (None, ""):
        try:
            added = float(body["seconds"])
        except (TypeError, ValueError):
            raise bad(f"seconds is {str(body['seconds'])[:80]!r}; it must be a number",
                      "seconds") from None  # fmt: skip
        begun = await studio.ask("length_s", str(body["extend"]))
        body["seconds"] = begun + added
    return shown(studio, await queue_up(studio, body))


@router.post("/v1/videos/edits")
@router.post("/v1/videos/characters")
def not_yet(request: Request) -> Response:
    """What OpenAI's client may ask for and no model here can."""
    what = request.url.path.rsplit("/", 1)[1]
    raise ApiError(501, "not_supported", f"{what}: no model of avgen's can do that yet")


@router.get("/v1/videos/{video_id}", responses=ONE)
def retrieve(request: Request, video_id: str) -> Response:
    """One clip."""
    studio = studio_of(request)
    return shown(studio, row_of(studio, video_id))


@router.delete("/v1/videos/{video_id}")
def delete(request: Request, video_id: str) -> dict[str, Any]:
    """Cancel a clip if need be, and remove it with its files."""
    studio = studio_of(request)
    row_of(studio, video_id)
    studio.queue.remove(video_id)
    until = time.monotonic() + REMOVAL_S
    while time.monotonic() < until:
        rows = studio.queue.read("SELECT status FROM jobs WHERE id = ?", video_id)
        if not rows or rows[0]["status"] != RUNNING:
            break
        time.sleep(0.05)
    studio.folder.remove(video_id)
    studio.queue.forget(video_id)
    return {"id": video_id, "object": "video.deleted", "deleted": True}


@router.post("/v1/videos/{video_id}/cancel", responses=ONE)
def cancel(request: Request, video_id: str) -> Response:
    """End a clip that is queued or being made; one that has ended stays as it is."""
    studio = studio_of(request)
    row_of(studio, video_id)
    studio.queue.cancel(video_id)
    return shown(studio, row_of(studio, video_id))


def same_again(row: dict[str, Any]) -> dict[str, Any]:
    """The fields of a body that ask for a job's clip again."""
    request, options = json.loads(row["request"]), json.loads(row["options"])
    again = {k: Path(v) if k in FILES else v for k, v in request.items()}
    return again | {"crop": options.get("crop", "face"), "priority": row["priority"]}


@router.post(
    "/v1/videos/{video_id}/remix",
    responses=ONE,
    openapi_extra=takes({"type": "object", "required": ["prompt"],
                         "properties": {"prompt": {"type": "string"}}}),
)  # fmt: skip
async def remix(request: Request, video_id: str) -> Response:
    """The same clip with another prompt, and whatever else the body says."""
    studio = studio_of(request)
    row, body = row_of(studio, video_id), await read_body(request, studio)
    if not isinstance(body.get("prompt"), str) or not body["prompt"]:
        raise bad("prompt is missing; a remix is the same clip with another one", "prompt",
                  "missing_field")  # fmt: skip
    before = same_again(row)
    if '"' in body["prompt"]:  # it says its own words
        before.pop("speech", None)
        before.pop("words", None)
    return shown(studio, await queue_up(studio, before | body, remixed_from=video_id))


@router.post("/v1/videos/{video_id}/retry", responses=ONE, openapi_extra=takes(body_schema()))
async def again(request: Request, video_id: str) -> Response:
    """Queue the same clip once more, with what was given to it, but for what the body says."""
    studio = studio_of(request)
    row, body = row_of(studio, video_id), await read_body(request, studio)
    return shown(studio, await queue_up(studio, same_again(row) | body))


@router.post(
    "/v1/videos/{video_id}/mark",
    responses=ONE,
    openapi_extra=takes({"type": "object", "properties": {
        "favourite": {"type": "boolean"}, "first": {"type": "boolean"}}}),
)  # fmt: skip
async def mark(request: Request, video_id: str) -> Response:
    """Make a clip a favourite or none, or a queued one the next."""
    studio = studio_of(request)
    row, body = row_of(studio, video_id), await read_body(request, studio)
    with studio.queue.change() as change:
        if isinstance(body.get("favourite"), bool):
            change.execute(
                "UPDATE jobs SET favourite = ? WHERE id = ?", (body["favourite"], video_id)
            )
        if body.get("first") is True and row["status"] == "queued":
            change.execute(
                "UPDATE jobs SET place = (SELECT min(place) - 1 FROM jobs), priority = "
                "(SELECT max(priority) FROM jobs WHERE status = 'queued') WHERE id = ?",
                (video_id,),
            )
        tell(change, video_id, "video")
    return shown(studio, row_of(studio, video_id))


@router.get("/v1/videos/{video_id}/content", response_class=Response)
async def content(
    request: Request,
    video_id: str,
    variant: Annotated[str, Query(pattern="^(video|thumbnail|spritesheet|audio|json)$")] = "video",
) -> Response:
    """The clip, or something made of it."""
    studio = studio_of(request)
    row = row_of(studio, video_id)
    if row["status"] != "completed":
        raise ApiError(404, "not_ready", f"the clip is {row['status']}; there is no content yet")
    kind, media = VARIANTS[variant]
    path = studio.folder.beside(video_id, kind)
    if variant == "audio" and not path.exists():
        await studio.ask("sound_file", str(studio.folder.clip(video_id)), str(path))
    if not path.exists():
        raise ApiError(404, "not_found", f"this clip was made without {variant}")
    return FileResponse(path, media_type=media, filename=f"{video_id}.{kind.rsplit('.')[-1]}",
                        content_disposition_type="inline")  # fmt: skip


@router.get("/v1/videos/{video_id}/preview", response_class=Response)
def preview(request: Request, video_id: str, step: str | None = None) -> Response:
    """What a clip that is being made is expected to become."""
    studio = studio_of(request)
    row_of(studio, video_id)
    path = studio.folder.preview(video_id)
    if not path.is_file():
        raise ApiError(404, "not_ready", "there is no preview")
    return Response(path.read_bytes(), media_type="image/jpeg")


async def _about(request: Request, video_id: str, kind: str, question: str, *more: Any) -> Any:
    """What the clerk says of a finished clip; asked once, then kept."""
    studio = studio_of(request)
    if row_of(studio, video_id)["status"] != "completed":
        raise ApiError(404, "not_ready", "the clip is not there yet")
    path = studio.folder.beside(video_id, kind)
    if not path.exists():
        write_json(path, await studio.ask(question, str(studio.folder.clip(video_id)), *more))
    return json.loads(path.read_text())


def _words(request: Request, video_id: str) -> list[list[Any]]:
    options = json.loads(row_of(studio_of(request), video_id)["options"])
    return options.get("plan", {}).get("words") or []


@router.get("/v1/videos/{video_id}/heard")
async def heard(request: Request, video_id: str) -> dict[str, Any]:
    """When each word is heard in the clip, by a recogniser that knows what is said."""
    said = " ".join(word[0] for word in _words(request, video_id))
    return await _about(request, video_id, "heard.json", "heard_words", said)


@router.get("/v1/videos/{video_id}/captions", response_class=Response)
def captions(request: Request, video_id: str) -> Response:
    """The words as WebVTT, for the player."""
    lines = ["WEBVTT", ""]
    for text, start, end in _words(request, video_id):
        stamps = (f"{int(t // 60):02}:{t % 60:06.3f}" for t in (start, end))
        lines += [" --> ".join(stamps), re.sub(r"[<>&]|-->", " ", text), ""]
    return Response("\n".join(lines), media_type="text/vtt")


@router.get("/v1/videos/{video_id}/report")
async def report(request: Request, video_id: str) -> dict[str, Any]:
    """Whether lips and sound fit, with a control."""
    return await _about(request, video_id, "report.json", "sync_report")


@router.get("/v1/videos/{video_id}/peaks")
async def peaks(request: Request, video_id: str) -> dict[str, Any]:
    """The loudness of its sound, to draw."""
    return await _about(request, video_id, "peaks.json", "waveform")


@router.get("/v1/events", response_class=StreamingResponse)
async def events(request: Request, after: int | None = None) -> Response:
    """Everything that happens, as server-sent events."""
    return _stream(request, after, None)


@router.get("/v1/videos/{video_id}/events", response_class=StreamingResponse)
async def events_of(request: Request, video_id: str, after: int | None = None) -> Response:
    """What happens to one clip."""
    row_of(studio_of(request), video_id)
    return _stream(request, after, video_id)


def _stream(request: Request, after: int | None, job: str | None) -> Response:
    last = request.headers.get("last-event-id", "")
    after = int(last) if re.fullmatch(r"\d{1,18}", last) else after
    told = request.app.state.events.follow(after, job)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(told, media_type="text/event-stream", headers=headers)
