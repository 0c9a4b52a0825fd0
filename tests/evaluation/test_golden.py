"""What the metrics say of fixed inputs: closed forms where there is one, stored values of the rest.

A score that changes by a change of code is another score: its protocol needs another number.
"""

import numpy as np
import pytest
import torch

from avgen.evaluation.comparison.distributions import frechet_distance, kernel_distance
from avgen.evaluation.faces.mouths import eye_aspect_ratio, geometry, sounding
from avgen.evaluation.statistics import bootstrap_interval
from avgen.evaluation.sync import features as inputs
from avgen.evaluation.sync import lags, landmarks
from avgen.evaluation.sync import score as sync
from avgen.evaluation.sync.landmarks import fit, picture_features
from avgen.evaluation.sync.landmarks import inputs as heard
from avgen.evaluation.sync.network import SyncConfig, SyncNetwork, curves
from avgen.evaluation.syncnet.mfcc import int16_samples, mfcc


@pytest.fixture
def pair(chirp):
    """Features of a picture and of a sound that comes 2.3 frames late, with something else in it,
    and of 12 sounds that have nothing to do with it."""
    times = np.arange(60)[:, None] + np.array([0.0, 17.0, 31.0])
    picture = np.sin(0.31 * times) + np.sin(0.57 * times + 1)
    sound = np.sin(0.31 * (times - 2.3)) + np.sin(0.57 * (times - 2.3) + 1)
    others = [np.sin(0.4 * times + k * k) + chirp((60, 3), k) for k in range(12)]
    return picture, sound + 0.8 * chirp((60, 3), 50), others


@pytest.fixture
def waveform(chirp):
    """Noise that is loud and soft in turn, and a tone."""
    envelope = 0.02 + np.abs(np.sin(np.arange(16000) / 900)) ** 3
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    return (0.3 * envelope * chirp(16000, 2) + tone).astype(np.float32)[None]


def test_a_score_in_every_number(pair, golden):
    """The sound lags: offsets are below 0, and an interval is SLACK wider than the bootstrap's."""
    picture, sound, others = pair
    network = SyncNetwork(SyncConfig(width=8, depth=1, dim=3, bank_frames=10))
    score = sync.SyncModel(network).score(picture, sound, others)
    found = lags.offset(picture, sound)
    assert score.offset_ms == pytest.approx(40 * found.frames)
    assert score.offset_frames == pytest.approx(-2.3, abs=0.4)
    low, high = found.interval
    assert score.interval_ms == pytest.approx((40 * (low - 0.4), 40 * (high + 0.4)))
    assert sync.SLACK == 0.4
    bare = sync.score_features(picture, sound, others)
    assert bare.interval_ms == pytest.approx((40 * low, 40 * high))
    wide = sync.score_features(picture, sound, others, slack=1.5)
    assert wide.interval_ms == pytest.approx((40 * (low - 1.5), 40 * (high + 1.5)))
    at_zero = [np.mean([np.corrcoef(picture[:, d], other[:, d])[0, 1] for d in range(3)])
               for other in (sound, *others)]  # fmt: skip
    assert score.r0 == pytest.approx(at_zero[0])
    spread = np.std(at_zero[1:], ddof=1)
    assert score.z == pytest.approx((at_zero[0] - np.mean(at_zero[1:])) / spread)
    assert score.reliable
    golden("sync: interval and confidence", [*score.interval_ms, score.confidence, score.z])
    golden("sync: curve", score.curve)


def test_an_unlike_pair_is_not_reliable(pair):
    """One whose best lag is the resamplings' but no higher than others' is; one whose is not is."""
    picture, _, others = pair
    high = others.pop(2)
    score = sync.score_features(picture, high, others, weak=(2.5, 0.5))
    assert score.confidence >= 0.5 and not score.reliable
    assert sync.score_features(picture, high, others, weak=(1.5, 0.5)).reliable
    unsure = sync.score_features(picture, others[0], others[1:], weak=(-9.0, 0.5))
    assert unsure.confidence < 0.5 and not unsure.reliable
    assert sync.score_features(picture, others[0], others[1:], weak=(-9.0, 0.0)).reliable
    assert sync.WEAK == (1.5, 0.85) and landmarks.WEAK == (1.5, 0.5)


def test_stretches_of_the_bank_begin_everywhere():
    bank = np.arange(80)[:, None]
    found = sync.stretches(bank, 5)
    assert [stretch[0, 0] for stretch in found] == list(range(0, 80, 2))
    assert found[-1][:, 0].tolist() == [78, 79, 0, 1, 2]


def test_lags_that_are_found(pair, golden):
    picture, sound, _ = pair
    found = lags.offset(picture, sound, max_lag=9, seed=3)
    golden("lags: offset", [found.frames, *found.interval, found.confidence])
    curve = np.array([0.1, 0.5, 0.9, 0.7, 0.2])
    weighed = curve * np.sqrt((20 - np.abs(np.arange(-2, 3))) / 20)
    bend = weighed[1] - 2 * weighed[2] + weighed[3]
    assert lags.best_lag(curve, 20) == pytest.approx(0.5 * (weighed[1] - weighed[3]) / bend)


def test_what_is_heard(waveform, golden):
    golden("loudness in bands", inputs.log_mel(waveform, 16000, 25), 64, rel=1e-4, atol=1e-4)
    golden("loudness higher", inputs.log_mel(waveform, 16000, 25, 1.3), rel=1e-4, atol=1e-4)
    golden("cepstra", mfcc(int16_samples(waveform[0])), 64)
    golden("landmarks: heard", heard(waveform, 16000, 25), rel=1e-4, atol=1e-4)
    quiet = np.concatenate([waveform[:, :8000], 0.01 * waveform[:, 8000:]], 1)
    loud = sounding(quiet, 16000, 25, 25)
    assert loud[:12].all() and not loud[13:].any()


def test_what_is_seen(golden):
    rows, columns = np.mgrid[:120, :120]
    frames = [
        128 + 60 * np.sin(columns / 5 - 0.4 * t) * np.cos(rows / 7 + 0.2 * t * t / 4)
        for t in range(6)
    ]
    frames = np.stack(frames).astype(np.uint8)[..., None].repeat(3, -1)
    boxes = np.tile([20.0, 10.0, 80.0, 80.0], (6, 1))
    golden("motion", inputs.motion(frames, boxes), 64, rel=1e-3, atol=1e-4)


def test_features_of_both(fill, chirp, golden):
    network = fill(SyncNetwork(SyncConfig(width=12, depth=2, dim=4))).requires_grad_(False)
    motion = torch.from_numpy(chirp((1, 20, 3, 16, 16), 1)).float()
    mels = torch.from_numpy(chirp((1, 80, 28), 2)).float()
    picture, sound = network(inputs.picture_rows(motion), mels)
    golden("sync: picture", picture)
    golden("sync: sound", sound)
    golden("sync: trained curve", curves(picture, sound, 5))


def test_a_mouths_shape(chirp, golden):
    landmarks = 200 + 80 * chirp((12, 478, 3), 3)
    landmarks[:, 10, 1], landmarks[:, 152, 1] = 20, 380
    golden("mouth: geometry", geometry(landmarks), 48)
    golden("mouth: landmarks' features", picture_features(landmarks))
    golden("mouth: eyes", eye_aspect_ratio(landmarks))


def test_a_regression_is_a_ridge(chirp):
    one, other = chirp((40, 5), 1), chirp((40, 2), 2)
    x, y = ((v - v.mean(0)) / v.std(0) for v in (one, other))
    expected = np.linalg.inv(x.T @ x + 7 * np.eye(5)) @ x.T @ y
    np.testing.assert_allclose(fit([one], [other], 7.0), expected, atol=1e-9)


def test_distances_of_sets(chirp, golden):
    real, made = chirp((30, 4), 1), 0.7 * chirp((40, 4), 2) + 0.3
    kernel = [[(a @ b / 4 + 1) ** 3 for b in (*real, *made)] for a in (*real, *made)]
    kernel = np.array(kernel)
    one, two, cross = kernel[:30, :30], kernel[30:, 30:], kernel[:30, 30:]
    expected = (one.sum() - one.trace()) / (30 * 29) + (two.sum() - two.trace()) / (40 * 39)
    value, interval = kernel_distance(real, made)
    assert value == pytest.approx(expected - 2 * cross.mean())
    golden("sets: kernel's interval", interval)
    golden("sets: frechet", [frechet_distance(real, made)])
    golden("interval of a mean", bootstrap_interval(made[:, 0], seed=4), rel=1e-6)
