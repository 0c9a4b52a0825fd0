"""AVTransformer: one stream of caption, speech, picture and sound tokens; self-attention only.

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
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from avgen.errors import UserError
from avgen.latents.packing import AUDIO, VIDEO, Layout, PackedLayout
from avgen.models.attention import Rows
from avgen.models.layers import Block, TimestepEmbedding, modulate
from avgen.models.rope import CAPTION_PLACE, SOUND_PLACE, SPEECH_PLACE, angles
from avgen.models.text import CaptionEmbedding, SpeechEmbedding, Text
from avgen.models.text_pretrained import PretrainedCaptions

NUM_KINDS = 4  # rows of a modulation table: video, audio (as in MODALITIES), then speech, caption
SPEECH, CAPTION = 2, 3
CAPTION_STEP = 32.0  # pixels from one word of a caption to the next, on the rotary axes


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

    def forward(
        self,
        tokens: Tensor,
        sigma: Tensor,
        layout: Layout | PackedLayout,
        text: Text,
        decoupled: bool = False,
    ) -> Tensor:
        """Velocity [B, L, W] of noisy tokens [B, L, W] at noise levels sigma [B, L].

        0 where tokens are padding. B is 1 where several clips are packed.

        Args:
            tokens: Noisy, in the order of `layout`.
            sigma: In [0, 1]; 0 is given.
            layout: Whose each token is and where it lies.
            text: Captions and speech, a row for every clip; masked words are not seen.
            decoupled: Keep picture and sound from seeing each other (for synchrony guidance), and
                words from seeing either, since they would carry from one to the other.
        """
        is_video = (layout.modality == VIDEO)[:, None]
        stream = torch.where(is_video, self.inward[VIDEO](tokens), self.inward[AUDIO](tokens))
        caption = self.caption(text.caption_ids, text.caption_mask).to(stream.dtype)
        speech = self.speech(text.speech_ids, text.speech_spans).to(stream.dtype)
        rows = None
        if isinstance(layout, PackedLayout):
            rows = clip_rows(layout, text)
            caption, speech = caption.flatten(0, 1)[None], speech.flatten(0, 1)[None]
        stream = torch.cat([caption, speech, stream], 1)
        num_text = stream.shape[1] - layout.num_tokens
        level = self.timestep(F.pad(sigma, (num_text, 0)))
        modulation = self.modulation(F.silu(level))
        cos, sin = self.rotations(layout, text)
        kinds = F.one_hot(self.kinds(layout, text), NUM_KINDS)
        mask = attention_mask(layout, text, decoupled)
        for block in self.blocks:
            if self.checkpoint_blocks and self.training:
                stream = checkpoint(
                    block, stream, modulation, kinds, cos, sin, mask, rows, use_reentrant=False
                )
            else:
                stream = block(stream, modulation, kinds, cos, sin, mask, rows)
        shift, scale = self.last_modulation(F.silu(level[:, num_text:])).chunk(2, -1)
        stream = modulate(stream[:, num_text:], shift, scale)
        made = torch.where(is_video, self.outward[VIDEO](stream), self.outward[AUDIO](stream))
        return made.float() * layout.used

    def kinds(self, layout: Layout | PackedLayout, text: Text) -> Tensor:
        """Row of the modulation table for every token of the stream: int64 [P + S + L]."""
        fill = layout.modality.new_full
        clips = len(layout.lengths) if isinstance(layout, PackedLayout) else 1
        caption, speech = clips * text.caption_ids.shape[1], clips * text.speech_ids.shape[1]
        return torch.cat([fill((caption,), CAPTION), fill((speech,), SPEECH), layout.modality])

    def rotations(self, layout: Layout | PackedLayout, text: Text) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the rotary angles of the stream.

        Float32 [B, 1, P + S + L, E / 2] each; of a packed layout, B is 1 and P and S are those of
        all clips.
        """
        batch, num_words = text.caption_ids.shape
        device = layout.spans.device
        word = torch.arange(num_words, device=device)
        caption_places = torch.tensor(CAPTION_PLACE, device=device) + word[
            :, None
        ] * CAPTION_STEP * word.new_tensor([0, 1])
        sound = torch.tensor(SOUND_PLACE, device=device)
        places = torch.where((layout.modality == VIDEO)[:, None], layout.places, sound)
        speech_places = torch.tensor(SPEECH_PLACE, device=device).expand(
            text.speech_ids.shape[1], 2
        )
        by_kind = [
            (torch.zeros(batch, num_words, device=device), caption_places),
            (text.speech_spans.mean(-1), speech_places),
        ]
        if isinstance(layout, PackedLayout):
            by_kind = [(s.reshape(1, -1), p.repeat(batch, 1)) for s, p in by_kind]
            batch = 1
        by_kind.append((layout.spans.mean(-1).expand(batch, -1), places))
        seconds = torch.cat([seconds for seconds, _ in by_kind], 1)
        places = torch.cat([places for _, places in by_kind]).expand(batch, -1, 2)
        angle = angles(seconds, places, self.config.width // self.config.num_heads)[:, None]
        return angle.cos(), angle.sin()


def clip_rows(layout: PackedLayout, text: Text) -> Rows:
    """The tokens of every clip in the stream: its caption's, its speech's, its own, then padding.

    The stream holds all captions, then all speech, then the tokens of the layout.
    """
    device = layout.modality.device
    num_clips, num_words = text.caption_ids.shape
    num_text = num_words + text.speech_ids.shape[1]
    lengths = torch.tensor(layout.lengths, device=device)
    starts = lengths.cumsum(0) - lengths + num_clips * num_text
    place = torch.arange(max(layout.lengths), device=device)
    inside = place < lengths[:, None]
    texts = torch.arange(num_clips * num_text, device=device)
    captions, speech = texts.split([num_clips * num_words, num_clips * (num_text - num_words)])
    own = torch.where(inside, starts[:, None] + place, 0)
    index = torch.cat([captions.view(num_clips, -1), speech.view(num_clips, -1), own], 1)
    is_token = F.pad(inside, (num_text, 0), value=True).flatten()
    back = torch.empty(num_clips * num_text + layout.num_tokens, dtype=torch.int64, device=device)
    back[index.flatten()[is_token]] = torch.arange(len(is_token), device=device)[is_token]
    return Rows(index, back)


def attention_mask(layout: Layout | PackedLayout, text: Text, decoupled: bool) -> Tensor:
    """Bool [B, 1, 1 or M, M]: True where a token (row) may see another (column).

    M is P + S + L; of a packed layout, B counts its clips and L is the length of the longest.
    """
    batch, num_text = len(text.caption_mask), text.caption_mask.shape[1] + text.speech_mask.shape[1]
    if isinstance(layout, PackedLayout):
        by_clip = list(layout.modality.split(layout.lengths))
        modality = pad_sequence(by_clip, True, padding_value=-1)
    else:
        modality = layout.modality.expand(batch, -1)
    seen = torch.cat([text.caption_mask, text.speech_mask, modality >= 0], 1)
    mask = seen[:, None, None, :]
    if decoupled:
        both = F.pad(modality, (num_text, 0), value=-1)[:, None]
        apart = (both[:, :, None, :] >= 0) & (both[:, :, :, None] != both[:, :, None, :])
        mask = mask & ~apart
    return mask
