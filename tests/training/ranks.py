"""Starts trainings of several processes: as torchrun does, or forked from one that is ready."""

import multiprocessing
import os
import socket
import subprocess
import sys
from multiprocessing.connection import wait
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parents[2]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["avgen.training.lightning_cli"])  # 12 s of a processor, once
RANK = """
import os, sys
for stream in (1, 2):
    os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
os.environ.update(environment)
os.chdir(folder)
sys.path.insert(0, folder)
import torch
from avgen import cli
torch.set_num_threads(1)
sys.exit(cli.main(arguments))
"""
RECORD = """
import time
from pathlib import Path
import torch
from lightning.pytorch.callbacks import Callback
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.tensor import DTensor
from avgen.training import optimization
from avgen.training.callbacks import Samples

class Keep(Samples):
    def log_clips(self, clips, trainer):
        made = {i: (clip.frames, clip.waveform) for i, clip in clips.items()}
        torch.save(made, "clips.pt")

class SlowStager(DefaultStager):
    def _stage(self, state, **options):
        time.sleep(0.7)  # longer than a step
        return super()._stage(state, **options)

class SlowCopies(Callback):
    def on_train_start(self, trainer, pl_module):
        trainer.strategy.stager = SlowStager(StagingOptions(False, False, True, False))

class Exact(Callback):  # Muon in float32, also where there are units for bfloat16
    def setup(self, trainer, pl_module, stage):
        optimization.computes_bfloat16 = lambda _: False

class Record(Callback):
    def __init__(self, folder: str):
        self.folder, self.losses, self.draws = Path(folder), [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(trainer.callback_metrics["train/loss"]))
        self.draws.append(batch["draws"])

    def on_fit_end(self, trainer, pl_module):
        weights = {n: p.detach().full_tensor() if isinstance(p, DTensor) else p.detach()
                   for n, p in pl_module.named_parameters()}
        sharded = [n for n, p in pl_module.named_parameters() if isinstance(p, DTensor)]
        record = {"losses": self.losses, "draws": self.draws, "weights": weights,
                  "sharded": sharded}
        torch.save(record, self.folder / f"{trainer.global_rank}.pt")
"""


def environment(folder):
    (folder / "record.py").write_text(RECORD)
    path = os.pathsep.join((str(REPOSITORY), str(folder)))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def torchrun(recipe, *options):
    """Start `torchrun OPTIONS -m avgen.cli train --config RECIPE`."""
    command = [sys.executable, "-m", "torch.distributed.run", *options]
    command += ["-m", "avgen.cli", "train", "--config", str(recipe)]
    return subprocess.Popen(
        command, env=environment(recipe.parent), cwd=recipe.parent, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


class Ranks:
    """The processes of `torchrun --standalone --nproc-per-node WORLD`, forked from one that has
    imported Lightning."""

    def __init__(self, recipe, world, *arguments):
        folder = str(recipe.parent)
        self.output, port = recipe.parent / "output.txt", free_port()
        self.ranks = []
        for rank in map(str, range(world)):
            own = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": "0", "MASTER_PORT": str(port)}
            own |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
            own |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "tests"}
            known = {"environment": environment(recipe.parent) | own, "folder": folder}
            known["arguments"] = ["train", "--config", str(recipe), *arguments]
            known["output"] = str(self.output)
            self.ranks.append(FORKS.Process(target=exec, args=(RANK, known)))
            self.ranks[-1].start()

    def communicate(self, timeout):
        """Wait for all, or for the first that fails; the others would wait for it for ever."""
        running = {rank.sentinel: rank for rank in self.ranks}
        late = None
        while running:
            if not (ended := wait(list(running), timeout)):
                late = TimeoutError(f"no process ended within {timeout} s")
                break
            for sentinel in ended:
                running.pop(sentinel).join()
            if any(rank.exitcode for rank in self.ranks):
                break
        for rank in running.values():
            rank.kill()
            rank.join()
        if late is not None:
            raise late
        self.returncode = max((abs(rank.exitcode) for rank in self.ranks), default=0)
        return self.output.read_text(), None


def fork(function, *arguments):
    """`function(rank, *arguments)` in two such processes; raises what one of them did."""
    torch.multiprocessing.start_processes(function, arguments, 2, start_method="forkserver")


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def finish(*processes):
    outputs = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(outputs)
