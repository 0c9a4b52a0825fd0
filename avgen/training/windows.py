"""Pictures or sound of prepared folders -> batches of windows, for training a codec.

The number of a draw decides the clip (a permutation of the corpus an epoch), where the window
starts, and how the picture is varied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset
from torchdata.stateful_dataloader import StatefulDataLoader

from avgen.errors import UserError
from avgen.preparation.store import FULL_SCALE, Prepared, Store
from avgen.training.draws import Draws, clip_of_draw, hash_seed, loader_of, rank_and_world


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
        zoom: By how much nearer or further a window is seen at most, as a share of the picture's
            size, and half as much beside its middle; beyond its border it is mirrored.
        close: Share of the batches that are close-ups of the mouth, half of the picture each way,
            as it is shown: a quarter of the work, and all of it where a face speaks.
        anywhere: Whether the anchor is any frame of the clip, and not its first.
        flow: Whether they come with "flow" from the anchor, float32 [T, 2, H, W], from which a
            codec's mover learns.
    """

    flip: bool = False
    fast: float = 0.0
    flash: float = 0.0
    zoom: float = 0.0
    close: float = 0.0
    anywhere: bool = False
    flow: bool = False

    def step(self, random: np.random.Generator) -> int:
        """How many frames of the clip one frame of the window stands for."""
        return int(random.integers(2, 4)) if self.fast and random.random() < self.fast else 1

    def paint(
        self, frames: np.ndarray, first: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Frames uint8 [T, H, W, 3] and their anchor [H, W, 3], as the draw says.

        Both are mirrored and zoomed, or neither; the frames may have a flash.
        """
        if self.flip and random.integers(2):
            frames, first = frames[:, :, ::-1], first[:, ::-1]
        if self.zoom:
            frames = zoomed(np.stack([*frames, first]), self.zoom * random.uniform(-1, 1, 3))
            frames, first = frames[:-1], frames[-1]
        if self.flash and random.random() < self.flash:
            around, flash = random.integers(256, size=(2, 3)) if random.integers(2) else (0, 255)
            flat, at = random.integers(2), int(random.integers(len(frames)))
            frames = np.full_like(frames, around) if flat else np.array(frames)
            frames[at : at + int(random.integers(1, 6))] = flash
        return frames, first


AS_IT_IS = Variation()
MOUTH = (0.6875, 0.5)  # row and column of a close-up's middle, as shares of the picture
ABOUT = 0.06  # of the picture by which it lies beside it at most


def close_up(made: dict[str, Tensor], random: np.random.Generator) -> dict[str, Tensor]:
    """The part of a window's pictures around the mouth, half each way, and of its flow.

    Args:
        made: "video" uint8 [T, H, W, 3], "anchor" [H, W, 3], "flow" [T, 2, H, W] if there is one;
            the rest stays as it is.
        random: Says how far beside the mouth the middle lies.
    """
    height, width = made["anchor"].shape[:2]
    places = np.array(MOUTH) + ABOUT * random.uniform(-1, 1, 2) - 0.25
    top, left = (round(float(p) * n) for p, n in zip(places, (height, width), strict=True))
    rows, columns = slice(top, top + height // 2), slice(left, left + width // 2)
    pictures = {name: made[name][..., rows, columns, :] for name in ("video", "anchor")}
    flow = {name: made[name][..., rows, columns] for name in made.keys() & {"flow"}}
    return made | pictures | flow


def zoomed(frames: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Frames uint8 [T, H, W, 3] seen from nearer by a share of their size, and from beside.

    Args:
        frames: What is seen.
        by: How much nearer, how much further right and down, twice, as shares of the size: [3].
    """
    height, width = frames.shape[1:3]
    scale, middle = 1 / (1 + by[0]), np.array([width - 1, height - 1]) / 2
    from_x, from_y = middle + by[1:] / 2 * (width, height) - scale * middle
    seen = np.array([[scale, 0, from_x], [0, scale, from_y]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.stack(
        [
            cv2.warpAffine(f, seen, (width, height), None, how, cv2.BORDER_REFLECT_101)
            for f in frames
        ]
    )


def flow_from(first: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Where in a picture what each frame shows is, less where it is there.

    By dense inverse search (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", 2016).

    Args:
        first: The picture, uint8 [H, W, 3].
        frames: uint8 [T, H, W, 3].

    Returns:
        float32 [T, 2, H, W]: pixels across, pixels down.
    """
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    search.setFinestScale(0)
    before, *after = (
        cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in (first, *frames)
    )
    nothing: Any = None
    return np.stack([np.moveaxis(search.calc(frame, before, nothing), -1, 0) for frame in after])


class Windows(Dataset[dict[str, Any]]):
    """Windows of one modality of a prepared folder.

    The draw's number decides where a window starts.

    Args:
        prepared: The folder and split.
        modality: "video" (uint8 [T, H, W, 3], and "anchor", a frame of its clip [H, W, 3]) or
            "waveform" (float32 [C, N] in [-1, 1]). Where every face's expressions are known and
            pictures are not mirrored there are "expressions" and "anchor_expressions" too, float32
            [T, K] and [K].
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
        store = Store(prepared.folder)
        records = prepared.records()
        if modality == "video":
            records = [record for record in records if store.has_picture(record)]
        folder = prepared.folder / {"video": "frames", "waveform": "waveforms"}[modality]
        self.files = [folder / f"{record.id}.npy" for record in records]
        tracks = [record.tracks.get("expressions") for record in records]
        is_told = modality == "video" and all(tracks) and not variation.flip
        self.tracks = [prepared.folder / str(track) for track in tracks] if is_told else None
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
        number = clip_of_draw(draw, len(self.files), self.seed)
        clip = np.load(self.files[number], mmap_mode="r")
        random = np.random.default_rng(hash_seed(self.seed, draw))
        if self.modality == "waveform":
            return {
                "waveform": torch.from_numpy(self.window(clip.T, random).T).float() / FULL_SCALE
            }
        step = self.variation.step(random)
        at = self.window(np.arange(0, len(clip), step), random)
        origin = int(random.integers(len(clip))) if self.variation.anywhere else 0
        frames, first = self.variation.paint(clip[at], clip[origin], random)
        made = {"video": torch.from_numpy(np.array(frames))}
        made["anchor"] = torch.from_numpy(np.array(first))
        if self.variation.flow:
            made["flow"] = torch.from_numpy(flow_from(first, frames))
        if self.tracks is not None:
            track = torch.from_numpy(np.load(self.tracks[number])).float()
            made |= {"expressions": track[at], "anchor_expressions": track[origin]}
        return made

    def window(self, whole: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """`length` rows of an array from a drawn one on; what is short ends as it is, or in 0.

        A picture's last frame stays; after sound there is silence.
        """
        if self.length is None:
            return np.array(whole)
        short = max(0, self.length - len(whole))
        edge = [(0, short)] + [(0, 0)] * (whole.ndim - 1)
        mode = "edge" if self.modality == "video" else "constant"
        start = int(random.integers(len(whole) + short - self.length + 1))
        return np.pad(whole, edge, mode=mode)[start : start + self.length]


class WindowBatches(Dataset[dict[str, Tensor]]):
    """Batches of windows; those of a batch are of one folder, whose pictures have one size.

    Args:
        parts: The windows of each folder.
    """

    def __init__(self, parts: Sequence[Windows]) -> None:
        self.parts = parts

    def __getitem__(self, draws: list[tuple[int, int]]) -> dict[str, Tensor]:
        """The windows of some draws, each of them (folder, number); the first says how close."""
        windows = [self.parts[part][draw] for part, draw in draws]
        part, first = draws[0]
        seed = hash_seed(self.parts[part].seed, first, 1)
        random = np.random.default_rng(seed)
        if random.random() < self.parts[part].variation.close:
            windows = [close_up(window, random) for window in windows]
        return {name: torch.stack([window[name] for window in windows]) for name in windows[0]}


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
        """Random windows of the training clips, as many batches of each folder.

        Raises:
            UserError: there are fewer clips than one batch of every process needs.
        """
        parts = [
            Windows(
                Prepared(folder, "train"), self.modality, self.length, self.variation, self.seed
            )
            for folder in self.folders
        ]
        num_clips, batch = sum(map(len, parts)), self.batch_size * rank_and_world()[1]
        if num_clips < batch:
            raise UserError(f"batches of {batch} clips over all processes; there are {num_clips}")
        steps = Draws([len(part) for part in parts], self.batch_size, self.shares)
        return loader_of(WindowBatches(parts), steps, self.num_workers)

    def val_dataloader(self) -> DataLoader:
        """Whole validation clips, each once, one at a time, folder by folder."""
        parts = [
            Windows(Prepared(folder, "validation"), self.modality, None) for folder in self.folders
        ]
        return DataLoader(ConcatDataset(parts), batch_size=1)
