"""Training whose weights are spread over processes: FSDP2, through Lightning's strategy for it.

    model: {class_path: avgen.training.sharding.ShardedDiffusionSystem, ...}
    trainer:
      strategy: {class_path: lightning.pytorch.strategies.ModelParallelStrategy,
                 init_args: {data_parallel_size: N, tensor_parallel_size: 1}}
      callbacks: [{class_path: avgen.training.sharding.ShardedEMA, init_args: {decay: 0.999}}, ...]

Lightning's own averaging copies the whole model, which sharded modules refuse. Here the average is
a module beside the one that trains, sharded as it is, so that it is saved and loaded with it.
"""

from __future__ import annotations

import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from avgen.errors import UserError
from avgen.models.transformer import AVTransformer
from avgen.training.system import DiffusionSystem

AVERAGED = "averaged"  # what the module of averages is called in its system


class ShardedDiffusionSystem(DiffusionSystem):
    """`DiffusionSystem` for Lightning's ModelParallelStrategy; the same on one process."""

    def configure_model(self) -> None:
        """Shard the network, and its average where there is one; a second call does nothing."""
        if self.device_mesh is None:
            return
        for name, module in self.named_children():
            if isinstance(module, AVTransformer) and not isinstance(module, FSDPModule):
                assert name in ("transformer", AVERAGED)
                shard(module, self.device_mesh["data_parallel"])


def shard(transformer: AVTransformer, mesh: DeviceMesh) -> None:
    """Spread a transformer's weights over a mesh; each block is gathered when it is its turn."""
    for block in transformer.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(transformer, mesh=mesh)
    register_fsdp_forward_method(transformer, "prepare")


class ShardedEMA(Callback):
    """An exponential moving average of the weights that survives sharding.

    It lives in the system as `averaged`, takes the weights' place during validation, and comes out
    of a checkpoint, sharded or not, by `averaged.*` (`avgen export` does).

    Args:
        decay: Share of the average that a step keeps.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.step = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Make the average, before anything is sharded."""
        if stage == "fit" and not hasattr(pl_module, AVERAGED):
            assert isinstance(pl_module, DiffusionSystem)
            averaged = copy.deepcopy(pl_module.transformer).requires_grad_(False)
            pl_module.add_module(AVERAGED, averaged)

    def pairs(self, system: L.LightningModule) -> list[tuple[Tensor, Tensor]]:
        """Every averaged parameter and the one that it averages, both as shards."""
        averaged, current = getattr(system, AVERAGED), system.transformer
        assert isinstance(averaged, nn.Module)
        assert isinstance(current, nn.Module)
        for module in current.modules():  # a forward pass without a backward one leaves some whole
            if isinstance(module, FSDPModule):
                module.reshard()
        return list(zip(averaged.parameters(), current.parameters(), strict=True))

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take the step's weights into the average; a batch that was no step's end takes none."""
        if trainer.global_step > self.step:
            self.step = trainer.global_step
            for average, current in self.pairs(pl_module):
                average.lerp_(current, 1 - self.decay)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate with the average."""
        self.swap(pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on training with the weights."""
        self.swap(pl_module)

    @torch.no_grad()
    def swap(self, system: L.LightningModule) -> None:
        """Exchange the weights and their average."""
        for average, current in self.pairs(system):
            kept = average.clone()
            average.copy_(current)
            current.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """The last step that was averaged."""
        return {"step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.step = state_dict["step"]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A Lightning checkpoint on one process: a file, or the folder that a sharded run writes.

    Raises:
        UserError: it is neither.
    """
    if path.is_file():
        return torch.load(path, map_location="cpu", weights_only=True)
    if not (path / ".metadata").is_file():
        raise UserError(f"{path}: neither a checkpoint file nor a folder of a sharded run")
    with TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.ckpt"
        dcp_to_torch_save(path, whole)
        rest = torch.load(path / "meta.pt", map_location="cpu", weights_only=True)
        return rest | torch.load(whole, map_location="cpu", weights_only=True)
