"""A file of many clips in, each one's request out: JSONL as in OpenAI's batches, bare, or CSV.

Every line is checked before anything is made; what is wrong is told with its number.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avgen.errors import UserError
from avgen.pipeline.request import FILES, GenerateRequest
from avgen.pipeline.request_schema import recorded, request_from

URL = "/v1/videos"
NAME = re.compile(r"[\w.-]{1,128}")


@dataclass(frozen=True)
class Line:
    """A line of a batch.

    Attributes:
        number: In the file, from 1.
        name: Its custom_id; its number where it has none.
        request: What it asks for, or None.
        error: Why it asks for nothing that can be made, or None.
    """

    number: int
    name: str
    request: GenerateRequest | None
    error: str | None = None

    def key(self, model: str, version: str) -> str:
        """What decides the clip: the request, the model's hash and avgen's version."""
        assert self.request is not None
        said = json.dumps(recorded(self.request), sort_keys=True)
        return hashlib.sha256(f"{said}\n{model}\n{version}".encode()).hexdigest()


def read_lines(content: str, suffix: str, folder: Path | None = None) -> list[Line]:
    """The lines of a batch.

    Args:
        content: Of the file.
        suffix: ".csv" is a table; anything else is JSON a line.
        folder: That paths of given files start from; None refuses files.

    Raises:
        UserError: no line at all.
    """
    rows = _table(content) if suffix.lower() == ".csv" else _json(content)
    lines, seen = [], dict[str, int]()
    for number, row in rows:
        line = _line(number, row, folder)
        if line.name in seen:
            error = f"custom_id {line.name!r} is line {seen[line.name]}'s already"
            line = Line(number, f"line-{number}", None, error)
        seen.setdefault(line.name, number)
        lines.append(line)
    if not lines:
        raise UserError("the file has no lines")
    return lines


def _json(content: str) -> list[tuple[int, Any]]:
    rows = []
    for number, text in enumerate(content.splitlines(), 1):
        if text.strip():
            try:
                row = json.loads(text)
                json.dumps(row, ensure_ascii=False).encode()  # half a character is no text
                rows.append((number, row))
            except (ValueError, RecursionError) as error:
                rows.append((number, UserError(f"is not JSON: {error}")))
    return rows


def _table(content: str) -> list[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(content))
    rows = []
    for row in reader:
        body: Any = {k: v for k, v in row.items() if k is not None and v not in (None, "")}
        if any(row.get(None) or ()):  # pyright: ignore[reportArgumentType, reportCallIssue]
            body = UserError("has more cells than the table has columns; quote what has commas")
        rows.append((reader.line_num, body))
    return rows


def _line(number: int, row: Any, folder: Path | None) -> Line:
    name = str(number)
    try:
        if isinstance(row, UserError):
            raise row
        if not isinstance(row, dict):
            raise UserError("is no JSON object")
        row = dict(row)
        name = str(row.pop("custom_id", number))
        if not NAME.fullmatch(name) or name.startswith("."):
            bad, name = name, f"line-{number}"
            raise UserError(
                f"custom_id {bad[:80]!r}; it must be letters, digits, '.', '-' and '_', at most 128"
            )
        if "body" in row:
            if row.get("url", URL) != URL or row.get("method", "POST") != "POST":
                raise UserError(f"is no POST to {URL}")
            row = row["body"]
            if not isinstance(row, dict):
                raise UserError("body is no JSON object")
        return Line(number, name, _request(row, folder))
    except UserError as error:
        return Line(number, name, None, " ".join(str(error).split()))


def _request(body: dict[str, Any], folder: Path | None) -> GenerateRequest:
    values = {name: value for name, value in body.items() if name != "model"}
    if (size := values.pop("size", None)) is not None:
        match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", str(size))
        if not match:
            raise UserError(f"size is {str(size)[:80]!r}; it must be WIDTHxHEIGHT", "size")
        values |= {"width": int(match[1]), "height": int(match[2])}
    if "input_reference" in values:
        values["image"] = values.pop("input_reference")
    for name in FILES:
        if values.get(name) is not None:
            if folder is None:
                raise UserError(f"{name} names a file; a batch sent to the server has none", name)
            values[name] = folder / str(values[name])
    return request_from(values)
