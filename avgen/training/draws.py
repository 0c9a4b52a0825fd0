"""What a training step draws: for a batch of one shape at once, or for every clip on its own.

Either way a step comes to the same thing, `Drawn`: clean tokens, what is given, noise, noise levels
and text. Where every clip draws from a generator of its own, seeded by the number of its draw, what
it draws does not depend on the clips beside it, on how they are batched, or on which process it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from avgen.codecs.normalize import LatentStatistics
from avgen.diffusion.schedules import TrainingSigmas
from avgen.errors import UserError
from avgen.latents.conditioning import Tasks
from avgen.latents.packing import MODALITIES, Layout, PackedLayout, concatenate, pack
from avgen.models.phonemes import TimedPhoneme
from avgen.models.text import Text
from avgen.training.data_mixed import ClipLatents
from avgen.training.prepared import ClipShape


@dataclass(frozen=True)
class Drawn:
    """A step before the network sees it; R is 1 where clips of several layouts are packed.

    Attributes:
        layout: Of all R rows.
        clean: Normalised tokens [R, L, W].
        noise: Likewise.
        given: Bool [R, L].
        sigma: [R, L]; 0 where given.
        text: A row for every clip.
        weights: Modality -> weight of every token, [L].
    """

    layout: Layout | PackedLayout
    clean: Tensor
    noise: Tensor
    given: Tensor
    sigma: Tensor
    text: Text
    weights: Mapping[str, Tensor]


class Drawing(Protocol):
    """What draws need of the system that trains (`DiffusionSystem`)."""

    device: Any
    video_statistics: LatentStatistics
    audio_statistics: LatentStatistics
    tasks: Tasks
    sigmas: TrainingSigmas

    def layout_of(self, shape: ClipShape) -> tuple[Layout, dict[str, Tensor]]:
        """Layout and token weights of a shape of clip, on the device."""
        ...

    def phonemes(
        self, record: Any, start_s: float, seconds: float, generator: torch.Generator | None
    ) -> Sequence[TimedPhoneme]:
        """What is said in a stretch of a clip."""
        ...

    def make_text(self, captions: Sequence[str], spoken: Sequence[Sequence[TimedPhoneme]]) -> Text:
        """Tokens of captions and phonemes."""
        ...

    def hidden(
        self, given: Tensor, layout: Layout, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Bool [B] each: whose caption is hidden, whose words are."""
        ...


def draw_sigma(
    sigmas: TrainingSigmas, layout: Layout, given: Tensor, generator: torch.Generator
) -> Tensor:
    """Noise levels [B, L] of clips of one layout: one a modality, 0 where bool [B, L] is given."""
    drawn = sigmas.draw(len(given), MODALITIES, generator)
    levels = torch.stack([drawn[name] for name in MODALITIES], 1).to(given.device)
    return torch.where(given, 0.0, levels[:, layout.modality])


def draw_clips(
    system: Drawing, clips: Sequence[ClipLatents], seeds: Sequence[int], jitter: bool
) -> Drawn:
    """Draw for every clip on its own.

    Args:
        system: What trains.
        clips: Of any shapes; they are stacked where they have one, else packed.
        seeds: Of each clip's generator.
        jitter: Move the words' times a little.
    """
    parts, weights, spoken, hidden = [], [], [], []
    for clip, seed in zip(clips, seeds, strict=True):
        generator = torch.Generator().manual_seed(seed)
        layout, weight = system.layout_of(clip.shape)
        audio = None if clip.audio is None else clip.audio[None]
        clean = pack(
            system.video_statistics.normalize(clip.video[None]),
            None if audio is None else system.audio_statistics.normalize(audio),
            layout,
        )
        tasks = system.tasks if layout.has_sound else without_sound(system.tasks)
        given = tasks.draw(layout, 1, generator).to(system.device)
        sigma = draw_sigma(system.sigmas, layout, given, generator)
        seconds = float(layout.video.num_frames / layout.video.fps)
        own = generator if jitter else None
        spoken.append(system.phonemes(clip.record, clip.start_s, seconds, own))
        hidden.append(system.hidden(given, layout, generator))
        noise = torch.randn(clean.shape, generator=generator).to(system.device) * layout.used
        parts.append((layout, clean, noise, given, sigma))
        weights.append(weight)
    layouts = [part[0] for part in parts]
    text = system.make_text([clip.record.caption for clip in clips], spoken)
    text = text.drop(torch.cat([own[0] for own in hidden]), torch.cat([own[1] for own in hidden]))
    if all(layout is layouts[0] for layout in layouts):
        axis, layout, weight = 0, layouts[0], weights[0]
    else:
        axis, layout = 1, concatenate(layouts)
        weight = {name: torch.cat([own[name] for own in weights]) for name in MODALITIES}
    clean, noise, given, sigma = (torch.cat([part[i] for part in parts], axis) for i in range(1, 5))
    return Drawn(layout, clean, noise, given, sigma, text.to(system.device), weight)


def without_sound(tasks: Tasks) -> Tasks:
    """The tasks of a clip that has no sound: to make it for a silent video is none.

    Raises:
        UserError: no other task has any weight.
    """
    weights = {name: weight for name, weight in tasks.weights.items() if name != "silent video"}
    if not any(weights.values()):
        raise UserError(
            "a clip without sound, and 'silent video' is the only task: there is nothing to learn"
        )
    return replace(tasks, weights=weights)
