"""GenerateRequest: what one clip can be asked for, every argument described once.

Its fields are the keyword arguments of `AVPipeline.__call__`, the flags of `avgen generate` and the
record that a clip carries of how it was made. Help, readers of text and rules are data of the
fields, from which all of these are made. Nothing heavy is imported before there is a file to read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from fractions import Fraction
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from avgen.clips.timebase import parse_rate
from avgen.clips.timed_words import Word, parse_words
from avgen.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from avgen.clips.clip import Clip

    Crop = Callable[[np.ndarray, Path], np.ndarray]

CROPS = ("face", "center")  # of a given picture that is not square
FILES = ("image", "audio", "video", "extend", "voice", "face")  # fields that may be files


class Rule(NamedTuple):
    """What a value must be besides of its type: in words, as a test, and in JSON Schema's."""

    words: str
    holds: Callable[[Any], bool]
    schema: dict[str, Any]


SAMPLERS = ("euler", "heun", "ab2", "mean", "renoise")
POSITIVE = Rule("more than 0", lambda value: value > 0, {"exclusiveMinimum": 0})
COUNT = Rule("at least 1", lambda value: value >= 1, {"minimum": 1})
SIDE = Rule("at least 16", lambda value: value >= 16, {"minimum": 16})  # pixels: one latent
SHARE = Rule("from 0 to 1", lambda value: 0 <= value <= 1, {"minimum": 0, "maximum": 1})
PACE = Rule("from 0.25 to 4", lambda value: 0.25 <= value <= 4, {"minimum": 0.25, "maximum": 4})
SAMPLER = Rule(
    "euler, heun, ab2, mean or renoise", lambda value: value in SAMPLERS, {"enum": list(SAMPLERS)}
)
RISING = Rule(
    "two, rising within 0 to 1",
    lambda v: len(v) == 2 and 0 <= v[0] < v[1] <= 1,
    {"minItems": 2, "maxItems": 2},
)


def parse_interval(text: str) -> tuple[float, ...]:
    """The numbers of `0.3-0.8`."""
    return tuple(float(part) for part in text.split("-"))


KINDS = {
    str: (str, "text"),
    int: (Integral, "a whole number"),
    float: (Real, "a finite number"),
    parse_rate: (Real, "a finite number"),
    parse_interval: (Sequence, "numbers"),
}


def _argument(group: str, default: Any, help: str, parse: Callable = str, **more: Any) -> Any:
    """A field that is an argument: its group, default, help and reader of text.

    `rule` is what it must be besides of its type, and `metavar` what help calls its value.
    """
    return field(default=default, metadata={"group": group, "help": help, "parse": parse, **more})


_look = partial(_argument, "what it shows and says")
_given = partial(_argument, "what is given", None, parse=Path, metavar="FILE")
_size = partial(_argument, "size (default: the model's)", None)
_sampling = partial(_argument, "sampling (default: the model's)", None)


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """What a clip is to be. None leaves it to the model; what is given comes out as it went in.

    Raises:
        UserError: a value breaks its rule, or two contradict each other.
    """

    prompt: str = _look("", 'how it looks and sounds; words in "double quotes" are spoken')
    negative_prompt: str | None = _look(None, "what to keep away from", metavar="PROMPT")
    speech: str | None = _look(
        None, "the words spoken, instead of quoting them in the prompt", metavar="WORDS"
    )
    words: Sequence[Word] | None = _look(
        None,
        'the words with their times in seconds: "place 0.5-0.8 red 0.8-1.1", or a JSON file of '
        '[["place", 0.5, 0.8], ...]; after a beginning they count from its end',
        parse_words,
        metavar="TIMELINE",
    )
    rate: float = _look(1.0, "how fast it is spoken: 2 is twice as fast", float, rule=PACE)
    image: np.ndarray | Path | None = _given("the first frame")
    audio: tuple[np.ndarray, int] | Path | None = _given(
        "all the sound (samples [C, N], rate): make the picture for it; lips follow the words, "
        'which are heard (in English) unless they are given, speech "" for none'
    )
    video: Clip | Path | None = _given("all the picture: make the sound for it")
    extend: Clip | Path | None = _given("a beginning with its sound: go on from its end")
    voice: tuple[np.ndarray, int] | Path | None = _given(
        "a voice to sound like, whatever it says (samples [C, N], rate)"
    )
    face: np.ndarray | Path | None = _given("a face to look like, which need not be shown")
    seconds: float | None = _size(
        "how long the clip is; by default as long as the words or what is given",
        float,
        rule=POSITIVE,
    )
    num_frames: int | None = _size("how long, in frames", int, rule=COUNT, metavar="N")
    fps: Fraction | None = _size(
        "frames per second, as 25, 29.97 or 30000/1001; what is given is read at this rate",
        parse_rate,
        rule=POSITIVE,
    )
    height: int | None = _size("rows; what is given is scaled and cropped", int, rule=SIDE)
    width: int | None = _size("columns, likewise", int, rule=SIDE)
    seed: int = _argument("sampling (default: the model's)", 0, "same seed, same clip", int)
    num_inference_steps: int | None = _sampling(
        "more is slower and finer", int, rule=COUNT, metavar="N"
    )
    sampler: str | None = _sampling(
        "euler: first order; heun: second, two evaluations a step; ab2: second, one; mean: few "
        "steps, of a model that was distilled to them; renoise: new noise each step, less varied",
        rule=SAMPLER,
    )
    shift: float | None = _sampling(
        "above 1, more of the steps are at much noise", float, rule=POSITIVE
    )
    audio_shift: float | None = _sampling("the same for the sound", float, rule=POSITIVE)
    guidance_scale: float | None = _sampling(
        "pull of the prompt on the picture; 1 is off", float, metavar="SCALE"
    )
    audio_guidance_scale: float | None = _sampling(
        "pull of the prompt on the sound; 1 is off", float, metavar="SCALE"
    )
    guidance_interval: Sequence[float] | None = _sampling(
        "noise levels, 0 to 1, between which the prompt pulls",
        parse_interval,
        rule=RISING,
        metavar="LOW-HIGH",
    )
    guidance_rescale: float | None = _sampling(
        "share, 0 to 1, of the contrast that guidance adds which is taken back", float, rule=SHARE
    )
    synchrony_scale: float | None = _sampling(
        "push away from what picture and sound would be without each other; 0 is off",
        float,
        metavar="SCALE",
    )

    def __post_init__(self) -> None:
        """Check each value by its field's rule, then what contradicts what."""
        for about in fields(self):
            if getattr(self, about.name) is not None:
                check(about, getattr(self, about.name))
        for one, other, rule in (
            ("words", "speech", "either says what is said"),
            ("seconds", "num_frames", "either says how long"),
            ("audio", "video", "then there is nothing to make"),
            ("image", "video", "a video has its first frame"),
            *(("extend", name, "a beginning already has both") for name in FILES[:3]),
        ):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise UserError(f"{one} and {other} are both given; {rule}", one)
        if self.audio is not None and self.rate != 1:
            raise UserError("rate and audio are both given; a given voice has its own pace", "rate")
        words = self.words or ()
        for before, word in zip(words, words[1:], strict=False):
            if word.start_s < before.end_s:
                raise UserError(
                    f"words: {word.text!r} starts at {word.start_s:g} s; it must start when "
                    f"{before.text!r} has ended, at {before.end_s:g} s",
                    "words",
                )
        for name in FILES:
            _check_given(name, getattr(self, name))

    def record(self) -> dict[str, Any]:
        """What was asked for, JSON-able, without what is None.

        Files are named without their folders: a clip travels further than a folder's name should.
        """
        said: dict[str, Any] = {}
        for about in fields(self):
            value = getattr(self, about.name)
            if about.name in FILES and value is not None:
                value = value.name if isinstance(value, Path) else "given"
            elif about.name == "words" and value is not None:
                value = [[word.text, word.start_s, word.end_s] for word in value]
            if value is not None:
                said[about.name] = str(value) if isinstance(value, Fraction) else value
        return said


GenerateRequest.__doc__ = f"{GenerateRequest.__doc__}\n    Attributes:\n" + "\n".join(
    f"        {about.name}: {about.metadata['help']}." for about in fields(GenerateRequest)
)


def check(about: Field, value: Any) -> None:
    """Raise UserError unless a value is of its field's type and follows its rule."""
    kind, noun = KINDS.get(about.metadata["parse"], (object, ""))
    rule: Rule | None = about.metadata.get("rule")
    right = isinstance(value, kind) and not isinstance(value, bool)
    if right and kind in (Integral, Real):
        right = math.isfinite(value)
    if not right or (rule and not rule.holds(value)):
        words = (", " if noun else "") + rule.words if rule else ""
        raise UserError(f"{about.name} is {value}; it must be {noun}{words}", about.name)


def _check_given(name: str, value: Any) -> None:
    """Raise UserError where what was given is no file and not of its shape and type."""
    if value is None or isinstance(value, str | Path):
        return
    if name in ("image", "face"):
        if value.dtype != "uint8" or value.ndim != 3 or value.shape[2] != 3:
            raise UserError(
                f"{name} is {value.dtype} {list(value.shape)}; it must be uint8 [H, W, 3]"
            )
        return
    if name == "extend" and value.waveform is None:
        raise UserError("extend has no sound; a beginning needs both (or give it as video)")
    is_sound = name in ("audio", "voice")
    waveform, rate = value if is_sound else (value.waveform, value.sample_rate)
    if waveform is None:
        return
    if waveform.dtype != "float32" or waveform.ndim != 2 or waveform.size == 0:
        raise UserError(
            f"{name} is {waveform.dtype} {list(waveform.shape)}; it must be float32 [C, N]"
        )
    if rate <= 0:
        raise UserError(f"the sample rate of {name} is {rate}; it must be more than 0")
    if not math.isfinite(waveform.min()) or not math.isfinite(waveform.max()):  # NaN goes through
        raise UserError(f"{name} has samples that are NaN or infinite; all must be finite")


def read_files(
    request: GenerateRequest, fps: Fraction, crop: Crop | None = None
) -> GenerateRequest:
    """The request with what its files hold in their place, each read once.

    Given sound comes out again and keeps its channels; other sound is read in stereo.

    Args:
        request: May name files.
        fps: Of clips, where the request says none.
        crop: From frames [T, H, W, 3] and their file to what is used of them.

    Raises:
        MediaError: a file cannot be read.
    """
    paths = {name: getattr(request, name) for name in FILES}
    paths = {name: Path(path) for name, path in paths.items() if isinstance(path, str | Path)}
    if not paths:
        return request
    from avgen.clips import read_audio, read_clip, read_image  # with PyAV

    crop = crop or (lambda frames, _path: frames)
    read: dict[str, Any] = {}
    for name, path in paths.items():
        if name in ("image", "face"):
            read[name] = crop(read_image(path)[None], path)[0]
        elif name == "audio":
            sound, rate = read_audio(path)
            kept = len(sound) in (1, 2, 6)  # what a file can be written with
            read[name] = (sound, rate) if kept else read_audio(path, num_channels=2)
        elif name == "voice":
            read[name] = read_audio(path, num_channels=2)
        else:
            own_fps = parse_rate(str(request.fps)) if request.fps else fps
            clip = read_clip(path, fps=own_fps, num_channels=2)
            read[name] = replace(clip, frames=crop(clip.frames, path))
    return replace(request, **read)
