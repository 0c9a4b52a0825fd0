"""The body of a POST in, what is asked for out: JSON or a form, by OpenAI's names or ours.

The names of a clip's fields are `GenerateRequest`'s; here stand only those that are the API's own.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from avgen.errors import UserError
from avgen.pipeline.request import CROPS, FILES, GenerateRequest
from avgen.pipeline.request_schema import MAX_TEXT, recorded, request_from, request_schema
from avgen.studio.failures import ApiError, bad, missing
from avgen.studio.places import ID, new_id
from avgen.studio.state import Studio

MAX_N = 8
MAX_UPLOAD = 50 * 2**20
OWN = tuple(about.name for about in fields(GenerateRequest))
# What the API takes besides: what OpenAI's and other servers' clients send.
EXTRA: dict[str, dict[str, Any]] = {
    "model": {"type": "string", "description": "name of the model; any other is refused"},
    "size": {"type": "string", "pattern": r"^\d{2,5}x\d{2,5}$", "description": "WIDTHxHEIGHT"},
    "input_reference": {"description": "the first frame: a file, or its id, or a data URL"},
    "n": {"type": "integer", "minimum": 1, "maximum": MAX_N,
          "description": "clips, of seeds seed, seed + 1 ...; the answer is the first"},
    "crop": {"enum": list(CROPS), "description": "of a given picture that is not square"},
    "priority": {"type": "integer", "minimum": -100, "maximum": 100},
    "user": {"type": "string", "maxLength": 200},
    "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
}  # fmt: skip
_MAGIC = re.compile(
    rb"\x89PNG|\xff\xd8\xff|RIFF....(WEBP|WAVE|AVI )|fLaC|OggS|ID3|\xff[\xf2\xf3\xfa\xfb]"
    rb"|....ftyp|\x1aE\xdf\xa3|\x00\x00\x01[\xba\xb3]",
    re.DOTALL,
)
_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,")


def body_schema() -> dict[str, Any]:
    """JSON Schema of the body of POST /v1/videos."""
    schema = request_schema()
    reference = {"anyOf": [{"type": "string"}, {"type": "object"}]}
    given = {name: {**reference, "description": schema["properties"][name]["description"]}
             for name in FILES}  # fmt: skip
    seconds = {"anyOf": [schema["properties"]["seconds"], {"type": "string"}]}
    extra = EXTRA | {"input_reference": reference | EXTRA["input_reference"]}
    schema["properties"] |= {**given, **extra, "seconds": seconds}
    return schema


@dataclass
class Asked:
    """What a body asks for.

    Attributes:
        requests: Of each clip, as JSON.
        options: crop, metadata, user.
        priority: In the queue.
    """

    requests: list[dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)
    priority: int = 0


async def read_body(request: Request, studio: Studio) -> dict[str, Any]:
    """The fields of a JSON body or a form; files that came with it are kept, and are their paths.

    Raises:
        ApiError: no body of that kind.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or (not kind and not await request.body()):
        try:
            content = json.loads(await request.body() or b"{}")
            json.dumps(content, ensure_ascii=False).encode()  # half a character is no text
        except (ValueError, RecursionError) as error:
            raise bad(f"the body is not JSON: {error!a}", code="invalid_json") from error
        if not isinstance(content, dict):
            raise bad(f"the body is a JSON {type(content).__name__}; it must be an object")
        return content
    if kind not in ("multipart/form-data", "application/x-www-form-urlencoded"):
        raise ApiError(
            415, "unsupported_media_type",
            f"Content-Type {kind[:80]!r}; it must be application/json or multipart/form-data",
        )  # fmt: skip
    try:
        form = await request.form(max_files=8, max_fields=100, max_part_size=2**20)
    except (MultiPartException, ValueError, KeyError) as error:
        raise bad(f"the form cannot be read: {error}", code="invalid_form") from error
    try:
        return await _fields(form, studio)
    finally:
        await form.close()


async def _fields(form: FormData, studio: Studio) -> dict[str, Any]:
    """The fields of a form; `outer[inner]` is an object's, and a file is the path it is kept at."""
    found: dict[str, Any] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            value = await keep(value, studio, name)
        outer, bracket, inner = name.partition("[")
        if bracket and isinstance(value, str):
            inner = inner.rstrip("]")
            held = found.setdefault(outer, {})
            if not isinstance(held, dict) or not inner:
                raise bad(f"{name}: send it as JSON text", outer)
            held[inner] = value
        else:
            found[name] = value
    return found


async def keep(file: UploadFile, studio: Studio, param: str) -> Path:
    """Keep an upload in the studio's folder, under a name of ours.

    Raises:
        ApiError: too large, empty, or no media.
    """
    content = await file.read(MAX_UPLOAD + 1)
    return keep_bytes(content, studio, param)


def keep_bytes(content: bytes, studio: Studio, param: str) -> Path:
    """The same for its bytes."""
    if not content:
        raise bad(f"{param} is an empty file", param, "empty_file")
    if len(content) > MAX_UPLOAD:
        raise ApiError(413, "too_large", f"{param} has more than {MAX_UPLOAD // 2**20} MiB", param)
    if not _MAGIC.match(content[:16]):
        raise ApiError(
            415, "unsupported_file",
            f"{param} is no file that is known: PNG, JPEG, WebP, WAV, FLAC, Ogg, MP3, MP4, MOV, "
            "WebM, Matroska, AVI, MPEG", param,
        )  # fmt: skip
    path = studio.folder.upload(new_id("file"))
    path.write_bytes(content)
    with studio.queue.change() as change:
        change.execute(
            "INSERT INTO files VALUES (?, ?, ?, ?, ?)",
            (path.name, "input", param, len(content), time.time()),
        )
    return path


def find_file(value: Any, studio: Studio, param: str) -> Path:
    """The file that a field stands for: an upload, an id of one or of a clip, or a data URL.

    Raises:
        ApiError: it stands for none.
    """
    if isinstance(value, Path):
        return value
    if isinstance(value, dict):
        known = [value.get(name) for name in ("id", "file_id", "image_url", "url")]
        value = next((v for v in known if v is not None), None)
        if isinstance(value, dict):
            value = value.get("url")
    if not isinstance(value, str):
        raise bad(f"{param} must be a file, the id of one, or a data URL", param)
    if start := _DATA_URL.match(value):
        try:
            content = base64.b64decode(value[start.end() :], validate=True)
        except (binascii.Error, ValueError) as error:
            raise bad(f"{param} is no data URL: {error}", param) from error
        return keep_bytes(content, studio, param)
    if not ID.fullmatch(value):
        raise bad(f"{param} is {value[:80]!r}; it must be a file, the id of one, or a data URL",
                  param)  # fmt: skip
    is_clip = value.startswith("video_")
    path = studio.folder.clip(value) if is_clip else studio.folder.upload(value)
    if (is_clip and studio.queue.get(value) is None) or not path.is_file():
        raise missing("clip or file", value)
    return path


def asked_from(body: dict[str, Any], studio: Studio) -> Asked:
    """What the fields of a body ask for.

    Raises:
        ApiError: an unknown field, or a value that breaks its rule.
    """
    values = dict(body)
    options: dict[str, Any] = {}
    if (model := values.pop("model", None)) not in (None, "", studio.settings.name):
        raise bad(f"model is {str(model)[:80]!r}; here it is {studio.settings.name!r}", "model",
                  "model_not_found")  # fmt: skip
    if (size := values.pop("size", None)) not in (None, ""):
        match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", str(size))
        if not match:
            raise bad(f"size is {str(size)[:80]!r}; it must be WIDTHxHEIGHT, as 128x128", "size")
        width, height = map(int, match.groups())
        if min(width, height) < 16:
            raise bad(f"size is {size}; both must be at least 16", "size")
        values |= {"width": width, "height": height}
    if (reference := values.pop("input_reference", None)) not in (None, ""):
        if values.get("image") is not None:
            raise bad("image and input_reference are both given; either is the first frame",
                      "input_reference")  # fmt: skip
        values["image"] = reference
    count = _whole(values.pop("n", None), "n", 1, 1, MAX_N)
    priority = _whole(values.pop("priority", None), "priority", 0, -100, 100)
    crop = values.pop("crop", None) or "face"
    if crop not in CROPS:
        raise bad(f"crop is {str(crop)[:80]!r}; it must be {' or '.join(CROPS)}", "crop")
    options["crop"] = crop
    if (metadata := values.pop("metadata", None)) not in (None, ""):
        options["metadata"] = _metadata(metadata)
    if (user := values.pop("user", None)) is not None:
        options["user"] = str(user)[:200]
    for name in values:
        if name not in OWN:
            known = sorted({*OWN, *EXTRA})
            raise bad(f"{name[:80]}: no such field; there are {', '.join(known)}", name[:80],
                      "unknown_field")  # fmt: skip
    for name in FILES:
        if values.get(name) in (None, ""):
            values.pop(name, None)
        else:
            values[name] = find_file(values[name], studio, name)
    try:
        said = {"speech"} & values.keys() if "audio" in values else set()  # "": none in that sound
        own = {name: value for name, value in values.items() if value != "" or name in said}
        first = recorded(request_from(own))
    except UserError as error:
        raise bad(" ".join(str(error).split()), error.field) from error
    requests = [first | {"seed": first["seed"] + index} for index in range(count)]
    try:
        json.dumps([requests, options], ensure_ascii=False).encode()
    except UnicodeEncodeError as error:  # of JSON within a string
        raise bad(f"half a character is no text: {error!a}") from error
    return Asked(requests, options, priority)


def _whole(value: Any, name: str, default: int, low: int, high: int) -> int:
    if value in (None, ""):
        return default
    is_number = isinstance(value, int | str) and not isinstance(value, bool)
    if not is_number or not re.fullmatch(r"[+-]?\d{1,6}", str(value)):
        raise bad(f"{name} is {str(value)[:80]!r}; it must be a whole number", name)
    if not low <= int(value) <= high:
        raise bad(f"{name} is {value}; it must be from {low} to {high}", name)
    return int(value)


def _metadata(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise bad(f"metadata is not JSON: {error}", "metadata") from error
    if not isinstance(value, dict) or len(value) > 16 or len(json.dumps(value)) > MAX_TEXT:
        raise bad("metadata must be an object of at most 16 names, 4000 characters", "metadata")
    return {str(name): str(held) for name, held in value.items()}
