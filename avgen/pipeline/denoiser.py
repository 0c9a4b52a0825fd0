"""The transformer with guidance, in the form that a sampler walks with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avgen.diffusion.guidance import guide
from avgen.diffusion.path import clean_from_velocity
from avgen.latents.packing import Layout
from avgen.models.text import Text
from avgen.models.transformer import AVTransformer
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

    def __call__(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """Clean tokens [1, L, W] from noisy ones [1, L, W] at noise levels sigma [1, L]."""
        by_modality = [self.sampling.guidance_scale, self.sampling.audio_guidance_scale]
        is_guided = by_modality != [1, 1]
        rows = 2 if is_guided else 1
        text = Text(**{name: value[:rows] for name, value in vars(self.text).items()})
        enabled = self.dtype != torch.float32
        with torch.autocast(noisy.device.type, self.dtype, enabled=enabled):
            velocity = self.transformer(
                noisy.expand(rows, -1, -1), sigma.expand(rows, -1), self.layout, text
            ).float()
        if is_guided:
            scales = noisy.new_tensor(by_modality)[self.layout.modality][None]
            velocity = guide(velocity[:1], velocity[1:], scales)
        return clean_from_velocity(noisy, velocity, sigma)
