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
from einops import reduce
from safetensors.torch import load_file
from torch import Tensor, nn

from avgen.codecs.base import load_module, load_tensors
from avgen.codecs.normalize import LatentStatistics
from avgen.errors import UserError
from avgen.latents.packing import AUDIO, VIDEO
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
        transformer: Of that model's sizes; its picture's patches may be parts of that model's.
        latents: Of the folder that is trained on.

    Returns:
        Statistics of the video and audio latents that the model was trained with.

    Raises:
        UserError: no such model, one of other sizes, or the latents are not of its codecs.
    """
    config = PipelineConfig.read(model)
    video, audio = config.video_patch, config.audio_patch
    if video % latents.video_patch or audio != latents.audio_patch:
        raise UserError(
            f"{model}: tokens of {(video, audio)} latents (picture, sound); the folder has "
            f"{(latents.video_patch, latents.audio_patch)}, and may have parts of the picture's"
        )
    codecs = [load_module(model / name) for name in ("video_codec", "audio_codec")]
    if encoder_fingerprint(*codecs) != latents.fingerprint:
        raise UserError(
            f"{model}: its codecs did not make the latents of the prepared folder; encode with them"
        )
    path = model / "transformer" / "model.safetensors"
    load_tensors(transformer, path, ("step",), lambda state: in_patches(state, video, latents))
    return config.video_statistics, config.audio_statistics


def in_patches(state: dict[str, Tensor], patch: int, latents: LatentConfig) -> dict[str, Tensor]:
    """A transformer's tensors for smaller patches of the picture.

    What goes in and comes out of a patch is what is there on average over its places in the larger
    one, inwards times their number each way, since so much less of it is summed. The rest stays.
    Reference: Beyer et al., "FlexiViT: One Model for All Patch Sizes", 2023 (a simpler resize).

    Args:
        state: By names.
        patch: That the tensors are of: latents each way in a token.
        latents: Whose patches are wanted; `patch` is a multiple of these.
    """
    small, channels = latents.video_patch, latents.video_channels
    if small == patch or f"inward.{VIDEO}.weight" not in state:  # of another class: said later
        return state
    times = patch // small
    width = max(grid.token_channels for grid in latents.grids(1))

    def fit(rows: Tensor, is_video: bool) -> Tensor:
        """Rows [W, ...] of the numbers of a token."""
        if is_video:
            form = "(r p s q c) d -> (p q c) d"
            sizes = {"r": times, "p": small, "s": times, "q": small}
            rows = reduce(rows[: channels * patch**2], form, "mean", **sizes)
        rows = rows[:width]
        return torch.cat([rows, rows.new_zeros(width - len(rows), rows.shape[1])])

    made = dict(state)
    for kind in (VIDEO, AUDIO):
        is_video = kind == VIDEO
        name, out = f"inward.{kind}.weight", f"outward.{kind}"
        made[name] = fit(state[name].T, is_video).T * (times if is_video else 1)
        made[f"{out}.weight"] = fit(state[f"{out}.weight"], is_video)
        made[f"{out}.bias"] = fit(state[f"{out}.bias"][:, None], is_video)[:, 0]
    return made
