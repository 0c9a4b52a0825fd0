"""Several predictions in, one out: classifier-free guidance and what builds on it.

All functions are linear in their predictions, so they may be given denoised tokens or velocities,
as long as all are of one kind and one noisy input. Scales are numbers or tensors over the leading
axes of the tokens ([B] or [B, L] against [B, L, D]), so each modality can have its own.
"""

from torch import Tensor

from avgen.diffusion.path import expand_sigma
from avgen.errors import UserError


def guide(cond: Tensor, uncond: Tensor, scale: Tensor | float) -> Tensor:
    """uncond + scale * (cond - uncond); scale 1 is `cond` bit for bit, 0 is `uncond`.

    Written around `cond`, because that form is exact at 1. 0 is exact to rounding.

    Reference: Ho, Salimans 2022, "Classifier-Free Diffusion Guidance" (arXiv:2207.12598), eq. 6,
    where w is scale - 1.
    """
    return cond + (expand_sigma(scale, cond) - 1) * (cond - uncond)


def guide_synchrony(
    guided: Tensor, cond: Tensor, decoupled: Tensor, scale: Tensor | float
) -> Tensor:
    """guided + scale * (cond - decoupled): away from what one modality would do alone; 0 is off.

    Args:
        guided: what `guide` returned, or `cond`.
        cond: the prediction with everything attended to.
        decoupled: the prediction of the same network with the attention between picture and sound
            masked off.
        scale: 0 leaves `guided` as it is, bit for bit.

    Reference: the term that LTX-2 (Lightricks 2026) adds to text guidance for the other modality.
    """
    return guided + expand_sigma(scale, guided) * (cond - decoupled)


def interval_scale(scale: Tensor | float, sigma: Tensor, low: float, high: float) -> Tensor:
    """`scale` where low < sigma <= high, 1 (no guidance) elsewhere; shape of sigma and scale.

    Guidance at the highest noise costs variety, at the lowest it does little.

    Reference: Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval"
    (arXiv:2404.07724).
    """
    if not 0 <= low < high <= 1:
        raise UserError(f"guidance interval ({low}, {high}]; it must be within 0 to 1 and rise")
    inside = (sigma > low) & (sigma <= high)
    return 1 + inside * (scale - 1)


def limited_share(pull: Tensor, limit: float) -> Tensor:
    """The share of `pull` that leaves its root mean square at `limit`, at most 1.

    `pull` is (scale - 1) * (cond - uncond) of denoised tokens; the limit is above 0.

    Reference: Sadat et al. 2024 (arXiv:2410.02416), section 4, where each step is limited alone.
    """
    if not limit > 0:
        raise UserError(f"guidance limit is {limit}; it must be above 0, or 0 where there is none")
    return (limit / pull.square().mean().sqrt()).clamp(max=1)


def rescale(guided: Tensor, cond: Tensor, fraction: float) -> Tensor:
    """Guided tokens with their spread brought back towards that of `cond`; fraction 0 is off.

    Args:
        guided: tokens [B, L, D] of one modality (spreads of several are not to be mixed).
        cond: the prediction before guidance, same shape.
        fraction: 0 leaves `guided` as it is, 1 gives it the standard deviation of `cond`.

    Reference: Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed"
    (arXiv:2305.08891), eqs. 14 to 16.
    """
    if not 0 <= fraction <= 1:
        raise UserError(f"rescale fraction is {fraction}; it is a share, 0 to 1")
    axes = tuple(range(1, guided.ndim))
    ratio = cond.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return guided * (1 + fraction * (ratio - 1))
