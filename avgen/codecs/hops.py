"""What codecs of sound share that work a hop at a time: windows, chunks, blocks, the way around.

No layer runs faster than one step a hop, so that they train on a CPU. Contexts are finite both
ways: a long signal is worked through in chunks with the result of the whole.

Reference: Siuzdak, "Vocos", ICLR 2024, section 3; Liu et al., "A ConvNet for the 2020s", CVPR
2022, fig. 4.
"""

from collections.abc import Callable, Iterator

import torch
import torchaudio
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from avgen.codecs.base import AudioCodec, EvenLatents
from avgen.errors import UserError

KERNEL_SIZE = 7  # latents a depthwise convolution sees, as in ConvNeXt
REACH = KERNEL_SIZE // 2  # latents of context one convolution needs on each side
MAX_LOG_MAGNITUDE = 5.0  # a full-scale sine has log(1) = 0; exp of a wild guess must not overflow
LEAST_WEIGHT = 1e-5  # that overlapping windows are divided by
CHUNK = 3000  # latents worked out at a time


class ConvNextBlock(nn.Module):
    """A depthwise convolution over time and two layers over channels, added to the input."""

    def __init__(self, width: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, KERNEL_SIZE, padding=REACH, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, features: Tensor) -> Tensor:
        """Return features [B, C, T] with this block's correction added."""
        update = self.norm(self.depthwise(features).transpose(1, 2))
        update = self.contract(functional.gelu(self.expand(update))) * self.scale
        return features + update.transpose(1, 2)


class Blocks(nn.Module):
    """ConvNeXt blocks between a convolution from `channels` and a linear head of `outputs`.

    The blocks' sum starts out no larger than their input.
    """

    def __init__(self, channels: int, width: int, hidden: int, depth: int, outputs: int) -> None:
        super().__init__()
        self.embed = nn.Conv1d(channels, width, KERNEL_SIZE, padding=REACH)
        self.embed_norm = nn.LayerNorm(width)
        self.blocks = blocks(width, hidden, depth)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def numbers(self, latents: Tensor) -> Tensor:
        """Float32 [B, T, outputs] of latents [B, channels, T]."""
        hidden = self.embed_norm(self.embed(latents).transpose(1, 2))
        hidden = self.blocks(hidden.transpose(1, 2)).transpose(1, 2)
        return self.head(self.norm(hidden)).float()


def blocks(width: int, hidden: int, depth: int) -> nn.Sequential:
    """Return `depth` ConvNeXt blocks, whose sum starts out no larger than their input."""
    return nn.Sequential(*(ConvNextBlock(width, hidden, 1 / depth) for _ in range(depth)))


class HopCodec(EvenLatents, nn.Module):
    """One channel of sound to `latent_channels` numbers every `hop_length` samples, and back.

    Latent i is centred on samples [i * hop_length, (i + 1) * hop_length). Any length goes: the
    last hop is padded with silence and trimmed again. An `avgen.codecs.base.AudioCodec` whose

    Attributes:
        encoder: Windows of samples [B, T, N], one tensor for each of `window_lengths`, to latents
            [B, latent_channels, T].
        encoder_reach: Latents on each side whose windows change a latent.
        reach: Latents on each side of a hop of samples that change it.
        window_lengths: Samples in the windows that it reads.
    """

    num_channels = 1
    encoder: nn.Module
    encoder_reach: int
    reach: int
    window_lengths: tuple[int, ...]

    @property
    def sample_rate(self) -> int:
        """Of the waveform, in Hz."""
        return self.config.sample_rate  # pyright: ignore

    @property
    def hop_length(self) -> int:
        """Samples per latent."""
        return self.config.hop_length  # pyright: ignore

    def encode(self, waveform: Tensor, *, chunk_latents: int = CHUNK) -> Tensor:
        """Return latents [B, latent_channels, ceil(N / hop_length)] of about unit variance.

        Args:
            waveform: [B, 1, N] in [-1, 1] at `sample_rate`.
            chunk_latents: Latents worked out at a time; it bounds memory and changes nothing else.

        Raises:
            UserError: the waveform is not one channel of at least one sample.
        """
        check_waveform(self, waveform)  # pyright: ignore[reportArgumentType]
        hop = self.hop_length
        num_latents = -(-waveform.shape[2] // hop)
        tail = num_latents * hop - waveform.shape[2]
        windows = [
            functional.pad(waveform[:, 0], (margin, length - hop - margin + tail)).unfold(
                1, length, hop
            )
            for length in self.window_lengths
            for margin in [(length - hop) // 2]
        ]
        parts = []
        for start, end, before, after in chunks(num_latents, chunk_latents, self.encoder_reach):
            latents = self.encoder(*(part[:, start - before : end + after] for part in windows))
            parts.append(latents[..., before : before + end - start])
        return torch.cat(parts, dim=-1)

    def decode(
        self,
        latents: Tensor,
        *,
        num_samples: int,
        chunk_latents: int = CHUNK,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Return the waveform [B, 1, num_samples] of latents; see `decode_chunks`."""
        parts = self.decode_chunks(
            latents, num_samples=num_samples, chunk_latents=chunk_latents, noise=noise
        )
        return torch.cat(list(parts), dim=-1)

    def decode_chunks(
        self,
        latents: Tensor,
        *,
        num_samples: int,
        chunk_latents: int = CHUNK,
        noise: Tensor | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> Iterator[Tensor]:
        """Yield waveforms [B, 1, n] that join, in order, to the whole decoded; memory is bounded.

        Args:
            latents: [B, latent_channels, T].
            num_samples: Length of all of them together; must need exactly T latents.
            chunk_latents: Latents per chunk.
            noise: What a decoder shapes that takes some; None is always the same.
            start: First latent of the stretch that is wanted.
            stop: Latent after its last.

        Raises:
            UserError: channels, or a number of samples that these latents do not cover.
        """
        check_latents(self, latents, num_samples)  # pyright: ignore[reportArgumentType]
        decode, hop = self.decoder_of(latents, noise), self.hop_length
        spans = chunks(latents.shape[2], chunk_latents, self.reach, start, stop)
        for first, last, before, after in spans:
            waveform = overlap_add(decode(first - before, last + after), hop)
            waveform = waveform[:, None, before * hop : (before + last - first) * hop]
            yield waveform[..., : num_samples - first * hop]

    def decoder_of(self, latents: Tensor, noise: Tensor | None) -> Callable[[int, int], Tensor]:
        """The windows of samples [B, T, length] of latents [first, last)."""
        raise NotImplementedError


def check_waveform(codec: AudioCodec, waveform: Tensor) -> None:
    """Raise UserError where a waveform is not [B, codec.num_channels, N] of at least a sample."""
    if waveform.ndim != 3 or waveform.shape[1] != codec.num_channels or waveform.shape[2] == 0:
        shape, rule = tuple(waveform.shape), f"[B, {codec.num_channels}, N], N at least 1"
        raise UserError(f"waveform of shape {shape}: must be {rule}")


def check_latents(codec: AudioCodec, latents: Tensor, num_samples: int) -> None:
    """Raise UserError where latents are not [B, C, T], or not those of so many samples."""
    if latents.ndim != 3 or latents.shape[1] != codec.latent_channels:
        shape = tuple(latents.shape)
        raise UserError(f"latents of shape {shape}: must be [B, {codec.latent_channels}, T]")
    num_latents, hop = latents.shape[2], codec.hop_length
    if num_samples < 1 or -(-num_samples // hop) != num_latents:
        limits = f"{hop * (num_latents - 1) + 1} to {hop * num_latents}"
        raise UserError(f"num_samples {num_samples}: {num_latents} latents hold {limits} samples")


def overlap_add(windows: Tensor, hop: int) -> Tensor:
    """Return the signal [B, T * hop] that Hann windows [B, T, length], twice over, add up to."""
    num_windows, length = windows.shape[1:]
    total = (num_windows - 1) * hop + length
    squared = hann_window(length, windows.device)[None, :, None] ** 2
    squared = squared.expand(1, length, num_windows)  # what unit gain divides by, added alike
    frames = torch.cat([rearrange(windows, "b t n -> b n t"), squared])
    added = functional.fold(frames, (1, total), (1, length), stride=(1, hop))[:, 0, 0]
    margin = (length - hop) // 2
    return (added[:-1] / added[-1:].clamp(min=LEAST_WEIGHT))[:, margin : margin + num_windows * hop]


def chunks(
    length: int, chunk: int, reach: int, start: int = 0, stop: int | None = None
) -> Iterator[tuple[int, int, int, int]]:
    """Yield (start, end, before, after): spans that tile [start, stop), and what context each has.

    The context lies within [0, length).
    """
    if chunk < 1:
        raise UserError(f"chunk_latents {chunk}: must be at least 1")
    stop = length if stop is None else stop
    for begin in range(start, stop, chunk):
        end = min(begin + chunk, stop)
        yield begin, end, min(reach, begin), min(reach, length - end)


def hann_window(length: int, device: torch.device) -> Tensor:
    """Return a periodic Hann window, in float32 even where the module was cast to bfloat16."""
    return torch.hann_window(length, device=device)


def mel_bands(sample_rate: int, fft_length: int, num_mels: int) -> Tensor:
    """Slaney's triangles [bins, bands] from 0 Hz to half the rate, of windows of `fft_length`."""
    return torchaudio.functional.melscale_fbanks(
        n_freqs=fft_length // 2 + 1,
        f_min=0.0,
        f_max=sample_rate / 2,
        n_mels=num_mels,
        sample_rate=sample_rate,
        mel_scale="slaney",
    )


def mean_mel_bands(sample_rate: int, fft_length: int, num_mels: int) -> Tensor:
    """The same; wide bands take the mean of their bins, so that all bands have one scale."""
    bands = mel_bands(sample_rate, fft_length, num_mels)
    return bands / bands.sum(0).clamp(min=1.0)
