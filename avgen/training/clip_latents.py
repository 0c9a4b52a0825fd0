"""The clips of a prepared folder, and of each as much of its latents as is trained on.

A clip made in windows goes on from the end of the window before, in the middle of a word. A network
that has only seen sentences from their beginning does not know such windows, so some steps train on
stretches that start at any latent frame. The first latent of a stretch stands for one frame alone;
`still` in the file holds what the encoder makes of every such frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import Dataset

from avgen.clips.timebase import to_index, to_seconds
from avgen.corpora.manifest import ClipRecord
from avgen.errors import UserError
from avgen.preparation.latent_store import ClipShape, LatentConfig, read_latent_config, read_shapes
from avgen.preparation.shards import INDEX, Shards, Slices
from avgen.preparation.store import Prepared
from avgen.training.batches import Batching
from avgen.training.draws import hash_seed


@dataclass(frozen=True)
class Stretches:
    """Training on parts of clips.

    Args:
        share: Of the steps that are such stretches, 0 to 1.
        num_frames: Frames of a stretch; a clip that has no more is trained on as it is.
        first_stills: Whether steps of single frames are of a clip's first, a face at rest before it
            speaks, and not of any.
    """

    share: float = 0.0
    num_frames: int = 1
    first_stills: bool = False

    def __post_init__(self) -> None:
        """Check that there is something in a stretch."""
        if self.num_frames < 1 or not 0 <= self.share <= 1:
            raise UserError(
                f"stretches of {self.num_frames} frames in a share of {self.share} of the steps; "
                "they have at least 1, and the share is 0 to 1"
            )


@dataclass(frozen=True)
class References:
    """Another clip of who is heard or seen, to be like (see `avgen.latents.reference`).

    Args:
        share: Of the draws that have its voice, and, drawn apart, of those that have its face.
        seconds: Of the voice.
    """

    share: float = 0.0
    seconds: float = 2.0


Kind = Literal["clip", "sound", "still"]  # what is drawn of a clip: all, its sound, one frame
WHOLE, ALONE = Stretches(), References()


@dataclass(frozen=True)
class ClipLatents:
    """What is trained on of one clip.

    Attributes:
        record: Of the clip.
        draw: Its number, which seeds all that is random about it.
        start_s: The second of the clip at which this starts.
        shape: Of what is here.
        video: Raw latents [C, T, H, W], or None where the clip has no picture.
        audio: Raw latents [C, T'], or None where the clip has no sound.
        expressions: float32 [F, K], numbers of every frame's face, or None where none are known.
        face: Raw latents [C, 1, H, W] of a picture of the same person, or None.
        voice: Raw latents [C, T'] of another utterance of the same person, or None.
        caption: [p, F], what a text encoder made of the caption; None where it was not cached.
    """

    record: ClipRecord
    draw: int
    start_s: float
    shape: ClipShape
    video: Tensor | None
    audio: Tensor | None
    expressions: Tensor | None = None
    face: Tensor | None = None
    voice: Tensor | None = None
    caption: Tensor | None = None


class ClipDraw(NamedTuple):
    """Which clip is drawn, and how.

    Attributes:
        clip: Its place among the clips.
        draw: The number of the draw.
        stretch: Whether it is a part of the clip that is drawn.
        kind: What is drawn of it: all of it, its sound alone, or one frame without sound.
    """

    clip: int
    draw: int
    stretch: bool = False
    kind: Kind = "clip"


class LatentFiles:
    """The clips of one split as files of their own; as `Shards` has them in tars.

    Args:
        prepared: The folder and split.
        config: What its latents were made with.

    Attributes:
        shapes: Of the clips.
        speakers: Corpus and name, likewise.
    """

    tars = None

    def __init__(self, prepared: Prepared, config: LatentConfig) -> None:
        self.folder, self.records = prepared.folder, prepared.records()
        self.shapes = read_shapes(prepared.folder, self.records, config)
        self.speakers = [f"{record.corpus}/{record.speaker}" for record in self.records]

    def read(self, clip: int) -> tuple[ClipRecord, Path]:
        """Record of a clip, and where its latents are."""
        record = self.records[clip]
        return record, self.folder / "latents" / f"{record.id}.safetensors"


class Clips(Dataset[dict[str, Any]]):
    """The clips of one split that can be trained on; batches of them by their draws.

    Args:
        prepared: The folder and split.
        batching: How clips are cut.
        stretches: What parts of clips are trained on besides.
        references: How often a clip has another one of the same person to be like.
        seed: Of where stretches start, and of references.

    Attributes:
        source: What they are read of.
        kept: Its clips that are trained on; what follows is of them.
        wholes: The shapes of the clips.
        shapes: What is trained on of each: its beginning.

    Raises:
        UserError: no clip is long enough.
    """

    def __init__(
        self,
        prepared: Prepared,
        batching: Batching,
        stretches: Stretches = WHOLE,
        references: References = ALONE,
        seed: int = 0,
    ) -> None:
        self.config = read_latent_config(prepared.folder)
        self.folder, self.seed = prepared.folder, seed
        self.stretches, self.references = stretches, references
        if stretches.share and not self.config.windows_are_exact:
            raise UserError(
                f"{prepared.folder}: stretches of its clips are other latents, by the picture's "
                "codec; set stretches.share to 0"
            )
        is_sharded = (prepared.folder / "latents" / INDEX).is_file()
        self.source = (
            Shards(prepared.folder, prepared.split)
            if is_sharded
            else LatentFiles(prepared, self.config)
        )
        wholes = self.source.shapes
        stride = self.config.video_stride[0]
        cuts = {shape: batching.cut(shape, stride) for shape in set(wholes)}
        kept = self.kept = [i for i, whole in enumerate(wholes) if cuts[whole] is not None]
        if not kept:
            raise UserError(f"{prepared.folder}: no {prepared.split} clip is long enough")
        self.wholes = [wholes[i] for i in kept]
        self.shapes = [shape for i in kept if (shape := cuts[wholes[i]]) is not None]
        self.tars = None if (tars := self.source.tars) is None else [tars[i] for i in kept]
        self.speakers = [self.source.speakers[i] for i in kept]
        self.by_speaker: dict[str, list[int]] = {}
        for clip, speaker in enumerate(self.speakers):
            self.by_speaker.setdefault(speaker, []).append(clip)
        longest = max(whole.num_frames for whole in self.wholes)
        if stretches.share and stretches.num_frames > longest and prepared.split == "train":
            raise UserError(
                f"stretches of {stretches.num_frames} frames; clips have {longest} at most"
            )

    def __getitem__(self, draws: Sequence[ClipDraw]) -> dict[str, Any]:
        """The batch of some draws."""
        clips = [self.clip(draw) for draw in draws]
        return {
            "clips": clips,
            "records": [clip.record for clip in clips],
            "draws": [clip.draw for clip in clips],
        }

    def clip(self, drawn: ClipDraw) -> ClipLatents:
        """A clip from its beginning, or a part of it from where the draw says."""
        index, start = drawn.clip, 0
        record, file = self.source.read(self.kept[index])
        whole, shape = self.wholes[index], self.shapes[index]
        num_frames = self.stretches.num_frames if drawn.stretch else whole.num_frames
        if drawn.kind == "still" or num_frames < whole.num_frames:
            shape = still(whole) if drawn.kind == "still" else replace(shape, num_frames=num_frames)
            if drawn.kind != "still" or not self.stretches.first_stills:
                start = draw_start(self.config, whole, shape, hash_seed(self.seed, drawn.draw, 2))
        if drawn.kind == "sound":
            shape = replace(shape, has_picture=False)
        video, audio = read_stretch(file, self.config, shape, start)
        stride = self.config.video_stride[0]
        track = record.tracks.get("expressions") if shape.has_picture else None
        return ClipLatents(
            record,
            drawn.draw,
            float(start * to_seconds(stride, shape.fps)),
            shape,
            video,
            audio,
            None if track is None else read_track(self.folder / track, start * stride, shape),
            *self.reference(drawn, shape),
            read_caption(file) if self.config.captions else None,
        )

    def reference(self, drawn: ClipDraw, shape: ClipShape) -> tuple[Tensor | None, Tensor | None]:
        """Face and voice of another clip of the same person, as often as `references` says.

        The face has the size of the clip, the voice is from anywhere in the other clip.
        """
        random = np.random.default_rng(hash_seed(self.seed, drawn.draw, 3))
        has_face, has_voice = random.random(2) < self.references.share
        face = voice = None
        others = [i for i in self.by_speaker[self.speakers[drawn.clip]] if i != drawn.clip]
        if not others or not (has_face or has_voice):
            return None, None
        other = others[int(random.integers(len(others)))]
        whole, (_, file) = self.wholes[other], self.source.read(self.kept[other])
        same = (whole.height, whole.width) == (shape.height, shape.width)
        if has_face and same and shape.has_picture and whole.has_picture:
            picture = still(whole)
            start = draw_start(self.config, whole, picture, int(random.integers(2**32)))
            face, _ = read_stretch(file, self.config, picture, start)
        if has_voice and shape.has_sound and whole.has_sound:
            frames = min(whole.num_frames, to_index(self.references.seconds, whole.fps))
            sound = replace(whole, num_frames=frames, has_picture=False)
            start = draw_start(self.config, whole, sound, int(random.integers(2**32)))
            _, voice = read_stretch(file, self.config, sound, start)
        return face, voice


def still(clip: ClipShape) -> ClipShape:
    """One frame of a clip, without sound."""
    return replace(clip, num_frames=1, has_sound=False)


def audio_latents_per_video_latent(config: LatentConfig, fps: Fraction) -> Fraction:
    """How many audio latents one latent frame lasts."""
    return to_seconds(config.video_stride[0], fps) * Fraction(config.sample_rate, config.hop_length)


def draw_start(config: LatentConfig, whole: ClipShape, part: ClipShape, seed: int) -> int:
    """A latent frame of `whole` at which `part` may start.

    With sound, an audio latent must start there as well; at 30000/1001 frames a second few do.
    """
    (video, audio), (own, sound) = config.clip_grids(whole), config.clip_grids(part)
    if part.has_picture and not config.windows_are_exact:
        return 0
    room, step = video.num_latents - own.num_latents, 1
    if whole.has_sound:
        ratio = audio_latents_per_video_latent(config, whole.fps)
        step = ratio.denominator
        room = min(room, int((audio.num_latents - sound.num_latents) / ratio))
    return step * int(np.random.default_rng(seed).integers(max(0, room) // step + 1))


def opened(path: Path | Slices) -> AbstractContextManager[Any]:
    """A clip's latents, of which parts can be taken, wherever they are."""
    return nullcontext(path) if isinstance(path, Slices) else safe_open(path, "pt")


def read_caption(path: Path | Slices) -> Tensor | None:
    """What a text encoder made of a clip's caption [p, F], if it is there."""
    with opened(path) as file:
        return file.get_slice("caption")[:] if "caption" in file.keys() else None  # noqa: SIM118


def read_stretch(
    path: Path | Slices, config: LatentConfig, shape: ClipShape, start: int
) -> tuple[Tensor | None, Tensor | None]:
    """Latents of `shape` from a latent frame on: [C, T, H, W] and [C, T'].

    The first latent of a stretch stands for one frame alone, as that of a clip does.

    Raises:
        UserError: it is no file of a clip's latents, or one of another shape.
    """
    video_grid, audio_grid = config.clip_grids(shape)
    video = audio = None
    try:
        with opened(path) as file:
            if shape.has_picture:
                video = file.get_slice("video")[:, start : start + video_grid.num_latents]
                if start:
                    first = file.get_slice("still")[:, start : start + 1]
                    video = torch.cat([first, video[:, 1:]], 1)
            if shape.has_sound:
                heard = int(start * audio_latents_per_video_latent(config, shape.fps))
                audio = file.get_slice("audio")[:, heard : heard + audio_grid.num_latents]
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: is not a clip's latents ({error})") from error
    expected = (video_grid.channels, video_grid.num_latents, *video_grid.latent_size)
    for name, latents, size in (
        ("video", video, expected),
        ("audio", audio, (audio_grid.channels, audio_grid.num_latents)),
    ):
        if latents is not None and tuple(latents.shape) != size:
            raise UserError(
                f"{path}: {name} latents {tuple(latents.shape)} from latent {start} on; a clip of "
                f"{shape} has {size}"
            )
    return video, audio


def read_track(path: Path, start: int, shape: ClipShape) -> Tensor:
    """Numbers of a stretch's frames, float32 [F, K].

    Raises:
        UserError: there is no such track, or it is not as long as its clip.
    """
    try:
        track = np.load(path, mmap_mode="r")[start : start + shape.num_frames]
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: is no track of numbers ({error})") from error
    if len(track) != shape.num_frames:
        raise UserError(
            f"{path}: {len(track)} frames from {start} on; the clip has {shape.num_frames}"
        )
    return torch.from_numpy(np.array(track, np.float32))
