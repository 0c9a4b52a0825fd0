"""What one voice says in, the same in another's voice out, in latents of a `SpeechCodec`.

A Gaussian mixture over the cepstra of many speakers, each less the speaker's own mean, tells
sounds apart. How a speaker says each of these sounds is the mixture's centre and what that speaker
adds to it, along eigenvoices as far as few seconds say little (Kuhn et al., "Rapid Speaker
Adaptation in Eigenvoice Space", 2000), and as it is heard where a sound is heard (Gauvain and Lee,
"Maximum a Posteriori Estimation for Multivariate Gaussian Mixture Observations", 1994). What is
said moves sound by sound by what one speaker adds and the other does not; so do pitch and voicing.
How loud somebody is recorded is no part of the voice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

LOUD = 2.2  # below the loudest tenth, in the unit of the first cepstrum: what counts as speech
VOICED = 25  # frames, a third of a second, that have to be voiced to tell a voice by
HEARD = 1.0  # frames of a sound that say as much as eigenvoices do
DOUBT = 0.4  # power of the mixture's likelihoods: neighbouring frames are not independent
FURTHER = 1.25  # than the difference of both voices: estimates of a few seconds fall short
LEAST = 1e-3  # deviation of pitch and voicing
RANGES = (0.5, 2.0)  # of how much wider pitch and voicing may vary


@dataclass(frozen=True)
class SpeakerConfig:
    """Sizes of a `SpeakerModel`.

    Attributes:
        num_cepstra: The first numbers of a latent; pitch and voicing come after them.
        num_sounds: Classes of the mixture.
        num_voices: Eigenvoices.
    """

    num_cepstra: int = 22
    num_sounds: int = 64
    num_voices: int = 40


@dataclass(frozen=True)
class Voice:
    """How someone speaks.

    Attributes:
        mean: Of the cepstra, [D].
        sounds: Means of the cepstra of each sound, [K, D]; the first, of loudness, less its mean.
        excitation: Mean and deviation of pitch and voicing, of what is voiced, [2, 2].
    """

    mean: Tensor
    sounds: Tensor
    excitation: Tensor


class SpeakerModel(nn.Module):
    """See the module's docstring; fitted by recipes/people/speakers.py."""

    weights: Tensor
    means: Tensor
    deviations: Tensor
    centres: Tensor
    spreads: Tensor
    eigenvoices: Tensor

    def __init__(self, config: SpeakerConfig) -> None:
        super().__init__()
        self.config = config
        sounds, cepstra = config.num_sounds, config.num_cepstra
        for name, size in (
            ("weights", (sounds,)),  # of the mixture, in all 1
            ("means", (sounds, cepstra)),  # of what `features` gives
            ("deviations", (sounds, cepstra)),
            ("centres", (sounds, cepstra)),  # of what `cepstra` gives, over all speakers
            ("spreads", (sounds, cepstra)),  # their deviations
            ("eigenvoices", (sounds, cepstra, config.num_voices)),
        ):
            self.register_buffer(name, torch.ones(size))

    def forward(self, made: Tensor, own: Voice, other: Voice) -> Tensor:
        """Latents [C, T] in one voice, in another.

        Args:
            made: Of speech, as the codec encodes it.
            own: The voice that they are in.
            other: The voice that is wanted.
        """
        count = self.config.num_cepstra
        moved = made.clone()
        which = self.which(made, own.mean)
        moved[:count] += FURTHER * (which @ (other.sounds - own.sounds)).mT
        ratio = (other.excitation[:, 1] / own.excitation[:, 1]).clamp(*RANGES)
        excited = made[count:].mT - own.excitation[:, 0]
        excited = (excited * ratio + other.excitation[:, 0]).mT
        moved[count] = excited[0]
        moved[count + 1] = torch.where(made[count + 1] > 0, excited[1], made[count + 1])
        return moved

    def voice(self, latents: Tensor) -> Voice | None:
        """The voice in latents [C, T] of some seconds of speech; None where there is too little."""
        count, said = self.config.num_cepstra, loud(latents)
        mean, is_voiced = said[:count].mean(1), said[count + 1] > 0
        if is_voiced.sum() < VOICED:
            return None
        which = self.which(said, mean)
        heard, total = which.sum(0), which.mT @ self.cepstra(said, mean)
        place, _ = self.places(heard[None], total[None])
        usual = self.centres + self.eigenvoices @ place[0]
        sounds = usual + (total - heard[:, None] * usual) / (heard[:, None] + HEARD)
        voiced = said[count:, is_voiced]
        deviation = voiced.std(1, correction=0).clamp(min=LEAST)
        return Voice(mean, sounds, torch.stack([voiced.mean(1), deviation], 1))

    def cepstra(self, latents: Tensor, mean: Tensor) -> Tensor:
        """Those of latents [C, T], at the level of their mean [D]: [T, D]."""
        level = torch.cat([mean[:1], torch.zeros_like(mean[1:])])
        return latents[: self.config.num_cepstra].mT - level

    def places(self, heard: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        """Where speakers lie along the eigenvoices, [N, R], and how sure that is, [N, R, R].

        The mean and covariance of what is heard and what is usual, a standard normal.

        Args:
            heard: Frames of each sound, [N, K].
            total: Sums of their cepstra, [N, K, D].
        """
        along = self.eigenvoices / self.spreads[..., None] ** 2
        each = torch.einsum("kdr,kds->krs", along, self.eigenvoices)
        precision = torch.einsum("krs,nk->nrs", each, heard) + torch.eye(each.shape[-1]).to(each)
        pull = torch.einsum("kdr,nkd->nr", along, total - heard[..., None] * self.centres)
        return torch.linalg.solve(precision, pull), torch.linalg.inv(precision)

    def which(self, latents: Tensor, mean: Tensor) -> Tensor:
        """How likely each frame of latents [C, T] is of each sound, [T, K], by a speaker's mean."""
        away = (self.features(latents, mean)[:, None] - self.means) / self.deviations
        likely = self.weights.log() - self.deviations.log().sum(1) - away.square().sum(2) / 2
        return (DOUBT * likely).softmax(1)

    def features(self, latents: Tensor, mean: Tensor) -> Tensor:
        """What sounds are told apart by, [T, D]: cepstra but the loudness, centred, and voicing."""
        count = self.config.num_cepstra
        shape = latents[1:count] - mean[1:, None]
        return torch.cat([shape, latents[count + 1 :]]).mT


def loud(latents: Tensor) -> Tensor:
    """Those of latents [C, T] in which something is said, by the recording's own level."""
    return latents[:, latents[0] > latents[0].quantile(0.9) - LOUD]
