"""AVTransformer: one stream of caption, speech, picture and sound tokens; self-attention only.

    context = transformer.prepare(layout, text)            # once a clip
    velocity = transformer(tokens, sigma, context)         # once a step

In: noisy tokens of a `Layout`, a noise level for each of them, and text. Out: the velocity (noise -
clean) of each. Several clips may stand in one sequence (`PackedLayout`); text is a row a clip all
the same. What is particular to a modality is its projections in and out and its rows in the
modulation tables. Nothing here knows a frame rate, a sample rate or a size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from avgen.errors import UserError
from avgen.latents.context import (
    CAPTION,
    REFERENCE,
    SPEECH,
    SPEECH_PLACE,
    NoiseLevels,
    Prefix,
    Sight,
    Stream,
    caption_places,
    distinct_levels,
    make_stream,
)
from avgen.latents.packing import AUDIO, VIDEO, Layout, PackedLayout
from avgen.latents.reference import Reference
from avgen.models.attention import attend
from avgen.models.fused import modulate
from avgen.models.heard import HeardSpeech
from avgen.models.layers import Block, Modulation, StepEmbedding, TimestepEmbedding
from avgen.models.phonemes import ARPABET, TimedPhoneme
from avgen.models.rope import angles
from avgen.models.text import CaptionEmbedding, SpeechEmbedding, Text, make_text
from avgen.models.text_pretrained import PretrainedCaptions
from avgen.models.word_vectors import WordCaptions

DEAR = (  # what a block computes that costs more than to keep
    torch.ops.aten.mm.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
)


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
            has none.
        caption_layers: Whose hidden states are read; see `TextEncoder`.
        word_vectors: Read captions by what their words mean (see `WordCaptions`); else, and without
            an encoder, a table of words is learned.
        num_phonemes: Rows of the table of phonemes; the first 39 have neither stress nor pauses.
        has_speech_tokens: Let phonemes stand as tokens of their own.
        hears_speech: Add phonemes to the tokens that they are heard in (see `HeardSpeech`).
        num_expressions: Numbers of every frame's face that a linear head tells from the middle of
            the network; 0 has no head.
        frames_per_latent: Frames of a latent frame, whose faces the head tells.
        sight_s: Seconds of a block of time; with it tokens see their own block and those beside it
            (see `avgen.latents.context.Sight`), for long clips. None sees all of a clip.
        sight_blocks: That are seen on a side.
        sight_is_causal: Whether those after it are not.
        has_references: Know tokens of a reference (see `Reference`) from others.
        distilled: Whether it is told how long a step is and how strong guidance, and predicts the
            guided mean velocity of the step (avgen/diffusion/distillation.py).
    """

    token_width: int
    width: int = 320
    depth: int = 8
    num_heads: int = 5
    mlp_ratio: float = 4.0
    caption_encoder: str | None = None
    caption_layers: tuple[int, ...] = (-1,)
    word_vectors: bool = False
    num_phonemes: int = len(ARPABET)
    has_speech_tokens: bool = True
    hears_speech: bool = False
    num_expressions: int = 0
    frames_per_latent: int = 4
    has_references: bool = False
    sight_s: float | None = None
    sight_blocks: int | None = 1
    sight_is_causal: bool = False
    distilled: bool = False

    has_sound: ClassVar[bool] = True

    @property
    def num_kinds(self) -> int:
        """Rows of a modulation table: video, audio, speech, caption, reference."""
        return REFERENCE + self.has_references

    @property
    def sight(self) -> Sight | None:
        """How far tokens see in time; None is everywhere."""
        if self.sight_s is None:
            return None
        return Sight(self.sight_s, self.sight_blocks, self.sight_is_causal)

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
        prefix: Tokens of captions, speech and references [T, D], before `stream.order`.
        cos: Of the rotary angles of the stream, float32 [M, E / 2].
        sin: Likewise.
        heard: What speech adds to the layout's tokens, [B, L, D].
    """

    layout: Layout | PackedLayout
    stream: Stream
    prefix: Tensor
    cos: Tensor
    sin: Tensor
    heard: Tensor | None


class AVTransformer(nn.Module):
    """See the module's docstring.

    Attributes:
        checkpoint_blocks: Recompute activations in the backward pass, for memory (set by training):
            all, or all but the outcomes of products and of attention ("products"; attention again
            too where it is trained by products).
    """

    def __init__(
        self, config: AVTransformerConfig, each: Callable[[nn.Module], object] | None = None
    ) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.inward = nn.ModuleList(nn.Linear(config.token_width, width) for _ in (VIDEO, AUDIO))
        if config.caption_encoder is not None:
            self.caption = PretrainedCaptions(config.caption_encoder, width, config.caption_layers)
        else:
            self.caption = (WordCaptions if config.word_vectors else CaptionEmbedding)(width)
        self.speech = (
            SpeechEmbedding(width, config.num_phonemes) if config.has_speech_tokens else None
        )
        self.heard = HeardSpeech(width, config.num_phonemes, 2) if config.hears_speech else None
        self.timestep = TimestepEmbedding(width)
        self.step = StepEmbedding(width) if config.distilled else None
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList()
        for _ in range(config.depth):
            block = Block(width, config.num_heads, config.mlp_ratio, config.num_kinds)
            if each is not None:
                each(block)
            self.blocks.append(block)
        self.last_modulation = nn.Linear(width, 2 * width)
        self.outward = nn.ModuleList(nn.Linear(width, config.token_width) for _ in (VIDEO, AUDIO))
        told = config.frames_per_latent * config.num_expressions
        self.expressions = nn.Linear(width, told) if told else None
        self.checkpoint_blocks: bool | str = False
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with closed gates and zero output: adaLN-Zero."""
        heard = [] if self.heard is None else self.heard.outward
        for layer in (self.modulation, self.last_modulation, *self.outward):
            nn.init.zeros_(layer.weight)  # pyright: ignore[reportArgumentType]
            nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
        for layer in heard:
            nn.init.zeros_(layer.weight)  # pyright: ignore[reportArgumentType]

    def compile_blocks(self, backend: str = "inductor") -> None:
        """Compile every block.

        They share one compilation, since they share their code and shapes. `attend` stays out of
        it: it would be compiled anew for every set of lengths.

        Args:
            backend: Of `torch.compile`.
        """
        outside = torch.compiler.disable(attend)  # imports the compiler: 3 s
        for block in self.blocks:
            assert isinstance(block, Block)
            block.attention.attend = outside  # pyright: ignore[reportAttributeAccessIssue]
            block.compile(backend=backend)

    def read(self, captions: Sequence[str], speech: Sequence[Sequence[TimedPhoneme]]) -> Text:
        """Captions and timed phonemes of some clips as this network knows them."""
        return make_text(captions, speech, self.caption.tokenize, self.config.num_phonemes)

    def prepare(
        self,
        layout: Layout | PackedLayout,
        text: Text,
        decoupled: bool = False,
        reference: Reference | None = None,
    ) -> Context:
        """Work out all that does not depend on noise.

        Args:
            layout: Whose each token is and where it lies, on the network's device.
            text: Captions and speech, a row for every clip, best on the CPU; masked words are not
                seen.
            decoupled: Keep picture and sound from seeing each other (for synchrony guidance), and
                words from seeing either, since they would carry from one to the other.
            reference: A voice or face to be like, a row for every clip.

        Raises:
            UserError: a reference, and the network knows none.
        """
        prefixes = text_prefixes(text)[: 1 if self.speech is None else 2]
        text = text.to(layout.spans.device)
        known = () if text.caption_features is None else (text.caption_features,)
        tokens = [self.caption(text.caption_ids, text.caption_mask, *known)]
        if self.speech is not None:
            tokens.append(self.speech(text.speech_ids, text.speech_spans))
        if reference is not None:
            if not self.config.has_references:
                raise UserError("a reference is given; the network was trained without any")
            prefixes.append(Prefix(REFERENCE, reference.seen, reference.seconds, reference.places))
            reference = reference.to(layout.spans.device)
            tokens.append(self.embed(reference.tokens, reference.modality))
        stream = make_stream(layout, prefixes, decoupled, self.config.sight)
        prefix = torch.cat([part.flatten(0, 1).to(tokens[0].dtype) for part in tokens])
        head_width = self.config.width // self.config.num_heads
        angle = angles(stream.seconds, stream.places, head_width)
        return Context(layout, stream, prefix, angle.cos(), angle.sin(), self.hear(layout, text))

    def hear(self, layout: Layout | PackedLayout, text: Text) -> Tensor | None:
        """What speech adds to the tokens of a layout, [B, L, D]; None adds nothing."""
        if self.heard is None:
            return None
        spans, seen = text.speech_spans, text.speech_mask
        vectors = self.heard.vectors(text.speech_ids, spans, seen)
        if isinstance(layout, Layout):
            return self.heard(layout.spans, layout.modality, vectors, spans, seen)
        clips = zip(
            layout.spans.split(layout.lengths),
            layout.modality.split(layout.lengths),
            *(part.split(1) for part in (vectors, spans, seen)),
            strict=True,
        )
        return torch.cat([self.heard(*clip) for clip in clips], 1)

    def embed(self, tokens: Tensor, modality: Tensor) -> Tensor:
        """Tokens [B, L, W] of modality [L] or [B, L] as wide as the stream."""
        is_video = (modality == VIDEO)[..., None]
        return torch.where(is_video, self.inward[VIDEO](tokens), self.inward[AUDIO](tokens))

    def forward(
        self,
        tokens: Tensor,
        sigma: Tensor | NoiseLevels,
        context: Context,
        with_expressions: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Velocity [B, L, W] of noisy tokens [B, L, W].

        0 where tokens are padding. B is 1 where several clips are packed.

        Args:
            tokens: Noisy, in the order of the layout.
            sigma: Noise levels [B, L] in [0, 1], 0 is given; or the few that there are, with which
                a GPU need not wait to have them counted.
            context: Of the clips, from `prepare`.
            with_expressions: Return the faces' expressions too (see `tell_expressions`).
        """
        layout, own = context.layout, context.stream.own
        if isinstance(sigma, Tensor):
            sigma = distinct_levels(sigma, layout.modality)
        stream = self.embed(tokens, layout.modality)
        if context.heard is not None:
            stream = stream + context.heard.to(stream.dtype)
        stream = torch.cat([context.prefix.to(stream.dtype), stream.flatten(0, 1)])
        stream = stream[context.stream.order]
        values, kinds, index = with_prefix(sigma, context.stream, self.config.num_kinds)
        level = self.timestep(values)
        if self.step is not None:
            assert sigma.told is not None, "a distilled network is told of its step"
            steps = self.step(sigma.told)
            level = level + F.pad(steps, (0, 0, 0, len(level) - len(steps)))  # text is in none
        level = F.silu(level)
        modulation = Modulation(self.modulation(level), kinds, index)
        saved: dict[str, Any] = {}
        if self.checkpoint_blocks is not True:
            saved["context_fn"] = save_products
        arguments = modulation, context.cos, context.sin, context.stream.segments
        told = stream
        for number, block in enumerate(self.blocks, 1):
            if self.checkpoint_blocks and self.training:
                stream = checkpoint(block, stream, *arguments, use_reentrant=False, **saved)
            else:
                stream = block(stream, *arguments)
            if with_expressions and number == (len(self.blocks) + 1) // 2:
                told = self.tell_expressions(stream[own].view(*tokens.shape[:2], -1), layout)
        shift, scale = self.last_modulation(level).chunk(2, -1)
        stream = modulate(stream[own], shift, scale, index[own]).view(*tokens.shape[:2], -1)
        is_video = (layout.modality == VIDEO)[:, None]
        made = torch.where(is_video, self.outward[VIDEO](stream), self.outward[AUDIO](stream))
        made = made.float() * layout.used
        return (made, told) if with_expressions else made

    def tell_expressions(self, hidden: Tensor, layout: Layout | PackedLayout) -> Tensor:
        """Expressions [B, T, frames_per_latent, K] of every latent frame, float32.

        Args:
            hidden: [B, L, D]; the tokens of a frame are averaged.
            layout: With T latent frames, of all clips where it is packed.
        """
        assert self.expressions is not None, "the network has no head for them"
        hidden = F.layer_norm(hidden.float(), hidden.shape[-1:])
        rows = layout.num_latents + 1  # one more for what is not of the picture
        count = hidden.new_zeros(rows).index_add(0, layout.latent, hidden.new_ones(hidden.shape[1]))
        total = hidden.new_zeros(len(hidden), rows, hidden.shape[-1])
        mean = total.index_add(1, layout.latent, hidden)[:, :-1] / count[:-1, None]
        return self.expressions(mean).unflatten(-1, (-1, self.config.num_expressions)).float()


def save_products() -> tuple[Any, Any]:
    """Contexts of a forward pass that keeps what is dear to compute, and of its repetition."""
    return create_selective_checkpoint_contexts(list(DEAR))


def text_prefixes(text: Text) -> list[Prefix]:
    """Captions and speech as prefixes of their clips."""
    clips, num_words = text.caption_ids.shape
    no_time = torch.zeros(clips, num_words)
    middle = text.speech_spans.mean(-1)
    beside = torch.tensor(SPEECH_PLACE).expand(*middle.shape, 2)
    words = caption_places(num_words).expand(clips, -1, 2)
    return [
        Prefix(CAPTION, text.caption_mask.cpu(), no_time, words),
        Prefix(SPEECH, text.speech_mask.cpu(), middle, beside),
    ]


def with_prefix(
    levels: NoiseLevels, stream: Stream, num_kinds: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Noise levels of prefixes (0) added: values [N], kinds [N], and every token's index [M].

    Args:
        levels: Of the own tokens.
        stream: Theirs.
        num_kinds: Kinds of tokens; from SPEECH on they stand in prefixes.
    """
    given = torch.arange(SPEECH, num_kinds, device=levels.kinds.device)
    values, kinds = F.pad(levels.values, (0, len(given))), torch.cat([levels.kinds, given])
    prefix = stream.prefix_kinds + len(levels.values) - SPEECH
    return values, kinds, torch.cat([prefix, levels.index.flatten()])[stream.order]
