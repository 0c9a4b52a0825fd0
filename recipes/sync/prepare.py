"""Clips -> what avgen-sync learns from: `python recipes/sync/prepare.py ROOT... FOLDER`.

A ROOT is GRID, with s1/ and alignments/s1/, or a folder that `avgen prepare` made. FOLDER/SPLIT/
ID.npz holds the motion around the mouth [T, 3, 16, 16] and the loudness in bands [V, 4 T, 28] at V
pitches, both float16: 0.2 MB for each three seconds. A call goes on where the last one stopped.
"""

import argparse
import multiprocessing
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from avgen.clips import Clip, MediaError, read_clip
from avgen.clips.files import atomic
from avgen.corpora.grid import records as grid_records
from avgen.corpora.manifest import ClipRecord, read_manifest
from avgen.evaluation.faces.tracking import CascadeTracker, the_face
from avgen.evaluation.subject import Unscored
from avgen.evaluation.sync.features import FPS, SOUND_RATE, log_mel, motion
from avgen.preparation.store import Prepared, Store
from avgen.training.sync_scorer import PITCHES

NUM_FRAMES = 75  # of a GRID sentence; clips that are shorter are left out


def main() -> None:
    """Prepare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("roots", type=Path, nargs="+", metavar="ROOT")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--speaker", default="s1", help="of GRID (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    for root in args.roots:
        records = records_of(root, args.speaker)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(args.workers, context, initializer=one_thread) as pool:
            jobs = [pool.submit(write, root, record, args.folder) for record in records]
            failures = [job.result() for job in tqdm(jobs) if job.result()]
        print(*failures, sep="\n")
        print(f"{root}: {len(failures)} of {len(records)} left out")


def records_of(root: Path, speaker: str = "s1") -> list[ClipRecord]:
    """The clips of a speaker of GRID, or a prepared folder's with a picture, of no test people."""
    if (root / "rates.json").is_file():
        found = read_manifest(root / "manifest.jsonl")
        return [r for r in found if r.split != "test" and Store(root).has_picture(r)]
    records = []
    for item in grid_records(root):
        if item.speaker == speaker:
            if isinstance(item, ClipRecord):
                records.append(item)
            else:
                print(f"{item.path}: {item.reason}")
    return records


def one_thread() -> None:
    """A process uses one core."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@cache
def tracker() -> CascadeTracker:
    """One a process."""
    return CascadeTracker()


def write(root: Path, record: ClipRecord, folder: Path) -> str:
    """Write all whole windows of a clip; returns why there is none, or nothing."""
    first = folder / record.split / f"{record.id}.npz"
    if first.is_file():
        return ""
    try:
        clip = read(root, record)
        windows = list(examples(clip))
    except (MediaError, Unscored) as error:
        return f"{record.id}: {error}"
    first.parent.mkdir(parents=True, exist_ok=True)
    # The first last, so that a clip that was begun is begun again.
    for index, example in reversed(list(enumerate(windows))):
        path = first.with_stem(f"{record.id}-{index}") if index else first
        with atomic(path) as temporary:
            np.savez(temporary, **example)
    return ""


def read(root: Path, record: ClipRecord) -> Clip:
    """A clip at 25 frames a second.

    Raises:
        MediaError: it cannot be read.
        Unscored: its frames come at another rate.
    """
    if record.media.endswith(".npy"):
        clip = Prepared(root, record.split).clip(record)
        if clip.fps != FPS or clip.waveform is None:
            raise Unscored(f"{clip.fps} frames a second; avgen-sync reads {FPS}, and sound")
        return clip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return read_clip(
            root / record.media, fps=Fraction(FPS), sample_rate=SOUND_RATE, num_channels=1
        )


def examples(clip: Clip) -> Iterator[dict[str, np.ndarray]]:
    """Motion and mels of each whole window, one after another.

    Raises:
        Unscored: no one face, no sound, or the clip is too short.
    """
    if clip.waveform is None:
        raise Unscored("it has no sound")
    if clip.num_frames < NUM_FRAMES:
        raise Unscored(f"{clip.num_frames} frames; a window is {NUM_FRAMES}")
    moved = motion(clip.frames, the_face(tracker()(clip.frames)).boxes).astype(np.float16)
    for start in range(0, clip.num_frames - NUM_FRAMES + 1, NUM_FRAMES):
        sound = clip.waveform[:, start * clip.sample_rate // FPS :]
        mels = [log_mel(sound, clip.sample_rate, NUM_FRAMES, pitch) for pitch in PITCHES]
        window = moved[start : start + NUM_FRAMES]
        yield {"motion": window, "mels": np.stack(mels).astype(np.float16)}


if __name__ == "__main__":
    main()
