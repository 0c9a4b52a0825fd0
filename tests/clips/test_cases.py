"""The files that people sent to other projects' trackers: what is right of each (its README)."""

import os
import resource
import subprocess
import sys
import warnings
from fractions import Fraction

import numpy as np
import pytest

from avgen.clips import MediaError, probe, read_audio, read_clip, read_image

WHOLE = {  # frames, channels; flash and click are together at 1.0, 3.0, 4.2 and 6.0 s
    "01_cover_mutagen.mp4": 2,
    "01_cover_ffmpeg.mp4": 2,
    "01_attachment.mkv": 2,
    "02_starts_at_1s.mkv": 2,
    "02_starts_at_1s.webm": 2,
    "03_iphone_apac_second_track.mov": 2,
    "03_apac_first_track.mov": 5,
    "05_71_aac_segfault.mp4": 8,
    "06_bframes.ts": 2,
    "06_one_keyframe.ts": 2,
    "07_h264_bframes.avi": 1,
    "08_wma.wmv": 1,
    "10_out_of_phase.mp4": 2,
    "12_three_channels.mp4": 3,
    "17_two_audio_tracks_resync.mp4": 2,
    "19_cover_as_plain_first_video.mp4": 2,
}


@pytest.fixture(scope="module")
def cases(clips_folder):
    folder = clips_folder.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"no cases at {folder}, beside the folder of clips (AVGEN_CLIPS)")
    return folder


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_whole_is_read_whole_and_its_click_is_its_flash(cases, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        native = read_clip(cases / name)
        clip = read_clip(cases / name, sample_rate=16_000, num_channels=1)
    assert native.num_frames == 200
    assert clip.waveform is not None
    assert native.num_channels == WHOLE[name]
    light = clip.frames[:, :24].mean(axis=(1, 2, 3))  # without the number below
    light = np.diff(clip.frames.mean(axis=(1, 2, 3)), prepend=light[0])
    flashes = np.flatnonzero(light > 10) / 25
    loud = np.abs(clip.waveform[0]) > 0.25 * np.abs(clip.waveform).max()
    clicks = [n / 16_000 for n in np.flatnonzero(loud) if not loud[max(0, n - 3200) : n].any()]
    assert flashes.tolist() == pytest.approx([1.0, 3.0, 4.2, 6.0], abs=0.001)
    assert clicks == pytest.approx([1.0, 3.0, 4.2, 6.0], abs=0.045 if "wmv" in name else 0.008)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("01_cover.m4a", 8.0), ("09_stray_byte_at_end.mp3", 2.78), ("09_garbage_at_end.mp3", 2.80)],
)
def test_sound_alone(cases, name, seconds):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        waveform, rate = read_audio(cases / name)
    assert waveform.shape[1] / rate == pytest.approx(seconds, abs=0.04)


@pytest.mark.parametrize("name", ["06_bframes.ts", "06_bframes.mpg", "06_one_keyframe.ts"])
def test_a_part_begins_where_it_was_asked_to(cases, name):
    clip = read_clip(cases / name)
    for index in (1, 4, 11, 24, 30, 57):
        part = read_clip(cases / name, start_s=Fraction(index, 25), end_s=Fraction(index + 1, 25))
        assert np.array_equal(part.frames[0], clip.frames[index]), index


def test_a_raw_stream(cases):
    with pytest.warns(UserWarning, match="states no times"):
        clip = read_clip(cases / "07_raw.h264")
    assert (clip.num_frames, clip.fps) == (200, 25)


@pytest.mark.parametrize("name", ["04_exif.png", "04_exif.webp", "04_exif.tiff"])
def test_pictures_with_exif(cases, name):
    upright = read_image(cases / "04_exif.jpg").astype(int)
    assert upright.shape == (240, 320, 3)
    assert np.abs(read_image(cases / name) - upright).mean() < 6
    assert np.abs(read_image(cases / "04_exif_turned.jpg") - upright).mean() < 1


def test_a_picture_that_ended_the_process(cases):
    reads = "from avgen.clips import probe, read_image; import sys; probe(sys.argv[1]); "
    reads += "print(read_image(sys.argv[1]).shape)"
    path = cases / "04_exif_segfault.png"
    done = subprocess.run(
        [sys.executable, "-c", reads, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "(942, 1732, 3)\n"


@pytest.mark.parametrize("name", ["10_out_of_phase.wav", "10_out_of_phase.mp4"])
def test_out_of_phase(cases, name):
    with pytest.warns(UserWarning, match="out of phase"):
        mono, _ = read_audio(cases / name, num_channels=1)
    native, _ = read_audio(cases / name)
    level = np.sqrt(np.square(native[0]).mean())
    assert np.sqrt(np.square(mono).mean()) == pytest.approx(level, rel=0.02)


def test_a_wall_clock_takes_no_memory(cases):
    reads = "from avgen.clips import read_audio; import sys; read_audio(sys.argv[1])"
    path = cases / "11_wallclock_audio_EATS_MEMORY.mp4"
    done = subprocess.run(
        [sys.executable, "-c", reads, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)),
        check=False,
    )
    assert "MediaError" in done.stderr and "its clock leaps" in done.stderr


def test_colours(cases):
    assert any("HLG" in warning for warning in probe(cases / "15_hlg_steps.mp4").warnings)
    picture = read_image(cases / "18_alpha_hidden_background.png")
    assert (picture == 255).all(axis=2).mean() > 0.3  # what was hidden is white


def test_frames_of_seconds(cases):
    clip = read_clip(cases / "19_irregular_delays.gif")
    assert (clip.num_frames, clip.fps) == (11, 1)


@pytest.mark.slow
def test_none_of_them_is_anything_but_read_or_refused(cases):
    for path in sorted(cases.iterdir()):
        if path.suffix in (".md", ".tsv") or "EATS_MEMORY" in path.name:
            continue
        for read in (probe, read_clip, read_audio, read_image):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    read(path)
                except MediaError as error:
                    assert str(path) in str(error)
