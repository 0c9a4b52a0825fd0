"""MODEL -> every direction of README.md's table by one model, as a contact sheet.

    python recipes/people/directions.py MODEL docs/directions.jpg

A row a direction: what is given, ten frames, and the mel spectrogram of the sound. What is given to
the later ones is the first one's clip.
"""

import argparse
from pathlib import Path

import librosa
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from avgen.clips import Clip, Word, write_clip
from avgen.pipeline import AVPipeline
from avgen.training.callbacks import contact_sheet

PROMPT = 'a young woman with long red hair says "the train leaves at 7:30"'
LABEL, HEARD = 16, 40  # rows of pixels
RANGE_DB = 80.0  # below the loudest


def main() -> None:
    """Make a clip in every direction, and put them below each other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a model folder")
    parser.add_argument("out", type=Path, help="a picture")
    parser.add_argument("--clips", type=Path, help="a folder for the clips")
    args = parser.parse_args()
    pipe = AVPipeline.from_pretrained(args.model)
    first = pipe(PROMPT, seed=1)
    assert first.waveform is not None and first.sample_rate is not None
    sound = first.waveform, first.sample_rate
    begun = Clip(first.frames[:25], first.fps, sound[0][:, : sound[1]], sound[1])  # a second
    words = (Word("place", 0.5, 0.8), Word("red", 0.8, 1.1))
    image, silent = first.frames[0], Clip(first.frames, first.fps)
    made = {
        f"a prompt: {PROMPT}": first,
        "words with their times: place 0.5-0.8 red 0.8-1.1": pipe(words=words, seconds=2, seed=2),
        'a picture, and "my brother plays the violin on Sundays"': pipe(
            image=image, speech="my brother plays the violin on Sundays", seed=2
        ),
        "a voice, without its words": pipe(audio=sound, seed=3),
        'a silent video, and "you can say that again"': pipe(
            video=silent, speech="you can say that again", seed=4
        ),
        'a beginning of a second, and "and then it rained"': pipe(
            extend=begun, speech="and then it rained", seconds=4, seed=5
        ),
    }
    rows = [part for label, clip in made.items() for part in row(label, clip)]
    Image.fromarray(np.concatenate(rows)).save(args.out, quality=80)
    if args.clips is not None:
        args.clips.mkdir(parents=True, exist_ok=True)
        for number, clip in enumerate(made.values()):
            write_clip(clip, args.clips / f"{number}.mp4")


def row(label: str, clip: Clip) -> list[np.ndarray]:
    """What is given, frames and sound of a clip, below each other: uint8 [rows, W, 3]."""
    frames = contact_sheet(clip.frames)
    width = frames.shape[1]
    said = Image.new("RGB", (width, LABEL))
    ImageDraw.Draw(said).text((4, 1), label, font=ImageFont.load_default(11))
    assert clip.waveform is not None and clip.sample_rate is not None
    mel = librosa.feature.melspectrogram(y=clip.waveform[0], sr=clip.sample_rate, n_mels=HEARD)
    level = 10 * np.log10(np.maximum(mel[::-1], 1e-10))
    grey = (np.clip(1 + (level - level.max()) / RANGE_DB, 0, 1) * 255).astype(np.uint8)
    heard = Image.fromarray(grey).resize((width, HEARD)).convert("RGB")
    return [np.asarray(said), frames, np.asarray(heard)]


if __name__ == "__main__":
    main()
