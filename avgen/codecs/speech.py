"""Speech into latents that are a closed form of it, without phase, and back by a trained decoder.

A latent is the spectral envelope (mel cepstra), the pitch and how voiced the sound is, as in WORLD
and LPCNet: nothing in the encoder is learned, so latents exist before a decoder does, neighbours
are alike (no phase), and the pitch is a number that a user can turn. The decoder gives the spectra
of three parts, as hibari and the neural homomorphic vocoder do: pulses at the pitch, noise, and a
part of free phase for what is neither, such as the bursts of stops:

    S = exp(h) e^(i pi tanh t) STFT(pulses) + exp(n) STFT(noise) + exp(r) e^(i phi)

It begins as a vocoder by formula: h and n are the envelope, shared out by the voicing. Contexts are
bounded and the phase of the pulses is a sum of pitches, so that chunks join to the whole.

Reference: Valin & Skoglund, "LPCNet", ICASSP 2019; Morise et al., "WORLD", IEICE 2016; Liu et al.,
"Neural homomorphic vocoder", Interspeech 2020.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from avgen.codecs import pitch
from avgen.codecs.excitation import fixed_noise, pulse_phases, pulses, short_spectra
from avgen.codecs.hops import (
    MAX_LOG_MAGNITUDE,
    REACH,
    Blocks,
    HopCodec,
    hann_window,
    mean_mel_bands,
    mel_bands,
)
from avgen.errors import UserError

FLOOR = 1e-4  # magnitude added to the bands: what is below -80 dB of full scale is not heard

# Latents are near zero mean and unit deviation for speech, synthetic and read. Deviations of
# cepstra fall as a power of their number.
CEPSTRUM_MEANS = (-67.0, 7.0)  # the others' is 0
CEPSTRUM_DEVIATION, CEPSTRUM_FALL = 8.0, 0.87
PITCH_DEVIATION = 0.4  # of the logarithm of the pitch, around pitch.USUAL_HZ

PITCH_LIMITS_HZ = (40.0, 800.0)  # of what is decoded


@dataclass(frozen=True)
class SpeechCodecConfig:
    """Sizes of a `SpeechCodec`; every length it works with derives from these.

    Args:
        sample_rate: Of the waveform, in Hz.
        hop_length: Samples per latent.
        num_cepstra: Mel cepstra in a latent; two more numbers are pitch and voicing.
        num_mels: Bands of the spectrum that the cepstra are of.
        envelope_window: Samples that the spectrum is of.
        pitch_window: Samples that the pitch is of; three of the longest periods.
        fft_length: Samples in a window of the decoder; three hops.
        width: Channels of the decoder's blocks.
        hidden: Channels inside the blocks.
        depth: Number of blocks.
    """

    sample_rate: int = 24000
    hop_length: int = 320
    num_cepstra: int = 22
    num_mels: int = 80
    envelope_window: int = 1024
    pitch_window: int = 1200
    fft_length: int = 960
    width: int = 320
    hidden: int = 960
    depth: int = 7

    def __post_init__(self) -> None:
        """Raise UserError where the sizes do not fit together."""
        for name, value in dataclasses.asdict(self).items():
            if value < 1:
                raise UserError(f"{name} {value}: must be at least 1")
        for name in ("envelope_window", "pitch_window"):
            if (getattr(self, name) - self.hop_length) % 2:
                rule = f"must be even or odd as hop_length {self.hop_length} is"
                raise UserError(f"{name} {getattr(self, name)}: {rule}")
        if self.fft_length != 3 * self.hop_length:
            rule = f"must be three of hop_length {self.hop_length}"
            raise UserError(f"fft_length {self.fft_length}: {rule}")
        if self.num_cepstra > self.num_mels:
            raise UserError(f"num_cepstra {self.num_cepstra}: at most num_mels {self.num_mels}")

    @property
    def num_bins(self) -> int:
        """Bins of the one-sided spectrum of a window of the decoder."""
        return self.fft_length // 2 + 1


class Encoder(nn.Module):
    """Sound to latents, by formula."""

    def __init__(self, config: SpeechCodecConfig) -> None:
        super().__init__()
        self.config = config
        bands = mean_mel_bands(config.sample_rate, config.envelope_window, config.num_mels)
        self.register_buffer("mel_bands", bands, persistent=False)
        means, deviations = latent_scales(config)
        self.register_buffer("means", means, persistent=False)
        self.register_buffer("deviations", deviations, persistent=False)
        cosines = cosine_transform(config.num_mels)[: config.num_cepstra]
        self.register_buffer("cosines", cosines, persistent=False)

    def forward(self, envelope_windows: Tensor, pitch_windows: Tensor) -> Tensor:
        """Latents [B, C, T] of windows [B, T, N] of samples, a hop apart."""
        window = hann_window(self.config.envelope_window, envelope_windows.device)
        with torch.autocast(envelope_windows.device.type, enabled=False):
            spectrum = torch.fft.rfft(envelope_windows.float() * window) / (window.sum() / 2)
            mels = (spectrum.abs() @ self.mel_bands + FLOOR).log()
            hz, voicing = pitch.pitch_of_windows(pitch_windows, self.config.sample_rate)
            numbers = [mels @ self.cosines.T, hz.log()[..., None], voicing[..., None]]
            latents = (torch.cat(numbers, -1) - self.means) / self.deviations  # pyright: ignore
        return latents.transpose(1, 2)


def latent_scales(config: SpeechCodecConfig) -> tuple[Tensor, Tensor]:
    """Mean and deviation [C] that the numbers of a latent are taken to have."""
    order = torch.arange(config.num_cepstra)
    means = torch.zeros(config.num_cepstra + 2)
    means[: len(CEPSTRUM_MEANS)] = torch.tensor(CEPSTRUM_MEANS)
    means[-2:] = torch.tensor([math.log(pitch.USUAL_HZ), 0.5])
    cepstra = CEPSTRUM_DEVIATION / (1 + order) ** CEPSTRUM_FALL
    return means, torch.cat([cepstra, torch.tensor([PITCH_DEVIATION, 0.5])])


def cosine_transform(size: int) -> Tensor:
    """The orthonormal discrete cosine transform (type II) as a matrix [number, place]."""
    place = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * (place + 0.5) * place[:, None]) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.float()


def mel_interpolation(config: SpeechCodecConfig) -> Tensor:
    """Weights [bands, bins] that carry a log-mel spectrum over to the decoder's bins."""
    bins_hz = torch.linspace(0, config.sample_rate / 2, config.num_bins)
    fine = 8 * config.fft_length  # enough for the centres of narrow bands
    triangles = mel_bands(config.sample_rate, fine, config.num_mels)[::8]
    # Triangles that overlap by half sum to 1 between the first and the last centre.
    total = triangles.sum(1, keepdim=True)
    edge = (total[:, 0] < 1e-3).nonzero().flatten()
    for i in edge.tolist():
        triangles[i, 0 if bins_hz[i] < config.sample_rate / 4 else -1] = 1.0
    return (triangles / triangles.sum(1, keepdim=True)).T.contiguous()


class Decoder(Blocks):
    """Latents and two excitations to samples, to be overlapped and added."""

    def __init__(self, config: SpeechCodecConfig) -> None:
        numbers, outputs = config.num_cepstra + 2, 5 * config.num_bins
        super().__init__(numbers, config.width, config.hidden, config.depth, outputs)
        self.config = config
        with torch.no_grad():  # the phases of the free part start anywhere, all else by formula
            self.head.weight[: 4 * config.num_bins] *= 0.1
            self.head.bias[: 4 * config.num_bins].zero_()
        means, deviations = latent_scales(config)
        self.register_buffer("means", means, persistent=False)
        self.register_buffer("deviations", deviations, persistent=False)
        cosines = cosine_transform(config.num_mels)[: config.num_cepstra]
        to_bins = cosines @ mel_interpolation(config)
        self.register_buffer("to_bins", to_bins, persistent=False)

    def forward(self, latents: Tensor, pulse: Tensor, noise: Tensor) -> Tensor:
        """Windowed samples [B, T, fft_length].

        Args:
            latents: [B, C, T].
            pulse: Pulse trains [B, T + 2, hop_length]: with a hop on each side.
            noise: White noise, likewise, or for B = 1.
        """
        h, t, n, r, phi = self.numbers(latents).chunk(5, dim=-1)
        window = hann_window(self.config.fft_length, latents.device)
        with torch.autocast(latents.device.type, enabled=False):
            pulse_gain, noise_gain, free_gain = self.by_formula(latents.float())
            spectrum = (
                torch.polar(log_limited(h + pulse_gain), math.pi * t.tanh())
                * short_spectra(pulse, window)
                + log_limited(n + noise_gain) * short_spectra(noise, window)
                + torch.polar(log_limited(r + free_gain), phi)
            )
            return torch.fft.irfft(spectrum * (window.sum() / 2), n=len(window)) * window

    def by_formula(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log magnitudes [B, T, bins] of a plain vocoder's pulses and noise, and of the free part.

        A band of harmonics has the mean magnitude of one of them over its distance to the next.
        """
        numbers = latents.transpose(1, 2) * self.deviations + self.means  # pyright: ignore
        envelope = numbers[..., :-2] @ self.to_bins  # pyright: ignore[reportOperatorIssue]
        voicing = numbers[..., -1:].clamp(0, 1)
        lobe_hz = 2 * self.config.sample_rate / self.config.fft_length
        dense = numbers[..., -2:-1] - math.log(lobe_hz)
        voiced, unvoiced = (voicing + 0.01).log(), (1.05 - voicing).log()
        # |STFT| of white noise of unit power is sqrt(sum w^2) / (sum w / 2): w is a Hann window.
        noise_rms = math.sqrt(6 / self.config.fft_length)
        return envelope + dense + voiced, envelope + unvoiced - math.log(noise_rms), envelope - 3.0


def log_limited(log_magnitude: Tensor) -> Tensor:
    """The magnitude, which no guess makes overflow."""
    return log_magnitude.clamp(max=MAX_LOG_MAGNITUDE).exp()


class SpeechCodec(HopCodec):
    """A `HopCodec` whose latents are a closed form.

    The last two numbers of a latent are the pitch and the voicing; `pitch_hz` reads them,
    `with_pitch` turns them.
    """

    config_class = SpeechCodecConfig
    encoder_reach = pitch.REACH

    def __init__(self, config: SpeechCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    @property
    def latent_channels(self) -> int:
        """Numbers per latent."""
        return self.config.num_cepstra + 2

    @property
    def window_lengths(self) -> tuple[int, ...]:
        """Samples in the windows of the encoder: of the spectrum, and of the pitch."""
        return self.config.envelope_window, self.config.pitch_window

    @property
    def reach(self) -> int:
        """Latents on each side of a hop of samples that change it: by convolution, then overlap."""
        return REACH * (self.config.depth + 1) + 1

    @property
    def fingerprint(self) -> str:
        """Of everything that latents depend on: the settings of the formula."""
        settings = dataclasses.asdict(self.config)
        for name in ("fft_length", "width", "hidden", "depth"):
            del settings[name]
        formula = ["mel cepstra, pitch, voicing", FLOOR, CEPSTRUM_MEANS, CEPSTRUM_DEVIATION]
        formula += [CEPSTRUM_FALL, PITCH_DEVIATION, pitch.settings()]
        text = json.dumps([settings, formula], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def decoder_of(self, latents: Tensor, noise: Tensor | None) -> Callable[[int, int], Tensor]:
        """What decodes stretches of latents to windows; the latents before give them their phase.

        Noise is white, [B, T, hop_length].
        """
        hz = self.pitch_hz(latents.detach())
        phases = pulse_phases(hz, self.hop_length, self.sample_rate)

        def decode(first: int, last: int) -> Tensor:
            excitations = self._excitations(hz, phases, first, last, noise)
            return self.decoder(latents[..., first:last], *excitations)

        return decode

    def _excitations(
        self, hz: Tensor, phases: Tensor, first: int, last: int, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Pulses and noise [B, last - first + 2, hop_length], with a hop on each side."""
        start, end = max(first - 1, 0), min(last + 1, hz.shape[1])
        around = functional.pad(hz[:, None], (1, 1), mode="replicate")[:, 0, start : end + 2]
        pulse = pulses(around, phases[:, start:end], self.hop_length, self.sample_rate)
        if noise is None:
            noise = fixed_noise(start, end, self.hop_length).to(hz)[None]
        else:
            noise = noise[:, start:end]
        margins = (0, 0, start - first + 1, last + 1 - end)
        return functional.pad(pulse, margins), functional.pad(noise, margins)

    def pitch_hz(self, latents: Tensor) -> Tensor:
        """The pitch [B, T] in Hz of latents [B, latent_channels, T]."""
        log_pitch = latents[:, -2].float() * PITCH_DEVIATION + math.log(pitch.USUAL_HZ)
        return log_pitch.exp().clamp(*PITCH_LIMITS_HZ)

    def with_pitch(self, latents: Tensor, factor: float | Tensor) -> Tensor:
        """The latents with their pitch times a factor, or times one a latent [B, T]."""
        turned = latents.clone()
        turned[:, -2] += torch.as_tensor(factor).log().to(latents) / PITCH_DEVIATION
        return turned
