"""Sound of one or several corpora -> waveforms to train the speech codec's decoder on.

    python recipes/people/sounds.py OUT voices/hibari voices/kokoro
    python recipes/people/sounds.py OUT corpora/librispeech --corpus librispeech

A folder of voices has a manifest.jsonl; any other is read as `--corpus` lays it out. What is there
already is kept.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from avgen.clips import read_audio
from avgen.corpora.manifest import ClipRecord, find_corpus, read_manifest, write_manifest
from avgen.errors import UserError

SAMPLE_RATE = 24000  # the codec's


def main() -> None:
    """Write OUT/waveforms, its manifest and its rates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--corpus", help="how the folders are laid out, as librispeech")
    args = parser.parse_args()
    (args.out / "waveforms").mkdir(parents=True, exist_ok=True)
    kept = []
    for root in args.folders:
        if args.corpus is None:
            found = read_manifest(root / "manifest.jsonl")
        else:
            found = find_corpus(args.corpus).records(root)
        for record in found:
            if not isinstance(record, ClipRecord):
                print(f"{record.path}: {record.reason}")
                continue
            place = args.out / "waveforms" / f"{record.id}.npy"
            try:
                if not place.is_file():
                    write_waveform(root / record.media, place)
            except UserError as error:
                print(error)
                continue
            kept.append(record)
    write_manifest(kept, args.out / "manifest.jsonl")
    (args.out / "rates.json").write_text(json.dumps({"fps": None, "sample_rate": SAMPLE_RATE}))
    print(f"{len(kept)} clips in {args.out}")


def write_waveform(media: Path, place: Path) -> None:
    """One channel at the codec's rate, int16 [1, N]."""
    sound, _ = read_audio(media, sample_rate=SAMPLE_RATE, num_channels=1)
    np.save(place, np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16))


if __name__ == "__main__":
    main()
