"""Flashes and clicks of known distance through every container; what the probe says of a file."""

from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest

from avgen.clips import Clip, read_clip, write_clip
from avgen.evaluation.file_timing import (
    clipping,
    flash_click_offset,
    media_values,
    silence,
)
from avgen.evaluation.subject import Unscored

SIDE = 64
RATES = (Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30))

# container, picture, sound, Hz
EXACT = (
    ("mp4", "libx264", "aac", 16_000),
    ("mp4", "libx264", "aac", 44_100),
    ("mkv", "libx264", "aac", 48_000),
    ("mkv", "libx264", "flac", 16_000),
    ("webm", "libvpx-vp9", "libopus", 48_000),
    ("avi", "mpeg4", "pcm_s16le", 44_100),
)
IN_DOUBT = (
    ("avi", "mpeg4", "libmp3lame", 16_000),
    ("avi", "mpeg4", "libmp3lame", 48_000),
    ("avi", "mpeg4", "aac", 48_000),
)


def flash_and_click(fps: Fraction, rate: int, offset_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Three flashes, and three clicks that come `offset_s` before them."""
    num_frames = int(4 * fps)
    frames = np.full((num_frames, SIDE, SIDE, 3), 16, np.uint8)
    waveform = np.zeros((1, int(num_frames / fps * rate)), np.float32)
    click = 0.8 * np.cos(2 * np.pi * 1000 * np.arange(rate // 100) / rate)
    for start in (int(fps * t) for t in (0.9, 1.7, 2.9)):
        frames[start : start + 3] = 235
        sample = round((float(start / fps) - offset_s) * rate)
        waveform[0, sample : sample + len(click)] = click
    return frames, waveform


def write_with_av(
    path: Path, picture: str, sound: str, fps: Fraction, rate: int, offset_s: float
) -> None:
    """The same as a file, by PyAV alone: avgen's own writer has no part in its own trial."""
    frames, waveform = flash_and_click(fps, rate, offset_s)
    with av.open(str(path), "w") as container:
        video = container.add_stream(picture, rate=fps)
        video.height, video.width, video.pix_fmt = SIDE, SIDE, "yuv420p"
        video.codec_context.time_base = 1 / fps
        if picture == "libvpx-vp9":
            video.codec_context.options = {"deadline": "realtime", "cpu-used": "8"}
        audio = container.add_stream(sound, rate=rate)
        audio.layout = "mono"
        audio.codec_context.time_base = Fraction(1, rate)
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, 1 / fps
            container.mux(video.encode(frame))
        block = av.AudioFrame.from_ndarray(waveform, format="fltp", layout="mono")
        block.sample_rate, block.pts, block.time_base = rate, 0, Fraction(1, rate)
        resampler = av.AudioResampler(format=audio.format, layout="mono", rate=rate)
        for part in [*resampler.resample(block), *resampler.resample(None)]:
            container.mux(audio.encode(part))
        for stream in (video, audio):
            container.mux(stream.encode(None))


@pytest.mark.parametrize(("kind", "fps"), [*product(EXACT, RATES)], ids=str)
def test_a_known_offset_comes_back_within_half_a_frame(tmp_path, kind, fps):
    suffix, picture, sound, rate = kind
    for offset_s in (-0.2, 0.0, 0.12):
        path = tmp_path / f"clip{offset_s}.{suffix}"
        write_with_av(path, picture, sound, fps, rate, offset_s)
        clip = read_clip(path)
        found = flash_click_offset(clip.frames, clip.fps, clip.waveform, clip.sample_rate)
        assert abs(found.offset_ms - offset_s * 1000) <= 500 / fps
        assert found.num_pairs == 3
        assert not media_values(path)["timing_in_doubt"]


@pytest.mark.parametrize(("kind", "fps"), [*product(IN_DOUBT, RATES[1:3])], ids=str)
def test_what_the_container_cannot_say_is_flagged(tmp_path, kind, fps):
    suffix, picture, sound, rate = kind
    path = tmp_path / f"clip.{suffix}"
    write_with_av(path, picture, sound, fps, rate, 0.0)
    values = media_values(path)
    assert values["timing_in_doubt"]
    assert any("AVI" in warning for warning in values["warnings"])


def test_sound_before_the_picture_is_above_zero():
    frames, waveform = flash_and_click(Fraction(25), 16_000, 0.1)
    found = flash_click_offset(frames, Fraction(25), waveform, 16_000)
    assert found.offset_ms == pytest.approx(100, abs=1)
    assert found.spread_ms < 1


def test_nothing_to_see_or_hear_has_a_reason():
    frames, waveform = flash_and_click(Fraction(25), 16_000, 0)
    with pytest.raises(Unscored, match="flash"):
        flash_click_offset(frames[:5], Fraction(25), waveform, 16_000)
    with pytest.raises(Unscored, match="click"):
        flash_click_offset(frames, Fraction(25), waveform * 0, 16_000)
    with pytest.raises(Unscored, match="within 1 s"):
        late = np.concatenate([np.zeros((1, 80_000), np.float32), waveform], 1)
        flash_click_offset(frames, Fraction(25), late, 16_000)


def test_silence_is_a_share_of_the_time():
    tone = 0.1 * np.sin(np.arange(16_000) / 3).astype(np.float32)[None]
    assert silence(tone, 16_000) == 0
    assert silence(np.concatenate([tone, tone * 0, tone * 1e-5, tone], 1), 16_000) == 0.5
    assert silence(np.zeros((1, 7), np.float32), 16_000) == 1


def test_clipping_is_a_share_of_the_samples_that_stay_at_full_scale():
    waveform = np.zeros((1, 1000), np.float32)
    waveform[0, [10, 20, 21]] = 1  # too short to be clipped
    assert clipping(waveform) == 0
    waveform[0, 100:110] = -1
    assert clipping(waveform) == pytest.approx(0.01)


def test_late_and_short_sound_is_measured(tmp_path):
    """Sound from 0.2 s on, of a picture of 2 s, that ends 0.3 s before it."""
    path = tmp_path / "late.mkv"
    fps, rate = Fraction(25), 16_000
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=fps)
        video.height, video.width, video.pix_fmt = SIDE, SIDE, "bgr0"
        audio = container.add_stream("pcm_s16le", rate=rate)
        audio.layout = "mono"
        for index in range(50):
            frame = av.VideoFrame.from_ndarray(np.zeros((SIDE, SIDE, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, 1 / fps
            container.mux(video.encode(frame))
        samples = np.full((1, 24_000), 1000, np.int16)
        block = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        block.sample_rate, block.pts, block.time_base = rate, 3_200, Fraction(1, rate)
        container.mux(audio.encode(block))
        for stream in (video, audio):
            container.mux(stream.encode(None))
    values = media_values(path)
    assert values["sound_start_ms"] == pytest.approx(200, abs=1)
    assert values["sound_end_ms"] == pytest.approx(-300, abs=2)
    assert values["fps"] == "25"
    assert any("begins" in warning for warning in values["warnings"])


def test_a_clip_without_sound_has_none(tmp_path):
    path = tmp_path / "mute.mkv"
    write_clip(Clip(np.zeros((3, SIDE, SIDE, 3), np.uint8), Fraction(25)), path)
    values = media_values(path)
    assert values["sample_rate"] is values["silence"] is values["sound_start_ms"] is None
    assert values["duration_s"] == pytest.approx(0.12)
