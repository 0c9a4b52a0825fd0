"""Cached latents of clips of all sizes, lengths and rates -> batches of clips.

A batch is {"clips": [ClipLatents, ...]}, with "records" and "draws" as in data_latents.py. The
latents are read when they are drawn, of a file no more than is trained on. Draws are numbered as in
data.py, so a run resumes from the number alone; here a draw is a whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchdata.stateful_dataloader import StatefulDataLoader

from avgen.clips.timebase import to_seconds
from avgen.corpora.manifest import ClipRecord
from avgen.errors import UserError
from avgen.training.batches import Batching, Plan, permutation
from avgen.training.data import Draws, Prepared, Split, hash_seed, rank_and_world
from avgen.training.data_latents import WHOLE, Stretches
from avgen.training.prepared import ClipShape, LatentConfig, read_latent_config, read_shape

DRAWS_OF_AN_EPOCH = 10**9  # more than any epoch has: numbers of draws do not meet


@dataclass(frozen=True)
class ClipLatents:
    """What is trained on of one clip.

    Attributes:
        record: Of the clip.
        draw: Its number, which seeds all that is random about it.
        start_s: The second of the clip at which this starts.
        shape: Of what is here.
        video: Raw latents [C, T, H, W].
        audio: Raw latents [C, T'], or None where the clip has no sound.
    """

    record: ClipRecord
    draw: int
    start_s: float
    shape: ClipShape
    video: Tensor
    audio: Tensor | None

    def to(self, device: torch.device) -> ClipLatents:
        """The same with its latents on a device."""
        audio = None if self.audio is None else self.audio.to(device)
        return replace(self, video=self.video.to(device), audio=audio)


class MixedBatches(Dataset[dict[str, Any]]):
    """Batches of one split by their number.

    Args:
        prepared: The folder and split.
        batching: Which clips train together.
        stretches: Training on parts of clips besides; the choice is one a step.
        world: Processes that take turns.
        seed: Of the order and the stretches.

    Raises:
        UserError: no clip is long enough, or a latents file is broken.
    """

    def __init__(
        self,
        prepared: Prepared,
        batching: Batching,
        stretches: Stretches = WHOLE,
        world: int = 1,
        seed: int = 0,
    ) -> None:
        self.config = read_latent_config(prepared.folder)
        self.batching, self.stretches, self.world, self.seed = batching, stretches, world, seed
        self.records, self.paths, self.shapes = [], [], []
        for record in prepared.records():
            path = prepared.folder / "latents" / f"{record.id}.safetensors"
            shape = batching.cut(read_shape(path, self.config), self.config.video_stride[0])
            if shape is not None:
                self.records.append(record)
                self.paths.append(path)
                self.shapes.append(shape)
        if not self.records:
            raise UserError(f"{prepared.folder}: no {prepared.split} clip is long enough")
        counts = {shape: count_tokens(self.config, shape) for shape in set(self.shapes)}
        self.tokens = [counts[shape] for shape in self.shapes]
        self._planned: tuple[int, Plan] = (-1, [])
        self.num_batches = len(self.plan(0))

    def plan(self, epoch: int) -> Plan:
        """The batches of an epoch; the last that was asked for is kept."""
        if self._planned[0] != epoch:
            order = permutation(len(self.records), hash_seed(self.seed, epoch))
            plan = self.batching.plan(self.shapes, self.tokens, self.world, order)
            self._planned = epoch, plan
        return self._planned[1]

    def __len__(self) -> int:
        """Batches of the first epoch, over all processes.

        Later epochs have as many: what another order needs more is left out that epoch, what it
        needs less is drawn again.
        """
        return self.num_batches

    def __getitem__(self, draw: int) -> dict[str, Any]:
        """The batch of a draw (any number)."""
        epoch, place = divmod(draw, self.num_batches)
        plan = self.plan(epoch)
        random = np.random.default_rng(hash_seed(self.seed, draw // self.world, 1))
        part = bool(random.random() < self.stretches.share)
        clips = [
            self.clip(clip, epoch * DRAWS_OF_AN_EPOCH + number, part)
            for clip, number in plan[place % len(plan)]
        ]
        return {
            "clips": clips,
            "records": [clip.record for clip in clips],
            "draws": [clip.draw for clip in clips],
        }

    def clip(self, index: int, draw: int, part: bool) -> ClipLatents:
        """A clip from its beginning, or a stretch of it from where the draw says."""
        shape, start = self.shapes[index], 0
        if part and self.stretches.num_frames < shape.num_frames:
            whole, shape = shape, replace(shape, num_frames=self.stretches.num_frames)
            start = draw_start(self.config, whole, shape, hash_seed(self.seed, draw, 2))
        video, audio = read_stretch(self.paths[index], self.config, shape, start)
        start_s = float(start * to_seconds(self.config.video_stride[0], shape.fps))
        return ClipLatents(self.records[index], draw, start_s, shape, video, audio)


def count_tokens(config: LatentConfig, shape: ClipShape) -> int:
    """Tokens of a clip."""
    video, audio = config.clip_grids(shape)
    return video.num_tokens + shape.has_sound * audio.num_tokens


def audio_latents_per_video_latent(config: LatentConfig, fps: Fraction) -> Fraction:
    """How many audio latents one latent frame lasts."""
    return to_seconds(config.video_stride[0], fps) * Fraction(config.sample_rate, config.hop_length)


def draw_start(config: LatentConfig, whole: ClipShape, part: ClipShape, seed: int) -> int:
    """A latent frame of `whole` at which `part` may start.

    With sound, an audio latent must start there as well; at 30000/1001 frames a second few do.
    """
    (video, audio), (own, sound) = config.clip_grids(whole), config.clip_grids(part)
    room, step = video.num_latents - own.num_latents, 1
    if whole.has_sound:
        ratio = audio_latents_per_video_latent(config, whole.fps)
        step = ratio.denominator
        room = min(room, int((audio.num_latents - sound.num_latents) / ratio))
    return step * int(np.random.default_rng(seed).integers(max(0, room) // step + 1))


def read_stretch(
    path: Path, config: LatentConfig, shape: ClipShape, start: int
) -> tuple[Tensor, Tensor | None]:
    """Latents of `shape` from a latent frame on: [C, T, H, W] and [C, T'].

    The first latent of a stretch stands for one frame alone, as that of a clip does.

    Raises:
        UserError: the file has fewer latents than its clip's shape calls for.
    """
    video_grid, audio_grid = config.clip_grids(shape)
    with safe_open(path, "pt") as file:
        stop, audio = start + video_grid.num_latents, None
        video = file.get_slice("video")[:, start:stop]
        if start:
            first = file.get_slice("still")[:, start : start + 1]
            video = torch.cat([first, video[:, 1:]], 1)
        if shape.has_sound:
            heard = int(start * audio_latents_per_video_latent(config, shape.fps))
            audio = file.get_slice("audio")[:, heard : heard + audio_grid.num_latents]
    expected = (video_grid.channels, video_grid.num_latents, *video_grid.latent_size)
    short = audio is not None and audio.shape[1] != audio_grid.num_latents
    if tuple(video.shape) != expected or short:
        sound = "no" if audio is None else audio.shape[1]
        raise UserError(
            f"{path}: video latents {tuple(video.shape)} and {sound} audio latents from latent "
            f"{start} on; a clip of {shape} has {expected} and {audio_grid.num_latents}"
        )
    return video, audio


class MixedData(L.LightningDataModule):
    """Batches of clips of all shapes, for training the transformer.

    Args:
        folder: A prepared folder with latents (`prepared.merge` makes one of several).
        batching: Which clips train together.
        stretches: Training on parts of clips besides.
        num_workers: Processes that read.
        seed: Of the order.
    """

    def __init__(
        self,
        folder: Path,
        batching: Batching,
        stretches: Stretches = WHOLE,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.folder, self.batching, self.stretches = folder, batching, stretches
        self.num_workers, self.seed = num_workers, seed

    def batches(self, split: Split, processes: int, stretches: Stretches = WHOLE) -> MixedBatches:
        """The batches of a split."""
        prepared = Prepared(self.folder, split)
        return MixedBatches(prepared, self.batching, stretches, processes, self.seed)

    def transfer_batch_to_device(
        self, batch: dict[str, Any], device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """Move the latents; records stay where they are."""
        return batch | {"clips": [clip.to(device) for clip in batch["clips"]]}

    def train_dataloader(self) -> StatefulDataLoader:
        """Training batches, resumable in the middle of an epoch."""
        processes = rank_and_world()[1]
        batches = self.batches("train", processes, self.stretches)
        return StatefulDataLoader(
            batches,
            batch_size=None,
            sampler=Draws(len(batches)),
            num_workers=self.num_workers,
            collate_fn=as_it_is,
        )

    def val_dataloader(self) -> DataLoader:
        """Validation clips, each at least once; every process sees all."""
        return DataLoader(self.batches("validation", 1), batch_size=None, collate_fn=as_it_is)


def as_it_is(batch: Any) -> Any:
    """The batch; a loader would make tensors of its numbers."""
    return batch
