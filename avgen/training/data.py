"""Corpora -> batches.

What is prepared once (crops, waveforms, latents) and how it is drawn, exactly resumably.

A prepared folder holds

    manifest.jsonl          the records (see avgen/datasets/manifest.py)
    frames/ID.npy           uint8 [T, H, W, 3]
    waveforms/ID.npy        int16 [C, N]
    rates.json              fps, sample_rate
    lexicon.json            pronunciations besides the dictionary's
    latents/ID.safetensors  raw latents of both codecs, and latents/statistics.json

Draws are numbered. Draw n of a run decides the clip (a permutation of the corpus an epoch) and
seeds whatever else is random about it, so that resuming needs the number n alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
import torch.distributed
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchdata.stateful_dataloader import StatefulDataLoader

from avgen.codecs.normalize import LatentStatistics
from avgen.datasets.manifest import ClipRecord, read_manifest

Split = Literal["train", "validation", "test"]


class Draws(Sampler[int]):
    """Numbers of draws, without end in sight: rank r of w processes takes r, r + w, r + 2 w, ...

    Implements torchdata's stateful protocol.

    Args:
        total: Draws in an epoch, over all processes.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.next = 0

    def __len__(self) -> int:
        """Draws of one epoch that are this process's."""
        return self.total // _world()[1]

    def __iter__(self) -> Iterator[int]:
        """Yield the rest of this epoch; the number goes on from epoch to epoch."""
        rank, world = _world()
        stop = (self.next // len(self) + 1) * len(self)
        while self.next < stop:
            self.next += 1
            yield (self.next - 1) * world + rank

    def state_dict(self) -> dict[str, int]:
        """How far this process has come."""
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self.next = state["next"]


def _world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def clip_of_draw(draw: int, num_clips: int, seed: int) -> int:
    """The clip of a draw.

    Every clip once an epoch, in an order that depends on seed and epoch alone.
    """
    epoch, place = divmod(draw, num_clips)
    generator = torch.Generator().manual_seed(hash_seed(seed, epoch))
    return int(torch.randperm(num_clips, generator=generator)[place])


def hash_seed(*numbers: int) -> int:
    """One 63-bit seed of several numbers, for a generator of their own (numpy's SeedSequence)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


@dataclass(frozen=True)
class Prepared:
    """A prepared folder of crops and waveforms.

    Attributes:
        folder: Where it is.
        split: Which records of its manifest.
    """

    folder: Path
    split: Split

    def records(self) -> list[ClipRecord]:
        """Its records.

        Raises:
            ValueError: none are of this split.
        """
        records = [
            record
            for record in read_manifest(self.folder / "manifest.jsonl")
            if record.split == self.split
        ]
        if not records:
            raise ValueError(
                f"{self.folder / 'manifest.jsonl'}: no clip is of the split {self.split!r}"
            )
        return records

    def rates(self) -> tuple[Fraction, int]:
        """Frames a second and samples a second of everything in the folder."""
        rates = json.loads((self.folder / "rates.json").read_text())
        return Fraction(rates["fps"]), int(rates["sample_rate"])


class Windows(Dataset[dict[str, Any]]):
    """Windows of one modality of a prepared folder.

    The draw's number decides where a window starts.

    Args:
        prepared: The folder and split.
        modality: "video" (uint8 [T, H, W, 3]) or "waveform" (float32 [C, N] in [-1, 1]).
        length: Frames or samples of a window; None is the whole clip.
        flip: Mirror every second picture.
        seed: Of the order and the windows.
    """

    def __init__(
        self,
        prepared: Prepared,
        modality: Literal["video", "waveform"],
        length: int | None,
        flip: bool = False,
        seed: int = 0,
    ) -> None:
        self.files = [
            prepared.folder
            / {"video": "frames", "waveform": "waveforms"}[modality]
            / f"{record.id}.npy"
            for record in prepared.records()
        ]
        self.modality, self.length, self.flip, self.seed = modality, length, flip, seed

    def __len__(self) -> int:
        """Clips."""
        return len(self.files)

    def __getitem__(self, draw: int) -> dict[str, Tensor]:
        """The window of a draw (any number, see the module's docstring)."""
        clip = np.load(self.files[clip_of_draw(draw, len(self.files), self.seed)], mmap_mode="r")
        axis = 0 if self.modality == "video" else 1
        random = np.random.default_rng(hash_seed(self.seed, draw))
        if self.length is not None:
            short = self.length - clip.shape[axis]
            if short > 0:
                edge = [(0, 0)] * clip.ndim
                edge[axis] = (0, short)
                clip = np.pad(clip, edge, mode="edge" if axis == 0 else "constant")
            start = int(random.integers(clip.shape[axis] - self.length + 1))
            clip = (
                clip[start : start + self.length]
                if axis == 0
                else clip[:, start : start + self.length]
            )
        if self.flip and random.integers(2):
            clip = clip[:, :, ::-1]
        window = torch.from_numpy(np.array(clip))
        return {self.modality: window if self.modality == "video" else window.float() / 32768}


class WindowData(L.LightningDataModule):
    """Batches of pictures or of sound, for training a codec.

    Args:
        folder: A prepared folder.
        modality: "video" or "waveform".
        length: Frames or samples of a training window.
        batch_size: Windows a step and process.
        flip: Mirror every second picture.
        num_workers: Processes that read.
        seed: Of the order and the windows.
    """

    def __init__(
        self,
        folder: Path,
        modality: Literal["video", "waveform"],
        length: int,
        batch_size: int,
        flip: bool = False,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.folder, self.length = folder, length
        self.modality: Literal["video", "waveform"] = modality
        self.batch_size, self.flip, self.num_workers, self.seed = (
            batch_size,
            flip,
            num_workers,
            seed,
        )

    def train_dataloader(self) -> StatefulDataLoader:
        """Random windows of the training clips."""
        windows = Windows(
            Prepared(self.folder, "train"), self.modality, self.length, self.flip, self.seed
        )
        return stateful_loader(windows, self.batch_size, self.num_workers)

    def val_dataloader(self) -> DataLoader:
        """Whole validation clips, one at a time."""
        return DataLoader(
            Windows(Prepared(self.folder, "validation"), self.modality, None), batch_size=1
        )


def stateful_loader(
    dataset: Dataset, batch_size: int, num_workers: int, **options: Any
) -> StatefulDataLoader:
    """A loader of numbered draws that resumes in the middle of an epoch, which is whole batches.

    Raises:
        ValueError: there are fewer clips than one batch of every process needs.
    """
    num_clips, batch = len(dataset), batch_size * _world()[1]  # type: ignore[arg-type]
    if num_clips < batch:
        raise ValueError(f"batches of {batch} clips over all processes; there are {num_clips}")
    draws = Draws(num_clips // batch * batch)
    return StatefulDataLoader(
        dataset, batch_size, sampler=draws, num_workers=num_workers, drop_last=True, **options
    )


class Latents(Dataset[dict[str, Any]]):
    """Cached latents with their words and caption, cut to one length.

    Args:
        prepared: The folder and split.
        num_video_latents: Latent frames of a training clip; shorter clips are left out, longer ones
            cut.
        num_audio_latents: Audio latents of a training clip, likewise.
        seed: Of the order.
    """

    def __init__(
        self, prepared: Prepared, num_video_latents: int, num_audio_latents: int, seed: int = 0
    ) -> None:
        self.num_video_latents, self.num_audio_latents, self.seed = (
            num_video_latents,
            num_audio_latents,
            seed,
        )
        self.items = []
        for record in prepared.records():
            latents = load_file(prepared.folder / "latents" / f"{record.id}.safetensors")
            video, audio = (
                latents["video"][:, :num_video_latents],
                latents["audio"][:, :num_audio_latents],
            )
            if video.shape[1] == num_video_latents and audio.shape[1] == num_audio_latents:
                self.items.append((record, video, audio))
        if not self.items:
            raise ValueError(
                f"{prepared.folder}: no {prepared.split} clip has {num_video_latents} video latents"
            )

    def __len__(self) -> int:
        """Clips."""
        return len(self.items)

    def __getitem__(self, draw: int) -> dict[str, Any]:
        """The clip of a draw.

        Record, raw latents "video" [C, T, H, W] and "audio" [C, T'], and the draw's number.
        """
        record, video, audio = self.items[clip_of_draw(draw, len(self.items), self.seed)]
        return {"record": record, "video": video, "audio": audio, "draw": draw}


def collate_latents(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack latents; keep records and draws as lists."""
    return {
        "video": torch.stack([item["video"] for item in items]),
        "audio": torch.stack([item["audio"] for item in items]),
        "records": [item["record"] for item in items],
        "draws": [item["draw"] for item in items],
    }


class LatentData(L.LightningDataModule):
    """Batches of cached latents, for training the transformer.

    Args:
        folder: A prepared folder with latents.
        num_frames: Frames of a training clip.
        batch_size: Clips a step and process.
        num_workers: Processes that read; the latents are held in memory, so 0 does.
        seed: Of the order.
    """

    def __init__(
        self, folder: Path, num_frames: int, batch_size: int, num_workers: int = 0, seed: int = 0
    ) -> None:
        super().__init__()
        self.folder, self.num_frames, self.batch_size = folder, num_frames, batch_size
        self.num_workers, self.seed = num_workers, seed

    def latents(self, split: Split) -> Latents:
        """The clips of a split, cut to what `num_frames` need."""
        from avgen.training.prepared import read_latent_config

        config = read_latent_config(self.folder)
        video, audio = config.grids(self.num_frames)
        return Latents(
            Prepared(self.folder, split), video.num_latents, audio.num_latents, self.seed
        )

    def transfer_batch_to_device(
        self, batch: dict[str, Any], device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """Move the latents; records stay where they are."""
        return {
            name: value.to(device) if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }

    def train_dataloader(self) -> StatefulDataLoader:
        """Training clips."""
        return stateful_loader(
            self.latents("train"), self.batch_size, self.num_workers, collate_fn=collate_latents
        )

    def val_dataloader(self) -> DataLoader:
        """Validation clips, each once."""
        return DataLoader(self.latents("validation"), self.batch_size, collate_fn=collate_latents)


def load_statistics(folder: Path) -> tuple[LatentStatistics, LatentStatistics]:
    """Statistics of the training split's video and audio latents."""
    statistics = json.loads((folder / "latents" / "statistics.json").read_text())
    return LatentStatistics(**statistics["video"]), LatentStatistics(**statistics["audio"])
