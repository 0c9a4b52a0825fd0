"""The transformer with guidance, in the form that a sampler walks with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avgen.diffusion.guidance import (
    guide,
    guide_synchrony,
    interval_scale,
    limited_share,
    rescale,
)
from avgen.diffusion.path import clean_from_velocity, mix
from avgen.diffusion.samplers import SAMPLERS, STOCHASTIC, Callback
from avgen.diffusion.schedules import shifted_sigmas
from avgen.latents.context import NoiseLevels, distinct_levels
from avgen.latents.packing import MODALITIES, Layout
from avgen.latents.reference import make_reference
from avgen.models.backbone import Backbone
from avgen.models.text import Text
from avgen.pipeline.config import PipelineConfig


@dataclass(frozen=True)
class Denoiser:
    """Noisy tokens and their noise levels in, clean tokens out.

    Attributes:
        transformer: Predicts the velocity.
        layout: Where the tokens lie.
        text: Two rows: what is asked for, and what guidance pushes away from.
        settings: Scales of guidance; where none pulls, the second row is left out.
        dtype: Of the arithmetic inside the transformer (autocast).
        like: Tokens [N, W] of a voice and face to be like, and their layout, or None.

    What the network tells of the faces' expressions besides is kept, of the last step, guided as
    the picture is.
    """

    transformer: Backbone
    layout: Layout
    text: Text
    settings: PipelineConfig
    dtype: torch.dtype
    like: tuple[Tensor, Layout] | None = None
    _contexts: dict[tuple[int, bool], Any] = field(default_factory=dict)
    _told: list[Tensor] = field(default_factory=list)
    _share: list[Tensor] = field(default_factory=list)

    @property
    def expressions(self) -> Tensor | None:
        """Those of the last step [1, T, frames of a latent, K]; None of a network without any."""
        return self._told[-1] if self._told else None

    def sample(
        self,
        clean: Tensor,
        given: Tensor,
        seeds: tuple[int, int],
        callback: Callback | None = None,
    ) -> Tensor:
        """Clean tokens [1, L, W] from noise, by the sampler, steps and schedule of the settings.

        Args:
            clean: Tokens [1, L, W], as far as they are given.
            given: Bool [L]: which.
            seeds: Of the noise.
            callback: As of the sampler.
        """
        own, layout = self.settings, self.layout
        self._share.clear()
        seed = np.random.SeedSequence((seeds[0] % 2**63, seeds[1]))
        generator = torch.Generator().manual_seed(int(seed.generate_state(1, np.uint64)[0] >> 1))

        def draw() -> Tensor:
            noise = torch.randn(clean.shape, generator=generator).to(clean)
            return noise * layout.used * own.temperature

        shifts = own.shift, own.audio_shift or own.shift
        grids = [shifted_sigmas(own.num_inference_steps, shift) for shift in shifts]
        grid = torch.stack(grids, 1)
        grid = grid * (grid > own.last_sigma)
        grid = torch.cat([grid[grid.any(1)], grid[-1:]])  # ends in the first 0
        sigmas = grid.to(clean.device)[:, None, layout.modality] * ~given
        more = {"draw": draw} if own.sampler in STOCHASTIC else {}
        noisy = mix(clean, draw(), sigmas[0])
        return SAMPLERS[own.sampler](self, noisy, sigmas, callback=callback, **more)

    def __call__(self, noisy: Tensor, sigma: Tensor, end: Tensor | None = None) -> Tensor:
        """Clean tokens [1, L, W] from noisy ones [1, L, W] at noise levels sigma [1, L].

        `end` are the levels at which the step ends, for a network that was distilled to steps.
        """
        own = self.settings
        scales = noisy.new_tensor([own.guidance_scale, own.audio_guidance_scale])
        scales = scales[self.layout.modality][None]
        scales = interval_scale(scales, sigma, *own.guidance_interval)
        if self.transformer.config.distilled:  # guidance is in its weights
            told = torch.stack([sigma - (sigma if end is None else end), scales], -1)
            levels = distinct_levels(sigma, self.layout.modality, told)
            return clean_from_velocity(noisy, self.velocity(noisy, levels, 1), sigma)
        is_guided = bool((scales != 1).any())
        rows = 2 if is_guided else 1
        velocity = self.velocity(noisy, sigma.expand(rows, -1), rows)
        cond = guided = velocity[:1]
        if is_guided:
            if own.guidance_limit:
                if not self._share:  # settled at the first step that is guided
                    pull = ((scales - 1) * sigma)[..., None] * (cond - velocity[1:])
                    made = self.layout.used & (sigma[0] > 0)[:, None]
                    self._share.append(limited_share(pull[0, made], own.guidance_limit))
                scales = 1 + (scales - 1) * self._share[0]
            guided = guide(cond, velocity[1:], scales)
        if own.synchrony_scale:
            apart = self.velocity(noisy, sigma, 1, decoupled=True)
            guided = guide_synchrony(guided, cond, apart, own.synchrony_scale)
        clean = clean_from_velocity(noisy, guided, sigma)
        if own.guidance_rescale and guided is not cond:
            plain = clean_from_velocity(noisy, cond, sigma)
            for modality in range(len(MODALITIES)):
                made = ((self.layout.modality == modality) & (sigma[0] > 0)).nonzero()[:, 0]
                if len(made):
                    near = rescale(clean[:, made], plain[:, made], own.guidance_rescale)
                    clean = clean.index_copy(1, made, near)
        return clean

    def velocity(
        self, noisy: Tensor, sigma: Tensor | NoiseLevels, rows: int, decoupled: bool = False
    ) -> Tensor:
        """Velocity [rows, L, W] for the first rows of the text; decoupled: see the transformer."""
        with torch.autocast(noisy.device.type, self.dtype, enabled=self.dtype != torch.float32):
            if (rows, decoupled) not in self._contexts:  # worked out once, not once a step
                text = self.text.rows(rows)
                reference = None if self.like is None else make_reference([self.like] * rows)
                context = self.transformer.prepare(self.layout, text, decoupled, reference)
                self._contexts[rows, decoupled] = context
            tokens, context = noisy.expand(rows, -1, -1), self._contexts[rows, decoupled]
            if decoupled or not self.transformer.config.num_expressions:
                return self.transformer(tokens, sigma, context).float()
            made, told = self.transformer(tokens, sigma, context, with_expressions=True)
            self._told[:] = [guide(told[:1], told[-1:], self.settings.guidance_scale)]
            return made.float()
