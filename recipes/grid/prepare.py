"""GRID -> a prepared folder.

`python recipes/grid/prepare.py ROOT FOLDER`, then again with `--encode CODECS`.

The first call finds the faces, crops them to 128x128 and stores frames and sound (4 GB for one
speaker). The second caches the latents of both codecs (CODECS/video_codec and CODECS/audio_codec).
Either goes on where it was stopped.
"""

import argparse
from fractions import Fraction
from pathlib import Path

from avgen.codecs.base import load_module
from avgen.corpora.grid import LEXICON, grid_records
from avgen.corpora.manifest import read_manifest, write_manifest
from avgen.training.prepared import encode, prepare

SIZE = (128, 128)
FPS = Fraction(25)
SAMPLE_RATE = 24000


def main() -> None:
    """Prepare one speaker."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="GRID, with s1/ and alignments/s1/")
    parser.add_argument("folder", type=Path, help="the prepared folder")
    parser.add_argument("--speaker", default="s1")
    parser.add_argument("--caption", default="a man")
    parser.add_argument(
        "--encode", type=Path, metavar="CODECS", help="a folder with video_codec and audio_codec"
    )
    args = parser.parse_args()
    if args.encode is not None:
        encode_corpus(args.folder, args.encode)
        return
    failures = prepare_corpus(args.root, args.folder, args.speaker, args.caption)["left_out"]
    for failure in failures:
        print(failure)
    kept = len(read_manifest(args.folder / "manifest.jsonl"))
    print(f"{kept} clips prepared, {len(failures)} left out")


def prepare_corpus(
    root: Path, folder: Path, speaker: str, caption: str = "a man"
) -> dict[str, list[str]]:
    """Crop the faces of one speaker and store frames and sound; what was left out is named."""
    folder.mkdir(parents=True, exist_ok=True)
    records_path = folder / "records.jsonl"
    failures: list[str] = []
    if not records_path.is_file():
        records, failures = grid_records(root, speaker, caption)
        write_manifest(records, records_path)
    records = read_manifest(records_path)
    failures += prepare(records, root, folder, SIZE, FPS, SAMPLE_RATE, LEXICON)
    return {"left_out": failures}


def encode_corpus(folder: Path, codecs: Path) -> None:
    """Cache the latents of both codecs."""
    encode(folder, *(load_module(codecs / name) for name in ("video_codec", "audio_codec")))


if __name__ == "__main__":
    main()
