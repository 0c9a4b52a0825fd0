"""The folders of a model folder: those that every model has, and those that it may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from avgen.codecs.base import load_module
from avgen.codecs.speech import SpeechCodec
from avgen.errors import UserError
from avgen.models.durations import DurationModel
from avgen.models.speakers import SpeakerModel
from avgen.models.transformer import AVTransformer

PARTS = ("transformer", "video_codec", "audio_codec")
TEXT_TO_IMAGE = "text_to_image"  # makes the first frame of a caption alone
DURATIONS = "durations"  # how long phonemes last
SPEAKERS = "speakers"  # brings what is said into a given voice
OPTIONAL = {DURATIONS: DurationModel, TEXT_TO_IMAGE: AVTransformer, SPEAKERS: SpeakerModel}


def load_optional(
    folder: Path, picture_width: int, audio_codec: object, device: str | torch.device = "cpu"
) -> dict[str, Any]:
    """Those of the OPTIONAL parts that a folder has, by name.

    Args:
        folder: Of parts.
        picture_width: Numbers in a token of the first picture.
        audio_codec: Whose latents speakers are told apart in.
        device: Where to put them; how long words take is asked before anything is made, and stays.

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
        found[name] = part if name == DURATIONS else part.to(device)
    painter, speakers = found.get(TEXT_TO_IMAGE), found.get(SPEAKERS)
    if painter is not None and painter.config.token_width != picture_width:
        raise UserError(
            f"{folder / TEXT_TO_IMAGE}: tokens of {painter.config.token_width} numbers; codecs "
            f"and `picture`'s video_patch in config.json make them {picture_width}"
        )
    heard = audio_codec.config.num_cepstra if isinstance(audio_codec, SpeechCodec) else None
    if speakers is not None and speakers.config.num_cepstra != heard:
        raise UserError(
            f"{folder / SPEAKERS}: tells voices apart in the latents of a SpeechCodec of "
            f"{speakers.config.num_cepstra} cepstra; audio_codec is another"
        )
    return found
