"""Seconds and pixels -> rotations of queries and keys.

The head is split over three axes: half of it turns with time in seconds, a quarter with the rows
and a quarter with the columns of the picture, in pixels from its middle. No index, rate or size
enters, so a sound and a picture of one instant share a coordinate at any fps, sample rate or codec.

Reference: Su et al. 2021, "RoFormer" (arXiv:2104.09864), eq. 34; positions in seconds as in LTX-2
(2026).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from avgen.errors import UserError

TIME_WAVELENGTHS_S = (0.08, 40.0)
PLACE_WAVELENGTHS = (64.0, 4096.0)  # pixels


def angles(seconds: Tensor, places: Tensor, head_width: int) -> Tensor:
    """Angles float32 [..., head_width / 2] for seconds [...] and places [..., 2] in pixels.

    Raises:
        UserError: the head cannot be split into a half and two quarters of pairs.
    """
    if head_width % 8:
        raise UserError(f"head width is {head_width}; RoPE over three axes needs a multiple of 8")
    quarter = head_width // 8
    time = seconds[..., None].float() * frequencies(
        *TIME_WAVELENGTHS_S, 2 * quarter, seconds.device
    )
    space = places[..., None].float() * frequencies(*PLACE_WAVELENGTHS, quarter, places.device)
    return torch.cat([time, space.flatten(-2)], -1)


def frequencies(shortest: float, longest: float, count: int, device: torch.device) -> Tensor:
    """Angular frequencies [count] whose wavelengths run geometrically from shortest to longest."""
    exponents = torch.linspace(0, 1, count, device=device)
    return 2 * math.pi / (shortest * (longest / shortest) ** exponents)


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn queries or keys [K, M, E] in E/2 planes by cos and sin [M, E/2]."""
    first, second = heads.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
