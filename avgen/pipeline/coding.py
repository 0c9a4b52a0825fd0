"""Frames and sound <-> normalised latents, by a pipeline's codecs and its statistics."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from avgen.clips.timebase import to_index
from avgen.codecs.base import AudioCodec, VideoCodec
from avgen.latents.geometry import VideoGrid
from avgen.pipeline.config import PipelineConfig
from avgen.pipeline.joins import ease_expressions


class Coding:
    """What `AVPipeline` encodes and decodes with.

    Attributes:
        video_codec: Pictures <-> latents.
        audio_codec: Sound <-> latents.
        config: Has the statistics.
        device: Where the codecs are.
    """

    video_codec: VideoCodec
    audio_codec: AudioCodec
    config: PipelineConfig

    @property
    def device(self) -> torch.device:
        """Where they are."""
        raise NotImplementedError

    def encode_video(self, frames: np.ndarray) -> Tensor:
        """Frames uint8 [T, H, W, 3] to normalised latents [1, C, T', H', W']."""
        latents = self.video_codec.encode(self.pixels(frames)).float()
        return self.config.video_statistics.normalize(latents)

    def pixels(self, frames: np.ndarray) -> Tensor:
        """Frames uint8 [T, H, W, 3] as codecs take them: float [1, 3, T, H, W] in [-1, 1]."""
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device)
        return pixels.movedim(-1, 0)[None].float() / 127.5 - 1

    def encode_audio(self, waveform: np.ndarray) -> Tensor:
        """A waveform float32 [num_channels, N] to normalised latents [1, C, T']."""
        sound = torch.from_numpy(np.ascontiguousarray(waveform)).to(self.device)[None]
        return self.config.audio_statistics.normalize(self.audio_codec.encode(sound).float())

    def decode_video(
        self,
        latents: Tensor,
        start: int,
        stop: int,
        clip: VideoGrid,
        first: np.ndarray | None = None,
        expressions: Tensor | None = None,
        progress: bool = False,
    ) -> Iterator[np.ndarray]:
        """The frames uint8 [T, H, W, 3] of normalised latents [start, stop), a few at a time.

        Args:
            latents: [1, C, T', H', W'], from the first that there is.
            start: Of the stretch.
            stop: Of the stretch.
            clip: What the latents cover.
            first: The clip's first frame uint8 [H, W, 3], if given; a decoder may carry it on.
            expressions: Of every frame's face [1, T', stride, K], from the first latent on, which a
                decoder may go by; steps between latents are eased.
            progress: Show a progress bar.
        """
        latents = self.config.video_statistics.denormalize(latents)
        anchor = None if first is None else self.pixels(first[None])[:, :, 0]
        told = None if expressions is None else ease_expressions(expressions)
        size = {"num_frames": clip.num_frames, "height": clip.height, "width": clip.width}
        begin, end = (min(clip.num_frames, clip.latent_frames(at)[0]) for at in (start, stop))
        with tqdm(total=end - begin, desc="decoding", unit="frame", disable=not progress) as bar:
            span = {"start": start, "stop": stop, "anchor": anchor, "expressions": told}
            for pixels in self.video_codec.decode_chunks(latents, **size, **span):
                shown = ((pixels[0].movedim(0, -1) + 1) * 127.5).round().clamp(0, 255)
                yield shown.byte().cpu().numpy()
                bar.update(shown.shape[0])

    def decode_audio(
        self, latents: Tensor, start: int, stop: int, num_samples: int, is_last: bool = True
    ) -> Iterator[np.ndarray]:
        """The samples float32 [num_channels, N] of normalised latents [start, stop).

        Args:
            latents: [1, C, T], from the first that there is.
            start: Of the stretch.
            stop: Of the stretch.
            num_samples: Of the whole, at the rate that the codec encodes.
            is_last: Whether the stretch ends with them.
        """
        codec = self.audio_codec
        ratio = Fraction(codec.output_sample_rate, codec.sample_rate)
        held = int((codec.hop_length * latents.shape[2] - codec.lead) * ratio)
        length = min(held, to_index(num_samples, ratio)) if is_last else held
        latents = self.config.audio_statistics.denormalize(latents)
        span = {"start": start, "stop": stop}
        for waveform in codec.decode_chunks(latents, num_samples=length, **span):
            yield waveform[0].float().clamp(-1, 1).cpu().numpy()
        if is_last and ratio != 1:  # a sample, where two roundings differ
            yield np.zeros((codec.num_channels, 1), np.float32)
