"""What `probe` says of files made to say it."""

import json
from fractions import Fraction

import numpy as np

from avgen.clips import probe


def test_a_turned_stretched_ntsc_video_with_late_sound(media, tmp_path):
    def setup(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        stream.set_display_rotation(90)

    path = media.mux(
        tmp_path / "a.mkv",
        frames=media.draw_numbers(range(30)),
        tick=Fraction(1001, 30000),
        setup=setup,
        waveform=np.zeros((2, 8_000), np.float32),
        sample_rate=16_000,
        layout="stereo",
        audio_start_s=Fraction(1, 4),
    )
    seen = probe(path)
    video, audio = seen.streams
    assert seen.container == "matroska,webm"
    assert seen.duration_s == Fraction(1001, 1000)
    assert (video.kind, video.codec, video.is_read) == ("video", "h264", True)
    assert (video.fps, video.is_constant_rate) == (Fraction(30000, 1001), True)
    assert (video.coded_width, video.coded_height) == (160, 32)
    assert (video.width, video.height) == (32, 320)
    assert (video.rotation_degrees, video.is_mirrored) == (90, False)
    assert video.sample_aspect_ratio == 2
    assert (video.start_s, video.duration_s) == (0, Fraction(1001, 1000))
    assert (audio.kind, audio.codec, audio.sample_rate) == ("audio", "flac", 16_000)
    assert (audio.num_channels, audio.channel_layout) == (2, "stereo")
    assert audio.start_s == Fraction(1, 4)
    assert seen.warnings == (
        "sound begins 0.250 s after the picture",
        "sound ends 0.250 s before the picture",
    )


def test_a_variable_rate_and_what_is_made_of_it(media, tmp_path):
    pts = [0, 1, 2, 5, 6, 7, 12]
    path = media.mux(
        tmp_path / "a.mp4", frames=media.draw_numbers(pts), pts=pts, tick=Fraction(1, 30)
    )
    seen = probe(path)
    assert (seen.streams[0].fps, seen.streams[0].is_constant_rate) == (30, False)
    assert seen.warnings == ("variable frame rate; read at a constant 30",)


def test_sound_alone(media, tmp_path):
    path = media.mux(tmp_path / "a.flac", waveform=np.zeros((1, 24_000), np.float32))
    seen = probe(path)
    assert [stream.kind for stream in seen.streams] == ["audio"]
    assert seen.duration_s == Fraction(1, 2)


def test_as_json(media, tmp_path):
    path = media.mux(
        tmp_path / "a.mp4",
        frames=media.draw_numbers(range(30)),
        tick=Fraction(1001, 30000),
        waveform=np.zeros((1, 4_800), np.float32),
        audio="aac",
    )
    seen = json.loads(json.dumps(probe(path).to_json()))
    video, audio = seen["streams"]
    assert video["fps"] == "30000/1001"
    assert seen["duration_s"] == video["duration_s"] == 1.001
    assert audio["duration_s"] == 0.1
    assert audio["fps"] is None
