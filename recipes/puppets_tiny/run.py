"""Puppets -> codecs -> transformer -> a clip, all of it from nothing, in minutes on two cores.

`python recipes/puppets_tiny/run.py OUT` writes

    OUT/corpus/             puppets, drawn and spoken here
    OUT/prepared/           their frames, waveforms and latents
    OUT/runs/               logs and checkpoints of the three trainings
    OUT/codecs/, OUT/model/ what was trained, with averaged weights
    OUT/demo.mp4            a clip that the model made, of a sentence of the puppets' grammar
    OUT/report.json         seconds of each stage, losses of each training

Run again, it skips what is finished and resumes a training from its last checkpoint. Another
`--steps-scale` or `--clips` wants another OUT.
"""

import argparse
from fractions import Fraction
from pathlib import Path
from typing import Any

from avgen import cli
from avgen.codecs.base import load_module
from avgen.corpora.manifest import read_manifest
from avgen.preparation.encode import encode
from avgen.preparation.run import Request, as_text, prepare
from avgen.preparation.settings import Settings
from avgen.training.stages import Stage, run_stages, train_stage
from puppets.dataset import PuppetCorpus, write_puppets

RECIPES = Path(__file__).parent
CODECS = ("video_codec", "audio_codec")
SIZE = (64, 64)
FPS = 25
NUM_FRAMES = 73  # 1 + 4 * 18: what config.yaml trains on
SAMPLE_RATE = 24000
NUM_PUPPETS = 4
NUM_CLIPS = 112
SPEECH = "we paint two red boats today"


def main() -> None:
    """Run every stage that is not finished."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="a folder for everything")
    parser.add_argument("--steps-scale", type=float, default=1.0, help="of all three trainings")
    parser.add_argument("--clips", type=int, default=NUM_CLIPS, help="puppets' clips in all")
    args = parser.parse_args()
    if args.clips < 16:
        parser.error(f"--clips {args.clips}: at least 16, 8 of them for a batch")
    run(args.out, args.steps_scale, args.clips)


def run(out: Path, steps_scale: float, num_clips: int) -> None:
    """Run every stage that is not finished.

    Args:
        out: A folder for everything.
        steps_scale: Factor on the steps of all three trainings.
        num_clips: Clips of puppets, an eighth of them for validation, four for testing.
    """
    corpus, prepared, codecs = out / "corpus", out / "prepared", out / "codecs"
    model, demo = out / "model", out / "demo.mp4"
    stages: dict[str, Stage] = {
        "corpus": (corpus / "manifest.jsonl", lambda: write_corpus(out, num_clips)),
        "prepare": (prepared / "manifest.jsonl", lambda: prepare_corpus(out)),
        **{
            name: (codecs / name / "config.json", lambda name=name: trained(name, codecs / name))
            for name in CODECS
        },
        "encode": (prepared / "latents/statistics.json", lambda: encode_corpus(out)),
        "transformer": (model / "config.json", lambda: trained("config", model)),
        "demo": (demo, lambda: make_demo(out)),
    }

    def trained(name: str, made: Path) -> dict[str, Any]:
        folder = ["--data.init_args.folder", str(prepared)]
        return train_stage(out, RECIPES / f"{name}.yaml", made, folder, codecs, steps_scale)

    for line in run_stages(out, stages):
        print(line)


def write_corpus(out: Path, num_clips: int) -> None:
    """Draw and speak the puppets."""
    corpus = PuppetCorpus(
        num_clips=num_clips,
        num_puppets=NUM_PUPPETS,
        seed=0,
        height=SIZE[0],
        width=SIZE[1],
        fps=str(FPS),
        seconds=NUM_FRAMES / FPS,
        num_validation=num_clips // 8,
        num_test=4,
    )
    write_puppets(out / "corpus", corpus)


def prepare_corpus(out: Path) -> None:
    """Store frames and waveforms."""
    corpus = out / "corpus"
    records = read_manifest(corpus / "manifest.jsonl")
    settings = Settings(SIZE, Fraction(FPS), SAMPLE_RATE, stages="none")
    print(as_text(prepare(Request("puppets", corpus, out / "prepared", settings), records)))


def encode_corpus(out: Path) -> None:
    """Cache the latents of both codecs."""
    encode(out / "prepared", *(load_module(out / "codecs" / name) for name in CODECS))


def make_demo(out: Path) -> None:
    """Generate a clip as a user would."""
    caption = read_manifest(out / "corpus/manifest.jsonl")[0].caption
    arguments = ["--model", str(out / "model"), "--prompt", f'{caption} says "{SPEECH}"']
    arguments += ["--num-frames", str(NUM_FRAMES), "--seed", "1", "-o", str(out / "demo.mp4")]
    code = cli.main(["generate", *arguments, "--overwrite"])
    if code:
        raise RuntimeError(f"avgen generate ended with {code}")


if __name__ == "__main__":
    main()
