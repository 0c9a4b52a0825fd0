"""The lines of a batch in, their clips in a folder out: each once, however often a run is stopped.

A line is done when its row in results.jsonl has its key and the clip that the row names has the
row's hash. Rows are appended as clips are made; the last line of a file that was torn is dropped.
Each share of the lines has files of its own, since shares may run at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import torch

from avgen import __version__
from avgen.clips.files import sweep
from avgen.pipeline import AVPipeline
from avgen.pipeline.request_schema import recorded, request_from
from avgen.preparation.engines import run
from avgen.studio.lines import Line
from avgen.studio.making import Manner, failed, make_clip, read


@dataclass(frozen=True)
class Batch:
    """How a batch is made.

    Attributes:
        output: The folder.
        model: Folder of the model.
        device: That it runs on.
        dtype: That it computes in.
        manner: `Manner`'s fields.
        share: The number of a share and how many there are.
    """

    output: Path
    model: Path
    device: str = "cpu"
    dtype: str | None = None
    manner: dict[str, Any] = field(default_factory=dict)
    share: tuple[int, int] = (1, 1)

    def file(self, kind: str) -> Path:
        """Where rows of a kind ("results", "errors") go."""
        number, count = self.share
        return self.output / (f"{kind}-{number}-of-{count}.jsonl" if count > 1 else f"{kind}.jsonl")


def run_batch(batch: Batch, lines: Sequence[Line], engine: str, workers: int) -> dict[str, int]:
    """Make what is not there yet; how many clips were made, kept, and failed.

    Args:
        batch: How.
        lines: Of the file; those of the batch's share are made.
        engine: "process" or "ray".
        workers: Processes.
    """
    sweep(batch.output)
    model = hash_of(batch.model)
    _cut(batch.file("results"))
    done = _done(batch.output)
    todo, kept = [], 0
    errors: list[dict[str, Any]] = []
    for line in lines[batch.share[0] - 1 :: batch.share[1]]:
        if line.request is None:
            errors.append(_row(None, line.name, None, {"code": "bad_input", "message": line.error}))
            continue
        key = line.key(model, __version__)
        if done.get(line.name) == key:
            kept += 1
        else:
            todo.append((batch, line.name, key, recorded(line.request)))
    made = 0
    for text in _results(todo, engine, workers):
        row = json.loads(text)
        if row["error"] is None:
            made += 1
            _append(batch.file("results"), text)
        else:
            errors.append(row)
    lines_out = "".join(json.dumps(row) + "\n" for row in errors)
    batch.file("errors").write_text(lines_out, encoding="utf-8")
    return {"made": made, "kept": kept, "failed": len(errors)}


def _results(todo: list[tuple[Any, ...]], engine: str, workers: int) -> Any:
    if engine == "process" and workers == 1:  # here, with the model loaded once
        return (make_line(job) for job in todo)
    return run("ray" if engine == "ray" else "pool", make_line, todo, workers, _lost)


def _lost(job: tuple[Any, ...], reason: str) -> str:
    """What is said of a line whose process died."""
    return json.dumps(_row(None, job[1], None, {"code": "worker_died", "message": reason}))


@cache
def _pipeline(model: Path, device: str, dtype: str | None) -> Any:
    return AVPipeline.from_pretrained(model, device, getattr(torch, dtype) if dtype else None)


def make_line(job: tuple[Batch, str, str, dict[str, Any]]) -> str:
    """Make the clip of a line; its row as JSON."""
    batch, name, key, values = job
    path = batch.output / f"{name}.mp4"
    asked = request_from(values)
    pipe = _pipeline(batch.model, batch.device, batch.dtype)
    try:
        request = read(asked, Fraction(pipe.config.fps))
        manner = Manner(**{**batch.manner, "overwrite": True})
        said = make_clip(pipe, asked, request, path, manner, False)
    except Exception as error:  # the others are made, whatever one line does
        said = failed(error)
        if said["code"] == "server_error":
            traceback.print_exc()
        return json.dumps(_row(None, name, None, said))
    body = {
        "object": "video", "status": "completed", "file": path.name,
        "seconds": f"{said['parameters']['seconds']:g}",
        "size": f"{said['parameters']['width']}x{said['parameters']['height']}",
        "avgen": {"seed": asked.seed, "key": key, **said},
    }  # fmt: skip
    return json.dumps(_row(name, name, body, None))


def _row(name: str | None, custom_id: str, body: Any, error: Any) -> dict[str, Any]:
    answer = None if body is None else {"status_code": 200, "request_id": name, "body": body}
    return {"id": name, "custom_id": custom_id, "response": answer, "error": error}


def _cut(path: Path) -> None:
    """Cut off a torn last line."""
    if path.exists():
        content = path.read_bytes()
        with path.open("rb+") as file:
            file.truncate(content.rfind(b"\n") + 1)


def _done(folder: Path) -> dict[str, str]:
    """Key of each line that is done, by its custom_id; other shares may write meanwhile."""
    contents = [path.read_bytes() for path in sorted(folder.glob("results*.jsonl"))]
    rows = b"".join(content[: content.rfind(b"\n") + 1] for content in contents)
    done = {}
    for text in rows.decode().splitlines():
        row = json.loads(text)
        about = row["response"]["body"]
        clip = folder / about["file"]
        if clip.is_file() and hash_of(clip) == about["avgen"]["sha256"]:
            done[row["custom_id"]] = about["avgen"]["key"]
    return done


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())


def hash_of(path: Path) -> str:
    """SHA-256 of a file, or of all files in a folder with their names."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    whole = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        whole.update(f"{file.relative_to(path)}\0{hash_of(file)}\n".encode())
    return whole.hexdigest()
