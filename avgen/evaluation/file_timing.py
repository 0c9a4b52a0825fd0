"""A file's own timing and sound: what may go wrong with them, and flashes against clicks.

Nothing here looks at faces or words: it is what the container and the samples say. A score of
synchrony means little for a file whose own clock is in doubt.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from avgen.clips.media.packets import scan
from avgen.clips.media.streams import MediaProbe, StreamProbe, probe
from avgen.clips.timebase import to_index
from avgen.evaluation.measure import Measure, Value, Values
from avgen.evaluation.subject import (
    FPS,
    Subject,
    Unscored,
    own_sound,
    read_audio_quietly,
    read_stream,
)
from avgen.evaluation.waveforms import SILENT_DB

SILENCE_WINDOW_S = Fraction(1, 50)  # stretches that are silent or not, by SILENT_DB
FULL_SCALE = 0.999  # a sample at least this large is at the end of the scale
CLIPPED_RUN = 3  # successive samples at the end of the scale that count as clipped

FLASH_LEVELS = 12.0  # of 255: a picture that brightens by less in one frame does not flash
CLICK_LEVEL = 0.02  # of full scale: quieter sounds are no clicks
APART_S = 0.12  # seconds between two flashes, or two clicks, at least
SEARCH_S = 1.0  # seconds each way in which a click is looked for


def media_values(path: Path) -> dict[str, Any]:
    """What a file states about itself, and its sound's silence and clipping.

    Returns:
        `container`, `duration_s`; of the picture `video_codec`, `width`, `height`, `fps` (exact,
        as text), `constant_rate`; of the sound `audio_codec`, `sample_rate` (Hz), `num_channels`,
        `sound_start_ms` (after the first frame), `sound_end_ms` (after the picture's end),
        `silence` and `clipping` (shares of the time and of the samples); `timing_in_doubt`
        (whether the container leaves the sound's place open) and `warnings`. What the file does
        not have is None.

    Raises:
        MediaError: no readable media file, or a damaged one.
    """
    seen = probe(path)
    video, audio = read_stream(seen, "video"), read_stream(seen, "audio")
    values: dict[str, Any] = {
        "container": seen.container,
        "duration_s": float(seen.duration_s),
        **dict.fromkeys(("video_codec", "width", "height", "fps", "constant_rate")),
        **dict.fromkeys(("audio_codec", "sample_rate", "num_channels")),
        **dict.fromkeys(("sound_start_ms", "sound_end_ms", "silence", "clipping")),
    }
    if video is not None:
        values |= {"video_codec": video.codec, "width": video.width, "height": video.height}
        values |= {"fps": str(video.fps), "constant_rate": video.is_constant_rate}
    if audio is not None:
        waveform, rate = read_audio_quietly(path)
        values |= {"audio_codec": audio.codec, "sample_rate": rate}
        values |= {"num_channels": audio.num_channels}
        values |= {"silence": silence(waveform, rate), "clipping": clipping(waveform)}
    if video is not None and audio is not None:
        values |= _places(video, audio)
    doubts = [*scan(path).warnings, *_avi_doubts(seen, audio)]
    values["timing_in_doubt"] = bool(doubts)
    values["warnings"] = list(dict.fromkeys([*seen.warnings, *doubts]))
    return values


def _avi_doubts(seen: MediaProbe, audio: StreamProbe | None) -> list[str]:
    """AVI does not state an encoder's priming, which moves the sound by an unknown time.

    MP3's doubt is the reader's own; measured with flashes and clicks, AAC in AVI is 3 to 45 ms off.
    """
    codec = "" if audio is None or audio.codec is None else audio.codec
    if seen.container != "avi" or codec.startswith(("pcm", "mp3")) or not codec:
        return []
    return [f"{codec} in AVI may be up to 70 ms off: the file does not state its encoder's delay"]


def _places(video: StreamProbe, audio: StreamProbe) -> dict[str, float]:
    """When the sound begins and ends against the picture, in ms."""
    assert video.start_s is not None and video.duration_s is not None
    assert audio.start_s is not None and audio.duration_s is not None
    end_s = audio.start_s + audio.duration_s - video.start_s - video.duration_s
    places = {"sound_start_ms": audio.start_s - video.start_s, "sound_end_ms": end_s}
    return {name: round(float(seconds * 1000), 3) for name, seconds in places.items()}


def silence(waveform: np.ndarray, sample_rate: int) -> float:
    """Share of the time in which waveform float32 [C, N] is silent, 0 to 1."""
    window = max(1, to_index(SILENCE_WINDOW_S, sample_rate))
    count = max(1, waveform.shape[1] // window)
    loudest = np.abs(waveform).max(0)[: count * window]
    stretches = np.resize(loudest, (count, len(loudest) // count))
    rms = np.sqrt((stretches.astype(np.float64) ** 2).mean(1))
    return float((rms < 10 ** (SILENT_DB / 20)).mean())


def clipping(waveform: np.ndarray) -> float:
    """Share of the samples of waveform float32 [C, N] that stay at the end of the scale."""
    full = np.abs(waveform) >= FULL_SCALE
    if full.shape[1] < CLIPPED_RUN:
        return 0.0
    starts = np.ones_like(full[:, CLIPPED_RUN - 1 :])
    for shift in range(CLIPPED_RUN):
        starts &= full[:, shift : shift + starts.shape[1]]
    clipped = np.zeros_like(full)
    for shift in range(CLIPPED_RUN):
        clipped[:, shift : shift + starts.shape[1]] |= starts
    return float(clipped.mean())


@dataclass(frozen=True)
class FlashClick:
    """Flashes of a picture against clicks of its sound.

    Attributes:
        offset_ms: above 0 where the sound comes first.
        num_pairs: flashes with a click at that offset.
        spread_ms: largest distance of one pair from the offset.
    """

    offset_ms: float
    num_pairs: int
    spread_ms: float


def flash_click_offset(
    frames: np.ndarray, fps: Fraction, waveform: np.ndarray, sample_rate: int
) -> FlashClick:
    """`match` of frames uint8 [T, H, W, 3] and a waveform float32 [C, N] from frame 0 on."""
    return match(flash_times(frames, fps), click_times(waveform, sample_rate), fps)


def match(flashes: np.ndarray, clicks: np.ndarray, fps: Fraction) -> FlashClick:
    """How far the clicks of a test clip lie from its flashes: the truth, without a face.

    Every pair within SEARCH_S votes for its distance; the distance that most pairs share wins, of
    equal ones the smallest. A picture is exact to a frame only, so half a frame is no error.

    Args:
        flashes: In seconds, [N]: `flash_times`.
        clicks: In seconds, [M]: `click_times`.
        fps: Of the picture.

    Raises:
        Unscored: no flash, no click, or none near the other.
    """
    if not len(flashes):
        raise Unscored("the picture never flashes")
    if not len(clicks):
        raise Unscored("the sound never clicks")
    distances = (flashes[:, None] - clicks[None]).ravel()
    distances = distances[np.abs(distances) <= SEARCH_S]
    if not len(distances):
        raise Unscored(f"no click is within {SEARCH_S:.0f} s of a flash")
    together = np.abs(distances[:, None] - distances[None]) <= 0.5 / float(fps)
    votes = together.sum(1)
    best = min(range(len(distances)), key=lambda i: (-votes[i], abs(distances[i])))
    shared = distances[together[best]]
    offset_s = float(np.median(shared))
    spread_s = float(np.abs(shared - offset_s).max())
    return FlashClick(offset_s * 1000, len(shared), spread_s * 1000)


def flash_times(frames: np.ndarray, fps: Fraction) -> np.ndarray:
    """When the picture brightens at once, in seconds: float64 [num_flashes]."""
    light = np.array([frame.mean() for frame in frames])
    rise = np.diff(light, prepend=light[0])
    if rise.max() < FLASH_LEVELS:
        return np.zeros(0)
    places = np.flatnonzero(rise >= rise.max() / 2)
    return _apart(places / float(fps))


def click_times(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """When a sound begins at once, in seconds: float64 [num_clicks]."""
    level = np.abs(waveform).max(0)
    if level.size == 0 or level.max() < CLICK_LEVEL:
        return np.zeros(0)
    return _apart(np.flatnonzero(level >= level.max() / 3) / sample_rate)


def _apart(times: np.ndarray) -> np.ndarray:
    """The times [N] that follow `APART_S` of quiet."""
    return times[np.diff(times, prepend=-APART_S - 1) > APART_S]


def _flashes(subject: Subject) -> np.ndarray:
    own_sound(subject)
    flashes = flash_times(subject.clip.frames, FPS)
    if not len(flashes):
        raise Unscored("the picture never flashes")
    return flashes


def _flash_click(flashes: np.ndarray, waveform: np.ndarray, rate: int) -> Values:
    return asdict(match(flashes, click_times(waveform, rate), FPS))


MEASURES = (
    Measure(
        "media",
        "avgen-media/1",
        {
            "sound_start_ms": Value(unit="ms"),
            "sound_end_ms": Value(unit="ms"),
            "silence": Value(),
            "clipping": Value(-1),
        },
        lambda subject: media_values(subject.path),
    ),
    Measure(
        "flash_click",
        "avgen-flash-click/1",
        {"offset_ms": Value(unit="ms"), "num_pairs": Value(1)},
        _flashes,
        _flash_click,
        by_default=False,
    ),
)
