from fractions import Fraction

import numpy as np
import pytest

from avgen.clips import Clip, Word

FRAMES = np.zeros((50, 4, 6, 3), np.uint8)


def test_sizes_and_duration():
    clip = Clip(FRAMES, Fraction(30000, 1001), np.zeros((2, 7), np.float32), 16000)
    assert (clip.num_frames, clip.height, clip.width) == (50, 4, 6)
    assert (clip.num_channels, clip.num_samples) == (2, 7)
    assert clip.duration_s == Fraction(50 * 1001, 30000)


def test_without_sound():
    clip = Clip(FRAMES, Fraction(25))
    assert (clip.num_channels, clip.num_samples) == (0, 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"frames": FRAMES.astype(np.float32)},
        {"frames": FRAMES[0]},
        {"frames": FRAMES[:0]},
        {"fps": Fraction(0)},
        {"waveform": np.zeros((1, 4), np.float32)},
        {"sample_rate": 16000},
        {"waveform": np.zeros(4, np.float32), "sample_rate": 16000},
        {"waveform": np.zeros((1, 4), np.int16), "sample_rate": 16000},
    ],
)
def test_what_is_no_clip(fields):
    with pytest.raises(ValueError, match=r"must|may"):
        Clip(**{"frames": FRAMES, "fps": Fraction(25)} | fields)


@pytest.mark.parametrize("times", [(-0.1, 1), (1, 1), (2, 1)])
def test_what_is_no_time_of_a_word(times):
    with pytest.raises(ValueError, match="'red'"):
        Word("red", *times)
