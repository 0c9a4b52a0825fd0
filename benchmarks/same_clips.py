"""A folder of reference clips and a tree in; how far the tree's clips are from them out.

    python benchmarks/same_clips.py FOLDER                       # makes what FOLDER lacks
    PYTHONPATH=other/tree python benchmarks/same_clips.py FOLDER # compares another tree with it

Same seed, same clip: a change that is not meant to alter arithmetic leaves every direction of the
README's table bit for bit as it was. The inputs (a picture, a voice, a silent video, a beginning)
are pieces of the first reference clip. Exit code 1 if a clip differs by more than one level of a
pixel or a sample by more than -60 dB of full scale.
"""

import argparse
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from avgen import AVPipeline, Clip
from avgen.clips import Word

LARGEST_LEVEL, LARGEST_DB = 1, -60.0
PROMPTS = {
    "place": ('a man says "place red at g nine now"', 1),
    "set": ('a woman with glasses says "set white in z three soon"', 2),
    "bin": ('"bin green by c two again"', 3),
}
TIMES = (("place", 0.5, 0.8), ("red", 0.8, 1.1), ("at", 1.1, 1.25), ("two", 1.3, 1.7))


def cases(first: Clip) -> dict[str, dict[str, Any]]:
    """Name -> arguments of the pipeline: three prompts, then every direction of the README."""
    prompts = {name: {"prompt": prompt, "seed": seed} for name, (prompt, seed) in PROMPTS.items()}
    voice = (first.waveform, first.sample_rate)
    beginning = Clip(first.frames[:50], first.fps, first.waveform[:, :48000], first.sample_rate)
    return prompts | {
        "words": {"words": [Word(*entry) for entry in TIMES], "seconds": 2.0, "seed": 4},
        "image": {"image": first.frames[0], "speech": "lay blue in b four please", "seed": 5},
        "audio": {"audio": voice, "seed": 6},
        "video": {
            "video": Clip(first.frames, first.fps),
            "speech": "bin white by c two again",
            "seed": 7,
        },
        "extend": {
            "extend": beginning,
            "speech": "set green with p one soon",
            "seconds": 4.0,
            "seed": 8,
        },
        "quick": {"prompt": PROMPTS["set"][0], "seed": 9, "num_inference_steps": 4},
        "unguided": {
            "prompt": PROMPTS["set"][0],
            "seed": 10,
            "guidance_scale": 1.0,
            "audio_guidance_scale": 1.0,
        },
        "ntsc": {
            "prompt": PROMPTS["bin"][0],
            "seed": 11,
            "fps": Fraction(30000, 1001),
            "height": 144,
        },
    }


def difference(made: Clip, stored: Clip) -> tuple[int, float, int]:
    """Largest differences, levels of a pixel and dB of full scale, and the first frame with any."""
    if made.frames.shape != stored.frames.shape or made.num_samples != stored.num_samples:
        return 255, 0.0, 0
    levels = np.abs(made.frames.astype(int) - stored.frames.astype(int)).max((1, 2, 3))
    samples = np.abs(made.waveform - stored.waveform).max(0)
    first = [int(np.argmax(levels > 0))] if levels.any() else []
    if samples.any():
        first.append(int(np.argmax(samples > 0) * made.fps / made.sample_rate))
    decibels = 20 * float(np.log10(max(samples.max(), 1e-12)))
    return int(levels.max()), decibels, min(first, default=made.num_frames)


def read(path: Path) -> Clip:
    """A stored clip."""
    with np.load(path) as stored:
        return Clip(
            stored["frames"], Fraction(str(stored["fps"])), stored["waveform"], int(stored["rate"])
        )


def main() -> int:
    """Make every clip; store it where there is none, compare it where there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", help="names of cases")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    pipe, worst = AVPipeline.from_pretrained("recipes/grid/model"), 0
    names = list(
        cases(Clip(np.zeros((50, 2, 2, 3), np.uint8), Fraction(25), np.zeros((1, 2), "f"), 1))
    )
    for name in [name for name in names if not args.only or name in args.only]:
        first = args.folder / f"{names[0]}.npz"
        options = cases(read(first))[name] if first.exists() else None
        if options is None:
            prompt, seed = PROMPTS[names[0]]
            options = {"prompt": prompt, "seed": seed}
        started = time.perf_counter()
        clip = pipe(options.pop("prompt", ""), progress=False, **options)
        seconds, path = time.perf_counter() - started, args.folder / f"{name}.npz"
        if path.exists():
            level, db, first_frame = difference(clip, read(path))
            is_near = level <= LARGEST_LEVEL and db <= LARGEST_DB
            worst |= not is_near
            said = f"{level} levels, {db:.0f} dB, from frame {first_frame} of {clip.num_frames} on"
            said = "the same" if first_frame == clip.num_frames else said
            print(f"{name}: {said}{'' if is_near else '  DIFFERS'} ({seconds:.0f} s)", flush=True)
        else:
            np.savez_compressed(
                path,
                frames=clip.frames,
                fps=np.array(str(clip.fps)),
                waveform=clip.waveform,
                rate=clip.sample_rate,
            )
            print(f"{name}: stored, {clip.num_frames} frames ({seconds:.0f} s)", flush=True)
    return int(worst)


if __name__ == "__main__":
    sys.exit(main())
