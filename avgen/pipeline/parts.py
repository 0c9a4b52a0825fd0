"""The folders of a model folder: those that every model has, and those that it may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avgen.codecs.base import load_module
from avgen.errors import UserError
from avgen.models.durations import DurationModel
from avgen.models.speakers import SpeakerModel
from avgen.models.transformer import AVTransformer

PARTS = ("transformer", "video_codec", "audio_codec")
TEXT_TO_IMAGE = "text_to_image"  # makes the first frame of a caption alone
SPEAKERS = "speakers"  # brings what is said into a given voice
OPTIONAL = {"durations": DurationModel, TEXT_TO_IMAGE: AVTransformer, SPEAKERS: SpeakerModel}


def load_optional(folder: Path, picture_width: int, audio_channels: int) -> dict[str, Any]:
    """Those of the OPTIONAL parts that a folder has, by name.

    Args:
        folder: Of parts.
        picture_width: Numbers in a token of the first picture.
        audio_channels: Numbers in a latent of the sound.

    Raises:
        UserError: one is something else, or made for other codecs.
    """
    found: dict[str, Any] = {}
    for name, kind in OPTIONAL.items():
        if not (folder / name).is_dir():
            continue
        part = load_module(folder / name)
        if not isinstance(part, kind):
            raise UserError(f"{folder / name}: a {type(part).__name__}, not a {kind.__name__}")
        found[name] = part
    painter, speakers = found.get(TEXT_TO_IMAGE), found.get(SPEAKERS)
    if painter is not None and painter.config.token_width != picture_width:
        raise UserError(
            f"{folder / TEXT_TO_IMAGE}: tokens of {painter.config.token_width} numbers; codecs "
            f"and `picture`'s video_patch in config.json make them {picture_width}"
        )
    if speakers is not None and speakers.config.num_cepstra + 2 != audio_channels:
        raise UserError(
            f"{folder / SPEAKERS}: {speakers.config.num_cepstra} cepstra, pitch and voicing; "
            f"latents of the sound have {audio_channels} numbers"
        )
    return found
