"""Sound <-> latents by a codec that somebody else trained, a folder's or a repository's.

Of diffusers: AutoencoderKLLTX2Audio with its vocoder, AutoencoderOobleck,
AutoencoderKLMiniMaxH3Audio; of transformers: EncodecModel, DacModel, MimiModel, before they
quantise. The class is what the codec's own config names; see `avgen.codecs.pretrained`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cached_property
from typing import Any

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional as F

from avgen.codecs.normalize import LatentStatistics
from avgen.codecs.pretrained import (
    LONGEST,
    PretrainedConfig,
    Reach,
    checked,
    digest,
    load,
    measure_reach,
    statistics_of,
)
from avgen.errors import UserError

EDGE = 6  # latents that a first convolution may reflect at the beginning
VOCODERS = ("LTX2Vocoder", "LTX2VocoderWithBWE")


def _mel(codec: PretrainedAudio, sound: Tensor) -> Tensor:
    """Log-mel spectrogram [B, C, T, F] that LTX-2's codec was trained on (diffusers' settings)."""
    config, fft, hop = codec.model.config, 1024, codec.model.config.mel_hop_length
    transform = torchaudio.transforms.MelSpectrogram(
        config.sample_rate,
        n_fft=fft,
        hop_length=hop,
        n_mels=config.mel_bins,
        power=1.0,
        mel_scale="slaney",
        norm="slaney",
    ).to(sound.device)
    frames = max(1, sound.shape[2] // hop)
    mel = transform(F.pad(sound, (0, max(0, fft - sound.shape[2]))))[..., :frames]
    return mel.clamp(min=1e-5).log().transpose(2, 3)


def _encode_ltx(codec: PretrainedAudio, sound: Tensor) -> Tensor:
    latents = codec.model.encode(_mel(codec, sound)).latent_dist.mode()
    return latents.transpose(2, 3).flatten(1, 2)  # [B, C, T, F] -> [B, C F, T], as LTX-2 packs it


def _decode_ltx(codec: PretrainedAudio, latents: Tensor) -> Tensor:
    channels = codec.model.config.latent_channels
    mel = codec.model.decode(latents.unflatten(1, (channels, -1)).transpose(2, 3)).sample
    return codec.vocoder(mel)


def _encode_mimi(codec: PretrainedAudio, sound: Tensor) -> Tensor:
    return codec.model.encoder(sound).latents


def _decode_mimi(codec: PretrainedAudio, latents: Tensor) -> Tensor:
    return codec.model.decoder(latents).audio_values


def _encode_posterior(codec: PretrainedAudio, sound: Tensor) -> Tensor:
    return codec.model.encode(sound).latent_dist.mode()


def _decode_sample(codec: PretrainedAudio, latents: Tensor) -> Tensor:
    return codec.model.decode(latents).sample


def _encode_plain(codec: PretrainedAudio, sound: Tensor) -> Tensor:
    return codec.model.encoder(sound)


def _decode_plain(codec: PretrainedAudio, latents: Tensor) -> Tensor:
    return codec.model.decoder(latents)


# Before any quantisation: class -> how it is encoded and decoded, and what its config calls its
# channels (None has one).
AUDIO: dict[str, tuple[Callable, Callable, str | None]] = {
    "AutoencoderKLLTX2Audio": (_encode_ltx, _decode_ltx, "in_channels"),
    "AutoencoderOobleck": (_encode_posterior, _decode_sample, "audio_channels"),
    "AutoencoderKLMiniMaxH3Audio": (_encode_posterior, _decode_sample, None),
    "EncodecModel": (_encode_plain, _decode_plain, "audio_channels"),
    "DacModel": (_encode_plain, _decode_plain, None),
    "MimiModel": (_encode_mimi, _decode_mimi, "audio_channels"),
}


class PretrainedAudio(nn.Module):
    """Sound <-> latents as an `AudioCodec`; what goes in and what comes out may differ in rate.

    Raises:
        UserError: there is no such codec, it needs a vocoder, or its latents depend on loudness.
    """

    refers = True

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.model: Any = load(config, config.subfolder, tuple(AUDIO))
        own = self.model.config
        self._encode, self._decode, channels = AUDIO[type(self.model).__name__]
        if getattr(own, "normalize", False):
            raise UserError(
                f"{config.source}: is scaled by loudness; avgen.codecs.encodec.EncodecAudio has it"
            )
        needs_vocoder = self._decode is _decode_ltx
        if needs_vocoder != (config.vocoder is not None):
            raise UserError(
                f"{config.source}: {type(self.model).__name__} "
                f"{'needs a' if needs_vocoder else 'has no'} vocoder"
            )
        self.vocoder: Any = None
        if config.vocoder is not None:
            self.vocoder = load(config, config.vocoder, VOCODERS)
        models = [self.model] if self.vocoder is None else [self.model, self.vocoder]
        self.config = checked(config, digest(*models))
        self._fingerprint = digest(self.model)
        self.sample_rate = int(getattr(own, "sampling_rate", 0) or own.sample_rate)
        self.num_channels = 1 if channels is None else int(getattr(own, channels))
        self.output_sample_rate = self.sample_rate
        if self.vocoder is not None:
            self.output_sample_rate = int(self.vocoder.config.output_sampling_rate)
        self._measure()

    @torch.inference_mode()
    def _measure(self) -> None:
        """Samples of a latent, how many the first one lacks, and numbers in one."""
        self.latent_channels = self._encode(self, torch.zeros(1, self.num_channels, 8192)).shape[1]
        four, five = (
            self._decode(self, torch.zeros(1, self.latent_channels, count)).shape[2]
            for count in (4, 5)
        )
        ratio = Fraction(self.sample_rate, self.output_sample_rate)
        hop, lead = (five - four) * ratio, (4 * (five - four) - four) * ratio
        lead = Fraction(0) if lead < hop / 2 else lead  # a little is trimmed
        if hop.denominator != 1 or lead.denominator != 1:
            raise UserError(
                f"{self.config.source}: {hop} samples a latent; it must be a whole number"
            )
        self.hop_length, self.lead = int(hop), int(lead)

    @property
    def latent_rate(self) -> Fraction:
        """Latents per second."""
        return Fraction(self.sample_rate, self.hop_length)

    @property
    def fingerprint(self) -> str:
        """Of the weights but the vocoder's: latents of other ones mean something else."""
        return self._fingerprint

    @property
    def statistics(self) -> LatentStatistics | None:
        """That it was published with."""
        return statistics_of(self.model)

    @cached_property
    def reaches(self) -> Reach:
        """Of the decoder, measured when it is first asked for."""
        device = next(self.model.parameters()).device
        size = (1, self.latent_channels, LONGEST)
        latents = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(device)
        own = self.hop_length * self.output_sample_rate // self.sample_rate
        with torch.inference_mode():
            return measure_reach(lambda z: self._decode(self, z), latents, own)

    @property
    def reach(self) -> int:
        """Latents after a latent that may change what it decodes to."""
        return LONGEST if self.reaches.after is None else max(EDGE, self.reaches.after)

    def encode(self, waveform: Tensor) -> Tensor:
        """Encode float [B, num_channels, N] as latents [B, C, ceil((N + lead) / hop_length)].

        Raises:
            UserError: the waveform has other channels, or no samples.
        """
        if waveform.ndim != 3 or waveform.shape[1] != self.num_channels or waveform.shape[2] == 0:
            raise UserError(
                f"waveform of shape {tuple(waveform.shape)}: must be [B, {self.num_channels}, N]"
            )
        count = -(-(waveform.shape[2] + self.lead) // self.hop_length)
        latents = waveform.new_zeros(len(waveform), self.latent_channels, 0)
        for more in range(3):  # until the codec, which may drop a last part, has them all
            length = (count + more) * self.hop_length - self.lead
            if latents.shape[2] < count:
                padded = F.pad(waveform, (0, length - waveform.shape[2]))
                latents = self._encode(self, padded)
        return latents[:, :, :count]

    def decode(self, latents: Tensor, *, num_samples: int) -> Tensor:
        """Decode latents [B, C, T'] to float [B, num_channels, num_samples] of the output.

        Raises:
            UserError: other channels, or more samples than the latents cover.
        """
        return torch.cat(list(self.decode_chunks(latents, num_samples=num_samples)), 2)

    def decode_chunks(
        self, latents: Tensor, *, num_samples: int, start: int = 0, stop: int | None = None
    ) -> Iterator[Tensor]:
        """Yield the waveform of latents [start, stop), decoded with all that it depends on.

        Raises:
            UserError: as `decode`.
        """
        total, stop = latents.shape[2], latents.shape[2] if stop is None else stop
        ratio = Fraction(self.output_sample_rate, self.sample_rate)
        hop, lead = int(self.hop_length * ratio), int(self.lead * ratio)
        if latents.shape[1] != self.latent_channels or num_samples > total * hop - lead:
            raise UserError(
                f"latents of shape {tuple(latents.shape)}: must be [B, {self.latent_channels}, T], "
                f"and hold {total * hop - lead} samples; {num_samples} are asked for"
            )
        before, after = self.reaches.before, self.reach
        begin = 0 if before is None else max(0, start - before - 1)
        end = min(total, stop + after)
        row = latents[:, :, begin:end]
        made = self._decode(self, row)
        if (
            end == total and made.shape[2] < (end - begin) * hop - lead
        ):  # an odd stride loses a few samples
            made = self._decode(self, F.pad(row, (0, 1), mode="replicate"))
        first, last = (max(0, at * hop - lead) for at in (start, stop))
        skipped = first - begin * hop
        yield made[..., skipped : skipped + min(last, num_samples) - first]
