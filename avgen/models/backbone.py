"""What training and sampling ask of a network: one method, and the blocks that it is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from avgen.latents.context import NoiseLevels
from avgen.latents.packing import Layout, PackedLayout
from avgen.latents.reference import Reference
from avgen.models.phonemes import TimedPhoneme
from avgen.models.text import Text


@runtime_checkable
class Backbone(Protocol):
    """Predicts velocities: `avgen.models.transformer.AVTransformer`, or somebody else's network.

        context = backbone.prepare(layout, text)            # once a clip
        velocity = backbone(tokens, sigma, context)         # once a step

    It is an nn.Module whose `config` says what it knows besides: `distilled`, `num_expressions`,
    `has_references`, `has_sound`.
    """

    config: Any
    checkpoint_blocks: bool

    @property
    def blocks(self) -> Iterable[nn.Module]:
        """What repeats: the units of compilation, of recomputation and of sharding."""
        ...

    def read(self, captions: Sequence[str], speech: Sequence[Sequence[TimedPhoneme]]) -> Text:
        """Captions and timed phonemes of some clips as this network knows them."""
        ...

    def prepare(
        self,
        layout: Layout | PackedLayout,
        text: Text,
        decoupled: bool = False,
        reference: Reference | None = None,
    ) -> Any:
        """Work out all that does not depend on noise."""
        ...

    def __call__(
        self, tokens: Tensor, sigma: Tensor | NoiseLevels, context: Any, **told: Any
    ) -> Any:
        """Velocity [B, L, W] of noisy tokens [B, L, W] at noise levels [B, L]."""
        ...
