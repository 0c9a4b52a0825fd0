"""`avgen prepare`: a corpus in the layout it came in, clean and documented training data out."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avgen.errors import UserError

if TYPE_CHECKING:
    from avgen.corpora.manifest import ClipRecord
    from avgen.preparation.run import Encode
    from avgen.preparation.settings import Settings
    from avgen.preparation.summary import Summary

SUMMARY = "a corpus of talking heads to training data: cropped, in sync, filtered, documented"
DESCRIPTION = """\
Go through a corpus and keep what can be trained on: scenes are told apart and faces followed, the
one that speaks is found, its head is cropped by a window that does not shake, spans of 2 to 10 s
are cut in pauses, sound that is early or late is put right, and what is damaged, silent, still, out
of sync, blurred or noisy is left out, with the reason. OUT can be trained on as it is (frames/,
waveforms/, manifest.jsonl; latents/ with --codecs); report.html shows what came of it, data_card.md
sums the licences up. A voice without a picture is cut in pauses and filtered likewise.
A run that was stopped goes on where it stopped, and tries again what failed: give the same command
again. A task of a SLURM array does its share of the records; the last one completes the folder.
The exit code is 1 if something of avgen's failed."""
EXAMPLES = """\
examples:
  avgen prepare grid GRID prepared/grid --speaker s1 --workers 2
  avgen prepare folder my_clips prepared/mine --size 256x256 --codecs avgen/checkpoints/people
  avgen prepare hdtf HDTF prepared/hdtf --num-shards 16 --shard 3 --opt-out no.txt
  avgen prepare ravdess RAVDESS prepared/ravdess --stages head --size 256x256
  avgen prepare portraits PICTURES prepared/heads --voices voices --face-landmarker FILE.task

plug-ins are callables by import path (avgen/preparation/words.py tells their arguments):
  --aligner avgen.preparation.align.align_english    words of a transcript to their times
  --recognizer my_package.recognize                  words if there is no transcript
  --captioner my_package.describe                    how a clip looks"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What, from where, to where; sizes; limits; who does it."""
    parser.add_argument("corpus", metavar="CORPUS", help="grid, folder, ...: avgen/corpora")
    parser.add_argument("root", type=Path, metavar="ROOT", help="where the corpus is")
    parser.add_argument("out", type=Path, metavar="OUT", help="the prepared folder")
    made = parser.add_argument_group("what is made")
    made.add_argument(
        "--stages",
        choices=["all", "head", "none"],
        default="all",
        help="all of the above (default); or each record whole, nothing filtered: head crops "
        "to a still square around the head, none only to the box that the corpus gives",
    )
    made.add_argument(
        "--size", type=_size, default=(128, 128), metavar="HxW", help="128x128; or own"
    )
    made.add_argument("--fps", type=_rate, default=Fraction(25), metavar="RATE", help="25; or own")
    made.add_argument("--sample-rate", type=int, default=24_000, metavar="HZ", help="24000")
    made.add_argument("--channels", type=int, default=1, choices=[1, 2], help="of sound: 1")
    made.add_argument("--min-s", type=float, default=2.0, metavar="S", help="shortest clip: 2")
    made.add_argument("--max-s", type=float, default=10.0, metavar="S", help="longest clip: 10")
    made.add_argument(
        "--codecs",
        type=Path,
        metavar="FOLDER",
        help="cache latents as well, by the codecs in FOLDER/video_codec and FOLDER/audio_codec",
    )
    made.add_argument(
        "--device", default="cpu", metavar="NAME", help="where latents are made: cpu, cuda, ..."
    )
    made.add_argument(
        "--replace-latents",
        action="store_true",
        help="remove latents that other codecs made; without it they are refused",
    )
    made.add_argument(
        "--shards",
        metavar="URL",
        help="put the latents (--codecs) into tars there, a folder or object storage, as they are "
        "made, in place of a file a clip",
    )
    made.add_argument("--clips-per-shard", type=int, default=64, metavar="N", help="of a tar: 64")
    made.add_argument(
        "--no-frames",
        action="store_true",
        help="remove frames/ and waveforms/ of what has latents (--codecs): the transformer can be "
        "trained without",
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
    chosen.add_argument(
        "--keep-silent", action="store_true", help="keep clips without sound; not with all stages"
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
        "--num-shards",
        type=int,
        metavar="N",
        help="shares; without it those of the SLURM array that this is a task of, or 1",
    )
    by.add_argument(
        "--shard",
        type=int,
        metavar="I",
        help="this one, from 0; without it $SLURM_ARRAY_TASK_ID, so that --array=3,7 with "
        "--num-shards 16 does two shares of 16 again",
    )


def _size(text: str) -> tuple[int, int] | None:
    if text == "own":
        return None
    height, x, width = text.partition("x")
    if not (x and height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r}; it must be HEIGHTxWIDTH or own")
    return int(height), int(width)


def _rate(text: str) -> Fraction | None:
    if text == "own":
        return None
    from avgen.clips.timebase import parse_rate

    try:
        return parse_rate(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run(args: argparse.Namespace) -> int:
    """Prepare, cache latents, and print the table."""
    if args.corpus == "portraits":
        return _run_portraits(args)
    from avgen.plugins import load_plugin
    from avgen.preparation import corpus
    from avgen.preparation.run import Request, as_text, prepare

    settings, shard = _settings(args), share_of(args.shard, args.num_shards, os.environ)
    if args.shards is not None and args.codecs is None:
        raise UserError("--shards needs --codecs: they are of latents")
    if args.no_frames and args.codecs is None:
        raise UserError("--no-frames needs --codecs: nothing would be left to train on")
    for name in (settings.aligner, settings.recognizer, settings.captioner):
        if name is not None:
            load_plugin(name)  # a wrong one is told before the work
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
    summary = prepare(request, items, opt_out, _Bar(), _encoder(args))
    print(as_text(summary))
    if summary.complete:
        print(f"{args.out / 'report.html'}: the report")
    else:
        print(f"{args.out}: this share is done; the task that is last completes the folder")
    return _exit_code(summary)


def _exit_code(summary: Summary) -> int:
    if summary.failed:
        print(f"{summary.failed} failed by an error of avgen's; outcomes/ has the tracebacks")
    return 1 if summary.failed else 0


def _run_portraits(args: argparse.Namespace) -> int:
    from avgen.preparation.summary import as_text
    from avgen.preparation.talking_pictures import PortraitRequest, prepare_portraits

    for name, value in (("voices", args.voices), ("face-landmarker", args.face_landmarker)):
        if value is None:
            raise UserError(f"portraits need --{name}")
    if args.size is None or args.fps is None:
        raise UserError("portraits need a size and a frame rate, not own")
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
    summary = prepare_portraits(request, _Bar(), args.speaker)
    print(as_text(summary))
    print(f"{args.out / 'report.html'}: the report")
    return _exit_code(summary)


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
        num_channels=args.channels,
        stages=args.stages,
        keep_silent=args.keep_silent,
        limits=limits,
        split_by=args.split_by,
        aligner=args.aligner,
        recognizer=args.recognizer,
        captioner=args.captioner,
    )


def share_of(
    shard: int | None, num_shards: int | None, environment: Mapping[str, str]
) -> tuple[int, int]:
    """This task's share: as it was asked for, or as SLURM's array tells, which may begin anywhere.

    Raises:
        UserError: the number of shares is not known, or which of them this is.
    """
    task = environment.get("SLURM_ARRAY_TASK_ID")
    if num_shards is not None:
        if shard is None and task is None:
            raise UserError("--shard and --num-shards are given together, or in a SLURM array")
        return int(task or 0) if shard is None else shard, num_shards
    if shard is not None:
        raise UserError("--shard and --num-shards are given together or not at all")
    if task is None:
        return 0, 1
    first, last, count = (
        int(environment[f"SLURM_ARRAY_TASK_{name}"]) for name in ("MIN", "MAX", "COUNT")
    )
    if last - first + 1 != count:
        raise UserError(
            f"the SLURM array has {count} tasks from {first} to {last}; with holes in it "
            "--num-shards is needed, and a task's number, from 0, is its share"
        )
    return int(task) - first, count


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


def _encoder(args: argparse.Namespace) -> Encode | None:
    """What caches latents and removes frames, as it is asked for."""
    if args.codecs is None:
        return None
    from avgen.codecs.base import load_module
    from avgen.preparation.encode import encode, own_statistics
    from avgen.preparation.shards import Packer
    from avgen.preparation.store import Store

    video, audio = (load_module(args.codecs / name) for name in ("video_codec", "audio_codec"))
    packer = None
    if args.shards is not None:
        share = share_of(args.shard, args.num_shards, os.environ)[0]
        packer = Packer(args.out, args.shards, share, args.clips_per_shard)

    def run_encoder(records: Sequence[ClipRecord], complete: bool) -> None:
        if complete and records and not any(record.split == "train" for record in records):
            raise UserError(f"{args.out}: no clip is of the split train; --split-by clip has some")
        missing = records
        if packer is not None:
            if complete:
                packer.look()
            missing = [record for record in records if record.id not in packer.done]
        if missing:
            encode(
                args.out,
                video,  # pyright: ignore[reportArgumentType]
                audio,  # pyright: ignore[reportArgumentType]
                device=args.device,
                records=None if complete and packer is None else missing,
                overwrite=args.replace_latents,
            )
        if packer is not None:
            packer.add(missing)
            if complete:
                packer.finish(records, own_statistics(video, audio))  # pyright: ignore[reportArgumentType]
        if args.no_frames:
            for record in records:
                Store(args.out).remove_media(record.id)

    return run_encoder
