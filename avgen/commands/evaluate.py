"""`avgen evaluate`: clips in, a report out: are sound and picture in sync, and how sure is that."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from avgen.errors import UserError

SUMMARY = "measure whether sound and picture are in sync, and how well a clip is made"
DESCRIPTION = """\
Measure clips and write a report: a row for each file (clips.jsonl), a summary (summary.json,
summary.md) and a page to look at (report.html) with lag curves and the worst clips.
Every number stands beside the same number for mismatched sound and for sound that is 200 ms late,
with a confidence interval. A file that cannot be measured gets a row with the reason. A run that
was stopped goes on where it stopped: give the same command again.
The exit code is 1 if avgen itself failed on a file; the report has the traceback.
An offset above 0 means that the sound comes before the picture."""
EXAMPLES = """\
examples:
  avgen evaluate clip.mp4 -o report
  avgen evaluate generated/ --reference real/ -o report --workers 4
  avgen evaluate generated/ --metrics sync lse@latentsync --weights syncnet=syncnet_v2.model -o r
  avgen evaluate generated/ -o report \\
    --recognizer avgen.evaluation.speech.recognition.WhisperRecognizer

metrics (* only when asked for):
  media            the file's own timing, silence, clipping
  flash_click *    offset of flashes and clicks, for test clips
  sync             avgen-sync: do the lips fit the sound, and how far apart are they
  landmark_sync    the same by a regression on landmarks: a second opinion
                   (--weights face_landmarker=PATH, as for mouth, opening and lips)
  lse@joonson, lse@wav2lip, lse@latentsync
                   LSE-C and LSE-D by three released protocols (--weights syncnet=PATH)
  mouth            opening, frozen mouths, motion in silence, blinks
  opening          does the mouth open when it is loud, in outline and in detail
  lips             do the lips meet on P, B and M (times of phonemes: see --transcripts)
  av_align@2023-10 *, av_align@2025-02 *, av_align@javisbench *
                   AV-Align as it was released three times, for comparison with papers
  onsets           do things move when they are heard: for sounds that are not speech
  reference        PSNR, SSIM, lips, log-mel, SI-SDR, STOI, PESQ (--reference)
  picture *        sharpness, motion, flicker, frozen frames
  wer              words that a recogniser gets wrong (--recognizer IMPORT.PATH)
  dnsmos *         quality of the voice as listeners would rate it
  speaker *        likeness of the voice to the one asked for (--persons or --reference)
  voice_drift *    likeness of the end's voice to the beginning's
  identity *       likeness of the face to the one asked for (--persons or --reference)
  face_drift *     likeness of the end's face to the beginning's
  fd@avgen-video, fd@avgen-audio, fd@i3d, fd@vggish, fd@clap, fd@imagebind, fd@synchformer
                   Frechet and kernel distances of the clips from the real ones (--reference), by
                   features of avgen's codecs, or of a TorchScript file (--weights i3d=PATH ...)
  all              every one of these
What lacks its weights is skipped, and the report says so."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Clips, references, metrics, weights, workers, the report's folder."""
    parser.add_argument("clips", type=Path, metavar="CLIP_OR_FOLDER", help="a video, or a folder")
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="FOLDER",
        help="real clips; one of the same name is compared with, and all are measured as well",
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help="which (default: all that can be had)",
    )
    parser.add_argument(
        "--weights",
        action="append",
        nargs="+",
        default=[],
        type=_weight,
        metavar="NAME=PATH",
        help="a network that avgen does not ship",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (default: one for each processor)",
    )
    _add_what_is_known(parser)
    parser.add_argument(
        "--timeout",
        type=float,
        default=1800.0,
        metavar="SECONDS",
        help="that a clip may take, if there are several processes (default: 1800)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of mismatched sounds and intervals")
    parser.add_argument(
        "--speakers-by-folder",
        action="store_true",
        help="clips of one folder are of one speaker; intervals then count speakers",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="the report's folder"
    )


def _add_what_is_known(parser: argparse.ArgumentParser) -> None:
    """What the clips should say, and whom they should show."""
    parser.add_argument(
        "--transcripts",
        type=Path,
        metavar="FILE",
        help='what is said: JSONL of {"id": ..., "text": ..., "phonemes": [["B", 0.1, 0.2], ...]}, '
        "an avgen manifest, or a CSV with columns id and text (default: what the clips' sidecars "
        "and tags state)",
    )
    parser.add_argument(
        "--recognizer",
        metavar="IMPORT.PATH",
        help="a class or function that recognises words, as "
        "avgen.evaluation.speech.recognition.WhisperRecognizer",
    )
    parser.add_argument(
        "--persons",
        type=Path,
        metavar="FOLDER",
        help="pictures and sounds named as the clips: whose face and voice each should have",
    )


def _weight(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r}; it must be NAME=PATH")
    return name, Path(path)


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the summary's headlines, and name avgen's own failures."""
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}; it must be at least 1")
    if not args.timeout > 0:
        raise UserError(f"--timeout {args.timeout}; it must be above 0")
    from tqdm import tqdm

    from avgen.evaluation.report.tables import headlines
    from avgen.evaluation.run.runner import Request, evaluate

    request = Request(
        clips=args.clips,
        reference=args.reference,
        metrics=args.metrics,
        weights=dict(pair for group in args.weights for pair in group),
        seed=args.seed,
        speakers_by_folder=args.speakers_by_folder,
        transcripts=args.transcripts,
        recognizer=args.recognizer,
        persons=args.persons,
    )
    bars: list[tqdm] = []

    def progress(done: int, total: int) -> None:
        if not bars:  # what is wrong with the request is said before, without a bar
            bars.append(tqdm(unit="clip", desc="evaluate", total=total, initial=done))
        bars[0].update(done - bars[0].n)

    try:
        summary = evaluate(
            request,
            args.output,
            workers=args.workers,
            timeout_s=args.timeout,
            progress=progress,
        )
    finally:
        for bar in bars:
            bar.close()
    print(headlines(summary))
    print(f"{args.output / 'report.html'}: the report")
    for fault in summary["faults"]:
        print(f"avgen: failed on {fault['id']}: {fault['reason']}", file=sys.stderr)
    return 1 if summary["faults"] else 0
