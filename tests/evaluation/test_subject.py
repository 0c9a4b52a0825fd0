"""What every metric sees of a clip: 25 frames a second, 16 kHz mono, and a limit."""

from fractions import Fraction

import numpy as np
import pytest

from avgen.clips import Clip, write_clip
from avgen.evaluation import subject
from avgen.evaluation.faces.tracking import landmarks_of, tracks_of
from avgen.evaluation.subject import Subject, Unscored


@pytest.fixture
def path(tmp_path):
    frames = np.zeros((60, 32, 48, 3), np.uint8)
    frames[:] = (np.arange(60) * 4)[:, None, None, None]
    seconds = np.arange(96_000) / 48_000
    tone = 0.3 * np.sin(2 * np.pi * 440 * seconds).astype(np.float32)
    write_clip(Clip(frames, Fraction(30), np.stack([tone, tone]), 48_000), tmp_path / "a.mkv")
    return tmp_path / "a.mkv"


def test_sync_sees_25_frames_and_hears_16_khz_and_the_rest_as_it_is(path):
    seen = Subject(path)
    assert (seen.clip.fps, seen.clip.num_frames) == (25, 50)
    assert (seen.clip.sample_rate, seen.clip.waveform.shape) == (16_000, (1, 32_000))
    assert np.abs(seen.clip.frames[:, 0, 0, 0] / 4 - np.arange(50) * 1.2).max() <= 1
    assert (seen.native.fps, seen.native.num_channels) == (30, 2)


def test_a_picture_is_decoded_once(path):
    seen = Subject(path)
    assert seen.clip is seen.clip
    assert tracks_of(seen) is tracks_of(seen)
    assert tracks_of(seen) == []


def test_a_clip_that_is_too_long_has_a_reason(path, monkeypatch):
    monkeypatch.setattr(subject, "MAX_BYTES", 100_000)
    with pytest.raises(Unscored, match="50 frames of 48x32"):
        _ = Subject(path).clip


def test_landmarks_need_a_model(path):
    with pytest.raises(Unscored, match="face_landmarker"):
        landmarks_of(Subject(path))
