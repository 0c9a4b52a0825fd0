"""The second opinion: a regression recovers what it was made of, delays are found on real faces."""

import numpy as np
import pytest
import torch

from avgen.evaluation.faces.mouths import CHIN, INNER_LIPS, TOP
from avgen.evaluation.faces.tracking import landmarks_of
from avgen.evaluation.run.runner import Request, evaluate
from avgen.evaluation.subject import Subject, Unscored
from avgen.evaluation.sync import lags
from avgen.evaluation.sync import landmarks as landmark_sync
from avgen.evaluation.sync.landmarks import LandmarkRegression, RegressionConfig

RATE, HOP = 16_000, 640


def noise(seconds=3, seed=0):
    """Noise whose loudness changes every 120 ms: [1, N]."""
    generator = np.random.default_rng(seed)
    loud = np.repeat(generator.uniform(0.01, 0.5, seconds * RATE // 1920 + 1), 1920)
    return (loud[: seconds * RATE] * generator.standard_normal(seconds * RATE))[None].astype(
        np.float32
    )


def face(opening):
    """Landmarks [T, 478, 3] of a face 100 high whose inner lips are `opening` [T] apart."""
    points = np.random.default_rng(0).uniform(0, 100, (1, 478, 3)).repeat(len(opening), 0)
    points[:, TOP], points[:, CHIN] = (50, 0, 0), (50, 100, 0)
    points[:, INNER_LIPS[0]] = (50, 70, 0)
    points[:, INNER_LIPS[1]] = (50, 70, 0)
    points[:, INNER_LIPS[1], 1] += opening
    return points.astype(np.float32)


def test_fit_finds_the_coefficients_that_made_the_mouths():
    generator = np.random.default_rng(1)
    truth = generator.standard_normal((5, 2))
    heard = [generator.standard_normal((400, 5)) for _ in range(3)]
    seen = [lags.standardized(clip) @ truth for clip in heard]
    found = landmark_sync.fit(heard, seen, ridge=0)
    expected = truth / np.linalg.norm(truth, axis=0)  # outputs are standardised too
    assert found == pytest.approx(expected, abs=0.12)
    shrunk = landmark_sync.fit(heard, seen, ridge=1200)  # as much as there are frames
    assert np.linalg.norm(shrunk) == pytest.approx(np.linalg.norm(found) / 2, rel=0.1)


def test_inputs_are_what_is_heard_around_a_frame():
    rows = landmark_sync.inputs(noise(), RATE, 75)
    assert rows.shape == (75, landmark_sync.NUM_INPUTS)
    block = landmark_sync.NUM_INPUTS // (2 * landmark_sync.CONTEXT + 1)
    middle = rows[:, landmark_sync.CONTEXT * block :][:, :block]
    assert rows[10:60, :block] == pytest.approx(middle[7:57])  # three frames before
    assert rows[0, :block] == pytest.approx(middle[0])
    with pytest.raises(Unscored, match="silent"):
        landmark_sync.inputs(np.zeros((1, RATE)), RATE, 25)


def test_features_are_the_mouth_and_its_change():
    opening = 5 + 4 * np.sin(np.arange(50))
    found = landmark_sync.picture_features(face(opening))
    assert found.shape == (50, landmark_sync.NUM_OUTPUTS)
    assert found[:, 0] == pytest.approx(opening / 100, abs=1e-5)
    assert found[1:-1, 3] == pytest.approx((opening[2:] - opening[:-2]) / 200, abs=1e-5)
    with pytest.raises(Unscored, match="does not move"):
        landmark_sync.picture_features(face(np.full(50, 3.0)))


def test_a_mouth_that_does_what_is_said_is_in_sync():
    model = LandmarkRegression(RegressionConfig(80))
    model.weight.copy_(torch.randn(model.weight.shape))
    model.bank.copy_(torch.randn(model.bank.shape))
    sound = model.sound_features(noise(), RATE, 75)
    late = np.roll(noise(), 4 * HOP, 1)
    found = model.score(sound, model.sound_features(late, RATE, 75))
    assert found.offset_frames == pytest.approx(-4, abs=0.5)  # the sound trails
    again = model.score(sound, sound)
    assert again.r0 == pytest.approx(1) and again.z > 5 and again.reliable


def test_delays_of_real_clips_are_found(clips_folder):
    """With the shipped coefficients, on a speaker that they were not fitted on."""
    pytest.importorskip("mediapipe")
    task = clips_folder.parent / "models" / "face_landmarker.task"
    path = clips_folder / "grid" / "others" / "pwij3p.mpg"
    if not (task.is_file() and path.is_file()):
        pytest.skip(f"{task} or {path} is not there")
    subject = Subject(path, weights={"face_landmarker": task})
    picture, model = landmark_sync.picture_features(landmarks_of(subject)), landmark_sync.load()
    for delay in (-8, 0, 6):
        sound = np.roll(subject.clip.waveform, delay * HOP, 1)
        found = model.score(picture, model.sound_features(sound, RATE, len(picture)))
        assert found.offset_frames == pytest.approx(-delay, abs=1)
    other = model.sound_features(noise(), RATE, len(picture))
    assert model.score(picture, other).r0 < 0.3


def test_another_folder_is_no_regression(tmp_path):
    with pytest.raises(ValueError, match=r"config\.json"):
        landmark_sync.load(tmp_path)


def test_a_report_says_how_far_it_agrees_with_avgen_sync(clips_folder, tmp_path):
    pytest.importorskip("mediapipe")
    task = clips_folder.parent / "models" / "face_landmarker.task"
    path = clips_folder / "grid" / "others" / "pwij3p.mpg"
    if not (task.is_file() and path.is_file()):
        pytest.skip(f"{task} or {path} is not there")
    request = Request(path, metrics=["sync", "landmark_sync"], weights={"face_landmarker": task})
    summary = evaluate(request, tmp_path / "r")
    assert summary["metrics"]["landmark_sync"]["beside_sync"] == {"n": 1, "within_one_frame": 1}
    assert {"sync", "landmark_sync", "face_landmarker"} <= summary["run"]["weights"].keys()
    values = summary["metrics"]["landmark_sync"]["values"]
    assert values["offset_ms"]["delayed"]["mean"] == pytest.approx(-200, abs=40)
    assert "in 1 of 1 clips" in (tmp_path / "r" / "summary.md").read_text()
