"""What a codec promises.

And how any module of ours becomes a folder (`config.json` + `model.safetensors`) and back.

Both latents are continuous. Rates, strides and channels are properties of the object, so that
nothing downstream ever types in 4, 16, 320 or 24000.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable, Collection, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Protocol, get_type_hints, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from avgen.clips.files import atomic, read_json
from avgen.errors import UserError


@runtime_checkable
class VideoCodec(Protocol):
    """Pictures to a latent grid and back.

    Latent 0 covers frame 0 alone; latent i > 0 covers frames `stride[0] * (i - 1) + 1` to
    `stride[0] * i` (the "causal first frame" of video autoencoders), so one picture is one latent
    frame.
    """

    @property
    def stride(self) -> tuple[int, int, int]:
        """Frames, rows and columns of pixels that one latent stands for."""
        ...

    @property
    def latent_channels(self) -> int:
        """Numbers in one latent."""
        ...

    @property
    def reach(self) -> int:
        """Latents in time on each side of a latent that may change what it decodes to."""
        ...

    @property
    def windows_are_exact(self) -> bool:
        """Whether a still and the latents after it are those of the window that it begins."""
        ...

    def encode(self, video: Tensor) -> Tensor:
        """Encode float [B, 3, T, H, W] in [-1, 1] as latents [B, C, T', H', W']."""
        ...

    def decode(self, latents: Tensor, *, num_frames: int, height: int, width: int) -> Tensor:
        """Decode latents [B, C, T', H', W'] to float [B, 3, num_frames, height, width] in +-1."""
        ...

    def decode_chunks(
        self,
        latents: Tensor,
        *,
        num_frames: int,
        height: int,
        width: int,
        start: int = 0,
        stop: int | None = None,
        anchor: Tensor | None = None,
        expressions: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Yield what `decode` returns for latents [start, stop), a few frames at a time.

        In bounded memory; of what lies outside, no more than `reach` latents are looked at, and the
        first by a decoder that carries on the first picture: `anchor` [B, 3, height, width] in
        [-1, 1] is that picture, where it is known. `expressions` [B, T', stride[0], K] are numbers
        of every frame's face, for a decoder that goes by them.
        """
        ...


@runtime_checkable
class AudioCodec(Protocol):
    """Sound to a latent sequence and back.

    Latent i covers samples [i * hop_length - lead, (i + 1) * hop_length - lead) of what is encoded.
    """

    @property
    def sample_rate(self) -> int:
        """Samples per second of what is encoded, by which hop_length and lead are told."""
        ...

    @property
    def output_sample_rate(self) -> int:
        """Samples per second of what is decoded."""
        ...

    @property
    def lead(self) -> int:
        """Samples that latent 0 is short of a hop; 0 where it is one like the others."""
        ...

    @property
    def num_channels(self) -> int:
        """Channels of the waveform: 1 or 2."""
        ...

    @property
    def hop_length(self) -> int:
        """Samples per latent."""
        ...

    @property
    def latent_channels(self) -> int:
        """Numbers in one latent."""
        ...

    @property
    def latent_rate(self) -> Fraction:
        """Latents per second: sample_rate / hop_length."""
        ...

    @property
    def reach(self) -> int:
        """Latents after a latent that may change what it decodes to."""
        ...

    def encode(self, waveform: Tensor) -> Tensor:
        """Encode float [B, num_channels, N] in [-1, 1] as latents [B, C, T].

        T is ceil((N + lead) / hop_length).
        """
        ...

    def decode(self, latents: Tensor, *, num_samples: int) -> Tensor:
        """Decode latents [B, C, T'] to float [B, num_channels, num_samples] of the output."""
        ...

    def decode_chunks(
        self, latents: Tensor, *, num_samples: int, start: int = 0, stop: int | None = None
    ) -> Iterator[Tensor]:
        """Yield what `decode` returns for latents [start, stop), in bounded memory."""
        ...


class EvenLatents:
    """A codec of sound whose latents are all of one length, and whose two rates are one."""

    sample_rate: int
    hop_length: int
    lead = 0

    @property
    def output_sample_rate(self) -> int:
        """Of what is decoded, in Hz."""
        return self.sample_rate

    @property
    def latent_rate(self) -> Fraction:
        """Latents per second."""
        return Fraction(self.sample_rate, self.hop_length)


def save_module(module: nn.Module, folder: str | Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write `module` (with its frozen `config` dataclass) as `config.json` and `model.safetensors`.

    Floating-point tensors are stored as `dtype`; each file is written beside its place and renamed.
    Of a module that `refers` to weights elsewhere the configuration is all.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kind = type(module)
    config = {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        **dataclasses.asdict(module.config),  # pyright: ignore[reportArgumentType]
    }
    if not getattr(module, "refers", False):
        _save_tensors(module, folder / "model.safetensors", dtype)
    with atomic(folder / "config.json") as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n")


def _save_tensors(module: nn.Module, path: Path, dtype: torch.dtype) -> None:
    state = {
        name: (t.to(dtype) if t.is_floating_point() else t).contiguous().cpu()
        for name, t in module.state_dict().items()
    }
    with atomic(path) as temporary:
        save_file(state, temporary)


def load_module(folder: str | Path) -> nn.Module:
    """Read a module that `save_module` wrote, in float32, on the CPU, in eval mode.

    Raises:
        UserError: a file is missing or unreadable, the class is not avgen's, a field is unknown,
        or the
            tensors on disk are not exactly those that the configuration calls for.
    """
    folder = Path(folder)
    config = read_json(folder / "config.json")
    path = config.pop("class", None)
    if not isinstance(path, str) or not path.startswith("avgen."):
        raise UserError(
            f"{folder / 'config.json'}: class {path!r}; it must be an import path inside avgen"
        )
    module_name, _, class_name = path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module_name), class_name)
        module = kind(get_type_hints(kind.__init__)["config"](**config))
    except (ImportError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / 'config.json'}: does not describe a {path}: {error}") from error
    if not getattr(module, "refers", False):
        load_tensors(module, folder / "model.safetensors")
    return module.eval()


def load_tensors(
    module: nn.Module,
    path: Path,
    optional: Collection[str] = (),
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda state: state,
) -> None:
    """Fill `module` from a safetensors file, which must hold exactly its tensors.

    Args:
        module: What to fill.
        path: The file.
        optional: Submodules that stay as they are where the file has no tensor of theirs.
        change: What becomes of the file's tensors first.

    Raises:
        UserError: unreadable file; missing, extra or wrongly shaped tensors (all named).
    """
    if not path.is_file():
        raise UserError(f"{path}: not found; a model folder needs it")
    try:
        state = change(load_file(path))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: is not a readable safetensors file ({error})") from error
    own = module.state_dict()
    for part in optional:
        if not any(name.startswith(f"{part}.") for name in state):
            state |= {name: own[name] for name in own if name.startswith(f"{part}.")}
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = sorted(n for n in own.keys() & state.keys() if own[n].shape != state[n].shape)
    if missing or extra or shapes:
        parts = [("missing", missing), ("extra", extra), ("of another shape", shapes)]
        found = "; ".join(
            f"{what}: {', '.join(names[:5])}{' ...' * (len(names) > 5)}"
            for what, names in parts
            if names
        )
        raise UserError(f"{path}: tensors do not match the configuration ({found})")
    module.load_state_dict({name: t.to(own[name].dtype) for name, t in state.items()})
