"""Waveforms in, a trained decoder of `SpeechCodec` out: its losses and its LightningModule.

The latents are a formula and have no phase, so sound is judged by magnitudes alone, at several
window lengths: as log-mel bands (what is heard) and as compressed magnitudes of single bins. An
optional discriminator then makes the fine texture natural.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from avgen.codecs.speech import SpeechCodec, SpeechCodecConfig
from avgen.training.audio_codec import AudioCodecSystem, DiscriminatorConfig
from avgen.training.optimization import OptimizerConfig


class SpeechCodecSystem(AudioCodecSystem):
    """Trains a `SpeechCodec`'s decoder on `batch["waveform"]`, float [B, 1, N] in [-1, 1].

    Args:
        codec: Sizes of the codec.
        optimizer: Learning rate and its course, in batches.
        noise: Standard deviation of the noise on the cepstra and the voicing (whose own is about
            1), so that a diffusion model's small errors do no harm. The pitch has none: the pulses
            follow it.
        discriminator: Sizes of the adversary; none trains on reconstruction alone.
        initial_weights: A `model.safetensors` of this codec to start from; none starts afresh.
        seed: Of the noises and the choice of window lengths, which depend on it, the batch and the
            process alone.
    """

    codec_class = SpeechCodec
    # Shorter windows see where in a period of a low voice its pulse is, which the latents do not
    # say.
    fft_lengths: ClassVar[tuple[int, ...]] = (240, 512, 1024, 2048)
    has_phase = False

    def __init__(
        self,
        codec: SpeechCodecConfig,
        optimizer: OptimizerConfig,
        noise: float = 0.1,
        discriminator: DiscriminatorConfig | None = None,
        initial_weights: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            codec,  # pyright: ignore[reportArgumentType]
            optimizer,
            noise,
            discriminator,
            initial_weights,
            seed=seed,
        )

    def configure_optimizers(self) -> list[dict]:
        """Adam for all weights of the codec, and for the discriminator as it comes.

        Muon's matrix products take as long as the rest of a step here, and after 75 steps the mel
        loss was 0.375 with it and 0.283 with Adam.
        """
        configured = super().configure_optimizers()
        for group in configured[0]["optimizer"].param_groups:
            group["muon"] = False
        return configured

    def reconstruct(self, real: Tensor, generator: torch.Generator) -> Tensor:
        """Waveforms [B, 1, N] decoded from the noised latents of real ones."""
        with torch.no_grad():
            latents = self.codec.encode(real)
            noise = torch.randn(latents.shape, generator=generator).to(latents)
            noise[:, -2] = 0
            shape = (len(real), latents.shape[-1], self.codec.hop_length)
            hiss = torch.randn(shape, generator=generator).to(latents)
        noised = latents + self.noise * noise
        return self.codec.decode(noised, num_samples=real.shape[-1], noise=hiss).float()
