"""A clip -> one vector of features, by which sets of clips are compared (distributions.py).

Two extractors are avgen's own: statistics of the latents of the codecs that it ships. The others
are networks that avgen does not ship, as TorchScript files, each with the input that its name
stands for here. A clip is one vector, so that clips are counted and not windows of clips; if a
network returns several vectors for a clip, they are averaged. Features are kept in the rows.

The file of i3d is the one that FVD of StyleGAN-V is computed with (Skorokhodov et al. 2022) and is
called as there. No such file is published of the others: export one, with its own normalisation
inside, by `torch.jit.trace` or `torch.jit.script`, and cite what was exported.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from avgen.clips.transforms import resize
from avgen.codecs.base import load_module
from avgen.errors import UserError
from avgen.evaluation.comparison.distributions import compare_sets
from avgen.evaluation.measure import Measure, Rows, Values
from avgen.evaluation.rows import results_of
from avgen.evaluation.subject import FPS, Network, Subject, Unscored, own_sound

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints" / "people"
SIDE = 128  # pixels, of the square that avgen-video sees of any picture
DIGITS = 7  # of a feature in a row
PREFIX = "fd@"


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


def video_features(subject: Subject) -> np.ndarray:
    """Statistics of the shipped picture codec's latents: [3 C].

    Of each channel its mean, its spread over time and place, and its spread over time at a place
    (how much moves). Every picture is stretched to SIDE x SIDE first, at 25 fps.
    """
    frames = torch.from_numpy(np.ascontiguousarray(resize(subject.clip.frames, SIDE, SIDE)))
    video = frames.movedim(-1, 0)[None].float() / 127.5 - 1
    with torch.inference_mode():
        latents = subject.network(VIDEO).encode(video)[0]
    moving = latents.double().std(1, correction=0).mean((1, 2)).numpy()
    return np.concatenate([_moments(latents.flatten(1)), moving])


def audio_features(subject: Subject) -> np.ndarray:
    """Mean and spread over time of each channel of the shipped sound codec's latents: [2 C]."""
    codec = subject.network(AUDIO)
    sound = torch.from_numpy(own_sound(subject, codec.sample_rate))
    with torch.inference_mode():
        latents = codec.encode(sound[None])
    return _moments(latents[0])


def scripted_features(scripted: Scripted, subject: Subject, path: Path) -> np.ndarray:
    """A clip's features by a TorchScript file, averaged where it gives several: [D]."""
    given: list[Tensor] = []
    how: dict[str, bool] = {}
    if scripted.kind == "i3d":
        given = [_i3d_frames(subject)]
        how = {"rescale": True, "resize": True, "return_features": True}
    if scripted.kind in ("video", "both"):
        given.append(_square(subject, scripted.side))
    if scripted.kind in ("audio", "both"):
        given.append(torch.from_numpy(own_sound(subject, scripted.sample_rate)))
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
    try:
        with warnings.catch_warnings():  # that torch would rather have another format
            warnings.simplefilter("ignore", FutureWarning)
            return torch.jit.load(path, map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        line = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: not a TorchScript file ({line})") from error


def _moments(latents: Tensor) -> np.ndarray:
    """Mean and standard deviation of latents [C, N] over N: [2 C]."""
    values = latents.double().numpy()
    return np.concatenate([values.mean(1), values.std(1)])


def _square(subject: Subject, side: int) -> Tensor:
    """The clip's picture as a script is given it: float32 [1, 3, T, side, side] in [0, 1]."""
    frames = np.ascontiguousarray(resize(subject.clip.frames, side, side))
    return torch.from_numpy(frames).movedim(-1, 0)[None].float() / 255


def _i3d_frames(subject: Subject) -> Tensor:
    frames = subject.clip.frames
    if len(frames) < I3D_FRAMES:
        raise Unscored(f"{len(frames)} frames at {FPS} fps; I3D is shown {I3D_FRAMES}")
    start = (len(frames) - I3D_FRAMES) // 2
    stretch = np.ascontiguousarray(frames[start : start + I3D_FRAMES])
    return torch.from_numpy(stretch).movedim(-1, 0)[None].float()


# In a report


def features_of(rows: Rows, metric: str, group: str) -> dict[str, list[float]]:
    """The features of "clips" or of "reference" by clip id, of scored clips."""
    found = results_of(rows, metric, group)
    return {name: values["features"] for name, values in found.items() if values.get("features")}


def distance_of_rows(rows: Rows, metric: str, seed: int) -> dict[str, Any]:
    """`distributions.SetDistance`'s fields of the clips and the references, or `reason`."""
    sets = [list(features_of(rows, metric, group).values()) for group in ("reference", "clips")]
    if not all(sets):
        return {"reason": "no features of one of the two sets"}
    try:
        real, made = (np.array(one, np.float64) for one in sets)
        return asdict(compare_sets(real, made, seed))
    except (Unscored, ValueError) as reason:
        return {"reason": str(reason)}


def distances_of_two(first: Rows, second: Rows, metric: str) -> dict[str, Any] | None:
    """The distances of two reports' clips from one and the same set of references.

    Returns:
        `first` and `second`, each as `distance_of_rows` has it, or `reason`; None if neither report
        has features.
    """
    real = [features_of(rows, metric, "reference") for rows in (first, second)]
    if not any(real):
        return None
    if real[0] != real[1]:
        return {"reason": "measured against unlike references: their distances do not compare"}
    return {
        name: distance_of_rows(rows, metric, 0)
        for name, rows in (("first", first), ("second", second))
    }


def _measure(network: Network, features: Callable[[Subject], np.ndarray]) -> Measure:
    name = f"{PREFIX}{network.name}"

    def extract(subject: Subject) -> Values:
        found = features(subject)
        if not np.isfinite(found).all():
            raise UserError(f"{network.name}: features that are NaN or infinite")
        rounded = [float(f"{value:.{DIGITS}g}") for value in found]
        return {"num_features": len(rounded), "features": rounded}

    return Measure(
        name,
        f"{name}/1",
        {},
        extract,
        needs=("real clips",),
        networks=(network,),
        combine=lambda rows, seed: {"sets": distance_of_rows(rows, name, seed)},
    )


def _scripted_measure(name: str, scripted: Scripted) -> Measure:
    network = Network(name, f"a TorchScript file that fd@{name} takes features from", load_scripted)
    return _measure(network, lambda s: scripted_features(scripted, s, s.weights[name]))


VIDEO = Network(
    "avgen-video", "a folder of a picture codec", cache(load_module), SHIPPED / "video_codec"
)
AUDIO = Network(
    "avgen-audio", "a folder of a sound codec", cache(load_module), SHIPPED / "audio_codec"
)
MEASURES = (
    _measure(VIDEO, video_features),
    _measure(AUDIO, audio_features),
    *(_scripted_measure(name, scripted) for name, scripted in SCRIPTED.items()),
)
