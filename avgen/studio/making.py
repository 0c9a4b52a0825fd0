"""A request and a loaded pipeline in, a clip's file out: marked, signed, with its record beside it.

The one way in which the command line, the worker behind the page and batches make a file.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avgen.clips.timebase import num_samples
from avgen.clips.transforms import crop
from avgen.energy import Meter
from avgen.errors import UserError
from avgen.evaluation.faces.head import head_box
from avgen.pipeline.request import FILES, GenerateRequest, read_files
from avgen.provenance import signer
from avgen.provenance.marking import Marks
from avgen.provenance.picture_mark import MIN_SIDE
from avgen.provenance.sidecar import tags, write_chunks, write_sidecar

if TYPE_CHECKING:  # torch, which what is wrong with a request does not wait for
    from avgen.pipeline import AVPipeline, Conditions
    from avgen.pipeline.progress import Watch

MADE = "AI-generated"
_NOT_WRITTEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EDQUOT)


@dataclass(frozen=True)
class Manner:
    """How files are made, whatever is asked for.

    Attributes:
        model: What records call the model.
        metadata: Tags in the file, a manifest if there is a certificate, and the JSON beside it.
        marks: Invisible marks in what was made.
        overwrite: Replace a file that is there.
        watts_per_core: For an estimate of energy where there is no counter; None for none.
    """

    model: str = "default"
    metadata: bool = True
    marks: bool = True
    overwrite: bool = False
    watts_per_core: float | None = None


def read(asked: GenerateRequest, fps: Fraction, how: str = "face") -> GenerateRequest:
    """The request with what its files hold in their place.

    Args:
        asked: May name files.
        fps: Of clips, where the request says none.
        how: Of pictures that are not square: "face", or "center" for their middle.

    Raises:
        MediaError: a file cannot be read.
        UserError: there is no face to crop to.
    """
    return read_files(asked, fps, partial(_cropped, asked, how))


def make_clip(
    pipe: AVPipeline,
    asked: GenerateRequest,
    request: GenerateRequest,
    path: Path,
    manner: Manner,
    progress: bool | Watch,
    phase: Callable[[str], None] = lambda _name: None,
) -> dict[str, Any]:
    """Make the clip at `path` and say how.

    Args:
        pipe: What makes it.
        asked: The request with its files' names, for the record.
        request: The same, read (`read`).
        path: Where to.
        manner: How.
        progress: As calling the pipeline.
        phase: Told what is done besides denoising and decoding: "encoding", "signing".

    Returns:
        What the JSON beside it says, and "sha256" of the file.

    Raises:
        UserError: as calling the pipeline, or the file cannot be written.
    """
    meter = Meter(pipe.device, manner.watts_per_core)
    phase("encoding")
    conditions = pipe.conditions(request)
    parameters = asked.record() | conditions.record() | {"model": manner.model}
    rate = pipe.audio_codec.output_sample_rate
    given = (
        None if conditions.is_voiced else num_samples(conditions.num_begun, conditions.fps, rate)
    )
    first = write_chunks(
        pipe.stream(conditions, progress),
        path,
        tags(MADE, parameters) if manner.metadata else None,
        manner.overwrite,
        Marks(conditions.num_pictured, given, rate) if manner.marks else None,
    )
    provenance = {"marks": _marked(conditions, manner), "c2pa": None}
    if manner.metadata and (whom := signer.load()) is not None:
        from avgen.provenance import signing  # c2pa need not be installed

        phase("signing")
        inputs = {n: Path(f) for n in FILES if isinstance(f := getattr(asked, n), str | Path)}
        provenance["c2pa"] = signing.sign(path, whom, inputs).name
    spoken = [[p.phoneme, round(p.start_s, 4), round(p.end_s, 4)] for p in conditions.phonemes]
    said = {
        "parameters": parameters,
        "energy": meter.read(),
        "provenance": provenance,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "sample_rate": first.sample_rate,
        "phonemes": spoken,
    }
    if manner.metadata:
        write_sidecar(path, MADE, **said)
    return said


def _marked(conditions: Conditions, manner: Manner) -> list[str]:
    """Which of the marks the clip carries."""
    small = min(conditions.settings.height, conditions.settings.width) < MIN_SIDE
    there = {"picture": not conditions.is_pictured and not small, "sound": not conditions.is_voiced}
    return [name for name, holds in there.items() if holds and manner.marks]


def _cropped(asked: GenerateRequest, how: str, frames: np.ndarray, path: Path) -> np.ndarray:
    """Given frames [T, H, W, 3] cut to the face, where that is asked for and they are not square.

    Square pictures are taken to be crops already; what the pipeline gets it scales to its size.
    """
    if how == "center" or frames.shape[1] == frames.shape[2] or asked.height or asked.width:
        return frames
    box = head_box(frames)
    if box is None:
        raise UserError(f"{path}: no face found to crop to; --crop center takes the middle")
    return crop(frames, box)


def failed(error: BaseException) -> dict[str, str]:
    """What a job's error says to whoever asked."""
    words = " ".join(str(error).split())
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if is_full or "disk is full" in words or "No space left" in words:
        return {"code": "disk_full", "message": "no space left on the disk for the clip"}
    cause = error.__cause__ if isinstance(error, UserError) else error
    if isinstance(cause, OSError) and cause.errno in _NOT_WRITTEN:
        return {
            "code": "not_written",
            "message": f"the clip could not be written: {cause.strerror}",
        }
    if isinstance(error, UserError):
        return {"code": "bad_input", "message": words}
    if isinstance(error, MemoryError) or "out of memory" in words.lower():
        return {
            "code": "out_of_memory",
            "message": "out of memory; ask for a shorter or smaller clip",
        }
    return {"code": "server_error", "message": "a fault of avgen's; the server's log has it"}
