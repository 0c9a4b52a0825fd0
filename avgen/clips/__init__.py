"""FILE <-> CLIP: files read by timestamp into frames and sound on one clock, and written back.

The names below load on first use, so that importing one of them does not open FFmpeg's libraries
for another.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avgen.clips.clip import Clip, MediaError, Word
    from avgen.clips.media.read import (
        ClipWriter,
        read_audio,
        read_clip,
        read_image,
        read_metadata,
        read_windows,
        write_clip,
    )
    from avgen.clips.media.streams import MediaProbe, probe

_HOMES = {
    "Clip": "clip",
    "ClipWriter": "media.write",
    "MediaError": "clip",
    "MediaProbe": "media.streams",
    "Word": "clip",
    "probe": "media.streams",
    "read_audio": "media.read",
    "read_clip": "media.read",
    "read_image": "media.read",
    "read_metadata": "media.read",
    "read_windows": "media.read",
    "write_clip": "media.write",
}

__all__ = [
    "Clip",
    "ClipWriter",
    "MediaError",
    "MediaProbe",
    "Word",
    "probe",
    "read_audio",
    "read_clip",
    "read_image",
    "read_metadata",
    "read_windows",
    "write_clip",
]


def __getattr__(name: str) -> Any:
    """The public name, imported from its home now that somebody asks for it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
