"""Real clips -> how often avgen-sync finds delays that were put in, and tells whose sound it is.

    python recipes/sync/evaluate.py OUT CLIP_OR_FOLDER... [--model FOLDER]

Every clip is given each delay of -10 to 10 frames, truly: the waveform is shifted, what it leaves
empty is silence. Windows of 1 and 2 s are cut from the middle, where GRID's speech is, and their
sound is what lies there, delayed; with --join, 5 s around the cut between successive clips, which
only makes sense of one speaker. OUT gets a line of JSON a clip and length. With --av-align,
the three releases of AV-Align have to tell the same own sounds from the same others.
"""

import argparse
import json
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.stats import mannwhitneyu
from tqdm import tqdm

from avgen.clips import MediaError, read_clip
from avgen.clips.files import VIDEO_SUFFIXES
from avgen.evaluation.faces.tracking import CascadeTracker, the_face
from avgen.evaluation.subject import Unscored
from avgen.evaluation.sync import av_align, lags
from avgen.evaluation.sync import score as sync

FPS, RATE = 25, 16_000
DELAYS = range(-10, 11)  # frames; above 0 the sound comes first

Seen = tuple[np.ndarray, np.ndarray, np.ndarray]  # frames, boxes, waveform


def clips_of(given: Path) -> list[Path]:
    """A clip, or all of a folder."""
    if not given.is_dir():
        return [given]
    return sorted(path for path in given.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)


def delayed(waveform: np.ndarray, delay: int, start: int, num_frames: int) -> np.ndarray:
    """The sound [1, n] of frames start to start + num_frames, `delay` frames too early."""
    hop = RATE // FPS
    reach = max(DELAYS) * hop
    padded = np.pad(waveform, ((0, 0), (reach, reach + hop * num_frames)))
    first = reach + (start + delay) * hop
    return padded[:, first : first + num_frames * hop]


def read(path: Path) -> Seen:
    """Frames, boxes and waveform of a clip."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        clip = read_clip(path, fps=Fraction(FPS), sample_rate=RATE, num_channels=1)
    if clip.waveform is None:
        raise Unscored("it has no sound")
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
        low, high = offset.interval
        held.append(bool(low - sync.SLACK <= delay <= high + sync.SLACK))
        sure.append(round(offset.confidence, 2))
    within = [bool(abs(f - d) <= 1) for f, d in zip(found, DELAYS, strict=True)]
    return {"found": found, "within": within, "held": held, "confidence": sure}


def joined(one: Seen, other: Seen) -> Seen:
    """Two clips as one, the second's sound where its picture is."""
    frames, boxes, waveform = one
    waveform = waveform[:, : len(frames) * RATE // FPS]
    return (
        np.concatenate([frames, other[0]]),
        np.concatenate([boxes, other[1]]),
        np.concatenate([waveform, other[2]], 1),
    )


def main() -> None:
    """Evaluate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--join", action="store_true", help="5 s of two clips of one speaker")
    parser.add_argument("--av-align", action="store_true", help="AV-Align's AUC beside ours")
    args = parser.parse_args()
    model = sync.load(args.model)
    paths = [path for given in args.clips for path in clips_of(given)]
    seen = {}
    for path in tqdm(paths):
        try:
            seen[path.stem] = read(path)
        except (MediaError, Unscored) as error:
            print(f"{path.stem} is left out: {error}")
    rows = []
    for index, (name, clip) in enumerate(tqdm(seen.items())):
        if args.join:
            clip = joined(list(seen.values())[index - 1], clip)
        lengths = (5,) if args.join else (1, 2, 3)
        for seconds in [one for one in lengths if one * FPS <= len(clip[0])]:
            try:
                row = offsets(model, *clip, seconds * FPS)
            except Unscored as error:
                row = {"unscored": str(error)}
            rows.append({"clip": name, "seconds": seconds, **row})
    args.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    summarize(rows)
    if not args.join:
        discrimination(model, list(seen.values()))
    if args.av_align:
        av_align_discrimination([path for path in paths if path.stem in seen])


def summarize(rows: list[dict]) -> None:
    """Prints recovery at each length, also of the delay alone: recordings are not all in sync."""
    for seconds in sorted({row["seconds"] for row in rows}):
        some = [row for row in rows if row["seconds"] == seconds and "within" in row]
        if some:
            shares = [np.mean(row["within"]) for row in some]
            moved = np.array([row["found"] for row in some])
            moved = np.delete(moved - moved[:, [DELAYS.index(0)]] - DELAYS, DELAYS.index(0), 1)
            print(
                f"{seconds} s: {len(some)} clips, within one frame {np.mean(shares):.3f}"
                f" (worst clip {min(shares):.2f}), interval holds the delay"
                f" {np.mean([row['held'] for row in some]):.3f}; moved by the delay put in, against"
                f" what is found without, within one frame {np.mean(np.abs(moved) <= 1):.3f}"
            )


def discrimination(model: sync.SyncModel, clips: list[Seen]) -> None:
    """Prints the AUC of r0 and of z, each clip's own sound against all other clips' sounds.

    And of how many of either the offset is called reliable.
    """
    length = min(len(frames) for frames, _, _ in clips)
    pictures = [model.picture_features(f[:length], b[:length]) for f, b, _ in clips]
    sounds = [model.sound_features(w, RATE, length) for _, _, w in clips]
    bank = model.bank(length)
    right: dict[str, list[float]] = {"r0": [], "z": []}
    wrong: dict[str, list[float]] = {"r0": [], "z": []}
    trusted: tuple[list[bool], list[bool]] = [], []
    for i, picture in enumerate(pictures):
        scores = sync.mismatched(picture, sounds)
        unrelated = sync.mismatched(picture, bank)
        for j, r0 in enumerate(scores):
            into = right if i == j else wrong
            into["r0"].append(float(r0))
            into["z"].append(lags.z_score(float(r0), unrelated))
            trusted[i != j].append(model.score(picture, sounds[j]).reliable)
    for name in right:
        print_areas(name, right[name], wrong[name])
    own, other = (float(np.mean(kind)) for kind in trusted)
    print(f"called reliable at {length / FPS:.1f} s: own {own:.3f}, other {other:.3f}")


def av_align_discrimination(paths: list[Path]) -> None:
    """Prints the same for each release of AV-Align, at the clips' own size and rates."""
    for name, version in av_align.VERSIONS.items():
        motions, onsets = [], []
        for path in paths:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                clip = read_clip(path)
            assert clip.waveform is not None and clip.sample_rate is not None
            motions.append((av_align.picture_features(clip.frames), clip.fps))
            onsets.append(av_align.sound_features(clip.waveform, clip.sample_rate, version))
        right, wrong = [], []
        for i, (motion, fps) in enumerate(motions):
            for j, heard in enumerate(onsets):
                (right if i == j else wrong).append(av_align.score(motion, heard, fps, version))
        print_areas(name, right, wrong)


def print_areas(name: str, right: list[float], wrong: list[float]) -> None:
    """Prints means, spreads, and how often own scores higher than other; ties count half."""
    area = mannwhitneyu(right, wrong).statistic / (len(right) * len(wrong))
    print(
        f"{name}: own {np.mean(right):.3f}+-{np.std(right):.3f} ({len(right)}), other "
        f"{np.mean(wrong):.3f}+-{np.std(wrong):.3f} ({len(wrong)}), AUC {area:.3f}"
    )


if __name__ == "__main__":
    main()
