"""Faces are found, told apart, and where nobody can say which one speaks, that is said."""

import os
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from avgen.clips import read_clip
from avgen.evaluation.faces.tracking import (
    CascadeTracker,
    LandmarkTracker,
    Track,
    landmark_box,
    the_face,
    the_speaker,
)
from avgen.evaluation.subject import Unscored
from puppets.drawing import Pose, draw
from puppets.mouth import Mouth
from puppets.person import draw_puppet

CLIPS = Path(os.environ.get("AVGEN_CLIPS", "../shared/clips"))
OTHERS = CLIPS / "grid/others"
LANDMARKS = CLIPS.parent / "models/face_landmarker.task"
needs_clips = pytest.mark.skipif(not OTHERS.is_dir(), reason=f"no clips at {OTHERS}")


def track(length=50, side=100.0, seen=None, left=0.0):
    boxes = np.tile([left, 10.0, side, side], (length, 1))
    if seen is not None:
        boxes[~seen] = np.nan
    return Track(boxes)


def read(name, num_frames=25):
    clip = read_clip(OTHERS / f"{name}.mpg", fps=Fraction(25), sample_rate=16000, num_channels=1)
    return clip.frames[:num_frames]


def test_no_face_is_said():
    assert CascadeTracker()(np.full((6, 120, 160, 3), 128, np.uint8)) == []
    with pytest.raises(Unscored, match="no face was found"):
        the_face([])


def test_one_face_stays_as_it_is():
    only = track()
    assert the_face([only]) is only


def test_two_faces_are_not_guessed_between():
    with pytest.raises(Unscored, match="2 faces were found"):
        the_face([track(), track(side=80.0, left=150.0)])


def test_a_small_face_behind_and_a_brief_one_do_not_rival():
    first = track()
    brief = track(seen=np.arange(50) < 20, left=150.0)
    assert the_face([first, track(side=50.0, left=150.0), brief]) is first


def test_the_speaker_keeps_gaps_and_is_not_guessed_either():
    """What protocols with rules of their own for gaps are given (LSE)."""
    seen = np.arange(50) < 30
    only = track(seen=seen)
    assert the_speaker([only]) is only
    assert np.array_equal(~np.isnan(only.boxes[:, 0]), seen)
    with pytest.raises(Unscored, match="2 faces were found"):
        the_speaker([track(), track(side=80.0, left=150.0)])
    with pytest.raises(Unscored, match="no face was found"):
        the_speaker([])


def test_a_face_that_leaves_is_said():
    with pytest.raises(Unscored, match="seen in 30 of 50 frames"):
        the_face([track(seen=np.arange(50) < 30)])


def test_a_short_gap_is_bridged():
    seen = np.ones(50, bool)
    seen[20:23] = False
    boxes = track(seen=seen).boxes + np.arange(50)[:, None]
    np.testing.assert_allclose(the_face([Track(boxes)]).boxes[21], np.array([21, 31, 121, 121]))


def test_landmarks_that_are_missing_for_a_while_are_bridged_too():
    """Boxes are carried over such a gap by who finds them."""
    points = np.tile(np.arange(50, dtype=np.float32)[:, None, None], (1, 478, 3))
    points[20:23] = np.nan
    one = Track(track().boxes, points)
    assert one.present.sum() == 47
    assert the_face([one]).landmarks[[19, 20, 22, 23], 7, 1].tolist() == [19, 20, 22, 23]


def test_a_box_is_put_around_landmarks_of_any_size():
    points = np.zeros((478, 3))
    points[10], points[152], points[[13, 14]] = (200, 100, 0), (200, 196, 0), (204, 170, 0)
    np.testing.assert_allclose(landmark_box(points), [154, 90, 100, 100])
    np.testing.assert_allclose(landmark_box(3 * points), [462, 270, 300, 300])


@needs_clips
def test_every_speaker_is_one_face_and_their_mouth_and_chin_are_no_second():
    for path in sorted(OTHERS.glob("*.mpg"))[-3:]:
        frames = read(path.stem)
        tracks = CascadeTracker()(frames)
        boxes = the_face(tracks).boxes
        assert boxes.shape == (25, 4)
        middle = boxes[:, :2] + boxes[:, 2:] / 2
        assert np.all(np.abs(middle - [180, 165]) < 35)
        assert np.abs(np.diff(middle, axis=0)).max() < 2  # of a head that keeps still


@needs_clips
def test_faces_side_by_side_are_two_and_one_that_leaves_is_one():
    one, other = read("brbk7n"), read("lbbc2a")
    both = np.concatenate([one, other], 2)
    tracks = CascadeTracker()(both)
    assert len(tracks) == 2
    assert {round(float(t.boxes[0, 0]) // 360) for t in tracks} == {0, 1}
    with pytest.raises(Unscored, match="2 faces"):
        the_face(tracks)
    gone = one.copy()
    gone[11:] = 90
    with pytest.raises(Unscored, match="seen in 11 of 25 frames"):
        the_face(CascadeTracker()(gone))


LEANS = np.repeat([0, 0, 0, 8, 16, 24, 32, 36, 36, 36, 32, 24, 16, 8, 0, 0, 0], 5)  # degrees


def leaning(angles, seed=0):
    """A drawn head that leans by so many degrees, one picture an angle: uint8 [T, 144, 180, 3]."""
    picture = draw(draw_puppet(seed), Mouth(), Pose(), (144, 180))
    turns = [cv2.getRotationMatrix2D((90, 72), float(angle), 1) for angle in angles]
    edge = cv2.BORDER_REPLICATE
    return np.stack([cv2.warpAffine(picture, turn, (180, 144), borderMode=edge) for turn in turns])


def test_a_face_that_the_cascade_loses_for_a_while_is_followed_by_its_pixels():
    """A head that leans far is no face to a frontal cascade, and still the one that was there."""
    frames = leaning(LEANS)
    assert CascadeTracker()(frames[30:55]) == []
    (track,) = CascadeTracker()(frames)
    assert the_face([track]) is track


def test_a_face_that_goes_and_one_that_comes_are_two():
    """In the same place, after as long: nothing in between says that they are one."""
    frames = leaning(LEANS)
    frames[30:55] = 120
    frames[55:] = leaning(LEANS[55:], seed=6)
    tracks = CascadeTracker()(frames)
    assert len(tracks) == 2
    with pytest.raises(Unscored, match="2 faces were found"):
        the_face(tracks)


def test_one_speaker_who_grimaces_is_one_face(clips_folder):
    """The cascade loses squeezed eyes for a second, and finds the same face again."""
    path = clips_folder / "odd/lipify_alphabet.mp4"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    clip = read_clip(path, fps=Fraction(25), sample_rate=16000, num_channels=1)
    boxes = the_face(CascadeTracker()(clip.frames)).boxes
    middle = boxes[:, :2] + boxes[:, 2:] / 2
    assert np.all(np.abs(middle - [545, 815]) < 100)  # of 1080x1920


@needs_clips
def test_a_large_picture_has_the_same_box():
    frame = read("brbk7n", 1)
    small = the_face(CascadeTracker()(frame)).boxes
    large = the_face(CascadeTracker()(frame.repeat(4, 1).repeat(4, 2))).boxes
    np.testing.assert_allclose(large / 4, small, atol=0.06 * small[0, 2])


@needs_clips
@pytest.mark.skipif(not LANDMARKS.is_file(), reason=f"no {LANDMARKS}")
def test_landmarks_lie_where_the_cascade_says():
    pytest.importorskip("mediapipe")
    frames = read("brbk7n", 6)
    points = LandmarkTracker(LANDMARKS)(frames)
    boxes = the_face(points).boxes
    expected = the_face(CascadeTracker()(frames)).boxes
    assert points[0].landmarks.shape == (6, 478, 3)
    np.testing.assert_allclose(boxes, expected, atol=0.15 * expected[0, 2])


def test_a_missing_landmark_model_is_named():
    with pytest.raises(ValueError, match=r"nowhere\.task: not found"):
        LandmarkTracker(Path("nowhere.task"))
