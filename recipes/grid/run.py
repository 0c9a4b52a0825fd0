"""GRID s1 -> the model, all of it, in one command.

`python recipes/grid/run.py OUT GRID` goes through the steps of README.md in the folder OUT. Run
again, it skips what is finished and resumes a training from its last checkpoint.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avgen import cli
from avgen.training.stages import Stage, run_stages, train_stage

RECIPES = Path(__file__).resolve().parent
PREPARED = Path("prepared/grid")
CODECS = ["--codecs", "codecs"]


def main() -> None:
    """Run every stage that is not finished."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="a folder for everything")
    parser.add_argument("root", type=Path, help="GRID, with s1/ and alignments/s1/")
    parser.add_argument("--speaker", default="s1")
    parser.add_argument("--steps-scale", type=float, default=1.0, help="of all trainings")
    args = parser.parse_args()
    root = args.root.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    os.chdir(args.out)  # the recipes' paths are relative

    def trained(name: str, made: str) -> Stage:
        path = Path(made)
        return path / "config.json", lambda: train(name, path, args.steps_scale)

    latents = PREPARED / "latents/statistics.json"
    stages: dict[str, Stage] = {
        "prepare": (
            PREPARED / "manifest.jsonl",
            lambda: prepare(root, args.speaker),
        ),
        "video_codec": trained("video_codec", "codecs/video_codec"),
        "audio_codec": trained("audio_codec", "codecs/audio_codec"),
        "encode": (latents, lambda: prepare(root, args.speaker, CODECS)),
        "first": trained("config", "first"),
        "video_decoder": trained("video_decoder", "codecs/video_codec"),
        "video_codec_deeper": trained("video_codec_deeper", "codecs_deeper/video_codec"),
        "video_codec_last": trained("video_codec_last", "codecs/video_codec"),
        "encode_anew": (
            latents,
            lambda: prepare(root, args.speaker, [*CODECS, "--replace-latents"]),
        ),
        "more": trained("config_more", "more"),
        "video_decoder_last": trained("video_decoder_last", "codecs/video_codec"),
        "model": trained("config_more", "model"),  # the same weights, with the last decoder
    }
    for line in run_stages(Path(), stages):
        print(line)


def prepare(root: Path, speaker: str, options: Sequence[str] = ()) -> None:
    """Crop the heads of one speaker, or cache the latents of what is there."""
    what = ["prepare", "grid", str(root), str(PREPARED), "--speaker", speaker, "--stages", "head"]
    code = cli.main([*what, *options])
    if code:
        raise RuntimeError(f"avgen prepare ended with {code}")


def train(name: str, made: Path, steps_scale: float) -> dict[str, Any]:
    """Train one recipe and export what it trained."""
    return train_stage(
        Path(), RECIPES / f"{name}.yaml", made, codecs=Path("codecs"), steps_scale=steps_scale
    )


if __name__ == "__main__":
    main()
