"""A clip in, one vector of features out: what sets of clips are compared by (distributions.py).

Two extractors are avgen's own and named so: statistics of the latents of the codecs that it ships.
The others are networks of other people's that avgen does not ship, as TorchScript files, each with
the input that its name stands for here. A clip is one vector, so that clips, not windows of clips,
are what is counted; where a network gives several vectors for a clip, they are averaged.

The file of i3d is the one that FVD of StyleGAN-V is computed with (Skorokhodov et al. 2022) and is
called as there. No such file is published of the others: export one, with its own normalisation
inside, by `torch.jit.trace` or `torch.jit.script`, and cite what was exported.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from avgen.errors import UserError
from avgen.evaluation.subject import FPS, Subject, Unscored, own_sound

if TYPE_CHECKING:
    from torch import Tensor

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints" / "grid"
SIDE = 128  # pixels, of the square that avgen-video sees of any picture
OWN = {"avgen-video": SHIPPED / "video_codec", "avgen-audio": SHIPPED / "audio_codec"}


@dataclass(frozen=True)
class Scripted:
    """How a TorchScript file is called.

    Attributes:
        kind: what it is given. "video": float32 [1, 3, T, side, side], RGB in [0, 1], at 25 fps.
            "audio": float32 [1, N] in [-1, 1], mono. "both": video, then audio. "i3d": float32
            [1, 3, 16, H, W], RGB in [0, 255], the 16 frames in the middle, at 25 fps, with
            `rescale=True, resize=True, return_features=True`.
        sample_rate: Hz, of its sound.
        side: pixels, of its picture, which is stretched to a square.
    """

    kind: Literal["i3d", "video", "audio", "both"]
    sample_rate: int = 16_000
    side: int = 224


SCRIPTED = {
    "i3d": Scripted("i3d"),
    "vggish": Scripted("audio"),
    "clap": Scripted("audio", sample_rate=48_000),
    "imagebind": Scripted("video"),
    "synchformer": Scripted("both"),
}
I3D_FRAMES = 16


def protocol(name: str) -> str:
    """Id with version of the distance of sets by an extractor."""
    return f"fd@{name}/1"


def features(name: str, subject: Subject, weights: dict[str, Path]) -> np.ndarray:
    """A clip's features by an extractor: float64 [D].

    Args:
        name: of OWN or SCRIPTED.
        subject: the clip.
        weights: paths by name; that of a scripted one is needed.

    Raises:
        Unscored: it has no sound where sound is heard, or too few frames.
        UserError: a network that does not take its input or gives no numbers.
    """
    if name == "avgen-video":
        found = video_features(subject)
    elif name == "avgen-audio":
        found = audio_features(subject)
    else:
        found = scripted_features(SCRIPTED[name], subject, weights[name])
    if not np.isfinite(found).all():
        raise UserError(f"{name}: features that are not finite")
    return found


def video_features(subject: Subject) -> np.ndarray:
    """What the latents of the shipped picture codec are like: [3 C].

    Of each channel its mean, its spread over time and place, and its spread over time at a place
    (how much moves). Every picture is stretched to SIDE x SIDE first, at 25 fps.
    """
    import torch

    from avgen.clips.transforms import resize

    frames = torch.from_numpy(np.ascontiguousarray(resize(subject.clip.frames, SIDE, SIDE)))
    video = frames.movedim(-1, 0)[None].float() / 127.5 - 1
    with torch.inference_mode():
        latents = _codec("avgen-video").encode(video)[0]
    moving = latents.double().std(1, correction=0).mean((1, 2)).numpy()
    return np.concatenate([_moments(latents.flatten(1)), moving])


def audio_features(subject: Subject) -> np.ndarray:
    """Mean and spread over time of each channel of the shipped sound codec's latents: [2 C]."""
    import torch

    codec = _codec("avgen-audio")
    sound = torch.from_numpy(_sound(subject, codec.sample_rate))
    with torch.inference_mode():
        latents = codec.encode(sound[None])
    return _moments(latents[0])


def scripted_features(scripted: Scripted, subject: Subject, path: Path) -> np.ndarray:
    """A clip's features by a TorchScript file, averaged where it gives several: [D]."""
    import torch

    given: list[Tensor] = []
    how: dict[str, bool] = {}
    if scripted.kind == "i3d":
        given = [_i3d_frames(subject)]
        how = {"rescale": True, "resize": True, "return_features": True}
    if scripted.kind in ("video", "both"):
        given.append(_square(subject, scripted.side))
    if scripted.kind in ("audio", "both"):
        given.append(torch.from_numpy(_sound(subject, scripted.sample_rate)))
    with torch.inference_mode():
        try:
            found = load_scripted(path)(*given, **how)
        except (RuntimeError, TypeError) as error:  # what a script raises, with its whole stack
            shapes = " and ".join(str(list(tensor.shape)) for tensor in given)
            line = str(error).strip().splitlines()[-1]
            raise UserError(f"{path}: does not take {shapes}: {line}") from error
    if not isinstance(found, torch.Tensor) or found.ndim < 1 or not found.numel():
        raise UserError(f"{path}: gives {type(found).__name__}; it must give a tensor [..., D]")
    return found.double().reshape(-1, found.shape[-1]).mean(0).numpy()


@cache
def load_scripted(path: Path) -> Any:
    """The network of a TorchScript file, on the CPU.

    Raises:
        UserError: it is none.
    """
    import torch

    try:
        with warnings.catch_warnings():  # that torch would rather have another format
            warnings.simplefilter("ignore", FutureWarning)
            return torch.jit.load(path, map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        line = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: not a TorchScript file ({line})") from error


@cache
def _codec(name: str) -> Any:
    from avgen.codecs.base import load_module

    return load_module(OWN[name])


def _moments(latents: Tensor) -> np.ndarray:
    """Mean and standard deviation of latents [C, N] over N: [2 C]."""
    values = latents.double().numpy()
    return np.concatenate([values.mean(1), values.std(1)])


def _sound(subject: Subject, sample_rate: int) -> np.ndarray:
    """The clip's sound beside its picture: float32 [1, N]."""
    return own_sound(subject, sample_rate)


def _square(subject: Subject, side: int) -> Tensor:
    """The clip's picture as a script is given it: float32 [1, 3, T, side, side] in [0, 1]."""
    import torch

    from avgen.clips.transforms import resize

    frames = np.ascontiguousarray(resize(subject.clip.frames, side, side))
    return torch.from_numpy(frames).movedim(-1, 0)[None].float() / 255


def _i3d_frames(subject: Subject) -> Tensor:
    import torch

    frames = subject.clip.frames
    if len(frames) < I3D_FRAMES:
        raise Unscored(f"{len(frames)} frames at {FPS} fps; I3D is shown {I3D_FRAMES}")
    start = (len(frames) - I3D_FRAMES) // 2
    stretch = np.ascontiguousarray(frames[start : start + I3D_FRAMES])
    return torch.from_numpy(stretch).movedim(-1, 0)[None].float()
