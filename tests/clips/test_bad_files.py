"""What a bad file gets: one line that names it and the rule, soon, and nothing of FFmpeg's own."""

import os
from fractions import Fraction

import numpy as np
import pytest

from avgen.clips import (
    Clip,
    MediaError,
    probe,
    read_audio,
    read_clip,
    read_image,
    read_metadata,
    read_windows,
    write_clip,
)
from avgen.clips.media import read as reading

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"


@pytest.fixture(scope="module")
def files(media, tmp_path_factory):
    """Bad files of every kind, by name."""
    folder = tmp_path_factory.mktemp("bad")
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 256, (50, 12, 16, 3)), 4, axis=1).repeat(4, axis=2)
    waveform = (0.1 * rng.standard_normal((1, 96_000))).astype(np.float32)
    clip = Clip(frames.astype(np.uint8), Fraction(25), waveform, 48_000)
    for suffix in ("mp4", "webm", "mkv"):
        good = folder / f"good.{suffix}"
        write_clip(clip, good)
        whole = good.read_bytes()
        (folder / f"truncated.{suffix}").write_bytes(whole[: len(whole) * 3 // 5])
    whole = (folder / "good.mp4").read_bytes()
    (folder / "header.mp4").write_bytes(whole[:100])
    holed = bytearray(whole)
    holed[len(whole) // 2 : len(whole) // 2 + 2000] = bytes(2000)
    (folder / "holed.mp4").write_bytes(holed)
    (folder / "noise.mp4").write_bytes(rng.bytes(20_000))
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no video at all\n" * 50)
    (folder / "text.txt").write_text("no video at all\n" * 50)
    (folder / "list.mp4").write_text("ffconcat version 1.0\nfile good.mp4\n")
    (folder / "pointer.mp4").write_text(LFS)
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    media.mux(folder / "sound.m4a", waveform=waveform, audio="aac")
    media.mux(folder / "silent.mp4", frames=media.draw_numbers(range(5)))
    return folder


UNREADABLE = {
    "missing.mp4": "there is no such file",
    "folder.mp4": "is not a regular file",
    "pipe.mp4": "is not a regular file",
    "empty.mp4": "is empty",
    "pointer.mp4": "is a git-lfs pointer.*git lfs pull",
    "text.mp4": "is no media file",
    "text.txt": "is text or a playlist",
    "list.mp4": "is text or a playlist",
    "noise.mp4": "is no media file",
}
DAMAGED = {
    "truncated.mp4": r"is cut short or damaged: [01]\.\d+ s of 2\.00 s can be read",
    "truncated.webm": r"is cut short or damaged: [01]\.\d+ s of 2\.\d\d s can be read",
    "truncated.mkv": r"is cut short or damaged: [01]\.\d+ s of 2\.00 s can be read",
}


def refused(read, path, rule):
    with pytest.raises(MediaError, match=rule) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


def windows(path):
    return list(read_windows(path, window_s=0.5))


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("read", [read_clip, read_audio, read_image, read_metadata, probe, windows])
def test_what_no_reader_can_read(files, read, name):
    refused(read, files / name, UNREADABLE[name])


@pytest.mark.parametrize("read", [read_clip, read_audio, read_image, probe, windows])
def test_a_header_alone(files, read):
    refused(read, files / "header.mp4", "has neither picture nor sound")


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("read", [read_clip, read_audio, probe, windows])
def test_cut_short_says_how_much_is_there(files, read, name):
    refused(read, files / name, DAMAGED[name])


@pytest.mark.parametrize("read", [read_clip, windows])
def test_a_hole_in_the_data_says_where(files, read):
    refused(read, files / "holed.mp4", r"decodes to \d\.\d\d s and no further")


def test_sound_where_a_video_is_needed(files):
    refused(read_clip, files / "sound.m4a", "has sound only; a video is needed")
    refused(windows, files / "sound.m4a", "has sound only; a video is needed")
    refused(read_image, files / "sound.m4a", "has no picture")


def test_silence_where_sound_is_needed(files):
    refused(read_audio, files / "silent.mp4", "has no sound")


@pytest.mark.parametrize(
    ("start_s", "end_s", "rule"),
    [
        (-1, None, "must be at least 0"),
        (2, None, "before the end"),
        (1, 1, "before the end"),
        (0, 2.5, "its picture ends at 2 s"),
    ],
)
def test_stretches_that_are_not_there(files, start_s, end_s, rule):
    refused(lambda path: read_clip(path, start_s=start_s, end_s=end_s), files / "good.mp4", rule)


@pytest.mark.parametrize(("start_s", "end_s"), [(-1, None), (2.5, None), (1, 1), (0, 3)])
def test_stretches_of_sound_that_are_not_there(files, start_s, end_s):
    refused(
        lambda path: read_audio(path, start_s=start_s, end_s=end_s), files / "good.mp4", "sound"
    )


@pytest.mark.parametrize("wanted", [{"fps": 0}, {"sample_rate": -1}])
def test_rates_must_be_positive(files, wanted):
    with pytest.raises(ValueError, match="must be positive"):
        read_clip(files / "good.mp4", **wanted)


def test_channels_that_cannot_be_made(files):
    refused(lambda path: read_clip(path, num_channels=5), files / "good.mp4", "1 channels to 5")


def test_more_than_memory_holds(files, monkeypatch):
    monkeypatch.setattr(reading, "memory_budget", lambda: 360_000)
    refused(read_clip, files / "good.mp4", "50 frames of 64x48 need .* read a part of it")
    assert sum(clip.num_frames for clip in read_windows(files / "good.mp4", window_s=1)) == 50
