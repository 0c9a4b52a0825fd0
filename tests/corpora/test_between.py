"""People between people: whose face is seen where, in whose light, and before what."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from avgen.corpora.portraits.animation import Scene
from avgen.corpora.portraits.basis import INNER_LIPS, load_basis
from avgen.corpora.portraits.between import can_mix, mix, set_before, without_person
from avgen.corpora.portraits.faces import Face
from avgen.corpora.portraits.heads import Portrait
from avgen.corpora.portraits.interior import draw_look
from avgen.preparation.store import Store

SIDE = 256
CHEEK = 205  # a landmark
ONE = {"kind": "woman", "age": "old", "beard": "none", "glasses": False, "skin": "tan"}


def face_of(unit=84.0, middle=(SIDE / 2, SIDE / 2 - 30), roll=0.0) -> Face:
    points = load_basis().neutral.astype(np.float64) * unit
    turn = np.radians(roll)
    flat = (points[:, 0] + 1j * points[:, 1]) * np.exp(1j * turn)
    points[:, 0], points[:, 1] = flat.real + middle[0], flat.imag + middle[1]
    return Face(points, np.eye(3))


def scene_of(picture: np.ndarray, face: Face) -> Scene:
    look = draw_look(np.random.default_rng(0), np.full(3, 200.0), 0.0)
    return Scene(picture, face, (0.0, 0.0), picture.shape[:2], look)


def dotted(face: Face, mark: int, colour, ground=(90, 110, 130)) -> np.ndarray:
    """A picture with a dot at one landmark."""
    picture = np.full((SIDE, SIDE, 3), ground, np.uint8)
    middle = tuple(int(v) for v in np.round(face.points[mark, :2]))
    return cv2.circle(picture, middle, 5, colour, -1)


def dot(picture: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """The middle of what differs from a picture's ground: x, y."""
    away = np.abs(picture.astype(int) - ground).sum(-1) > 40
    return np.argwhere(away).mean(0)[::-1]


def test_nothing_of_the_other_is_the_picture_itself():
    rng = np.random.default_rng(4)
    picture = cv2.GaussianBlur(rng.uniform(0, 255, (SIDE, SIDE, 3)).astype(np.float32), (0, 0), 4)
    picture = ((picture - picture.mean()) * 5 + 120).clip(0, 255).astype(np.uint8)
    one, other = scene_of(picture, face_of()), scene_of(picture[::-1].copy(), face_of(70))
    same, face = mix(one, other, 0.0, 0.0)
    assert np.abs(same.astype(int) - picture).mean() < 1.5  # it is sampled anew
    assert np.array_equal(face.points, one.face.points)


@pytest.mark.parametrize("share", [0.4, 1.0])
def test_a_share_of_the_other_is_seen_in_the_face_alone(share):
    one, other = face_of(), face_of(66.0, (110.0, 96.0), roll=7.0)
    plain = np.full((SIDE, SIDE, 3), (90, 110, 130), np.uint8)
    marked = dotted(other, CHEEK, (230, 210, 190))
    made, _ = mix(scene_of(plain, one), scene_of(marked, other), 0.0, share)
    np.testing.assert_allclose(dot(made, plain), one.points[CHEEK, :2], atol=1.5)
    x, y = np.round(one.points[CHEEK, :2]).astype(int)
    whole, _ = mix(scene_of(plain, one), scene_of(marked, other), 0.0, 1.0)
    rise = (made[y, x].astype(float) - plain[y, x]) / (whole[y, x].astype(float) - plain[y, x])
    np.testing.assert_allclose(rise, share, atol=0.02)
    border = np.ones((SIDE, SIDE), bool)
    border[30:230, 30:230] = False
    assert (np.abs(made.astype(int) - plain)[border] <= 1).all()


def test_light_and_skin_stay_those_of_the_head():
    face = face_of()
    bright, dark = (np.full((SIDE, SIDE, 3), level, np.uint8) for level in (170, 100))
    made, _ = mix(scene_of(bright, face), scene_of(dark, face), 0.0, 1.0)
    assert np.abs(made.astype(int) - 170).max() <= 2


def test_landmarks_go_as_far_as_they_are_told():
    one = face_of()
    middle = one.points[:468, :2].mean(0)
    wide = one.points.copy()
    wide[:, 0] = middle[0] + 1.5 * (wide[:, 0] - middle[0])
    other = replace(one, points=wide)
    picture = dotted(one, CHEEK, (20, 30, 40))
    ground = np.full_like(picture, (90, 110, 130))
    at = [
        dot(mix(scene_of(picture, one), scene_of(ground, other), shape, 0.0)[0], ground)
        for shape in (0.0, 0.5, 1.0)
    ]
    _, face = mix(scene_of(picture, one), scene_of(ground, other), 0.3, 0.0)
    np.testing.assert_allclose(face.points[CHEEK, :2], at[0] + 0.3 * (at[2] - at[0]), atol=0.7)
    moved = at[2] - at[0]
    assert np.linalg.norm(moved) > 4
    np.testing.assert_allclose(at[1] - at[0], moved / 2, atol=0.7)


def test_who_can_be_mixed():
    assert can_mix(ONE, ONE | {"skin": "light", "hair": "red", "clothes": "blue"})
    assert can_mix(ONE, {k: v for k, v in ONE.items() if k != "skin"})
    for key, value in (
        *(("kind", "man"), ("age", "young"), ("beard", "stubble"), ("glasses", True)),
        ("skin", "pale"),
    ):
        assert not can_mix(ONE, ONE | {key: value}), key


def test_a_person_before_another_background():
    rng = np.random.default_rng(6)
    picture, place = rng.integers(0, 256, (2, 40, 50, 3)).astype(np.uint8)
    person = np.full((40, 50), 0.2, np.float32)
    person[10:30, 10:30], person[10:30, 30] = 0.95, 0.625
    made = set_before(picture, person, place)
    assert np.array_equal(made[10:30, 10:30], picture[10:30, 10:30])
    assert np.array_equal(made[:10], place[:10])
    middle = (picture[10:30, 30].astype(float) + place[10:30, 30]) / 2
    np.testing.assert_allclose(made[10:30, 30], middle, atol=1)


def test_the_background_without_its_person():
    person = np.zeros((120, 90), np.float32)
    person[50:, 25:65] = 1
    picture = np.full((120, 90, 3), (40, 120, 200), np.uint8)
    picture[50:, 25:65] = (250, 10, 10)
    filled = without_person(picture, person)
    assert np.array_equal(filled[:40], picture[:40])  # what is seen stays
    away = np.abs(filled.astype(int) - (40, 120, 200))
    assert away.max() < 12


@pytest.mark.parametrize("apart", [0.0, 0.1])
def test_nothing_is_seen_of_a_face_whose_mouth_is_open(tmp_path, apart):
    """A dot on its cheek is gone in every mixture; of one whose lips meet it is seen in some."""
    path = Path(__file__).parents[2] / "recipes/people/between.py"
    spec = importlib.util.spec_from_file_location("recipes_people_between", path)
    recipe = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = recipe  # as its dataclasses want it
    spec.loader.exec_module(recipe)
    store = Store(tmp_path)
    store.make()
    one, other = face_of(), face_of()
    one.points[list(INNER_LIPS[1][1:-1]), 1] += apart * one.unit
    plain = np.full((SIDE, SIDE, 3), (90, 110, 130), np.uint8)
    portraits = [Portrait(Path(f"{name}.png"), name, ONE) for name in ("a", "b")]
    people = np.ones((SIDE, SIDE), np.float32)
    seen = [
        recipe.Seen(portrait, picture, face, people, {})
        for portrait, picture, face in zip(
            portraits, (dotted(one, CHEEK, (250, 240, 230)), plain), (one, other), strict=True
        )
    ]
    job = recipe.Job(tmp_path, portraits, np.ones(2) / 2, Path("x"), None, range(1), [], 0)
    spread = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        records = recipe.made(store, str(seed), *seen, recipe.People(None, None), job, rng)
        for record in records:
            shown = np.load(tmp_path / record.media)[0, 20:108, 20:108].astype(float)
            spread.append(shown.max() - shown.min())
    assert len(spread) == 12
    assert (max(spread) < 90) == (apart > 0), spread
