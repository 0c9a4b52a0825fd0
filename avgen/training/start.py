"""A model folder -> the network that training starts from, and the statistics it was trained with.

A network that goes on from a model must see latents scaled as that model's were, whatever the
statistics of the new clips are, and latents of that model's codecs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from avgen.codecs.base import load_module, load_tensors
from avgen.codecs.normalize import LatentStatistics
from avgen.errors import UserError
from avgen.models.diffusers_backbones import LTX2Backbone, LTX2Config, WanBackbone, WanConfig
from avgen.models.text_pretrained import PretrainedCaptions
from avgen.models.transformer import AVTransformer
from avgen.pipeline.config import PipelineConfig
from avgen.preparation.latent_store import LatentConfig, encoder_fingerprint
from avgen.training.from_wan import start_from_wan

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackboneSource:
    """Somebody else's transformer: its class is what its config names.

    Args:
        source: A folder, or a repository of the Hugging Face hub.
        subfolder: Of it.
        revision: Of the repository.
        random: Begin with random weights in place of those that are there.
    """

    source: str
    subfolder: str = ""
    revision: str | None = None
    random: bool = False


def build_backbone(
    source: BackboneSource,
    token_width: int,
    caption_encoder: str | None,
    caption_layers: Sequence[int],
) -> nn.Module:
    """A network of diffusers' as a backbone.

    Raises:
        UserError: a package is missing, there is no such network, or it is of a class that none of
            ours wraps.
    """
    try:
        import diffusers
    except ImportError as error:
        raise UserError("a backbone needs diffusers: pip install 'avgen[pretrained]'") from error
    kinds = {
        LTX2Backbone.class_name: (LTX2Backbone, LTX2Config),
        WanBackbone.class_name: (WanBackbone, WanConfig),
    }
    place: dict[str, Any] = {"subfolder": source.subfolder, "revision": source.revision}
    try:
        settings: Any = diffusers.WanTransformer3DModel.load_config(source.source, **place)
        name = settings.get("_class_name")
        if name not in kinds:
            raise UserError(f"{source.source}: is a {name}; it must be one of {', '.join(kinds)}")
        kind, config = kinds[name]
        read = {"caption_encoder": caption_encoder, "caption_layers": tuple(caption_layers)}
        network = kind(config(token_width, dict(settings), **read))  # type: ignore[arg-type]
        if not source.random:
            theirs = getattr(diffusers, name)  # one that keeps parts in float32 needs accelerate
            own = {} if theirs._keep_in_fp32_modules else {"low_cpu_mem_usage": False}
            found = theirs.from_pretrained(source.source, torch_dtype=torch.float32, **own, **place)
            network.model.load_state_dict(found.state_dict())
    except OSError as error:
        raise UserError(f"{source.source}: {str(error).strip().splitlines()[0]}") from error
    return network


def captions_of(network: nn.Module) -> str:
    """The text encoder, and its layers, whose features a network reads; "none" of any."""
    caption = getattr(network, "caption", None)
    return caption.encoder.key if isinstance(caption, PretrainedCaptions) else "none"


def start_from_wan_folder(transformer: AVTransformer, folder: Path) -> None:
    """Fill a transformer with Wan 2.1's weights, and log the names of those that are left over.

    Raises:
        UserError: there are none, or they are of other sizes.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"{folder}: has no *.safetensors; it must be a folder of Wan's transformer")
    state = {name: tensor.float() for file in files for name, tensor in load_file(file).items()}
    left = start_from_wan(transformer, state)
    LOG.warning("of %s, %d tensors have no home here: %s", folder, len(left), ", ".join(left))


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
