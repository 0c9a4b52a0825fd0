"""`avgen generate`: a prompt and what is given (a picture, voice, video) in, a clip out."""

from __future__ import annotations

import argparse
import inspect
import json
import math
import re
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avgen.commands.output import (
    add_model_arguments,
    add_output_arguments,
    check_output,
    resolve_device,
    tags,
    write_sidecar,
)
from avgen.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from avgen.clips import Clip, Word

SUMMARY = "make a clip from a prompt, a picture, a voice, a silent video or a beginning"
DESCRIPTION = """\
Make a clip: picture and sound together, or one to go with the other.

Words in double quotes in the prompt are spoken; the rest says how the clip looks and sounds.
What you give with --image, --audio, --video or --extend comes out as it went in, and the model
makes the rest."""
EXAMPLES = """\
examples:
  avgen generate --prompt 'a man says "place red at g nine now"' --seed 1 -o a.mp4
  avgen generate --image face.png --speech "lay blue in b four please" -o a.mp4
  avgen generate --audio voice.wav -o a.mp4                 a face for a voice
  avgen generate --video silent.mp4 --speech "bin white by c two again" -o a.mp4
  avgen generate --extend start.mp4 --speech "set green with p one soon" --seconds 5 -o a.mp4
  avgen generate --words "place 0.5-0.8 red 0.8-1.1" --seconds 2 -o a.mp4"""

# The keyword arguments of AVPipeline.__call__ that are flags of the same name, passed on unchanged.
PLAIN = (
    "negative_prompt",
    "speech",
    "seconds",
    "num_frames",
    "fps",
    "height",
    "width",
    "num_inference_steps",
    "guidance_scale",
    "audio_guidance_scale",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, named as diffusers names its arguments."""
    add = parser.add_argument_group("what it shows and says").add_argument
    add("--prompt", default="", help='how it looks and sounds; words in "double quotes" are spoken')
    add("--negative-prompt", metavar="PROMPT", help="what to keep away from")
    add("--speech", metavar="WORDS", help="the words spoken, instead of quoting them in the prompt")
    add(
        "--words",
        metavar="TIMELINE",
        help='the words with their times in seconds: "place 0.5-0.8 red 0.8-1.1", or a JSON file '
        'of [["place", 0.5, 0.8], ...]',
    )
    add = parser.add_argument_group("what is given").add_argument
    add("--image", type=Path, metavar="FILE", help="the first frame")
    add("--audio", type=Path, metavar="FILE", help="all the sound: make the picture for it")
    add("--video", type=Path, metavar="FILE", help="all the picture: make the sound for it")
    add("--extend", type=Path, metavar="FILE", help="a beginning: go on from its end")
    add(
        "--crop",
        choices=["face", "center"],
        default="face",
        help="what of a given picture that is not square is used: a square around the face, as in "
        "training, or the middle (default: face, unless --height or --width is given)",
    )
    group = parser.add_argument_group("size (default: the model's)")
    length = group.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=_positive, help="how long the clip is")
    length.add_argument("--num-frames", type=_count, metavar="N", help="how long, in frames")
    group.add_argument(
        "--fps",
        type=_fps,
        help="frames per second, as 25, 29.97 or 30000/1001; what is given is read at this rate",
    )
    group.add_argument(
        "--height",
        type=_count,
        metavar="PIXELS",
        help="rows, an even number; what is given is scaled and cropped",
    )
    group.add_argument("--width", type=_count, metavar="PIXELS", help="columns, an even number")
    add = parser.add_argument_group("sampling").add_argument
    add("--seed", type=int, default=0, help="the same seed gives the same clip (default: 0)")
    add("--num-inference-steps", type=_count, metavar="N", help="more is slower and finer")
    add("--guidance-scale", type=_finite, metavar="SCALE", help="pull of the prompt; 1 is off")
    add("--audio-guidance-scale", type=_finite, metavar="SCALE", help="the same for the sound")
    group = parser.add_argument_group("model and output")
    add_model_arguments(group)
    group.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="a .mp4, .mov, .webm or .mkv",
    )
    add_output_arguments(group)


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}; it must be a whole number above 0")
    return int(text)


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r}; it must be a number")
    return value


def _positive(text: str) -> float:
    if _finite(text) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}; it must be a number above 0")
    return _finite(text)


def _fps(text: str) -> Fraction:
    from avgen.clips.timebase import parse_rate

    try:
        return parse_rate(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run(args: argparse.Namespace) -> int:
    """Check the request, make the clip, write it and say so."""
    check_output(args.output, overwrite=args.overwrite)
    _check_sizes(args)
    request = _request(args)
    started = time.monotonic()
    # Not above: what is wrong with the request is said before the seconds that torch takes.
    import torch

    from avgen.clips import write_clip
    from avgen.pipeline import AVPipeline

    dtype = getattr(torch, args.dtype) if args.dtype else None
    pipe = AVPipeline.from_pretrained(args.model, device=resolve_device(args.device), dtype=dtype)
    fps = args.fps or Fraction(pipe.config.fps)
    for name in ("video", "extend"):  # read again where the file's own rate is not the model's
        if name in request and request[name].fps != fps:
            request[name] = _read(getattr(args, name), fps, args)
    clip = pipe(args.prompt, **request)
    parameters = _parameters(args, pipe, request, clip)
    made = "AI-generated"
    metadata = None if args.no_metadata else tags(made, parameters)
    write_clip(clip, args.output, metadata=metadata, overwrite=args.overwrite)
    if not args.no_metadata:
        write_sidecar(args.output, made, parameters)
    print(f"{args.output}: {_describe(clip)}, made in {time.monotonic() - started:.0f} s")
    return 0


def _check_sizes(args: argparse.Namespace) -> None:
    """The one rule about sizes that is the container's and not the model's."""
    for name in ("height", "width"):
        size = getattr(args, name)
        if size is not None and size % 2 and args.output.suffix.lower() != ".mkv":
            raise UserError(
                f"--{name} {size}: {args.output.suffix} holds even sizes only; .mkv holds odd ones"
            )


def _request(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of the pipeline that were given; its own defaults stand for the others."""
    from avgen.clips import read_audio, read_image

    request: dict[str, Any] = {"seed": args.seed}
    request |= {name: getattr(args, name) for name in PLAIN if getattr(args, name) is not None}
    if args.words is not None:
        request["words"] = parse_words(args.words)
    if args.image is not None:
        request["image"] = _cropped(read_image(args.image)[None], args, args.image)[0]
    if args.audio is not None:
        request["audio"] = read_audio(args.audio, num_channels=1)
    for name in ("video", "extend"):
        path = getattr(args, name)
        if path is not None:
            request[name] = _read(path, args.fps, args)
    return request


def _read(path: Path, fps: Fraction | None, args: argparse.Namespace) -> Clip:
    """A given clip at that rate (its own where None), cut to the face."""
    from avgen.clips import read_clip

    clip = read_clip(path, fps=fps, num_channels=1)
    return replace(clip, frames=_cropped(clip.frames, args, path))


def _cropped(frames: np.ndarray, args: argparse.Namespace, path: Path) -> np.ndarray:
    """Given frames [T, H, W, 3] cut to the face, where --crop asks for it and they are not square.

    Square pictures are taken to be crops already; what the pipeline gets it scales to its size.

    Raises:
        UserError: there is no face to crop to.
    """
    if args.crop == "center" or frames.shape[1] == frames.shape[2] or args.height or args.width:
        return frames
    from avgen.clips.transforms import crop
    from avgen.evaluation.faces.head import head_box

    box = head_box(frames)
    if box is None:
        raise UserError(f"{path}: no face found to crop to; --crop center takes the middle")
    return crop(frames, box)


def parse_words(text: str) -> tuple[Word, ...]:
    """The timed words of `place 0.5-0.8 red 0.8-1.1` or of a JSON file of [word, start, end].

    Raises:
        UserError: a word without times, or times that do not ascend.
        OSError: the JSON file cannot be read.
    """
    from avgen.clips import Word

    if text.endswith(".json"):
        entries = _read_entries(Path(text))
    else:
        parts = text.split()
        if not parts or len(parts) % 2:
            raise UserError(f"--words {text!r}: each word needs its times, as in 'place 0.5-0.8'")
        entries = [
            (word, *times.split("-")) for word, times in zip(parts[::2], parts[1::2], strict=True)
        ]
    words = []
    for entry in entries:
        try:
            name, start_s, end_s = str(entry[0]), *map(_finite, entry[1:])
        except (IndexError, TypeError, ValueError, argparse.ArgumentTypeError) as error:
            raise UserError(
                f"--words: {entry!r}; it must be a word, its start and its end in seconds"
            ) from error
        if words and start_s < words[-1].end_s:
            raise UserError(
                f"--words: {name!r} starts at {start_s:g} s; it must start when "
                f"{words[-1].text!r} has ended, at {words[-1].end_s:g} s"
            )
        words.append(Word(name, start_s, end_s))
    return tuple(words)


def _read_entries(path: Path) -> list[Any]:
    """The list in a JSON file of timed words; objects with the fields of `Word` do as well."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error})") from error
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: must be a JSON list of [word, start, end]")
    fields = ("text", "start_s", "end_s")
    return [[e.get(f) for f in fields] if isinstance(e, dict) else e for e in entries]


def _parameters(
    args: argparse.Namespace, pipe: Any, request: dict[str, Any], clip: Clip
) -> dict[str, Any]:
    """What made the clip, JSON-able: the pipeline's arguments with its defaults, and what came out.

    Given files are named without their folders: a clip travels further than a folder's name should.
    """
    call = inspect.signature(pipe.__call__).bind(args.prompt, **request)
    call.apply_defaults()
    used = {name: value for name, value in call.arguments.items() if value is not None}
    used.pop("progress", None)
    for name in ("num_inference_steps", "guidance_scale", "audio_guidance_scale"):
        used.setdefault(name, getattr(pipe.config, name))
    for name in ("image", "audio", "video", "extend"):
        if name in used:
            used[name] = getattr(args, name).name
    if "words" in used:
        used["words"] = [[word.text, word.start_s, word.end_s] for word in used["words"]]
    size = {
        "num_frames": clip.num_frames,
        "fps": clip.fps,
        "height": clip.height,
        "width": clip.width,
    }
    model = Path(args.model).resolve().name if args.model else "default"
    used |= size | {"model": model, "seconds": float(clip.duration_s)}
    return {
        name: str(value) if isinstance(value, Fraction) else value for name, value in used.items()
    }


def _describe(clip: Clip) -> str:
    """Size and length of a clip, for people."""
    sound = f"{clip.sample_rate} Hz sound" if clip.waveform is not None else "no sound"
    fps = f"{float(clip.fps):.2f}".rstrip("0").rstrip(".")
    return f"{float(clip.duration_s):.2f} s, {clip.width}x{clip.height}, {fps} fps, {sound}"
