"""Floating-point operations of the transformer, in closed form: a product counts 2.

Counted are matrix products and attention; what is element-wise is not, nor is a pretrained caption
encoder. A training step is three forward passes (Kaplan et al. 2020, arXiv:2001.08361, section 2.1:
a backward pass is two), whatever is computed again to save memory.
"""

from __future__ import annotations

from avgen.latents.context import Stream
from avgen.latents.packing import MODALITIES
from avgen.models.layers import TIMESTEP_FEATURES
from avgen.models.transformer import AVTransformerConfig, Context

FORWARDS_OF_A_STEP = 3


def forward_flops(config: AVTransformerConfig, context: Context, num_levels: int) -> int:
    """Operations of one forward pass over a batch, after `prepare`.

    Args:
        config: Sizes.
        context: Of the clips.
        num_levels: Noise levels of picture and sound that there are (see `NoiseLevels`).
    """
    return stream_flops(config, context.stream, num_levels)


def stream_flops(config: AVTransformerConfig, stream: Stream, num_levels: int) -> int:
    """Likewise of a stream, which is known without a network."""
    width, hidden = config.width, int(config.width * config.mlp_ratio)
    tokens, length = len(stream.own), sum(stream.segments.lengths)
    levels = num_levels + config.num_kinds - len(MODALITIES)  # with those of what is given
    block = (
        2 * length * (4 * width**2 + 2 * width * hidden)  # attention's projections, the network
        + 4 * stream.segments.num_pairs * width  # queries by keys, weights by values
    )
    around = (
        2 * tokens * 4 * config.token_width * width  # in and out, both modalities' for every token
        + 2 * levels * (TIMESTEP_FEATURES * width + width**2 + 8 * width**2)  # with modulations
    )
    return around + config.depth * block
