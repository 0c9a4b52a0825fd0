"""A model folder -> the network that training starts from, and the statistics it was trained with.

A network that goes on from a model must see latents scaled as that model's were, whatever the
statistics of the new clips are, and latents of that model's codecs.
"""

from __future__ import annotations

from pathlib import Path

from avgen.codecs.base import load_module, load_tensors
from avgen.codecs.normalize import LatentStatistics
from avgen.errors import UserError
from avgen.models.transformer import AVTransformer
from avgen.pipeline.config import PipelineConfig
from avgen.preparation.latent_store import LatentConfig, encoder_fingerprint


def start_from(
    model: Path, transformer: AVTransformer, latents: LatentConfig
) -> tuple[LatentStatistics, LatentStatistics]:
    """Fill a transformer from a model folder.

    Args:
        model: What `AVPipeline.from_pretrained` reads.
        transformer: Of that model's sizes.
        latents: Of the folder that is trained on.

    Returns:
        Statistics of the video and audio latents that the model was trained with.

    Raises:
        UserError: no such model, one of other sizes, or the latents are not of its codecs.
    """
    config = PipelineConfig.read(model)
    patches = config.video_patch, config.audio_patch
    if patches != (latents.video_patch, latents.audio_patch):
        raise UserError(
            f"{model}: tokens of {patches} latents (picture, sound); the prepared folder has "
            f"{(latents.video_patch, latents.audio_patch)}"
        )
    codecs = [load_module(model / name) for name in ("video_codec", "audio_codec")]
    if encoder_fingerprint(*codecs) != latents.fingerprint:
        raise UserError(
            f"{model}: its codecs did not make the latents of the prepared folder; encode with them"
        )
    load_tensors(transformer, model / "transformer" / "model.safetensors", ("step",))
    return config.video_statistics, config.audio_statistics
