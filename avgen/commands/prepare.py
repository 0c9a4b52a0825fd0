"""`avgen prepare`: a corpus in the layout it came in, clean and documented training data out."""

from __future__ import annotations

import argparse
import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avgen.errors import UserError

if TYPE_CHECKING:
    from avgen.preparation.settings import Settings

SUMMARY = "a corpus of talking heads to training data: cropped, in sync, filtered, documented"
DESCRIPTION = """\
Go through a corpus and keep what can be trained on: scenes are told apart and faces followed, the
one that speaks is found, its head is cropped by a window that does not shake, spans of 2 to 10 s
are cut in pauses, sound that is early or late is put right, and what is damaged, silent, still, out
of sync, blurred or noisy is left out, with the reason. OUT can be trained on as it is (frames/,
waveforms/, manifest.jsonl; latents/ with --codecs), shards/ and manifest.parquet hold the same
clips as WebDataset, report.html shows what came of it, data_card.md sums the licences up.
A run that was stopped goes on where it stopped: give the same command again. A task of a SLURM
array does its share of the records; the one that is last does what is of all."""
EXAMPLES = """\
examples:
  avgen prepare grid GRID prepared/grid --speaker s1 --workers 2 --engine pool
  avgen prepare folder my_clips prepared/mine --size 256x256 --codecs avgen/checkpoints/grid
  avgen prepare hdtf HDTF prepared/hdtf --num-shards 16 --shard 3 --opt-out no.txt
  avgen prepare portraits PICTURES prepared/heads --voices voices --face-landmarker FILE.task

plug-ins are callables by import path (avgen/preparation/words.py says what they are called with):
  --aligner avgen.preparation.align.align_english    words of a transcript to their times
  --recognizer my_package.hear                       words where there is no transcript
  --captioner my_package.describe                    how a clip looks"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What, from where, to where; sizes; limits; who does it."""
    parser.add_argument("corpus", metavar="CORPUS", help="grid, folder, ...: avgen/datasets")
    parser.add_argument("root", type=Path, metavar="ROOT", help="where the corpus is")
    parser.add_argument("out", type=Path, metavar="OUT", help="the prepared folder")
    made = parser.add_argument_group("what is made")
    made.add_argument("--size", type=_size, default=(128, 128), metavar="HxW", help="128x128")
    made.add_argument("--fps", type=_rate, default=Fraction(25), metavar="RATE", help="25")
    made.add_argument("--sample-rate", type=int, default=24_000, metavar="HZ", help="24000")
    made.add_argument("--min-s", type=float, default=2.0, metavar="S", help="shortest clip: 2")
    made.add_argument("--max-s", type=float, default=10.0, metavar="S", help="longest clip: 10")
    made.add_argument(
        "--codecs",
        type=Path,
        metavar="FOLDER",
        help="cache latents as well, by the codecs in FOLDER/video_codec and FOLDER/audio_codec",
    )
    made.add_argument(
        "--no-frames",
        action="store_true",
        help="when all is done, remove frames/ and waveforms/: shards/ hold the same in a third "
        "of the space, and with latents/ the transformer can be trained",
    )
    _add_choices(parser)
    _add_engine(parser)
    _add_portraits(parser)


def _add_portraits(parser: argparse.ArgumentParser) -> None:
    heads = parser.add_argument_group(
        "portraits",
        "still pictures that are made to speak: ROOT is any folder of them, with captions.jsonl "
        "where there is one; --speaker names people, --size, --fps, --sample-rate and --workers "
        "hold, nothing else does",
    )
    heads.add_argument(
        "--voices",
        type=Path,
        action="append",
        metavar="FOLDER",
        help="a folder whose manifest.jsonl lists what voices say, with phonemes; may be repeated",
    )
    heads.add_argument(
        "--face-landmarker",
        type=Path,
        metavar="FILE",
        help="face_landmarker.task, from MediaPipe's model page",
    )
    heads.add_argument(
        "--clips-per-person", type=int, default=4, metavar="N", help="4, each says another thing"
    )
    heads.add_argument("--seed", type=int, default=0, metavar="N", help="of all that is drawn: 0")


def _add_choices(parser: argparse.ArgumentParser) -> None:
    chosen = parser.add_argument_group("what is taken")
    chosen.add_argument("--speaker", nargs="+", default=[], metavar="NAME", help="only these")
    chosen.add_argument("--limit", type=int, metavar="N", help="only the first N records")
    chosen.add_argument(
        "--opt-out", type=Path, action="append", default=[], metavar="FILE", help="who is left out"
    )
    chosen.add_argument(
        "--split-by",
        choices=["corpus", "speaker", "clip"],
        default="corpus",
        help="whose name decides the split (default: as the corpus' own module does)",
    )
    chosen.add_argument(
        "--min-fit", type=float, metavar="R", help="least correlation of mouth and sound"
    )
    chosen.add_argument(
        "--min-dnsmos",
        type=float,
        metavar="MOS",
        help="measure DNSMOS and leave out what is below; a second of a core for each clip",
    )
    for name in ("aligner", "recognizer", "captioner"):
        chosen.add_argument(f"--{name}", metavar="IMPORT.PATH", help="a plug-in, see below")


def _add_engine(parser: argparse.ArgumentParser) -> None:
    by = parser.add_argument_group("who does it")
    by.add_argument("--engine", choices=["process", "pool", "ray"], default="pool", help="pool")
    by.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (default: one for each processor)",
    )
    by.add_argument(
        "--num-shards", type=int, metavar="N", help="shares ($SLURM_ARRAY_TASK_COUNT, or 1)"
    )
    by.add_argument(
        "--shard", type=int, metavar="I", help="this one, from 0 ($SLURM_ARRAY_TASK_ID, or 0)"
    )


def _size(text: str) -> tuple[int, int]:
    height, x, width = text.partition("x")
    if not (x and height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r}; it must be HEIGHTxWIDTH, such as 128x128")
    return int(height), int(width)


def _rate(text: str) -> Fraction:
    from avgen.clips.timebase import parse_rate

    try:
        return parse_rate(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run(args: argparse.Namespace) -> int:
    """Prepare, cache latents, and print the table."""
    if args.corpus == "portraits":
        return _run_portraits(args)
    from avgen.preparation import corpus
    from avgen.preparation.run import Request, as_text, prepare
    from avgen.preparation.words import load_plugin

    settings, shard = _settings(args), _shard(args.shard, args.num_shards)
    for name in (settings.aligner, settings.recognizer, settings.captioner):
        if name is not None:
            load_plugin(name)  # a wrong one is said before the work
    items = corpus.items(args.corpus, args.root, speakers=args.speaker, limit=args.limit)
    request = Request(
        corpus=args.corpus,
        root=args.root,
        out=args.out,
        settings=settings,
        engine=args.engine,
        workers=args.workers,
        shard=shard,
        lexicon=corpus.lexicon(args.corpus),
    )
    opt_out = corpus.opt_out(args.opt_out)
    if strangers := corpus.unmatched(items, opt_out):
        print(f"{strangers} names of the list of those who opted out are of no record here")
    summary = prepare(request, items, opt_out, _Bar())
    if summary is None:
        print(f"{args.out}: this share is done; the task that is last does what is of all")
        return 0
    print(as_text(summary))
    if summary.clips:
        _finish(args.out, args.codecs, keep_frames=not args.no_frames)
    print(f"{args.out / 'report.html'}: the report")
    return 0


def _run_portraits(args: argparse.Namespace) -> int:
    from avgen.preparation.summary import as_text
    from avgen.preparation.talking_pictures import PortraitRequest, prepare_portraits

    for name, value in (("voices", args.voices), ("face-landmarker", args.face_landmarker)):
        if value is None:
            raise UserError(f"portraits need --{name}")
    request = PortraitRequest(
        root=args.root,
        voices=args.voices,
        out=args.out,
        landmarker=args.face_landmarker,
        clips=args.clips_per_person,
        size=args.size,
        fps=args.fps,
        sample_rate=args.sample_rate,
        seed=args.seed,
        workers=args.workers,
    )
    print(as_text(prepare_portraits(request, _Bar(), args.speaker)))
    print(f"{args.out / 'report.html'}: the report")
    return 0


def _settings(args: argparse.Namespace) -> Settings:
    from dataclasses import replace

    from avgen.preparation.settings import Limits, Settings

    limits = Limits(min_s=args.min_s, max_s=args.max_s, min_dnsmos=args.min_dnsmos)
    if args.min_fit is not None:
        limits = replace(limits, min_fit=args.min_fit)
    return Settings(
        size=args.size,
        fps=args.fps,
        sample_rate=args.sample_rate,
        limits=limits,
        split_by=args.split_by,
        aligner=args.aligner,
        recognizer=args.recognizer,
        captioner=args.captioner,
    )


def _shard(shard: int | None, num_shards: int | None) -> tuple[int, int]:
    """This task's share: as it was asked for, or as SLURM's array says, which may count from 1."""
    if (shard is None) != (num_shards is None):
        raise UserError("--shard and --num-shards are given together or not at all")
    if shard is None or num_shards is None:
        count = int(os.environ.get("SLURM_ARRAY_TASK_COUNT", 1))
        first = int(os.environ.get("SLURM_ARRAY_TASK_MIN", 0))
        return int(os.environ.get("SLURM_ARRAY_TASK_ID", first)) - first, count
    return shard, num_shards


class _Bar:
    """A bar of records done; what is wrong with the request is said before, without one."""

    def __init__(self) -> None:
        self.bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(unit="record", desc="prepare", total=total, initial=done)
        self.bar.update(done - self.bar.n)
        if done == total:
            self.bar.close()


def _finish(out: Path, codecs: Path | None, *, keep_frames: bool) -> None:
    """Cache the latents of what was kept, if asked to, and let the frames go, if asked to."""
    from avgen.corpora.manifest import read_manifest
    from avgen.preparation.run import remove_frames

    records = read_manifest(out / "manifest.jsonl")
    if codecs is not None:
        if not any(record.split == "train" for record in records):
            raise UserError(f"{out}: no clip is of the split train; --split-by clip has some")
        from avgen.codecs.base import load_module
        from avgen.training.latent_store import encoder_fingerprint, read_latent_config
        from avgen.training.prepared import encode

        video, audio = (load_module(codecs / name) for name in ("video_codec", "audio_codec"))
        if all((out / "frames" / f"{record.id}.npy").is_file() for record in records):
            encode(out, video, audio)  # pyright: ignore[reportArgumentType]
        elif read_latent_config(out).fingerprint != encoder_fingerprint(video, audio):
            raise UserError(f"{out}: has latents of another codec, and no frames to encode anew")
    if not keep_frames:
        remove_frames(out, records)
