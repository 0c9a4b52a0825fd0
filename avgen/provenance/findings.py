"""A file in, what it says of where it came from out: signature, marks in picture and sound.

Each layer speaks for itself. What is not found proves nothing: a real clip has no mark, and neither
has a made one that was filmed off a screen.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from avgen.clips.files import MediaError
from avgen.clips.media.read import read_audio, read_metadata, read_windows
from avgen.clips.media.streams import probe
from avgen.provenance import picture_mark, signer, signing, sound_mark

MAX_S = 30.0  # of a clip that are looked at


@dataclass(frozen=True)
class Mark:
    """Whether a mark is found.

    Attributes:
        state: "detected", "not_detected" or "not_checked".
        z: How far it stands out of chance, in standard deviations; None where not checked.
        threshold: From which z on it is called detected.
        reason: Why it was not checked.
    """

    state: str
    z: float | None
    threshold: float
    reason: str | None = None


@dataclass(frozen=True)
class Findings:
    """What a file says of itself, layer by layer.

    Attributes:
        c2pa: The signed manifest.
        picture: avgen's mark in the picture.
        sound: avgen's mark in the sound.
        tags: The container's own words, which anybody can write: `ai_generated` and `comment`.
    """

    c2pa: signing.Manifest
    picture: Mark
    sound: Mark
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def is_marked(self) -> bool:
        """Whether any layer says that a model made it."""
        signed = self.c2pa.ai and self.c2pa.state in ("trusted", "valid", "expired")
        return signed or "detected" in (self.picture.state, self.sound.state)

    @property
    def is_tampered(self) -> bool:
        """Whether a signature does not fit the file any more."""
        return self.c2pa.state == "invalid"

    @property
    def verdict(self) -> str:
        """One sentence for a person."""
        if self.is_tampered:
            words = "The file was changed after it was signed"
            return words + ("; it still carries avgen's mark." if self.is_marked else ".")
        if not self.is_marked:
            return "Nothing was found. That does not mean that the clip is real."
        layers = [
            name
            for name, there in (
                ("a signature", self.c2pa.ai),
                ("avgen's mark in the picture", self.picture.state == "detected"),
                ("avgen's mark in the sound", self.sound.state == "detected"),
            )
            if there
        ]
        return f"Made by a model: it carries {' and '.join(layers)}."

    def record(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        found = asdict(self)
        return found | {"verdict": self.verdict, "marked": self.is_marked}


def verify(path: Path) -> Findings:
    """Look for every layer in a file.

    Raises:
        MediaError: no media file.
    """
    seen = probe(path)
    kinds = {stream.kind for stream in seen.streams if stream.is_read}
    roots = signing.trusted_roots(signer.load())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        picture = _looked("picture", _picture, path) if "video" in kinds else NO_PICTURE
        sound = _looked("sound", _sound, path) if "audio" in kinds else NO_SOUND
    tags = read_metadata(path)
    kept = {name: tags[name] for name in ("ai_generated", "comment") if name in tags}
    return Findings(signing.read(path, roots), picture, sound, kept)


def _looked(layer: str, look: Callable[[Path], Mark], path: Path) -> Mark:
    """What a layer says; a file that is damaged there may still say something elsewhere."""
    try:
        return look(path)
    except MediaError as error:
        return _unchecked(layer, str(error).removeprefix(f"{path}: "))


def _picture(path: Path) -> Mark:
    frames = next(read_windows(path, window_s=MAX_S)).frames
    if min(frames.shape[1:3]) < picture_mark.MIN_SIDE // 2:
        return _unchecked("picture", f"smaller than {picture_mark.MIN_SIDE // 2} pixels")
    z, least = picture_mark.find(frames), picture_mark.THRESHOLD
    return Mark("detected" if z >= least else "not_detected", round(z, 2), least)


def _sound(path: Path) -> Mark:
    waveform, rate = read_audio(path)
    if rate < 2 * sound_mark.HIGH_HZ:
        return _unchecked("sound", f"{rate} Hz; the mark needs {2 * sound_mark.HIGH_HZ:.0f}")
    z = sound_mark.find(waveform[:, : round(MAX_S * rate)], rate)
    least = sound_mark.THRESHOLD
    return Mark("detected" if z >= least else "not_detected", round(z, 2), least)


def _unchecked(layer: str, reason: str) -> Mark:
    least = picture_mark.THRESHOLD if layer == "picture" else sound_mark.THRESHOLD
    return Mark("not_checked", None, least, reason)


NO_PICTURE, NO_SOUND = _unchecked("picture", "no picture"), _unchecked("sound", "no sound")
