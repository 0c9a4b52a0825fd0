"""AVTransformer: one stream of caption, speech, picture and sound tokens; self-attention only.

    context = transformer.prepare(layout, text)            # once a clip
    velocity = transformer(tokens, sigma, context)         # once a step

In: noisy tokens of a `Layout`, a noise level for each of them, and text. Out: the velocity (noise -
clean) of each. Several clips may stand in one sequence (`PackedLayout`); text is a row a clip all
the same. What is particular to a modality is its projections in and out and its rows in the
modulation tables. Nothing here knows a frame rate, a sample rate or a size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from avgen.errors import UserError
from avgen.latents.context import (
    CAPTION,
    SPEECH,
    SPEECH_PLACE,
    NoiseLevels,
    Prefix,
    Stream,
    caption_places,
    distinct_levels,
    make_stream,
)
from avgen.latents.packing import AUDIO, VIDEO, Layout, PackedLayout
from avgen.models.layers import Block, Modulation, TimestepEmbedding, modulate
from avgen.models.rope import angles
from avgen.models.text import CaptionEmbedding, SpeechEmbedding, Text
from avgen.models.text_pretrained import PretrainedCaptions

NUM_KINDS = 4  # rows of a modulation table: video, audio, speech, caption


@dataclass(frozen=True)
class AVTransformerConfig:
    """Sizes of an `AVTransformer`.

    Args:
        token_width: W, numbers in a token of the layout.
        width: D of the stream.
        depth: Blocks.
        num_heads: Heads of attention in each block; `width / num_heads` is a multiple of 8.
        mlp_ratio: Hidden width of each block's network over D.
        caption_encoder: Name or folder of a Hugging Face text encoder for captions, frozen; None
            learns a table of words.
    """

    token_width: int
    width: int = 320
    depth: int = 8
    num_heads: int = 5
    mlp_ratio: float = 4.0
    caption_encoder: str | None = None

    def __post_init__(self) -> None:
        """Check that the heads fit."""
        if self.width % self.num_heads or (self.width // self.num_heads) % 8:
            raise UserError(
                f"width {self.width} over {self.num_heads} heads; "
                "each head must be a multiple of 8 wide"
            )


@dataclass(frozen=True)
class Context:
    """What a network knows of some clips before it sees a token of them.

    Attributes:
        layout: Of the tokens.
        stream: Where every token stands and what it sees.
        prefix: Tokens of captions and speech [R, T, D], before `stream.order`.
        cos: Of the rotary angles of the stream, float32 [R, 1, M, E / 2].
        sin: Likewise.
    """

    layout: Layout | PackedLayout
    stream: Stream
    prefix: Tensor
    cos: Tensor
    sin: Tensor


class AVTransformer(nn.Module):
    """See the module's docstring.

    Attributes:
        checkpoint_blocks: Recompute activations in the backward pass, for memory (set by training).
    """

    def __init__(self, config: AVTransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.inward = nn.ModuleList(nn.Linear(config.token_width, width) for _ in (VIDEO, AUDIO))
        self.caption = (
            CaptionEmbedding(width)
            if config.caption_encoder is None
            else PretrainedCaptions(config.caption_encoder, width)
        )
        self.speech = SpeechEmbedding(width)
        self.timestep = TimestepEmbedding(width)
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(
            Block(width, config.num_heads, config.mlp_ratio, NUM_KINDS) for _ in range(config.depth)
        )
        self.last_modulation = nn.Linear(width, 2 * width)
        self.outward = nn.ModuleList(nn.Linear(width, config.token_width) for _ in (VIDEO, AUDIO))
        self.checkpoint_blocks = False
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with closed gates and zero output: adaLN-Zero."""
        for layer in (self.modulation, self.last_modulation, *self.outward):
            nn.init.zeros_(layer.weight)  # pyright: ignore[reportArgumentType]
            nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]

    def compile_blocks(self) -> None:
        """Compile every block.

        They share one compilation, since they share their code and shapes.
        """
        for block in self.blocks:
            block.compile()

    def prepare(
        self, layout: Layout | PackedLayout, text: Text, decoupled: bool = False
    ) -> Context:
        """Work out all that does not depend on noise.

        Args:
            layout: Whose each token is and where it lies, on the network's device.
            text: Captions and speech, a row for every clip, best on the CPU; masked words are not
                seen.
            decoupled: Keep picture and sound from seeing each other (for synchrony guidance), and
                words from seeing either, since they would carry from one to the other.
        """
        if len(text.caption_ids) == 1 and isinstance(layout, Layout):
            text = text.without_padding()
        prefixes = (
            Prefix(
                CAPTION,
                text.caption_mask.cpu(),
                torch.zeros(text.caption_ids.shape),
                caption_places(text.caption_ids.shape[1]),
            ),
            Prefix(
                SPEECH,
                text.speech_mask.cpu(),
                text.speech_spans.mean(-1),
                torch.tensor(SPEECH_PLACE).expand(text.speech_ids.shape[1], 2),
            ),
        )
        stream = make_stream(layout, prefixes, decoupled)
        text = text.to(layout.spans.device)
        caption = self.caption(text.caption_ids, text.caption_mask)
        speech = self.speech(text.speech_ids, text.speech_spans)
        if stream.segments.packed:
            caption, speech = caption.flatten(0, 1)[None], speech.flatten(0, 1)[None]
        prefix = torch.cat([caption, speech.to(caption.dtype)], 1)
        head_width = self.config.width // self.config.num_heads
        angle = angles(stream.seconds, stream.places, head_width)[:, None]
        return Context(layout, stream, prefix, angle.cos(), angle.sin())

    def forward(self, tokens: Tensor, sigma: Tensor | NoiseLevels, context: Context) -> Tensor:
        """Velocity [B, L, W] of noisy tokens [B, L, W].

        0 where tokens are padding. B is 1 where several clips are packed.

        Args:
            tokens: Noisy, in the order of the layout.
            sigma: Noise levels [B, L] in [0, 1], 0 is given; or the few that there are, with which
                a GPU need not wait to have them counted.
            context: Of the clips, from `prepare`.
        """
        layout, own = context.layout, context.stream.own
        if isinstance(sigma, Tensor):
            sigma = distinct_levels(sigma, layout.modality)
        is_video = (layout.modality == VIDEO)[:, None]
        stream = torch.where(is_video, self.inward[VIDEO](tokens), self.inward[AUDIO](tokens))
        stream = torch.cat([context.prefix.to(stream.dtype), stream], 1)
        values, kinds, index = with_prefix(sigma, context.stream)
        if context.stream.order is not None:
            stream = stream[:, context.stream.order]
        level = F.silu(self.timestep(values))
        modulation = Modulation(self.modulation(level), kinds, index)
        arguments = modulation, context.cos, context.sin, context.stream.segments
        for block in self.blocks:
            if self.checkpoint_blocks and self.training:
                stream = checkpoint(block, stream, *arguments, use_reentrant=False)
            else:
                stream = block(stream, *arguments)
        last = Modulation(self.last_modulation(level), kinds, index[:, own])
        stream = modulate(stream[:, own], *last.of_tokens(last.levels, 2))
        made = torch.where(is_video, self.outward[VIDEO](stream), self.outward[AUDIO](stream))
        return made.float() * layout.used


def with_prefix(levels: NoiseLevels, stream: Stream) -> tuple[Tensor, Tensor, Tensor]:
    """Noise levels [N + 2], their kinds, and which of them every token of the stream is at."""
    text_kinds = levels.kinds.new_tensor([SPEECH, CAPTION])
    values, kinds = F.pad(levels.values, (0, 2)), torch.cat([levels.kinds, text_kinds])
    prefix = (stream.prefix_kinds + len(levels.values) - SPEECH).expand(len(levels.index), -1)
    index = torch.cat([prefix, levels.index], 1)
    return values, kinds, index if stream.order is None else index[:, stream.order]
