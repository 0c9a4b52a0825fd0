"""When eyes blink, of a speaker who looks at us: drawn, since words do not decide it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BLINK_S = (0.09, 0.17)  # to close and to open
BLINKS_EVERY_S = (1.6, 4.5)
NEAR_S = 0.3  # a blink goes to the end of a word that is so near


def blinks(rng: np.random.Generator, times_s: np.ndarray, ends_s: Sequence[float]) -> np.ndarray:
    """Lids 0 open to 1 shut [T]; a blink likes the end of a word.

    Args:
        rng: Decides when.
        times_s: Middles of the frames: [T].
        ends_s: Where words end.
    """
    shut = np.zeros(len(times_s))
    close_s, open_s = BLINK_S
    at = times_s[0] + rng.uniform(0.1, BLINKS_EVERY_S[1])
    while at < times_s[-1]:
        ends = [end_s for end_s in ends_s if abs(end_s - at) < NEAR_S]
        middle = min(ends, key=lambda end_s: abs(end_s - at)) if ends else at
        phase = np.where(
            times_s < middle, (times_s - middle) / close_s + 1, 1 - (times_s - middle) / open_s
        )
        # A frame or two of 25 a second are shut wholly.
        shut = np.maximum(shut, np.clip(1.35 * np.clip(phase, 0, 1), 0, 1))
        at = max(at, middle) + rng.uniform(*BLINKS_EVERY_S)
    return shut
