"""What a model says, in the voice that is given."""

from __future__ import annotations

from torch import Tensor

from avgen.codecs.normalize import LatentStatistics
from avgen.errors import UserError
from avgen.models.speakers import SpeakerModel, Voice


class VoiceMatch:
    """Brings latents of sound into a voice; the first window that speaks says whose they are.

    Args:
        model: Tells voices apart; None leaves everything as it is.
        wanted: Normalised latents [1, C, T] of the voice that is wanted, or None likewise.
        statistics: Of the latents.

    Raises:
        UserError: there is no voice in it.
    """

    def __init__(
        self, model: SpeakerModel | None, wanted: Tensor | None, statistics: LatentStatistics
    ) -> None:
        self.model, self.statistics = None if wanted is None else model, statistics
        self.own: Voice | None = None
        if self.model is not None and wanted is not None:
            voice = self.model.voice(statistics.denormalize(wanted)[0])
            if voice is None:
                raise UserError(
                    "voice: no speech is heard in it: a third of a second has to be voiced", "voice"
                )
            self.wanted = voice

    def __call__(self, made: Tensor) -> Tensor:
        """Normalised latents [1, C, T] of the same words."""
        if self.model is None:
            return made
        latents = self.statistics.denormalize(made)[0]
        self.own = self.own or self.model.voice(latents)
        if self.own is None:  # nobody has spoken yet
            return made
        return self.statistics.normalize(self.model(latents, self.own, self.wanted)[None])
