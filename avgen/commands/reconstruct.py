"""`avgen reconstruct`: a clip in, the same clip through the codecs and back out.

A file of any length goes through in windows. Each is coded with a little of its neighbours on both
sides, which is then cut off, so that no window's edge is seen or heard.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from avgen.clips.media.formats import check_size, format_of
from avgen.commands.output import (
    add_model_arguments,
    add_output_arguments,
    check_output,
    resolve_device,
)
from avgen.errors import UserError
from avgen.provenance.sidecar import tags, write_chunks, write_sidecar

if TYPE_CHECKING:
    import numpy as np

    from avgen.clips import Clip, MediaProbe
    from avgen.clips.media.streams import StreamProbe
    from avgen.pipeline import AVPipeline

SUMMARY = "send a clip through the codecs and back, to see and hear what they lose"
DESCRIPTION = """\
Encode a clip as latents and decode it again, without the transformer: the best that a model with
these codecs can do. A file of any length is read, coded and written in windows."""
EXAMPLES = """\
examples:
  avgen reconstruct clip.mp4 through.mp4
  avgen reconstruct clip.mp4 through.mkv --model runs/grid/model"""

WINDOW_PIXELS = 16_000_000  # pixels of one window: about 1 GB while it is coded; 40 s at 128x128
LONGEST_WINDOW_S = 4
CONTEXT_LATENTS = 2  # latent frames of each neighbour that a window is coded with


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Input, output, model."""
    parser.add_argument("input", type=Path, metavar="IN", help="a video")
    parser.add_argument("output", type=Path, metavar="OUT", help="a .mp4, .mov, .webm or .mkv")
    add_model_arguments(parser)
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Code the clip window by window, write it and say so."""
    from avgen.clips import probe, read_windows

    check_output(args.output, overwrite=args.overwrite)
    video = _picture(probe(args.input))
    assert video.height and video.width
    check_size(args.output, format_of(args.output), video.height, video.width)
    import torch
    from tqdm import tqdm

    from avgen.pipeline import AVPipeline

    dtype = getattr(torch, args.dtype) if args.dtype else None
    pipe = AVPipeline.from_pretrained(args.model, device=resolve_device(args.device), dtype=dtype)
    model = Path(args.model).resolve().name if args.model else "default"
    made = "Reconstructed by neural codecs"
    parameters = {"input": args.input.name, "model": model}
    windows = read_windows(
        args.input,
        window_s=_window_s(video),
        sample_rate=pipe.audio_codec.sample_rate,
        num_channels=pipe.audio_codec.num_channels,
    )
    num_context = CONTEXT_LATENTS * pipe.video_codec.stride[0]
    coded = (_through(pipe, *three, num_context) for three in with_neighbours(windows))
    with tqdm(unit="frame", desc="reconstruct") as progress:

        def counted() -> Iterator[Clip]:
            for clip in coded:
                progress.update(clip.num_frames)
                yield clip

        metadata = None if args.no_metadata else tags(made, parameters)
        first = write_chunks(counted(), args.output, metadata, args.overwrite)
        num_frames = progress.n
    if metadata:
        write_sidecar(args.output, made, parameters)
    print(f"{args.output}: {num_frames} frames at {float(first.fps):.6g} fps")
    return 0


def _picture(seen: MediaProbe) -> StreamProbe:
    """The stream of pictures that is read.

    Raises:
        UserError: the file has no picture.
    """
    video = next((s for s in seen.streams if s.kind == "video" and s.is_read), None)
    if video is None:
        raise UserError(f"{seen.path}: has no picture; the codecs need a video")
    return video


def _window_s(video: StreamProbe) -> Fraction:
    """Seconds of a window: as long as bounded memory allows for pictures of this size."""
    assert video.width and video.height and video.fps
    num_frames = max(1, WINDOW_PIXELS // (video.width * video.height))
    return min(Fraction(LONGEST_WINDOW_S), num_frames / video.fps)


def with_neighbours(windows: Iterable[Clip]) -> Iterator[tuple[Clip | None, Clip, Clip | None]]:
    """Every window with the one before it and the one after it; None at the ends."""
    before, clip = None, None
    for after in windows:
        if clip is not None:
            yield before, clip, after
        before, clip = clip, after
    if clip is not None:
        yield before, clip, None


def _through(
    pipe: AVPipeline, before: Clip | None, clip: Clip, after: Clip | None, num_context: int
) -> Clip:
    """The window `clip` through both codecs, coded with `num_context` frames of its neighbours."""
    import numpy as np

    from avgen.clips.timebase import num_samples

    left = before.frames[-num_context:] if before else clip.frames[:0]
    right = after.frames[:num_context] if after else clip.frames[:0]
    frames = _video_through(pipe, np.concatenate([left, clip.frames, right]))
    clip = replace(clip, frames=frames[len(left) : len(left) + clip.num_frames])
    if clip.waveform is None or clip.sample_rate is None:
        return clip
    # Only lengths come from the rate here: the windows' samples follow each other without a gap.
    num_left = num_samples(len(left), clip.fps, clip.sample_rate)
    num_right = num_samples(len(right), clip.fps, clip.sample_rate)
    nothing = clip.waveform[:, :0]
    sound = before.waveform if before else None
    head = nothing if sound is None or num_left == 0 else sound[:, -num_left:]
    sound = after.waveform if after else None
    tail = nothing if sound is None else sound[:, :num_right]
    waveform = _audio_through(pipe, np.concatenate([head, clip.waveform, tail], axis=1))
    start = head.shape[1]
    return replace(clip, waveform=waveform[:, start : start + clip.waveform.shape[1]])


def _video_through(pipe: AVPipeline, frames: np.ndarray) -> np.ndarray:
    """Frames uint8 [T, H, W, 3] encoded and decoded."""
    import torch
    from einops import rearrange

    codec = pipe.video_codec
    num_frames, height, width, _ = frames.shape
    with torch.inference_mode(), _arithmetic(pipe):
        video = rearrange(torch.from_numpy(frames), "t h w c -> 1 c t h w")
        latents = codec.encode(video.to(pipe.device) / 127.5 - 1)
        video = codec.decode(latents, num_frames=num_frames, height=height, width=width)
        pixels = ((video.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return rearrange(pixels, "1 c t h w -> t h w c").cpu().numpy()


def _audio_through(pipe: AVPipeline, waveform: np.ndarray) -> np.ndarray:
    """Waveform float32 [C, N] in [-1, 1] encoded and decoded."""
    import torch

    from avgen.pipeline.conditions import at_rate, fit

    codec = pipe.audio_codec
    with torch.inference_mode(), _arithmetic(pipe):
        latents = codec.encode(torch.from_numpy(waveform)[None].to(pipe.device))
        rate, made = codec.sample_rate, codec.output_sample_rate
        count = waveform.shape[1] * made // rate
        decoded = codec.decode(latents, num_samples=count)[0].float().clamp(-1, 1).cpu().numpy()
    if made == rate:
        return decoded
    return fit(at_rate(decoded, made, rate, len(decoded)), waveform.shape[1])


def _arithmetic(pipe: AVPipeline) -> AbstractContextManager:
    """Autocast to what --dtype says, as the pipeline does."""
    import torch

    return torch.autocast(pipe.device.type, pipe.dtype, enabled=pipe.dtype != torch.float32)
