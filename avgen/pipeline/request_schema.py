"""JSON or the strings of a form in, a `GenerateRequest` out; and the JSON Schema that says so.

Both are made from the fields of `GenerateRequest`, so that the HTTP API, batches, the page and the
command line accept the same names, types and rules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from avgen.clips.timebase import parse_rate
from avgen.clips.timed_words import Word, parse_words
from avgen.errors import UserError
from avgen.pipeline.request import FILES, GenerateRequest, Rule, check, parse_interval

_RATE = re.compile(r"\s*\d{1,6}(\.\d{1,6})?(/\d{1,6})?\s*")  # no power of ten without end
MAX_TEXT = 4000  # characters of a prompt, of speech, of a timeline's text
_WORD = {
    "type": "array",
    "prefixItems": [{"type": "string"}, {"type": "number"}, {"type": "number"}],
    "items": False,
    "minItems": 3,
}
# How each reader of text is described where there is JSON, without the field's rule.
_KINDS: dict[Any, dict[str, Any]] = {
    str: {"type": "string", "maxLength": MAX_TEXT},
    int: {"type": "integer"},
    float: {"type": "number"},
    parse_rate: {"type": ["number", "string"]},
    parse_interval: {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}},
    parse_words: {"anyOf": [{"type": "string"}, {"type": "array", "items": _WORD}]},
    Path: {"type": "string", "description": "a file"},
}


def request_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a request: an object with the fields of `GenerateRequest`."""
    properties = {}
    for about in fields(GenerateRequest):
        rule: Rule | None = about.metadata.get("rule")
        default = {} if about.default is None else {"default": about.default}
        properties[about.name] = {
            **_KINDS[about.metadata["parse"]],
            **(rule.schema if rule else {}),
            "description": about.metadata["help"],
            **default,
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "GenerateRequest",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def request_from(values: Mapping[str, Any]) -> GenerateRequest:
    """The request that `GenerateRequest.record` wrote, or that a form's strings stand for.

    Args:
        values: By the field's name; None is left out. Files are paths.

    Raises:
        UserError: an unknown name, or a value that breaks its rule; `field` names it.
    """
    known = {about.name: about for about in fields(GenerateRequest)}
    for name in values:
        if name not in known:
            raise UserError(f"{name}: no such field; there are {', '.join(known)}", name)
    return GenerateRequest(
        **{name: _value(known[name], value) for name, value in values.items() if value is not None}
    )


def _value(about: Field, value: Any) -> Any:
    parse = about.metadata["parse"]
    try:
        value = _parsed(about, parse, value)
        check(about, value)
    except UserError as error:
        error.field = about.name
        raise
    except (ValueError, TypeError, OverflowError) as error:
        noun = "a whole number" if parse is int else "a number"
        said = f"{about.name} is {str(value)[:80]!r}; it must be {noun}"
        raise UserError(said, about.name) from error
    return value


def _parsed(about: Field, parse: Any, value: Any) -> Any:
    if about.name in FILES:
        return Path(value)
    if parse is parse_words:
        return _words(value)
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise UserError(
                f"{about.name} has {len(value)} characters; it must have at most {MAX_TEXT}"
            )
        if parse is parse_rate and not _RATE.fullmatch(value):
            raise UserError(
                f"{about.name} is {value[:80]!r}; it must be a rate, as 25 or 30000/1001"
            )
        if parse is parse_interval and value.startswith("["):
            return tuple(map(float, json.loads(value)))
        return parse(value)
    if parse is parse_rate and isinstance(value, int | float) and not isinstance(value, bool):
        return _parsed(about, parse, str(value))
    if parse is int and isinstance(value, float) and value.is_integer():
        return int(value)
    return tuple(value) if parse is parse_interval and isinstance(value, list) else value


def _words(value: Any) -> Sequence[Word] | None:
    """Words of `[[word, start, end], ...]`, as a list, as JSON text, or as the command line's."""
    if isinstance(value, str):
        if value.strip().endswith(".json"):
            raise UserError("words name a file; send the words themselves")
        if not value.strip().startswith("["):
            return parse_words(value)
        try:
            value = json.loads(value)
        except ValueError as error:
            raise UserError(f"words are not JSON: {error}") from error
    if not isinstance(value, list):
        raise UserError(f"words is {str(value)[:80]}; it must be a list of [word, start, end]")
    words = []
    for entry in value:
        if not (
            isinstance(entry, list | tuple)
            and len(entry) == 3
            and isinstance(entry[0], str)
            and all(isinstance(t, int | float) and not isinstance(t, bool) for t in entry[1:])
        ):
            raise UserError(f"words: {entry!r}; it must be a word, its start and its end in s")
        words.append(Word(entry[0], float(entry[1]), float(entry[2])))
    return tuple(words) or None


def recorded(request: GenerateRequest) -> dict[str, Any]:
    """The request as JSON from which `request_from` makes the same one, files by their paths."""
    said = request.record()
    for name in FILES:
        value = getattr(request, name)
        if isinstance(value, str | Path):
            said[name] = str(value)
    return said
