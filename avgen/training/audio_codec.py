"""Waveforms in, a trained audio codec out: its losses and the LightningModule that applies them.

Reconstruction is judged on spectra at several window lengths, as log-mel bands (what is heard) and
as compressed complex values (which teach the latents where a glottal pulse is). An optional
discriminator, encodec's multi-scale STFT one, then makes the decoder's fine texture natural; it
usually runs with a frozen encoder, so that cached latents stay valid.

Reference: Défossez et al., "High Fidelity Neural Audio Compression", 2022, section 3.4.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import lightning as L
import torch
from encodec.msstftd import MultiScaleSTFTDiscriminator
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from avgen.codecs.audio import AudioAutoencoder, AudioAutoencoderConfig
from avgen.codecs.base import load_tensors
from avgen.codecs.hops import HopCodec, hann_window, mel_bands
from avgen.errors import UserError
from avgen.training.draws import hash_seed
from avgen.training.optimization import OptimizerConfig, configure

# exponent of magnitudes in the complex loss: about how hearing evens out loudness
COMPRESSION = 0.3
QUIET = 1e-4  # magnitude (a full-scale sine is 1) below which differences stop counting
# What waveforms are multiplied with for the discriminator: at their own scale most of a spectrum
# is so small beside its biases that 150 steps taught it nothing, at 50 times it learns within 30.
DISCRIMINATOR_GAIN = 50.0
# Shares of the gradient that reaches the waveform: chosen once, not searched.
LOSS_WEIGHTS = {
    "mel": 1.0,
    "complex": 1.0,
    "magnitude": 1.0,
    "adversarial": 0.5,
    "features": 1.0,
}


def spectra(waveforms: Tensor, fft_length: int) -> Tensor:
    """Complex spectra [B, T, F] of waveforms [B, N], a full-scale sine being 1; 3/4 overlap."""
    window = hann_window(fft_length, waveforms.device)
    windows = waveforms.unfold(1, fft_length, fft_length // 4)
    return torch.fft.rfft(windows * window) / (window.sum() / 2)


def spectral_losses(
    made: Tensor, real: Tensor, fft_length: int, sample_rate: int, has_phase: bool = True
) -> tuple[Tensor, Tensor]:
    """Log-mel L1 and L1 of compressed spectra between waveforms [B, N], at one window length.

    The spectra are complex, or magnitudes where sound is to have no phase in particular.
    """
    both = spectra(torch.cat([made, real]), fft_length)
    magnitude = (both.real**2 + both.imag**2 + QUIET**2).sqrt()
    bands = mel_bands(sample_rate, fft_length, max(fft_length // 16, 8)).to(magnitude)
    made_mel, real_mel = (magnitude @ bands).add(QUIET).log().chunk(2)
    if has_phase:
        loud = torch.view_as_real(both) * magnitude[..., None] ** (COMPRESSION - 1)
    else:
        loud = magnitude**COMPRESSION
    made_loud, real_loud = loud.chunk(2)
    return (made_mel - real_mel).abs().mean(), (made_loud - real_loud).abs().mean()


def discriminator_loss(made: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Hinge loss of a discriminator's scores, one tensor a scale; 0 where it tells all apart."""
    pairs = zip(made, real, strict=True)
    terms = [functional.relu(1 + m).mean() + functional.relu(1 - r).mean() for m, r in pairs]
    return torch.stack(terms).mean()


def adversarial_loss(made: Sequence[Tensor]) -> Tensor:
    """Hinge loss of what was made, from the discriminator's scores of it, one tensor a scale."""
    return torch.stack([functional.relu(1 - m).mean() for m in made]).mean()


def feature_loss(made: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean L1 of a discriminator's features (scale, layer), relative to the real ones' size."""
    pairs = [p for scale in zip(made, real, strict=True) for p in zip(*scale, strict=True)]
    terms = [(m - r).abs().mean() / r.abs().mean().clamp(min=QUIET) for m, r in pairs]
    return torch.stack(terms).mean()


def balanced_gradient(
    losses: Mapping[str, Tensor], weights: Mapping[str, float], output: Tensor
) -> Tensor:
    """Gradient on `output` in which each loss has its weight's share of length, whatever its scale.

    Reference: Défossez et al. 2022, equation (5), without the running mean of the norms.
    """
    total = torch.zeros_like(output)
    for name, loss in losses.items():
        (gradient,) = torch.autograd.grad(loss, output, retain_graph=True)
        total += gradient * (weights[name] / gradient.norm().clamp(min=1e-12))
    return total / sum(weights[name] for name in losses)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes of the adversary.

    Args:
        filters: Channels of its convolutions; encodec trained with 32.
        fft_lengths: Window lengths in samples, a sub-network each; windows overlap by three
            quarters.
        lr: Its peak learning rate, over the course that the codec's takes.
    """

    filters: int = 8
    fft_lengths: tuple[int, ...] = (1024, 256)
    lr: float = 1e-3


def build_discriminator(config: DiscriminatorConfig) -> nn.Module:
    """Encodec's discriminator: waveforms [B, 1, N] to scores and layers' features per scale."""
    lengths = list(config.fft_lengths)
    with warnings.catch_warnings():
        # One FutureWarning per convolution; another weight_norm would change encodec's state keys.
        warnings.simplefilter("ignore", FutureWarning)
        return MultiScaleSTFTDiscriminator(
            config.filters,
            n_ffts=lengths,
            win_lengths=lengths,
            hop_lengths=[length // 4 for length in lengths],
        )


class AudioCodecSystem(L.LightningModule):
    """Trains an `AudioAutoencoder` on `batch["waveform"]`, float [B, 1, N] in [-1, 1].

    Optimisation is manual, since the discriminator has an optimiser of its own: with one, every
    batch counts as two of the trainer's `max_steps`.

    Args:
        codec: Sizes of the autoencoder.
        optimizer: Learning rate and its course, in batches.
        noise: Standard deviation of the noise on the latents (which have unit variance), so that
            a diffusion model's small errors do no harm.
        discriminator: Sizes of the adversary; none trains on reconstruction alone.
        initial_weights: A `model.safetensors` of this codec to start from; none starts afresh.
        freeze_encoder: Train the decoder alone, so that latents cached from this encoder stay
            valid.
        seed: Of the noise and the choice of window lengths, which depend on it, the batch and the
            process alone.

    Attributes:
        codec_class: Whose sizes are `codec`.
        fft_lengths: Windows of the reconstruction losses, in samples.
        has_phase: Whether spectra are compared with their phase.
    """

    codec_class: ClassVar[type[HopCodec]] = AudioAutoencoder
    fft_lengths: ClassVar[tuple[int, ...]] = (128, 256, 512, 1024, 2048)
    has_phase: ClassVar[bool] = True

    def __init__(
        self,
        codec: AudioAutoencoderConfig,
        optimizer: OptimizerConfig,
        noise: float = 0.2,
        discriminator: DiscriminatorConfig | None = None,
        initial_weights: str | None = None,
        freeze_encoder: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if noise < 0:
            raise UserError(f"noise {noise}: must not be negative")
        self.optimizer_config, self.discriminator_config = optimizer, discriminator
        self.noise, self.seed = noise, seed
        self.codec = self.codec_class(codec)  # pyright: ignore[reportArgumentType]
        if initial_weights is not None:
            load_tensors(self.codec, Path(initial_weights))
        if freeze_encoder:
            self.codec.encoder.requires_grad_(False)
        self.discriminator = build_discriminator(discriminator) if discriminator else None
        self.automatic_optimization = False

    def configure_optimizers(self) -> list[dict]:
        """AdamW with warm-up and cosine decay for the codec, and for the discriminator if any."""
        configured = [configure(self.codec, self.optimizer_config)]
        if self.discriminator is not None and self.discriminator_config is not None:
            own = replace(self.optimizer_config, lr=self.discriminator_config.lr)
            configured.append(configure(self.discriminator, own))
        return configured

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Update the discriminator, if there is one, then the codec."""
        real = batch["waveform"]
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        seed = hash_seed(self.seed, self.global_step, batch_idx, self.global_rank)
        generator = torch.Generator().manual_seed(seed)
        made = self.reconstruct(real, generator)
        losses = self.reconstruction_losses(made, real, generator)
        if self.discriminator is not None:
            self.train_discriminator(self.discriminator, made.detach(), real, optimizers[1])
            losses |= adversarial_losses(self.discriminator, made, real)
        optimizers[0].zero_grad()
        self.manual_backward(made, gradient=balanced_gradient(losses, LOSS_WEIGHTS, made))
        self.clip_gradients(optimizers[0].optimizer, 1.0, "norm")
        optimizers[0].step()
        for configured in self.trainer.lr_scheduler_configs:
            assert isinstance(configured.scheduler, LambdaLR)
            configured.scheduler.step()
        self.log_dict({f"train/{name}": loss.detach() for name, loss in losses.items()})

    def reconstruct(self, real: Tensor, generator: torch.Generator) -> Tensor:
        """Waveforms [B, 1, N] decoded from the noised latents of real ones."""
        latents = self.codec.encode(real).float()
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        noised = latents + self.noise * noise
        return self.codec.decode(noised, num_samples=real.shape[-1]).float()

    def reconstruction_losses(
        self, made: Tensor, real: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Losses at two window lengths drawn with `generator`.

        Two of them at a time are an unbiased estimate at a part of the cost.
        """
        drawn = torch.randperm(len(self.fft_lengths), generator=generator)[:2].tolist()
        lengths = [self.fft_lengths[i] for i in drawn]
        return mean_losses(made, real, lengths, self.codec.sample_rate, self.has_phase)

    def train_discriminator(
        self,
        discriminator: nn.Module,
        made: Tensor,
        real: Tensor,
        optimizer: LightningOptimizer,
    ) -> None:
        """Take one step towards telling made from real waveforms [B, 1, N]."""
        made_scores, _ = discriminator(made * DISCRIMINATOR_GAIN)
        real_scores, _ = discriminator(real * DISCRIMINATOR_GAIN)
        loss = discriminator_loss(made_scores, real_scores)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.log("train/discriminator", loss.detach())

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Reconstruction losses of whole clips over all window lengths, without noise."""
        real = batch["waveform"]
        made = self.codec.decode(self.codec.encode(real), num_samples=real.shape[-1])
        rate = self.codec.sample_rate
        losses = mean_losses(made, real, self.fft_lengths, rate, self.has_phase)
        self.log_dict({f"validation/{k}": v for k, v in losses.items()}, sync_dist=True)


def mean_losses(
    made: Tensor,
    real: Tensor,
    fft_lengths: Sequence[int],
    sample_rate: int,
    has_phase: bool = True,
) -> dict[str, Tensor]:
    """`spectral_losses` of waveforms [B, 1, N], averaged over window lengths, by name.

    "mel", and "complex" or, without phase, "magnitude".

    Raises:
        UserError: the waveforms are shorter than the longest window.
    """
    if made.shape[-1] < max(fft_lengths):
        raise UserError(
            f"waveforms of {made.shape[-1]} samples: at least {max(fft_lengths)} needed"
        )
    made, real = made[:, 0].float(), real[:, 0].float()
    with torch.autocast(made.device.type, enabled=False):
        pairs = [spectral_losses(made, real, n, sample_rate, has_phase) for n in fft_lengths]
    mel, other = (torch.stack(terms).mean() for terms in zip(*pairs, strict=True))
    return {"mel": mel, "complex" if has_phase else "magnitude": other}


def adversarial_losses(discriminator: nn.Module, made: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Losses "adversarial" and "features" of made waveforms [B, 1, N] against a discriminator."""
    discriminator.requires_grad_(False)  # it is the codec's turn; this spares half the backward
    made_scores, made_features = discriminator(made * DISCRIMINATOR_GAIN)
    with torch.no_grad():
        _, real_features = discriminator(real * DISCRIMINATOR_GAIN)
    discriminator.requires_grad_(True)
    return {
        "adversarial": adversarial_loss(made_scores),
        "features": feature_loss(made_features, real_features),
    }
