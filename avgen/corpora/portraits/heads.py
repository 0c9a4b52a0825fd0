"""A portrait and what a voice says in, a clip of the person saying it out, with all that is known.

A table beside the portraits may describe them (`read_table`): `captions.jsonl`, a line for each
picture with its `file` and any of `id`, `caption`, `kind` (man or woman), `age` (young, middle-aged
or old), `skin`, `hair`, `hair_style`, `beard`, `glasses`, `headwear`, `clothes`, `background`,
`licence`, `source`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from avgen.clips.clip import Clip, Word
from avgen.clips.timebase import frame_times, num_samples, to_index, to_seconds
from avgen.corpora.layout import files, folders, relative
from avgen.corpora.manifest import ClipRecord, Problem, Split, safe_name
from avgen.corpora.portraits.animation import animate
from avgen.corpora.portraits.articulation import mouth_shapes, relative_loudness
from avgen.corpora.portraits.deformation import TRACK, deform
from avgen.corpora.portraits.descriptions import LABELS, describe
from avgen.corpora.portraits.faces import Landmarker, the_face
from avgen.corpora.portraits.framing import frame_scene
from avgen.corpora.portraits.gestures import gestures
from avgen.corpora.splits import split_by_speaker
from avgen.errors import UserError
from avgen.models.phonemes import TimedPhoneme

NAME = "portraits"
TABLE = "captions.jsonl"
PICTURES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"))
TEST, VALIDATION = 0.15, 0.03  # shares of the people
_LEAD_S, _TAIL_S = (0.08, 0.3), (0.12, 0.35)  # of silence around what is said
# By how much people differ in what their mouths do, as standard deviations of a logarithm.
_STYLE = {"jawOpen": 0.2, "mouthLowerDown": 0.3, "mouthUpperUp": 0.3, "mouthStretch": 0.25,
          "mouthFunnel": 0.2, "mouthPucker": 0.2}  # fmt: skip


@dataclass(frozen=True)
class Portrait:
    """A picture of a person.

    Attributes:
        path: Of the picture.
        name: Unique; the person's, who is in no two splits.
        about: What the table says; empty where there is none.
    """

    path: Path
    name: str
    about: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def split(self) -> Split:
        """By hash of the name."""
        return split_by_speaker(self.name, NAME, TEST, VALIDATION)


@dataclass(frozen=True)
class Line:
    """What a voice says.

    Attributes:
        record: Words, phonemes and labels ("sex", "age", "voice") of the voice.
        waveform: float32 [N].
        sample_rate: Its samples a second.
    """

    record: ClipRecord
    waveform: np.ndarray
    sample_rate: int


@dataclass(frozen=True)
class Take:
    """How a clip is made.

    Attributes:
        number: Of the portrait's clips.
        seed: Of the corpus.
        size: Height and width in pixels.
        fps: Frames a second.
    """

    number: int
    seed: int
    size: tuple[int, int]
    fps: Fraction


def find_portraits(root: Path) -> list[Portrait | Problem]:
    """Every picture under a folder, by path, with its row of the table.

    Where there is a table, pictures that it leaves out and rows without a picture are problems.

    Raises:
        UserError: there is no picture, or the table cannot be read.
    """
    table = read_table(root / TABLE) if (root / TABLE).is_file() else None
    found: list[Portrait | Problem] = []
    for path in _pictures(root):
        place = relative(path, root)
        if table is None:
            found.append(Portrait(path, safe_name(place)))
        elif place not in table:
            found.append(Problem(place, f"{TABLE} has no row of it"))
        else:
            about = table.pop(place)
            found.append(Portrait(path, str(about.get("id", safe_name(place))), about))
    found += [Problem(place, "the table has it, the folder has not") for place in table or ()]
    if not any(isinstance(one, Portrait) for one in found):
        raise UserError(f"{root}: no pictures ({', '.join(sorted(PICTURES))}) here or in folders")
    names = [one.name for one in found if isinstance(one, Portrait)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{root / TABLE}: two pictures have the id {twice!r}")
    return found


def read_table(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a table by `file`.

    Raises:
        UserError: a line is no JSON, has no `file`, or one file has two.
    """
    rows: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}:{number}: is not JSON ({error})") from error
        if not isinstance(row, dict) or not isinstance(row.get("file"), str):
            raise UserError(f"{path}:{number}: has no file")
        row = {key: value for key, value in row.items() if value not in (None, "")}
        if "/" in (name := str(row.get("id", "none"))) or name.startswith("."):
            raise UserError(f"{path}:{number}: id {name!r} cannot name a file")
        if rows.setdefault(row["file"], row) is not row:
            raise UserError(f"{path}:{number}: {row['file']} has two rows")
    return rows


def _pictures(folder: Path) -> list[Path]:
    inner = [path for one in folders(folder) for path in _pictures(one)]
    return [*files(folder, PICTURES), *inner]


@dataclass(frozen=True)
class Made:
    """A clip of a portrait.

    Attributes:
        clip: Picture and sound.
        record: Its media are named `frames/ID.npy`, as in a prepared folder.
        expressions: What each frame was moved by: float16 [T, len(TRACK)].
    """

    clip: Clip
    record: ClipRecord
    expressions: np.ndarray


def make_clip(
    portrait: Portrait, picture: np.ndarray, line: Line, take: Take, landmarker: Landmarker
) -> Made:
    """Let a portrait say a line; the same arguments give the same clip.

    Args:
        portrait: Who speaks.
        picture: Of them: uint8 [H, W, 3], RGB.
        line: What is said, and how it sounds.
        take: Size, rate and seeds.
        landmarker: Finds the face.

    Raises:
        UserError: the picture cannot be made to speak; the message says why.
    """
    person = int.from_bytes(hashlib.sha256(portrait.name.encode()).digest()[:6], "big")
    style, rng = (np.random.default_rng([take.seed, person, *n]) for n in ((), (take.number,)))
    if rng.integers(2):
        picture = np.ascontiguousarray(picture[:, ::-1])
    face = the_face(landmarker(picture), picture.shape[:2])
    scene = frame_scene(picture, face, rng, take.size, str(portrait.about.get("age", "")))
    line = with_silence(line, rng, take.fps)
    num_frames = to_index(to_seconds(len(line.waveform), line.sample_rate), take.fps)
    middle_s = to_seconds(1, take.fps) / 2
    times_s = np.array(frame_times(middle_s, num_frames, take.fps), np.float64)
    tracks = motion(line, times_s, style, rng)
    moved = deform(scene.face, tracks, scene.look.show)
    tracks["lipGap"] = moved.gap
    gaze = np.stack([tracks["gazeX"], tracks["gazeY"]], 1)
    frames = animate(scene, moved, gaze)
    name = f"{portrait.name}-{take.number:02d}"
    return Made(
        Clip(frames, take.fps, line.waveform[None], line.sample_rate),
        _record(portrait, line, name, rng),
        np.stack([tracks[key] for key in TRACK], 1).astype(np.float16),
    )


def motion(
    line: Line, times_s: np.ndarray, style: np.random.Generator, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """All that moves a head that says a line, [T] by name: TRACK without what follows from it.

    Args:
        line: With its phonemes.
        times_s: Middles of the frames: [T].
        style: Decides how the person speaks.
        rng: Decides what this clip has besides.
    """
    phonemes = line.record.phonemes
    assert phonemes is not None, "a voice's record has its phonemes"
    shapes = mouth_shapes(phonemes, line.waveform, line.sample_rate, times_s)
    loudness = relative_loudness(line.waveform, line.sample_rate, times_s)
    tracks = {name: np.zeros(len(times_s)) for name in TRACK if name != "lipGap"}
    tracks |= gestures(rng, line.record.words, loudness, times_s)
    smile = tracks["mouthSmile"]
    for name, values in shapes.items():
        factor = float(np.exp(style.normal(0, _STYLE.get(name, 0.0))))
        tracks[name] = np.clip(values * factor, 0, 1.2)
    tracks["mouthSmile"] = tracks["mouthSmile"] + smile
    return tracks


def with_silence(line: Line, rng: np.random.Generator, fps: Fraction) -> Line:
    """Some silence before and after, to whole frames."""
    rate = line.sample_rate
    lead, tail = (to_index(float(rng.uniform(*span)), rate) for span in (_LEAD_S, _TAIL_S))
    whole_s = to_seconds(lead + len(line.waveform) + tail, rate)
    samples = num_samples(to_index(whole_s, fps), fps, rate)
    waveform = np.zeros(samples, np.float32)
    inside = line.waveform[: samples - lead]
    waveform[lead : lead + len(inside)] = inside
    record, by_s = line.record, lead / rate
    words = tuple(
        Word(w.text, _later(w.start_s, by_s), _later(w.end_s, by_s)) for w in record.words
    )
    phonemes = tuple(
        TimedPhoneme(p.phoneme, _later(p.start_s, by_s), _later(p.end_s, by_s))
        for p in record.phonemes or ()
    )
    return replace(line, record=replace(record, words=words, phonemes=phonemes), waveform=waveform)


def _later(time_s: float, by_s: float) -> float:
    return round(time_s + by_s, 4)


def _record(portrait: Portrait, line: Line, name: str, rng: np.random.Generator) -> ClipRecord:
    about, voice = portrait.about, line.record
    licences = str(about.get("licence", "")), voice.licence
    labels = {key: str(about[key]) for key in LABELS if about.get(key) not in (None, "")}
    return replace(
        voice,
        id=name,
        media=f"frames/{name}.npy",
        sound=f"waveforms/{name}.npy",
        corpus=NAME,
        speaker=portrait.name,
        split=portrait.split,
        caption=describe(about, str(voice.labels.get("voice", "")), rng),
        licence=f"picture: {licences[0] or 'unknown'}; voice: {licences[1] or 'unknown'}",
        source="; ".join(part for part in (str(about.get("source", "")), voice.source) if part),
        consent="unknown",
        labels=labels | {"voice": voice.speaker, "made_by": str(about.get("made_by", ""))},
        tracks={"expressions": f"tracks/{name}.expressions.npy"},
        lasts_s=None,
        span=None,
    )
