"""Motion of a mouth and loudness in bands -> features that follow each other when in sync.

Two small stacks of convolutions over time, one for the picture and one for the sound. What they put
out is compared by correlation (lags.py), so only what rises and falls together counts, never a
level: the same arithmetic in training and in scoring.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avgen.evaluation.sync import features as inputs


@dataclass(frozen=True)
class SyncConfig:
    """Sizes of the network.

    Attributes:
        picture_size: Numbers a frame of the picture: flattened motion, or landmarks' geometry.
        width: Channels inside.
        depth: Convolutions over time after the first projection, each reaching 2 frames each way.
        dim: Features that are compared.
        dropout: Share of channels silenced in training.
        bank_frames: Rows of the bank: features of speech that belongs to no clip, one recording
            after another, for telling how an unrelated sound scores.
    """

    picture_size: int = inputs.CHANNELS * inputs.CELLS**2
    width: int = 96
    depth: int = 3
    dim: int = 16
    dropout: float = 0.1
    bank_frames: int = 0


class Tower(nn.Module):
    """Rows [B, T * stride, size] -> features [B, T, dim], by convolutions over time."""

    def __init__(self, size: int, stride: int, config: SyncConfig) -> None:
        super().__init__()
        self.stride = stride
        self.project = nn.Conv1d(size, config.width, stride, stride)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(1, config.width),
                nn.Conv1d(config.width, config.width, 5, padding=2),
                nn.GELU(),
                nn.Dropout1d(config.dropout),
            )
            for _ in range(config.depth)
        )
        self.head = nn.Conv1d(config.width, config.dim, 1)

    def forward(self, rows: Tensor) -> Tensor:
        """[B, T * stride, size] -> [B, T, dim]."""
        hidden = self.project(rows.mT)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.head(hidden).mT


class SyncNetwork(nn.Module):
    """The two towers.

    Args:
        config: Sizes.
    """

    def __init__(self, config: SyncConfig) -> None:
        super().__init__()
        self.config = config
        self.picture = Tower(config.picture_size, 1, config)
        self.sound = Tower(inputs.NUM_MELS, inputs.MELS_PER_FRAME, config)
        self.bank: Tensor
        self.register_buffer("bank", torch.zeros(config.bank_frames, config.dim))

    def forward(self, picture: Tensor, sound: Tensor) -> tuple[Tensor, Tensor]:
        """Picture [B, T, picture_size], sound [B, T * 4, NUM_MELS] -> two times [B, T, dim].

        They are `sync_features.picture_rows` and `sync_features.log_mel`.
        """
        return self.picture(picture), self.sound(sound)


def standard_scores(features: Tensor) -> Tensor:
    """Features [B, T, D] with mean 0 and variance 1 over time."""
    centred = features - features.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()


def curves(picture: Tensor, sound: Tensor, max_lag: int) -> Tensor:
    """Mean correlation at each lag, as lags.correlation_curve but standardised once: [B, 2 m + 1].

    Args:
        picture: [B, T, D].
        sound: [B, T, D].
        max_lag: Frames each way; above 0 the sound comes first.
    """
    picture, sound = standard_scores(picture), standard_scores(sound)
    length = picture.shape[1]
    rows = []
    for lag in range(-max_lag, max_lag + 1):
        first, count = max(0, lag), length - abs(lag)
        one = picture[:, first : first + count]
        other = sound[:, first - lag : first - lag + count]
        rows.append((one * other).mean((1, 2)) * (count / length) ** 0.5)
    return torch.stack(rows, 1)
