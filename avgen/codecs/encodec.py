"""Waveforms into the continuous latents of encodec's released 24 and 48 kHz models, and back.

Latents are taken before quantisation; since the decoders were trained on quantised ones, `decode`
can snap latents to the codebooks first. The 24 kHz model is causal and mono and runs over the
whole signal. The 48 kHz model is stereo and works on segments of one second, each divided by its
own loudness; that loudness travels as one more latent channel, so that latents alone are enough to
decode.

The PyPI release of `encodec` is licensed CC-BY-NC-4.0. Reference: Défossez et al., "High Fidelity
Neural Audio Compression", 2022.
"""

import pickle
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from encodec.model import EncodecModel
from torch import Tensor, nn

from avgen.codecs.base import EvenLatents
from avgen.codecs.hops import check_latents, check_waveform
from avgen.errors import UserError

# The files that encodec 0.1.1 publishes, per sample rate in Hz, and the bandwidths in kbit/s their
# codebooks serve.
RELEASES = {24000: "encodec_24khz-d7cc33bc.th", 48000: "encodec_48khz-7e698e3e.th"}
DOWNLOADS = "https://dl.fbaipublicfiles.com/encodec/v0"
SILENCE = 1e-8  # what encodec adds to a segment's loudness before it divides by it
BANDWIDTHS = {24000: (1.5, 3.0, 6.0, 12.0, 24.0), 48000: (3.0, 6.0, 12.0, 24.0)}


@dataclass(frozen=True)
class EncodecAudioConfig:
    """Which released model, and what is done to latents before they are decoded.

    Args:
        sample_rate: 24000 (mono, 75 latents a second) or 48000 (stereo, 150 latents a second), in
            Hz.
        snap_bandwidth: None to decode latents as they are; else the bandwidth, in kbit/s, of the
            codebooks that they are first snapped to. The finest (24) alters real latents least;
            coarser ones correct made latents more.
    """

    sample_rate: int = 24000
    snap_bandwidth: float | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a model or a bandwidth that was not released."""
        if self.sample_rate not in RELEASES:
            raise UserError(
                f"sample_rate {self.sample_rate}: encodec released models for {sorted(RELEASES)}"
            )
        if (
            self.snap_bandwidth is not None
            and self.snap_bandwidth not in BANDWIDTHS[self.sample_rate]
        ):
            allowed = ", ".join(map(str, BANDWIDTHS[self.sample_rate]))
            raise UserError(
                f"snap_bandwidth {self.snap_bandwidth}: must be none or one of {allowed} kbit/s"
            )


class EncodecAudio(EvenLatents, nn.Module):
    """One of encodec's models as an `avgen.codecs.base.AudioCodec`.

    Made with fresh weights; `from_release` gives it the released ones. The 48 kHz model has one
    latent channel more than encodec's 128: the natural logarithm of the loudness (root mean square
    of the segment's mono mix). Its segments do not overlap here, where encodec's do by 1 %: 150
    latents every 148.5 hops would leave latents without a fixed place in time. The price is that
    joins, one a second, are not faded.
    """

    config_class = EncodecAudioConfig

    def __init__(self, config: EncodecAudioConfig) -> None:
        super().__init__()
        self.config = config
        build = {24000: EncodecModel.encodec_model_24khz, 48000: EncodecModel.encodec_model_48khz}[
            config.sample_rate
        ]
        with warnings.catch_warnings():
            # One FutureWarning per convolution; encodec's weight_norm cannot change without
            # changing its state's keys.
            warnings.simplefilter("ignore", FutureWarning)
            self.model = build(pretrained=False)
        self.model.overlap = 0.0

    @classmethod
    def from_release(cls, config: EncodecAudioConfig, path: str | Path | None = None) -> Self:
        """Return the model with its released weights, in eval mode.

        Args:
            config: which model.
            path: encodec's `.th` file or the folder that holds it; None downloads it to torch's
                hub folder.

        Raises:
            UserError: the file is not there, cannot be downloaded, or does not hold exactly this
                model's weights.
        """
        codec, name = cls(config), RELEASES[config.sample_rate]
        source = f"{DOWNLOADS}/{name}" if path is None else str(path)
        try:
            if path is None:
                state = torch.hub.load_state_dict_from_url(
                    source, map_location="cpu", check_hash=True
                )
            else:
                file = Path(path) / name if Path(path).is_dir() else Path(path)
                state = torch.load(file, map_location="cpu", weights_only=True)
            codec.model.load_state_dict(state)
        except (OSError, RuntimeError, EOFError, TypeError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split())  # torch's spans lines
            raise UserError(f"{source}: does not give the weights of {name}: {reason}") from error
        return codec.eval()

    @property
    def sample_rate(self) -> int:
        """Of the waveform, in Hz."""
        return self.config.sample_rate

    @property
    def num_channels(self) -> int:
        """Channels of the waveform: 1 at 24 kHz, 2 at 48 kHz."""
        return self.model.channels

    @property
    def hop_length(self) -> int:
        """Samples per latent."""
        return int(self.model.encoder.hop_length)  # numpy's, from np.prod

    @property
    def latent_channels(self) -> int:
        """Numbers per latent, with the loudness where the model has one."""
        return self.model.encoder.dimension + int(self.model.normalize)

    def encode(self, waveform: Tensor) -> Tensor:
        """Return latents [B, latent_channels, ceil(N / hop_length)], before any quantisation.

        Args:
            waveform: [B, num_channels, N] in [-1, 1] at `sample_rate`; memory grows with N in the
                24 kHz model.

        Raises:
            UserError: the waveform has other channels, or no samples.
        """
        check_waveform(self, waveform)
        segments = waveform.split(self.model.segment_length or waveform.shape[2], dim=2)
        return torch.cat([self._encode_segment(segment) for segment in segments], dim=2)

    def _encode_segment(self, segment: Tensor) -> Tensor:
        if not self.model.normalize:
            return self.model.encoder(segment)
        power = segment.mean(1, keepdim=True).square().mean(2, keepdim=True)
        loudness = SILENCE + power.sqrt()
        latents = self.model.encoder(segment / loudness)
        return torch.cat([latents, loudness.log().expand(-1, -1, latents.shape[2])], dim=1)

    def decode(self, latents: Tensor, *, num_samples: int) -> Tensor:
        """Return the waveform [B, num_channels, num_samples], of snapped latents if so configured.

        Args:
            latents: [B, latent_channels, T]; a loudness that varies within a segment is averaged
                over it.
            num_samples: the length of the waveform; must need exactly T latents.

        Raises:
            UserError: other channels, or a number of samples that these latents do not cover.
        """
        check_latents(self, latents, num_samples)
        segment_length = self.model.segment_length
        length = segment_length // self.hop_length if segment_length else latents.shape[2]
        segments = latents.split(length, dim=2)
        return torch.cat([self._decode_segment(segment) for segment in segments], dim=2)[
            ..., :num_samples
        ]

    @property
    def reach(self) -> int:
        """Latents after a latent that may change what it decodes to: its segment's, or none."""
        segment_length = self.model.segment_length
        return segment_length // self.hop_length if segment_length else 0

    def decode_chunks(
        self, latents: Tensor, *, num_samples: int, start: int = 0, stop: int | None = None
    ) -> Iterator[Tensor]:
        """Yield the waveform of latents [start, stop); its memory grows with all of them."""
        whole = self.decode(latents, num_samples=num_samples)
        end = None if stop is None else stop * self.hop_length
        yield whole[..., start * self.hop_length : end]

    def _decode_segment(self, latents: Tensor) -> Tensor:
        embedding = latents[:, : self.model.encoder.dimension]
        if self.config.snap_bandwidth is not None:
            embedding = self.snap(embedding)
        waveform = self.model.decoder(embedding)
        if self.model.normalize:
            waveform = waveform * latents[:, -1:].mean(2, keepdim=True).exp()
        return waveform

    def snap(self, embedding: Tensor) -> Tensor:
        """Return embeddings [B, 128, T] moved to the nearest entries of the codebooks."""
        codes = self.model.quantizer.encode(
            embedding, self.model.frame_rate, self.config.snap_bandwidth
        )
        return self.model.quantizer.decode(codes)
