"""A teacher's velocity in, what a student of few steps learns from it out.

Two regressions on a frozen teacher, which cannot diverge:

* Guidance: the student is told the scale and learns the guided velocity, so that a step costs one
  evaluation instead of two.
* Mean velocity: the student is also told where a step ends and learns the mean velocity until
  there, worked out with a few steps of the teacher; then a few long steps (`mean_flow`) are exact.

The first is the second with steps of no length.

Reference: Meng et al. 2023, "On Distillation of Guided Diffusion Models" (arXiv:2210.03142),
section 3.1; Wang et al. 2025, "IntMeanFlow" (arXiv:2510.07979), where the mean velocity from t to r
is (z_r - z_t) / (r - t): no derivative of the network is taken, nor is it its own teacher.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from avgen.diffusion.path import expand_sigma
from avgen.errors import UserError

Velocity = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class StepDraws:
    """How training draws what a student is told of a step besides its noise level.

    Attributes:
        instant_fraction: Share of clips whose step has no length: 1 distils guidance alone.
        from_noise_fraction: Share whose step starts from pure noise, as all sampling does.
        lowest_scale: Of guidance; scales are uniform, one a clip.
        highest_scale: Likewise.
    """

    instant_fraction: float = 0.2
    from_noise_fraction: float = 0.2
    lowest_scale: float = 1.0
    highest_scale: float = 3.0

    def __post_init__(self) -> None:
        for name in ("instant_fraction", "from_noise_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name)}; it is a share, 0 to 1")
        if not self.lowest_scale <= self.highest_scale:
            raise UserError(f"scales from {self.lowest_scale} to {self.highest_scale} must rise")

    def draw(self, sigma: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Where the step of one clip starts and ends, and its guidance scale.

        Args:
            sigma: Noise levels [B, L] of one clip; 0 is given and stays so.
            generator: Of that clip, on the CPU.

        Returns:
            Levels [B, L], levels where they end [B, L], a scale (0-dimensional).
        """
        instant, noise, share, scale = torch.rand(4, generator=generator).to(sigma)
        if noise < self.from_noise_fraction:
            sigma = torch.where(sigma > 0, 1.0, sigma)
        end = sigma if instant < self.instant_fraction else share * sigma
        return sigma, end, self.lowest_scale + scale * (self.highest_scale - self.lowest_scale)


def mean_velocity(
    velocity: Velocity, noisy: Tensor, sigma: Tensor, end: Tensor, num_steps: int
) -> Tensor:
    """Mean velocity of a flow from `sigma` down to `end`, as `num_steps` steps of it go.

    It is (noisy at sigma - noisy at end) / (sigma - end), and where both are equal the velocity.
    Steps are of the midpoint method, two evaluations each, second order: it never asks for the
    velocity at `end`, where a network would take a token of sigma 0 for one that is given.

    Args:
        velocity: Of the teacher, guided if it is: (noisy, sigma) -> velocity.
        noisy: Tokens [B, L, W] at `sigma`.
        sigma: Noise levels, of axes that lead those of the tokens.
        end: Likewise, at most `sigma`.
        num_steps: Of equal length, at least 1.

    Raises:
        UserError: no steps, or one that rises.
    """
    if num_steps < 1:
        raise UserError(f"num_steps is {num_steps}; a mean takes at least 1 step")
    if bool((end > sigma).any()):
        raise UserError("a step ends above where it starts; noise levels must fall")
    if bool((end == sigma).all()):
        return velocity(noisy, sigma)
    stride = (end - sigma) / num_steps
    total = torch.zeros_like(noisy)
    for step in range(num_steps):
        level = sigma + step * stride
        middle = noisy + expand_sigma(stride / 2, noisy) * velocity(noisy, level)
        step_velocity = velocity(middle, level + stride / 2)
        noisy = noisy + expand_sigma(stride, noisy) * step_velocity
        total = total + step_velocity
    return total / num_steps
