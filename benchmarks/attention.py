"""Attention in training on a CPU: by products of all clips at once beside torch's flash attention.

    python benchmarks/attention.py [--rounds 8]

Forward and backward pass of 5 heads of 64 numbers, in bfloat16 and in float32, in turn, in one
process: clips of 3 s as joint training has them, sound alone, and single frames with captions.
avgen takes the products in bfloat16 alone (`trains_by_products`).
"""

import argparse
import time

import torch
from torch.nn import functional as F

from avgen.models.attention import attend_by_products

KINDS = {
    "8 clips of 400 tokens": [400] * 8,
    "8 clips of 388 to 410": [392, 400, 398, 410, 401, 395, 388, 402],
    "5 clips of 160 to 640": [640, 160, 160, 160, 160],
    "24 of sound, 74 to 95": [74 + clip * 7 % 22 for clip in range(24)],
    "64 frames, 24 to 41": [24 + clip * 5 % 18 for clip in range(64)],
    "64 frames, 24 to 57": [24 + clip * 5 % 34 // (1 + clip % 3) for clip in range(64)],
}


def flash(heads: list[torch.Tensor], lengths: list[int]) -> torch.Tensor:
    """By a call for every clip, or one for all where they are of one length."""
    if len(set(lengths)) == 1:
        clips = (x.unflatten(1, (len(lengths), -1)).transpose(0, 1) for x in heads)
        return F.scaled_dot_product_attention(*clips).transpose(0, 1).flatten(1, 2)
    each = zip(*(x[None].split(lengths, 2) for x in heads), strict=True)
    return torch.cat([F.scaled_dot_product_attention(*clip) for clip in each], 2)[0]


def products(heads: list[torch.Tensor], lengths: list[int]) -> torch.Tensor:
    """As avgen trains."""
    return attend_by_products(*heads, lengths)


def main() -> None:
    """Print milliseconds of both, the least of the rounds, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for dtype in (torch.bfloat16, torch.float32):
        for name, lengths in KINDS.items():
            heads = [torch.randn(5, sum(lengths), 64, dtype=dtype) for _ in range(4)]
            asked, seen = heads.pop(), [x.requires_grad_() for x in heads]
            best = {flash: float("inf"), products: float("inf")}
            for _ in range(args.rounds):
                for way in best:
                    started = time.perf_counter()
                    torch.autograd.grad(way(seen, lengths), seen, asked)
                    best[way] = min(best[way], time.perf_counter() - started)
            torchs, ours = (1000 * seconds for seconds in best.values())
            print(f"{dtype} {name}: {torchs:.1f} ms, products {ours:.1f} ms, {torchs / ours:.2f}")


if __name__ == "__main__":
    main()
