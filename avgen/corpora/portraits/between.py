"""Two portraits in, the picture of a person between both out.

A few hundred people are soon known by heart by a network that makes pictures, and what it knows by
heart is all that it makes. Here the face of one person is brought into the head of another: the
landmarks of both are mixed, both pictures are warped to them, and the face is taken of both. Hair,
clothes, background, light and the colour of the skin stay those of the first, so that what is said
of these stays true; of sex, age, beard and glasses both must have the same (`can_mix`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from avgen.corpora.portraits.animation import (
    Scene,
    far_first,
    mesh_map,
    mesh_triangles,
    taken_from,
)
from avgen.corpora.portraits.basis import CHIN, EYES, OVAL
from avgen.corpora.portraits.deformation import resting_rings
from avgen.corpora.portraits.faces import Face

SAME = ("kind", "age", "beard", "glasses")  # of what a table says, what both must have alike
SKINS = ("pale", "light", "tan", "brown", "dark")  # neighbours can be mixed
MAX_TURN = 12.0  # degrees, of yaw and pitch, between both heads
RINGS_FOLLOW = (0.85, 0.6, 0.25, 0.0, 0.0)  # of how the outline changes, from within
INSET = 0.9  # of the outline, within which the face is taken of both
FOREHEAD = 0.45  # of the way from the brows to the top of the outline, where that ends
HALO = (0.35, 0.9)  # of the person's share: below it is background, above it is person
COARSE = 4  # pixels to one, where what nobody sees is guessed
FEATHER, LIGHT = 0.09, 0.3  # in units: of the mask's edge, and of what counts as light


def can_mix(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a picture between two people is of someone that the first one's row describes."""
    if any(one.get(key) != other.get(key) for key in SAME):
        return False
    skins = [SKINS.index(about["skin"]) for about in (one, other) if about.get("skin") in SKINS]
    return len(skins) < 2 or abs(skins[0] - skins[1]) <= 1


def mix(one: Scene, other: Scene, shape: float, share: float) -> tuple[np.ndarray, Face]:
    """A picture between two scenes, of the size that is shown, uint8 [H, W, 3], and its face.

    Args:
        one: Whose head it is.
        other: Whose face goes into it.
        shape: How far landmarks go from those of the first to those of the other, 0 to 1.
        share: How much is seen of the other's face, 0 to 1.
    """
    face = replace(one.face, points=_mixed_points(one.face, other.face, shape))
    change = (face.points - one.face.points)[list(OVAL), :2]
    rings = resting_rings(one.face)[:, :2].reshape(len(RINGS_FOLLOW), -1, 2)
    rings = (rings + np.array(RINGS_FOLLOW)[:, None, None] * change).reshape(-1, 2)
    target = np.concatenate([face.points[:468, :2], rings])
    corners = mesh_triangles()
    corners = corners[far_first(face.points, corners)]
    seen = []
    for scene in (one, other):
        source = np.concatenate([scene.face.points[:468, :2], resting_rings(scene.face)[:, :2]])
        maps = mesh_map(source + scene.margin, target, corners, one.size)
        seen.append(taken_from(scene.picture, maps).astype(np.float32))
    mask = _mask(face, one.size)
    lit = _in_the_light_of(seen[1], seen[0], mask, LIGHT * face.unit)
    mixed = seen[0] + (lit - seen[0]) * (share * mask)[..., None]
    return (mixed + 0.5).clip(0, 255).astype(np.uint8), face


def set_before(picture: np.ndarray, person: np.ndarray, place: np.ndarray) -> np.ndarray:
    """A person before another background: uint8 [H, W, 3].

    Args:
        picture: Of the person, uint8 [H, W, 3].
        person: How much of each pixel is the person: float32 [H, W], 0 to 1.
        place: What is to be seen behind, uint8 [H, W, 3].
    """
    share = np.clip((person - HALO[0]) / (HALO[1] - HALO[0]), 0, 1)[..., None]
    return (place + (picture.astype(np.float32) - place) * share + 0.5).astype(np.uint8)


def without_person(picture: np.ndarray, person: np.ndarray) -> np.ndarray:
    """A picture's background, where the person was what is around, smoothed: uint8 [H, W, 3]."""
    around = 1 - cv2.dilate(person, np.ones((9, 9), np.uint8))
    size = picture.shape[1::-1]
    small = (max(8, size[0] // COARSE), max(8, size[1] // COARSE))
    there = cv2.resize(around, small, interpolation=cv2.INTER_AREA)[..., None]
    seen = cv2.resize(picture * around[..., None], small, interpolation=cv2.INTER_AREA)
    guess = np.full_like(seen, picture.mean())
    for sigma in (max(small) / 3, max(small) / 8, max(small) / 25):  # as far as each reaches
        weight = cv2.GaussianBlur(there, (0, 0), sigma)[..., None]
        near = cv2.GaussianBlur(seen, (0, 0), sigma) / (weight + 1e-4)
        guess += (near - guess) * np.clip(weight * 4, 0, 1)
    guess = cv2.resize(guess, size, interpolation=cv2.INTER_CUBIC)
    return (guess + (picture - guess) * around[..., None] + 0.5).clip(0, 255).astype(np.uint8)


def _mixed_points(one: Face, other: Face, shape: float) -> np.ndarray:
    """Landmarks [478, 3] from those of one face towards another's, laid over it."""
    at, to = (face.points - face.points[:468].mean(0) for face in (other, one))
    turned = _complex(at[:468]).conj() @ _complex(to[:468])
    turn = turned / (np.abs(_complex(at[:468])) ** 2).sum()  # scale and roll in the least squares
    flat = _complex(at) * turn
    laid = np.stack([flat.real, flat.imag, at[:, 2] * np.abs(turn)], 1)
    return one.points + shape * (laid + one.points[:468].mean(0) - one.points)


def _complex(points: np.ndarray) -> np.ndarray:
    """Points [N, 3] as x + i y: [N]."""
    return points[:, 0] + 1j * points[:, 1]


def _mask(face: Face, size: tuple[int, int]) -> np.ndarray:
    """Where the face is taken of both: float32 [H, W], 1 inside, 0 from the hair on."""
    points = face.points[:, :2]
    outline = points[list(OVAL)]
    middle = outline.mean(0)
    mask = np.zeros(size, np.uint8)
    corners = np.round((middle + (outline - middle) * INSET) * 16).astype(np.int32)
    cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA, shift=4)
    brows = points[[105, 334]].mean(0)
    up = points[[EYES[0][0], EYES[1][0]]].mean(0) - points[CHIN]
    up = up / np.linalg.norm(up)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    height = (np.stack([x, y], -1) - brows) @ up / max(1.0, float((points[10] - brows) @ up))
    fade = np.clip(1 - height / FOREHEAD, 0, 1).astype(np.float32)
    return cv2.GaussianBlur(mask.astype(np.float32) / 255 * fade, (0, 0), FEATHER * face.unit)


def _in_the_light_of(
    picture: np.ndarray, light: np.ndarray, mask: np.ndarray, reach: float
) -> np.ndarray:
    """A picture with the coarse colours of another one, both float32 [H, W, 3]."""

    def coarse(of: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(of * mask[..., None] + 1e-3, (0, 0), reach)

    return picture * np.clip(coarse(light) / coarse(picture), 0.4, 2.5)
