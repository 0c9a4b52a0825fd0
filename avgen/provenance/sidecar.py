"""How a clip was made, in its container's tags and in the JSON beside it; and clips written so."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avgen import __version__
from avgen.clips.files import atomic

if TYPE_CHECKING:
    from avgen.clips import Clip
    from avgen.provenance.marking import Marks


def sidecar(path: Path) -> Path:
    """Where the JSON about the clip at `path` goes: a.mp4 -> a.mp4.json."""
    return path.with_name(path.name + ".json")


def tags(comment: str, parameters: Mapping[str, Any]) -> dict[str, str]:
    """What goes into the container: that avgen made the clip, and with which parameters."""
    return {
        "comment": f"{comment} with avgen {__version__}",
        "ai_generated": "true",
        "avgen_version": __version__,
        "avgen_parameters": json.dumps(parameters),
    }


def write_sidecar(path: Path, comment: str, parameters: Mapping[str, Any], **more: Any) -> None:
    """Write the same beside the clip at `path`, atomically, and `more` that is known of it."""
    content = {
        "file": path.name,
        "comment": f"{comment} with avgen {__version__}",
        "ai_generated": True,
        "avgen_version": __version__,
        "parameters": parameters,
        **more,
    }
    with atomic(sidecar(path)) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_chunks(
    chunks: Iterator[Clip],
    path: Path,
    metadata: Mapping[str, str] | None,
    overwrite: bool = False,
    marks: Marks | None = None,
) -> Clip:
    """Write the pieces of a clip as they come.

    Args:
        chunks: At least one.
        path: Where to.
        metadata: Tags of the container.
        overwrite: Replace a file that is there.
        marks: What marks them.

    Returns:
        The first piece.
    """
    from avgen.clips import ClipWriter

    first = next(chunks)
    with ClipWriter(
        path,
        fps=first.fps,
        height=first.height,
        width=first.width,
        sample_rate=first.sample_rate,
        num_channels=first.num_channels or None,
        metadata=metadata,
        overwrite=overwrite,
    ) as writer:
        for chunk in chain([first], chunks):
            writer.write_frames(chunk.frames if marks is None else marks.frames(chunk.frames))
            if chunk.waveform is not None:
                heard = chunk.waveform
                writer.write_waveform(heard if marks is None else marks.sound(heard, False))
        if marks is not None and first.waveform is not None:
            writer.write_waveform(marks.sound(first.waveform[:, :0], True))
    return first
