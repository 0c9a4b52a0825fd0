"""MODEL -> six people who say six sentences, as an animated picture: recipes/people/README.md's.

    python recipes/people/six.py MODEL docs/people.webp

The clips themselves, with their sound, go to --clips.
"""

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from avgen.clips import Clip, write_clip
from avgen.pipeline import AVPipeline

SAID = (
    ("an old man with a white beard and a green hat",
     "nobody expected the old machine to work again"),
    ("a young woman with long red hair", "the captain sold his bicycle to my sister"),
    ("a middle-aged man with black hair and glasses in a blue shirt",
     "please bring me the broken clock before noon"),
    ("an old woman with grey hair", "maybe we should buy more bread and milk"),
    ("a young man with a brown beard in a white shirt", "my brother plays the violin on Sundays"),
    ("a middle-aged woman with dark skin and black hair", "that bridge is older than the town"),
)  # fmt: skip
COLUMNS = 3
BELOW = 34  # rows of pixels for the words
EVERY = 2  # frames of the clips for one that is shown


def main() -> None:
    """Make six clips, and put them beside each other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a model folder")
    parser.add_argument("out", type=Path, help="*.webp")
    parser.add_argument("--clips", type=Path, help="a folder for the clips")
    parser.add_argument("--seed", type=int, default=1, help="of the first")
    args = parser.parse_args()
    pipe, clips = AVPipeline.from_pretrained(args.model), []
    for number, (who, words) in enumerate(SAID):
        clips.append(pipe(f'{who} says "{words}"', seed=args.seed + number))
        if args.clips is not None:
            args.clips.mkdir(parents=True, exist_ok=True)
            write_clip(clips[-1], args.clips / f"{number}.mp4")
    length = max(clip.num_frames for clip in clips)
    shown = [Image.fromarray(at(clips, frame)) for frame in range(0, length, EVERY)]
    duration = round(1000 * EVERY / clips[0].fps)
    shown[0].save(
        args.out, save_all=True, append_images=shown[1:], duration=duration, loop=0, quality=70
    )


def at(clips: Sequence[Clip], frame: int) -> np.ndarray:
    """All six at a frame of each, its last where it is over: uint8 [H, W, 3]."""
    tiles = [
        np.concatenate([clip.frames[min(frame, clip.num_frames - 1)], sentence(words, clip.width)])
        for clip, (_, words) in zip(clips, SAID, strict=True)
    ]
    rows = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
    return np.concatenate([np.concatenate(row, 1) for row in rows])


def sentence(words: str, width: int) -> np.ndarray:
    """Words in two lines of white on black: uint8 [BELOW, width, 3]."""
    picture = Image.new("RGB", (width, BELOW))
    text = "\n".join(textwrap.wrap(words, 24))
    ImageDraw.Draw(picture).text((4, 4), text, font=ImageFont.load_default(10))
    return np.asarray(picture)


if __name__ == "__main__":
    main()
