"""What comes out of a file, by content: every frame says its number, every sample its index."""

import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest

from avgen.clips import read_audio, read_clip, read_image, read_windows
from avgen.clips.timebase import num_samples

RATE = 48_000
NTSC = Fraction(1001, 30000)


@pytest.fixture(scope="module")
def numbered(media, tmp_path_factory):
    """Four seconds of numbered frames and ramping sound, in three containers, 12 frames a group."""
    folder = tmp_path_factory.mktemp("numbered")
    frames, waveform = media.draw_numbers(range(100)), media.ramp(4 * RATE)
    kept = {"frames": frames, "waveform": waveform}
    return {
        "mp4": media.mux(folder / "a.mp4", **kept),
        "mkv": media.mux(folder / "a.mkv", **kept),
        "mpg": media.mux(folder / "a.mpg", **kept, video="mpeg1video", audio="mp2"),
    }


@pytest.mark.parametrize("container", ["mp4", "mkv", "mpg"])
@pytest.mark.parametrize("first", [0, 1, 11, 12, 13, 50, 99])
def test_any_start_gives_the_frames_of_that_time(media, numbered, container, first):
    clip = read_clip(numbered[container], start_s=Fraction(first, 25))
    assert media.read_numbers(clip.frames) == list(range(first, 100))


@pytest.mark.parametrize("container", ["mp4", "mkv"])
@pytest.mark.parametrize("first", [0, 13, 73])
def test_sound_begins_with_the_first_frame(media, numbered, container, first):
    clip = read_clip(numbered[container], start_s=first / 25, end_s=(first + 5) / 25)
    assert media.read_numbers(clip.frames) == list(range(first, first + 5))
    assert media.ramp_index(clip.waveform[0]).tolist() == list(
        range(first * 1920, (first + 5) * 1920)
    )


def test_between_two_frames_the_clock_starts_at_the_requested_time(media, numbered):
    # At 0.05 s, frame 1 (0.04 s) is 0.01 s old; the slots are 0.05, 0.09, ...: frames 1, 2, ...
    clip = read_clip(numbered["mp4"], start_s=0.05, end_s=0.25)
    assert media.read_numbers(clip.frames) == [1, 2, 3, 4, 5]
    assert media.ramp_index(clip.waveform[0, :1]).tolist() == [2400]


def test_fewer_and_more_frames_than_there_are(media, numbered):
    # Slots of 0.12 s take the frame nearest to them: that of 0.12 s frame 3.
    fewer = read_clip(numbered["mp4"], fps=Fraction(25, 3), end_s=0.6)
    assert media.read_numbers(fewer.frames) == [0, 3, 6, 9, 12]
    more = read_clip(numbered["mp4"], fps=50, end_s=0.2)
    assert media.read_numbers(more.frames) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert more.fps == 50


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_ntsc_frames_keep_their_times(media, tmp_path, container):
    path = media.mux(
        tmp_path / f"a.{container}",
        frames=media.draw_numbers(range(60)),
        tick=NTSC,
        waveform=media.ramp(96_096),
    )
    clip = read_clip(path, start_s=31 * NTSC)
    assert clip.fps == 1 / NTSC  # though Matroska's clock has milliseconds only
    assert media.read_numbers(clip.frames) == list(range(31, 60))
    assert clip.num_samples == num_samples(29, 1 / NTSC, RATE)
    assert media.ramp_index(clip.waveform[0, :1]).tolist() == [num_samples(31, 1 / NTSC, RATE)]


def test_a_picture_that_starts_late_takes_its_sound_along(media, tmp_path):
    # Picture from 0.2 s on, sound from 0: its first 0.2 s is before the clip.
    path = media.mux(
        tmp_path / "a.mkv",
        frames=media.draw_numbers(range(50)),
        pts=range(5, 55),
        waveform=media.ramp(2 * RATE),
    )
    clip = read_clip(path)
    assert media.read_numbers(clip.frames) == list(range(50))
    index = media.ramp_index(clip.waveform[0])
    assert index[: 2 * RATE - 9600].tolist() == list(range(9600, 2 * RATE))
    assert (index[2 * RATE - 9600 :] == -1).all()  # and silence to the end of the picture
    assert clip.num_samples == 2 * RATE


def test_sound_that_starts_late_is_preceded_by_silence(media, tmp_path):
    path = media.mux(
        tmp_path / "a.mkv",
        frames=media.draw_numbers(range(50)),
        waveform=media.ramp(RATE),
        audio_start_s=Fraction(1, 2),
    )
    index = media.ramp_index(read_clip(path).waveform[0])
    expected = np.full(2 * RATE, -1)
    expected[RATE // 2 : RATE // 2 + RATE] = np.arange(RATE)
    assert np.array_equal(index, expected)
    # and from the middle of the silence, and from the middle of the sound
    index = media.ramp_index(read_clip(path, start_s=0.4, end_s=0.6).waveform[0])
    assert np.array_equal(index, expected[19_200:28_800])
    index = media.ramp_index(read_clip(path, start_s=1.44, end_s=1.6).waveform[0])
    assert np.array_equal(index, expected[69_120:76_800])


def test_a_transport_stream_does_not_begin_at_zero(media, tmp_path):
    waveform = np.zeros((1, 2 * RATE), np.float32)
    waveform[0, RATE] = 0.9
    path = media.mux(
        tmp_path / "a.ts", frames=media.draw_numbers(range(50)), waveform=waveform, audio="aac"
    )
    with av.open(str(path)) as container:
        assert container.streams.video[0].start_time > 0
    clip = read_clip(path)
    assert media.read_numbers(clip.frames) == list(range(50))
    assert np.abs(clip.waveform[0]).argmax() == RATE


def test_of_several_frames_at_a_time_the_nearest_is_shown(media, tmp_path):
    """60 a second at 25: the last of those nearest would be 10 ms early on average."""
    path = media.mux(tmp_path / "a.mkv", frames=media.draw_numbers(range(96)), tick=Fraction(1, 60))
    clip = read_clip(path, fps=25)
    assert media.read_numbers(clip.frames) == [round(2.4 * slot) for slot in range(40)]
    assert media.read_numbers(read_clip(path, fps=25, start_s=Fraction(1, 5)).frames) == [
        round(2.4 * slot) for slot in range(5, 40)
    ]


def test_a_variable_rate_becomes_a_constant_one_by_timestamp(media, tmp_path):
    # Thirtieths of a second; 3, 4 and 8 to 11 are missing, so the frames before stay.
    pts = [0, 1, 2, 5, 6, 7, 12, 13, 14, 15, 16]
    path = media.mux(
        tmp_path / "a.mp4", frames=media.draw_numbers(pts), pts=pts, tick=Fraction(1, 30)
    )
    shown = [0, 1, 2, 2, 2, 5, 6, 7, 7, 7, 7, 7, 12, 13, 14, 15, 16]
    clip = read_clip(path)
    assert clip.fps == 30
    assert media.read_numbers(clip.frames) == shown
    # The clock starts at the requested time; the frame on screen then came before it.
    clip = read_clip(path, start_s=Fraction(9, 30))
    assert media.read_numbers(clip.frames) == shown[9:]


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_the_tail_that_aac_adds_is_cut(media, tmp_path, container):
    waveform = (0.5 * np.sin(np.arange(RATE) * 0.1)).astype(np.float32)[None]
    path = media.mux(tmp_path / f"a.{container}", waveform=waveform, audio="aac")
    with av.open(str(path)) as file:
        assert sum(frame.samples for frame in file.decode(audio=0)) == 48_128
    read, rate = read_audio(path)
    assert rate == RATE
    # mp4 says where the sound ends; Matroska only when the last packet does, to its millisecond.
    assert abs(read.shape[1] - RATE) <= (0 if container == "mp4" else 128)
    assert np.abs(read[0, 2000:40_000] - waveform[0, 2000:40_000]).max() < 0.05


@pytest.mark.parametrize("asked", [1, 2, None])
def test_surround_becomes_what_was_asked_for(media, tmp_path, asked):
    # Each second another channel sounds: FL FR FC LFE BL BR.
    waveform = np.zeros((6, 6 * 8000), np.float32)
    for channel in range(6):
        waveform[channel, channel * 8000 : (channel + 1) * 8000] = 0.5
    path = media.mux(tmp_path / "a.mkv", waveform=waveform, sample_rate=8000, layout="5.1")
    read, _ = read_audio(path, num_channels=asked)
    levels = read[:, 4000::8000]
    side, scale = 0.5**0.5, 0.5 / (1 + 2 * 0.5**0.5)
    stereo = scale * np.array([[1, 0, side, 0, side, 0], [0, 1, side, 0, 0, side]])
    expected = {1: stereo.mean(axis=0, keepdims=True), 2: stereo, None: 0.5 * np.eye(6)}[asked]
    assert np.allclose(levels, expected, atol=1e-6)


@pytest.mark.parametrize(("source", "target"), [(44_100, 16_000), (16_000, 48_000)])
@pytest.mark.parametrize("start", [Fraction(0), Fraction(3, 2), Fraction(31, 25)])
def test_another_sample_rate_moves_nothing(media, tmp_path, source, target, start):
    seconds = np.arange(3 * source) / source
    tone = (0.5 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32)[None]
    path = media.mux(tmp_path / "a.flac", waveform=tone, sample_rate=source)
    read, rate = read_audio(path, sample_rate=target, start_s=start, end_s=start + 1)
    assert (rate, read.shape) == (target, (1, target))
    expected = 0.5 * np.sin(2 * np.pi * 440 * (np.arange(target) / target + float(start)))
    inner = slice(200, -200)  # the file's own beginning and end ring
    assert np.abs(read[0, inner] - expected[inner]).max() < 2e-3


def test_integers_become_floats_of_the_same_size(tmp_path):
    import wave

    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.array([[0, -32768], [16384, 32767]], "<i2").tobytes())
    read, rate = read_audio(path)
    assert rate == 8000
    assert read.tolist() == [[0, 0.5], [-1, 32767 / 32768]]


@pytest.mark.parametrize("window_s", [0.5, 0.7, 10])
def test_windows_tile_the_file(media, tmp_path, window_s):
    path = media.mux(
        tmp_path / "a.mkv",
        frames=media.draw_numbers(range(100)),
        tick=NTSC,
        waveform=media.ramp(147_147),
        sample_rate=44_100,
    )
    windows = list(read_windows(path, window_s=window_s))
    whole = read_clip(path)
    assert len(windows) == -(-100 // round(window_s / float(NTSC)))
    assert np.array_equal(np.concatenate([w.frames for w in windows]), whole.frames)
    assert np.array_equal(np.concatenate([w.waveform for w in windows], axis=1), whole.waveform)
    assert media.ramp_index(whole.waveform[0]).tolist() == list(range(147_147))


def test_resampled_windows_tile_too(media, numbered):
    asked = {"sample_rate": 16_000, "num_channels": 2, "fps": 24}
    windows = list(read_windows(numbered["mp4"], window_s=0.9, **asked))
    whole = read_clip(numbered["mp4"], **asked)
    assert np.array_equal(np.concatenate([w.frames for w in windows]), whole.frames)
    assert np.array_equal(np.concatenate([w.waveform for w in windows], axis=1), whole.waveform)


def test_windows_need_no_memory_for_the_whole(media, tmp_path):
    count = 400
    path = media.mux(
        tmp_path / "a.mp4",
        frames=np.zeros((count, 64, 64, 3), np.uint8),
        waveform=np.zeros((1, count * 640), np.float32),
        sample_rate=16_000,
    )
    tracemalloc.start()
    frames = sum(window.num_frames for window in read_windows(path, window_s=0.4))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert frames == count
    assert peak < count * 64 * 64 * 3 / 5  # a window and its neighbour are a twentieth


def test_a_window_has_a_frame(numbered):
    with pytest.raises(ValueError, match="at least a frame"):
        next(read_windows(numbered["mp4"], window_s=0.01))


def test_without_sound_is_no_error(media, tmp_path):
    path = media.mux(tmp_path / "a.mp4", frames=media.draw_numbers(range(3)))
    clip = read_clip(path, sample_rate=16_000, num_channels=1)
    assert clip.waveform is None
    assert clip.sample_rate is None


# A picture whose quarters differ: red, green / blue, white.
QUARTERS = np.zeros((32, 64, 3), np.uint8)
QUARTERS[:16, :32], QUARTERS[:16, 32:] = (220, 30, 30), (30, 200, 30)
QUARTERS[16:, :32], QUARTERS[16:, 32:] = (30, 30, 200), (255, 255, 255)


def corners(frame: np.ndarray) -> str:
    """The colours of the four quarters, row by row."""
    height, width = frame.shape[:2]
    names = {(1, 0, 0): "red", (0, 1, 0): "green", (0, 0, 1): "blue", (1, 1, 1): "white"}
    points = [(height // 4, width // 4), (height // 4, -width // 4)]
    points += [(-height // 4, width // 4), (-height // 4, -width // 4)]
    return " ".join(names[tuple((frame[point] > 128).astype(int).tolist())] for point in points)


@pytest.mark.parametrize(
    ("degrees", "hflip", "expected", "shape"),
    [
        (0, False, "red green blue white", (32, 64)),
        (90, False, "green white red blue", (64, 32)),
        (180, False, "white blue green red", (32, 64)),
        (270, False, "blue red white green", (64, 32)),
        (0, True, "green red white blue", (32, 64)),
        (90, True, "white green blue red", (64, 32)),
    ],
)
def test_pictures_come_upright(media, tmp_path, degrees, hflip, expected, shape):
    path = media.mux(
        tmp_path / "a.mp4",
        frames=np.stack([QUARTERS] * 3),
        setup=lambda stream: stream.set_display_rotation(degrees, hflip=hflip),
    )
    frames = read_clip(path).frames
    assert frames.shape == (3, *shape, 3)
    assert corners(frames[0]) == expected


@pytest.mark.parametrize("aspect", [Fraction(2), Fraction(1, 2), Fraction(12, 11)])
@pytest.mark.parametrize("degrees", [0, 90])
def test_pixels_come_square(media, tmp_path, aspect, degrees):
    def setup(stream):
        stream.codec_context.sample_aspect_ratio = aspect
        stream.set_display_rotation(degrees)

    path = media.mux(tmp_path / "a.mp4", frames=np.stack([QUARTERS] * 2), setup=setup)
    frame = read_clip(path).frames[0]
    width = round(64 * aspect)
    assert frame.shape[:2] == ((width, 32) if degrees else (32, width))
    assert corners(frame) == ("green white red blue" if degrees else "red green blue white")


COLOUR = (200, 40, 90)


@pytest.mark.parametrize(
    ("pixel_format", "matrix", "full", "height"),
    [
        ("yuv420p", 1, False, 32),
        ("yuv420p", 6, False, 32),
        ("yuv420p", 1, True, 32),
        ("yuv420p", 5, True, 32),
        ("yuv420p10le", 1, False, 32),
        ("yuv444p10le", 6, True, 32),
        ("yuv420p", None, False, 32),  # says nothing: BT.601 below 720 lines
        ("yuv420p", None, False, 720),  # and BT.709 from there on
    ],
)
def test_colours_are_those_that_were_stored(tmp_path, pixel_format, matrix, full, height):
    kr, kb = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114)}[
        matrix or (1 if height >= 720 else 6)
    ]
    red, green, blue = (value / 255 for value in COLOUR)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = ((blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr))
    unit = 4 if pixel_format.endswith("10le") else 1
    top = 256 * unit - 1
    codes = [luma * top if full else (16 + 219 * luma) * unit]
    codes += [128 * unit + value * (top if full else 224 * unit) for value in chroma]
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = height, 32, pixel_format
        context = stream.codec_context
        context.color_range = 2 if full else 1
        if matrix is not None:
            context.colorspace = matrix
        frame = av.VideoFrame(32, height, pixel_format)
        frame.color_range = context.color_range
        for plane, code in zip(frame.planes, codes, strict=True):
            kind = np.uint16 if unit == 4 else np.uint8
            plane.update(np.full(plane.buffer_size // kind().itemsize, round(code), kind).tobytes())
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    shown = read_clip(path).frames[0, height // 2, 16]
    assert np.abs(shown.astype(int) - COLOUR).max() <= 2, shown


def test_a_picture_comes_as_it_is(media, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (31, 45, 3)).astype(np.uint8)
    path = tmp_path / "a.png"
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.height, stream.width, stream.pix_fmt = 31, 45, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    assert np.array_equal(read_image(path), pixels)
    video = media.mux(tmp_path / "a.mp4", frames=media.draw_numbers([5, 6]))
    assert media.read_numbers(read_image(video)[None]) == [5]


def test_mp3_in_avi_is_warned_of(media, tmp_path):
    path = media.mux(
        tmp_path / "a.avi",
        frames=media.draw_numbers(range(25)),
        waveform=media.ramp(RATE),
        video="mjpeg",
        pixel_format="yuv420p",
        setup=lambda stream: setattr(stream.codec_context, "color_range", 2),
        audio="mp3",
    )
    with pytest.warns(UserWarning, match="MP3 in AVI is heard 23 to 69 ms late"):
        clip = read_clip(path)
    # FFmpeg's muxer makes room for the delay of MP3 before time 0 and leaves slot 1 out.
    assert media.read_numbers(clip.frames) == [0, 0, *range(1, 25)]


def test_aac_in_matroska_without_a_stated_delay_is_warned_of(media, tmp_path):
    # ADTS states no delay, so the copy into Matroska states none either.
    source = media.mux(tmp_path / "a.aac", waveform=media.ramp(RATE), audio="aac")
    path = tmp_path / "a.mka"
    with av.open(str(source)) as read, av.open(str(path), "w", format="matroska") as written:
        stream = written.add_stream_from_template(read.streams.audio[0])
        for packet in read.demux(read.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)
    with pytest.warns(UserWarning, match="AAC in Matroska without a stated delay"):
        read_audio(path)


def test_a_part_after_the_end_of_the_sound_is_silent(media, tmp_path):
    path = media.mux(
        tmp_path / "a.mkv",
        frames=media.draw_numbers(range(75)),
        waveform=np.repeat(media.ramp(12_000), 2, axis=0),
        layout="stereo",
    )
    clip = read_clip(path, start_s=2, end_s=3)
    assert clip.waveform is not None
    assert clip.waveform.shape == (2, 48_000)
    assert not clip.waveform.any()
