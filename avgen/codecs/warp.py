"""The first picture of a clip, warped to each frame, and blended with what was decoded.

Reference: Siarohin et al., "First Order Motion Model for Image Animation", 2019, section 3.2:
backward flow and an occlusion mask. Here pixels are warped, and the flow is a decoder's.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

STEP = 4.0  # pixels that a flow of 1 moves by: networks say numbers about 1
SHY = 1.0  # taken off the mask's logit, so that an untrained one shows a quarter of the picture


def warp(picture: Tensor, flow: Tensor) -> Tensor:
    """Pixels of [N, C, H, W] at their place plus a flow [N, 2, H, W] in pixels, bilinearly.

    Beyond the border is the border.
    """
    height, width = picture.shape[-2:]
    rows = torch.arange(height, device=flow.device, dtype=flow.dtype)
    columns = torch.arange(width, device=flow.device, dtype=flow.dtype)
    across = (columns + flow[:, 0] + 0.5) * (2 / width) - 1
    down = (rows[:, None] + flow[:, 1] + 0.5) * (2 / height) - 1
    grid = torch.stack([across, down], -1)
    return F.grid_sample(picture, grid, padding_mode="border", align_corners=False)


def blend(made: Tensor, anchor: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Frames from the decoder's pixels, a mover's channels and the clip's first picture.

    Args:
        made: [B, 6, T, H, W]: pixels, the mask's logit, the flow across and down.
        anchor: [B, 3, H, W], the first picture.

    Returns:
        The frames [B, 3, T, H, W]: the decoder's pixels and the first picture's, warped, each where
        the mask says; the first picture warped, by itself; the flow [B, 2, T, H, W] in pixels; and
        the mask [B, 1, T, H, W] in [0, 1], 1 where the first picture is to be seen.
    """
    batch, _, time = made.shape[:3]
    frames = made.movedim(2, 1).flatten(0, 1)
    flow = STEP * frames[:, 4:]
    first = warp(anchor.repeat_interleave(time, 0), flow)
    mask = torch.sigmoid(frames[:, 3:4] - SHY)
    shown = torch.lerp(frames[:, :3], first, mask)
    parts = [x.unflatten(0, (batch, time)).movedim(1, 2) for x in (shown, first, flow, mask)]
    return parts[0], parts[1], parts[2], parts[3]
