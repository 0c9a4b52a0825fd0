"""Files as phones, browsers, recorders and players write them: covers, strange clocks and codecs.

Each test makes its file; `test_cases.py` reads those that people had.
"""

import re
import struct
import zlib
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from avgen.clips import probe, read_audio, read_clip, read_image, read_windows
from avgen.clips.clip import MediaError
from avgen.clips.media.remux import remux_delayed

RATE = 48_000
PICTURE = np.zeros((48, 64, 3), np.uint8)
PICTURE[:24, :32], PICTURE[:24, 32:], PICTURE[24:, :32] = (
    (250, 20, 20),
    (20, 250, 20),
    (20, 20, 250),
)
JPEG = cv2.imencode(".jpg", PICTURE[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
PNG = cv2.imencode(".png", PICTURE[:, :, ::-1])[1].tobytes()


def with_cover(source, path, *, first=False, marked=True):
    """`source` again, with a picture as one more stream: a cover if it is `marked` so."""
    with av.open(str(source)) as reader, av.open(str(path), "w") as writer:
        cover = writer.add_stream("mjpeg", rate=25) if first else None
        copies = {s.index: writer.add_stream_from_template(s) for s in reader.streams}
        cover = cover or writer.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        if marked:
            cover.disposition = Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(PICTURE, format="rgb24")
        frame.pts = 0
        for packet in [*cover.encode(frame), *cover.encode(None)]:
            writer.mux(packet)
        for packet in reader.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                writer.mux(packet)
    return path


@pytest.fixture(scope="module")
def plain(media, tmp_path_factory):
    """60 numbered frames, a ramp of sound."""
    return media.mux(
        tmp_path_factory.mktemp("odd") / "plain.mp4",
        frames=media.draw_numbers(range(60)),
        waveform=media.ramp(RATE * 60 // 25),
        audio="alac",
    )


def whole(media, path, count=60):
    clip = read_clip(path)
    assert media.read_numbers(clip.frames) == list(range(count))
    assert clip.waveform is not None and clip.num_samples == RATE * count // 25
    return clip


@pytest.mark.parametrize("first", [False, True], ids=["last", "first"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("marked", [True, False], ids=["cover", "picture"])
def test_a_cover_is_no_video_to_wait_for(media, plain, tmp_path, suffix, first, marked):
    whole(media, with_cover(plain, tmp_path / f"a{suffix}", first=first, marked=marked))


def test_fonts_and_pictures_attached_to_matroska(media, plain, tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(plain)) as reader, av.open(str(path), "w") as writer:
        copies = {s.index: writer.add_stream_from_template(s) for s in reader.streams}
        writer.add_attachment("cover.jpg", "image/jpeg", JPEG)
        writer.add_attachment("a.ttf", "font/ttf", b"\0\1\0\0" + bytes(100))
        for packet in reader.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                writer.mux(packet)
    whole(media, path)


@pytest.mark.parametrize("start_s", [Fraction(3, 5), Fraction(40_000), Fraction(-1, 5)])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_a_clock_starts_anywhere(media, tmp_path, start_s, suffix):
    if start_s < 0 and suffix == ".ts":
        pytest.skip("a transport stream has no time before 0")
    first = int(start_s * 25)
    path = media.mux(
        tmp_path / f"a{suffix}",
        frames=media.draw_numbers(range(30)),
        pts=range(first, first + 30),
        waveform=media.ramp(RATE * 30 // 25),
        audio="aac" if suffix == ".ts" else "alac" if suffix == ".mp4" else "flac",
        audio_start_s=start_s,
    )
    clip = read_clip(path)
    if start_s < 0 and suffix == ".mp4":  # an edit list leaves out what comes before 0
        assert media.read_numbers(clip.frames) == list(range(5, 30))
        return
    assert media.read_numbers(clip.frames) == list(range(30))
    if suffix != ".ts":
        assert media.ramp_index(clip.waveform)[0, 100:-100].tolist() == list(range(100, 57_500))


def of_unknown_codec(path, track):
    """The file with another name for the codec of a track's sound, as Apple's spatial sound has."""
    data = bytearray(path.read_bytes())
    places = [found.end() + 12 for found in re.finditer(b"stsd", data)]
    sounds = [place for place in places if data[place : place + 4] == b"mp4a"]
    data[sounds[track] : sounds[track] + 4] = b"apac"
    about = data.index(b"esds", sounds[track])  # says once more which codec it is
    data[about : about + 4] = b"xxxx"
    path.write_bytes(data)


@pytest.mark.parametrize("unknown", [0, 1])
def test_sound_that_no_decoder_is_for(media, plain, tmp_path, unknown):
    path = tmp_path / "phone.mov"
    tone = (0.1 * np.sin(np.arange(RATE) / 20)).astype(np.float32)[None]
    single = media.mux(
        tmp_path / "one.mov", frames=media.draw_numbers(range(25)), waveform=tone, audio="aac"
    )
    with av.open(str(single)) as reader, av.open(str(path), "w") as writer:
        copies = [writer.add_stream_from_template(reader.streams[i]) for i in (0, 1, 1)]
        for packet in [p for p in reader.demux() if p.size]:
            for copy in copies[:1] if packet.stream.index == 0 else copies[1:]:
                again = av.Packet(bytes(packet))
                again.pts, again.dts, again.time_base = packet.pts, packet.dts, packet.time_base
                again.duration, again.is_keyframe = packet.duration, packet.is_keyframe
                again.stream = copy
                writer.mux(again)
    of_unknown_codec(path, unknown)
    clip = read_clip(path)
    assert clip.num_frames == 25
    assert np.abs(clip.waveform[0, 5000:40_000] - tone[0, 5000:40_000]).max() < 0.02
    seen = probe(path)
    assert [s.is_read for s in seen.streams] == [True, unknown == 1, unknown == 0]
    assert seen.streams[1 + unknown].codec is None
    left_out = remux_delayed(path, tmp_path / "later.mov", Fraction(1, 5))
    assert left_out == [f"audio (stream {1 + unknown})"]
    later = read_audio(tmp_path / "later.mov")[0]
    places = range(5400, 5460, 2)  # an edit list counts milliseconds
    off = [np.abs(later[0, 15_000:40_000] - tone[0, n : n + 25_000]).max() for n in places]
    assert min(off) < 0.02


def test_only_sound_that_no_decoder_is_for(media, tmp_path):
    path = media.mux(tmp_path / "a.m4a", waveform=media.ramp(RATE), audio="aac")
    of_unknown_codec(path, 0)
    with pytest.raises(MediaError, match="audio of an unknown codec"):
        read_audio(path)


def exif(orientation, order="<"):
    """A TIFF header with that orientation, as EXIF has it, after an entry that is another."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entries = struct.pack(f"{order}HHIHH", 0x0100, 3, 1, 7, 0)
    entries += struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return mark + struct.pack(f"{order}IH", 8, 2) + entries + bytes(4)


def jpeg(data):
    body = b"Exif\0\0" + data
    return JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + JPEG[2:]


def png(data, says=None):
    chunk = b"eXIf" + data
    length = len(data) if says is None else says
    chunk = struct.pack(">I", length) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return PNG[:33] + chunk + PNG[33:]


UPRIGHT = {  # by EXIF's table: what row 0 and column 0 of the stored picture are
    1: PICTURE,
    2: PICTURE[:, ::-1],
    3: PICTURE[::-1, ::-1],
    4: PICTURE[::-1],
    5: PICTURE.swapaxes(0, 1),
    6: PICTURE.swapaxes(0, 1)[:, ::-1],
    7: PICTURE.swapaxes(0, 1)[::-1, ::-1],
    8: PICTURE.swapaxes(0, 1)[::-1],
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("make", [jpeg, png])
@pytest.mark.parametrize("order", "<>")
def test_pictures_come_upright_by_their_exif(tmp_path, make, orientation, order):
    path = tmp_path / "a.picture"
    path.write_bytes(make(exif(orientation, order)))
    seen = read_image(path)
    assert seen.shape == UPRIGHT[orientation].shape
    assert np.abs(seen.astype(int) - UPRIGHT[orientation]).mean() < 4
    stream = probe(path).streams[0]
    assert (stream.height, stream.width) == seen.shape[:2]
    assert stream.is_mirrored == (orientation in (2, 4, 5, 7))


@pytest.mark.parametrize("cut", [3, 9, 13, 30])
def test_exif_that_is_cut_short(tmp_path, cut):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(exif(6)[:cut]))
    assert np.abs(read_image(path).astype(int) - PICTURE).mean() < 4
    path.write_bytes(png(exif(6)[:cut]))
    with pytest.raises(MediaError, match="no further"):  # FFmpeg's decoder of PNG wants it whole
        read_image(path)


@pytest.mark.parametrize("turned", range(1, 9))
def test_video_comes_upright_by_any_matrix(media, tmp_path, turned):
    across, down = [
        *[((1, 0), (0, 1)), ((-1, 0), (0, 1)), ((-1, 0), (0, -1)), ((1, 0), (0, -1))],
        *[((0, 1), (1, 0)), ((0, 1), (-1, 0)), ((0, -1), (-1, 0)), ((0, -1), (1, 0))],
    ][turned - 1]
    path = media.mux(tmp_path / "a.mp4", frames=np.stack([PICTURE] * 3))
    data = bytearray(path.read_bytes())
    one = 1 << 16
    struct.pack_into(
        ">5i",
        data,
        data.index(b"tkhd") + 44,
        *(v * one for v in across),
        0,
        *(v * one for v in down),
    )
    path.write_bytes(data)
    seen = read_clip(path).frames[0]
    assert seen.shape == UPRIGHT[turned].shape
    assert np.abs(seen.astype(int) - UPRIGHT[turned]).mean() < 12


@pytest.mark.parametrize("layout", ["7.1", "5.1", "5.0", "quad", "3.0"])
@pytest.mark.parametrize("codec", ["aac", "flac", "ac3", "pcm_s16le"])
def test_a_voice_in_the_centre_is_heard_of_any_layout(media, tmp_path, layout, codec):
    names = [channel.name for channel in av.AudioLayout(layout).channels]
    sound = np.zeros((len(names), RATE), np.float32)
    voice = (0.3 * np.sin(np.arange(RATE) / 15)).astype(np.float32)
    sound[names.index("FC") if "FC" in names else 0] = voice
    if (layout, codec) == ("7.1", "ac3"):
        pytest.skip("AC-3 has six channels at most")
    path = media.mux(tmp_path / "a.mkv", waveform=sound, layout=layout, audio=codec)
    native, rate = read_audio(path)
    mono, _ = read_audio(path, num_channels=1)
    assert native.shape[0] == len(names) and mono.shape[0] == 1
    assert rate == RATE
    level = np.sqrt(np.square(mono[0, 5000:40_000]).mean()) / np.sqrt(np.square(voice).mean())
    centre = 0.5**0.5
    gains = {"7.1": 1 + 3 * centre, "5.1": 1 + 2 * centre, "5.0": 1 + 2 * centre, "3.0": 1 + centre}
    alone = centre / gains[layout] if layout in gains else 0.5 / (1 + centre)
    assert level == pytest.approx(alone * (2 if sound[1].any() else 1), rel=0.1)


def test_stereo_out_of_phase_is_heard_whatever_part_is_read(media, tmp_path):
    voice = (0.3 * np.sin(np.arange(3 * RATE) / 15)).astype(np.float32)
    voice[: RATE // 2] = 0
    path = media.mux(tmp_path / "a.mkv", waveform=np.stack([voice, -voice]), layout="stereo")
    with pytest.warns(UserWarning, match="out of phase"):
        mono, _ = read_audio(path, num_channels=1)
        part, _ = read_audio(path, num_channels=1, start_s=2)
    assert np.abs(mono[0] - voice).max() < 1e-5
    assert np.abs(part[0] - voice[2 * RATE :]).max() < 1e-5


def any_part(media, path, count):
    """Every frame can be read alone, and is the one of its time."""
    seen = [
        media.read_numbers(
            read_clip(path, start_s=i / Fraction(25), end_s=(i + 1) / Fraction(25)).frames
        )
        for i in range(0, count, 3)
    ]
    assert seen == [[i] for i in range(0, count, 3)]


def reordered(stream):
    stream.codec_context.max_b_frames = 2
    if stream.codec_context.name == "libx264":
        stream.codec_context.options = {
            "preset": "ultrafast",
            "bf": "2",
            "x264-params": "b-adapt=0",
        }


@pytest.mark.parametrize(
    ("name", "video", "gop"),
    [
        ("a.ts", "libx264", 25),
        ("one-keyframe.ts", "libx264", 1000),
        ("a.mpg", "mpeg1video", 12),
        ("a.vob", "mpeg2video", 15),
        ("h264.avi", "libx264", 25),
        ("mpeg4.avi", "mpeg4", 12),
        ("a.mkv", "libx264", 25),
        ("a.flv", "libx264", 25),
        ("raw.h264", "libx264", 25),
    ],
)
def test_any_part_is_that_part(media, tmp_path, name, video, gop):
    path = media.mux(
        tmp_path / name,
        frames=media.draw_numbers(range(75)),
        video=video,
        gop=gop,
        setup=reordered,
    )
    clip = read_clip(path)
    assert clip.fps == 25
    assert media.read_numbers(clip.frames) == list(range(75))
    any_part(media, path, 75)
    windows = [part.frames for part in read_windows(path, window_s=1)]
    assert media.read_numbers(np.concatenate(windows)) == list(range(75))


def test_a_raw_stream_says_that_it_has_no_clock(media, tmp_path):
    path = media.mux(tmp_path / "a.h264", frames=media.draw_numbers(range(5)))
    renamed = path.rename(tmp_path / "a.mp4")
    assert any("states no times" in warning for warning in probe(renamed).warnings)


def test_wma_is_heard_to_its_end(media, tmp_path):
    sound = (0.3 * np.sin(np.arange(2 * RATE) / 15)).astype(np.float32)[None]
    path = media.mux(
        tmp_path / "a.wmv",
        frames=media.draw_numbers(range(50)),
        video="wmv2",
        waveform=sound,
        audio="wmav2",
        setup_sound=lambda stream: setattr(stream, "bit_rate", 128_000),
    )
    heard, _ = read_audio(path)
    assert heard.shape[1] >= 1.95 * RATE
    assert np.sqrt(np.square(heard[0, RATE:]).mean()) == pytest.approx(0.3 / 2**0.5, rel=0.05)


@pytest.mark.parametrize("garbage", [b"\0", b"TAG" + bytes(125), bytes(range(256)) * 40])
@pytest.mark.parametrize("codec", ["libmp3lame", "aac"])
def test_garbage_after_the_last_frame(media, tmp_path, garbage, codec):
    sound = (0.3 * np.sin(np.arange(2 * RATE) / 15)).astype(np.float32)[None]
    path = media.mux(
        tmp_path / ("a.mp3" if codec == "libmp3lame" else "a.aac"), waveform=sound, audio=codec
    )
    clean, _ = read_audio(path)
    with path.open("ab") as file:
        file.write(garbage)
    heard, _ = read_audio(path)
    assert heard.shape[1] >= clean.shape[1] - 2500
    count = min(heard.shape[1], clean.shape[1]) - 2500
    assert np.array_equal(heard[:, :count], clean[:, :count])


def test_two_recordings_joined(media, tmp_path):
    sound = (0.3 * np.sin(np.arange(RATE) / 15)).astype(np.float32)[None]
    path = media.mux(tmp_path / "a.mp3", waveform=sound, audio="libmp3lame")
    path.write_bytes(path.read_bytes() + b"junk" * 100 + path.read_bytes())
    heard, _ = read_audio(path)
    assert 1.9 * RATE < heard.shape[1] < 2.2 * RATE


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("late_s", [700, 10**9])
def test_a_clock_that_leaps_is_refused(media, tmp_path, suffix, late_s):
    path = media.mux(
        tmp_path / f"a{suffix}",
        frames=media.draw_numbers(range(10)),
        waveform=media.ramp(RATE // 2),
        audio="aac",
        audio_start_s=Fraction(late_s),
    )
    for read in (probe, read_clip, read_audio):
        with pytest.raises(MediaError, match="its clock leaps from 0"):
            read(path)


def test_hlg_becomes_what_a_screen_shows(media, tmp_path):
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    frames[:, :, 32:] = 191  # 75 %: the reference white of HLG (ITU-R BT.2408)

    def setup(stream):
        stream.codec_context.color_trc, stream.codec_context.color_primaries = 18, 9
        stream.codec_context.colorspace = 9

    path = media.mux(
        tmp_path / "a.mp4", frames=frames, pixel_format="yuv420p10le", setup=setup, video="libx265"
    )
    assert any("HLG" in warning for warning in probe(path).warnings)
    with pytest.warns(UserWarning, match="high dynamic range"):
        seen = read_image_of(path)
    assert seen[32, 48].min() >= 225
    assert seen[32, 16].max() <= 10


def read_image_of(path):
    return read_clip(path, end_s=Fraction(1, 25)).frames[0]


def test_what_is_transparent_is_white(tmp_path):
    rgba = np.full((16, 24, 4), 255, np.uint8)
    rgba[..., :3] = (80, 40, 200)  # OpenCV's order: blue, green, red
    rgba[:, :8, 3], rgba[:, 8:16, 3] = 0, 102
    path = tmp_path / "a.png"
    path.write_bytes(cv2.imencode(".png", rgba)[1].tobytes())
    seen = read_image(path)
    assert seen[4, [4, 12, 20]].tolist() == [[255, 255, 255], [233, 169, 185], [200, 40, 80]]


def test_frames_of_seconds_stay_as_long_as_they_say(media, tmp_path):
    path = media.mux(
        tmp_path / "a.mkv",
        frames=media.draw_numbers([3, 5, 6, 9]),
        pts=[0, 50, 125, 150],
        tick=Fraction(1, 25),
    )
    clip = read_clip(path, fps=25)
    assert media.read_numbers(clip.frames)[:150] == [3] * 50 + [5] * 75 + [6] * 25
    assert read_clip(path).fps == 1


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_language_stays_the_one_that_is_heard(media, tmp_path, suffix):
    low, high = ((0.2 * np.sin(np.arange(2 * RATE) / n)).astype(np.float32)[None] for n in (20, 7))
    ones = [
        media.mux(tmp_path / f"{i}.mp4", waveform=w, audio="aac") for i, w in enumerate((low, high))
    ]
    picture = media.mux(tmp_path / "v.mp4", frames=media.draw_numbers(range(50)))
    path = tmp_path / "two.mp4"
    readers = [av.open(str(p)) for p in (picture, *ones)]
    with av.open(str(path), "w") as writer:
        copies = [writer.add_stream_from_template(r.streams[0]) for r in readers]
        copies[1].disposition, copies[2].disposition = Disposition(0), Disposition.default
        for reader, copy in zip(readers, copies, strict=True):
            for packet in reader.demux():
                if packet.size:
                    packet.stream = copy
                    writer.mux(packet)
    for reader in readers:
        reader.close()
    assert np.abs(read_audio(path)[0] - high)[0, 5000:90_000].max() < 0.02
    target = tmp_path / f"moved{suffix}"
    remux_delayed(path, target, Fraction(-3, 25))
    heard, _ = read_audio(target)
    places = range(5760 - 60, 5760 + 61, 2)  # Matroska's clock ticks every 48 samples
    off = [np.abs(heard[0, 5000:80_000] - high[0, 5000 + n : 80_000 + n]).max() for n in places]
    assert min(off) < 0.03
    assert [s.is_read for s in probe(target).streams] == [True, False, True]


def test_names_that_look_like_something_else(media, plain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("10:30:00.mp4", "http:x.mp4", "pipe:0.mp4", "concat:a|b.mp4", "a%03d.mp4"):
        (tmp_path / name).write_bytes(plain.read_bytes())
        whole(media, name)
        remux_delayed(name, f"moved:{name}", Fraction(1, 25))
        assert media.read_numbers(read_clip(f"moved:{name}").frames) == list(range(60))


def test_a_checksum_of_ffv1_is_heeded(media, tmp_path):
    path = media.mux(
        tmp_path / "a.mkv",
        frames=media.draw_numbers(range(12)),
        video="ffv1",
        pixel_format="bgr0",
        setup=lambda stream: setattr(
            stream.codec_context, "options", {"level": "3", "slicecrc": "1"}
        ),
    )
    with av.open(str(path)) as container:
        place = [p.pos + p.size // 2 for p in container.demux() if p.size][6]
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"decodes to 0\.20 s and no further"):
        read_clip(path)


def test_sound_whose_clock_runs_backwards_is_refused(media, tmp_path):
    sound = (0.3 * np.sin(np.arange(2 * RATE) / 15)).astype(np.float32)[None]
    one = media.mux(tmp_path / "one.flac", waveform=sound)
    frames = [
        at for at in range(50, one.stat().st_size) if one.read_bytes()[at : at + 2] == b"\xff\xf8"
    ]
    data = one.read_bytes()
    swapped = data[: frames[0]] + data[frames[8] :] + data[frames[0] : frames[8]]
    (tmp_path / "swapped.flac").write_bytes(swapped)
    with pytest.raises(MediaError):
        read_audio(tmp_path / "swapped.flac")
    (tmp_path / "missing.flac").write_bytes(data[: frames[5]] + data[frames[8] :])
    with pytest.raises(MediaError, match=r"are missing|no further|cut short|backwards"):
        read_audio(tmp_path / "missing.flac")


@pytest.mark.parametrize(("suffix", "audio"), [(".ts", "mp2"), (".mkv", "libopus")])
def test_a_packet_stamped_later_than_those_after_it_is_not_silence(media, tmp_path, suffix, audio):
    sound = (0.3 * np.sin(np.arange(2 * RATE) / 15)).astype(np.float32)[None]
    frames = media.draw_numbers(range(50))
    whole = media.mux(tmp_path / f"a{suffix}", frames=frames, waveform=sound, audio=audio)
    path = tmp_path / f"b{suffix}"
    with av.open(str(whole)) as reader, av.open(str(path), "w") as writer:
        copies = [writer.add_stream_from_template(stream) for stream in reader.streams]
        heard = 0
        for packet in (p for p in reader.demux() if p.size):
            heard += packet.stream.type == "audio"
            if packet.stream.type == "audio" and heard == 9:
                packet.pts += int(24 / packet.time_base)
            packet.stream = copies[packet.stream.index]
            writer.mux(packet)
    for end_s in (None, Fraction(3, 25), Fraction(7, 25)):  # the ninth is at 0.16 or 0.19 s
        with pytest.raises(MediaError, match="timestamps of the sound run backwards"):
            read_clip(path, end_s=end_s)
    with pytest.raises(MediaError, match="timestamps of the sound run backwards"):
        read_audio(path)
    assert read_clip(whole, end_s=Fraction(7, 25)).num_samples == 7 * RATE // 25
