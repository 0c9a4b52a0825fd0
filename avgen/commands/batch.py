"""`avgen batch`: a file of many requests in, a folder of clips and their results out."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from avgen.commands.output import add_model_arguments, resolve_device
from avgen.errors import UserError
from avgen.pipeline.config import DEFAULT_MODEL, PipelineConfig

SUMMARY = "make the clips of a file of requests, with the model loaded once"
DESCRIPTION = """\
Make every clip that a file asks for. FILE is JSONL, a line each as in OpenAI's batches
({"custom_id": ..., "method": "POST", "url": "/v1/videos", "body": {...}}) or just the body, or a
CSV table with the same names; paths of given files start from its folder. All lines are checked
before the model is loaded.

OUT gets NAME.mp4 with NAME.mp4.json for each, results.jsonl and errors.jsonl (of a share,
results-2-of-4.jsonl). What is there already is not made again, so a batch that was stopped is begun
again by the same command."""
EXAMPLES = """\
examples:
  avgen batch lines.jsonl -o out
  avgen batch lines.csv -o out --workers 2 --evaluate
  avgen batch lines.jsonl -o out --shard 2/4       the second quarter, on the second machine
  avgen batch lines.jsonl -o out --engine ray      on a Ray cluster that sees the same folders"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, the folder, and by how many."""
    parser.add_argument("input", type=Path, metavar="FILE", help="*.jsonl or *.csv")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="a folder")
    add_model_arguments(parser)
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes")
    parser.add_argument("--engine", choices=["process", "ray"], default="process")
    parser.add_argument("--shard", type=_shard, default=(1, 1), metavar="I/N",
                        help="only the I-th of N shares of the lines")  # fmt: skip
    parser.add_argument("--evaluate", action="store_true",
                        help="`avgen evaluate` the clips afterwards, into OUT/report")  # fmt: skip
    parser.add_argument("--keep-going", action="store_true",
                        help="make the good lines of a file that has bad ones")  # fmt: skip
    parser.add_argument("--no-marks", action="store_true", help="as of `avgen generate`")
    parser.add_argument("--no-metadata", action="store_true", help="as of `avgen generate`")


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r}; it must be I/N with 1 <= I <= N")
    return int(match[1]), int(match[2])


def run(args: argparse.Namespace) -> int:
    """Check the lines, make the clips, and say what came of them."""
    from avgen.studio.batch_run import Batch, run_batch
    from avgen.studio.lines import read_lines

    if args.workers < 1:
        raise UserError(f"--workers {args.workers}; it must be at least 1")
    text = args.input.read_text(encoding="utf-8")
    lines = read_lines(text, args.input.suffix, args.input.parent)
    wrong = [line for line in lines if line.error is not None]
    for line in wrong:
        print(f"{args.input}:{line.number}: {line.error}")
    if wrong and not args.keep_going:
        raise UserError(
            f"{args.input}: {len(wrong)} of {len(lines)} lines are wrong; nothing was made "
            "(--keep-going makes the others)"
        )
    folder = Path(args.model) if args.model else DEFAULT_MODEL
    PipelineConfig.read(folder)
    args.output.mkdir(parents=True, exist_ok=True)
    batch = Batch(
        output=args.output.resolve(),
        model=folder.resolve(),
        device=resolve_device(args.device),
        dtype=args.dtype,
        manner={"model": folder.resolve().name if args.model else "default",
                "marks": not args.no_marks, "metadata": not args.no_metadata},
        share=args.shard,
    )  # fmt: skip
    counts = run_batch(batch, lines, args.engine, args.workers)
    print(f"{args.output}: {counts['made']} made, {counts['kept']} there already, "
          f"{counts['failed']} failed")  # fmt: skip
    if args.evaluate and counts["made"] + counts["kept"]:
        from avgen.evaluation.report.tables import headlines
        from avgen.evaluation.run.runner import Request, evaluate

        print(headlines(evaluate(Request(clips=args.output), args.output / "report")))
    return 1 if counts["failed"] else 0
