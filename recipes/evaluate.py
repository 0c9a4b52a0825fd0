"""PREPARED MODEL OUT -> clips of test sentences by every task, measured by `avgen evaluate`.

    python recipes/evaluate.py PREPARED MODEL OUT --landmarks face_landmarker.task

OUT/real gets the real clips, OUT/clips/TASK those made from them, OUT/reports/TASK the report, with
the real clips as references, and contact sheets. A task may carry its own number of clips, as in
`--tasks text:50 sound:12`. A clip that is there is not made again. Words are recognised among
GRID's, or by Whisper (`--recognizer whisper`), which knows any.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from contact_sheets import write_sheets
from PIL import Image
from tqdm import tqdm

from avgen.cli import main as avgen
from avgen.clips import Clip, read_clip, write_clip
from avgen.clips.timebase import num_samples, parse_rate, to_index, to_seconds
from avgen.corpora.manifest import ClipRecord, read_manifest
from avgen.evaluation.report.tables import headlines
from avgen.evaluation.run.runner import Request, evaluate

EXTENDED_S = 1.0  # a continuation begins at the first word that starts later than this, less a bit
SHOWN = 4  # clips in a sheet
RECOGNIZERS = {"grid": "GridRecognizer", "whisper": "WhisperRecognizer"}
METRICS = (
    *("media", "sync", "landmark_sync", "mouth", "opening", "lips", "reference", "picture"),
    *("wer", "dnsmos", "identity", "speaker", "fd@avgen-video", "fd@avgen-audio"),
)

Flags = list[str]


class Sentence:
    """A real clip as files, and what is said in it.

    Args:
        record: Of the manifest.
        prepared: The prepared folder.
        out: Folder for its files.
        num_frames: Of what is made from it; all, where None.
    """

    def __init__(
        self, record: ClipRecord, prepared: Path, out: Path, num_frames: int | None
    ) -> None:
        rates = json.loads((prepared / "rates.json").read_text())
        fps, rate = parse_rate(rates["fps"]), rates["sample_rate"]
        frames = np.load(prepared / "frames" / f"{record.id}.npy")[:num_frames]
        sound = np.load(prepared / "waveforms" / f"{record.id}.npy").reshape(1, -1)
        sound = sound[:, : num_samples(len(frames), fps, rate)].astype(np.float32) / 32767
        self.record, self.out = record, out
        self.clip = Clip(frames, fps, sound, rate)
        self.text = record.transcript or " ".join(word.text for word in record.words)
        self.said = f'{record.caption} says "{self.text}"'
        self.real = self.file("real", self.clip)
        self.tell(self.real)

    def tell(self, path: Path) -> None:
        """Write beside a clip what is said in it and when, as `avgen generate` does."""
        phonemes = [[p.phoneme, p.start_s, p.end_s] for p in self.record.phonemes or ()]
        told = {"parameters": {"speech": self.text}, "phonemes": phonemes}
        path.with_name(path.name + ".json").write_text(json.dumps(told))

    def file(self, name: str, clip: Clip) -> Path:
        """A clip, written once, without loss."""
        path = self.out / name / f"{self.record.id}.mkv"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_clip(clip, path)
        return path

    def words(self, start_s: float = 0.0) -> Flags:
        """The words that are said from a time on, as `avgen generate` takes them."""
        later = [
            f"{word.text} {max(0.0, word.start_s - start_s):.3f}-{word.end_s - start_s:.3f}"
            for word in self.record.words
            if word.end_s > start_s + 0.5 / self.clip.fps
        ]
        return ["--words", " ".join(later)]

    def picture(self) -> Flags:
        """The first frame, which is also whom the clip should show."""
        path = self.out / "persons" / f"{self.record.id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.clip.frames[0]).save(path)
        return ["--image", str(path)]

    def silent(self) -> Flags:
        """The picture alone."""
        path = self.file("silent", replace(self.clip, waveform=None, sample_rate=None))
        return ["--video", str(path)]

    def beginning(self) -> Flags:
        """The clip up to a word's start, and the words that follow."""
        clip, near = self.clip, EXTENDED_S - 0.1
        assert clip.waveform is not None and clip.sample_rate is not None
        starts = [word.start_s for word in self.record.words if word.start_s >= near]
        join = to_index(starts[0] if starts else EXTENDED_S, clip.fps)
        sound = clip.waveform[:, : num_samples(join, clip.fps, clip.sample_rate)]
        path = self.file("beginning", replace(clip, frames=clip.frames[:join], waveform=sound))
        return ["--extend", str(path), *self.words(float(to_seconds(join, clip.fps)))]


TASKS: dict[str, Callable[[Sentence], Flags]] = {
    "text": lambda s: ["--prompt", s.said],
    "sound": lambda s: ["--prompt", s.record.caption, "--audio", str(s.real)],
    "sound+words": lambda s: [
        *("--prompt", s.record.caption, "--audio", str(s.real)),
        *s.words(),
    ],
    "video": lambda s: ["--prompt", s.record.caption, *s.silent()],
    "video+words": lambda s: ["--prompt", s.record.caption, *s.silent(), *s.words()],
    "picture": lambda s: ["--prompt", s.said, *s.picture()],
    "extend": lambda s: ["--prompt", s.record.caption, *s.beginning()],
    "codec": lambda _: [],
}


def make(
    task: str, sentence: Sentence, model: Path, seed: int, num_frames: int | None, more: Flags
) -> Path:
    """The clip of a task, by `avgen generate` or, for "codec", `avgen reconstruct`."""
    path = sentence.out / "clips" / task / f"{sentence.record.id}.mp4"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    if task == "codec":
        command = ["reconstruct", str(sentence.real), str(path), "--model", str(model)]
    else:
        is_free = num_frames is None and task in ("text", "picture")  # as long as it takes to say
        fixed = ["--num-frames", str(sentence.clip.num_frames)]
        length = [] if is_free or "video" in task else fixed
        flags = [*TASKS[task](sentence), *length, "--seed", str(seed), *more]
        command = ["generate", *flags, "--model", str(model), "-o", str(path)]
    if avgen(command):
        raise RuntimeError(f"avgen {' '.join(command)} failed")
    if task not in ("text", "picture"):  # the others are timed as the real clip is
        sentence.tell(path)
    return path


def parse_task(text: str) -> tuple[str, int | None]:
    """A task's name and its number of clips: "text" or "text:50"."""
    name, _, count = text.partition(":")
    if name not in TASKS or (count and not count.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r}; tasks are {', '.join(TASKS)}, as in text:50")
    return name, int(count) if count else None


def main() -> None:
    """Make and measure; whatever follows `--` goes to `avgen generate`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("prepared", type=Path, help="a prepared folder")
    add("model", type=Path, help="a model folder")
    add("out", type=Path, help="folder for everything that is written")
    add("--landmarks", type=Path, help="MediaPipe's face_landmarker.task")
    add("--split", default="test", choices=("train", "validation", "test"))
    add("--num-clips", type=int, default=50)
    add("--num-frames", type=int, help="of a clip (default: all of it, or what it takes to say)")
    add("--seed", type=int, default=0, help="chooses the clips, and is the seed of the first")
    add("--tasks", nargs="+", type=parse_task, default=[(name, None) for name in TASKS])
    add("--workers", type=int, default=1, help="processes of the evaluation")
    add("--recognizer", choices=RECOGNIZERS, default="grid")
    args, more = parser.parse_known_args()
    records = [r for r in read_manifest(args.prepared / "manifest.jsonl") if r.split == args.split]
    random.Random(args.seed).shuffle(records)
    for task, count in args.tasks:
        chosen = records[: count or args.num_clips]
        sentences = [Sentence(r, args.prepared, args.out, args.num_frames) for r in chosen]
        flags = [flag for flag in more if flag != "--"]
        start = time.perf_counter()
        made = [
            make(task, sentence, args.model, args.seed + index, args.num_frames, flags)
            for index, sentence in enumerate(tqdm(sentences, desc=task, unit="clip"))
        ]
        print(f"{task}: {(time.perf_counter() - start) / len(made):.1f} s a clip to make")
        report = measure(args, task, sentences)
        pairs = [(s.clip, read_clip(p)) for s, p in zip(sentences, made, strict=True)][:SHOWN]
        write_sheets(pairs, report)


def measure(args: argparse.Namespace, task: str, sentences: list[Sentence]) -> Path:
    """Evaluate a task's clips beside the real ones of the same sentences, and print."""
    out: Path = args.out
    real, report = out / "references" / task, out / "reports" / task
    real.mkdir(parents=True, exist_ok=True)
    for path in (sentence.real for sentence in sentences):
        for part in (path, path.with_name(path.name + ".json")):
            if not (real / part.name).exists():
                (real / part.name).symlink_to(part.resolve())
    request = Request(
        out / "clips" / task,
        reference=real,
        metrics=METRICS,
        weights={"face_landmarker": args.landmarks} if args.landmarks else {},
        seed=args.seed,
        recognizer=f"avgen.evaluation.speech.recognition.{RECOGNIZERS[args.recognizer]}",
    )
    print(headlines(evaluate(request, report, workers=args.workers)))
    return report


if __name__ == "__main__":
    main()
