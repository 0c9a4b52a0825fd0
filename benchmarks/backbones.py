"""AVTransformer beside LTX2VideoTransformer3DModel: training speed and memory, alternating.

    python benchmarks/backbones.py [--rounds 6] [--compile] [--bfloat16]

Both train on the same tokens (64 x 64 x 4 s by LTX-2's codecs and words) with random weights, in
one process, in turn, in float32 or under autocast in bfloat16. Two pairs: of equal operations, by
torch's counter, and of equal parameters. LTX-2 has a stream for sound and another for text, whose
parameters meet few tokens: at equal parameters it computes less. Memory is what autograd keeps for
the backward pass. Kernels are what a step starts, forward and backward: on a GPU each costs some
microseconds if it is not compiled.
The first line says how fast this machine multiplies matrices of such sizes, which bounds both.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import diffusers
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from avgen.latents.context import distinct_levels
from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import VIDEO, Layout, make_layout
from avgen.models.diffusers_backbones import LTX2Backbone, LTX2Config
from avgen.models.text import make_text
from avgen.models.transformer import AVTransformer, AVTransformerConfig

CAPTION = "a man with glasses says it to somebody who is not seen in front of a wall"
LTX = {"num_layers": 5, "caption_channels": 448}
LTX |= {"num_attention_heads": 7, "attention_head_dim": 64, "cross_attention_dim": 448}
LTX |= {"audio_num_attention_heads": 7, "audio_attention_head_dim": 32}
LTX |= {"audio_cross_attention_dim": 224}
OURS = {  # width, depth, heads
    "equal operations": (512, 5, 8),
    "equal parameters": (512, 8, 8),
}


def layout_of(seconds: int) -> Layout:
    """A clip of 128 x 128 at 25 frames a second, with sound."""
    frames = 25 * seconds
    video = VideoGrid(frames, 128, 128, Fraction(25), (4, 16, 16), 32, 2)
    return make_layout(video, AudioGrid(frames * 640, 16000, 640, 128, 1, lead=480))


def step_of(network: torch.nn.Module, layout: Layout, half: bool) -> Callable[[], Tensor]:
    """A function that is a training step's forward pass."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(1, layout.num_tokens, layout.token_width, generator=generator)
    sigma = torch.where(layout.modality == VIDEO, 0.7, 0.3)[None]
    levels = distinct_levels(sigma, layout.modality)
    text = make_text([CAPTION], [[]])

    def step() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            context = network.prepare(layout, text)  # type: ignore[operator]
            return network(tokens, levels, context).square().mean()

    return step


def kept_by(step: Callable[[], Tensor], network: torch.nn.Module) -> int:
    """Bytes that a forward pass keeps for the backward pass, each storage once."""
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = step()
    del loss
    return sum(storages.values())


class Kernels(TorchDispatchMode):
    """Counts operations that compute something, of which each starts one kernel or more."""

    count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += not (function.is_view or "empty" in str(function))
        return function(*args, **(kwargs or {}))


def fastest_product(tokens: int, width: int, dtype: torch.dtype) -> float:
    """GFLOP/s of the best of some products as a block has them."""
    x, weight = torch.randn(tokens, width).to(dtype), torch.randn(4 * width, width).to(dtype)
    seconds = []
    for _ in range(10):
        started = time.process_time()
        for _ in range(5):
            torch.nn.functional.linear(x, weight)
        seconds.append((time.process_time() - started) / 5)
    return 2 * x.numel() * 4 * width / min(seconds) / 1e9


def measure(networks: dict[str, torch.nn.Module], layout: Layout, rounds: int, half: bool) -> None:
    """Time both in turn, and print them."""
    steps = {name: step_of(network, layout, half) for name, network in networks.items()}
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    facts = {}
    for name, network in networks.items():
        with FlopCounterMode(display=False) as counter:  # float32: attention's are in neither
            step_of(network, layout, False)().backward()
        with Kernels() as kernels:
            steps[name]().backward()
        count, kept = sum(p.numel() for p in network.parameters()), kept_by(steps[name], network)
        facts[name] = count, counter.get_total_flops(), kept, kernels.count
    for _ in range(rounds):
        for name, network in networks.items():
            network.zero_grad()
            started = time.process_time()
            steps[name]().backward()
            seconds[name].append(time.process_time() - started)
    for name, (count, flops, kept, kernels) in facts.items():
        best, middle = min(seconds[name]), statistics.median(seconds[name])
        print(
            f"{name:<8}{count / 1e6:8.1f} M{flops / 1e9:10.1f} GFLOP{best:8.3f} s (median "
            f"{middle:.3f}){flops / best / 1e9:8.1f} GFLOP/s{kept / 2**20:8.0f} MiB kept"
            f"{kernels:7d} kernels"
        )
    ours, theirs = (min(times) for times in seconds.values())
    (_, own_work, own_kept, _), (_, other_work, other_kept, _) = facts.values()
    faster, larger, work = theirs / ours, own_kept / other_kept, own_work / other_work
    print(
        f"ours / LTX-2: throughput {faster:.2f}, of operations {faster * work:.2f}; "
        f"memory {larger:.2f}, of operations {larger / work:.2f}"
    )


def main() -> None:
    """Both pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=3, help="of the clip")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--bfloat16", action="store_true", help="train under autocast")
    args = parser.parse_args()
    torch.manual_seed(0)
    layout = layout_of(args.seconds)
    dtype = torch.bfloat16 if args.bfloat16 else torch.float32
    print(
        f"diffusers {diffusers.__version__}, torch {torch.__version__}, {layout.num_tokens} "
        f"tokens; products at most {fastest_product(layout.num_tokens, 512, dtype):.1f} GFLOP/s"
    )
    settings = LTX | {
        "in_channels": 128,
        "audio_in_channels": 128,
        "vae_scale_factors": (4, 32, 32),
    }
    theirs = LTX2Backbone(LTX2Config(layout.token_width, settings)).train()
    for what, (width, depth, heads) in OURS.items():
        config = AVTransformerConfig(layout.token_width, width, depth, heads)
        ours = AVTransformer(config).train()
        for parameter in ours.parameters():  # gates that are open
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
        for network in (ours, theirs) if args.compile else ():
            network.compile_blocks()
        print(f"{what}:")
        measure({"ours": ours, "LTX-2": theirs}, layout, args.rounds, args.bfloat16)


if __name__ == "__main__":
    main()
