"""Words placed by hand, and when they are heard: clips in a folder out, and how far the two differ.

    python benchmarks/studio_words.py FOLDER [--model MODEL] [--clips 20] [--first 0] [--steps N]

What the page's lane does to words is done to sentences of GRID's grammar: each word is shortened or
stretched to between 0.8 and 1.3 of its usual length, and stands 0 to 0.3 s after the one before it,
times in whole milliseconds, as the page sends them. The starts that a recogniser hears
(pocketsphinx, which knows what is said) are held against those that were asked for. Clips that are
in FOLDER already are not made again; they carry no marks, for benchmarks/marks.py.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import torch

from avgen import AVPipeline, write_clip
from avgen.clips import Word, read_audio
from avgen.errors import UserError
from avgen.models.timing import SpeechTiming
from avgen.preparation.align import align_english

GRAMMAR = (
    "bin lay place set", "blue green red white", "at by in with", "abcdefghijklmnopqrstuvxyz",
    "zero one two three four five six seven eight nine", "again now please soon",
)  # fmt: skip


def placed(drawn: random.Random, timing: SpeechTiming) -> tuple[Word, ...]:
    """A sentence of the grammar with times that no model would choose."""
    said = [drawn.choice(part.split() if " " in part else part) for part in GRAMMAR]
    at, words = drawn.uniform(0.2, 0.5), []
    for usual in timing.time(" ".join(said)).words:
        length = (usual.end_s - usual.start_s) * drawn.uniform(0.8, 1.3)
        words.append(Word(usual.text, round(at, 3), round(at + length, 3)))
        at += length + drawn.uniform(0, 0.3)
    return tuple(words)


def main() -> None:
    """Make what is not there, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, help="the default model where none is given")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--steps", type=int, help="of the sampler; the model's own by default")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    pipe, apart = AVPipeline.from_pretrained(args.model), []
    timing = pipe.durations or pipe.config.timer
    for seed in range(args.first, args.first + args.clips):
        words, path = placed(random.Random(seed), timing), args.folder / f"placed{seed:02}.mkv"
        if not path.exists():
            seconds = round(words[-1].end_s + 0.3, 2)
            fields = {"seconds": seconds, "seed": seed, "num_inference_steps": args.steps}
            write_clip(pipe("a man", words=words, **fields, progress=False), path)
        try:
            heard = align_english(
                *read_audio(path, num_channels=1), " ".join(w.text for w in words)
            )
        except UserError as error:
            print(path.name, error, flush=True)
            continue
        late = [h.start_s - w.start_s for h, w in zip(heard, words, strict=True)]
        apart += late
        print(
            path.name,
            *(f"{w.text} {w.start_s:.3f} {s:+.3f}" for w, s in zip(words, late, strict=True)),
            flush=True,
        )
    off, ms = np.abs(apart), 1000
    print(
        f"{len(off)} starts: median |heard - asked| {ms * np.median(off):.0f} ms, 90 % below "
        f"{ms * np.quantile(off, 0.9):.0f} ms; median heard - asked {ms * np.median(apart):+.0f} ms"
    )


if __name__ == "__main__":
    main()
