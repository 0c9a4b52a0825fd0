"""SyncNet's two towers, and how their weights are loaded: avgen neither ships nor downloads them.

Reference: Chung & Zisserman 2016, "Out of time: automated lip sync in the wild", in the form that
was released as `syncnet_v2.model` with github.com/joonson/syncnet_python (commit 6efbb1c; SHA-256
961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442, pinned by several independent
projects). Modules are named and numbered so that the released state dict fits.
"""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from avgen.errors import UserError
from avgen.evaluation.subject import Network

SIDE = 224  # pixels of the picture's side
WINDOW_FRAMES = 5  # frames that one embedding sees
WINDOW_ROWS = 20  # rows of cepstra that one embedding hears: 0.2 s
DIM = 1024  # of an embedding, which is not normalised


class SyncNet(nn.Module):
    """Embeds five frames of a face, and 0.2 s of sound, in one space."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_block2d(1, 64, 3, padding=1),
            nn.MaxPool2d(1),
            *_block2d(64, 192, 3, padding=1),
            nn.MaxPool2d(3, stride=(1, 2)),
            *_block2d(192, 384, 3, padding=1),
            *_block2d(384, 256, 3, padding=1),
            *_block2d(256, 256, 3, padding=1),
            nn.MaxPool2d(3, stride=2),
            *_block2d(256, 512, (5, 4), padding=0),
        )
        self.netfcaud = _head()
        self.netfclip = _head()
        halve = (1, 2, 2)
        self.netcnnlip = nn.Sequential(
            *_block3d(3, 96, (WINDOW_FRAMES, 7, 7), stride=halve),
            nn.MaxPool3d((1, 3, 3), stride=halve),
            *_block3d(96, 256, (1, 5, 5), stride=halve, padding=(0, 1, 1)),
            nn.MaxPool3d((1, 3, 3), stride=halve, padding=(0, 1, 1)),
            *_block3d(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            *_block3d(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            *_block3d(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            nn.MaxPool3d((1, 3, 3), stride=halve),
            *_block3d(256, 512, (1, 6, 6)),
        )

    def picture(self, frames: Tensor) -> Tensor:
        """Embeddings [T - 4, 1024] of frames [3, T, 224, 224], **BGR, 0 to 255**, T at least 5.

        Row t is of frames t to t + 4. Only the first kernel reaches over time, so a stretch of
        frames gives all its windows at once, with the numbers that each would have by itself.
        """
        features = self.netcnnlip(frames[None])[0, :, :, 0, 0]  # [512, T - 4]
        return self.netfclip(features.T)

    def sound(self, cepstra: Tensor) -> Tensor:
        """Embeddings [B, 1024] of windows of cepstra [B, 13, 20]."""
        return self.netfcaud(self.netcnnaud(cepstra[:, None]).flatten(1))


def _block2d(
    width_in: int, width: int, kernel: int | tuple[int, int], padding: int
) -> list[nn.Module]:
    return [nn.Conv2d(width_in, width, kernel, padding=padding), nn.BatchNorm2d(width), nn.ReLU()]


def _block3d(
    width_in: int,
    width: int,
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int] = (1, 1, 1),
    padding: tuple[int, int, int] = (0, 0, 0),
) -> list[nn.Module]:
    convolution = nn.Conv3d(width_in, width, kernel, stride=stride, padding=padding)
    return [convolution, nn.BatchNorm3d(width), nn.ReLU()]


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, DIM))


@cache
def load_syncnet(path: Path) -> SyncNet:
    """SyncNet, in evaluation mode, from the file of a state dict such as `syncnet_v2.model`.

    Raises:
        UserError: no such file, or one that holds something else.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; --weights syncnet=PATH names syncnet_v2.model")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(f"{path}: not a state dict that torch can read: {error}") from error
    network = SyncNet()
    _fill(network, state, path)
    return network.eval()


SYNCNET = Network(
    "syncnet", "SyncNet's released state dict, syncnet_v2.model: LSE-C, LSE-D", load_syncnet
)


def _fill(network: SyncNet, state: object, path: Path) -> None:
    """Loads `state`, which may lack the counters that batch norm did not have in 2017."""
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds a {type(state).__name__}; SyncNet's state dict is needed")
    try:
        missing, strange = network.load_state_dict(state, strict=False)
    except RuntimeError as error:  # shapes
        raise UserError(f"{path}: not SyncNet's state dict: {error}") from error
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or strange:
        raise UserError(
            f"{path}: not SyncNet's state dict: {len(missing)} of its tensors are missing "
            f"({missing[:2]}), {len(strange)} are strange ({list(strange)[:2]})"
        )
