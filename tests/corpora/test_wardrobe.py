"""What is worn: where it is, in which colour, and glasses where the eyes are."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from avgen.corpora.portraits.basis import CHIN, EYES, OVAL
from avgen.corpora.portraits.faces import Face
from avgen.corpora.portraits.wardrobe import (
    COLOURS,
    clothes_of,
    headwear_of,
    recoloured,
    with_glasses,
)
from tests.corpora.test_between import SIDE, face_of

SKIN, SHIRT, HAT, GROUND = (205, 160, 135), (60, 90, 150), (40, 110, 60), (190, 190, 180)


@pytest.fixture(scope="module")
def someone() -> tuple[np.ndarray, Face, np.ndarray, np.ndarray, np.ndarray]:
    """A picture, its face, the person's share, and where shirt and hat are."""
    face = face_of(66.0)
    picture = np.full((SIDE, SIDE, 3), GROUND, np.uint8)
    chin, top = face.points[CHIN, :2], face.points[OVAL[0], :2]
    shirt, hat = (np.zeros((SIDE, SIDE), np.uint8) for _ in range(2))
    cv2.ellipse(shirt, (round(chin[0]), SIDE), (95, SIDE - round(chin[1]) - 12), 0, 0, 360, 1, -1)
    cv2.rectangle(
        hat, (round(top[0]) - 45, round(top[1]) - 38), (round(top[0]) + 45, round(top[1])), 1, -1
    )
    neck = (
        np.array([[chin[0] - 22, chin[1] - 20], [chin[0] + 22, chin[1] + 30]]).round().astype(int)
    )
    cv2.rectangle(picture, tuple(neck[0]), tuple(neck[1]), SKIN, -1)
    picture[shirt > 0] = SHIRT
    cv2.fillPoly(picture, [face.points[list(OVAL), :2].round().astype(np.int32)], SKIN)
    picture[hat > 0] = HAT
    person = (np.abs(picture.astype(int) - GROUND).sum(-1) > 0).astype(np.float32)
    noise = np.random.default_rng(2).normal(0, 5, picture.shape)
    return (picture + noise).clip(0, 255).astype(np.uint8), face, person, shirt > 0, hat > 0


@pytest.mark.parametrize("what", ["clothes", "headwear"])
def test_what_is_worn_is_cut_out(someone, what):
    picture, face, person, shirt, hat = someone
    found, there = {
        "clothes": (clothes_of(picture, face, person), shirt),
        "headwear": (headwear_of(picture, face, person), hat),
    }[what]
    assert found is not None
    assert (found & there).sum() / (found | there).sum() > 0.88


def test_what_is_hardly_seen_is_not_cut_out(someone):
    picture, face, person, *_ = someone
    low = replace(face, points=face.points + np.array((0, 100, 0)))  # the shirt is below the border
    assert clothes_of(picture, low, person) is None
    assert (
        headwear_of(picture, replace(face, points=face.points - np.array((0, 90, 0))), person)
        is None
    )


@pytest.mark.parametrize("colour", ["green", "red", "beige", "navy"])
def test_another_colour_and_the_same_folds(colour):
    y, x = np.mgrid[:60, :70]
    worn = (x > 20) & (y > 15)
    folds = (8 * np.sin(x / 4))[..., None]
    picture = (np.array((110, 115, 125)) + folds).round().astype(np.uint8)
    made = recoloured(picture, worn, colour)
    inside, outside = worn & (x > 26) & (y > 21), (x < 14) | (y < 9)
    assert np.array_equal(made[outside], picture[outside])
    lab = cv2.cvtColor(made.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[inside]
    np.testing.assert_allclose(lab.mean(0), COLOURS[colour], atol=5)
    light = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY)[inside].astype(float) for p in (picture, made)]
    assert np.corrcoef(*light)[0, 1] > 0.98


def test_black_does_not_turn_white():
    """There are no folds to show in it: it becomes as light as they allow."""
    picture = np.full((40, 50, 3), 24, np.uint8)
    made = recoloured(picture, np.ones((40, 50), bool), "white")
    assert 40 < made.mean() < 90


@pytest.mark.parametrize("roll", [0.0, 9.0])
def test_glasses_are_around_the_eyes(roll):
    face = face_of(84.0, roll=roll)
    turn = np.radians(-roll)  # the picture's y runs down, the head's up
    rotation = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    face = replace(face, rotation=rotation)
    picture = np.full((SIDE, SIDE, 3), 170, np.uint8)
    rng = np.random.default_rng(11)
    for _ in range(6):
        made = with_glasses(picture, face, rng)
        frame = np.abs(made.astype(int) - 170).max(-1) > 20
        middles = np.array([face.points[[one[0], one[-1]], :2].mean(0) for one in EYES])
        y, x = np.mgrid[:SIDE, :SIDE]
        far = np.hypot(*(np.stack([x, y]) - middles.mean(0)[:, None, None]))
        assert frame.sum() > 200 and far[frame].max() < 0.9 * face.unit
        for middle in middles:  # an eye is seen through them, and there is a rim around it
            near = np.hypot(*(np.stack([x, y]) - middle[:, None, None]))
            assert not frame[near < 0.07 * face.unit].any()
            around = frame[(near > 0.12 * face.unit) & (near < 0.34 * face.unit)]
            assert around.mean() > 0.08
        across = np.argwhere(frame)[:, ::-1] - middles.mean(0)
        axis = np.linalg.svd(across - across.mean(0), full_matrices=False)[2][0]
        assert abs(np.degrees(np.arctan(axis[1] / axis[0])) - roll) < 2.5


def test_glasses_turn_with_the_head():
    """Those of a head that leans are those of one that does not, turned."""
    drawn, middle = [], (SIDE / 2, SIDE / 2 - 30)
    for roll in (0.0, 14.0):
        turn = cv2.getRotationMatrix2D((0, 0), -roll, 1.0)[:, :2]  # of the picture, clockwise
        rotation = np.eye(3)
        rotation[:2, :2] = turn.T  # of axes whose y runs up
        face = replace(face_of(84.0, middle, roll), rotation=rotation)
        picture = np.full((SIDE, SIDE, 3), 170, np.uint8)
        drawn.append(with_glasses(picture, face, np.random.default_rng(3)))
    matrix = cv2.getRotationMatrix2D(middle, -14.0, 1.0)
    turned = cv2.warpAffine(drawn[0], matrix, (SIDE, SIDE), borderValue=(170, 170, 170))
    one, other = (np.abs(made.astype(int) - 170).max(-1) > 40 for made in (turned, drawn[1]))
    assert (one & other).sum() / (one | other).sum() > 0.8
