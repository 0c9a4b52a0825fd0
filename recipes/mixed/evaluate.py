"""PREPARED MODEL OUT -> does it make what the caption says, in both domains and both shapes?

    python recipes/mixed/evaluate.py PREPARED MODEL OUT [--num-clips 24] [--seed 0]

Of each domain (GRID's man, puppets never seen) and shape, `--num-clips` test sentences are made
from caption and words alone, at times that the model predicts, and measured beside the real clips:

- attributes: the colours of hair, clothes and wall, read from pixels at fixed places and named
  after the nearest of the colours that the real training clips have there;
- codec: PSNR and STOI of the real clips through the model's codecs;
- words: pocketsphinx with the grammar of the domain;
- sync: avgen-sync, with another clip's sound and the own 5 frames late as controls; the face of a
  puppet, which the cascade often does not take for one, is where the corpus draws it.

OUT/made and OUT/real have the clips, OUT/DOMAIN-SHAPE.png four of them below the real ones,
OUT/results.json the figures.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from avgen.clips.clip import Clip
from avgen.clips.media.read import write_clip
from avgen.clips.timebase import num_samples
from avgen.corpora.manifest import ClipRecord
from avgen.evaluation.comparison.distances import psnr, stoi
from avgen.evaluation.faces.tracking import CascadeTracker, the_face
from avgen.evaluation.speech.recognition import GrammarRecognizer, GridRecognizer, word_error_rate
from avgen.evaluation.subject import Unscored
from avgen.evaluation.sync import score as sync
from avgen.pipeline import AVPipeline
from avgen.preparation.store import Prepared

sys.path.insert(0, str(Path(__file__).parents[1] / "puppets_tiny"))
from puppets.dataset import GRAMMAR

SHAPES = {"square": (128, 128), "portrait": (128, 96)}  # height, width
NUM_FRAMES = 73
SHOWN = 4
# Where a puppet's attribute is, whatever it does: shares of the picture, top, bottom, left, right.
PLACES = {
    "square": {
        "background": [(0.02, 0.30, 0.0, 0.03), (0.02, 0.30, 0.97, 1.0)],
        "clothes": [(0.95, 1.0, 0.25, 0.40), (0.95, 1.0, 0.60, 0.75)],
        "hair": [(0.07, 0.14, 0.52, 0.62)],
    },
    "portrait": {
        "background": [(0.02, 0.30, 0.0, 0.04), (0.02, 0.30, 0.96, 1.0)],
        "clothes": [(0.95, 1.0, 0.25, 0.40), (0.95, 1.0, 0.60, 0.75)],
        "hair": [(0.17, 0.22, 0.52, 0.62)],
    },
}
# A puppet's face: left, top, width, height, the median of those that the cascade finds.
FACES = {"square": (0.16, 0.155, 0.67, 0.67), "portrait": (0.17, 0.25, 0.66, 0.495)}
DELAY = 5  # frames


def main() -> None:
    """Make, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--num-clips", type=int, default=24, help="of each domain and shape")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guidance-scale", type=float, help="the model's own by default")
    args = parser.parse_args()
    pipe = AVPipeline.from_pretrained(args.model)
    results = {}
    for shape in SHAPES:
        for domain in ("grid", "puppets"):
            prepared = Prepared(args.prepared / shape, "test")
            records = [r for r in prepared.records() if r.corpus == domain][: args.num_clips]
            name = f"{domain}-{shape}"
            results[name] = measure(args, pipe, records, name)
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
            print(name, json.dumps(results[name]))


def measure(
    args: argparse.Namespace, pipe: AVPipeline, records: list[ClipRecord], name: str
) -> dict:
    """Everything of one domain and shape, whose name is DOMAIN-SHAPE."""
    domain, shape = name.split("-")
    prepared, (height, width) = Prepared(args.prepared / shape, "test"), SHAPES[shape]
    made_in, real_in = (args.out / kind / name for kind in ("made", "real"))
    recognizer = GridRecognizer() if domain == "grid" else puppets_recognizer()
    heard = {"made": [], "real": []}
    attributes = {"made": [], "real": []}
    seen = {"made": [], "real": []}
    codec: list[tuple[float, float]] = []
    named = Colours(args.prepared / shape, shape) if domain == "puppets" else None
    sheet = []
    for index, record in enumerate(tqdm(records, desc=name)):
        said = " ".join(word.text for word in record.words).split()
        real = read_prepared(prepared, record)
        codec.append(through_codecs(pipe, real))
        made = pipe(
            f'{record.caption} says "{" ".join(said)}"',
            height=height,
            width=width,
            num_frames=NUM_FRAMES,
            guidance_scale=args.guidance_scale,
            seed=args.seed + index,
            progress=False,
        )
        for kind, clip, place in (("made", made, made_in), ("real", real, real_in)):
            place.mkdir(parents=True, exist_ok=True)
            write_clip(clip, place / f"{record.id}.mp4", overwrite=True)
            assert clip.waveform is not None and clip.sample_rate is not None
            heard[kind].append((said, recognizer(clip.waveform, clip.sample_rate)))
            seen[kind].append(sync_features(clip, None if named is None else FACES[shape]))
            if named is not None:
                attributes[kind].append(named.agree(clip.frames, record.caption))
        if index < SHOWN:
            sheet += [strip(real.frames), strip(made.frames)]
    Image.fromarray(np.concatenate(sheet)).save(args.out / f"{name}.png")
    quality = dict(zip(("psnr", "stoi"), np.mean(codec, 0).round(3).tolist(), strict=True))
    figures: dict = {"clips": len(records), "codec": quality}
    for kind in heard:
        figures[f"{kind} word error rate"] = round(word_error_rate(heard[kind]), 4)
        if attributes[kind]:
            figures[f"{kind} attributes"] = {
                key: float(np.mean([a[key] for a in attributes[kind]])) for key in PLACES[shape]
            }
        figures[f"{kind} sync"] = sync_figures(seen[kind])
    return figures


def through_codecs(pipe: AVPipeline, clip: Clip) -> tuple[float, float]:
    """PSNR in dB and STOI of a clip that was encoded and decoded."""
    assert clip.waveform is not None and clip.sample_rate is not None
    with torch.inference_mode():
        pixels = torch.from_numpy(clip.frames).movedim(-1, 0)[None].float() / 127.5 - 1
        size = {"num_frames": clip.num_frames, "height": clip.height, "width": clip.width}
        decoded = pipe.video_codec.decode(pipe.video_codec.encode(pixels), **size)
        frames = ((decoded[0].movedim(0, -1) + 1) * 127.5).round().clamp(0, 255).byte().numpy()
        sound = pipe.audio_codec.encode(torch.from_numpy(clip.waveform)[None])
        waveform = pipe.audio_codec.decode(sound, num_samples=clip.num_samples)[0].numpy()
    return psnr(clip.frames, frames), stoi(clip.waveform, waveform, clip.sample_rate)


Features = tuple[np.ndarray, np.ndarray]


def sync_features(clip: Clip, face: tuple[float, ...] | None) -> Features | None:
    """What avgen-sync sees and hears of a clip; None where it sees no face."""
    assert clip.waveform is not None and clip.sample_rate is not None
    model, (count, height, width) = sync.load(), clip.frames.shape[:3]
    try:
        if face is None:
            boxes = the_face(CascadeTracker()(clip.frames)).boxes
        else:
            boxes = np.tile(np.multiply(face, (width, height, width, height)), (count, 1))
        picture = model.picture_features(clip.frames, boxes)
    except Unscored:
        return None
    return picture, model.sound_features(clip.waveform, clip.sample_rate, count)


def sync_figures(seen: list[Features | None]) -> dict[str, float]:
    """Means over the clips that could be scored, and how many those are."""
    model, some = sync.load(), [clip for clip in seen if clip is not None]
    own = [model.score(picture, sound) for picture, sound in some]
    others = [model.score(some[i][0], some[i - 1][1]).r0 for i in range(len(some))]
    late = [model.score(p, np.roll(s, DELAY, 0)).r0 for p, s in some]
    return {
        "scored": len(some),
        "r0": round(float(np.mean([score.r0 for score in own])), 3),
        "z": round(float(np.mean([score.z for score in own])), 2),
        "r0 of another sound": round(float(np.mean(others)), 3),
        "r0 when late": round(float(np.mean(late)), 3),
        "offset in frames": round(float(np.mean([score.offset_frames for score in own])), 2),
        "within one frame": sum(abs(score.offset_frames) <= 1 for score in own),
    }


def read_prepared(prepared: Prepared, record: ClipRecord) -> Clip:
    """A prepared clip, as long as those that are made."""
    clip = prepared.clip(record)
    assert clip.waveform is not None and clip.sample_rate is not None
    length = num_samples(NUM_FRAMES, clip.fps, clip.sample_rate)
    return replace(clip, frames=clip.frames[:NUM_FRAMES], waveform=clip.waveform[:, :length])


def strip(frames: np.ndarray) -> np.ndarray:
    """Ten frames side by side."""
    return np.concatenate(list(frames[8 : 8 + 60 : 6]), axis=1)


def puppets_recognizer() -> GrammarRecognizer:
    """Hears the sentences that puppets say."""
    rules = [f"<w{i}> = {' | '.join(words)};" for i, words in enumerate(GRAMMAR)]
    sentence = " ".join(f"<w{i}>" for i in range(len(GRAMMAR)))
    head = f"#JSGF V1.0;\ngrammar puppets;\npublic <sentence> = {sentence};\n"
    return GrammarRecognizer(head + "\n".join(rules))


def said_of(caption: str) -> dict[str, str]:
    """The colours that a puppet's caption names; "none" for the hair of a bald one."""
    bald = "no hair" in caption
    return {
        "background": found(r"before an? (\w+) wall", caption),
        "clothes": found(r" in an? (\w+) ", caption),
        "hair": "none" if bald else found(r"(\w+) hair", caption),
        "skin": found(r"with (\w+) skin", caption),
    }


def found(pattern: str, caption: str) -> str:
    """The word that a pattern finds."""
    match = re.search(pattern, caption)
    assert match is not None, caption
    return match[1]


class Colours:
    """Names of the colours at an attribute's place, by the real training clips of a shape."""

    def __init__(self, folder: Path, shape: str) -> None:
        self.places = PLACES[shape]
        seen: dict[str, dict[str, list[np.ndarray]]] = {key: {} for key in self.places}
        for caption, frames in training_puppets(folder):
            for key, name in kinds(caption).items():
                seen[key].setdefault(name, []).append(colour(frames, self.places[key]))
        self.names = {key: list(by_name) for key, by_name in seen.items()}
        self.centres = {
            key: np.stack([np.mean(values, 0) for values in by_name.values()])
            for key, by_name in seen.items()
        }

    def agree(self, frames: np.ndarray, caption: str) -> dict[str, bool]:
        """Whether each attribute of frames [T, H, W, 3] has the colour that the caption names."""
        agreed = {}
        for key, name in kinds(caption).items():
            away = np.square(self.centres[key] - colour(frames, self.places[key])).sum(1)
            agreed[key] = self.names[key][int(away.argmin())].split()[0] == name.split()[0]
        return agreed


def training_puppets(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Caption and frames of each."""
    prepared = Prepared(folder, "train")
    for record in prepared.records():
        if record.corpus == "puppets":
            yield record.caption, prepared.clip(record).frames


def kinds(caption: str) -> dict[str, str]:
    """What is to be told apart: of bald heads, each colour of skin."""
    said = said_of(caption)
    skin = said.pop("skin")
    return said | ({"hair": f"none {skin}"} if said["hair"] == "none" else {})


def colour(frames: np.ndarray, places: list[tuple[float, float, float, float]]) -> np.ndarray:
    """The median colour of some places of frames uint8 [T, H, W, 3], in CIE Lab: [3]."""
    height, width = frames.shape[1:3]
    pixels = []
    for top, bottom, left, right in places:
        rows = slice(int(top * height), max(int(top * height) + 1, int(bottom * height)))
        columns = slice(int(left * width), max(int(left * width) + 1, int(right * width)))
        pixels.append(frames[::6, rows, columns].reshape(-1, 3))
    median = np.median(np.concatenate(pixels), axis=0).astype(np.float32) / 255
    return cv2.cvtColor(median[None, None], cv2.COLOR_RGB2Lab)[0, 0]


if __name__ == "__main__":
    main()
