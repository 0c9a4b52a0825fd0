"""The transformer with guidance, in the form that a sampler walks with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from avgen.diffusion.guidance import guide
from avgen.diffusion.path import clean_from_velocity
from avgen.latents.packing import Layout
from avgen.models.text import Text
from avgen.models.transformer import AVTransformer, Context
from avgen.pipeline.config import Sampling


@dataclass(frozen=True)
class Denoiser:
    """Noisy tokens and their noise levels in, clean tokens out.

    Attributes:
        transformer: Predicts the velocity.
        layout: Where the tokens lie.
        text: Two rows: what is asked for, and what guidance pushes away from.
        sampling: Scales of guidance; where both are 1 the second row is left out.
        dtype: Of the arithmetic inside the transformer (autocast).
    """

    transformer: AVTransformer
    layout: Layout
    text: Text
    sampling: Sampling
    dtype: torch.dtype

    @property
    def is_guided(self) -> bool:
        """Whether there is anything to push away from."""
        return (self.sampling.guidance_scale, self.sampling.audio_guidance_scale) != (1, 1)

    @cached_property
    def context(self) -> Context:
        """What the transformer knows of the rows, worked out once."""
        rows = 2 if self.is_guided else 1
        text = Text(**{name: value[:rows] for name, value in vars(self.text).items()})
        return self.transformer.prepare(self.layout, text)

    def __call__(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """Clean tokens [1, L, W] from noisy ones [1, L, W] at noise levels sigma [1, L]."""
        rows = 2 if self.is_guided else 1
        enabled = self.dtype != torch.float32
        with torch.autocast(noisy.device.type, self.dtype, enabled=enabled):
            velocity = self.transformer(
                noisy.expand(rows, -1, -1), sigma.expand(rows, -1), self.context
            ).float()
        if self.is_guided:
            by_modality = [self.sampling.guidance_scale, self.sampling.audio_guidance_scale]
            scales = noisy.new_tensor(by_modality)[self.layout.modality][None]
            velocity = guide(velocity[:1], velocity[1:], scales)
        return clean_from_velocity(noisy, velocity, sigma)
