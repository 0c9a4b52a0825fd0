"""Blinks in what a network tells of a face: words do not decide them, so it tells their mean."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from avgen.models.blinks import blinks
from avgen.pipeline.conditions import Conditions

BLINKS = 2**31 + 1  # in place of a window's number, for the draw


def lids_of(conditions: Conditions) -> np.ndarray:
    """How far eyes are shut in every frame of a clip, 0 to 1, float32 [T], drawn by its seed.

    The first frame and those that are given have none.
    """
    given = max(1, conditions.num_pictured)
    times_s = (np.arange(conditions.num_frames) + 0.5) / float(conditions.fps)
    shut = np.zeros(len(times_s), np.float32)
    if given < len(times_s):
        rng = np.random.default_rng([conditions.seed % 2**63, BLINKS])
        shut[given:] = blinks(rng, times_s[given:], ())
    return shut


def with_lids(told: Tensor, lids: np.ndarray, number: int) -> Tensor:
    """Expressions [1, T, S, K] with lids that are further shut in the place of one of them.

    Args:
        told: Of T latent frames of S frames each, of which the first has its last alone.
        lids: Of every frame from the first latent on: [N], of which the last stays.
        number: Of the K.
    """
    time, stride = told.shape[1:3]
    frames = (1 - stride + np.arange(time * stride)).clip(0, len(lids) - 1)
    drawn = torch.from_numpy(lids[frames]).to(told).view(time, stride)
    blinking = told.clone()
    blinking[..., number] = torch.maximum(told[..., number], drawn)
    return blinking
