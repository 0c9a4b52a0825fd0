"""The folders of a model folder: those that every model has, and those that it may have."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from avgen.codecs.base import load_module
from avgen.errors import UserError
from avgen.models.durations import DurationModel
from avgen.models.transformer import AVTransformer

PARTS = ("transformer", "video_codec", "audio_codec")
DURATIONS = "durations"  # how long phonemes last
TEXT_TO_IMAGE = "text_to_image"  # makes the first frame of a caption alone
Part = TypeVar("Part")


def load_durations(folder: Path) -> DurationModel | None:
    """The duration model of a folder of parts, if it has one.

    Raises:
        UserError: that part is something else.
    """
    return _load(folder / DURATIONS, DurationModel)


def load_text_to_image(folder: Path, width: int) -> AVTransformer | None:
    """What makes the first frame in a folder of parts, if it has one, in tokens of `width` numbers.

    Raises:
        UserError: that part is something else, or of other tokens.
    """
    found = _load(folder / TEXT_TO_IMAGE, AVTransformer)
    if found is not None and found.config.token_width != width:
        raise UserError(
            f"{folder / TEXT_TO_IMAGE}: tokens of {found.config.token_width} numbers; codecs "
            f"and `picture`'s video_patch in config.json make them {width}"
        )
    return found


def _load(folder: Path, kind: type[Part]) -> Part | None:
    if not folder.is_dir():
        return None
    found = load_module(folder)
    if not isinstance(found, kind):
        raise UserError(f"{folder}: a {type(found).__name__}, not a {kind.__name__}")
    return found
