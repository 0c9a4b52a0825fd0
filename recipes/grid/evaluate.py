"""PREPARED MODEL OUT -> what the model is worth: figures, contact sheets, spectrograms and clips.

    python recipes/grid/evaluate.py PREPARED MODEL OUT --landmarks face_landmarker.task

Every task is measured with the same functions as the real clips of the same sentences. A task may
carry its own number of clips, as in `--tasks text:50 sound:12`. OUT/results.json is written anew
after each task, so a run that is stopped leaves what it has.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import measures
import numpy as np
import torch
from measures import MouthTracker
from report import jsonable, summarize, tables, write_sheets
from tqdm import tqdm

from avgen import __version__
from avgen.clips.clip import Clip, Word
from avgen.clips.media.read import write_clip
from avgen.clips.timebase import num_samples, parse_rate, to_index, to_seconds
from avgen.corpora.manifest import ClipRecord, read_manifest
from avgen.evaluation.speech.rating import dnsmos
from avgen.evaluation.speech.recognition import RECOGNIZER, GridRecognizer, word_errors
from avgen.pipeline import AVPipeline

EXTENDED_S = 1.0  # a continuation begins at the first word that starts later than this, less a bit
SHOWN = 4  # clips in a sheet
PACKAGES = ("torch", "numpy", "pocketsphinx", "mediapipe", "speechmos", "pystoi", "torchmetrics")


@dataclass(frozen=True)
class Real:
    """A real clip, cut to the model's length, and what is said in it.

    Attributes:
        record: Of the manifest.
        clip: Frames and sound.
        index: Among the clips measured; the seed of what is made from it.
    """

    record: ClipRecord
    clip: Clip
    index: int

    @property
    def words(self) -> tuple[Word, ...]:
        """What is said, and when."""
        return self.record.words

    @property
    def text(self) -> str:
        """What is said."""
        return " ".join(word.text for word in self.words)

    @property
    def join(self) -> int:
        """Frame from which a continuation is made: where a word begins, so that none is cut."""
        fps, near = self.clip.fps, EXTENDED_S - 0.1
        starts = [word.start_s for word in self.words if word.start_s >= near]
        return to_index(starts[0] if starts else EXTENDED_S, fps)


@dataclass(frozen=True)
class Made:
    """A clip, the words it should say with their times, and figures that only its task has."""

    clip: Clip
    words: tuple[Word, ...]
    figures: dict[str, float]


Maker = Callable[["Evaluation", Real, dict[str, Any]], Made]


def read_real(folder: Path, record: ClipRecord, pipe: AVPipeline, index: int) -> Real:
    """Read a prepared clip, cut to the length that the model makes."""
    config = pipe.config
    rates = json.loads((folder / "rates.json").read_text())
    if rates["fps"] != config.fps or rates["sample_rate"] != pipe.audio_codec.sample_rate:
        raise ValueError(
            f"{folder}: prepared at {rates}; the model is for {config.fps} fps and "
            f"{pipe.audio_codec.sample_rate} Hz"
        )
    frames = np.load(folder / "frames" / f"{record.id}.npy")[: config.num_frames]
    sound = np.load(folder / "waveforms" / f"{record.id}.npy").reshape(1, -1)
    fps = parse_rate(rates["fps"])
    length = num_samples(len(frames), fps, rates["sample_rate"])
    waveform = sound[:, :length].astype(np.float32) / 32768
    return Real(record, Clip(frames, fps, waveform, rates["sample_rate"]), index)


# What is made from a real clip


def through_codecs(run: Evaluation, real: Real, _: dict[str, Any]) -> Made:
    """The real clip, encoded and decoded."""
    pipe, clip = run.pipe, real.clip
    assert clip.waveform is not None and clip.sample_rate is not None
    with torch.inference_mode():
        pixels = torch.from_numpy(clip.frames).to(pipe.device).movedim(-1, 0)[None].float()
        latents = pipe.video_codec.encode(pixels / 127.5 - 1)
        decoded = pipe.video_codec.decode(
            latents, num_frames=clip.num_frames, height=clip.height, width=clip.width
        )
        frames = ((decoded[0].movedim(0, -1) + 1) * 127.5).round().clamp(0, 255).byte().cpu()
        sound = pipe.audio_codec.encode(torch.from_numpy(clip.waveform)[None].to(pipe.device))
        waveform = pipe.audio_codec.decode(sound, num_samples=clip.num_samples)[0].clamp(-1, 1)
    made = replace(clip, frames=frames.numpy(), waveform=waveform.float().cpu().numpy())
    assert made.waveform is not None
    join, inside = measures.step_errors(clip.frames, made.frames, run.stride)
    mouths = [measures.mouth_region(frames) for frames in (clip.frames, made.frames)]
    figures = {
        "psnr": measures.psnr(clip.frames, made.frames),
        "ssim": measures.ssim(clip.frames, made.frames),
        "mouth_psnr": measures.psnr(*mouths),
        "mouth_sharpness": measures.sharpness(mouths[1]) / measures.sharpness(mouths[0]),
        "step_error_join": join,
        "step_error_inside": inside,
        "stoi": measures.stoi(clip.waveform, made.waveform, clip.sample_rate),
    }
    return Made(made, real.words, figures)


def from_text(run: Evaluation, real: Real, sampling: dict[str, Any]) -> Made:
    """From the sentence alone, at times that the model predicts."""
    clip = run.pipe(f'{real.record.caption} says "{real.text}"', **run.length, **sampling)
    words = run.pipe.config.timer.time(real.text, float(clip.duration_s))
    return Made(clip, words, {})


def from_sound(run: Evaluation, real: Real, sampling: dict[str, Any]) -> Made:
    """A face for the real voice, without its words."""
    clip = run.pipe(real.record.caption, audio=sound_of(real.clip), **run.length, **sampling)
    return Made(clip, real.words, {})


def from_sound_and_words(run: Evaluation, real: Real, sampling: dict[str, Any]) -> Made:
    """A face for the real voice, with its words and their times."""
    given = {"audio": sound_of(real.clip), "words": real.words}
    clip = run.pipe(real.record.caption, **given, **run.length, **sampling)  # type: ignore[arg-type]
    return Made(clip, real.words, {})


def from_video(run: Evaluation, real: Real, sampling: dict[str, Any]) -> Made:
    """A voice for the real face: lips are read."""
    return Made(run.pipe(real.record.caption, video=silent(real.clip), **sampling), real.words, {})


def from_video_and_words(run: Evaluation, real: Real, sampling: dict[str, Any]) -> Made:
    """A voice for the real face, with its words and their times."""
    clip = run.pipe(real.record.caption, video=silent(real.clip), words=real.words, **sampling)
    return Made(clip, real.words, {})


def from_picture(run: Evaluation, real: Real, sampling: dict[str, Any]) -> Made:
    """From one real frame and the sentence."""
    face = real.clip.frames[0]
    clip = run.pipe(
        f'{real.record.caption} says "{real.text}"', image=face, **run.length, **sampling
    )
    words = run.pipe.config.timer.time(real.text, float(clip.duration_s))
    return Made(clip, words, run.identities(real, clip))


def from_beginning(run: Evaluation, real: Real, sampling: dict[str, Any]) -> Made:
    """From the beginning of the real clip, to a word's end, and the words that follow, in time."""
    clip, fps = real.clip, real.clip.fps
    assert clip.waveform is not None and clip.sample_rate is not None
    start_s = float(to_seconds(real.join, fps))
    sound = clip.waveform[:, : num_samples(real.join, fps, clip.sample_rate)]
    beginning = replace(clip, frames=clip.frames[: real.join], waveform=sound)
    later = [
        Word(word.text, max(0.0, word.start_s - start_s), word.end_s - start_s)
        for word in real.words
        if word.end_s > start_s + 0.5 / fps
    ]
    made = run.pipe(real.record.caption, extend=beginning, words=later, **run.length, **sampling)
    return Made(made, real.words, run.jumps(real, made))


MAKERS: dict[str, dict[str, Maker]] = {
    "codec": {"codec": through_codecs},
    "text": {"text": from_text},
    "sound": {"sound": from_sound, "sound+words": from_sound_and_words},
    "video": {"video": from_video, "video+words": from_video_and_words},
    "picture": {"picture": from_picture},
    "extend": {"extend": from_beginning},
}


def sound_of(clip: Clip) -> tuple[np.ndarray, int]:
    """Its waveform and sample rate."""
    assert clip.waveform is not None and clip.sample_rate is not None
    return clip.waveform, clip.sample_rate


def silent(clip: Clip) -> Clip:
    """The clip without its sound."""
    return replace(clip, waveform=None, sample_rate=None)


class Evaluation:
    """Makes clips, measures them beside the real ones, and keeps the figures.

    Args:
        pipe: The model.
        reals: Real clips.
        landmarks: MediaPipe's `face_landmarker.task`.
        out: Folder for everything that is written.
        sampling: Arguments of the pipeline besides the seed.
        seed: Of the first clip; each next one has the next.
    """

    def __init__(
        self,
        pipe: AVPipeline,
        reals: Sequence[Real],
        landmarks: Path,
        out: Path,
        sampling: dict[str, Any],
        seed: int,
    ) -> None:
        self.pipe, self.reals, self.out, self.sampling, self.seed = pipe, reals, out, sampling, seed
        self.stride = pipe.video_codec.stride[0]
        self.mouth, self.recognize = MouthTracker(landmarks), GridRecognizer()
        self.figures: dict[str, list[dict[str, Any]]] = {}
        self.openings: dict[str, np.ndarray] = {}

    @property
    def length(self) -> dict[str, int]:
        """The pipeline's argument for clips as long as the real ones."""
        return {"num_frames": self.reals[0].clip.num_frames}

    def opening(self, clip: Clip, real: Real) -> np.ndarray:
        """Opening of the mouth [T]; of a real clip's frames, wherever they turn up, found once."""
        if not np.array_equal(clip.frames, real.clip.frames):
            return self.mouth(clip.frames)
        if real.record.id not in self.openings:
            self.openings[real.record.id] = self.mouth(clip.frames)
        return self.openings[real.record.id]

    def measure(self, clip: Clip, words: Sequence[Word], real: Real) -> dict[str, Any]:
        """Every figure that needs nothing but a clip and the words it should say."""
        waveform, rate = sound_of(clip)
        heard, said = self.recognize(waveform, rate), [word.text for word in words]
        opening = self.opening(clip, real)
        mouth = measures.filled(opening)
        energy = measures.log_energy(waveform, rate, clip.num_frames, clip.fps)
        activity = measures.activity(words, clip.num_frames, clip.fps)
        return {
            "id": real.record.id,
            "said": " ".join(said),
            "heard": " ".join(heard),
            "word_errors": word_errors(said, heard),
            "words": len(said),
            "dnsmos": dnsmos(waveform, rate).overall,
            **measures.synchrony("sound", mouth, energy),
            **measures.synchrony("words", mouth, activity),
            **measures.synchrony("detail", measures.detail(mouth), measures.detail(energy)),
            "mouth": mouth.tolist(),
            "energy": energy.tolist(),
            "opening_spread": float(np.std(mouth)),
            "detected": float(np.mean(~np.isnan(opening))),
            "frozen": measures.frozen(clip.frames, activity > 0.99),
            **measures.flicker(clip.frames, self.stride),
        }

    def identities(self, real: Real, clip: Clip) -> dict[str, float]:
        """Mean of the made frames against the given one and another clip's; the real mean too."""
        other = self.reals[(real.index + 1) % len(self.reals)].clip.frames[0]
        face = real.clip.frames[0]
        pairs = {
            "identity": (clip.frames[1:], face),
            "other": (clip.frames[1:], other),
            "real": (real.clip.frames[1:], face),
        }
        return {
            f"{name}_{kind}": value
            for name, pair in pairs.items()
            for kind, value in measures.identity(*pair).items()
        }

    def jumps(self, real: Real, made: Clip) -> dict[str, float]:
        """Steps at the join over those usual in the real clip, in picture and sound; 1 is usual."""
        usual = float(np.median(measures.steps(real.clip.frames)))
        figures = {}
        for name, clip in (("", made), ("real_", real.clip)):
            waveform, rate = sound_of(clip)
            step = float(measures.steps(clip.frames)[real.join - 1])
            sample = num_samples(real.join, clip.fps, rate)
            figures[f"{name}picture_jump"] = step / usual
            figures[f"{name}sound_jump"] = measures.sample_jump(waveform, sample)
        return figures

    def run(self, name: str, make: Maker | None, count: int) -> None:
        """Make and measure `count` clips; None measures the real ones."""
        folder, shown = self.out / name, []
        folder.mkdir(parents=True, exist_ok=True)
        figures = self.figures[name] = []
        for real in tqdm(self.reals[:count], desc=name, unit="clip"):
            sampling = {**self.sampling, "seed": self.seed + real.index, "progress": False}
            begun = time.perf_counter()
            made = Made(real.clip, real.words, {}) if make is None else make(self, real, sampling)
            seconds = time.perf_counter() - begun
            measured = self.measure(made.clip, made.words, real)
            figures.append({**measured, **made.figures, "made_s": seconds})
            write_clip(made.clip, folder / f"{real.record.id}.mp4", overwrite=True)
            if len(shown) < SHOWN:
                shown.append((real.clip, made.clip))
        write_sheets(shown, folder)


def parse_task(text: str) -> tuple[str, int | None]:
    """A task's name and its number of clips: "text" or "text:50"."""
    name, _, count = text.partition(":")
    if name not in MAKERS or (count and not count.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r}; tasks are {', '.join(MAKERS)}, as in text:50")
    return name, int(count) if count else None


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("prepared", type=Path, help="a prepared folder")
    add("model", type=Path, help="a model folder")
    add("out", type=Path, help="folder for everything that is written")
    add("--landmarks", type=Path, required=True, help="MediaPipe's face_landmarker.task")
    add("--split", default="test", choices=("train", "validation", "test"))
    add("--num-clips", type=int, default=50)
    add("--seed", type=int, default=0, help="chooses the clips, and is the seed of the first")
    add("--tasks", nargs="+", type=parse_task, default=[(name, None) for name in MAKERS])
    add("--threads", type=int, default=2, help="of torch")
    add("--device", default="cpu")
    add("--num-inference-steps", type=int)
    add("--guidance-scale", type=float)
    add("--audio-guidance-scale", type=float)
    return parser.parse_args()


def start(args: argparse.Namespace) -> Evaluation:
    """Read the model and choose the clips: the first of the split's, shuffled by the seed."""
    pipe = AVPipeline.from_pretrained(args.model, args.device)
    records = [r for r in read_manifest(args.prepared / "manifest.jsonl") if r.split == args.split]
    random.Random(args.seed).shuffle(records)
    chosen = records[: args.num_clips]
    if len(chosen) < args.num_clips:
        print(f"{args.split} has {len(chosen)} clips; all are measured")
    reals = [read_real(args.prepared, record, pipe, index) for index, record in enumerate(chosen)]
    names = ("num_inference_steps", "guidance_scale", "audio_guidance_scale")
    sampling = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return Evaluation(pipe, reals, args.landmarks, args.out, sampling, args.seed)


def main() -> None:
    """Measure."""
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    evaluation = start(args)
    weights = {
        str(path.relative_to(args.model)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(args.model.rglob("*.safetensors"))
    }
    results: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv]),
        "seed": args.seed,
        "versions": {"avgen": __version__} | {name: version(name) for name in PACKAGES},
        "weights_sha256": weights,
        "recognizer": RECOGNIZER,
    }
    with closing(evaluation.mouth.landmarker):
        measure(args, evaluation, results)


def measure(args: argparse.Namespace, evaluation: Evaluation, results: dict[str, Any]) -> None:
    """Run every task; tables and figures are rewritten after each, so that a stop loses little."""
    runs = [("real", None, len(evaluation.reals))]
    for task, count in args.tasks:
        runs += [(name, make, count or args.num_clips) for name, make in MAKERS[task].items()]
    for name, make, count in runs:
        evaluation.run(name, make, count)
        clips = evaluation.figures
        results["summary"] = {key: summarize(value, clips["real"]) for key, value in clips.items()}
        results["clips"] = clips
        (args.out / "results.json").write_text(json.dumps(jsonable(results), indent=1) + "\n")
        (args.out / "tables.md").write_text(tables(results["summary"]))
    print(tables(results["summary"]))


if __name__ == "__main__":
    main()
