"""Training of avgen-sync's `SyncNetwork`: its loss, its augmentation, its data.

The task of every clip: among its own sound at every lag, and the sounds of the other clips of the
batch, which one belongs? The logits are the correlations that scoring reads (evaluation/sync/
lags.py), so that what is trained is what is measured. There may be one speaker only to learn from,
so pictures and sounds are varied in what differs between people: place and size of the mouth, how
much it moves, pitch and formants, the colour and the noise of a recording.

Everything random is drawn on the CPU and moved, so that a seed means the same on every device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, default_collate

from avgen.errors import UserError
from avgen.evaluation.sync.features import NUM_MELS, picture_rows
from avgen.evaluation.sync.network import SyncConfig, SyncNetwork, curves, standard_scores
from avgen.training.draws import Draws, clip_of_draw, hash_seed, loader_of, rank_and_world
from avgen.training.optimization import OptimizerConfig

Draw = Callable[..., Tensor]  # torch.randn or torch.rand

PITCHES = (0.87, 1.0, 1.15, 1.32, 1.52)  # how much higher each prepared clip's voice is read as
AS_IT_IS = PITCHES.index(1.0)
NEAR = 0.6  # frames: the lags beside the right one are right by a Gaussian of this width


@dataclass(frozen=True)
class SyncVariation:
    """How far clips are varied; 0 everywhere leaves them as they are.

    Attributes:
        shift: Places of the mouth in its region, in half sides.
        scale: Sizes of the mouth, as a factor's logarithm.
        turn: Rotations, in radians.
        stretch: Heights of the mouth against its width, as a factor's logarithm.
        noise: Of the motion, in its own standard deviations.
        drift: Motion of the whole head, likewise.
        bands: Gain of a place on the grid or of a sound's band, as a factor's logarithm.
        noise_db: The loudest noise put under the sound, in dB below its loudest; quieter down to 60
            dB; 0 for none.
    """

    shift: float = 0.15
    scale: float = 0.2
    turn: float = 0.15
    stretch: float = 0.15
    noise: float = 0.3
    drift: float = 0.5
    bands: float = 0.3
    noise_db: float = 15.0


def varied_motion(motion: Tensor, vary: SyncVariation, generator: torch.Generator) -> Tensor:
    """Motion [B, T, 3, G, G] of another face: placed, sized, mirrored, trembling otherwise."""
    batch, length, channels, cells, _ = motion.shape

    def drawn(*shape: int, kind: Draw = torch.randn) -> Tensor:
        return kind(*shape, generator=generator).to(motion.device)

    mirror = torch.where(drawn(batch, kind=torch.rand) < 0.5, -1.0, 1.0)
    angle, size = vary.turn * drawn(batch), (vary.scale * drawn(batch)).exp()
    tall = size * (vary.stretch * drawn(batch)).exp()
    cos, sin = angle.cos(), angle.sin()
    matrix = torch.stack(
        [
            torch.stack([mirror * size * cos, -size * sin, vary.shift * drawn(batch)], 1),
            torch.stack([mirror * tall * sin, tall * cos, vary.shift * drawn(batch)], 1),
        ],
        1,
    )
    grid = functional.affine_grid(matrix, [batch, 1, cells, cells], align_corners=False)
    flat = motion.reshape(batch, length * channels, cells, cells)
    placed = functional.grid_sample(flat, grid, padding_mode="border", align_corners=False)
    placed = placed.reshape(motion.shape)
    signs = torch.ones(batch, 1, channels, 1, 1, device=motion.device)
    signs[:, 0, 0, 0, 0] = mirror
    spread = placed.square().mean((1, 3, 4), keepdim=True).sqrt()
    head = drawn(batch, length, channels, 1, 1) * drawn(batch, 1, 1, 1, 1, kind=torch.rand)
    gain = (vary.bands * drawn(batch, 1, 1, 4, 4)).flatten(1, 2)
    gain = functional.interpolate(gain, (cells, cells), mode="bilinear")[:, :, None].exp()
    trembling = vary.noise * drawn(*motion.shape) + vary.drift * head
    return placed * signs * gain + spread * trembling


def varied_sound(mels: Tensor, vary: SyncVariation, generator: torch.Generator) -> Tensor:
    """Loudness [B, 4 T, M] of another voice and microphone, of mels [B, V, 4 T, M] in V pitches.

    Two pitches are mixed in the logarithm, noise is put under the sum, and bands weigh otherwise.
    """
    batch, voices = mels.shape[:2]

    def drawn(*shape: int, kind: Draw = torch.randn) -> Tensor:
        return kind(*shape, generator=generator).to(mels.device)

    which = torch.randint(voices - 1, (batch,), generator=generator).to(mels.device)
    share = drawn(batch, 1, 1, kind=torch.rand)
    rows = torch.arange(batch, device=mels.device)
    mixed = torch.lerp(mels[rows, which], mels[rows, which + 1], share)
    if vary.noise_db:
        loudest = mixed.amax((1, 2), keepdim=True)
        depth = vary.noise_db + (60 - vary.noise_db) * drawn(batch, 1, 1, kind=torch.rand)
        colour = functional.interpolate(drawn(batch, 1, 4) * 0.5, NUM_MELS, mode="linear")
        flicker = drawn(*mixed.shape) * 0.1
        floor = loudest - depth / 10 + colour + flicker
        ten = float(np.log(10))
        mixed = torch.logaddexp(mixed * ten, floor * ten) / ten
    gain = (vary.bands * drawn(batch, 1, 6)).exp()
    mixed = mixed * functional.interpolate(gain, NUM_MELS, mode="linear")
    return mixed - mixed.mean(1, keepdim=True)


def sync_loss(picture: Tensor, sound: Tensor, max_lag: int, sharpness: Tensor) -> Tensor:
    """Cross-entropy of each clip's own sound at lag 0 against other lags and other clips' sounds.

    Args:
        picture: Features [B, T, D].
        sound: Features [B, T, D].
        max_lag: Frames each way.
        sharpness: What correlations are multiplied with to be logits.
    """
    own = curves(picture, sound, max_lag)
    one, other = standard_scores(picture).flatten(1), standard_scores(sound).flatten(1)
    cross = one @ other.T / one.shape[1]
    # Without its diagonal, row by row: of the flat matrix, all but every (B + 1)th number.
    size = len(cross)
    others = cross.flatten()[1:].reshape(size - 1, size + 1)[:, :-1].reshape(size, size - 1)
    logits = sharpness * torch.cat([own, others], 1)
    lags = torch.arange(-max_lag, max_lag + 1, device=own.device)
    target = torch.exp(-0.5 * (lags / NEAR) ** 2)
    target = functional.pad(target / target.sum(), (0, logits.shape[1] - len(lags)))
    return functional.cross_entropy(logits, target.expand_as(logits))


class SyncSystem(L.LightningModule):
    """Trains a `SyncNetwork` on batches of `motion` [B, T, 3, G, G] and `mels` [B, V, 4 T, M].

    Args:
        network: Its sizes.
        optimizer: Learning rate and its course.
        variation: How clips are varied.
        max_lag: Frames each way that the right lag is told from.
        shortest: Least frames of a training window; each batch draws its own length.
    """

    def __init__(
        self,
        network: SyncConfig,
        optimizer: OptimizerConfig,
        variation: SyncVariation,
        max_lag: int = 15,
        shortest: int = 40,
    ) -> None:
        super().__init__()
        self.network = SyncNetwork(network)
        self.optimizer, self.variation = optimizer, variation
        self.max_lag, self.shortest = max_lag, shortest
        self.log_sharpness = torch.nn.Parameter(torch.tensor(3.0))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss of varied windows of one length."""
        generator = torch.Generator().manual_seed(int(batch["seed"][0]))
        motion = varied_motion(batch["motion"].float(), self.variation, generator)
        sound = varied_sound(batch["mels"].float(), self.variation, generator)
        total, stride = motion.shape[1], sound.shape[1] // motion.shape[1]
        length = int(torch.randint(self.shortest, total + 1, (), generator=generator))
        start = int(torch.randint(total - length + 1, (), generator=generator))
        motion = motion[:, start : start + length]
        sound = sound[:, start * stride : (start + length) * stride]
        loss = self.loss(motion, sound - sound.mean(1, keepdim=True))
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Loss, and the share of clips whose best lag is within one frame, as they are."""
        picture = self.network.picture(picture_rows(batch["motion"].float()))
        sound = self.network.sound(batch["mels"][:, AS_IT_IS].float())
        best = curves(picture, sound, self.max_lag).argmax(1) - self.max_lag
        loss = sync_loss(picture, sound, self.max_lag, self.log_sharpness.exp())
        self.log("val/loss", loss, prog_bar=True)
        self.log("val/within_one", (best.abs() <= 1).float().mean(), prog_bar=True)

    def loss(self, motion: Tensor, sound: Tensor) -> Tensor:
        """`sync_loss` of motion [B, T, 3, G, G] and sound [B, 4 T, M]."""
        picture, sound = self.network(picture_rows(motion), sound)
        return sync_loss(picture, sound, self.max_lag, self.log_sharpness.exp())

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam with decoupled decay, warm-up and cosine."""
        config = self.optimizer
        optimizer = torch.optim.AdamW(
            self.parameters(), config.lr, weight_decay=config.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, config.factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


class SyncClips(Dataset):
    """Prepared clips (recipes/sync/prepare.py), numbered by draw: `draws.clip_of_draw`.

    Args:
        folder: Holds SPLIT/ID.npz with motion [T, 3, G, G] and mels [V, 4 T, M] at PITCHES,
            float16.
        split: "train" or "validation".
        seed: Of the order; None for the folder's own.

    Raises:
        UserError: no clips there, or of several lengths.
    """

    def __init__(self, folder: Path, split: str, seed: int | None) -> None:
        files = sorted((folder / split).glob("*.npz"))
        if not files:
            raise UserError(f"{folder / split}: no .npz; recipes/sync/prepare.py makes them")
        self.clips = [{name: np.load(file)[name] for name in ("motion", "mels")} for file in files]
        lengths = {len(clip["motion"]) for clip in self.clips}
        if len(lengths) > 1:
            raise UserError(f"{folder / split}: clips of {sorted(lengths)} frames; one length")
        self.seed = seed

    def __len__(self) -> int:
        """How many clips."""
        return len(self.clips)

    def __getitem__(self, draw: int) -> dict[str, Any]:
        """Motion, mels and a seed of the clip of a draw."""
        if self.seed is None:
            return {**self.clips[draw], "seed": 0}
        index = clip_of_draw(draw, len(self.clips), self.seed)
        return {**self.clips[index], "seed": hash_seed(self.seed, draw)}


class SyncBatches(Dataset):
    """Batches of `SyncClips`, by the numbers of their draws.

    Args:
        clips: With a seed.
    """

    def __init__(self, clips: SyncClips) -> None:
        self.clips = clips

    def __getitem__(self, draws: list[tuple[int, int]]) -> dict[str, Tensor]:
        """The clips of some draws, each of them (0, number)."""
        return default_collate([self.clips[draw] for _, draw in draws])


class SyncData(L.LightningDataModule):
    """Batches of `SyncClips`.

    Args:
        folder: Where prepare.py wrote.
        batch_size: Clips a step; each one's sound is a negative for all others.
        seed: Of the order and of what is varied.
    """

    def __init__(self, folder: Path, batch_size: int, seed: int = 0) -> None:
        super().__init__()
        self.folder, self.batch_size, self.seed = folder, batch_size, seed

    def train_dataloader(self) -> Any:
        """Training clips, resumable in the middle of an epoch.

        Raises:
            UserError: there are fewer clips than one batch of every process needs.
        """
        clips = SyncClips(self.folder, "train", self.seed)
        least = self.batch_size * rank_and_world()[1]
        if len(clips) < least:
            raise UserError(f"batches of {least} clips over all processes; there are {len(clips)}")
        return loader_of(SyncBatches(clips), Draws([len(clips)], self.batch_size))

    def val_dataloader(self) -> DataLoader:
        """Validation clips in one batch."""
        clips = SyncClips(self.folder, "validation", None)
        return DataLoader(clips, batch_size=len(clips))
