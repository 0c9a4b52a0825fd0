"""Clips -> the regression of avgen/evaluation/sync/landmarks.py, and how often it finds delays.

    python recipes/sync/landmark_regression.py fit ROOT... FOLDER OUT --landmarker ...task
    python recipes/sync/landmark_regression.py evaluate CLIPS FOLDER OUT --landmarker ...task

A ROOT is one of prepare.py's; FOLDER keeps landmarks (0.4 MB a clip), so that a call goes on where
the last one stopped, and without --landmarker only what is there is used; OUT gets the model. It is
fitted on train clips; the bank is of validation clips. Evaluated are all clips of a folder, or of
GRID's s1 the test sentences: every delay of -10 to 10 frames is put in, the waveform is shifted,
what it leaves empty is silence.
"""

import argparse
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from evaluate import clips_of
from prepare import NUM_FRAMES, records_of
from prepare import read as read_record
from scipy.stats import mannwhitneyu
from tqdm import tqdm

from avgen.clips import Clip, MediaError, read_clip
from avgen.codecs.base import save_module
from avgen.corpora.grid import split_of
from avgen.evaluation.faces.tracking import CascadeTracker, LandmarkTracker, the_face
from avgen.evaluation.subject import Unscored
from avgen.evaluation.sync import lags
from avgen.evaluation.sync import landmarks as landmark_sync
from avgen.evaluation.sync import score as sync
from avgen.evaluation.sync.features import FPS, SOUND_RATE

RIDGE = 3000.0  # of 300, 3,000 and 30,000; on validation sentences all three found every delay
DELAYS = range(-10, 11)  # frames; above 0 the sound comes first


def main() -> None:
    """Fit, write, evaluate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=["fit", "evaluate"])
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--landmarker", type=Path)
    parser.add_argument("--limit", type=int, help="the first so many clips, or train clips of each")
    args = parser.parse_args()
    tracker = LandmarkTracker(args.landmarker) if args.landmarker else None
    if args.step == "fit":
        fit(args.clips, args.folder, args.out, tracker, args.limit)
        return
    clips = {}
    paths = [path for given in args.clips for path in clips_of(given)]
    paths = [path for path in paths if path.parent.name != "s1" or split_of(path.stem) == "test"]
    for path in tqdm(paths[: args.limit]):
        kept = args.folder / f"{path.stem}.npy"
        points = landmarks(lambda path=path: read(path), kept, tracker)
        if points is not None:
            clips[path] = points
    evaluate(clips, landmark_sync.load(args.out))


def fit(
    roots: list[Path], folder: Path, out: Path, tracker: LandmarkTracker | None, limit: int | None
) -> None:
    """Fit to train clips, with a bank of validation clips, and write the model."""
    heard: dict[str, list[np.ndarray]] = {"train": [], "validation": []}
    seen: dict[str, list[np.ndarray]] = {"train": [], "validation": []}
    for root in roots:
        found = records_of(root)
        train = [record for record in found if record.split == "train"]
        for record in tqdm(train[:limit] + [r for r in found if r.split == "validation"]):
            kept = folder / f"{record.id}.npy"
            points = landmarks(lambda of=(root, record): read_record(*of), kept, tracker)
            if points is None:
                continue
            clip = read_record(root, record)
            try:
                moved = landmark_sync.picture_features(points)
                sound = landmark_sync.inputs(clip.waveform, clip.sample_rate, len(points))
            except Unscored as error:
                print(f"{record.id}: {error}")
                continue
            heard[record.split].append(sound)
            seen[record.split].append(moved)
    weight = landmark_sync.fit(heard["train"], seen["train"], RIDGE)
    bank = [lags.standardized(sound) @ weight for sound in heard["validation"]]
    save_module(regression(weight, np.concatenate(bank)), out, torch.float32)
    print(f"{len(heard['train'])} clips fitted, {len(bank)} in the bank")


def landmarks(
    read: Callable[[], Clip], kept: Path, tracker: LandmarkTracker | None
) -> np.ndarray | None:
    """The landmarks [T, 478, 3] of a clip, kept in a file; None of a clip without one face."""
    if not kept.is_file() and tracker is not None:
        try:
            points = the_face(tracker(read().frames)).landmarks
        except (MediaError, Unscored) as error:
            print(f"{kept.stem}: {error}")
            return None
        assert points is not None
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, points)
    return np.load(kept) if kept.is_file() else None


def read(path: Path) -> Clip:
    """A clip as a file, at 25 frames a second.

    Raises:
        MediaError: it cannot be read.
        Unscored: it has no sound.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        clip = read_clip(path, fps=Fraction(FPS), sample_rate=SOUND_RATE, num_channels=1)
    if clip.waveform is None:
        raise Unscored("it has no sound")
    return clip


def regression(weight: np.ndarray, bank: np.ndarray) -> landmark_sync.LandmarkRegression:
    """The model of these numbers."""
    model = landmark_sync.LandmarkRegression(landmark_sync.RegressionConfig(len(bank)))
    model.weight.copy_(torch.from_numpy(weight))
    model.bank.copy_(torch.from_numpy(bank))
    return model


def delayed(waveform: np.ndarray, delay: int, num_frames: int) -> np.ndarray:
    """The sound [1, n] of `num_frames` frames, `delay` frames too early."""
    hop = SOUND_RATE // FPS
    reach = max(DELAYS) * hop
    padded = np.pad(waveform, ((0, 0), (reach, reach + hop * num_frames)))
    first = reach + delay * hop
    return padded[:, first : first + num_frames * hop]


def evaluate(clips: dict[Path, np.ndarray], model: landmark_sync.LandmarkRegression) -> None:
    """Prints recovery of delays, r0 and AUC against other clips' sounds, and avgen-sync's view."""
    ours, held, theirs, scores = [], [], [], []
    network, tracker = sync.load(), CascadeTracker()
    sounds = {}
    for path, points in tqdm(clips.items()):
        clip = read(path)
        frames, waveform = clip.frames, clip.waveform
        picture = landmark_sync.picture_features(points)
        boxed = network.picture_features(frames, the_face(tracker(frames)).boxes)
        found, other, inside = [], [], []
        for delay in DELAYS:
            sound = delayed(waveform, delay, len(picture))
            one = lags.offset(picture, model.sound_features(sound, SOUND_RATE, len(picture)))
            two = lags.offset(boxed, network.sound_features(sound, SOUND_RATE, len(boxed)))
            found.append(one.frames)
            other.append(two.frames)
            inside.append(one.interval[0] <= delay <= one.interval[1])
        ours.append(found)
        theirs.append(other)
        held.append(inside)
        if len(picture) >= NUM_FRAMES:
            sound = delayed(waveform, 0, NUM_FRAMES)
            sounds[path] = model.sound_features(sound, SOUND_RATE, NUM_FRAMES)
            scores.append(picture[:NUM_FRAMES])
    ours, theirs = np.array(ours), np.array(theirs)
    right = np.abs(ours - np.array(DELAYS)) <= 1
    print(f"{len(clips)} clips, within one frame {right.mean():.3f}", end=" ")
    print(f"(worst clip {right.mean(1).min():.2f}), interval holds {np.mean(held):.3f}")
    agree = np.abs(ours - theirs) <= 1
    print(f"  within one frame of avgen-sync: {agree.mean():.3f}; without a delay ", end="")
    print(f"{agree[:, len(DELAYS) // 2].mean():.3f}")
    listed = list(sounds.values())
    r0 = np.array([sync.mismatched(picture, listed) for picture in scores])
    own = r0.diagonal()
    rest = r0[~np.eye(len(r0), dtype=bool)]
    area = mannwhitneyu(own, rest).statistic / (len(own) * len(rest))
    print(f"  r0 own {own.mean():.3f}, other {rest.mean():.3f} +- {rest.std():.3f}, AUC {area:.3f}")


if __name__ == "__main__":
    main()
