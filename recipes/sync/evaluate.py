"""Real clips -> how often avgen-sync finds delays that were put in, and tells whose sound it is.

    python recipes/sync/evaluate.py OUT CLIP_OR_FOLDER... [--model FOLDER]

Every clip is given each delay of -10 to 10 frames, truly: the waveform is shifted, what it leaves
empty is silence. Windows shorter than the clip are cut from the middle, where GRID's speech is, and
their sound is what lies there, delayed; longer ones join successive clips' second halves and first
halves, of one speaker, so that there is a cut in them. OUT gets a line of JSON a clip and length.
"""

import argparse
import json
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np

from avgen.metrics import lags, sync
from avgen.metrics.faces import CascadeTracker, the_face
from avgen.metrics.statistics import auc
from avgen.metrics.subject import Unscored
from avgen.clips import read_clip

FPS, RATE = 25, 16_000
DELAYS = range(-10, 11)  # frames; above 0 the sound comes first
LENGTHS = (1, 2, 3, 5)  # seconds


def delayed(waveform: np.ndarray, delay: int, start: int, num_frames: int) -> np.ndarray:
    """The sound [1, n] of frames start to start + num_frames, `delay` frames too early."""
    hop = RATE // FPS
    reach = max(DELAYS) * hop
    padded = np.pad(waveform, ((0, 0), (reach, reach + hop * num_frames)))
    first = reach + (start + delay) * hop
    return padded[:, first : first + num_frames * hop]


def read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames, boxes and waveform of a clip."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        clip = read_clip(path, fps=Fraction(FPS), sample_rate=RATE, num_channels=1)
    return clip.frames, the_face(CascadeTracker()(clip.frames)).boxes, clip.waveform


def offsets(
    model: sync.SyncModel, frames: np.ndarray, boxes: np.ndarray, waveform: np.ndarray, length: int
) -> dict:
    """What is found at every delay, in a window of `length` frames in the middle."""
    start = (len(frames) - length) // 2
    window = slice(start, start + length)
    picture = model.picture_features(frames[window], boxes[window])
    found, held, sure = [], [], []
    for delay in DELAYS:
        sound = model.sound_features(delayed(waveform, delay, start, length), RATE, length)
        offset = lags.offset(picture, sound)
        found.append(round(offset.frames, 2))
        held.append(offset.interval[0] <= delay <= offset.interval[1])
        sure.append(round(offset.confidence, 2))
    within = [abs(f - d) <= 1 for f, d in zip(found, DELAYS, strict=True)]
    return {"found": found, "within": within, "held": held, "confidence": sure}


def main() -> None:
    """Evaluate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--model", type=Path)
    args = parser.parse_args()
    model = sync.load(args.model)
    paths = [p for c in args.clips for p in (sorted(c.glob("*.mpg")) if c.is_dir() else [c])]
    rows, whole, before = [], [], None
    for path in paths:
        frames, boxes, waveform = read(path)
        for seconds in LENGTHS:
            length = seconds * FPS
            clip = (frames, boxes, waveform)
            if length > len(frames):
                if before is None or len(before[0]) + len(frames) < length:
                    continue
                clip = tuple(
                    np.concatenate(parts, axis)
                    for parts, axis in zip(zip(before, clip, strict=True), (0, 0, 1), strict=True)
                )
            try:
                row = offsets(model, *clip, length)
            except Unscored as error:
                row = {"unscored": str(error)}
            rows.append({"clip": path.stem, "seconds": seconds, **row})
        whole.append((frames, boxes, waveform))
        before = (frames, boxes, waveform[:, : len(frames) * RATE // FPS])
    args.out.write_text("".join(json.dumps(row, default=bool) + "\n" for row in rows))
    for seconds in LENGTHS:
        some = [r for r in rows if r["seconds"] == seconds and "within" in r]
        if some:
            shares = [np.mean(r["within"]) for r in some]
            held = np.mean([r["held"] for r in some])
            print(
                f"{seconds} s: {len(some)} clips, within one frame {np.mean(shares):.3f}"
                f" (worst clip {min(shares):.2f}), interval holds the delay {held:.3f}"
            )
    discrimination(model, whole)


def discrimination(model: sync.SyncModel, clips: list) -> None:
    """Prints the AUC of r0 and of z, each clip's own sound against all other clips' sounds."""
    length = min(len(frames) for frames, _, _ in clips)
    pictures = [model.picture_features(f[:length], b[:length]) for f, b, _ in clips]
    sounds = [model.sound_features(w, RATE, length) for _, _, w in clips]
    bank = model.bank(length)
    right: dict[str, list[float]] = {"r0": [], "z": []}
    wrong: dict[str, list[float]] = {"r0": [], "z": []}
    for i, picture in enumerate(pictures):
        scores = sync.mismatched(picture, sounds)
        unrelated = sync.mismatched(picture, bank)
        for j, r0 in enumerate(scores):
            into = right if i == j else wrong
            into["r0"].append(float(r0))
            into["z"].append(lags.z_score(float(r0), unrelated))
    for name in right:
        print(
            f"{name}: own {np.mean(right[name]):.3f}+-{np.std(right[name]):.3f}, other "
            f"{np.mean(wrong[name]):.3f}+-{np.std(wrong[name]):.3f}, "
            f"AUC {auc(np.array(right[name]), np.array(wrong[name])):.3f}"
        )


if __name__ == "__main__":
    main()
