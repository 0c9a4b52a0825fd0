"""A trained model in, the targets that a network of few steps learns from it out.

    network:
      distillation:
        teacher: runs/grid/model
        steps: {instant_fraction: 0.2, from_noise_fraction: 0.2, lowest_scale: 1, highest_scale: 3}

The student starts as its teacher (avgen/diffusion/distillation.py says what it learns). It is told
how long a step is and how strong guidance, and answers in one evaluation what the teacher does in
many. `steps.instant_fraction: 1` distils guidance alone, from which a second run can go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from avgen.codecs.base import load_module
from avgen.diffusion.distillation import StepDraws, mean_velocity
from avgen.diffusion.guidance import guide
from avgen.errors import UserError
from avgen.latents.context import NoiseLevels, distinct_levels
from avgen.models.transformer import AVTransformer
from avgen.training.sample import TrainingSample


@dataclass(frozen=True)
class DistillationConfig:
    """Learning few steps from a model instead of noise from clips.

    Args:
        teacher: The model's folder; the student starts with its weights.
        steps: What is drawn of each clip's step.
        teacher_steps: Of the teacher, for the mean velocity of one step.
        num_inference_steps: That the exported model takes by default.
    """

    teacher: Path
    steps: StepDraws
    teacher_steps: int = 2
    num_inference_steps: int = 4

    def settings(self) -> dict[str, Any]:
        """How the exported model samples by default, as fields of `PipelineConfig`."""
        if self.steps.instant_fraction == 1:
            return {}
        return {"sampler": "mean", "num_inference_steps": self.num_inference_steps}


class Teacher:
    """A frozen network whose guided mean velocities are learned.

    It is no module, so that it is no part of what is trained, averaged and saved.

    Args:
        config: Which, and how.

    Raises:
        UserError: the folder holds no such network.
    """

    def __init__(self, config: DistillationConfig) -> None:
        network = load_module(config.teacher / "transformer")
        if not isinstance(network, AVTransformer):
            raise UserError(f"{config.teacher}: its transformer is a {type(network).__name__}")
        self.network = network.requires_grad_(False)
        self.num_steps = config.teacher_steps

    def __deepcopy__(self, memo: dict) -> Self:
        return self  # frozen: averaged copies of the system share it

    @torch.no_grad()
    def targets(self, noisy: Tensor, drawn: TrainingSample) -> tuple[Tensor, Tensor | None]:
        """What the student is to answer at noisy tokens [R, L, W] of a sample.

        The mean velocity, [R, L, W], and what is told of the faces there, guided as the picture is,
        [R, T, stride, K]; None by a teacher that tells nothing.
        """
        network, layout = self.network.to(noisy.device), drawn.layout
        assert drawn.levels.told is not None
        length, scale = drawn.levels.told[drawn.levels.index].unbind(-1)
        asked = network.prepare(layout, drawn.text, reference=drawn.reference)
        heard: list[Tensor] = []  # of the first velocity: at the noise level that is asked about

        def answer(noisy: Tensor, levels: Tensor | NoiseLevels, context: Any) -> Tensor:
            if not network.config.num_expressions or len(heard) > 1:
                return network(noisy, levels, context)
            made, told = network(noisy, levels, context, with_expressions=True)
            heard.append(told)
            return made

        if network.config.distilled:
            still = torch.stack([torch.zeros_like(scale), scale], -1)

            def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
                return answer(noisy, distinct_levels(sigma, layout.modality, still), asked)

        else:
            everyone = torch.ones(len(drawn.text.caption_ids), dtype=torch.bool)
            nothing = drawn.text.drop(everyone, everyone)
            avoided = network.prepare(layout, nothing, reference=drawn.reference)

            def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
                cond, uncond = (answer(noisy, sigma, context) for context in (asked, avoided))
                return guide(cond, uncond, scale)

        made = mean_velocity(velocity, noisy, drawn.sigma, drawn.sigma - length, self.num_steps)
        if not heard or network.config.distilled:
            return made, heard[0] if heard else None
        by_latent = scale.new_ones(len(scale), layout.num_latents + 1)
        by_latent[:, layout.latent] = scale  # a clip has one; the last column is of what is no face
        return made, guide(heard[0], heard[1], by_latent[:, :-1, None])
