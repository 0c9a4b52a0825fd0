"""Cached latents -> batches for the transformer: whole clips, and stretches from anywhere in them.

A clip made in windows goes on from the end of the window before, in the middle of a word. A network
that has only seen sentences from their beginning does not know such windows, so some batches are
stretches that start at any latent frame. The first latent of a stretch stands for one frame alone;
`still` holds what the encoder makes of every such frame.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchdata.stateful_dataloader import StatefulDataLoader

from avgen.clips.timebase import to_seconds
from avgen.codecs.normalize import LatentStatistics
from avgen.errors import UserError
from avgen.training.data import Prepared, Split, clip_of_draw, hash_seed, stateful_loader
from avgen.training.prepared import LatentConfig, read_latent_config


@dataclass(frozen=True)
class Stretches:
    """Training on parts of clips.

    Args:
        share: Of the batches that are such stretches, 0 to 1.
        num_frames: Frames of a stretch.
    """

    share: float = 0.0
    num_frames: int = 1


WHOLE = Stretches()


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
        self.seed = seed
        self.items = []
        for record in prepared.records():
            path = prepared.folder / "latents" / f"{record.id}.safetensors"
            latents = load_file(path)
            if "audio" not in latents:
                raise UserError(f"{path}: the clip has no sound; train with MixedData")
            lengths = {
                "video": num_video_latents,
                "still": num_video_latents,
                "audio": num_audio_latents,
            }
            cut = {name: latents[name][:, :length] for name, length in lengths.items()}
            if all(cut[name].shape[1] == length for name, length in lengths.items()):
                self.items.append((record, cut))
        if not self.items:
            raise UserError(
                f"{prepared.folder}: no {prepared.split} clip has {num_video_latents} video latents"
            )

    def __len__(self) -> int:
        """Clips."""
        return len(self.items)

    def __getitem__(self, draw: int) -> dict[str, Any]:
        """The clip of a draw.

        Record, the second of it at which this starts, raw latents "video" and "still"
        [C, T, H, W], "audio" [C, T'], and the draw.
        """
        record, latents = self.items[clip_of_draw(draw, len(self.items), self.seed)]
        return {"record": record, "start_s": 0.0, **latents, "draw": draw}


class Collate:
    """Stacks clips, or a stretch of each; the first draw of a batch decides which.

    Args:
        config: What the latents were made with.
        stretches: How often, and how long.
        seed: Of the choice and of where stretches start.

    Raises:
        UserError: a stretch has no frames.
    """

    def __init__(self, config: LatentConfig, stretches: Stretches = WHOLE, seed: int = 0) -> None:
        video, audio = config.grids(stretches.num_frames)
        self.num_video_latents, self.num_audio_latents = video.num_latents, audio.num_latents
        self.stretches, self.seed = stretches, seed
        self.seconds = to_seconds(video.stride[0], video.fps)  # of one latent frame
        self.ratio = self.seconds * Fraction(audio.sample_rate, audio.hop_length)

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Stack the latents; list the records, the seconds at which stretches start, the draws."""
        random = np.random.default_rng(hash_seed(self.seed, items[0]["draw"], 1))
        if random.random() < self.stretches.share:
            items = [self.stretch(item, random) for item in items]
        return {
            "video": torch.stack([item["video"] for item in items]),
            "audio": torch.stack([item["audio"] for item in items]),
            "records": [item["record"] for item in items],
            "starts_s": [item["start_s"] for item in items],
            "draws": [item["draw"] for item in items],
        }

    def stretch(self, item: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
        """Cut from a random latent frame on, where an audio latent starts as well."""
        step = self.ratio.denominator
        room = min(
            item["video"].shape[1] - self.num_video_latents,
            int((item["audio"].shape[1] - self.num_audio_latents) / self.ratio),
        )
        start = step * int(random.integers(max(0, room) // step + 1))
        stop, heard = start + self.num_video_latents, int(start * self.ratio)
        first = item["still"][:, start : start + 1]
        return {
            "video": torch.cat([first, item["video"][:, start + 1 : stop]], 1),
            "audio": item["audio"][:, heard : heard + self.num_audio_latents],
            "record": item["record"],
            "start_s": float(start * self.seconds),
            "draw": item["draw"],
        }


class LatentData(L.LightningDataModule):
    """Batches of cached latents, for training the transformer.

    Args:
        folder: A prepared folder with latents.
        num_frames: Frames of a training clip.
        batch_size: Clips a step and process.
        stretches: Training on parts of clips besides.
        num_workers: Processes that read; the latents are held in memory, so 0 does.
        seed: Of the order.
    """

    def __init__(
        self,
        folder: Path,
        num_frames: int,
        batch_size: int,
        stretches: Stretches = WHOLE,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < stretches.num_frames <= num_frames:
            raise UserError(
                f"stretches of {stretches.num_frames} frames; clips have {num_frames}, at least 1"
            )
        self.folder, self.num_frames, self.batch_size = folder, num_frames, batch_size
        self.stretches, self.num_workers, self.seed = stretches, num_workers, seed

    def latents(self, split: Split) -> Latents:
        """The clips of a split, cut to what `num_frames` need."""
        video, audio = read_latent_config(self.folder).grids(self.num_frames)
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
        collate = Collate(read_latent_config(self.folder), self.stretches, self.seed)
        return stateful_loader(
            self.latents("train"), self.batch_size, self.num_workers, collate_fn=collate
        )

    def val_dataloader(self) -> DataLoader:
        """Validation clips, whole, each once."""
        collate = Collate(read_latent_config(self.folder))
        return DataLoader(self.latents("validation"), self.batch_size, collate_fn=collate)


def load_statistics(folder: Path) -> tuple[LatentStatistics, LatentStatistics]:
    """Statistics of the training split's video and audio latents."""
    statistics = json.loads((folder / "latents" / "statistics.json").read_text())
    return LatentStatistics(**statistics["video"]), LatentStatistics(**statistics["audio"])
