"""Numbers of every frame -> numbers of every latent frame, which a network can be asked for.

A latent frame stands for `stride` frames, the first one for one; its numbers are in the last place.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from avgen.errors import UserError
from avgen.latents.geometry import VideoGrid


def pack_track(track: Tensor, grid: VideoGrid) -> tuple[Tensor, Tensor]:
    """A track [F, K] of a clip's frames as [T, stride, K], and bool [T, stride]: where it is known.

    The frames that the last latent lacks, and the places that the first one has no frames for, are
    unknown and 0.

    Raises:
        UserError: it is not as long as the clip.
    """
    if len(track) != grid.num_frames:
        raise UserError(f"a track of {len(track)} frames; the clip has {grid.num_frames}")
    stride = grid.stride[0]
    after = (grid.num_latents - 1) * stride + 1 - len(track)
    known = torch.ones(len(track), dtype=torch.bool)
    padded = F.pad(track, (0, 0, stride - 1, after)).unflatten(0, (grid.num_latents, stride))
    return padded, F.pad(known, (stride - 1, after)).unflatten(0, (grid.num_latents, stride))
