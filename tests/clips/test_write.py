"""What is written comes back: times, colours, tags; and a file that fails is not there."""

from fractions import Fraction

import av
import numpy as np
import pytest

from avgen.clips import (
    Clip,
    ClipWriter,
    MediaError,
    probe,
    read_clip,
    read_metadata,
    read_windows,
    write_clip,
)
from avgen.clips.timebase import num_samples

SUFFIXES = [".mp4", ".mov", ".webm", ".mkv"]
NTSC = Fraction(30000, 1001)
GREY = Clip(np.full((3, 16, 32, 3), 90, np.uint8), Fraction(25))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("fps", "sample_rate"),
    [(24, 24_000), (25, 24_000), (25, 16_000), (NTSC, 24_000), (NTSC, 44_100), (30, 48_000)],
    ids=str,
)
def test_flash_and_click_stay_together(tmp_path, suffix, fps, sample_rate):
    count, flash = 40, 23
    frames = np.full((count, 32, 32, 3), 16, np.uint8)
    frames[flash] = 235
    waveform = np.zeros((1, num_samples(count, fps, sample_rate)), np.float32)
    waveform[0, num_samples(flash, fps, sample_rate)] = 0.9
    path = tmp_path / f"a{suffix}"
    write_clip(Clip(frames, fps, waveform, sample_rate), path)
    clip = read_clip(path)
    assert clip.fps == fps
    assert clip.num_frames == count
    assert clip.sample_rate == (sample_rate if suffix == ".mkv" else 48_000)
    assert clip.num_samples == num_samples(count, fps, clip.sample_rate)
    assert clip.frames.mean(axis=(1, 2, 3)).argmax() == flash
    click_s = np.abs(clip.waveform[0]).argmax() / clip.sample_rate
    assert abs(click_s - float(flash / fps)) < 0.0005  # asked is 10 ms
    written = probe(path).streams
    assert max(abs(stream.start_s) for stream in written) < 0.0075  # Opus: its stated delay


def test_mkv_keeps_every_bit(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (5, 33, 47, 3)).astype(np.uint8)  # odd sizes too
    waveform = (rng.integers(-(2**23), 2**23, (2, 9600)) / 2**23).astype(np.float32)
    write_clip(Clip(frames, Fraction(25), waveform, 48_000), tmp_path / "a.mkv")
    clip = read_clip(tmp_path / "a.mkv")
    assert np.array_equal(clip.frames, frames)
    assert np.array_equal(clip.waveform, waveform)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm"])
def test_colours_are_converted_and_tagged_as_bt709(tmp_path, suffix):
    colours = np.array([(200, 40, 90), (20, 180, 60), (255, 255, 255), (0, 0, 0)], np.uint8)
    frames = np.repeat(np.repeat(colours[:, None, None], 32, axis=1), 32, axis=2)
    path = tmp_path / f"a{suffix}"
    write_clip(Clip(frames, Fraction(25)), path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)
        assert context.color_range == 1
        frame = next(container.decode(stream))
        luma = np.frombuffer(frame.planes[0], np.uint8)[0]
    # BT.709 limited: 16 + 219 (0.2126 R + 0.7152 G + 0.0722 B)
    assert abs(luma - (16 + 219 * (0.2126 * 200 + 0.7152 * 40 + 0.0722 * 90) / 255)) <= 2
    assert np.abs(read_clip(path).frames[:, 16, 16].astype(int) - colours).max() <= 4


@pytest.mark.parametrize(
    ("suffix", "codecs"),
    [
        (".mp4", {"h264", "aac"}),
        (".mov", {"h264", "aac"}),
        (".webm", {"vp9", "opus"}),
        (".mkv", {"ffv1", "flac"}),
    ],
)
def test_codecs_by_suffix(tmp_path, suffix, codecs):
    path = tmp_path / f"a{suffix}"
    waveform = np.zeros((2, 4800), np.float32)
    write_clip(Clip(GREY.frames, Fraction(25), waveform, 16_000), path)
    with av.open(str(path)) as container:
        found = {stream.codec_context.codec.canonical_name for stream in container.streams}
    assert found == codecs


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_clip_is_one_file(tmp_path, suffix):
    """However often it is written: no name, no time, and no sum over memory that nobody has set."""
    rng = np.random.default_rng(5)
    wide = rng.uniform(60, 200, (9, 12, 12, 3)).repeat(8, 1).repeat(8, 2)
    frames = (wide + rng.normal(0, 4, wide.shape)).clip(0, 255).astype(np.uint8)
    clip = Clip(frames, Fraction(25), rng.normal(0, 0.1, (1, 8640)).astype(np.float32), 24_000)
    made = set()
    for number in range(30):
        path = tmp_path / f"{number}{suffix}"
        write_clip(clip, path)
        made.add(path.read_bytes())
    assert len(made) == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tags_come_back(tmp_path, suffix):
    tags = {"comment": "made by a test: é, 東", "ai_generated": "true", "avgen_x": '{"seed": 1}'}
    write_clip(GREY, tmp_path / f"a{suffix}", metadata=tags)
    assert tags.items() <= read_metadata(tmp_path / f"a{suffix}").items()


def test_mp4_starts_with_its_index(tmp_path):
    write_clip(GREY, tmp_path / "a.mp4")
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("num_channels", [1, 2, 6])
def test_channels_stay_apart(tmp_path, suffix, num_channels):
    rate = 48_000
    waveform = np.zeros((num_channels, 2 * rate), np.float32)
    tone = 0.4 * np.sin(np.arange(2 * rate) * 0.05)
    part = 2 * rate // num_channels
    for channel in range(num_channels):
        waveform[channel, channel * part : (channel + 1) * part] = tone[:part]
    frames = np.full((50, 16, 32, 3), 90, np.uint8)
    write_clip(Clip(frames, Fraction(25), waveform, rate), tmp_path / f"a{suffix}")
    read = read_clip(tmp_path / f"a{suffix}").waveform
    assert read.shape == waveform.shape
    inner = np.stack(
        [read[:, c * part + 4000 : (c + 1) * part - 4000] for c in range(num_channels)]
    )
    loudest = np.sqrt((inner**2).mean(axis=-1)).argmax(axis=-1)
    # The fourth channel of 5.1 carries effects below 120 Hz; codecs cut the rest of it.
    expected = [c for c in range(num_channels) if c != 3 or suffix == ".mkv"]
    assert [loudest[c] for c in expected] == expected


def test_writing_in_pieces_is_writing_at_once(media, tmp_path):
    frames, waveform = media.draw_numbers(range(60)), media.ramp(96_096)
    with ClipWriter(
        tmp_path / "a.mkv", fps=NTSC, height=32, width=160, sample_rate=48_000, num_channels=1
    ) as writer:
        for first in range(0, 60, 7):
            writer.write_frames(frames[first : first + 7])
        for first in range(0, 96_096, 1000):
            writer.write_waveform(waveform[:, first : first + 1000])
    pieces = list(read_windows(tmp_path / "a.mkv", window_s=10))
    assert len(pieces) == 1
    assert np.array_equal(pieces[0].frames, frames)
    assert np.array_equal(pieces[0].waveform, waveform)


# --- what is refused, and what is left then ------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm"])
@pytest.mark.parametrize("shape", [(15, 32), (16, 31)])
def test_odd_sizes_are_refused_by_name(tmp_path, suffix, shape):
    clip = Clip(np.zeros((2, *shape, 3), np.uint8), Fraction(25))
    with pytest.raises(
        MediaError, match=rf"a{suffix}: size {shape[1]}x{shape[0]}; both must be even"
    ):
        write_clip(clip, tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_targets_that_cannot_be(tmp_path):
    for name, rule in [
        ("a.avi", "unknown suffix '.avi'; it must be one of .mp4 .mov .webm .mkv"),
        ("a", "unknown suffix ''"),
        ("nowhere/a.mp4", "there is no folder"),
        ("folder.mp4", "is a folder"),
    ]:
        (tmp_path / "folder.mp4").mkdir(exist_ok=True)
        with pytest.raises(MediaError, match=rule):
            write_clip(GREY, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.mp4"]


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    try:
        (tmp_path / "closed" / "probe").touch()
    except PermissionError:
        with pytest.raises(MediaError, match="cannot be written to"):
            write_clip(GREY, tmp_path / "closed" / "a.mp4")
    else:
        pytest.skip("this user may write anywhere")


def test_a_file_that_is_there_stays_unless_told(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("precious")
    with pytest.raises(MediaError, match="exists already"):
        write_clip(GREY, path)
    assert path.read_text() == "precious"
    write_clip(GREY, path, overwrite=True)
    assert read_clip(path).num_frames == 3
    assert [item.name for item in tmp_path.iterdir()] == ["a.mp4"]


def start(path, **more):
    return ClipWriter(path, fps=25, height=16, width=32, **more)


def test_what_fails_on_the_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.mp4"
    write_clip(GREY, path)
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), start(path, overwrite=True) as writer:
        writer.write_frames(GREY.frames)
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="must be uint8"), start(path, overwrite=True) as writer:
        writer.write_frames(GREY.frames[:, :8])
    with pytest.raises(MediaError, match="no frame was written"), start(path, overwrite=True):
        pass
    sound = {"sample_rate": 16_000, "num_channels": 1}
    with (
        pytest.raises(MediaError, match="sound was announced and none was written"),
        start(path, overwrite=True, **sound) as writer,
    ):
        writer.write_frames(GREY.frames)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.mp4"]


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    path = tmp_path / "a.mp4"
    with pytest.raises(MediaError, match="exists already"), start(path) as writer:
        writer.write_frames(GREY.frames)
        path.write_text("somebody else's")
    assert path.read_text() == "somebody else's"
    assert [item.name for item in tmp_path.iterdir()] == ["a.mp4"]


def test_sound_that_is_none(tmp_path):
    sound = {"sample_rate": 16_000, "num_channels": 1}
    nothing = np.full((1, 100), np.nan, np.float32)
    with (
        pytest.raises(ValueError, match="not finite"),
        start(tmp_path / "a.mp4", **sound) as writer,
    ):
        writer.write_waveform(nothing)
    with pytest.raises(ValueError, match="without sound"), start(tmp_path / "a.mp4") as writer:
        writer.write_waveform(nothing)
    with pytest.raises(MediaError, match="3 channels"):
        start(tmp_path / "a.mp4", sample_rate=16_000, num_channels=3)
    with pytest.raises(ValueError, match="together"):
        start(tmp_path / "a.mp4", sample_rate=16_000)
    assert list(tmp_path.iterdir()) == []
