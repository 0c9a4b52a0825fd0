"""SyncNet's cepstra: the package's to the letter, of 16-bit samples."""

import numpy as np
import pytest

from avgen.evaluation.syncnet.mfcc import int16_samples, mfcc


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    """Loud noise with gaps of digital silence: int16 [N]."""
    generator = np.random.default_rng(seed)
    samples = generator.normal(0, 6000, num_samples).clip(-32768, 32767).astype(np.int16)
    samples[num_samples // 3 : num_samples // 2] = 0
    return samples


@pytest.mark.parametrize("num_samples", [1, 100, 400, 401, 560, 561, 1919, 16_000, 47_999])
def test_cepstra_are_the_package_s(num_samples):
    package = pytest.importorskip("python_speech_features")
    samples = noise(num_samples)
    expected = package.mfcc(samples, 16_000)
    assert mfcc(samples).shape == expected.shape
    assert np.abs(mfcc(samples) - expected).max() < 1e-6


def test_cepstra_of_silence_are_the_package_s():
    package = pytest.importorskip("python_speech_features")
    silence = np.zeros(3200, np.int16)
    assert np.abs(mfcc(silence) - package.mfcc(silence, 16_000)).max() < 1e-6


def test_floats_instead_of_16_bits_shift_coefficient_0_by_20_794():
    package = pytest.importorskip("python_speech_features")
    samples = np.random.default_rng(0).normal(0, 6000, 8000).astype(np.int16)
    shift = mfcc(samples) - package.mfcc(samples / 32768, 16_000)
    assert np.allclose(shift[:, 0], 20.794, atol=5e-4)
    assert np.abs(shift[:, 1:]).max() < 1e-9
    with pytest.raises(ValueError, match="int16"):
        mfcc(samples / 32768)


def test_32768_times_the_amplitude_is_20_794_in_coefficient_0_and_nothing_in_the_others():
    quiet = -np.random.default_rng(1).integers(0, 2, 8000).astype(np.int16)  # 0 and -1
    loud = (quiet.astype(np.int32) * 32768).astype(np.int16)
    shift = mfcc(loud) - mfcc(quiet)
    assert np.allclose(shift[:, 0], np.log(32768.0**2), atol=1e-9)
    assert np.abs(shift[:, 1:]).max() < 1e-9


def test_energy_of_a_click_is_its_closed_form():
    samples = np.zeros(1600, np.int16)
    samples[500] = 1000
    # |1 - 0.97 e^-iw|^2 over the 257 bins, whose cosines sum to 0, over 512.
    expected = np.log(1000.0**2 * (1 + 0.97**2) * 257 / 512)
    inside = [row for row in range(9) if row * 160 <= 500 and row * 160 + 400 > 501]
    assert inside == [1, 2, 3]
    assert np.allclose(mfcc(samples)[inside, 0], expected)
    assert np.allclose(mfcc(samples)[5:, 0], np.log(np.finfo(float).eps))


def test_samples_are_rounded_and_kept_in_16_bits():
    waveform = np.array([0, 0.5, 1, -1, 2, -2, 1.6 / 32768, -1.4 / 32768], np.float32)
    assert int16_samples(waveform).tolist() == [0, 16384, 32767, -32768, 32767, -32768, 2, -1]
    assert int16_samples(waveform).dtype == np.int16
