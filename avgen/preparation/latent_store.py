"""Cached latents on disk: what they are of, what they were made with, and their statistics.

    latents/ID.safetensors   raw latents of a clip, its shape in the header
    latents/shapes.json      the shapes of all clips
    latents/config.json      what they were made with
    latents/statistics.json  of the training split

Clips may differ in size, rate and length. A clip without sound has no audio latents, which is not
what silence has: that is latents like any other. A voice alone has no video latents.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from avgen.clips.files import atomic
from avgen.clips.timebase import num_samples
from avgen.codecs.normalize import LatentStatistics
from avgen.corpora.manifest import ClipRecord
from avgen.errors import UserError
from avgen.latents.geometry import AudioGrid, VideoGrid

SHAPE = "shape"  # where a file of latents says what clip they are of


@dataclass(frozen=True)
class ClipShape:
    """How large, long and fast a clip is, and whether it has sound.

    Attributes:
        num_frames: Frames.
        height: Rows of pixels.
        width: Columns of pixels.
        fps: Frames per second.
        has_sound: Whether there is any; silence is sound.
        has_picture: Whether there is one; a voice alone has the frames that it would have.
    """

    num_frames: int
    height: int
    width: int
    fps: Fraction
    has_sound: bool
    has_picture: bool = True


@dataclass(frozen=True)
class LatentConfig:
    """What cached latents were made with.

    Written beside them, and into the model that is trained on them.

    Attributes:
        height: Rows of pixels of clips whose latents do not say their own.
        width: Columns of pixels, likewise.
        fps: Frames per second, as a fraction's text, likewise.
        video_stride: Of the video codec.
        video_channels: Of the video codec.
        video_patch: Latents each way in a video token.
        sample_rate: Of the audio codec, in Hz.
        hop_length: Of the audio codec.
        audio_channels: Latent channels of the audio codec.
        audio_patch: Latents in an audio token.
        fingerprint: Of both codecs' encoders; latents of another encoder mean something else.
        audio_lead: Samples that the audio codec's first latent is short of a hop.
        captions: The text encoder whose features of captions are cached, and its layers; or "".
        windows_are_exact: Whether stretches are latents of a clip that begin with a still.
    """

    height: int
    width: int
    fps: str
    video_stride: tuple[int, int, int]
    video_channels: int
    video_patch: int
    sample_rate: int
    hop_length: int
    audio_channels: int
    audio_patch: int
    fingerprint: str
    audio_lead: int = 0
    captions: str = ""
    windows_are_exact: bool = True

    def grids(self, num_frames: int) -> tuple[VideoGrid, AudioGrid]:
        """The grids of a clip of `num_frames` frames and of the sound that covers them."""
        return self.clip_grids(
            ClipShape(num_frames, self.height, self.width, Fraction(self.fps), True)
        )

    def clip_grids(self, shape: ClipShape) -> tuple[VideoGrid, AudioGrid]:
        """The grids of a clip of any shape, and of the sound that it has or would have."""
        samples = num_samples(shape.num_frames, shape.fps, self.sample_rate)
        stride = tuple(self.video_stride)
        return (
            VideoGrid(
                shape.num_frames,
                shape.height,
                shape.width,
                shape.fps,
                stride,  # pyright: ignore[reportArgumentType]
                self.video_channels,
                self.video_patch,
            ),
            AudioGrid(
                samples,
                self.sample_rate,
                self.hop_length,
                self.audio_channels,
                self.audio_patch,
                lead=self.audio_lead,
            ),
        )

    def fits(self, other: LatentConfig) -> bool:
        """Whether clips of both can be trained on together: their codecs and patches are the same.

        Sizes and rates may differ, and one may have no pictures.
        """
        like = {"height": self.height, "width": self.width, "captions": self.captions}
        own = replace(other, fps=self.fps, **like)
        codecs = zip(self.fingerprint.split("."), other.fingerprint.split("."), strict=False)
        alike = all(one == another or not (one and another) for one, another in codecs)
        return alike and replace(own, fingerprint=self.fingerprint) == self

    def num_tokens(self, shape: ClipShape) -> int:
        """Tokens of a clip of any shape."""
        video, audio = self.clip_grids(shape)
        return shape.has_picture * video.num_tokens + shape.has_sound * audio.num_tokens


def read_latent_config(folder: Path) -> LatentConfig:
    """Read `latents/config.json` of a prepared folder."""
    path = folder / "latents" / "config.json"
    if not path.is_file():
        raise UserError(f"{path}: not found; encode the folder first")
    values = json.loads(path.read_text())
    return LatentConfig(**values | {"video_stride": tuple(values["video_stride"])})


def save_latents(path: Path, latents: Mapping[str, Tensor], shape: ClipShape) -> None:
    """Write a clip's latents with its shape.

    Args:
        path: The file.
        latents: "video" and "still" [C, T, H, W] where the clip has a picture; "audio" [C, T']
            where it has sound; "caption" [P, F], which is stored in bfloat16.
        shape: Of the clip.
    """
    assert shape.has_sound == ("audio" in latents)
    assert shape.has_picture == ("video" in latents)
    tensors = {
        name: value.bfloat16() if name == "caption" else value.float().contiguous()
        for name, value in latents.items()
    }
    facts = {name: str(getattr(shape, name)) for name in ("num_frames", "height", "width", "fps")}
    with atomic(path) as temporary:  # one key of metadata: never reordered
        save_file(tensors, temporary, metadata={SHAPE: json.dumps(facts)})


def read_shape(path: Path, config: LatentConfig) -> ClipShape:
    """The shape of a clip whose latents are in `path`; no tensor is read.

    Raises:
        UserError: it is not a whole safetensors file, or holds no latents of a clip.
    """
    try:
        with safe_open(path, "pt") as file:
            facts, names = file.metadata() or {}, file.keys()
            if SHAPE in facts:  # before 2026-11-23 they were keys of their own
                facts = json.loads(facts[SHAPE])
            if "num_frames" not in facts:
                latents = file.get_slice("video").get_shape()[1]
                facts = {"num_frames": 1 + config.video_stride[0] * (latents - 1)} | facts
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: is not a clip's latents ({error})") from error
    return ClipShape(
        int(facts["num_frames"]),
        int(facts.get("height", config.height)),
        int(facts.get("width", config.width)),
        Fraction(facts.get("fps", config.fps)),
        has_sound="audio" in names,
        has_picture="video" in names,
    )


def facts_of_shape(shape: ClipShape) -> dict[str, Any]:
    """A shape as JSON has it."""
    return vars(shape) | {"fps": str(shape.fps)}


def write_shapes(folder: Path, records: Iterable[ClipRecord], config: LatentConfig) -> None:
    """Write `latents/shapes.json`: clip -> its shape, so that training opens no file to know it."""
    out = folder / "latents"
    shapes = {}
    for record in records:
        shape = read_shape(out / f"{record.id}.safetensors", config)
        shapes[record.id] = list(facts_of_shape(shape).values())
    with atomic(out / "shapes.json") as temporary:
        temporary.write_text(json.dumps(shapes))


def read_shapes(
    folder: Path, records: Sequence[ClipRecord], config: LatentConfig
) -> list[ClipShape]:
    """The shapes of clips: of `latents/shapes.json`, or of the files that it does not have."""
    path = folder / "latents" / "shapes.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    made: dict[tuple, ClipShape] = {}
    shapes = []
    for record in records:
        if record.id not in known:
            file = folder / "latents" / f"{record.id}.safetensors"
            shapes.append(read_shape(file, config))
            continue
        facts = tuple(known[record.id])
        if facts not in made:
            frames, height, width, fps, *has = facts
            made[facts] = ClipShape(frames, height, width, Fraction(fps), *has)
        shapes.append(made[facts])
    return shapes


def write_statistics(
    out: Path,
    records: Iterable[ClipRecord],
    config: LatentConfig,
    own: Mapping[str, LatentStatistics] | None = None,
) -> None:
    """Fit and write `statistics.json` over the cached latents of some records.

    Of what none of them has, they are those of numbers that are normal already. `own` are those
    that a codec came with, which are taken instead.
    """
    paths = [out / f"{record.id}.safetensors" for record in records]
    statistics = {}
    for name, channels in (("video", config.video_channels), ("audio", config.audio_channels)):
        if own and name in own:
            statistics[name] = asdict(own[name])
            continue
        latents = latents_named(name, paths)
        first = next(latents, None)
        fitted = LatentStatistics((0.0,) * channels, (1.0,) * channels)
        if first is not None:
            fitted = LatentStatistics.fit(chain([first], latents))
        statistics[name] = asdict(fitted)
    with atomic(out / "statistics.json") as temporary:
        temporary.write_text(json.dumps(statistics))


def load_statistics(folder: Path) -> tuple[LatentStatistics, LatentStatistics]:
    """Statistics of the training split's video and audio latents."""
    statistics = json.loads((folder / "latents" / "statistics.json").read_text())
    return LatentStatistics(**statistics["video"]), LatentStatistics(**statistics["audio"])


def statistics_beside(weights: Path) -> dict[str, LatentStatistics]:
    """The statistics that a network was trained with, where they stand beside its weights."""
    path = weights.parent / "statistics.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    return {name: LatentStatistics(**values) for name, values in known.items()}


def latents_named(name: str, paths: Iterable[Path]) -> Iterator[Tensor]:
    """The latents "video" or "audio" of those files that have them."""
    for path in paths:
        latents = load_file(path)
        if name in latents:
            yield latents[name]


def begin_latents(folder: Path, config: LatentConfig, *, overwrite: bool = False) -> None:
    """Make `latents/` ready for clips of this configuration.

    Raises:
        UserError: it has latents of another one, and `overwrite`, which removes them, is not set.
    """
    out = folder / "latents"
    out.mkdir(parents=True, exist_ok=True)
    if (out / "config.json").is_file():
        before, there = read_latent_config(folder), list(out.glob("*.safetensors"))
        same = before.captions == config.captions and before.fingerprint == config.fingerprint
        if there and not (before.fits(config) and same):
            if not overwrite:
                raise UserError(
                    f"{out}: has {len(there)} clips' latents of other codecs or patches; "
                    "prepare another folder, or ask for them to be replaced"
                )
            for stale in (*there, *out.glob("shapes.json"), *out.glob("statistics.json")):
                stale.unlink()
    with atomic(out / "config.json") as temporary:
        temporary.write_text(json.dumps(asdict(config), indent=2))


def finish_latents(
    folder: Path,
    records: Sequence[ClipRecord],
    config: LatentConfig,
    own: Mapping[str, LatentStatistics] | None = None,
) -> None:
    """Write the shapes of all clips, and the statistics of the training split or of the codecs."""
    write_shapes(folder, records, config)
    train = [record for record in records if record.split == "train"]
    write_statistics(folder / "latents", train, config, own)


def encoder_fingerprint(video: nn.Module | None, audio: nn.Module) -> str:
    """Of both codecs, what decides their latents: a SHA-256 each. Without a picture it is empty.

    A codec may have a `fingerprint` of its own. Of another all tensors count, as bfloat16, in which
    they ship, but those of its `decoder` and `mover`, which may be trained on without changing a
    latent.
    """
    return ".".join("" if codec is None else _digest(codec) for codec in (video, audio))


def _digest(codec: nn.Module) -> str:
    digest = hashlib.sha256(b"video, still, audio")  # what is cached of a clip
    own = getattr(codec, "fingerprint", None)
    if own is not None:
        digest.update(own.encode())
        return digest.hexdigest()[:16]
    for name, tensor in sorted(codec.state_dict().items()):
        if not name.startswith(("decoder.", "mover.")):
            digest.update(name.encode())
            digest.update(tensor.bfloat16().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
