"""Waveforms in, a trained decoder of `SpeechCodec` out: its losses and its LightningModule.

The latents are a formula and have no phase, so sound is judged by magnitudes alone, at several
window lengths: as log-mel bands (what is heard) and as compressed magnitudes of single bins. An
optional discriminator then makes the fine texture natural.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torchaudio
from torch import Tensor

from avgen.codecs.base import load_tensors
from avgen.codecs.speech import SpeechCodec, SpeechCodecConfig
from avgen.errors import UserError
from avgen.training.audio_codec import (
    COMPRESSION,
    QUIET,
    AudioCodecSystem,
    DiscriminatorConfig,
    build_discriminator,
    spectra,
)
from avgen.training.optimization import OptimizerConfig

# Windows of the losses, in samples. Shorter ones see where in a period of a low voice its pulse is,
# which the latents do not say.
FFT_LENGTHS = (240, 512, 1024, 2048)


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

    def __init__(
        self,
        codec: SpeechCodecConfig,
        optimizer: OptimizerConfig,
        noise: float = 0.1,
        discriminator: DiscriminatorConfig | None = None,
        initial_weights: str | None = None,
        seed: int = 0,
    ) -> None:
        super(AudioCodecSystem, self).__init__()
        if noise < 0:
            raise UserError(f"noise {noise}: must not be negative")
        self.optimizer_config, self.discriminator_config = optimizer, discriminator
        self.noise, self.seed = noise, seed
        self.codec = SpeechCodec(codec)
        if initial_weights is not None:
            load_tensors(self.codec, Path(initial_weights))
        self.discriminator = build_discriminator(discriminator) if discriminator else None
        self.automatic_optimization = False

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

    def reconstruction_losses(
        self, made: Tensor, real: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Losses "mel" and "magnitude" at two window lengths drawn with `generator`."""
        drawn = torch.randperm(len(FFT_LENGTHS), generator=generator)[:2].tolist()
        return magnitude_losses(made, real, [FFT_LENGTHS[i] for i in drawn], self.codec.sample_rate)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Losses of whole clips over all window lengths, without noise on the latents."""
        real = batch["waveform"]
        made = self.codec.decode(self.codec.encode(real), num_samples=real.shape[-1])
        losses = magnitude_losses(made, real, FFT_LENGTHS, self.codec.sample_rate)
        self.log_dict({f"validation/{k}": v for k, v in losses.items()}, sync_dist=True)


def magnitude_losses(
    made: Tensor, real: Tensor, fft_lengths: Sequence[int], sample_rate: int
) -> dict[str, Tensor]:
    """Log-mel L1 and compressed magnitude L1 between waveforms [B, 1, N], a mean over windows.

    Raises:
        UserError: the waveforms are shorter than the longest window.
    """
    if made.shape[-1] < max(fft_lengths):
        raise UserError(
            f"waveforms of {made.shape[-1]} samples: at least {max(fft_lengths)} needed"
        )
    mel_losses, losses = [], []
    with torch.autocast(made.device.type, enabled=False):
        for length in fft_lengths:
            both = spectra(torch.cat([made[:, 0], real[:, 0]]).float(), length)
            magnitude = (both.real**2 + both.imag**2 + QUIET**2).sqrt()
            bands = torchaudio.functional.melscale_fbanks(
                n_freqs=length // 2 + 1,
                f_min=0.0,
                f_max=sample_rate / 2,
                n_mels=max(length // 16, 8),
                sample_rate=sample_rate,
                mel_scale="slaney",
            ).to(magnitude)
            made_mel, real_mel = (magnitude @ bands).add(QUIET).log().chunk(2)
            made_loud, real_loud = (magnitude**COMPRESSION).chunk(2)
            mel_losses.append((made_mel - real_mel).abs().mean())
            losses.append((made_loud - real_loud).abs().mean())
    return {"mel": torch.stack(mel_losses).mean(), "magnitude": torch.stack(losses).mean()}
