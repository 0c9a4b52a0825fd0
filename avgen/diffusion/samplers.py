"""Noise and a denoiser in, clean tokens out: most are solvers of d noisy / d sigma = velocity.

A sampler is a function `sampler(denoise, noisy, sigmas, *, callback=None)`; one of STOCHASTIC takes
`draw` besides:

* `denoise(noisy, sigma)` returns the clean tokens it expects; sigma is `sigmas[step]`.
* `noisy` are tokens [B, L, D] at `sigmas[0]`.
* `sigmas` fall and end in 0. Their first axis is the step; further axes are the leading axes of
  the tokens: [S + 1] for all tokens, [S + 1, B, L] for each token its own grid. A token whose
  sigmas are all 0 is given and comes out as it went in, bit for bit.
* `callback(step, denoised)` is called after each of the S steps with its first estimate.
* `draw()` returns more noise of the shape of `noisy`.

Gradients are the caller's choice (`torch.inference_mode`); nothing is modified in place.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from avgen.diffusion.path import expand_sigma, mix, velocity_from_clean
from avgen.errors import UserError

Denoiser = Callable[..., Tensor]
Callback = Callable[[int, Tensor], None]


def euler(
    denoise: Denoiser, noisy: Tensor, sigmas: Tensor, *, callback: Callback | None = None
) -> Tensor:
    """First order, one evaluation a step; on this path the same as DDIM.

    Each step stays on the line through the noisy and the denoised tokens, which is followed from
    sigma to next: denoised + next / sigma * (noisy - denoised).

    Reference: Song et al. 2021, "Denoising Diffusion Implicit Models" (arXiv:2010.02502), eq. 12
    without its noise.
    """
    _check_sigmas(sigmas)
    for step, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        denoised = denoise(noisy, sigma)
        noisy = _line(noisy, denoised, sigma, sigma_next)
        if callback:
            callback(step, denoised)
    return noisy


def heun(
    denoise: Denoiser, noisy: Tensor, sigmas: Tensor, *, callback: Callback | None = None
) -> Tensor:
    """Second order, two evaluations a step but one in the last.

    Reference: Karras et al. 2022, "Elucidating the Design Space" (EDM, arXiv:2206.00364),
    Algorithm 1. There is no velocity at sigma 0, so steps that end there are Euler's.
    """
    _check_sigmas(sigmas)
    for step, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        denoised = denoise(noisy, sigma)
        ahead = _line(noisy, denoised, sigma, sigma_next)
        if bool((sigma_next > 0).any()):
            here = velocity_from_clean(noisy, denoised, sigma)
            there = velocity_from_clean(ahead, denoise(ahead, sigma_next), sigma_next)
            mean = (here + there) / 2
            corrected = noisy + expand_sigma(sigma_next - sigma, noisy) * mean
            noisy = torch.where(expand_sigma(sigma_next, noisy) > 0, corrected, ahead)
        else:
            noisy = ahead
        if callback:
            callback(step, denoised)
    return noisy


def adams_bashforth(
    denoise: Denoiser, noisy: Tensor, sigmas: Tensor, *, callback: Callback | None = None
) -> Tensor:
    """Second order, one evaluation a step: the velocity extrapolated from the last two.

    Reference: Hairer, Nørsett, Wanner 1993, "Solving Ordinary Differential Equations I", section
    III.5, the explicit two-step Adams method with variable steps; the first step is Euler's.
    """
    _check_sigmas(sigmas)
    before: Tensor | None = None
    stride_before: Tensor | None = None
    for step, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        denoised = denoise(noisy, sigma)
        here = velocity_from_clean(noisy, denoised, sigma)
        stride = expand_sigma(sigma_next - sigma, noisy)
        noisy = _line(noisy, denoised, sigma, sigma_next)
        if before is not None and stride_before is not None:
            # A given token has no stride; its velocities are 0, so any ratio will do.
            ratio = stride / torch.where(stride_before == 0, 1, stride_before)
            noisy = noisy + stride * ratio / 2 * (here - before)
        before, stride_before = here, stride
        if callback:
            callback(step, denoised)
    return noisy


def mean_flow(
    denoise: Denoiser, noisy: Tensor, sigmas: Tensor, *, callback: Callback | None = None
) -> Tensor:
    """One evaluation a step, exact for a network that predicts mean velocities over steps.

    `denoise(noisy, sigma, sigma_next)` is told where the step ends and returns noisy - sigma * mean
    velocity until there.

    Reference: Geng et al. 2025, "Mean Flows for One-step Generative Modeling" (arXiv:2505.13447),
    eq. 12.
    """
    _check_sigmas(sigmas)
    for step, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        denoised = denoise(noisy, sigma, sigma_next)
        noisy = _line(noisy, denoised, sigma, sigma_next)
        if callback:
            callback(step, denoised)
    return noisy


def renoise(
    denoise: Denoiser,
    noisy: Tensor,
    sigmas: Tensor,
    *,
    callback: Callback | None = None,
    draw: Callable[[], Tensor],
) -> Tensor:
    """One evaluation a step, all of the noise drawn anew for each.

    What a step gets wrong does not stay as it does along a flow: it is noised, and looked at again.
    What comes out is likelier and less varied than the data.

    Reference: Song et al. 2023, "Consistency Models" (arXiv:2303.01469), Algorithm 1; Song et al.
    2021 (arXiv:2010.02502), eq. 12 with as much noise as there can be.
    """
    _check_sigmas(sigmas)
    for step, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        denoised = denoise(noisy, sigma)
        given = expand_sigma(sigma, noisy) == 0
        noisy = torch.where(given, noisy, mix(denoised, draw(), sigma_next))
        if callback:
            callback(step, denoised)
    return noisy


# What a request calls them.
SAMPLERS = {
    "euler": euler,
    "heun": heun,
    "ab2": adams_bashforth,
    "mean": mean_flow,
    "renoise": renoise,
}
STOCHASTIC = ("renoise",)


def _line(noisy: Tensor, denoised: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """The point at `sigma_next` of the line from `denoised` (0) to `noisy` (sigma).

    Exactly `denoised` at sigma_next 0, exactly `noisy` where sigma is 0.
    """
    sigma, sigma_next = expand_sigma(sigma, noisy), expand_sigma(sigma_next, noisy)
    given = sigma == 0
    ratio = sigma_next / torch.where(given, 1, sigma)
    return torch.where(given, noisy, denoised + ratio * (noisy - denoised))


def _check_sigmas(sigmas: Tensor) -> None:
    if sigmas.ndim < 1 or sigmas.shape[0] < 2:
        raise UserError(f"sigmas have shape {list(sigmas.shape)}; they need at least two levels")
    if bool((sigmas[-1] != 0).any()):
        raise UserError(f"sigmas end in {sigmas[-1].max().item()}; they must end in 0")
    if bool((sigmas[1:] > sigmas[:-1]).any()):
        raise UserError("sigmas rise; they must fall from step to step")
    if bool((sigmas[:-1] == sigmas[1:]).logical_and(sigmas[:-1] > 0).any()):
        raise UserError("sigmas stand still above 0; each step must lower them")
