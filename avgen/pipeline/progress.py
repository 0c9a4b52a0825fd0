"""What whoever watches a clip being made is told, once a step; and how the making is ended early.

Raising an exception in the function that is told ends the making within that step; it reaches the
caller of the pipeline, and nothing is left behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from avgen.pipeline.conditions import Conditions
from avgen.pipeline.continuation import Window

Latents = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Step:
    """A step that is done.

    Attributes:
        conditions: What the clip is made from.
        phase: "denoising", of which a step is a sampler's, or "decoding", of which it is a frame.
        window: The stretch of the clip that is being made.
        step: How many are done, from 1.
        steps: Of how many.
        estimate: While denoising, what the window is expected to become: normalised latents, video
            [1, C, T, H, W] and audio [1, C, T]. They are unpacked only where somebody asks.
    """

    conditions: Conditions
    phase: str
    window: Window
    step: int
    steps: int
    estimate: Callable[[], Latents] | None = None

    @property
    def share(self) -> float:
        """How much of all denoising of the clip is done, from 0 to 1."""
        begun, total = self.conditions.num_begun, self.conditions.num_frames
        made = self.window.done + (self.window.stop - self.window.done) * self.step / self.steps
        return (made - begun) / (total - begun)


Watch = Callable[[Step], None]
