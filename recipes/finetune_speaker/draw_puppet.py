"""One puppet that no model has seen -> a prepared folder to fine-tune on.

    python recipes/finetune_speaker/draw_puppet.py OUT --codecs MODEL [--clips 8] [--seed 77]

Draws a puppet of that seed saying `--clips` sentences to train on and 4 to test with, and caches
their latents by the codecs of the model that will be tuned (recipes/mixed: "a cartoon of ...").
"""

import argparse
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from avgen.codecs.base import load_module
from avgen.preparation.encode import encode
from avgen.preparation.run import Request, as_text, prepare
from avgen.preparation.settings import Settings

sys.path.insert(0, str(Path(__file__).parents[1] / "puppets_tiny"))
from puppets.dataset import PuppetCorpus, write_puppets

SIZE, FPS, SAMPLE_RATE, SECONDS, TESTS = (128, 128), Fraction(25), 24000, 2.92, 4


def main() -> None:
    """Draw, prepare, encode."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--codecs", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--seed", type=int, default=77)
    args = parser.parse_args()
    corpus = PuppetCorpus(
        num_clips=args.clips + TESTS,
        num_puppets=1,
        seed=args.seed,
        height=SIZE[0],
        width=SIZE[1],
        fps=str(FPS),
        seconds=SECONDS,
        num_validation=0,
        num_test=TESTS,
    )
    records = [
        replace(record, caption=f"a cartoon of {record.caption}")
        for record in write_puppets(args.out / "corpus", corpus)
    ]
    settings = Settings(SIZE, FPS, SAMPLE_RATE, stages="none")
    print(as_text(prepare(Request("puppets", args.out / "corpus", args.out, settings), records)))
    encode(args.out, *(load_module(args.codecs / name) for name in ("video_codec", "audio_codec")))
    print(records[0].caption)


if __name__ == "__main__":
    main()
