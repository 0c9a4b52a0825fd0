"""Training whose weights are spread over processes: FSDP2, through Lightning's strategy for it.

    sharding: {replicas: 1}     # in a recipe: all that it takes

No process ever has the whole network: each block is made, sharded, and forgotten but for the share.
Where the run computes in bfloat16, weights are gathered in it and gradients reduced in float32.
Checkpoints are written while training goes on. Lightning's own averaging copies the whole model,
which sharded modules refuse; here the average is a module beside the one that trains, sharded as it
is, so that it is saved and loaded with it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint import async_save
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)

from avgen.errors import UserError
from avgen.models.backbone import Backbone
from avgen.training.system import DiffusionSystem, NetworkConfig, build_network

AVERAGED = "averaged"  # what the module of averages is called in its system


@dataclass(frozen=True)
class Sharding:
    """How weights are spread.

    Args:
        replicas: Of the network; each is spread over as many processes as there are for one, those
            of a machine say, and only gradients go between them (HSDP).
    """

    replicas: int = 1


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's for FSDP2, with replicas, and checkpoints that are written as training goes on.

    A checkpoint is copied while the next forward and backward passes read the weights, and written
    while training goes on. It is whole when its `.metadata` is there, which is written last.

    Args:
        replicas: See `Sharding`.
    """

    def __init__(self, replicas: int = 1) -> None:
        super().__init__()
        self.replicas = replicas
        self.saving: Any = None
        self.group: Any = None
        self.stager: Any = None

    def setup_environment(self) -> None:
        """Spread over all processes.

        Raises:
            UserError: they are not as many for each replica.
        """
        world = self.num_processes * self.num_nodes
        if world % self.replicas:
            raise UserError(f"sharding.replicas is {self.replicas}; it must divide {world}")
        self._data_parallel_size, self._tensor_parallel_size = world, 1
        super().setup_environment()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None
    ) -> None:
        """Copy the state and write it beside training; one that is being written is waited for."""
        self.finish_saving()
        path = Path(self.broadcast(filepath))
        path.mkdir(parents=True, exist_ok=True)
        state = {"state_dict": checkpoint.pop("state_dict")}
        for index, own in enumerate(checkpoint.pop("optimizer_states", [])):
            state[f"optimizer_{index}"] = own
        if self.group is None:  # training's own group is busy
            self.group = torch.distributed.new_group(backend="gloo")
        if self.stager is None:  # its stream is of the process's own GPU, which is known by now
            cuda = torch.cuda.is_available()  # copies go into the same memory, pinned, every time
            self.stager = DefaultStager(StagingOptions(cuda, False, True, cuda))
        if self.global_rank == 0:
            torch.save(checkpoint, path / "meta.pt")
        place = {"checkpoint_id": path, "process_group": self.group}
        self.saving = async_save(state, **place, async_stager=self.stager)

    def optimizer_step(self, optimizer: Any, closure: Any, model: Any = None, **kwargs: Any) -> Any:
        """The step; weights change when they have been copied for a checkpoint."""

        def passes() -> Any:
            loss = closure()
            self.finish_copying()
            return loss

        return super().optimizer_step(optimizer, passes, model, **kwargs)

    def finish_copying(self) -> None:
        """Wait until the state of the checkpoint that is being written may change, if one is."""
        if self.saving is not None:
            self.saving.staging_completion.result()

    def finish_saving(self) -> None:
        """Wait for the checkpoint that is being written, if one is.

        Raises:
            OSError: it could not be.
        """
        if self.saving is not None:
            self.saving.upload_completion.result()
            self.saving = None

    def teardown(self) -> None:
        """Finish, then end."""
        self.finish_saving()
        if self.stager is not None:
            self.stager.close()
            self.stager = None
        super().teardown()


class ShardedDiffusionSystem(DiffusionSystem):
    """`DiffusionSystem` for Lightning's ModelParallelStrategy; the same on one process."""

    def configure_model(self) -> None:
        """Shard the network, and its average where there is one; a second call does nothing."""
        if self.device_mesh is None:
            return
        for name, module in self.named_children():
            if name in ("transformer", AVERAGED) and not isinstance(module, FSDPModule):
                assert isinstance(module, Backbone)
                shard(module, self.mesh(), self.policy())

    def mesh(self) -> DeviceMesh:
        """Of the processes: (all), or (replicas, processes of one)."""
        assert self.device_mesh is not None
        mesh, strategy = self.device_mesh["data_parallel"], self.trainer.strategy
        replicas = strategy.replicas if isinstance(strategy, ShardedStrategy) else 1
        if replicas == 1:
            return mesh
        shape = replicas, mesh.size() // replicas
        return init_device_mesh(mesh.device_type, shape, mesh_dim_names=("replicas", "shards"))

    def policy(self) -> MixedPrecisionPolicy:
        """Gathers two bytes a weight where the run computes in bfloat16; seconds stay exact."""
        if "bf16" not in str(self.trainer.precision):
            return MixedPrecisionPolicy()
        half = {"param_dtype": torch.bfloat16, "reduce_dtype": torch.float32}
        return MixedPrecisionPolicy(**half, cast_forward_inputs=False)


class LateDiffusionSystem(ShardedDiffusionSystem):
    """The same; its weights are made when processes know each other, to each its share alone.

    They are the numbers that one process would have made. What begins as another model is, adapted
    or somebody else's network, is made whole on each process first.
    """

    keeps_average = False
    is_made = False

    def begin(self, network: NetworkConfig) -> Any:
        """Shapes without numbers, until `configure_model`."""
        self.network, self.random = network, torch.get_rng_state()
        with torch.device("meta"):
            return build_network(network, self.latents)

    def configure_model(self) -> None:
        """Make the network, and its average if one is kept; a second call does nothing."""
        if self.is_made:
            return
        self.is_made = True
        self.transformer = self.make()
        statistics = self.video_statistics, self.audio_statistics  # of what it starts from
        own = {"statistics": statistics, "read": self.transformer.read}
        self.drawing = replace(self.drawing, **own)
        if self.keeps_average:
            self.add_module(AVERAGED, self.make().requires_grad_(False))
        super().configure_model()

    def make(self) -> Any:
        """A network as it starts, blocks sharded one after another."""
        network, each = self.network, None
        if self.device_mesh is not None and not network.starts_whole:
            each = partial(fully_shard, mesh=self.mesh(), mp_policy=self.policy())
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.random)
            return self.started(network, each)


def shard(transformer: Backbone, mesh: DeviceMesh, policy: MixedPrecisionPolicy) -> None:
    """Spread a transformer's weights over a mesh; each block is gathered when it is its turn."""
    assert isinstance(transformer, nn.Module)
    for block in transformer.blocks:
        if not isinstance(block, FSDPModule):
            fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(transformer, mesh=mesh, mp_policy=policy)
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
        if isinstance(pl_module, LateDiffusionSystem):
            pl_module.keeps_average = True
        elif stage == "fit" and not hasattr(pl_module, AVERAGED):
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
        """Take the step's weights into the average; a batch that was no step's end takes none.

        It begins with those after the first step, as Lightning's does.
        """
        if trainer.global_step > self.step:
            for average, current in self.pairs(pl_module):
                if self.step:
                    average.lerp_(current, 1 - self.decay)
                else:
                    average.copy_(current)
            self.step = trainer.global_step

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate with the average."""
        if isinstance(trainer.strategy, ShardedStrategy):
            trainer.strategy.finish_copying()
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
