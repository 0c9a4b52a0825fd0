"""GRID and puppets, square and portrait -> a prepared folder.

`python recipes/mixed/prepare.py GRID OUT`, then again with `--encode CODECS`.

The first call draws and speaks the puppets (OUT/puppets/*), finds GRID's faces and stores the
frames and sound of both: OUT/square has pictures of 128x128, OUT/portrait of 128x96 (height by
width), half of GRID in each. The second caches the latents of both codecs
(CODECS/video_codec and CODECS/audio_codec) and puts them together in OUT/latents. Either goes on
where it was stopped.
"""

import argparse
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from avgen.codecs.base import load_module
from avgen.corpora.grid import LEXICON, grid_records
from avgen.corpora.manifest import ClipRecord, read_manifest, write_manifest
from avgen.corpora.puppets.dataset import PuppetCorpus, write_puppets
from avgen.training.prepared import encode, merge, prepare

SIZES = {"square": (128, 128), "portrait": (128, 96)}  # height, width
FPS = Fraction(25)
SAMPLE_RATE = 24000
SECONDS = 2.92  # 73 frames: what config.yaml trains on
NUM_PUPPETS = {"train": 420, "validation": 10, "test": 30}  # of each size, one clip each
GRID_CAPTION = "a man"
CARTOON = "a cartoon of "  # puppets' captions begin with this, so that "a man" is one of flesh


def main() -> None:
    """Prepare both corpora, or encode them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="GRID, with s1/ and alignments/s1/")
    parser.add_argument("out", type=Path, help="a folder for everything")
    parser.add_argument("--speaker", default="s1")
    parser.add_argument(
        "--encode", type=Path, metavar="CODECS", help="a folder with video_codec and audio_codec"
    )
    args = parser.parse_args()
    if args.encode is not None:
        codecs = [load_module(args.encode / name) for name in ("video_codec", "audio_codec")]
        for shape in SIZES:
            encode(args.out / shape, *codecs)
        merge([args.out / shape for shape in SIZES], args.out)
        return
    failures = []
    for seed, shape in enumerate(SIZES):
        records = draw_puppets(args.out, shape, seed) + film_grid(args, shape, failures)
        folder = args.out / shape
        failures += prepare(records, args.out, folder, SIZES[shape], FPS, SAMPLE_RATE, LEXICON)
    for failure in failures:
        print(failure)


def draw_puppets(out: Path, shape: str, seed: int) -> list[ClipRecord]:
    """Draw and speak the puppets of one size: every clip is another puppet."""
    count = sum(NUM_PUPPETS.values())
    corpus = PuppetCorpus(
        num_clips=count,
        num_puppets=count,
        seed=seed,
        height=SIZES[shape][0],
        width=SIZES[shape][1],
        fps=str(FPS),
        seconds=SECONDS,
        num_validation=NUM_PUPPETS["validation"],
        num_test=NUM_PUPPETS["test"],
    )
    return [
        replace(
            record,
            id=f"{shape}-{record.id}",
            media=f"puppets/{shape}/{record.media}",
            speaker=f"{shape}-{record.speaker}",
            caption=CARTOON + record.caption,
        )
        for record in write_puppets(out / "puppets" / shape, corpus)
    ]


def film_grid(args: argparse.Namespace, shape: str, failures: list[str]) -> list[ClipRecord]:
    """GRID's clips of one size, half of all; a portrait is the middle of the square."""
    path = args.out / "grid.jsonl"
    if not path.is_file():
        args.out.mkdir(parents=True, exist_ok=True)
        records, missing = grid_records(args.root, args.speaker, GRID_CAPTION)
        write_manifest(records, path)
        failures += missing
    kept = []
    for record in read_manifest(path):
        if list(SIZES)[zlib.crc32(record.id.encode()) % len(SIZES)] != shape:
            continue
        assert record.box is not None
        left, top, width, height = record.box
        narrow = width * SIZES[shape][1] // SIZES[shape][0]
        box = left + (width - narrow) // 2, top, narrow, height
        kept.append(replace(record, media=str((args.root / record.media).resolve()), box=box))
    return kept


if __name__ == "__main__":
    main()
