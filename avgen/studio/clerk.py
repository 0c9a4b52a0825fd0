"""What the server asks of another process: what needs torch, or opens a file somebody sent.

The server itself imports no torch, and a file that kills its reader kills no server. Each function
takes and returns what can be sent; a mistake of the user's is returned as `Refused`, not raised.
"""

from __future__ import annotations

import json
import warnings
import wave
from collections.abc import Callable
from fractions import Fraction
from functools import cache, wraps
from pathlib import Path
from typing import Any

import numpy as np

from avgen.clips.files import atomic
from avgen.clips.media.read import read_audio, read_clip
from avgen.clips.media.streams import probe
from avgen.clips.transforms import remix
from avgen.errors import UserError
from avgen.evaluation.faces.tracking import CascadeTracker, the_face
from avgen.evaluation.report.svg import lag_curves
from avgen.evaluation.subject import FPS, SAMPLE_RATE, Unscored
from avgen.evaluation.sync import lags
from avgen.evaluation.sync import score as sync
from avgen.models.prompt import parse_prompt
from avgen.pipeline import AVPipeline
from avgen.pipeline.request import FILES, GenerateRequest
from avgen.pipeline.request_schema import request_from
from avgen.preparation.align import align_english
from avgen.studio.desk import MAX_GIVEN_S, Refused
from avgen.studio.making import read
from avgen.studio.runs import read_runs

MAX_GIVEN_PIXELS = 40_000_000
NUM_PEAKS = 800


def _answered(function: Callable) -> Callable:
    @wraps(function)
    def call(*arguments: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return function(*arguments)
        except UserError as error:
            return Refused(" ".join(str(error).split()), error.field)

    return call


@cache
def _outline(model: str) -> Any:
    """The model without its weights: it checks what is asked for, and makes nothing."""
    return AVPipeline.from_pretrained(model, device="meta")


def warm(model: str) -> dict[str, Any]:
    """Load what answers need; what a model card says of the model."""
    config = _outline(model).config
    return {
        "height": config.height,
        "width": config.width,
        "fps": float(Fraction(config.fps)),
        "seconds": float(config.num_frames / Fraction(config.fps)),
        "steps": config.num_inference_steps,
        "guidance_scale": config.guidance_scale,
        "audio_guidance_scale": config.audio_guidance_scale,
        "sample_rate": _outline(model).audio_codec.sample_rate,
        "needs_words": config.needs_words,
        "listens": _outline(model).durations is not None,
        "references": _outline(model).transformer.config.has_references,
    }


@_answered
def check(model: str, values: dict[str, Any], crop: str, max_s: float, max_pixels: int) -> Any:
    """What a request comes to: its seconds, num_frames, width, height and words, or Refused."""
    asked = request_from(values)
    for name in FILES:
        given = getattr(asked, name)
        if isinstance(given, Path):
            _check_given(name, given)
    pipe = _outline(model)
    settings = pipe.config.settings(asked)
    if settings.height * settings.width > max_pixels:
        raise UserError(
            f"size {settings.width}x{settings.height}; it must have at most {max_pixels} pixels",
            "size",
        )
    if (settings.height % 2) or (settings.width % 2):
        raise UserError(
            f"size {settings.width}x{settings.height}; both must be even, as .mp4 needs", "size"
        )
    for name, value in (("seconds", asked.seconds), ("num_frames", asked.num_frames)):
        fps = float(asked.fps or Fraction(pipe.config.fps))
        length = None if value is None else value if name == "seconds" else value / fps
        if length is not None and length > max_s:
            raise UserError(f"{name} is {value:g}; it must be at most {max_s:g} s here", name)
    try:
        conditions = pipe.conditions(read(asked, Fraction(pipe.config.fps), crop))
    except UserError as error:
        said = next((n for n in ("words", "speech", "prompt") if getattr(asked, n)), "prompt")
        if error.field is None:
            error.field = next((n for n in FILES if getattr(asked, n) is not None), said)
        raise
    seconds = float(conditions.num_frames / conditions.fps)
    if seconds > max_s:
        raise UserError(
            f"the clip lasts {seconds:.1f} s; it must be at most {max_s:g} s", "seconds"
        )
    return {
        "seconds": seconds,
        "num_frames": conditions.num_frames,
        "fps": float(conditions.fps),
        "width": settings.width,
        "height": settings.height,
        "steps": settings.num_inference_steps,
        "words": _heard(pipe, asked, conditions),
    }


def _heard(pipe: Any, asked: GenerateRequest, conditions: Any) -> list[list[Any]]:
    """The words with their times in the whole clip, as they are asked of the model.

    None where a given voice says when: its words are found when the clip is made.
    """
    begun = float(conditions.num_begun / conditions.fps)
    speech = asked.speech or ("" if asked.words else parse_prompt(asked.prompt)[1])
    words = asked.words or ()
    if speech and asked.audio is not None and pipe.durations is not None:
        return []
    if speech:
        timing = pipe.durations or pipe.config.timer
        length = float(conditions.num_frames / conditions.fps) - begun
        words = timing.time(speech, length, asked.rate).words
    return [[w.text, round(w.start_s + begun, 4), round(w.end_s + begun, 4)] for w in words]


def _check_given(name: str, path: Path) -> None:
    """Refuse what is too large to decode, before it is decoded.

    Raises:
        UserError: it is, or it is no media at all.
    """
    try:
        seen = probe(path)
    except UserError as error:
        raise UserError(f"{name} cannot be read: it is no picture, sound or video that is known",
                        name) from error  # fmt: skip
    for stream in seen.streams:
        pixels = (stream.width or 0) * (stream.height or 0)
        if pixels > MAX_GIVEN_PIXELS:
            raise UserError(
                f"{name} is {stream.width}x{stream.height}; "
                f"it must have at most {MAX_GIVEN_PIXELS // 10**6} million pixels",
                name,
            )
    if name not in ("image", "face") and seen.duration_s > MAX_GIVEN_S:
        raise UserError(
            f"{name} lasts {float(seen.duration_s):.1f} s; it must be at most {MAX_GIVEN_S:g} s",
            name,
        )


@_answered
def timeline(model: str, speech: str, seconds: float | None, rate: float) -> Any:
    """When each word of a speech is said: [[word, start, end], ...], and the clip's length."""
    pipe = _outline(model)
    timing = pipe.durations or pipe.config.timer
    timed = timing.time(speech, seconds, rate)
    usual = float(pipe.config.num_frames / Fraction(pipe.config.fps))
    length = seconds or max(usual, timed.words[-1].end_s + timed.tail_s)
    return {
        "words": [[w.text, round(w.start_s, 3), round(w.end_s, 3)] for w in timed.words],
        "seconds": round(length, 3),
    }


@_answered
def verify_file(path: str) -> Any:
    """What a file says of where it came from (`provenance.findings`)."""
    try:
        from avgen.provenance.findings import verify
    except ImportError as error:
        raise UserError(f"checking needs {error.name}; pip install 'avgen[provenance]'") from error
    return verify(Path(path)).record()


@_answered
def waveform(path: str) -> Any:
    """Peaks of a file's sound, and its length."""
    sound, rate = read_audio(path, num_channels=1)
    mono, edges = (
        abs(sound[0]),
        [round(i * sound.shape[1] / NUM_PEAKS) for i in range(NUM_PEAKS + 1)],
    )
    peaks = [
        float(mono[a : max(b, a + 1)].max(initial=0))
        for a, b in zip(edges, edges[1:], strict=False)
    ]
    return {"peaks": [round(p, 4) for p in peaks], "seconds": sound.shape[1] / rate}


@_answered
def length_s(path: str) -> Any:
    """Seconds that a file lasts."""
    return float(probe(Path(path)).duration_s)


@_answered
def sound_file(path: str, output: str) -> Any:
    """Write the sound of a clip as a 16-bit WAV file."""
    sound, rate = read_audio(path)
    with atomic(Path(output)) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(len(sound))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(sound.T * 32767).astype("<i2").tobytes())


@_answered
def heard_words(path: str, said: str) -> Any:
    """When each word is heard: [[word, start, end], ...], or why that is unknown."""
    sound, rate = read_audio(path, num_channels=1)
    try:
        words = align_english(sound, rate, said)
    except UserError as error:
        return {"words": None, "reason": str(error)}
    return {"words": [[word.text, word.start_s, word.end_s] for word in words]}


@_answered
def training_runs(folder: Path) -> Any:
    """Runs below a folder (`runs.read_runs`)."""
    return read_runs(folder)


@_answered
def sync_report(path: str) -> Any:
    """Whether lips and sound fit (avgen-sync), with the control of a delayed sound."""
    clip = read_clip(path, fps=FPS, sample_rate=SAMPLE_RATE)
    if clip.waveform is None:
        raise UserError("the clip has no sound")
    least = lags.MAX_LAG + lags.MIN_OVERLAP
    if clip.num_frames < least:
        return {"scored": False, "reason": f"shorter than {least / float(FPS):.0f} s"}
    model, sound = sync.load(), remix(clip.waveform, 1)
    late = round(5 / float(FPS) * SAMPLE_RATE)
    delayed = np.pad(sound, [(0, 0), (late, 0)])[:, : sound.shape[1]]
    try:
        picture = model.picture_features(clip.frames, the_face(CascadeTracker()(clip.frames)).boxes)
        own, control = (
            model.score(picture, model.sound_features(heard, SAMPLE_RATE, len(picture)))
            for heard in (sound, delayed)
        )
    except Unscored as reason:
        return {"scored": False, "reason": str(reason)}
    curves = {"clips": own.curve.tolist(), "delayed": control.curve.tolist()}
    said = json.loads(
        json.dumps({k: v for k, v in vars(own).items() if k != "curve"}, default=float)
    )
    return {
        "scored": True,
        "protocol": sync.PROTOCOL,
        **said,
        "curve": curves["clips"],
        "control": {"what": "its own sound 200 ms late", "r0": control.r0, "z": control.z,
                    "offset_ms": control.offset_ms, "curve": curves["delayed"]},
        "svg": str(lag_curves(curves, "how well lips and sound fit, by lag")),
    }  # fmt: skip
