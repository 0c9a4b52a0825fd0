import numpy as np
import pytest

from avgen.clips.transforms import center_crop_resize, crop, remix, resize

HALF_POWER = 0.5**0.5


def test_mono_becomes_two_equal_channels_and_back():
    mono = np.linspace(-1, 1, 9, dtype=np.float32)[None]
    stereo = remix(mono, 2)
    assert np.array_equal(stereo, np.concatenate([mono, mono]))
    assert np.array_equal(remix(stereo, 1), mono)


def test_stereo_becomes_its_mean():
    stereo = np.array([[1.0, 0.5], [-1.0, 0.25]], np.float32)
    assert np.allclose(remix(stereo, 1), [[0, 0.375]])


def test_surround_folds_down_by_bs775():
    # One channel sounds at a time: the identity shows every gain.
    stereo = remix(np.eye(6, dtype=np.float32), 2)
    scale = 1 + 2 * HALF_POWER
    left = np.array([1, 0, HALF_POWER, 0, HALF_POWER, 0]) / scale
    right = np.array([0, 1, HALF_POWER, 0, 0, HALF_POWER]) / scale
    assert np.allclose(stereo, [left, right], atol=1e-6)
    assert np.allclose(remix(np.ones((6, 3), np.float32), 2), 1)  # full scale stays full scale


def test_stereo_becomes_the_front_of_surround():
    stereo = np.array([[0.5], [-0.5]], np.float32)
    assert remix(stereo, 6)[:, 0].tolist() == [0.5, -0.5, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("channels", "left", "right"),
    [
        (["FL", "FR", "FC"], [1, 0, HALF_POWER], [0, 1, HALF_POWER]),
        (["FL", "FR", "LFE"], [1, 0, 0], [0, 1, 0]),
        (["FL", "FR", "FC", "BC"], [1, 0, HALF_POWER, 0.5], [0, 1, HALF_POWER, 0.5]),
        (["FL", "FR", "SL", "SR"], [1, 0, HALF_POWER, 0], [0, 1, 0, HALF_POWER]),
        (
            ["FL", "FR", "FC", "LFE", "BC", "SL", "SR"],
            [1, 0, HALF_POWER, 0, 0.5, HALF_POWER, 0],
            [0, 1, HALF_POWER, 0, 0.5, 0, HALF_POWER],
        ),
        (
            ["FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC"],
            [1, 0, HALF_POWER, 0, HALF_POWER, 0, HALF_POWER, 0],
            [0, 1, HALF_POWER, 0, 0, HALF_POWER, 0, HALF_POWER],
        ),
    ],
)
def test_every_layout_folds_by_the_places_of_its_channels(channels, left, right):
    alone = np.eye(len(channels), dtype=np.float32)
    expected = np.array([left, right]) / np.sum([left, right], axis=1, keepdims=True)
    assert np.allclose(remix(alone, 2, channels), expected, atol=1e-6)
    assert np.allclose(remix(alone, 1, channels)[0], expected.mean(axis=0), atol=1e-6)


def test_of_three_channels_without_names_the_third_is_a_centre():
    voice = np.array([[0.0], [0.0], [0.5]], np.float32)
    assert np.allclose(remix(voice, 1), 0.5 * HALF_POWER / (1 + HALF_POWER))


def test_stereo_out_of_phase_is_heard_in_mono():
    rng = np.random.default_rng(3)
    voice = rng.normal(0, 0.1, 4000).astype(np.float32)
    hiss = rng.normal(0, 0.002, (2, 4000)).astype(np.float32)
    mono = remix(np.stack([voice, -voice]) + hiss, 1)
    assert np.abs(mono[0] - voice).max() < 0.01
    wide = np.stack([voice, -0.5 * voice])  # the mean still has a quarter of it
    assert np.allclose(remix(wide, 1), voice * 0.25, atol=1e-6)
    assert np.allclose(remix(wide, 1, out_of_phase=True), voice * 0.75, atol=1e-6)
    five = np.zeros((6, 4000), np.float32)
    five[0], five[1] = voice, -voice
    assert np.abs(remix(five, 1)).max() > 0.1


def test_no_rule_for_these_channels():
    with pytest.raises(ValueError, match="3 channels to 4"):
        remix(np.zeros((3, 4), np.float32), 4)
    with pytest.raises(ValueError, match="9 channels to 1"):
        remix(np.zeros((9, 4), np.float32), 1)


def test_resize_keeps_a_gradient_in_its_place():
    columns = np.arange(64, dtype=np.uint8) * 3
    frames = np.broadcast_to(columns[None, None, :, None], (2, 16, 64, 3))
    half = resize(frames, 8, 32)
    expected = columns.reshape(32, 2).mean(axis=1)  # pixel centres at halves: the mean of its two
    assert half.shape == (2, 8, 32, 3)
    assert np.abs(half[1, 4, 1:-1, 0] - expected[1:-1]).max() <= 1
    doubled = resize(frames, 16, 128)
    assert np.abs(doubled[0, 0, 2:-2, 0] - (np.arange(128) / 2 - 0.25)[2:-2] * 3).max() <= 1


def test_resize_does_not_alias():
    checkers = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    small = resize(np.repeat(checkers[None, :, :, None], 3, axis=3), 16, 16)
    assert np.abs(small[0, 2:-2, 2:-2].astype(int) - 128).max() <= 2


def test_resize_of_a_constant_is_that_constant():
    frames = np.full((1, 30, 50, 3), 77, np.uint8)
    assert (resize(frames, 17, 71) == 77).all()


def test_crop_takes_the_box():
    frames = np.arange(2 * 6 * 8 * 3, dtype=np.uint8).reshape(2, 6, 8, 3)
    assert np.array_equal(crop(frames, (1, 2, 3, 4)), frames[:, 2:6, 1:4])
    with pytest.raises(ValueError, match="inside"):
        crop(frames, (6, 0, 3, 3))
    with pytest.raises(ValueError, match="inside"):
        crop(frames, (0, 0, 0, 3))


def test_center_crop_resize_stretches_nothing():
    frames = np.zeros((1, 40, 80, 3), np.uint8)
    frames[:, 10:30, 30:50] = 255  # a square in the middle
    square = center_crop_resize(frames, 20, 20)
    assert (square[0, 6:14, 6:14] == 255).all()
    assert (square[0, :4] == 0).all()
    assert (square[0, :, :4] == 0).all()


@pytest.mark.parametrize("size", [(0, 4), (4, -1)])
def test_sizes_are_positive(size):
    with pytest.raises(ValueError, match="at least 1"):
        resize(np.zeros((1, 4, 4, 3), np.uint8), *size)
    with pytest.raises(ValueError, match="at least 1"):
        center_crop_resize(np.zeros((1, 4, 4, 3), np.uint8), *size)
