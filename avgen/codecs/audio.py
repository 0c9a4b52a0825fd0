"""Waveforms into continuous latents and back: the speech codec that avgen trains and ships.

A frame-rate network in the manner of Vocos (`avgen.codecs.hops`). The encoder reads a log-mel
spectrum and the compressed complex spectrum of the low frequencies through a few ConvNeXt blocks;
the decoder is ConvNeXt blocks and an inverse-STFT head. A twin whose encoder heard no phase
(`phase_bins=0`) sounded buzzy: DNSMOS 2.4 where this one had 2.9 and the original 3.0. Latents are
layer-normed over channels, so they have unit variance whatever the loudness.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from avgen.codecs.hops import (
    MAX_LOG_MAGNITUDE,
    REACH,
    Blocks,
    HopCodec,
    blocks,
    hann_window,
    mean_mel_bands,
)
from avgen.errors import UserError

LOG_FLOOR = 1e-5  # magnitude below which the encoder hears silence: -100 dB of full scale
INITIAL_LOG_MAGNITUDE = -7.0  # where the head starts: the mean over the bins of quiet speech


@dataclass(frozen=True)
class AudioAutoencoderConfig:
    """Sizes of an `AudioAutoencoder`; every length it works with derives from these.

    Args:
        sample_rate: of the waveform, in Hz.
        hop_length: samples per latent.
        latent_channels: numbers per latent.
        fft_length: samples in one analysis or synthesis window; even, and an even number of hops.
        num_mels: bands of the encoder's log-mel spectrum.
        phase_bins: lowest spectrum bins whose complex value the encoder also reads; 0 hides phase.
        encoder_width: channels of the encoder's blocks.
        encoder_hidden: channels inside the encoder's blocks.
        encoder_depth: number of the encoder's blocks.
        decoder_width: channels of the decoder's blocks.
        decoder_hidden: channels inside the decoder's blocks.
        decoder_depth: number of the decoder's blocks.
    """

    sample_rate: int = 24000
    hop_length: int = 320
    latent_channels: int = 32
    fft_length: int = 1280
    num_mels: int = 128
    phase_bins: int = 107
    encoder_width: int = 128
    encoder_hidden: int = 256
    encoder_depth: int = 2
    decoder_width: int = 256
    decoder_hidden: int = 512
    decoder_depth: int = 6

    def __post_init__(self) -> None:
        """Raise ValueError where the sizes do not fit together."""
        for name, value in dataclasses.asdict(self).items():
            if value < 1 and name != "phase_bins":
                raise UserError(f"{name} {value}: must be at least 1")
        if self.fft_length % (2 * self.hop_length):
            rule = f"must be an even multiple of hop_length {self.hop_length}"
            raise UserError(f"fft_length {self.fft_length}: {rule}")
        if not 0 <= self.phase_bins <= self.num_bins:
            raise UserError(f"phase_bins {self.phase_bins}: must be 0 to {self.num_bins}, all bins")

    @property
    def num_bins(self) -> int:
        """Bins of the one-sided spectrum of a window."""
        return self.fft_length // 2 + 1


class Encoder(nn.Module):
    """Windows of samples [B, T, fft_length] to latents [B, latent_channels, T]."""

    def __init__(self, config: AudioAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        bands = mean_mel_bands(config.sample_rate, config.fft_length, config.num_mels)
        self.register_buffer("mel_bands", bands, persistent=False)
        self.project = nn.Linear(config.num_mels + 2 * config.phase_bins, config.encoder_width)
        self.blocks = blocks(config.encoder_width, config.encoder_hidden, config.encoder_depth)
        self.norm = nn.LayerNorm(config.encoder_width)
        self.to_latents = nn.Linear(config.encoder_width, config.latent_channels)

    def forward(self, windows: Tensor) -> Tensor:
        """Return latents [B, latent_channels, T] of windows [B, T, fft_length] of samples."""
        hidden = self.blocks(self.project(self.features(windows)).transpose(1, 2))
        latents = self.to_latents(self.norm(hidden.transpose(1, 2)))
        return functional.layer_norm(latents, latents.shape[-1:]).transpose(1, 2)

    def features(self, windows: Tensor) -> Tensor:
        """Return the log-mel and complex low-frequency spectra, of order one, side by side.

        Windows [B, T, fft_length] give [B, T, num_mels + 2 * phase_bins].
        """
        window = hann_window(self.config.fft_length, windows.device)
        with torch.autocast(windows.device.type, enabled=False):
            spectrum = torch.fft.rfft(windows.float() * window) / (window.sum() / 2)
            magnitude = spectrum.abs()
            mels = (magnitude @ self.mel_bands.float()).clamp(min=LOG_FLOOR).log()
            low = slice(0, self.config.phase_bins)
            # Magnitude to the power 0.3 evens out loudness as hearing does, and keeps the phase.
            even = spectrum[..., low] * magnitude[..., low].clamp(min=LOG_FLOOR) ** -0.7
            phases = rearrange(torch.view_as_real(even), "b t bins parts -> b t (bins parts)")
            features = torch.cat([mels / 3 + 2, phases * 3], dim=-1)
        return features.to(self.project.weight.dtype)


class Decoder(Blocks):
    """Latents [B, latent_channels, T] to samples [B, T, fft_length], to be overlapped and added."""

    def __init__(self, config: AudioAutoencoderConfig) -> None:
        width, hidden, depth = config.decoder_width, config.decoder_hidden, config.decoder_depth
        super().__init__(config.latent_channels, width, hidden, depth, 2 * config.num_bins)
        self.config = config
        with torch.no_grad():
            self.head.bias[: config.num_bins].fill_(INITIAL_LOG_MAGNITUDE)

    def forward(self, latents: Tensor) -> Tensor:
        """Return windowed samples [B, T, fft_length] of latents [B, latent_channels, T]."""
        log_magnitude, phase = self.numbers(latents).chunk(2, dim=-1)
        window = hann_window(self.config.fft_length, latents.device)
        with torch.autocast(latents.device.type, enabled=False):
            magnitude = log_magnitude.clamp(max=MAX_LOG_MAGNITUDE).exp()
            spectrum = torch.polar(magnitude, phase) * (window.sum() / 2)
            return torch.fft.irfft(spectrum, n=self.config.fft_length) * window


class AudioAutoencoder(HopCodec):
    """A `HopCodec` whose latents are learned, and have unit variance over channels."""

    config_class = AudioAutoencoderConfig

    def __init__(self, config: AudioAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    @property
    def latent_channels(self) -> int:
        """Numbers per latent."""
        return self.config.latent_channels

    @property
    def window_lengths(self) -> tuple[int, ...]:
        """Samples in the windows of the encoder."""
        return (self.config.fft_length,)

    @property
    def encoder_reach(self) -> int:
        """Latents on each side whose windows change a latent."""
        return REACH * self.config.encoder_depth

    @property
    def reach(self) -> int:
        """Latents on each side of a hop of samples that change it: by convolution, then overlap."""
        return REACH * (self.config.decoder_depth + 1) + self._overlap

    @property
    def _overlap(self) -> int:
        """Neighbours on each side whose windows overlap a latent's own hop."""
        return self.config.fft_length // self.hop_length // 2

    def decoder_of(self, latents: Tensor, noise: Tensor | None) -> Callable[[int, int], Tensor]:
        """What decodes stretches of latents to windows; no noise takes part."""
        assert noise is None, "this decoder shapes no noise"
        return lambda first, last: self.decoder(latents[..., first:last])
