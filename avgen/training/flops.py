"""Floating-point operations of the transformer, in closed form: a product counts 2.

Counted are matrix products and attention; what is element-wise is not, nor is a pretrained caption
encoder. A training step is three forward passes (Kaplan et al. 2020, arXiv:2001.08361, section 2.1:
a backward pass is two), whatever is computed again to save memory.
"""

from __future__ import annotations

from avgen.latents.packing import Layout, PackedLayout
from avgen.models.layers import TIMESTEP_FEATURES
from avgen.models.text import Text
from avgen.models.transformer import NUM_KINDS, AVTransformerConfig

FORWARDS_OF_A_STEP = 3


def forward_flops(config: AVTransformerConfig, layout: Layout | PackedLayout, text: Text) -> int:
    """Operations of one forward pass over a batch.

    Args:
        config: Sizes.
        layout: Of every row of the batch, or of its one packed row.
        text: A row a clip, padding included, which is computed like the rest.
    """
    width, hidden = config.width, int(config.width * config.mlp_ratio)
    num_clips, num_words = text.caption_ids.shape
    num_phonemes = text.speech_ids.shape[1]
    if isinstance(layout, PackedLayout):
        tokens, longest = layout.num_tokens, max(layout.lengths)
        different = tokens + num_clips * (num_words + num_phonemes)
    else:
        tokens, longest = num_clips * layout.num_tokens, layout.num_tokens
        different = layout.num_tokens + num_words + num_phonemes
    stream = tokens + num_clips * (num_words + num_phonemes)
    in_sight = num_clips * (longest + num_words + num_phonemes) ** 2
    block = (
        2 * stream * (4 * width**2 + 2 * width * hidden)  # attention's projections, the network
        + 4 * in_sight * width  # queries by keys, weights by values
        + 2 * different * NUM_KINDS * 6 * width  # the modulation table
    )
    around = (
        2 * tokens * 4 * config.token_width * width  # in and out, both modalities' for every token
        + 2 * num_clips * num_phonemes * 2 * width  # how long a phoneme lasts
        + 2 * stream * (TIMESTEP_FEATURES * width + width**2 + 6 * width**2)
        + 2 * tokens * 2 * width**2  # the last modulation
    )
    return around + config.depth * block
