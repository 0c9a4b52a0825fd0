"""GRID and puppets, square and portrait -> a prepared folder.

`python recipes/mixed/prepare.py GRID OUT`, then again with `--encode CODECS`.

The first call draws and speaks the puppets (OUT/puppets/*), finds GRID's faces and stores the
frames and sound of both: OUT/square has pictures of 128x128, OUT/portrait of 128x96 (height by
width), half of GRID in each. The second caches the latents of both codecs
(CODECS/video_codec and CODECS/audio_codec) and puts them together in OUT/latents. Either goes on
where it was stopped.
"""

import argparse
import os
import sys
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from avgen.codecs.base import load_module
from avgen.corpora.grid import LEXICON
from avgen.corpora.manifest import ClipRecord
from avgen.preparation import corpus
from avgen.preparation.encode import encode
from avgen.preparation.merge import merge
from avgen.preparation.run import Request, as_text, prepare
from avgen.preparation.settings import Settings

sys.path.insert(0, str(Path(__file__).parents[1] / "puppets_tiny"))
from puppets.dataset import PuppetCorpus, write_puppets

SIZES = {"square": (128, 128), "portrait": (128, 96)}  # height, width
FPS = Fraction(25)
SAMPLE_RATE = 24000
SECONDS = 2.92  # 73 frames: what config.yaml trains on
NUM_PUPPETS = {"train": 420, "validation": 10, "test": 30}  # of each size, one clip each
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
    for seed, shape in enumerate(SIZES):
        records = draw_puppets(args.out, shape, seed) + film_grid(args.root, args.speaker, shape)
        settings = Settings(SIZES[shape], FPS, SAMPLE_RATE, stages="head")
        request = Request(
            "mixed", args.out, args.out / shape, settings, "pool", os.cpu_count() or 1,
            lexicon=LEXICON,
        )  # fmt: skip
        print(as_text(prepare(request, records)))


def draw_puppets(out: Path, shape: str, seed: int) -> list[ClipRecord]:
    """Draw and speak the puppets of one size: every clip is another puppet."""
    count = sum(NUM_PUPPETS.values())
    puppets = PuppetCorpus(
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
            box=(0, 0, SIZES[shape][1], SIZES[shape][0]),
        )
        for record in write_puppets(out / "puppets" / shape, puppets)
    ]


def film_grid(root: Path, speaker: str, shape: str) -> list[ClipRecord]:
    """GRID's clips of one size, half of all."""
    records = [
        item for item in corpus.items("grid", root, [speaker]) if isinstance(item, ClipRecord)
    ]
    return [
        replace(record, media=str((root / record.media).resolve()))
        for record in records
        if list(SIZES)[zlib.crc32(Path(record.media).stem.encode()) % len(SIZES)] == shape
    ]


if __name__ == "__main__":
    main()
