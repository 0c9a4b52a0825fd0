"""Corpora -> batches.

What is prepared once (crops, waveforms, latents) and how it is drawn, exactly resumably.

A prepared folder holds

    manifest.jsonl          the records (see avgen/corpora/manifest.py)
    frames/ID.npy           uint8 [T, H, W, 3]
    waveforms/ID.npy        int16 [C, N]
    rates.json              fps, sample_rate
    lexicon.json            pronunciations besides the dictionary's
    latents/ID.safetensors  raw latents of both codecs (data_latents.py and data_mixed.py here)

Draws are numbered. Draw n of a run decides the clip (a permutation of the corpus an epoch) and
seeds whatever else is random about it, so that resuming needs the number n alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
import torch.distributed
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler
from torchdata.stateful_dataloader import StatefulDataLoader

from avgen.clips.clip import Clip
from avgen.corpora.manifest import ClipRecord, read_manifest
from avgen.errors import UserError
from avgen.training.prepared import clip_rate

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
        return self.total // rank_and_world()[1]

    def __iter__(self) -> Iterator[int]:
        """Yield the rest of this epoch; the number goes on from epoch to epoch."""
        rank, world = rank_and_world()
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


def rank_and_world() -> tuple[int, int]:
    """This process's number, and how many there are."""
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
            UserError: none are of this split.
        """
        records = [
            record
            for record in read_manifest(self.folder / "manifest.jsonl")
            if record.split == self.split
        ]
        if not records:
            raise UserError(
                f"{self.folder / 'manifest.jsonl'}: no clip is of the split {self.split!r}"
            )
        return records

    def rates(self) -> tuple[Fraction, int]:
        """Frames a second and samples a second of everything in the folder.

        Raises:
            UserError: its clips have frame rates of their own.
        """
        rates = json.loads((self.folder / "rates.json").read_text())
        if rates["fps"] is None:
            raise UserError(f"{self.folder}: its clips have frame rates of their own")
        return Fraction(rates["fps"]), int(rates["sample_rate"])

    def clip(self, record: ClipRecord) -> Clip:
        """A record's frames and sound as they were prepared."""
        rates = json.loads((self.folder / "rates.json").read_text())
        frames = np.load(self.folder / "frames" / f"{record.id}.npy")
        sound = np.load(self.folder / "waveforms" / f"{record.id}.npy").astype(np.float32) / 32768
        fps = clip_rate(self.folder, record.id, rates["fps"])
        if not len(sound):
            return Clip(frames, fps)
        return Clip(frames, fps, sound, rates["sample_rate"])


@dataclass(frozen=True)
class Variation:
    """How training pictures differ from the corpus's, so that a codec learns time as well as faces.

    Four frames in a row of a talking head are nearly one picture, and a codec that has seen nothing
    else repeats it four times (LOG.md).

    Args:
        flip: Mirror every second window.
        fast: Share of windows that leave out frames: every second or every third is kept.
        flash: Share of windows with 1 to 5 frames of one colour, half of them between frames of
            another.
    """

    flip: bool = False
    fast: float = 0.0
    flash: float = 0.0

    def step(self, random: np.random.Generator) -> int:
        """How many frames of the clip one frame of the window stands for."""
        return int(random.integers(2, 4)) if self.fast and random.random() < self.fast else 1

    def paint(self, frames: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """The frames uint8 [T, H, W, 3], mirrored and with a flash where the draw says so."""
        if self.flip and random.integers(2):
            frames = frames[:, :, ::-1]
        if self.flash and random.random() < self.flash:
            around, flash = random.integers(256, size=(2, 3)) if random.integers(2) else (0, 255)
            flat, at = random.integers(2), int(random.integers(len(frames)))
            frames = np.full_like(frames, around) if flat else np.array(frames)
            frames[at : at + int(random.integers(1, 6))] = flash
        return frames


AS_IT_IS = Variation()


class Windows(Dataset[dict[str, Any]]):
    """Windows of one modality of a prepared folder.

    The draw's number decides where a window starts.

    Args:
        prepared: The folder and split.
        modality: "video" (uint8 [T, H, W, 3]) or "waveform" (float32 [C, N] in [-1, 1]).
        length: Frames or samples of a window; None is the whole clip.
        variation: How pictures differ from the corpus's.
        seed: Of the order and the windows.
    """

    def __init__(
        self,
        prepared: Prepared,
        modality: Literal["video", "waveform"],
        length: int | None,
        variation: Variation = AS_IT_IS,
        seed: int = 0,
    ) -> None:
        self.files = [
            prepared.folder
            / {"video": "frames", "waveform": "waveforms"}[modality]
            / f"{record.id}.npy"
            for record in prepared.records()
        ]
        if modality == "waveform":  # that of a clip without sound has no channels
            self.files = [path for path in self.files if len(np.load(path, mmap_mode="r"))]
            if not self.files:
                raise UserError(f"{prepared.folder}: no {prepared.split} clip has sound")
        self.modality, self.length, self.seed = modality, length, seed
        self.variation = variation

    def __len__(self) -> int:
        """Clips."""
        return len(self.files)

    def __getitem__(self, draw: int) -> dict[str, Tensor]:
        """The window of a draw (any number, see the module's docstring)."""
        clip = np.load(self.files[clip_of_draw(draw, len(self.files), self.seed)], mmap_mode="r")
        axis = 0 if self.modality == "video" else 1
        random = np.random.default_rng(hash_seed(self.seed, draw))
        if self.modality == "video":
            clip = clip[:: self.variation.step(random)]
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
        if self.modality == "video":
            clip = self.variation.paint(clip, random)
        window = torch.from_numpy(np.array(clip))
        return {self.modality: window if self.modality == "video" else window.float() / 32768}


class Alternating(Dataset[dict[str, Any]]):
    """Several sets of windows, whose pictures may be of several sizes, a batch of one at a time.

    Without shares each gets as many batches as any other: the clips of a smaller set come more
    often.

    Args:
        parts: The sets.
        batch: Draws in a row that go to one part: what all processes take in a step.
        shares: How many batches of each part a round has; None is one of each.
    """

    def __init__(
        self, parts: Sequence[Windows], batch: int, shares: Sequence[int] | None = None
    ) -> None:
        if shares is not None and (len(shares) != len(parts) or min(shares) < 1):
            raise UserError(f"shares {list(shares)} of {len(parts)} folders; each has 1 or more")
        self.parts, self.batch = parts, batch
        self.shares = list(shares or [1] * len(parts))
        # Which part has each batch of a round, and which of that part's in the round it is.
        self.round = [(p, k) for p, share in enumerate(self.shares) for k in range(share)]

    def __len__(self) -> int:
        """Clips."""
        return sum(len(part) for part in self.parts)

    def __getitem__(self, draw: int) -> dict[str, Tensor]:
        """The window of a draw: the part's own draws are numbered without gaps."""
        number, place = divmod(draw, self.batch)
        turn, step = divmod(number, len(self.round))
        part, earlier = self.round[step]
        own = turn * self.shares[part] + earlier
        return self.parts[part][own * self.batch + place]


class WindowData(L.LightningDataModule):
    """Batches of pictures or of sound, for training a codec.

    Args:
        folder: A prepared folder, or several, whose pictures may be of several sizes: a batch is of
            one, in turn.
        modality: "video" or "waveform".
        length: Frames or samples of a training window.
        batch_size: Windows a step and process.
        variation: How pictures differ from the corpus's in training.
        num_workers: Processes that read.
        seed: Of the order and the windows.
        shares: How many batches of each folder a round has; None is one of each.
    """

    def __init__(
        self,
        folder: Path | list[Path],
        modality: Literal["video", "waveform"],
        length: int,
        batch_size: int,
        variation: Variation = AS_IT_IS,
        num_workers: int = 0,
        seed: int = 0,
        shares: list[int] | None = None,
    ) -> None:
        super().__init__()
        self.shares = shares
        self.folders = folder if isinstance(folder, list) else [folder]
        self.length = length
        self.modality: Literal["video", "waveform"] = modality
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.variation = variation

    def train_dataloader(self) -> StatefulDataLoader:
        """Random windows of the training clips, as many batches of each folder."""
        parts = [
            Windows(
                Prepared(folder, "train"), self.modality, self.length, self.variation, self.seed
            )
            for folder in self.folders
        ]
        windows = Alternating(parts, self.batch_size * rank_and_world()[1], self.shares)
        return stateful_loader(windows, self.batch_size, self.num_workers)

    def val_dataloader(self) -> DataLoader:
        """Whole validation clips, each once, one at a time, folder by folder."""
        parts = [
            Windows(Prepared(folder, "validation"), self.modality, None) for folder in self.folders
        ]
        return DataLoader(ConcatDataset(parts), batch_size=1)


def stateful_loader(
    dataset: Dataset, batch_size: int, num_workers: int, **options: Any
) -> StatefulDataLoader:
    """A loader of numbered draws that resumes in the middle of an epoch, which is whole batches.

    Raises:
        UserError: there are fewer clips than one batch of every process needs.
    """
    num_clips, batch = len(dataset), batch_size * rank_and_world()[1]  # type: ignore[arg-type]
    if num_clips < batch:
        raise UserError(f"batches of {batch} clips over all processes; there are {num_clips}")
    draws = Draws(num_clips // batch * batch)
    return StatefulDataLoader(
        dataset, batch_size, sampler=draws, num_workers=num_workers, drop_last=True, **options
    )
