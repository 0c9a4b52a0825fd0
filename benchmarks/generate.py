"""How long a clip takes: the cold command, a resident pipeline, and where its time goes.

    python benchmarks/generate.py [--model MODEL] [--beside TEACHER] [--clips 5] [--dtype bfloat16]

Wall seconds, of clips of one length, seeds 1, 2, ... ; the first clip of a pipeline is not counted.
With --beside, clips of both models alternate in one process with the same seeds, and the ratio is
that of each pair: the median, the least and the most.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from avgen.pipeline import AVPipeline, GenerateRequest
from avgen.studio.making import Manner, make_clip

PROMPT = 'an old man with a white beard says "nobody expected the old machine to work again"'


class Timed(AVPipeline):
    """A pipeline that counts the seconds of its stages."""

    seconds: Counter[str]

    def make_window(self, *arguments: Any) -> Any:
        """Denoising."""
        began = time.perf_counter()
        made = super().make_window(*arguments)
        self.seconds["network"] += time.perf_counter() - began
        return made

    def first_picture(self, *arguments: Any) -> Any:
        """What the rest goes on from, its decoding included."""
        began, decoded = time.perf_counter(), self.seconds["picture's decoder"]
        made = super().first_picture(*arguments)
        self.seconds["first picture"] += time.perf_counter() - began
        self.seconds["picture's decoder"] = decoded
        return made

    def decode_video(self, *arguments: Any) -> Iterator[Any]:
        """Latents to frames."""
        return self.timed("picture's decoder", super().decode_video(*arguments))

    def decode_audio(self, *arguments: Any) -> Iterator[Any]:
        """Latents to samples."""
        return self.timed("sound's decoder", super().decode_audio(*arguments))

    def timed(self, name: str, parts: Iterator[Any]) -> Iterator[Any]:
        """What comes, with the seconds that it took to come."""
        while True:
            began = time.perf_counter()
            part = next(parts, None)
            self.seconds[name] += time.perf_counter() - began
            if part is None:
                return
            yield part


def main() -> None:
    """Time, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="default: the one that is shipped")
    parser.add_argument("--beside", help="another, clip by clip")
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--clips", type=int, default=5)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    args = parser.parse_args()
    threads = torch.get_num_threads()
    print(
        f"{platform.processor() or platform.machine()}, {threads} threads, torch "
        f"{torch.__version__}"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        command = ["generate", "--prompt", args.prompt, "--seconds", str(args.seconds)]
        command += ["--model", args.model] if args.model else []
        command += ["--dtype", args.dtype] if args.dtype != "float32" else []
        began = time.perf_counter()
        run = [sys.executable, "-m", "avgen.cli", *command, "-o", str(path)]
        subprocess.run(run, check=True, capture_output=True)
        print(f"the command, from nothing: {time.perf_counter() - began:.2f} s")
        models = [args.model, args.beside] if args.beside else [args.model]
        dtype = getattr(torch, args.dtype)
        pipes = [Timed.from_pretrained(model, dtype=dtype) for model in models]
        stages: list[Counter[str]] = [Counter() for _ in pipes]
        totals: list[list[float]] = [[] for _ in pipes]
        for seed in range(args.clips + 1):
            asked = GenerateRequest(prompt=args.prompt, seconds=args.seconds, seed=seed)
            for pipe, sums, wall in zip(pipes, stages, totals, strict=True):
                assert isinstance(pipe, Timed)
                pipe.seconds = Counter()
                began = time.perf_counter()
                make_clip(pipe, asked, asked, path, Manner(overwrite=True), False)
                if seed > 0:
                    wall.append(time.perf_counter() - began)
                    sums.update(pipe.seconds)
    for name, sums, wall in zip((args.model, args.beside), stages, totals, strict=False):
        sums["marks, H.264, AAC, the rest"] = sum(wall) - sum(sums.values())
        print(f"{name or 'the shipped model'}: {args.seconds} s of clip in {median(wall):.2f} s "
              f"({min(wall):.2f} to {max(wall):.2f}, {len(wall)} clips)")  # fmt: skip
        for stage, seconds in sums.most_common():
            print(f"    {seconds / len(wall):6.2f} s  {stage}")
    if args.beside:
        ratios = [slow / fast for fast, slow in zip(*totals, strict=True)]
        print(f"times faster than {args.beside}: {median(ratios):.2f} ({min(ratios):.2f} to "
              f"{max(ratios):.2f})")  # fmt: skip


if __name__ == "__main__":
    main()
