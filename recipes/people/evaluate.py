"""MODEL -> everything that README.md says of it: people and sentences that nothing was trained on.

    python recipes/people/evaluate.py OUT MODEL --portraits PICTURES --train prepared/portraits
        --face-landmarker face_landmarker.task --held-out SENTENCES (in one line)

OUT/prepared gets test portraits that say the sentences in test voices: the corpus' own clips, with
which all is compared. OUT/reports has what `avgen evaluate` says of each task and of `driven`
(real voices drive faces), `strangers` (pictures of --pictures speak) and `minute`; OUT/drawn has
first pictures alone; OUT/report.json the rest. What is finished is not done again.
"""

import argparse
import json
import subprocess
import sys
from fractions import Fraction
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from PIL import Image
from tqdm import tqdm

from avgen.clips import read_clip
from avgen.clips.media.read import read_audio
from avgen.corpora.librispeech import NAME as LIBRISPEECH
from avgen.corpora.manifest import ClipRecord, read_manifest
from avgen.corpora.portraits.heads import Portrait, find_portraits
from avgen.corpora.splits import split_by_speaker
from avgen.corpora.voices.sentences import read_sentences
from avgen.corpora.voices.voice_corpus import VoicePlan, make_corpus
from avgen.errors import UserError
from avgen.evaluation.faces.identity import face_embedding
from avgen.evaluation.report.tables import headlines
from avgen.evaluation.run.runner import Request, evaluate
from avgen.evaluation.speech.rating import voice_embedding
from avgen.evaluation.subject import Unscored
from avgen.pipeline import AVPipeline
from avgen.pipeline.parts import TEXT_TO_IMAGE
from avgen.pipeline.request import GenerateRequest
from avgen.preparation.talking_pictures import PortraitRequest, prepare_portraits
from avgen.studio.making import Manner, make_clip, read
from avgen.training.stages import run_stages

HERE = Path(__file__).resolve().parent
RATE = 16_000  # Hz, of voices that are compared
RECOGNIZER = "avgen.evaluation.speech.recognition.WhisperRecognizer"
METRICS = ("media", "sync", "mouth", "lips", "wer", "dnsmos")
NEAREST = 12  # clips of the sheet of nearest portraits
DRAWS = 3  # first pictures of a prompt: what few are asked to wear is seen in many


def main() -> None:
    """Make what is measured, and measure it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("out", type=Path, help="a folder for everything")
    add("model", type=Path, help="a model folder")
    add("--portraits", type=Path, required=True, help="as run.py's")
    add("--face-landmarker", type=Path, required=True)
    add("--held-out", type=Path, required=True, help="sentences, a line each")
    add("--train", type=Path, required=True, help="the prepared portraits of the training")
    add("--librispeech", type=Path, help="for voices of real people")
    add("--pictures", type=Path, help="pictures of other people")
    add("--clips", type=int, default=100, help="of a kind, at most")
    add("--workers", type=int, default=1)
    args = parser.parse_args()
    for line in run_stages(args.out, Evaluation(args).stages()):
        print(line, flush=True)


class Evaluation:
    """What is made and measured, in order.

    Args:
        args: The command line's.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.out, self.prepared = args, args.out, args.out / "prepared"
        self.pipe: AVPipeline | None = None

    def stages(self) -> dict[str, Any]:
        """The stages by name: what each makes last, and how."""
        out, looks = self.out, HERE / "looks.py"
        fitted, other = out / "looks.joblib", HERE / "other_words.jsonl"
        codec = ("--codec", self.args.model / "video_codec")
        last = f"{len(lines_of(other)) - 1:03d}-{DRAWS - 1}"
        stages = {
            "voices": (out / "voices/manifest.jsonl", self.speak),
            "portraits": (self.prepared / "manifest.jsonl", self.animate),
            "tasks": (out / "reports/text/summary.json", self.tasks),
            "faces": (out / "nearest.png", self.faces),
            "fit_looks": (fitted, lambda: run(looks, "fit", self.args.train, fitted, *codec)),
            "real_looks": (fitted, lambda: run(looks, "measure", self.prepared, fitted, *codec)),
            "asked_looks": (out / "asked.jsonl", lambda: self.looks("clips/text", self.told())),
            "other_words": (out / "other", lambda: self.looks("other", self.in_other_words(other))),
            "minute": (out / "reports/minute/summary.json", self.minute),
        }
        if (self.args.model / TEXT_TO_IMAGE).is_dir():
            stages["drawn"] = out / "drawn/words" / f"{last}.png", lambda: self.drawn(other)
        if self.args.librispeech is not None:
            stages["voice"] = out / "voice", self.likeness_of_voices
            stages["driven"] = out / "reports/driven/summary.json", self.driven
        if self.args.pictures is not None:
            stages["strangers"] = out / "reports/strangers/summary.json", self.strangers
        return stages

    def speak(self) -> None:
        """Test voices say the sentences."""
        sentences = read_sentences([self.args.held_out])
        plan = VoicePlan("hibari", 0, 360, 4, only="test")
        make_corpus(self.out / "voices", plan, sentences, self.args.workers)

    def animate(self) -> None:
        """Test portraits speak with these voices."""
        found = find_portraits(self.args.portraits)
        names = [one.name for one in found if isinstance(one, Portrait) and one.split == "test"]
        if not names:
            raise UserError(f"{self.args.portraits}: nobody is of the test split")
        request = PortraitRequest(
            self.args.portraits,
            [self.out / "voices"],
            self.prepared,
            self.args.face_landmarker,
            clips=-(-self.args.clips // len(names)),
            workers=self.args.workers,
        )
        prepare_portraits(request, lambda _done, _all: None, names)

    def tasks(self) -> None:
        """The corpus' clips anew by the tasks of recipes/evaluate.py."""
        many, some = self.args.clips, max(4, self.args.clips // 3)
        counts = {"text": many, "codec": many, "picture": some, "sound": some, "video": some}
        tasks = [f"{name}:{count}" for name, count in (counts | {"extend": some}).items()]
        landmarks = ["--landmarks", self.args.face_landmarker]
        options = ["--recognizer", "whisper", "--workers", self.args.workers, *landmarks]
        script = HERE.parent / "evaluate.py"
        run(script, self.prepared, self.args.model, self.out, *options, "--tasks", *tasks)

    def faces(self) -> dict[str, float]:
        """How unlike the people of the clips are, and whom of the training they are nearest to."""
        clips = sorted((self.out / "clips/text").glob("*.mp4"))
        made = embeddings((path, read_clip(path).frames) for path in clips)
        records = {r.speaker: r for r in read_manifest(self.args.train / "manifest.jsonl")}
        known = embeddings(
            (name, frames_of(self.args.train, record)[:1]) for name, record in records.items()
        )
        test = {r.speaker: r for r in read_manifest(self.prepared / "manifest.jsonl")}
        real = embeddings((name, frames_of(self.prepared, record)) for name, record in test.items())
        rows = []
        for path in list(made)[:: max(1, len(made) // NEAREST)][:NEAREST]:
            nearest = min(known, key=lambda name: float(np.linalg.norm(known[name] - made[path])))
            frames = read_clip(path).frames, frames_of(self.args.train, records[nearest])
            rows.append(np.concatenate([f[len(f) // 2] for f in frames], 0))
        Image.fromarray(np.concatenate(rows, 1)).save(self.out / "nearest.png")
        between, apart = mean_distance(made), mean_distance(real)
        return {"made": between, "portraits": apart, "ratio": between / apart}

    def told(self) -> list[dict[str, Any]]:
        """What should be seen of the clips of captions."""
        records = read_manifest(self.prepared / "manifest.jsonl")
        return [{"id": record.id, "seen": record.labels} for record in records]

    def in_other_words(self, path: Path) -> list[dict[str, Any]]:
        """Clips of prompts that the training's captions do not use the words of."""
        sentences = self.args.held_out.read_text().splitlines()
        lines = lines_of(path)[: self.args.clips]
        for number, line in enumerate(lines):
            line["id"] = f"{number:03d}"
            prompt = f'{line["prompt"]} says "{sentences[number % len(sentences)]}"'
            self.make(self.out / "other" / f"{line['id']}.mp4", number, prompt=prompt)
        return lines

    def drawn(self, other: Path) -> None:
        """First pictures alone, DRAWS of each caption and of the prompts in other words."""
        people = {r.caption: r.labels for r in read_manifest(self.prepared / "manifest.jsonl")}
        told = [{"prompt": caption, "seen": labels} for caption, labels in people.items()]
        for folder, lines in {"captions": told, "words": lines_of(other)}.items():
            asked = []
            for number, draw in product(range(len(lines)), range(DRAWS)):
                line = {**lines[number], "id": f"{number:03d}-{draw}"}
                path = self.out / "drawn" / folder / f"{line['id']}.png"
                self.draw(path, DRAWS * number + draw, line["prompt"])
                asked.append(line)
            self.looks(f"drawn/{folder}", asked)

    def looks(self, folder: str, asked: list[dict[str, Any]]) -> None:
        """How many attributes are seen as asked."""
        path = self.out / "asked.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in asked))
        files = self.out / folder, self.out / "looks.joblib"
        run(HERE / "looks.py", "score", *files, "--asked", path)

    def real_people(self) -> dict[str, list[Path]]:
        """Two halves of a recording of each of LibriSpeech's test speakers: many have but one."""
        first: dict[str, Path] = {}
        for path in sorted(self.args.librispeech.rglob("*.flac")):
            first.setdefault(path.stem.split("-")[0], path)
        people = [name for name in first if split_by_speaker(name, LIBRISPEECH) == "test"]
        folder = self.out / "recordings"
        folder.mkdir(exist_ok=True)
        found = {}
        for name in people[: self.args.clips]:
            sound = heard(first[name])[0][0]
            found[name] = [folder / f"{name}-{half}.wav" for half in (0, 1)]
            for path, part in zip(found[name], np.array_split(sound, 2), strict=True):
                soundfile.write(path, part, RATE)
        return found

    def likeness_of_voices(self) -> dict[str, float]:
        """Speaker similarity: of the voice asked for, of other people's, and of what is made."""
        sentences = self.args.held_out.read_text().splitlines()
        again, made = {}, {}
        for number, (name, paths) in enumerate(tqdm(self.real_people().items(), desc="voices")):
            prompt = f'a person says "{sentences[number % len(sentences)]}"'
            path = self.out / "voice" / f"{name}.mp4"
            self.make(path, number, prompt=prompt, voice=paths[0])
            made[name] = voice_embedding(*heard(path))
            again[name] = voice_embedding(*heard(paths[1])), voice_embedding(*heard(paths[0]))
        names = list(made)
        same = float(np.mean([again[n][0] @ again[n][1] for n in names]))
        other = float(np.mean([again[n][0] @ again[m][1] for n in names for m in names if n != m]))
        like = float(np.mean([again[n][0] @ made[n] for n in names]))
        halfway = (like - other) / (same - other)
        return {"same": same, "other": other, "made": like, "way": halfway, "people": len(names)}

    def driven(self) -> None:
        """Real voices drive faces."""
        captions = [r.caption for r in read_manifest(self.prepared / "manifest.jsonl")]
        for number, (name, paths) in enumerate(self.real_people().items()):
            caption = captions[number % len(captions)]
            path = self.out / "clips/driven" / f"{name}.mp4"
            self.make(path, number, prompt=caption, audio=paths[0], seconds=4.0)
        self.measure("driven")

    def strangers(self) -> None:
        """People of other pictures say a sentence each."""
        sentences = self.args.held_out.read_text().splitlines()
        for number, picture in enumerate(sorted(self.args.pictures.iterdir())):
            path = self.out / "clips/strangers" / f"{picture.stem}.mp4"
            self.make(path, number, speech=sentences[number % len(sentences)], image=picture)
        self.measure("strangers", ("identity",), persons=self.args.pictures)

    def minute(self) -> None:
        """A minute of speech: does face or voice drift, and is it in step throughout."""
        text = " ".join(self.args.held_out.read_text().splitlines()[:24])
        prompt = f'a young woman with long brown hair says "{text}"'
        self.make(self.out / "clips/minute/minute.mp4", 5, prompt=prompt, seconds=60.0)
        self.measure("minute", ("face_drift", "voice_drift"))

    def make(self, path: Path, seed: int, **asked: Any) -> None:
        """A clip, once, as `avgen generate` makes it."""
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self.pipe = self.pipe or AVPipeline.from_pretrained(self.args.model)
        request = GenerateRequest(seed=seed, **asked)
        ready = read(request, Fraction(self.pipe.config.fps))
        make_clip(self.pipe, request, ready, path, Manner(), False)

    @torch.inference_mode()
    def draw(self, path: Path, seed: int, caption: str) -> None:
        """The first picture of a clip, once."""
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self.pipe = pipe = self.pipe or AVPipeline.from_pretrained(self.args.model)
        conditions = pipe.conditions(GenerateRequest(prompt=f'{caption} says "hello"', seed=seed))
        Image.fromarray(pipe.first_picture(conditions, pipe.text_to_image)[0]).save(path)

    def measure(self, name: str, more: tuple[str, ...] = (), persons: Path | None = None) -> None:
        """`avgen evaluate` of clips that have no real ones."""
        request = Request(
            self.out / "clips" / name,
            metrics=(*METRICS, *more),
            weights={"face_landmarker": self.args.face_landmarker},
            recognizer=RECOGNIZER,
            persons=persons,
        )
        print(headlines(evaluate(request, self.out / "reports" / name, workers=self.args.workers)))


def run(script: Path, *arguments: object) -> None:
    """Run a script of the recipes'."""
    subprocess.run([sys.executable, str(script), *map(str, arguments)], check=True)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSONL."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def frames_of(prepared: Path, record: ClipRecord) -> np.ndarray:
    """The picture of a prepared clip."""
    return np.load(prepared / record.media, mmap_mode="r")


def heard(path: Path) -> tuple[np.ndarray, int]:
    """What is heard in a file, [1, N] at 16 kHz."""
    return read_audio(path, sample_rate=RATE, num_channels=1)


def embeddings(people: Any) -> dict[Any, np.ndarray]:
    """Whose face each is; where none is found there is none."""
    found = {}
    for name, frames in tqdm(people, desc="faces"):
        try:
            found[name] = face_embedding(np.asarray(frames))
        except Unscored as reason:
            print(f"{name}: {reason}")
    return found


def mean_distance(people: dict[Any, np.ndarray]) -> float:
    """Between any two of them."""
    pairs = combinations(people.values(), 2)
    return float(np.mean([np.linalg.norm(one - other) for one, other in pairs]))


if __name__ == "__main__":
    main()
