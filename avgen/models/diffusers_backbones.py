"""Video transformers that somebody else trained, as backbones: diffusers' LTX-2 and Wan.

Tokens in the order of our layouts in, velocities out. Noise levels are told a token; positions are
LTX-2's own, in seconds and pixels, which our layouts hold too, and Wan's, which counts. Both read
captions and nothing that is timed. Clips of a batch have one layout (`Buckets`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn

from avgen.errors import UserError
from avgen.latents.context import NoiseLevels
from avgen.latents.packing import Layout, PackedLayout
from avgen.latents.reference import Reference
from avgen.models.phonemes import TimedPhoneme
from avgen.models.text import CaptionEmbedding, Text, make_text
from avgen.models.text_pretrained import PretrainedCaptions

Pair = tuple[Tensor, Tensor]  # of picture and of sound
TIMESTEPS = 1000  # that a noise level of 1 is told as


@dataclass(frozen=True)
class DiffusersConfig:
    """Which network.

    Args:
        token_width: W, numbers in a token of the layout.
        settings: Of the network, as its own config.json has them.
        caption_encoder: Name or folder of the text encoder whose features it reads; None learns a
            table of words.
        caption_layers: Whose hidden states; see `avgen.models.text_pretrained.TextEncoder`.
    """

    token_width: int
    settings: dict[str, Any] = field(default_factory=dict)
    caption_encoder: str | None = None
    caption_layers: tuple[int, ...] = (-1,)

    distilled: ClassVar[bool] = False
    has_references: ClassVar[bool] = False
    num_expressions: ClassVar[int] = 0


@dataclass(frozen=True)
class DiffusersContext:
    """What is known of some clips before a token of them is seen.

    Attributes:
        layout: Of every clip.
        features: Of captions, [B, P, F].
        mask: Which of them are seen, [B, P].
        decoupled: Keep picture and sound from seeing each other.
    """

    layout: Layout
    features: Tensor
    mask: Tensor
    decoupled: bool


class DiffusersBackbone(nn.Module):
    """One of diffusers' transformers; see the module's docstring.

    Raises:
        UserError: diffusers is missing, or the settings are of another network.
    """

    class_name: ClassVar[str]
    text_width: ClassVar[str]  # what its settings call the width of the text's features
    blocks_name: ClassVar[str]

    def __init__(self, config: DiffusersConfig) -> None:
        super().__init__()
        self.config = config
        try:
            import diffusers
        except ImportError as error:
            raise UserError(
                f"{self.class_name} needs diffusers: pip install 'avgen[pretrained]'"
            ) from error
        named = config.settings.get("_class_name", self.class_name)
        if named != self.class_name:
            raise UserError(f"the settings are of a {named}, not of a {self.class_name}")
        self.model: Any = getattr(diffusers, self.class_name).from_config(config.settings)
        width = self.model.config[self.text_width]
        if config.caption_encoder is None:
            self.caption: nn.Module = CaptionEmbedding(width)
        else:
            self.caption = PretrainedCaptions(config.caption_encoder, width, config.caption_layers)

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer's."""
        return getattr(self.model, self.blocks_name)

    @property
    def checkpoint_blocks(self) -> bool:
        """Whether activations are computed again in the backward pass."""
        return self.model.gradient_checkpointing

    @checkpoint_blocks.setter
    def checkpoint_blocks(self, on: bool) -> None:
        self.model.gradient_checkpointing = bool(on)

    def compile_blocks(self) -> None:
        """Compile every block."""
        for block in self.blocks:
            block.compile()

    def read(self, captions: Sequence[str], speech: Sequence[Sequence[TimedPhoneme]]) -> Text:
        """Captions as this network knows them; what is said when, it cannot read."""
        return make_text(captions, [[] for _ in speech], self.caption.tokenize)  # type: ignore[arg-type]

    def prepare(
        self,
        layout: Layout | PackedLayout,
        text: Text,
        decoupled: bool = False,
        reference: Reference | None = None,
    ) -> DiffusersContext:
        """Embed the captions.

        Raises:
            UserError: clips of several layouts in one sequence, or a reference.
        """
        if not isinstance(layout, Layout):
            raise UserError(f"{self.class_name} takes clips of one shape; batch them by Buckets")
        if reference is not None:
            raise UserError("a reference is given; the network was trained without any")
        text = text.to(layout.spans.device)
        known = () if text.caption_features is None else (text.caption_features,)
        features = self.caption(text.caption_ids, text.caption_mask, *known)
        return DiffusersContext(layout, features, text.caption_mask, decoupled)

    def forward(
        self, tokens: Tensor, sigma: Tensor | NoiseLevels, context: DiffusersContext
    ) -> Tensor:
        """Velocity [B, L, W] of noisy tokens [B, L, W], 0 where tokens are padding.

        Args:
            tokens: In the order of the layout.
            sigma: Noise levels [B, L] in [0, 1], 0 is given.
            context: Of the clips.
        """
        layout = context.layout
        if isinstance(sigma, NoiseLevels):
            sigma = sigma.values[sigma.index]
        count = layout.video.num_tokens if layout.has_picture else 0
        place = layout.order.argsort()  # all tokens of the picture, then all of the sound
        ordered, steps = tokens[:, place], TIMESTEPS * sigma.expand(len(tokens), -1)[:, place]
        video = ordered[:, :count, : layout.video.token_channels]
        audio = ordered[:, count:, : layout.audio.token_channels]
        parts = self.velocities((video, audio), (steps[:, :count], steps[:, count:]), context)
        made = torch.zeros_like(ordered, dtype=torch.float32)
        made[:, :count, : video.shape[2]] = parts[0].float()
        if parts[1] is not None:
            made[:, count:, : audio.shape[2]] = parts[1].float()
        return made[:, layout.order]

    def velocities(
        self, noisy: Pair, steps: Pair, context: DiffusersContext
    ) -> tuple[Tensor, Tensor | None]:
        """Velocities of picture [B, Lv, Cv] and sound [B, La, Ca], whose steps are [B, L]."""
        raise NotImplementedError


@dataclass(frozen=True)
class LTX2Config(DiffusersConfig):
    """See `DiffusersConfig`."""

    has_sound: ClassVar[bool] = True


class LTX2Backbone(DiffusersBackbone):
    """LTX2VideoTransformer3DModel: picture and sound in two streams that attend to each other."""

    class_name, text_width = "LTX2VideoTransformer3DModel", "caption_channels"
    blocks_name = "transformer_blocks"

    def __init__(self, config: LTX2Config) -> None:
        super().__init__(config)

    def velocities(
        self, noisy: Pair, steps: Pair, context: DiffusersContext
    ) -> tuple[Tensor, Tensor | None]:
        """See `DiffusersBackbone`.

        Raises:
            UserError: a clip without picture or without sound, which the network cannot have.
        """
        layout, rows = context.layout, len(noisy[0])
        if not (layout.has_picture and layout.has_sound):
            raise UserError("LTX-2 takes clips with picture and sound; this one lacks one of them")
        video_coords, audio_coords = ltx_coordinates(layout)
        mask = context.mask.clone()
        mask[:, 0] |= ~mask.any(1)  # attention over nothing is no number
        made = self.model(
            hidden_states=noisy[0],
            audio_hidden_states=noisy[1],
            encoder_hidden_states=context.features,
            audio_encoder_hidden_states=context.features,
            timestep=steps[0],
            audio_timestep=steps[1],
            encoder_attention_mask=mask,
            audio_encoder_attention_mask=mask,
            video_coords=video_coords.expand(rows, -1, -1, -1),
            audio_coords=audio_coords.expand(rows, -1, -1, -1),
            isolate_modalities=context.decoupled,
            return_dict=False,
        )
        return made[0], made[1]


def ltx_coordinates(layout: Layout) -> tuple[Tensor, Tensor]:
    """Where LTX-2 has a layout's tokens: [1, 3, Lv, 2] seconds, pixels; [1, 1, La, 2] seconds."""
    place, grid = layout.order.argsort(), layout.video
    spans, middles = layout.spans[place], layout.places[place][: grid.num_tokens]
    size = middles.new_tensor([grid.patch * grid.stride[1], grid.patch * grid.stride[2]])
    start = middles + middles.new_tensor([grid.height, grid.width]) / 2 - size / 2
    pixels = torch.stack([start, start + size], -1)  # [Lv, 2, 2]
    video = torch.cat([spans[: grid.num_tokens, None], pixels], 1).transpose(0, 1)
    return video[None], spans[None, None, grid.num_tokens :]


@dataclass(frozen=True)
class WanConfig(DiffusersConfig):
    """See `DiffusersConfig`."""

    has_sound: ClassVar[bool] = False


class WanBackbone(DiffusersBackbone):
    """WanTransformer3DModel: a picture alone; of sound it says nothing, and makes none."""

    class_name, text_width, blocks_name = "WanTransformer3DModel", "text_dim", "blocks"

    def __init__(self, config: WanConfig) -> None:
        super().__init__(config)

    def velocities(
        self, noisy: Pair, steps: Pair, context: DiffusersContext
    ) -> tuple[Tensor, Tensor | None]:
        """See `DiffusersBackbone`.

        Raises:
            UserError: a clip without a picture, or tokens of another patch than the network's.
        """
        grid, patch = context.layout.video, tuple(self.model.config.patch_size)
        if not context.layout.has_picture:
            raise UserError("Wan takes clips with a picture; this one has none")
        if patch != (1, grid.patch, grid.patch):
            raise UserError(f"tokens of {grid.patch} latents each way; Wan's patches are {patch}")
        (rows, columns), each = grid.token_size, {"p": grid.patch, "q": grid.patch}
        inward = "b (t h w) (p q c) -> b c t (h p) (w q)"
        latents = rearrange(noisy[0], inward, h=rows, w=columns, **each)
        features = context.features * context.mask[..., None]  # as Wan pads: with zeros
        made = self.model(latents, steps[0], features, return_dict=False)[0]
        back = "b c t (h p) (w q) -> b (t h w) (p q c)"
        return rearrange(made, back, **each), None
