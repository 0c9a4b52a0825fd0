"""Blinks in what a network tells of a face: words do not decide them, so it tells their mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from avgen.models.blinks import blinks
from avgen.pipeline.conditions import Conditions
from avgen.pipeline.continuation import Window

NAME = "eyeBlink"  # 0 open to 1 shut
BLINKS = 2**31 + 1  # in place of a window's number, for the draw


def with_blinks(
    told: Tensor | None, conditions: Conditions, window: Window, names: Sequence[str]
) -> Tensor | None:
    """Expressions [1, T, S, K] of a window, with blinks that are drawn of the seed.

    Where no expression has the name of a blink, and of frames that are given, they are as they
    were.

    Args:
        told: Of T latent frames of S frames each, of which the first one has the last alone.
        conditions: Of the whole clip.
        window: Whose they are.
        names: Of the K expressions.
    """
    if told is None or NAME not in names:
        return told
    given = max(1, conditions.num_pictured)
    times_s = (np.arange(conditions.num_frames) + 0.5) / float(conditions.fps)
    shut = np.zeros(len(times_s), np.float32)
    if given < len(times_s):
        rng = np.random.default_rng([conditions.seed % 2**63, BLINKS])
        shut[given:] = blinks(rng, times_s[given:], ())
    stride = told.shape[2]
    frames = window.start + 1 - stride + np.arange(told.shape[1] * stride)
    drawn = torch.from_numpy(shut[frames.clip(0, len(shut) - 1)]).to(told)
    column, blinking = list(names).index(NAME), told.clone()
    blinking[..., column] = torch.maximum(told[..., column], drawn.view(told.shape[1], stride))
    return blinking
