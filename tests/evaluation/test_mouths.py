"""Openings, stillness, motion in silence and blinks of faces drawn as points."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avgen.evaluation.faces import mouths, tracking
from avgen.evaluation.subject import Subject, Unscored

FPS = Fraction(25)


def face(opening, eyes=0.3, scale=200.0, turn=0.0):
    """Landmarks [T, 478, 3] whose mouth opens by `opening` [T] heights of the face."""
    length = len(opening)
    points = np.zeros((length, 478, 3), np.float32)
    points[:, mouths.TOP, :2], points[:, mouths.CHIN, :2] = (0.5, 0.0), (0.5, 1.0)
    points[:, mouths.NOSE, :2] = 0.5, 0.55
    points[:, 61, :2], points[:, 291, :2] = (0.35, 0.75), (0.65, 0.75)
    for upper, lower, extra in ((13, 14, 0.0), (0, 17, 0.08)):
        points[:, upper, 0] = points[:, lower, 0] = 0.5
        points[:, upper, 1] = 0.75 - (opening + extra) / 2
        points[:, lower, 1] = 0.75 + (opening + extra) / 2
    for centre, eye in ((0.3, mouths.EYES[0]), (0.7, mouths.EYES[1])):
        across = (-0.05, -0.02, 0.02, 0.05, 0.02, -0.02)
        up = (0, -1, -1, 0, 1, 1)
        for index, x, y in zip(eye, across, up, strict=True):
            points[:, index, 0] = centre + x
            points[:, index, 1] = 0.4 + y * np.asarray(eyes) * 0.1 / 2
    cos, sin = np.cos(turn), np.sin(turn)
    points[..., :2] = points[..., :2] @ np.array([[cos, sin], [-sin, cos]], np.float32) * scale
    return points


def test_opening_is_in_heights_of_the_face_whatever_its_size_and_turn():
    opening = np.linspace(0, 0.1, 20)
    for scale, turn in ((200.0, 0.0), (37.0, 0.0), (200.0, 0.4)):
        found = mouths.opening(face(opening, scale=scale, turn=turn))
        np.testing.assert_allclose(found, opening, atol=1e-5)


def test_geometry_of_a_drawn_mouth():
    shape = mouths.geometry(face(np.full(5, 0.04), turn=0.3))
    np.testing.assert_allclose(shape[0], [0.04, 0.12, 0.3, 0.45, 0.0, 0.0], atol=1e-5)


def test_articulation_is_a_range_and_its_ratio_one_of_ranges():
    opening = np.tile(np.linspace(0, 0.1, 101), 3)
    assert mouths.articulation(opening) == pytest.approx(0.09, abs=0.002)
    assert mouths.articulation_ratio(0.5 * opening, opening) == pytest.approx(0.5)
    with pytest.raises(Unscored, match="stands still"):
        mouths.articulation_ratio(opening, np.full(100, 0.02))


def test_sound_is_told_from_silence_by_level():
    waveform = np.zeros((1, 16000), np.float32)
    waveform[0, 6400:9600] = np.sin(np.arange(3200))
    sound = mouths.sounding(waveform, 16000, 25, FPS)
    assert np.flatnonzero(sound).tolist() == [10, 11, 12, 13, 14]
    assert not mouths.sounding(np.zeros((1, 16000), np.float32), 16000, 25, FPS).any()
    assert len(mouths.sounding(waveform[:, :9600], 16000, 25, FPS)) == 25


def test_motion_in_silence_is_a_ratio_of_speeds():
    sound = np.arange(60) >= 30
    step = np.where(np.arange(60) < 30, 0.002, 0.01)
    opening = np.cumsum(step * np.where(np.arange(60) % 2, 1, -1))
    assert mouths.motion_in_silence(opening, sound) == pytest.approx(0.2)
    assert mouths.motion_in_silence(opening, np.ones(60, bool)) is None


def test_blinks_are_counted_and_closed_eyes_are_not():
    ratios = np.full(75, 0.3)
    ratios[10:14] = ratios[40:43] = 0.1
    ratios[55:] = 0.1
    eyes = mouths.eye_aspect_ratio(face(np.zeros(75), eyes=ratios))
    np.testing.assert_allclose(eyes, ratios, atol=1e-4)
    assert mouths.blinks(eyes) == 2


def test_a_still_mouth_under_sound_is_frozen():
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 48000)).astype(np.float32)
    still = mouths.mouth(face(np.full(75, 0.03)), sound, 16000, FPS)
    moving = mouths.mouth(face(0.03 + 0.03 * np.sin(np.arange(75))), sound, 16000, FPS)
    assert still.frozen and not moving.frozen
    assert still.mean_opening == pytest.approx(0.03, abs=1e-5)
    assert moving.articulation == pytest.approx(0.06, abs=0.005)
    silent = mouths.mouth(face(np.full(75, 0.03)), 0 * sound, 16000, FPS)
    assert not silent.frozen


def test_a_face_that_is_not_always_there_is_said():
    points = face(np.zeros(20))
    points[3] = np.nan
    with pytest.raises(Unscored, match="every frame"):
        mouths.mouth(points, np.zeros((1, 12800), np.float32), 16000, FPS)


def test_a_reference_that_cannot_be_tracked_costs_its_ratios_alone(monkeypatch):
    made = Subject(None, Path("real.mp4"))
    moving = face(0.03 + 0.02 * np.sin(np.arange(40)))
    sound = np.sin(np.arange(40 * 640) / 9, dtype=np.float32)[None]
    made._shared |= {tracking._landmarks: moving}
    monkeypatch.setattr(mouths, "own_sound", lambda subject: sound)
    values = mouths._values(made)
    assert values["spread"] > 0
    assert "no ratios to the reference" in values["notes"][0]
