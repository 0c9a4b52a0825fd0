"""Distances from a reference, of errors that are known: decibels, pixels, turns and gains."""

import math
import sys

import numpy as np
import pytest

from avgen.clips.media.read import read_clip
from avgen.evaluation.comparison.distances import (
    LIPS,
    STEADY,
    log_mel_distance,
    mouth_distance,
    overlap,
    pesq,
    psnr,
    si_sdr,
    ssim,
    stoi,
)
from avgen.evaluation.faces.mouths import EYES
from avgen.evaluation.subject import Unscored

RATE = 16_000


def face(num_frames=3):
    return np.random.default_rng(0).uniform(100, 300, (1, 478, 2)).repeat(num_frames, 0)


def noise(seconds=1.0, seed=0):
    sound = np.random.default_rng(seed).standard_normal((1, int(seconds * RATE)))
    return (0.1 * sound).astype(np.float32)


@pytest.fixture(scope="module")
def speech(clips_folder):
    path = clips_folder / "grid" / "s1" / "pbwx1s.mpg"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return read_clip(path, sample_rate=RATE, num_channels=1).waveform


def test_overlap_cuts_the_end_and_says_how_much():
    real, made = np.arange(40).reshape(10, 4), np.arange(36).reshape(9, 4)
    one, other, cut = overlap(real, made)
    assert (one == real[:9]).all() and (other == made).all() and cut == 1
    one, other, cut = overlap(np.zeros((1, 95)), np.ones((1, 100)), axis=-1)
    assert one.shape == other.shape == (1, 95) and cut == 5


def test_overlap_refuses_other_sizes_and_much_shorter_clips():
    with pytest.raises(Unscored, match="size"):
        overlap(np.zeros((5, 8, 8, 3)), np.zeros((5, 8, 9, 3)))
    with pytest.raises(Unscored, match=r"length 8 against the reference's 10"):
        overlap(np.zeros((10, 4)), np.zeros((8, 4)))


def test_what_is_not_cut_is_an_error():
    with pytest.raises(ValueError, match="overlap"):
        psnr(np.zeros((3, 2, 2, 3)), np.zeros((2, 2, 2, 3)))


def test_psnr_of_a_known_error_and_no_wrapping_around():
    real = np.full((2, 4, 4, 3), 100, np.uint8)
    assert psnr(real, real + np.uint8(5)) == pytest.approx(10 * math.log10(255**2 / 25))
    assert psnr(real, real) == math.inf
    black, white = np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 255, np.uint8)
    assert psnr(black, white) == psnr(white, black) == pytest.approx(0.0)


def test_psnr_pools_errors_over_frames():
    real = np.zeros((2, 4, 4, 3), np.uint8)
    made = np.stack([real[0], real[0] + 10]).astype(np.uint8)
    assert psnr(real, made) == pytest.approx(10 * math.log10(255**2 / 50))


def test_ssim_of_two_flat_pictures():
    # Without any variance it is the luminance term: (2 a b + c) / (a^2 + b^2 + c), c = 0.01^2.
    pytest.importorskip("torchmetrics")
    real, made = np.full((11, 16, 16, 3), 51, np.uint8), np.full((11, 16, 16, 3), 102, np.uint8)
    expected = (2 * 0.2 * 0.4 + 1e-4) / (0.2**2 + 0.4**2 + 1e-4)
    assert ssim(real, made) == pytest.approx(expected, abs=1e-4)
    assert ssim(real, real) == pytest.approx(1, abs=1e-5)


def test_mouth_distance_is_blind_to_where_the_head_is():
    real = face()
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert mouth_distance(real, 1.7 * real @ turn.T + [40, -9]) == pytest.approx(0, abs=1e-9)


def test_mouth_distance_of_a_jaw_that_drops():
    real = face()
    eyes = [real[0, list(eye)].mean(0) for eye in EYES]
    made = real.copy()
    made[:, list(LIPS)] += (0, 3.0)
    expected = 3 / np.linalg.norm(eyes[0] - eyes[1])
    assert mouth_distance(real, made) == pytest.approx(expected)
    assert mouth_distance(real, made * 0.5) == pytest.approx(expected)  # a smaller picture
    assert not set(LIPS) & set(STEADY)


def test_mouth_distance_leaves_out_frames_without_a_face():
    real, made = face(), face()
    made[1] = np.nan
    made[2, list(LIPS)] += 1
    half = mouth_distance(real, made)
    assert half == pytest.approx(mouth_distance(real[2:], made[2:]) / 2)
    with pytest.raises(Unscored, match="no frame"):
        mouth_distance(real, np.full_like(real, np.nan))


def test_log_mel_distance_of_a_gain_is_its_decibels():
    real = noise()
    assert log_mel_distance(real, real / 2, RATE) == pytest.approx(20 * math.log10(2), abs=1e-3)
    assert log_mel_distance(real, real, RATE) == 0


def test_log_mel_distance_has_a_floor():
    quiet = np.zeros((1, RATE), np.float32)
    assert log_mel_distance(quiet, 1e-7 * noise(), RATE) == 0  # -160 dB and -inf are both silence
    with pytest.raises(Unscored, match="window"):
        log_mel_distance(quiet[:, :300], quiet[:, :300], RATE)


def test_si_sdr_of_noise_at_right_angles():
    real, other = noise().astype(np.float64), noise(seed=1).astype(np.float64)
    real, other = real - real.mean(), other - other.mean()
    other -= (other @ real.T) / (real @ real.T) * real
    other *= np.linalg.norm(real) / np.linalg.norm(other) / 10**0.5
    assert si_sdr(real, real + other) == pytest.approx(10)
    assert si_sdr(real, 7 * (real + other) + 0.2) == pytest.approx(10)  # neither gain nor offset


def test_si_sdr_is_that_of_torchmetrics():
    torch = pytest.importorskip("torch")
    audio = pytest.importorskip("torchmetrics.functional.audio")
    real, made = noise(), noise() + noise(seed=1)
    expected = audio.scale_invariant_signal_distortion_ratio(
        torch.from_numpy(made), torch.from_numpy(real), zero_mean=True
    )
    assert si_sdr(real, made) == pytest.approx(float(expected), abs=1e-3)


def test_si_sdr_of_silence_has_no_number():
    with pytest.raises(Unscored, match="silent"):
        si_sdr(noise(), np.zeros_like(noise()))


def test_intelligibility_and_quality_fall_with_noise(speech):
    pytest.importorskip("pystoi")
    level = float(np.sqrt((speech**2).mean()))
    little, much = (
        speech + gain * level * 10 * noise(speech.shape[1] / RATE + 1)[:, : speech.shape[1]]
        for gain in (0.1, 1.0)
    )
    assert stoi(speech, speech, RATE) == pytest.approx(1, abs=1e-5)
    assert 1 > stoi(speech, little, RATE) > stoi(speech, much, RATE) > 0
    try:
        scores = [pesq(speech, made, RATE) for made in (speech, little, much)]
    except Unscored as reason:
        pytest.skip(str(reason))
    assert scores[0] == pytest.approx(4.644, abs=0.001)
    assert scores[0] > scores[1] > scores[2] >= 1


def test_too_little_speech_has_no_intelligibility():
    pytest.importorskip("pystoi")
    with pytest.raises(Unscored, match="STOI"):
        stoi(noise(0.2), noise(0.2), RATE)
    with pytest.raises(Unscored, match="silent"):
        stoi(np.zeros((1, RATE)), noise(), RATE)


def test_what_is_not_installed_is_a_reason(monkeypatch):
    for name in ("pystoi", "pesq"):
        monkeypatch.setitem(sys.modules, name, None)  # as Python marks what cannot be imported
    with pytest.raises(Unscored, match="pystoi"):
        stoi(noise(), noise(), RATE)
    with pytest.raises(Unscored, match="compiler"):
        pesq(noise(), noise(), RATE)
