"""What `avgen prepare` does with clips that are wrong in known ways: a confusion table.

    python benchmarks/prepare_trial.py OUT CLIPS... [--grid-split test] [--limit 100] [--each]

Of the clips a fifth has its sound moved by 1 to 12 frames, a twentieth another clip's sound, a
twentieth a face that stands still, a twentieth sound that is no speech; the rest is as it was. All
are encoded anew (H.264, AAC), written to OUT/clips and prepared to OUT/prepared, from where the
table is made. `--each` makes every clip five times instead, once of each kind, so that a few clips
say as much of each; then how many were moved right beside the offset found in the same recording
unmoved is counted as well, since recordings may be off as they come. A clip that is damaged in the
corpus is left away.
"""

import argparse
import json
import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from avgen.clips.clip import Clip, MediaError
from avgen.clips.media.read import read_clip, write_clip
from avgen.clips.timebase import num_samples
from avgen.corpora.grid import split_of
from avgen.corpora.manifest import safe_name
from avgen.preparation import corpus
from avgen.preparation.outcome import Outcome, read_outcome
from avgen.preparation.run import Request, as_text, prepare
from avgen.preparation.settings import Settings

SHARES = {"offset": 0.2, "swapped": 0.05, "still": 0.05, "no speech": 0.05}  # the rest is good
MAX_OFFSET = 12  # frames
FPS, RATE = Fraction(25), 44_100
NOT_SPEECH = ("white noise", "pink noise", "tones", "hits")
NOISE_STILL = 1.5  # standard deviation of the sensor's noise in half of the stills, of 255


@dataclass(frozen=True)
class Made:
    """A clip of the trial: what was done to it, and by how many frames its sound is early."""

    kind: str
    early_frames: int = 0
    note: str = ""


def main() -> None:
    """Make the set, prepare it, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("clips", type=Path, nargs="+", help="folders of clips")
    parser.add_argument("--grid-split", choices=["train", "validation", "test"])
    parser.add_argument("--limit", type=int, default=100, help="clips of the folders")
    parser.add_argument("--each", action="store_true", help="every clip once of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--engine", default="pool", choices=["process", "pool", "ray"])
    args = parser.parse_args()
    paths = [p for folder in args.clips for p in sorted(folder.glob("*.mpg"))]
    if args.grid_split:
        paths = [path for path in paths if split_of(path.stem) == args.grid_split]
    generator = np.random.default_rng(args.seed)
    paths = [paths[i] for i in generator.permutation(len(paths))[: args.limit]]
    truth = make_set(paths, args.out / "clips", args.each, generator)
    request = Request(
        "folder",
        args.out / "clips",
        args.out / "prepared",
        Settings(split_by="clip"),
        engine=args.engine,
        workers=args.workers,
    )
    items = corpus.items("folder", args.out / "clips")
    summary = prepare(request, items)
    print(as_text(summary))
    outcomes = [read_outcome(path) for path in (args.out / "prepared" / "outcomes").glob("*.json")]
    print(table({outcome.id: outcome for outcome in outcomes}, truth))


def make_set(
    paths: list[Path], out: Path, each: bool, generator: np.random.Generator
) -> dict[str, Made]:
    """Write the clips that are not there yet, and what is wrong with each, by record."""
    out.mkdir(parents=True, exist_ok=True)
    drawn = [kind for kind, share in SHARES.items() for _ in range(round(share * len(paths)))]
    drawn += ["good"] * (len(paths) - len(drawn))
    mixed = [str(kind) for kind in generator.permutation(drawn)]
    rounds = [[kind] * len(paths) for kind in ("good", *SHARES)] if each else [mixed]
    truth: dict[str, Made] = {}
    for number, kinds in enumerate(rounds):
        for index, kind in enumerate(kinds):
            file = out / f"{paths[index].stem}-{number}.mp4"
            draw = np.random.default_rng([number, index])
            try:
                clip = read_clip(paths[index], fps=FPS, sample_rate=RATE, num_channels=1)
                clip, made = spoil(clip, kind, paths[(index + 1) % len(paths)], draw)
            except MediaError:
                continue
            truth[safe_name(file.name)] = made
            if not file.is_file():
                write_clip(clip, file)
    (out.parent / "truth.json").write_text(json.dumps({k: vars(v) for k, v in truth.items()}))
    return truth


def spoil(clip: Clip, kind: str, other: Path, draw: np.random.Generator) -> tuple[Clip, Made]:
    """A clip that is wrong in one way."""
    frames, sound = clip.frames, clip.waveform
    assert sound is not None
    made = Made(kind)
    if kind == "offset":
        early = int(draw.integers(1, MAX_OFFSET + 1) * draw.choice([-1, 1]))
        shift = num_samples(abs(early), FPS, RATE)
        silence = np.zeros((1, shift), np.float32)
        sound = (
            np.concatenate([sound[:, shift:], silence], 1)
            if early > 0
            else np.concatenate([silence, sound[:, :-shift]], 1)
        )
        made = Made(kind, early)
    elif kind == "swapped":
        found = read_clip(other, fps=FPS, sample_rate=RATE, num_channels=1).waveform
        assert found is not None
        sound = np.resize(found, sound.shape)
        made = Made(kind, note=other.stem)
    elif kind == "still":
        frames = np.repeat(frames[:1], len(frames), 0)
        if draw.integers(2):
            noise = draw.normal(0, NOISE_STILL, frames.shape)
            frames = np.clip(frames + noise, 0, 255).astype(np.uint8)
            made = Made(kind, note="with noise")
    elif kind == "no speech":
        note = str(draw.choice(NOT_SPEECH))
        sound, made = not_speech(note, sound.shape[1], draw), Made(kind, note=note)
    return Clip(frames, FPS, np.ascontiguousarray(sound, np.float32), RATE), made


def not_speech(kind: str, count: int, draw: np.random.Generator) -> np.ndarray:
    """Sound of some kind: float32 [1, count]."""
    time = np.arange(count) / RATE
    if kind == "white noise":
        sound = draw.normal(0, 1, count)
    elif kind == "pink noise":
        spectrum = np.fft.rfft(draw.normal(0, 1, count))
        sound = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 1), count)
    elif kind == "tones":
        notes = 220 * 2 ** (draw.integers(0, 24, 12) / 12)
        note = notes[(time * 4).astype(int) % len(notes)]
        phase = 2 * np.pi * np.cumsum(note) / RATE
        sound = sum(np.sin(n * phase) / n for n in range(1, 6)) * np.exp(-3 * (time * 4 % 1))
    else:
        sound = np.zeros(count)
        for start in draw.integers(0, count, 9):
            length = min(count - start, RATE // 8)
            decay = np.exp(-np.arange(length) / (RATE / 50))
            sound[start : start + length] += draw.normal(0, 1, length) * decay
    return (0.1 * sound / sound.std())[None].clip(-1, 1).astype(np.float32)


def table(outcomes: dict[str, Outcome], truth: dict[str, Made]) -> str:
    """What became of each kind: kept in sync, kept out of sync, or left out, by reason."""
    kinds = ("good", *SHARES)
    counts = {kind: Counter(_verdict(outcomes[n], m) for n, m in truth.items() if m.kind == kind)
              for kind in kinds}  # fmt: skip
    unmoved = {_recording(name): outcomes[name] for name, made in truth.items()
               if made.kind == "good" and outcomes[name].kept}  # fmt: skip
    beside = [_verdict(outcomes[name], made, unmoved[_recording(name)])
              for name, made in truth.items()
              if made.kind == "offset" and _recording(name) in unmoved]  # fmt: skip
    if beside:
        counts["offset, beside what the recording has of its own"] = Counter(beside)
    verdicts = sorted({verdict for found in counts.values() for verdict in found})
    lines = ["| made | clips | " + " | ".join(verdicts) + " |"]
    lines.append("|---" * (len(verdicts) + 2) + "|")
    for kind, found in counts.items():
        cells = " | ".join(str(found[verdict] or "") for verdict in verdicts)
        lines.append(f"| {kind} | {found.total()} | {cells} |")
    for name, made in truth.items():
        verdict = _verdict(outcomes[name], made)
        if (made.kind in ("good", "offset")) != (verdict == "kept, in sync"):
            why = outcomes[name].dropped[0].detail if outcomes[name].dropped else ""
            what = f"{made.kind} {made.early_frames or ''} {made.note}"
            lines.append(f"{name}: {what}: {verdict} {why}")
    return "\n".join(lines)


def _recording(name: str) -> str:
    return re.sub(r"-\d+-mp4-\w+$", "", name)


def _verdict(outcome: Outcome, made: Made, unmoved: Outcome | None = None) -> str:
    """What became of a clip; its own offset is 0, or what was found in it unmoved."""
    if not outcome.kept:
        return f"out: {outcome.reason}"
    left_ms = 1000 * made.early_frames / FPS - outcome.kept[0].measures["corrected_ms"]
    if unmoved is not None:
        left_ms += unmoved.kept[0].measures["corrected_ms"]
    return "kept, in sync" if abs(left_ms) <= 1000 / FPS else "kept, over 1 frame off"


if __name__ == "__main__":
    main()
