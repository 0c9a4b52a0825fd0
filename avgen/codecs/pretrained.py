"""Pictures <-> latents by a codec that somebody else trained, a folder's or a repository's.

Of diffusers: AutoencoderKLWan (2.1, 2.2) and AutoencoderKLLTX2Video; the class is what the codec's
own config names. Weights are not copied: a model folder holds a reference, name, revision and
SHA-256. Strides, channels and reaches are measured by encoding and decoding a few numbers, since
what some of the configs say of them is wrong.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avgen.codecs.normalize import LatentStatistics
from avgen.errors import UserError

VIDEO = ("AutoencoderKLWan", "AutoencoderKLLTX2Video")
CHUNK = 4  # latent frames that are decoded at a time
LONGEST = 129  # latents of the longest probe; what reaches further is decoded from the first on
PROBED = 17, 64, 64  # frames and pixels whose latents are counted: 1 + 16, and a multiple of 32


@dataclass(frozen=True)
class PretrainedConfig:
    """Which codec.

    Args:
        source: A folder, or a repository of the Hugging Face hub.
        subfolder: Of it, where the codec is one part of several ("vae").
        revision: Of the repository.
        vocoder: Of sound whose codec gives a spectrogram: the subfolder of what makes sound of it.
        sha256: Of the weights; empty takes those that are there, and a codec that is made of it has
            it filled in.
    """

    source: str
    subfolder: str = ""
    revision: str | None = None
    vocoder: str | None = None
    sha256: str = ""


class Reach(NamedTuple):
    """How far a decoder looks: latents before and after the one that is decoded; None is all."""

    before: int | None
    after: int | None


def load(config: PretrainedConfig, subfolder: str, allowed: tuple[str, ...]) -> nn.Module:
    """A part of a codec in float32, in eval mode, of one of the allowed classes.

    Raises:
        UserError: a package is missing or too old, or there is no such codec.
    """
    where = f"{config.source}{'/' * bool(subfolder)}{subfolder}"
    place: dict[str, Any] = {"subfolder": subfolder, "revision": config.revision}
    try:
        import diffusers
        import transformers
        from diffusers.pipelines.ltx2 import vocoder
        from transformers.utils.hub import cached_file
    except ImportError as error:
        raise UserError(f"{where} needs diffusers: pip install 'avgen[pretrained]'") from error
    try:
        path = cached_file(config.source, "config.json", **place)
        with open(str(path), encoding="utf-8") as file:  # noqa: PTH123 - a cache's own path
            values = json.load(file)
        name = values.get("_class_name") or (values.get("architectures") or [None])[0]
        if name not in allowed:
            raise UserError(f"{where}: is a {name}; it must be one of {', '.join(allowed)}")
        homes = (diffusers, vocoder, transformers)
        kind = next((getattr(home, name) for home in homes if hasattr(home, name)), None)
        if kind is None:
            raise UserError(f"{where}: {name} needs a newer diffusers than {diffusers.__version__}")
        own: dict[str, Any] = {"dtype": torch.float32}
        if kind.__module__.startswith("diffusers."):  # without accelerate it warns of the other
            own = {"torch_dtype": torch.float32}
            if not kind._keep_in_fp32_modules:  # which accelerate is needed for
                own["low_cpu_mem_usage"] = False
        model = kind.from_pretrained(config.source, **own, **place)
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{where}: {str(error).strip().splitlines()[0]}") from error
    return model.eval().requires_grad_(False)


def digest(*models: nn.Module) -> str:
    """SHA-256 of the names and bytes of all tensors of some models, and of their classes."""
    sha = hashlib.sha256()
    for model in models:
        sha.update(type(model).__name__.encode())
        for name, tensor in sorted(model.state_dict().items()):
            sha.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            sha.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def checked(config: PretrainedConfig, sha256: str) -> PretrainedConfig:
    """The configuration with the hash of the weights that are there.

    Raises:
        UserError: they are not those that it names.
    """
    if config.sha256 not in ("", sha256):
        raise UserError(
            f"{config.source}: its weights are {sha256[:16]}..., not {config.sha256[:16]}...; they "
            "are of another revision"
        )
    return replace(config, sha256=sha256)


def statistics_of(model: nn.Module) -> LatentStatistics | None:
    """Mean and deviation that a codec comes with; None where it has none, or they are unset."""
    values = []
    for name in ("latents_mean", "latents_std"):
        found = dict(model.named_buffers()).get(name)
        known = getattr(model.config, name, None) if found is None else found.tolist()
        values.append(known)
    if None in values or (set(values[0]) == {0.0} and set(values[1]) == {1.0}):
        return None
    return LatentStatistics(*values)


def measure_reach(decode: Callable[[Tensor], Tensor], latents: Tensor, own: int) -> Reach:
    """How far a decoder looks, by changing one latent of ever longer rows.

    Args:
        decode: Latents [1, C, L, ...] to [1, C', N, ...]; the last latent's end is the last step.
        latents: [1, C, `LONGEST`, ...].
        own: Steps of a latent; the first may have fewer.
    """
    length, reach = 9, Reach(None, None)
    while length <= LONGEST:
        row, middle = latents[:, :, :length], length // 2
        other = row.clone()
        other[:, :, middle] = -row[:, :, middle] - 1
        differs = (decode(row) != decode(other)).transpose(1, 2).flatten(2).any(-1)[0]
        steps = differs.nonzero()[:, 0] - len(differs)  # from the end
        first, last = (length + int(steps[end]) // own for end in (0, -1))
        reach = Reach(
            last - middle if last < length - 1 else reach.before,
            middle - first if first > 0 else reach.after,
        )
        if None not in reach:
            break
        length = 2 * length - 1
    return reach


class PretrainedVideo(nn.Module):
    """Pictures <-> latents as a `VideoCodec`.

    Latents are means, not draws. A row of them is decoded whole or in chunks to the same frames, up
    to rounding: causal codecs in a stream, others in windows that hold all that a frame depends on.
    """

    refers = True
    windows_are_exact = False  # a window's latents are not those of the clip that it is of

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.model: Any = load(config, config.subfolder, VIDEO)
        self.config = checked(config, digest(self.model))
        with torch.inference_mode():
            shape = self._latents(torch.zeros(1, 3, *PROBED)).shape
        frames, height, width = PROBED
        self._stride = (frames - 1) // (shape[2] - 1), height // shape[3], width // shape[4]
        self._channels = shape[1]

    @property
    def stride(self) -> tuple[int, int, int]:
        """Frames, rows and columns of pixels that one latent stands for, as measured."""
        return self._stride

    @property
    def latent_channels(self) -> int:
        """Numbers in one latent."""
        return self._channels

    @property
    def fingerprint(self) -> str:
        """Of the weights: latents of other ones mean something else."""
        return self.config.sha256

    @property
    def statistics(self) -> LatentStatistics | None:
        """That it was published with."""
        return statistics_of(self.model)

    @cached_property
    def reaches(self) -> Reach:
        """Of the decoder, measured when it is first asked for."""
        size = (1, self._channels, LONGEST, 2, 2)
        device = next(self.model.parameters()).device
        latents = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(device)
        with torch.inference_mode():
            return measure_reach(lambda z: self.model.decode(z).sample, latents, self._stride[0])

    @property
    def reach(self) -> int:
        """Latents in time after a latent that may change what it decodes to."""
        return LONGEST if self.reaches.after is None else self.reaches.after

    def _latents(self, video: Tensor) -> Tensor:
        return self.model.encode(video).latent_dist.mode()

    def encode(self, video: Tensor) -> Tensor:
        """Encode [B, 3, T, H, W] of any T, H and W; the last frame, row and column are repeated."""
        time, *sizes = self._stride
        more = [-size % stride for size, stride in zip(video.shape[3:], sizes, strict=True)]
        padding = (0, more[1], 0, more[0], 0, -(video.shape[2] - 1) % time)
        return self._latents(F.pad(video, padding, mode="replicate"))

    def decode(self, latents: Tensor, *, num_frames: int, height: int, width: int) -> Tensor:
        """Decode latents [B, C, T', H', W'] to float [B, 3, num_frames, height, width] in +-1."""
        size: dict[str, Any] = {"num_frames": num_frames, "height": height, "width": width}
        return torch.cat(list(self.decode_chunks(latents, **size)), 2)

    def decode_chunks(
        self,
        latents: Tensor,
        *,
        num_frames: int,
        height: int,
        width: int,
        start: int = 0,
        stop: int | None = None,
        anchor: Tensor | None = None,  # others' decoders go by latents alone
        expressions: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Yield the frames of latents [start, stop), a few at a time.

        Raises:
            UserError: latents of other channels, or of another size than the frames need.
        """
        time, rows, columns = self._stride
        expected = (self._channels, 1 - (-(num_frames - 1) // time), -(-height // rows))
        if latents.shape[1:] != (*expected, -(-width // columns)):
            raise UserError(
                f"latents of shape {tuple(latents.shape)}: {num_frames} frames of {height}x{width} "
                f"have {(*expected, -(-width // columns))}"
            )
        stop = latents.shape[2] if stop is None else stop
        narrow = [max(0, 2 - size) for size in latents.shape[3:]]  # some pad by reflection
        if any(narrow):
            padding = (0, narrow[1], 0, narrow[0], 0, 0)
            latents = F.pad(latents, padding, mode="replicate")
        is_wan = type(self.model).__name__ == "AutoencoderKLWan"
        spans = self._stream if is_wan else self._windows
        shown = 0 if start == 0 else 1 + time * (start - 1)
        for pixels in spans(latents, start, stop):
            kept = pixels[:, :, : max(0, num_frames - shown), :height, :width]
            shown += pixels.shape[2]
            if kept.shape[2]:
                yield kept.clamp(-1, 1)

    def _windows(self, latents: Tensor, start: int, stop: int) -> Iterator[Tensor]:
        """Frames of latents [start, stop), each window with all that its frames depend on."""
        (before, after), total, time = self.reaches, latents.shape[2], self._stride[0]
        for first in range(start, stop, CHUNK):
            last = min(first + CHUNK, stop)
            begin = 0 if before is None else max(0, first - before - 1)
            end = total if after is None else min(total, last + after)
            pixels = self.model.decode(latents[:, :, begin:end]).sample
            skipped = 0 if first == begin else 1 + time * (first - begin - 1)
            yield pixels[:, :, skipped : 1 + time * (last - begin - 1)]

    def _stream(self, latents: Tensor, start: int, stop: int) -> Iterator[Tensor]:
        """Likewise through Wan's own cache of features, latent after latent, none of them twice."""
        before, model = self.reaches.before, self.model
        begin = 0 if before is None else max(0, start - before - 1)
        row = model.post_quant_conv(latents[:, :, begin:stop])
        model.clear_cache()
        for index in range(row.shape[2]):
            model._conv_idx = [0]
            cache = {"feat_cache": model._feat_map, "feat_idx": model._conv_idx}
            one = row[:, :, index : index + 1]
            made = model.decoder(one, first_chunk=index == 0, **cache)
            if begin + index >= start:
                yield made if model.config.patch_size is None else self._unpatched(made)
        model.clear_cache()

    def _unpatched(self, pixels: Tensor) -> Tensor:
        from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

        return unpatchify(pixels, patch_size=self.model.config.patch_size)
