"""Every real clip reads to the right frames and samples, or fails with a clear error.

The numbers below were taken with ffprobe -count_frames and by hand: the picture's size is the one
shown (turned, square pixels), the samples cover the picture.
"""

from fractions import Fraction

import numpy as np
import pytest

from avgen.clips import MediaError, probe, read_audio, read_clip, read_windows
from avgen.clips.timebase import num_samples

NTSC = Fraction(30000, 1001)

# frames, fps, height, width, channels, sample rate
CLIPS = {
    "odd/decord_flipping_a_pancake.mkv": (310, 30, 240, 426, 1, 48_000),
    "odd/decord_unordered.mov": (4, 32, 50, 50, 0, None),
    "odd/decord_video_90.mov": (3, 30, 568, 320, 0, None),
    "odd/decord_video_180.mov": (3, 30, 320, 568, 0, None),
    "odd/decord_video_270.mov": (3, 30, 568, 320, 0, None),
    "odd/lp_d0.mp4": (78, 25, 512, 512, 0, None),
    "odd/tc_av1_video.mkv": (125, 25, 360, 640, 0, None),
    "odd/tc_bt709_full_range.mp4": (30, 30, 720, 1280, 0, None),
    "odd/tc_h264_10bits.mp4": (30, 30, 200, 200, 0, None),
    "odd/tc_h265_10bits.mp4": (30, 30, 200, 200, 0, None),
    "odd/tc_h265_video.mp4": (10, 10, 128, 128, 0, None),
    "sounds/cfg_hitting_bag.mp4": (90, 15, 340, 604, 2, 44_100),
    "sounds/ss_vgg_3qesirWAGt4_20000_30000.mp4": (250, 25, 256, 454, 1, 16_000),
    "sounds/ss_vgg_ZYc410CE4Rg_0_10000.mp4": (250, 25, 256, 340, 1, 16_000),
}
LARGE_CLIPS = {
    "odd/cfg_tennis.mp4": (138, 24, 1080, 2048, 0, None),
    "odd/lipify_alphabet.mp4": (44, Fraction(2250, 91), 1920, 1080, 2, 48_000),  # variable rate
    "odd/lp_d3.mp4": (354, 30, 512, 512, 2, 44_100),
    "odd/tc_nasa_13013.mp4": (390, NTSC, 270, 480, 2, 16_000),  # the larger of two pictures
    "odd/vrt_1.mp4": (183, 30, 700, 700, 2, 44_100),  # variable rate: 135 frames
    "sounds/cfg_chopping.mp4": (241, NTSC, 720, 1280, 2, 44_100),
    "sounds/cfg_hitting_metal.mp4": (90, 15, 340, 604, 2, 44_100),
}
DAMAGED = {
    "odd/decord_corrupted.mp4": "the picture decodes to 2.70 s and no further",
    "grid/s1/sgib8n.mpg": "the picture decodes to 1.80 s and no further .damaged frame",
}


def check(path, expected):
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    count, fps, height, width, channels, rate = expected
    frames = samples = 0
    light = []
    for clip in read_windows(path, window_s=1):
        assert clip.frames.shape[1:] == (height, width, 3)
        assert (clip.fps, clip.num_channels, clip.sample_rate) == (fps, channels, rate)
        frames, samples = frames + clip.num_frames, samples + clip.num_samples
        light.append(clip.frames[:, ::8, ::8].mean())
    assert frames == count
    assert samples == (num_samples(count, fps, rate) if rate else 0)
    assert np.mean(light) > 5  # something is seen (decord_unordered.mov is all white)


@pytest.mark.parametrize("name", CLIPS)
def test_odd_clips(clips_folder, name):
    check(clips_folder / name, CLIPS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE_CLIPS)
def test_large_odd_clips(clips_folder, name):
    check(clips_folder / name, LARGE_CLIPS[name])


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_clips(clips_folder, name):
    if not (clips_folder / name).is_file():
        pytest.skip(f"{clips_folder / name} is not there")
    with pytest.raises(MediaError, match=DAMAGED[name]):
        read_clip(clips_folder / name)


GRID = (75, 25, 288, 360, 2, 44_100)


def grid_clips(folder):
    found = sorted(folder.glob("grid/*/*.mpg"))
    if not found:
        pytest.skip(f"no GRID clips in {folder}")
    return [path for path in found if path.name != "sgib8n.mpg"]


def test_grid_clips(clips_folder):
    for path in grid_clips(clips_folder)[::8]:
        check(path, GRID)


@pytest.mark.slow
def test_all_grid_clips(clips_folder):
    for path in grid_clips(clips_folder):
        check(path, GRID)


def test_any_part_of_a_grid_clip_is_that_part(clips_folder):
    path = grid_clips(clips_folder)[0]
    whole = read_clip(path)
    part = read_clip(path, start_s=1.2, end_s=2)
    assert np.array_equal(part.frames, whole.frames[30:50])
    # FFmpeg's MP2 decoder rounds by what it decoded before: two steps of 16 bits at most.
    assert np.abs(part.waveform - whole.waveform[:, 52_920:88_200]).max() <= 2 / 2**15 + 1e-9


def test_the_sound_of_a_late_picture_is_cut_to_it(clips_folder):
    path = clips_folder / "odd" / "vrt_1.mp4"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    # The picture begins at 507 ticks of 1/15360 s, 33 ms: sample 1455.6 of the stream of sound.
    import av

    with av.open(str(path)) as container:
        stream = np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], axis=1)
    sound, rate = read_audio(path, end_s=2)
    assert rate == 44_100
    assert np.array_equal(sound, np.clip(stream[:, 1456 : 1456 + 88_200], -1, 1))


def test_probe_of_many_streams(clips_folder):
    path = clips_folder / "odd" / "tc_nasa_13013.mp4"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    seen = probe(path)
    kinds = ["video", "audio", "subtitle", "video", "audio", "subtitle"]
    assert [stream.kind for stream in seen.streams] == kinds
    assert [stream.index for stream in seen.streams if stream.is_read] == [3, 4]
    assert seen.warnings[:2] == (
        "2 video streams; read is number 3",
        "2 audio streams; read is number 4",
    )
