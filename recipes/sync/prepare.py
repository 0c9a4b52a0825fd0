"""GRID -> what avgen-sync learns from: `python recipes/sync/prepare.py ROOT FOLDER`.

FOLDER/SPLIT/ID.npz holds the motion around the mouth [T, 3, 16, 16] and the loudness in bands
[V, 4 T, 28] at V pitches, both float16: 0.2 MB a clip. A call goes on where the last one stopped.
"""

import argparse
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
from tqdm import tqdm

from avgen.clips import MediaError, read_clip
from avgen.clips.files import atomic
from avgen.corpora.grid import records as grid_records
from avgen.corpora.manifest import ClipRecord
from avgen.evaluation.faces.tracking import CascadeTracker, the_face
from avgen.evaluation.subject import Unscored
from avgen.evaluation.sync.features import FPS, SOUND_RATE, log_mel, motion
from avgen.training.sync_scorer import PITCHES

NUM_FRAMES = 75  # of a GRID sentence; the few that are shorter are left out


def main() -> None:
    """Prepare one speaker."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="GRID, with s1/ and alignments/s1/")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--speaker", default="s1")
    args = parser.parse_args()
    items = [item for item in grid_records(args.root) if item.speaker == args.speaker]
    records = [item for item in items if isinstance(item, ClipRecord)]
    failures = [f"{item.path}: {item.reason}" for item in items if not isinstance(item, ClipRecord)]
    tracker = CascadeTracker()
    for record in tqdm(records):
        out = args.folder / record.split / f"{record.id}.npz"
        if out.is_file():
            continue
        try:
            example = prepared(args.root / record.media, tracker)
        except (MediaError, Unscored) as error:
            failures.append(f"{record.id}: {error}")
            continue
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic(out) as temporary:
            np.savez(temporary, **example)
    print(*failures, sep="\n")
    print(f"{len(failures)} of {len(records)} left out")


def prepared(path: Path, tracker: CascadeTracker) -> dict[str, np.ndarray]:
    """Motion and mels of a clip.

    Raises:
        MediaError: it cannot be read.
        Unscored: no one face, or another length.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        clip = read_clip(path, fps=Fraction(FPS), sample_rate=SOUND_RATE, num_channels=1)
    if clip.num_frames != NUM_FRAMES:
        raise Unscored(f"{clip.num_frames} frames; GRID's sentences have {NUM_FRAMES}")
    moved = motion(clip.frames, the_face(tracker(clip.frames)).boxes)
    mels = [log_mel(clip.waveform, SOUND_RATE, NUM_FRAMES, pitch) for pitch in PITCHES]
    return {"motion": moved.astype(np.float16), "mels": np.stack(mels).astype(np.float16)}


if __name__ == "__main__":
    main()
