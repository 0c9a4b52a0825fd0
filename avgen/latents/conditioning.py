"""Which tokens are given and which are made.

Every task is such a mask; there is no pipeline per task.

A mask is bool [B, L] over the tokens of a `Layout`: True is given (its sigma is 0, and it comes out
as it went in), False is made. `TASKS` are the ways in which training draws one mask a clip;
generation asks for the same masks by what the user hands over (see `avgen.pipeline`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from avgen.errors import UserError
from avgen.latents.packing import AUDIO, VIDEO, Layout


def modality_given(layout: Layout, modality: int) -> Tensor:
    """Bool [L]: all of one modality is given."""
    return layout.modality == modality


def before_given(layout: Layout, end_s: float) -> Tensor:
    """Bool [L]: what ends by `end_s` seconds is given, of both modalities (continuation)."""
    return layout.spans[:, 1] <= end_s + 1e-6


def between_made(layout: Layout, start_s: float, end_s: float) -> Tensor:
    """Bool [L]: all but what touches [start_s, end_s) is given (inpainting in time)."""
    return (layout.spans[:, 1] <= start_s + 1e-6) | (layout.spans[:, 0] >= end_s - 1e-6)


def latents_given(layout: Layout, num_latents: int) -> Tensor:
    """Bool [L]: the first `num_latents` latent frames are given; 1 is a picture to start from."""
    start = torch.tensor(float(layout.video.span(num_latents)[0]))
    return (layout.modality == VIDEO) & (layout.spans[:, 0] < start.to(layout.spans) - 1e-6)


def draw_given(layout: Layout, task: str, generator: torch.Generator) -> Tensor:
    """One training mask, bool [L], for a task of `TASKS`.

    Where it is random, lengths are uniform.
    """
    share = torch.rand(2, generator=generator).sort().values.tolist()
    seconds = float(layout.spans[:, 1].max())
    match task:
        case "everything":
            return torch.zeros(layout.num_tokens, dtype=torch.bool)
        case "picture":
            return latents_given(layout, 1)
        case "frames":
            return latents_given(layout, 1 + int(share[0] * (layout.video.num_latents - 1)))
        case "sound":
            return modality_given(layout, AUDIO)
        case "sound and picture":
            return modality_given(layout, AUDIO) | latents_given(layout, 1)
        case "silent video":
            return modality_given(layout, VIDEO)
        case "beginning":
            return before_given(layout, share[1] * 0.8 * seconds)
        case "middle":
            return between_made(layout, share[0] * seconds, share[1] * seconds)
    raise UserError(f"unknown task {task!r}; there are {', '.join(TASKS)}")


TASKS = (
    "everything",
    "picture",
    "frames",
    "sound",
    "sound and picture",
    "silent video",
    "beginning",
    "middle",
)


@dataclass(frozen=True)
class Tasks:
    """How often training draws each task.

    Attributes:
        weights: Task name -> relative frequency.
    """

    weights: Mapping[str, float] = field(
        default_factory=lambda: {
            "everything": 0.5,
            "picture": 0.08,
            "frames": 0.04,
            "sound": 0.1,
            "sound and picture": 0.06,
            "silent video": 0.1,
            "beginning": 0.07,
            "middle": 0.05,
        }
    )

    def __post_init__(self) -> None:
        """Check the names."""
        for task in self.weights:
            if task not in TASKS:
                raise UserError(f"unknown task {task!r}; there are {', '.join(TASKS)}")

    def draw(self, layout: Layout, batch_size: int, generator: torch.Generator) -> Tensor:
        """One mask a clip: bool [B, L], True where given.

        Masks that give everything are not drawn.
        """
        names = list(self.weights)
        weights = torch.tensor([self.weights[name] for name in names])
        masks = []
        while len(masks) < batch_size:
            task = names[int(torch.multinomial(weights, 1, generator=generator))]
            mask = draw_given(layout, task, generator)
            if not bool(mask.all()):
                masks.append(mask)
        return torch.stack(masks)
