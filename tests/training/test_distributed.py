"""Processes and nodes share a training, and it is the training of one process.

Two gloo processes with DDP, two "nodes" of one process each on loopback (torchrun), and two
processes with FSDP2: the same clips, the same losses, and weights that one process can load.
"""

import copy
import ctypes
import json
import re
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import yaml
from ranks import Ranks, finish, fork, free_port, torchrun
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from avgen import __version__
from avgen.codecs.base import load_module
from avgen.diffusion.path import clean_from_velocity
from avgen.diffusion.samplers import euler
from avgen.latents.context import distinct_levels
from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import make_layout
from avgen.models.text import make_text
from avgen.models.transformer import AVTransformer, AVTransformerConfig
from avgen.preparation.latent_store import encoder_fingerprint
from avgen.training.lightning_cli import instantiate
from avgen.training.model_export import averaged_weights
from avgen.training.sharding import read_checkpoint, shard

STEPS = 6
M_MMAP_THRESHOLD = -3  # of glibc's mallopt


@pytest.fixture
def mixed_recipe(recipe, prepared_mixed):
    """Four clips a step, of one shape, over all processes; arithmetic in float32."""
    recipe = copy.deepcopy(recipe)
    recipe["model"]["init_args"]["folder"] = str(prepared_mixed)
    recipe["data"] = {
        "class_path": "avgen.training.data.ClipData",
        "init_args": {
            "folder": str(prepared_mixed),
            "batching": {
                "class_path": "avgen.training.batches.Buckets",
                "init_args": {"batch_size": 4, "lengths_s": [0.3, 0.68]},
            },
        },
    }
    recipe["trainer"] |= {"precision": "32-true", "max_steps": STEPS, "callbacks": []}
    recipe["trainer"] |= {"enable_checkpointing": False}
    return recipe


def write(recipe, folder, batch_size, *callbacks, **trainer):
    """The recipe as a file, that notes in `folder` how it went."""
    folder.mkdir()
    recipe = copy.deepcopy(recipe)
    recipe["data"]["init_args"]["batching"]["init_args"]["batch_size"] = batch_size
    record = {"class_path": "record.Record", "init_args": {"folder": str(folder)}}
    recipe["trainer"] |= {"default_root_dir": str(folder), **trainer}
    recipe["trainer"]["callbacks"] = [*callbacks, record]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder / "recipe.yaml"


def run_alone(mixed_recipe, tmp_path, *callbacks):
    recipe = write(mixed_recipe, tmp_path / "one", 4, *callbacks)
    finish(Ranks(recipe, 1))
    return torch.load(tmp_path / "one" / "0.pt")


def apart(weight, expected):
    """Norm of the difference over the norm. Muon's steps are of length 1 in bfloat16, and its first
    ones of gradients near 0: what is rounding there is a few percent here."""
    return float((weight - expected).norm() / expected.norm().clamp_min(1e-3))


def assert_one_training(one, ranks):
    """The same clips and losses; each process has its own half of the clips."""
    for rank in ranks:
        assert rank["losses"] == pytest.approx(one["losses"], rel=2e-4)
        assert rank["losses"][0] == pytest.approx(one["losses"][0], rel=1e-6)
    for step, draws in enumerate(one["draws"]):
        taken = [rank["draws"][step] for rank in ranks]
        assert sorted(draws) == sorted(draw for own in taken for draw in own)
    assert one["losses"][0] != pytest.approx(one["losses"][-1], rel=1e-2)
    for name, weight in one["weights"].items():
        for rank in ranks:
            assert apart(rank["weights"][name], weight) < 0.15, name


@pytest.mark.slow
def test_two_processes_and_two_nodes_are_one_training(mixed_recipe, tmp_path):
    """Mean losses alone would not do: the processes' clips have other given tokens each."""
    one = run_alone(mixed_recipe, tmp_path)
    recipe = write(mixed_recipe, tmp_path / "two", 2, strategy="ddp", devices=2)
    finish(Ranks(recipe, 2))
    assert_one_training(one, [torch.load(tmp_path / "two" / f"{rank}.pt") for rank in (0, 1)])

    recipe = write(mixed_recipe, tmp_path / "nodes", 2, strategy="ddp", devices=1, num_nodes=2)
    port = free_port()
    nodes = [
        torchrun(
            recipe, "--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(rank),
            "--master-addr", "127.0.0.1", "--master-port", str(port),
        )
        for rank in (0, 1)
    ]  # fmt: skip
    finish(*nodes)
    assert_one_training(one, [torch.load(tmp_path / "nodes" / f"{rank}.pt") for rank in (0, 1)])


def sample(transformer, layout):
    """A clip's tokens by four steps of Euler."""
    text = make_text(["a man"], [[]])
    noise = torch.randn(1, layout.num_tokens, layout.token_width, generator=seeded(3))

    context = transformer.prepare(layout, text)

    def denoise(noisy, sigma):
        levels = torch.as_tensor(sigma).expand(1, layout.num_tokens)
        return clean_from_velocity(noisy, transformer(noisy, levels, context), levels)

    with torch.no_grad():
        return euler(denoise, noise * layout.used, torch.linspace(1, 0, 5))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.slow
def test_sharded_is_one_training_and_its_checkpoint_loads_on_one_process(mixed_recipe, tmp_path):
    sharding = "avgen.training.sharding"
    mixed_recipe["model"]["class_path"] = f"{sharding}.ShardedDiffusionSystem"
    average = {"class_path": f"{sharding}.ShardedEMA", "init_args": {"decay": 0.7}}
    saved = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {
            "dirpath": str(tmp_path / "saved"),
            "filename": "{step}",
            "every_n_train_steps": 3,
            "save_top_k": -1,
        },
    }
    one = run_alone(mixed_recipe, tmp_path, average)
    strategy = {
        "class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
        "init_args": {"data_parallel_size": 2, "tensor_parallel_size": 1},
    }
    options = {"strategy": strategy, "devices": 2, "enable_checkpointing": True}
    recipe = write(mixed_recipe, tmp_path / "two", 2, average, saved, **options)
    finish(Ranks(recipe, 2))
    ranks = [torch.load(tmp_path / "two" / f"{rank}.pt") for rank in (0, 1)]
    assert_one_training(one, ranks)
    assert set(ranks[0]["sharded"]) == ranks[0]["weights"].keys()

    folder = tmp_path / "saved" / f"step={STEPS}.ckpt"
    assert len(list(folder.glob("*.distcp"))) == 2  # a part of each process
    checkpoint = read_checkpoint(folder)
    assert checkpoint["global_step"] == STEPS
    assert checkpoint["avgen"]["version"] == __version__
    state = checkpoint["state_dict"]
    averages = averaged_weights(folder, "transformer.")  # what `avgen export` takes
    assert all(torch.equal(w, state[f"averaged.{n}"]) for n, w in averages.items())
    plain = copy.deepcopy(mixed_recipe)
    plain["trainer"]["callbacks"] = []
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(plain))
    system = instantiate(["--config", str(tmp_path / "plain.yaml")]).model
    layout = make_layout(*system.latents.grids(9))
    for prefix in ("transformer.", "averaged."):
        made = []
        for weights in (state, ranks[0]["weights"]):
            own = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
            system.transformer.load_state_dict(own)
            made.append(sample(system.transformer, layout))
        assert torch.equal(*made)
        assert float(made[0].abs().max()) > 0.5
    # the average lags behind, by what six steps of 0.7 have left of the first
    name = "transformer.outward.0.weight"
    assert not torch.equal(state[name], state[name.replace("transformer", "averaged")])
    name = name.replace("transformer", "averaged")
    assert apart(state[name], one["weights"][name]) < 0.15

    # and a run goes on from such a folder as if it had not stopped
    options["enable_checkpointing"] = False
    recipe = write(mixed_recipe, tmp_path / "again", 2, average, **options)
    halfway = ("--ckpt_path", str(tmp_path / "saved" / "step=3.ckpt"))
    finish(Ranks(recipe, 2, *halfway))
    again = torch.load(tmp_path / "again" / "0.pt")
    assert again["losses"] == ranks[0]["losses"][3:]
    for name, weight in ranks[0]["weights"].items():
        assert torch.equal(weight, again["weights"][name]), name


@pytest.mark.slow
def test_sharded_training_is_watched(mixed_recipe, prepared_mixed, tiny_model, tmp_path):
    """All processes generate, one logs: neither waits for ever (faults.md, 3.2)."""
    sharding = "avgen.training.sharding"
    mixed_recipe["model"]["class_path"] = f"{sharding}.ShardedDiffusionSystem"
    path = prepared_mixed / "latents" / "config.json"
    codecs = [load_module(tiny_model / name) for name in ("video_codec", "audio_codec")]
    made_with = {"fingerprint": encoder_fingerprint(*codecs)}
    path.write_text(json.dumps(json.loads(path.read_text()) | made_with))
    own = {"folder": str(prepared_mixed), "codecs": str(tiny_model), "num_frames": 9}
    callbacks = [
        {"class_path": "record.Keep", "init_args": own | {"prompts": ['"red"', "a man"]}},
        {
            "class_path": "avgen.training.callbacks.Synchrony",
            "init_args": own | {"num_clips": 2},
        },
        {"class_path": f"{sharding}.ShardedEMA", "init_args": {"decay": 0.5}},
    ]
    strategy = {
        "class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
        "init_args": {"data_parallel_size": 2, "tensor_parallel_size": 1},
    }
    clips = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        log = {
            "class_path": "lightning.pytorch.loggers.CSVLogger",
            "init_args": {"save_dir": str(folder), "flush_logs_every_n_steps": 1},
        }
        options = {"max_steps": 2, "val_check_interval": 2, "limit_val_batches": 1, "logger": log}
        options |= {"strategy": strategy, "devices": 2} if processes == 2 else {}
        recipe = write(mixed_recipe, folder, 4 // processes, *callbacks, **options)
        running = Ranks(recipe, processes)
        output = running.communicate(timeout=600)[0]
        assert running.returncode == 0, output
        logged = (folder / "lightning_logs/version_0/metrics.csv").read_text()
        assert "sync/scored" in logged.splitlines()[0]
        assert "no sync: lasts 0.36 s" in output
        clips.append(torch.load(folder / "clips.pt", weights_only=False))
        assert "Keep: clip 1 is not made: nothing to say" in output  # and the run went on
    assert all(list(made) == [0] for made in clips)
    (one, sound), (two, other) = (made[0] for made in clips)
    assert one.shape == two.shape == (9, 32, 32, 3)
    assert int(abs(one.astype(int) - two.astype(int)).max()) <= 3
    assert float(abs(sound - other).max()) < 0.02


@pytest.mark.slow
def test_one_switch_spreads_a_recipe_and_saves_while_it_trains(mixed_recipe, tmp_path):
    """The plain recipe with `sharding`: the loss curve, weights and averages of one process."""
    callbacks = "lightning.pytorch.callbacks"
    average = {"class_path": f"{callbacks}.EMAWeightAveraging", "init_args": {"decay": 0.7}}
    saving = {"every_n_train_steps": 3, "dirpath": str(tmp_path / "saved")}
    saving = {"class_path": "avgen.training.saving.Saving", "init_args": saving}
    exact = {"class_path": "record.Exact"}
    one = run_alone(mixed_recipe, tmp_path, average, exact)
    mixed_recipe["sharding"] = {"replicas": 1}
    options = {"devices": 2, "enable_checkpointing": True}
    slow = {"class_path": "record.SlowCopies"}  # copies of step 3 that step 4 has to wait for
    recipe = write(mixed_recipe, tmp_path / "two", 2, average, exact, saving, slow, **options)
    finish(Ranks(recipe, 2))
    ranks = [torch.load(tmp_path / "two" / f"{rank}.pt") for rank in (0, 1)]
    for rank in ranks:
        assert rank["losses"] == pytest.approx(one["losses"], rel=3e-4)
    # Lightning's averaging leaves the averages in the weights' place when it ends
    for name, weight in one["weights"].items():
        own = ranks[0]["weights"][name.replace("transformer.", "averaged.", 1)]
        assert apart(own, weight) < 0.02, name
    assert {n for n in ranks[0]["weights"] if n.startswith("averaged.")} == {
        n.replace("transformer.", "averaged.", 1) for n in one["weights"]
    }
    folder = (tmp_path / "saved/last.ckpt").resolve()
    assert folder.name == f"step={STEPS}.ckpt" and (folder / ".metadata").is_file()
    state = read_checkpoint(folder)["state_dict"]
    for name, weight in averaged_weights(folder, "transformer.").items():
        assert torch.equal(weight, state[f"averaged.{name}"])
        assert torch.equal(weight, ranks[0]["weights"][f"averaged.{name}"])
    # and goes on from it, with two replicas too
    mixed_recipe["sharding"] = {"replicas": 2}
    recipe = write(mixed_recipe, tmp_path / "again", 2, average, exact, devices=2)
    halfway = ("--ckpt_path", str(tmp_path / "saved/step=3.ckpt"))
    finish(Ranks(recipe, 2, *halfway))
    again = torch.load(tmp_path / "again" / "0.pt")
    assert again["losses"] == pytest.approx(one["losses"][3:], rel=3e-4)


def peak_memory():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def share(rank, folder):
    """Make a network of 154 M as one of two, and count what it takes and what is sent."""
    # Weights of 32 MB and more go back to the system when they are freed; so do these small ones.
    assert ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**16) == 1
    address = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    torch.set_num_threads(1)
    mesh = init_device_mesh("cpu", (2,))
    half = {"param_dtype": torch.bfloat16, "reduce_dtype": torch.float32}
    policy = MixedPrecisionPolicy(**half, cast_forward_inputs=False)
    make = partial(fully_shard, mesh=mesh, mp_policy=policy)
    small = AVTransformerConfig(16, 16, 1, 2)
    shard(AVTransformer(small, make), mesh, policy)  # what is imported for it is no weight
    # the peak since now; ru_maxrss has that of the process which started this one in it
    Path("/proc/self/clear_refs").write_text("5")
    config, before = AVTransformerConfig(16, 512, 48, 8), peak_memory()
    network = AVTransformer(config, make)
    shard(network, mesh, policy)
    grown = peak_memory() - before
    layout = make_layout(VideoGrid(1, 64, 64, Fraction(25), (4, 16, 16), 4, 2),
                         AudioGrid(960, 24000, 320, 4, 3))  # fmt: skip
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), Gathered() as gathered:
        context = network.prepare(layout, make_text(["a"], [[]]))
        levels = distinct_levels(torch.full((1, layout.num_tokens), 0.5), layout.modality)
        network(torch.zeros(1, layout.num_tokens, 16), levels, context)
    count = sum(p.numel() for p in network.parameters())
    torch.save((grown, gathered.bytes, count), f"{folder}/{rank}.pt")


class Gathered(TorchDispatchMode):
    """Bytes that all-gathers make; what FSDP copies in for them has a name like theirs."""

    bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "c10d" in function.namespace and "gather" in str(function):
            self.bytes += sum(made.nbytes for made in tree_leaves(args[0]))
        return function(*args, **(kwargs or {}))


@pytest.mark.slow
def test_no_process_has_the_whole_network_and_weights_are_sent_in_two_bytes(tmp_path):
    """Half of it, and besides one block whole and what stands outside the blocks."""
    fork(share, str(tmp_path))
    for rank in (0, 1):
        grown, gathered, count = torch.load(tmp_path / f"{rank}.pt")
        assert grown < 0.6 * 4 * count, grown / 4 / count
        assert 2 * count <= gathered < 2.3 * count, gathered / count
