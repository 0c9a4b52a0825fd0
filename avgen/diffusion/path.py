"""Clean tokens and noise in, their mixture and the velocity between them out: rectified flow.

    noisy = (1 - sigma) * clean + sigma * noise        sigma in [0, 1]; 1 is pure noise
    velocity = d noisy / d sigma = noise - clean       points from the data to the noise

Every token may have a sigma of its own. Arithmetic is in float32 at least, whatever comes in.

Reference: Liu et al. 2023, "Flow Straight and Fast" (arXiv:2209.03003), eq. 1, with the data at
sigma 0; the literature writes clean as x_0 or x_1, noise as x_1 or epsilon, sigma as t.
"""

import torch
from torch import Tensor

from avgen.errors import UserError


def expand_sigma(sigma: Tensor | float, tokens: Tensor) -> Tensor:
    """Sigma as a tensor of at least float32 that broadcasts against `tokens`.

    Args:
        sigma: a number, or a tensor whose axes are the leading axes of `tokens` (size 1 allowed):
            [B] or [B, L] against tokens [B, L, D].
        tokens: gives the number of axes, the device and the least precision.

    Raises:
        UserError: if sigma has more axes than `tokens`, or sizes that do not fit its leading ones.
    """
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    level: Tensor = torch.as_tensor(sigma, dtype=dtype, device=tokens.device)
    leading = tokens.shape[: level.ndim]
    if len(leading) != level.ndim or any(
        s not in (1, n) for s, n in zip(level.shape, leading, strict=True)
    ):
        raise UserError(
            f"sigma of shape {list(level.shape)} does not fit tokens of shape "
            f"{list(tokens.shape)}; its axes must be the leading axes of the tokens"
        )
    return level.reshape(level.shape + (1,) * (tokens.ndim - level.ndim))


def mix(clean: Tensor, noise: Tensor, sigma: Tensor | float) -> Tensor:
    """The noisy tokens at `sigma`: (1 - sigma) * clean + sigma * noise, float32 at least.

    Sigma 0 gives the clean tokens back exactly, sigma 1 the noise.
    """
    sigma = expand_sigma(sigma, clean)
    return (1 - sigma) * clean + sigma * noise


def velocity(clean: Tensor, noise: Tensor) -> Tensor:
    """What the network learns to predict: noise - clean, float32 at least."""
    dtype = torch.promote_types(clean.dtype, torch.float32)
    return noise.to(dtype) - clean.to(dtype)


def clean_from_velocity(noisy: Tensor, velocity: Tensor, sigma: Tensor | float) -> Tensor:
    """The clean tokens that lie `sigma` before the noisy ones: noisy - sigma * velocity."""
    return noisy - expand_sigma(sigma, noisy) * velocity


def velocity_from_clean(noisy: Tensor, clean: Tensor, sigma: Tensor | float) -> Tensor:
    """The velocity that leads from `clean` to `noisy`: (noisy - clean) / sigma.

    A token of sigma 0 is given: it does not move, so its velocity is 0.
    """
    sigma = expand_sigma(sigma, noisy)
    given = sigma == 0
    return torch.where(given, 0, (noisy - clean) / torch.where(given, 1, sigma))
