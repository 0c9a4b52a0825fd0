"""GRID -> the regression of avgen/evaluation/sync/landmarks.py, and how often it finds delays.

    python recipes/sync/landmark_regression.py fit ROOT FOLDER OUT --landmarker face_landmarker.task
    python recipes/sync/landmark_regression.py evaluate ROOT/s1 FOLDER/s1 OUT
    python recipes/sync/landmark_regression.py evaluate OTHERS FOLDER/others OUT --landmarker ...

ROOT has s1/*.mpg; FOLDER keeps landmarks (0.4 MB a clip), so that a call goes on where the last one
stopped, and without --landmarker only what is there is used; OUT gets the model. It is fitted on
s1's train sentences; the bank is of its validation sentences. Evaluated are s1's test sentences, or
all clips of another folder: every delay of -10 to 10 frames is put in, the waveform is shifted,
what it leaves empty is silence.
"""

import argparse
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from tqdm import tqdm

from avgen.clips import MediaError, read_clip
from avgen.codecs.base import save_module
from avgen.corpora.grid import split_of
from avgen.evaluation.faces.tracking import CascadeTracker, LandmarkTracker, the_face
from avgen.evaluation.subject import Unscored, read_audio_quietly
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
    parser.add_argument("clips", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--landmarker", type=Path)
    parser.add_argument("--limit", type=int, help="evaluate the first so many")
    args = parser.parse_args()
    tracker = LandmarkTracker(args.landmarker) if args.landmarker else None
    if args.step == "fit":
        fit(landmarks(args.clips / "s1", args.folder / "s1", tracker), args.out)
        return
    clips = landmarks(args.clips, args.folder, tracker)
    if args.clips.name == "s1":
        clips = {path: points for path, points in clips.items() if split_of(path.stem) == "test"}
    evaluate(dict(list(clips.items())[: args.limit]), landmark_sync.load(args.out))


def fit(clips: dict[Path, np.ndarray], out: Path) -> None:
    """Fit to train sentences, with a bank of validation sentences, and write the model."""
    train = {path: points for path, points in clips.items() if split_of(path.stem) == "train"}
    heard = [heard_in(path, len(points)) for path, points in tqdm(train.items())]
    seen = [landmark_sync.picture_features(points) for points in train.values()]
    weight = landmark_sync.fit(heard, seen, RIDGE)
    bank = [
        lags.standardized(heard_in(path, len(points))) @ weight
        for path, points in clips.items()
        if split_of(path.stem) == "validation"
    ]
    save_module(regression(weight, np.concatenate(bank)), out, torch.float32)
    print(f"{len(train)} sentences fitted, {len(bank)} in the bank")


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Frames and waveform of a clip."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        clip = read_clip(path, fps=Fraction(FPS), sample_rate=SOUND_RATE, num_channels=1)
    assert clip.waveform is not None
    return clip.frames, clip.waveform


def landmarks(clips: Path, folder: Path, tracker: LandmarkTracker | None) -> dict[Path, np.ndarray]:
    """The landmarks [T, 478, 3] of clips, kept in a folder; clips without one face are left out."""
    found = {}
    for path in tqdm(sorted(clips.glob("*.mpg"))):
        kept = folder / f"{path.stem}.npy"
        if not kept.is_file() and tracker is not None:
            try:
                points = the_face(tracker(read(path)[0])).landmarks
            except (MediaError, Unscored) as error:
                print(f"{path.stem}: {error}")
                continue
            assert points is not None
            folder.mkdir(parents=True, exist_ok=True)
            np.save(kept, points)
        if kept.is_file():
            found[path] = np.load(kept)
    return found


def heard_in(path: Path, num_frames: int) -> np.ndarray:
    """The regression's inputs of a clip."""
    sound, _ = read_audio_quietly(path, SOUND_RATE)
    return landmark_sync.inputs(sound, SOUND_RATE, num_frames)


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
        frames, waveform = read(path)
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
        sounds[path] = model.sound_features(delayed(waveform, 0, 75), SOUND_RATE, 75)
        scores.append(picture[:75])
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
