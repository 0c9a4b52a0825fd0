"""What a model says, in the voice that is given."""

from __future__ import annotations

from torch import Tensor

from avgen.codecs.normalize import LatentStatistics
from avgen.models.speakers import SpeakerModel, Voice


class VoiceMatch:
    """Brings latents of sound into a voice; those of a first window say whose they are.

    Args:
        model: Tells voices apart; None leaves everything as it is.
        wanted: Normalised latents [1, C, T] of the voice that is wanted, or None likewise.
        statistics: Of the latents.
    """

    def __init__(
        self, model: SpeakerModel | None, wanted: Tensor | None, statistics: LatentStatistics
    ) -> None:
        self.model, self.statistics = model, statistics
        self.wanted = None if model is None or wanted is None else self.voice(model, wanted)
        self.own: Voice | None = None

    def voice(self, model: SpeakerModel, latents: Tensor) -> Voice:
        """The voice in normalised latents [1, C, T]."""
        return model.voice(self.statistics.denormalize(latents)[0])

    def __call__(self, made: Tensor) -> Tensor:
        """Normalised latents [1, C, T] of the same words."""
        if self.model is None or self.wanted is None:
            return made
        self.own = self.own or self.voice(self.model, made)
        matched = self.model(self.statistics.denormalize(made)[0], self.own, self.wanted)
        return self.statistics.normalize(matched[None])
