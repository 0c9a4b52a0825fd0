"""Portraits and packages -> the model of people, all of it, in one command.

    python recipes/people/run.py OUT --portraits PICTURES --face-landmarker face_landmarker.task

writes the voices, what the portraits say with them, both codecs, and the transformers, from sound
alone over single faces to few steps: OUT/model is what `avgen generate --model` takes, OUT/demo.mp4
a clip of it. Run again, it skips what is finished and resumes a training from its last checkpoint.
`--small` is the whole way in minutes, to see that it can be walked: what it makes does not speak.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from avgen import cli
from avgen.codecs.base import load_module
from avgen.corpora.manifest import read_manifest
from avgen.preparation.encode import PATCHES, encode
from avgen.preparation.merge import merge
from avgen.training.stages import Stage, run_stages, train_stage

RECIPES = Path(__file__).resolve().parent
SHIPPED = RECIPES.parents[1] / "recipes/grid/model/video_codec/model.safetensors"
WORDNET = Path("/usr/share/wordnet")  # of Debian's wordnet-base; voices.py reads it
CODECS = ("video_codec", "audio_codec")
# Trainings of the picture's codec, each from what the one before it made.
PIXELS = {"video_codec": "encoder", "video_decoder": "decoder", "video_mover": "mover"}
DEMO = 'an old man with a white beard says "nobody expected the old machine to work again"'
SMALL_NETWORK = {"width": 32, "depth": 2, "num_heads": 2, "compile": "false"}
SMALL_PICTURE = {
    "latent_channels": 8,
    "encoder_widths": "[16, 16, 24]",
    "decoder_widths": "[16, 16, 24]",
    "encoder_depths": "[1, 1, 1]",
    "decoder_depths": "[1, 1, 1]",
}
SMALL_PIXELS: dict[str, Any] = {
    **{f"model.init_args.codec.{k}": v for k, v in SMALL_PICTURE.items()},
    "model.init_args.compile": "false",
    "data.init_args.batch_size": 2,
}
BATCHES = "data.init_args.batching.init_args"
SMALL_BATCHES = {"": 2, "sound_": 4, "still_": 8}
# What the small way says otherwise, by recipe; networks of all but the codecs are SMALL_NETWORK.
SMALL: dict[str, dict[str, Any]] = {
    "speech_codec": {
        **{f"model.init_args.codec.{k}": v for k, v in (("width", 16), ("hidden", 16))},
        "model.init_args.codec.depth": 1,
        "data.init_args.length": 7680,
    },
    "video_codec": SMALL_PIXELS | {"model.init_args.initial_weights": "null"},
    "video_decoder": SMALL_PIXELS,
    "video_mover": SMALL_PIXELS | {"model.init_args.codec.mover_widths": "[16, 16, 24]"},
    "sound": {f"{BATCHES}.batch_size": 4},
    **{
        name: {f"{BATCHES}.{kind}batch_size": size for kind, size in SMALL_BATCHES.items()}
        for name in ("faces", "first_picture", "joint", "guidance", "few_steps")
    },
}
SMALL_STEPS = 0.004  # of the recipes' steps: 5 to 24 each


def main() -> None:
    """Run every stage that is not finished."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="a folder for everything")
    parser.add_argument("--portraits", type=Path, required=True, help="pictures (data/portraits)")
    parser.add_argument(
        "--face-landmarker",
        type=Path,
        required=True,
        help="face_landmarker.task, from MediaPipe's model page",
    )
    parser.add_argument("--sentences", type=Path, nargs="+", help="what voices say (voices.py)")
    parser.add_argument("--held-out", type=Path, help="sentences that nothing is trained on")
    parser.add_argument("--kokoro", type=Path, help="Kokoro's voices, besides hibari's")
    parser.add_argument(
        "--librispeech", type=Path, help="real voices, for the sound's decoder and `--voice`"
    )
    parser.add_argument(
        "--segmenter",
        type=Path,
        help="selfie_segmenter.tflite, likewise: people between people before others' backgrounds",
    )
    parser.add_argument("--grid", type=Path, help="GRID, for the picture's codec besides")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--steps-scale", type=float, default=1.0, help="of all trainings")
    parser.add_argument("--small", action="store_true", help="tiny networks, few of everything")
    args = parser.parse_args()
    for name in (
        "portraits",
        "face_landmarker",
        "held_out",
        "kokoro",
        "librispeech",
        "grid",
        "segmenter",
    ):
        if getattr(args, name) is not None:
            setattr(args, name, getattr(args, name).resolve())  # we go to OUT
            if not getattr(args, name).exists():  # said now, not after the hours before it
                parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: is not there")
    args.sentences = [path.resolve() for path in args.sentences or ()]
    if missing := [path for path in args.sentences or [WORDNET] if not path.exists()]:
        parser.error(f"{missing[0]}: no sentences there; install wordnet-base, or --sentences FILE")
    args.out.mkdir(parents=True, exist_ok=True)
    os.chdir(args.out)
    for line in run_stages(Path(), Stages(args).all()):
        print(line, flush=True)


class Stages:
    """What is to be done, in order.

    Args:
        args: The command line's, with whole paths.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.is_small = args, args.small
        engines = ["hibari"] if args.kokoro is None else ["hibari", "kokoro"]
        self.voices = {engine: Path("voices") / engine for engine in engines}
        self.pictures = [Path("prepared/portraits")]
        if args.grid is not None:
            self.pictures.append(Path("prepared/grid"))
        self.sounds = [Path("prepared/sounds")]
        if args.librispeech is not None:
            self.sounds.append(Path("prepared/librispeech"))

    def all(self) -> dict[str, Stage]:
        """The stages by name: what each makes last, and how."""
        latents = "latents/statistics.json"
        stages: dict[str, Stage] = {}
        for engine, folder in self.voices.items():
            stages[f"voices_{engine}"] = folder / "manifest.jsonl", self.speak(engine, folder)
        manifests = [folder / "manifest.jsonl" for folder in self.voices.values()]
        durations = Path("codecs/durations")
        steps = ["--steps", "50"] if self.is_small else []
        stages |= {
            "durations": (
                durations / "config.json",
                script("durations", durations, *manifests, *steps),
            ),
            "sounds": (
                self.sounds[0] / "manifest.jsonl",
                script("sounds", self.sounds[0], *self.voices.values()),
            ),
        }
        if self.args.librispeech is not None:
            read = script("sounds", self.sounds[1], self.args.librispeech, "--corpus=librispeech")
            stages["librispeech"] = self.sounds[1] / "manifest.jsonl", read
        stages["portraits"] = self.pictures[0] / "manifest.jsonl", self.animate
        if self.args.grid is not None:
            stages["grid"] = self.pictures[1] / "manifest.jsonl", self.prepare_grid
        voices, people = Path("prepared/voices"), Path("prepared/people")
        between, image = Path("prepared/between"), Path("codecs/text_to_image")
        video = Path("codecs/video_codec")
        encoded = script("encode", *self.voices.values(), voices, "--video", video)
        sound, speakers = Path("codecs/audio_codec"), Path("codecs/speakers")
        real = {}  # of which voices are told apart
        if self.args.librispeech is not None:
            fit = script("speakers", speakers, self.sounds[1], "--codec", sound)
            real = {"speakers": (speakers / "config.json", fit)}
        return stages | {
            "speech_codec": self.trained("speech_codec", str(sound), self.sounds),
            **real,
            **{name: self.trained(name, made, self.pictures) for name, made in PIXELS.items()},
            "press": (video / "config.json", script("press", PIXELS["video_mover"], video)),
            "voice_latents": (voices / latents, encoded),
            "portrait_latents": (
                self.pictures[0] / latents,
                lambda: self.encode(self.pictures[0]),
            ),
            "sound": self.trained("sound", "sound", [voices]),
            "people": (people / latents, lambda: merge([voices, self.pictures[0]], people)),
            "faces": self.trained("faces", "faces", [people], codecs=True),
            "between": (between / "manifest.jsonl", self.mix),
            "between_latents": (between / latents, lambda: self.encode(between, 1)),
            "first_picture": self.trained("first_picture", "pictures", [between], codecs=True),
            "text_to_image": (image / "config.json", lambda: copy("pictures/transformer", image)),
            "joint": self.trained("joint", "joint", [people], codecs=True),
            "guidance": self.trained("guidance", "guided", [people], codecs=True),
            "few_steps": self.trained("few_steps", "model", [people], codecs=True),
            "demo": (Path("demo.mp4"), self.demo),
        }

    def speak(self, engine: str, folder: Path) -> Callable[[], None]:
        """Make the voices of one engine say sentences."""
        numbers = {"hibari": (360, 26), "kokoro": (60, 12)}[engine]
        voices, clips = (80, 1) if self.is_small else numbers
        options = ["--engine", engine, "--voices", voices, "--clips", clips]
        options += ["--workers", self.args.workers]
        for name in ("sentences", "held_out", "kokoro"):
            if value := getattr(self.args, name):
                values = value if isinstance(value, list) else [value]
                options += [f"--{name.replace('_', '-')}", *values]
        return script("voices", folder, *options)

    def animate(self) -> None:
        """Make the portraits speak."""
        clips = 1 if self.is_small else 5
        voices = [word for folder in self.voices.values() for word in ("--voices", folder)]
        avgen(
            *("prepare", "portraits", self.args.portraits, self.pictures[0], *voices),
            *("--face-landmarker", self.args.face_landmarker, "--clips-per-person", clips),
            *("--workers", self.args.workers),
        )

    def prepare_grid(self) -> None:
        """Crop the heads of one speaker of GRID."""
        speaker = ["--speaker", "s1", "--stages", "head"]
        avgen("prepare", "grid", self.args.grid, self.pictures[1], *speaker)

    def mix(self) -> None:
        """Make pictures of people between people."""
        options: list[object] = ["--workers", self.args.workers]
        if self.args.segmenter is not None:
            options += ["--segmenter", self.args.segmenter]
        if self.is_small:
            options += ["--pairs", 8, "--alone", 3]
        given = ("--portraits", self.args.portraits, "--face-landmarker", self.args.face_landmarker)
        script("between", "prepared/between", *given, *options)()

    def encode(self, folder: Path, patch: int = PATCHES[0]) -> None:
        """Cache the latents of a folder of pictures, to be tokens of so many each way."""
        codecs = (load_module(Path("codecs") / name) for name in CODECS)
        encode(folder, *codecs, patches=(patch, PATCHES[1]))

    def trained(self, name: str, made: str, folders: Sequence[Path], codecs: bool = False) -> Stage:
        """Train one recipe on folders, and export what it trained."""
        path = Path(made)

        def stage() -> dict[str, Any]:
            one = len(folders) == 1 and name not in ("speech_codec", *PIXELS)
            read = str(folders[0]) if one else f"[{','.join(map(str, folders))}]"
            options = {"data.init_args.folder": read}
            if name in PIXELS:
                shares = [4, 1][: len(folders)]
                options |= {"data.init_args.shares": shares}
                before = [SHIPPED, *(f"{made}/model.safetensors" for made in PIXELS.values())]
                start = before[list(PIXELS).index(name)]
                options |= {"model.init_args.initial_weights": start}
            unseen = [folder for folder in folders if not has_validation(folder)]
            if unseen:  # by hash, one in seventy: nobody of a few
                print(f"{name}: {unseen[0]} has no clip for validation, so nothing is validated")
                options |= {"trainer.limit_val_batches": 0}
            if self.is_small:
                network = name not in ("speech_codec", *PIXELS)
                tiny = {f"model.init_args.network.{k}": v for k, v in SMALL_NETWORK.items()}
                options |= SMALL[name] | (tiny if network else {})
            overrides = [word for k, v in options.items() for word in (f"--{k}", str(v))]
            scale = SMALL_STEPS if self.is_small else self.args.steps_scale
            parts = Path("codecs") if codecs else None
            return train_stage(Path(), RECIPES / f"{name}.yaml", path, overrides, parts, scale)

        return path / "config.json", stage

    def demo(self) -> None:
        """Generate a clip as a user would."""
        avgen(
            "generate",
            "--model",
            "model",
            "--prompt",
            DEMO,
            "--seed",
            1,
            "-o",
            "demo.mp4",
            "--overwrite",
        )


def has_validation(folder: Path) -> bool:
    """Whether a prepared folder has a clip to validate with."""
    return any(r.split == "validation" for r in read_manifest(folder / "manifest.jsonl"))


def copy(folder: str, to: Path) -> None:
    """Copy a folder; one that was left half copied is written over."""
    shutil.copytree(folder, to, dirs_exist_ok=True)


def script(name: str, *arguments: object) -> Callable[[], None]:
    """Run a script that lies beside this one."""
    command = [sys.executable, str(RECIPES / f"{name}.py"), *map(str, arguments)]
    return lambda: subprocess.run(command, check=True) and None


def avgen(*arguments: object) -> None:
    """Run a command of avgen's.

    Raises:
        RuntimeError: it failed.
    """
    if code := cli.main(list(map(str, arguments))):
        raise RuntimeError(f"avgen {arguments[0]} ended with {code}")


if __name__ == "__main__":
    main()
