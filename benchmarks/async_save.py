"""For how long a sharded run's checkpoint holds training up, over writing it then and there.

    python benchmarks/async_save.py [--rounds 5] [--folder FOLDER]

A network of 100 M, by one process of a group of one, in turn by `ShardedStrategy` and by torch's
own `save`. Training is held up while the copy begins, and where it is not yet done when the next
forward and backward pass are (of two clips here). The first round, in which memory for the copy is
made, is printed by itself.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.checkpoint import save

from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import make_layout
from avgen.models.text import make_text
from avgen.models.transformer import AVTransformer, AVTransformerConfig
from avgen.training.sharding import ShardedStrategy


def seconds(call: Callable[[], object]) -> float:
    """That a call takes, by the clock."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def passes_of(network: AVTransformer) -> Callable[[], None]:
    """A forward and backward pass of two clips of nine frames."""
    layout = make_layout(
        VideoGrid(9, 32, 32, Fraction(25), (4, 16, 16), 32, 1),
        AudioGrid(8640, 24000, 320, 32, 4),
    )
    text, tokens = make_text(["a man"] * 2, [[]] * 2), torch.randn(2, layout.num_tokens, 128)

    def step() -> None:
        levels = torch.full((2, layout.num_tokens), 0.5)
        network(tokens, levels, network.prepare(layout, text)).square().mean().backward()
        network.zero_grad()

    return step


def main() -> None:
    """Save by turns, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="on the disk to write to; else a temporary one")
    args = parser.parse_args()
    network = AVTransformer(AVTransformerConfig(128, 768, 14, 12))
    state, step = network.state_dict(), passes_of(network)
    print(f"{sum(tensor.numel() for tensor in state.values()) / 1e6:.1f} M parameters")
    print(f"{min(seconds(step) for _ in range(3)):.3f} s for a forward and backward pass")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/met", rank=0, world_size=1)
        strategy, held, whole = ShardedStrategy(), [], []
        for number in range(args.rounds + 1):
            checkpoint = {"state_dict": state, "global_step": number}
            held.append(seconds(partial(strategy.save_checkpoint, checkpoint, f"{folder}/beside")))
            step()
            held[-1] += seconds(strategy.finish_copying)
            strategy.finish_saving()
            then = {"checkpoint_id": f"{folder}/then"}
            whole.append(seconds(partial(save, {"state_dict": state}, **then)))
            share = held[-1] / whole[-1]
            print(f"round {number}: held up {held[-1]:.3f} s, {whole[-1]:.3f} s whole: {share:.3f}")
        dist.destroy_process_group()
    print(f"after the first: {min(held[1:]) / min(whole[1:]):.3f} at best")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
