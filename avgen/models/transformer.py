"""AVTransformer: one stream of caption, speech, picture and sound tokens; self-attention only.

In: noisy tokens of a `Layout`, a noise level for each of them, and text. Out: the velocity (noise -
clean) of each. What is particular to a modality is its projections in and out and its rows in the
modulation tables. Nothing here knows a frame rate, a sample rate or a size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from avgen.latents.packing import AUDIO, VIDEO, Layout
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
            raise ValueError(
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
        self, tokens: Tensor, sigma: Tensor, layout: Layout, text: Text, decoupled: bool = False
    ) -> Tensor:
        """Velocity [B, L, W] of noisy tokens [B, L, W] at noise levels sigma [B, L].

        0 where tokens are padding.

        Args:
            tokens: Noisy, in the order of `layout`.
            sigma: In [0, 1]; 0 is given.
            layout: Whose each token is and where it lies.
            text: Captions and speech; masked words are not seen.
            decoupled: Keep picture and sound from seeing each other (for synchrony guidance), and
                words from seeing either, since they would carry from one to the other.
        """
        is_video = (layout.modality == VIDEO)[:, None]
        stream = torch.where(is_video, self.inward[VIDEO](tokens), self.inward[AUDIO](tokens))
        caption = self.caption(text.caption_ids, text.caption_mask).to(stream.dtype)
        speech = self.speech(text.speech_ids, text.speech_spans).to(stream.dtype)
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
                    block, stream, modulation, kinds, cos, sin, mask, use_reentrant=False
                )
            else:
                stream = block(stream, modulation, kinds, cos, sin, mask)
        shift, scale = self.last_modulation(F.silu(level[:, num_text:])).chunk(2, -1)
        stream = modulate(stream[:, num_text:], shift, scale)
        made = torch.where(is_video, self.outward[VIDEO](stream), self.outward[AUDIO](stream))
        return made.float() * layout.used

    def kinds(self, layout: Layout, text: Text) -> Tensor:
        """Row of the modulation table for every token of the stream: int64 [P + S + L]."""
        fill = layout.modality.new_full
        caption, speech = text.caption_ids.shape[1], text.speech_ids.shape[1]
        return torch.cat([fill((caption,), CAPTION), fill((speech,), SPEECH), layout.modality])

    def rotations(self, layout: Layout, text: Text) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the rotary angles of the stream.

        Float32 [B, 1, P + S + L, E / 2] each.
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
        places = torch.cat([caption_places, speech_places, places]).expand(batch, -1, 2)
        seconds = torch.cat(
            [
                torch.zeros(batch, num_words, device=device),
                text.speech_spans.mean(-1),
                layout.spans.mean(-1).expand(batch, -1),
            ],
            1,
        )
        angle = angles(seconds, places, self.config.width // self.config.num_heads)[:, None]
        return angle.cos(), angle.sin()


def attention_mask(layout: Layout, text: Text, decoupled: bool) -> Tensor:
    """Bool [B, 1, 1 or P + S + L, P + S + L]: True where a token (row) may see another (column)."""
    batch = text.caption_mask.shape[0]
    seen = torch.cat(
        [text.caption_mask, text.speech_mask, text.speech_mask.new_ones(batch, layout.num_tokens)],
        1,
    )
    mask = seen[:, None, None, :]
    if decoupled:
        num_text = seen.shape[1] - layout.num_tokens
        both = F.pad(layout.modality, (num_text, 0), value=-1)
        apart = (both[None, :] >= 0) & (both[:, None] != both[None, :])
        mask = mask & ~apart
    return mask
