"""A seed in, a labelled corpus of talking heads out, all of it drawn and spoken here.

Puppets need no download and no consent, and everything about them is known: how they look, what
they say, and when. They feed tests and the recipes that train in minutes.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from avgen.clips import timebase
from avgen.clips.clip import Clip, Word
from avgen.clips.media.read import write_clip
from avgen.corpora.manifest import ClipRecord, write_manifest
from avgen.errors import UserError
from avgen.models.phonemes import TimedPhoneme
from puppets.drawing import Pose, draw
from puppets.mouth import shape_mouth
from puppets.person import Puppet, Voice, draw_puppet
from puppets.voices import SAMPLE_RATE, Speech, speak

__all__ = [
    "GRAMMAR",
    "Pose",
    "Puppet",
    "PuppetCorpus",
    "Speech",
    "Voice",
    "draw",
    "draw_puppet",
    "draw_sentence",
    "make_clip",
    "speak",
    "write_puppets",
]

# One word of each group makes a sentence.
GRAMMAR = (
    ("i", "we", "you", "they", "people"),
    ("buy", "see", "paint", "move", "want", "keep", "find", "sell"),
    ("two", "four", "five", "nine"),
    ("blue", "red", "green", "white", "black", "pink"),
    ("boats", "bags", "maps", "apples", "houses", "papers", "shoes", "bells"),
    ("now", "today", "again", "soon", "at home", "by the sea"),
)
# The voice's own pace swallows vowels; this is that of careful speech.
_SPEED = 0.85
# Lips are in their place a little before the sound.
_AHEAD_S = 0.02
# Silence before and after the words, where the length of the clip is free.
_LEAD_S, _TAIL_S = (0.1, 0.35), (0.15, 0.4)
_BLINK_S = 0.18
# At most so many sentences are drawn until one fits the length of the clip.
_DRAWS = 20
# Loud sounds open the mouth wider: a silent one by this much less than the loudest, where loudness
# is that of this long before and after.
_LOUD, _EFFORT_S = 0.5, 0.05
_LICENCE = "Apache-2.0"


def draw_sentence(rng: np.random.Generator) -> str:
    """One of about 46,000 sentences of six to eight words, in lower case."""
    return " ".join(str(rng.choice(words)) for words in GRAMMAR)


def make_clip(
    puppet: Puppet,
    text: str,
    *,
    seed: int,
    size: tuple[int, int],
    fps: str,
    seconds: float | None = None,
) -> tuple[Clip, str, tuple[Word, ...]]:
    """A puppet says a sentence: the clip, its caption, and its words with their times in it.

    Args:
        puppet: who says it.
        text: one sentence of plain words.
        seed: of sway, blinks, and when the speech starts; the same arguments give the same clip.
        size: height and width in pixels.
        fps: of the picture, as "25" or "30000/1001".
        seconds: length of the clip; None is as long as the speech takes and a little silence.

    Raises:
        UserError: if the text cannot be spoken, or not within `seconds`.
    """
    sound = _record(puppet, text, seed=seed, fps=fps, seconds=seconds)
    return _film(puppet, sound, seed=seed, size=size, fps=fps), puppet.caption, sound.words


def _record(puppet: Puppet, text: str, *, seed: int, fps: str, seconds: float | None) -> Speech:
    """The sound of a whole clip: speech with silence before and after, to whole frames."""
    rng = np.random.default_rng([seed, 0])
    rate = timebase.parse_rate(fps)
    speech = speak(text, puppet.voice, speed=_SPEED, seed=seed)
    spoken = speech.waveform.shape[1]
    if seconds is None:
        lead = timebase.to_index(rng.uniform(*_LEAD_S), SAMPLE_RATE)
        tail = timebase.to_index(rng.uniform(*_TAIL_S), SAMPLE_RATE)
        length_s = timebase.to_seconds(lead + spoken + tail, SAMPLE_RATE)
        length = timebase.num_samples(timebase.to_index(length_s, rate), rate, SAMPLE_RATE)
    else:
        length = timebase.num_samples(timebase.to_index(seconds, rate), rate, SAMPLE_RATE)
        if length < spoken:
            raise UserError(
                f"{text!r} takes {spoken / SAMPLE_RATE:.2f} s to say; seconds is {seconds}"
            )
        lead = int(rng.integers(length - spoken + 1))
    waveform = np.zeros((1, length), np.float32)
    waveform[:, lead : lead + spoken] = speech.waveform
    lead_s = lead / SAMPLE_RATE
    return Speech(
        waveform,
        tuple(_later(word, lead_s) for word in speech.words),
        tuple(_later(phoneme, lead_s) for phoneme in speech.phonemes),
    )


def _film(puppet: Puppet, sound: Speech, *, seed: int, size: tuple[int, int], fps: str) -> Clip:
    """The picture that goes with the sound, and both."""
    rate = timebase.parse_rate(fps)
    length_s = timebase.to_seconds(sound.waveform.shape[1], SAMPLE_RATE)
    num_frames = timebase.to_index(length_s, rate)
    # A frame shows its middle, so that the mouth is neither early nor late.
    middle_s = timebase.to_seconds(1, rate) / 2
    times_s = np.array(timebase.frame_times(middle_s, num_frames, rate), np.float64)
    efforts = _effort(sound.waveform[0], times_s)
    heard_s = times_s + _AHEAD_S
    mouths = [
        replace(mouth, opening=mouth.opening * (1 - _LOUD + _LOUD * float(effort)))
        for mouth, effort in zip(shape_mouth(sound.phonemes, heard_s), efforts, strict=True)
    ]
    poses = _sway(np.random.default_rng([seed, 1]), times_s, sound.words)
    frames = [draw(puppet, mouth, pose, size) for mouth, pose in zip(mouths, poses, strict=True)]
    return Clip(np.stack(frames), rate, sound.waveform, SAMPLE_RATE)


@dataclass(frozen=True)
class PuppetCorpus:
    """What `write_puppets` writes; the same values give the same corpus.

    Attributes:
        num_clips: how many, in all splits together.
        num_puppets: how many different ones appear, in all splits.
        seed: of everything.
        height: of the picture in pixels.
        width: likewise.
        fps: as "25" or "30000/1001".
        seconds: length of every clip, in which sentences that take longer are not said; None is as
            long as the speech takes.
        num_validation: how many of the clips are for validation.
        num_test: how many are for testing.
    """

    num_clips: int
    num_puppets: int
    seed: int
    height: int
    width: int
    fps: str
    seconds: float | None
    num_validation: int
    num_test: int

    def __post_init__(self) -> None:
        for name in ("num_clips", "num_puppets", "height", "width"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")
        held_out = self.num_validation + self.num_test
        if min(self.num_validation, self.num_test) < 0 or held_out > self.num_clips:
            raise UserError(
                f"num_validation is {self.num_validation} and num_test {self.num_test}; "
                f"both are parts of num_clips, {self.num_clips}"
            )

    def split(self, index: int) -> Literal["train", "validation", "test"]:
        """Which split clip `index` is of: the first are for training, the last for testing."""
        if index >= self.num_clips - self.num_test:
            return "test"
        if index >= self.num_clips - self.num_test - self.num_validation:
            return "validation"
        return "train"


def write_puppets(
    root: Path, corpus: PuppetCorpus, *, callback: Callable[[ClipRecord], None] | None = None
) -> list[ClipRecord]:
    """Writes clips/*.mkv (lossless) and then manifest.jsonl into `root`.

    Clips that are there already are kept, so that an interrupted run goes on where it stopped; the
    corpus's own values lie in puppets.json beside them.

    Args:
        root: a folder, made if it is not there.
        corpus: what to write.
        callback: called with each clip's record once the clip is there.

    Raises:
        UserError: if `root` holds a corpus of other values, or `seconds` is too short to speak in.
    """
    root = Path(root)
    (root / "clips").mkdir(parents=True, exist_ok=True)
    _check_same(root / "puppets.json", corpus)
    records = []
    for index in range(corpus.num_clips):
        records.append(_write_one(root, corpus, index))
        if callback:
            callback(records[-1])
    write_manifest(records, root / "manifest.jsonl")
    return records


def _check_same(path: Path, corpus: PuppetCorpus) -> None:
    values = json.dumps(asdict(corpus), indent=2) + "\n"
    if not path.exists():
        path.write_text(values)
    elif path.read_text() != values:
        raise UserError(f"{path}: there is a corpus of other values; remove it or write elsewhere")


def _write_one(root: Path, corpus: PuppetCorpus, index: int) -> ClipRecord:
    # Puppets take turns, so that every split has all of them.
    number = index % corpus.num_puppets
    puppet = draw_puppet(int(np.random.default_rng([corpus.seed, 0, number]).integers(2**31)))
    rng = np.random.default_rng([corpus.seed, 1, index])
    seed = int(rng.integers(2**31))
    text = _draw_fitting(rng, puppet, corpus, seed)
    sound = _record(puppet, text, seed=seed, fps=corpus.fps, seconds=corpus.seconds)
    media = f"clips/{index:05d}.mkv"
    if not (root / media).exists():
        size = corpus.height, corpus.width
        write_clip(_film(puppet, sound, seed=seed, size=size, fps=corpus.fps), root / media)
    return ClipRecord(
        id=f"puppets-{index:05d}",
        media=media,
        corpus="puppets",
        speaker=f"puppet-{number:04d}",
        split=corpus.split(index),
        caption=puppet.caption,
        words=sound.words,
        box=None,
        licence=_LICENCE,
    )


def _draw_fitting(rng: np.random.Generator, puppet: Puppet, corpus: PuppetCorpus, seed: int) -> str:
    """A sentence that can be said in the corpus's seconds: the first such of a few drawn."""
    for _ in range(_DRAWS):
        text = draw_sentence(rng)
        if corpus.seconds is None:
            return text
        rate = timebase.parse_rate(corpus.fps)
        num_frames = timebase.to_index(corpus.seconds, rate)
        spoken = speak(text, puppet.voice, speed=_SPEED, seed=seed).waveform.shape[1]
        if spoken <= timebase.num_samples(num_frames, rate, SAMPLE_RATE):
            return text
    raise UserError(f"seconds is {corpus.seconds}; none of {_DRAWS} sentences can be said in that")


def _effort(waveform: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """How loud it is around each time, 0 to 1; 1 is as loud as the loudest tenth of the speech."""
    reach = timebase.to_index(_EFFORT_S, SAMPLE_RATE)
    power = np.concatenate([[0.0], np.cumsum(waveform.astype(np.float64) ** 2)])
    centres = np.array([timebase.to_index(time_s, SAMPLE_RATE) for time_s in times_s])
    begins, ends = (np.clip(centres + d, 0, len(waveform)) for d in (-reach, reach))
    loudness = np.sqrt((power[ends] - power[begins]) / (2 * reach))
    return np.clip(loudness / max(np.quantile(loudness, 0.9), 1e-8), 0, 1)


_Timed = TypeVar("_Timed", Word, TimedPhoneme)


def _later(timed: _Timed, by_s: float) -> _Timed:
    return replace(timed, start_s=timed.start_s + by_s, end_s=timed.end_s + by_s)


def _sway(rng: np.random.Generator, times_s: np.ndarray, words: Sequence[Word]) -> list[Pose]:
    """Slow movement of the head, nods on some words, and blinks."""

    def drift(amplitude: float) -> np.ndarray:
        hertz = rng.uniform(0.12, 0.6, 3)[:, None]
        phase = rng.uniform(0, 2 * np.pi, 3)[:, None]
        weight = rng.uniform(0.3, 1.0, 3)[:, None] / hertz**0.5
        waves = weight * np.sin(2 * np.pi * hertz * times_s + phase)
        return amplitude * waves.sum(axis=0) / np.sqrt((weight**2).sum() / 2)

    nod = np.zeros_like(times_s)
    for word in words:
        strength = rng.uniform(-0.1, 0.35)
        nod += strength * np.exp(-(((times_s - (word.start_s + word.end_s) / 2) / 0.12) ** 2))
    blink = np.zeros_like(times_s)
    blink_s = rng.uniform(0.2, 2.5)
    while blink_s < times_s[-1]:
        phase = np.clip(np.abs(times_s - blink_s) / (_BLINK_S / 2), 0, 1)
        blink = np.maximum(blink, np.clip(1.4 * (1 - phase), 0, 1))
        blink_s += rng.uniform(1.2, 4.0)
    tracks = (
        drift(0.025), drift(0.012), drift(0.03), drift(0.3), 0.5 * drift(0.25) + nod,
        blink, np.clip(drift(0.35), 0, 1),
    )  # fmt: skip
    return [Pose(*map(float, values)) for values in zip(*tracks, strict=True)]
