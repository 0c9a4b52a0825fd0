"""A picture and its face in, the scene that is shown of it out: crop, colours, light, mouth.

The crop puts a mouth of about 27 pixels into a picture of 128, which leaves room for hair or a hat
above and for the collar below.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from avgen.corpora.portraits.animation import OVERSAMPLE, Scene
from avgen.corpora.portraits.basis import EYES, LOWER_LIDS
from avgen.corpora.portraits.faces import Face, room_around
from avgen.corpora.portraits.interior import draw_look
from avgen.errors import UserError

SIDE = (2.6, 3.1)  # of the crop, in distances of the outer corners of the eyes
LEAST_SIDE = 2.2
RAISE = 0.17  # how far the crop's middle lies above the face's
OFF_CENTRE = 0.45  # at most, where the picture's border pushes the crop
MARGIN = 0.15  # of the crop's side, beyond it on every side, for what moves in
CHEEKS = ((50, 187, 205), (280, 411, 425))  # landmarks left and right in the picture


def frame_scene(
    picture: np.ndarray, face: Face, rng: np.random.Generator, size: tuple[int, int], age: str = ""
) -> Scene:
    """Cut, light and colour a picture.

    Args:
        picture: uint8 [H, W, 3], RGB.
        face: In its pixels.
        rng: Decides all that varies.
        size: Height and width of the frames that will be made.
        age: "young", "middle-aged" or "old", for the teeth.

    Raises:
        UserError: the picture ends too near to the head.
    """
    left, top, side = _crop(face, picture.shape[:2], rng)
    scale = OVERSAMPLE * min(size) / side
    shown = (OVERSAMPLE * size[0], OVERSAMPLE * size[1])
    left, top = left - (shown[1] / scale - side) / 2, top - (shown[0] / scale - side) / 2
    pad = round(MARGIN * min(shown))
    matrix = np.array(
        [
            [scale, 0, pad - left * scale + (scale - 1) / 2],
            [0, scale, pad - top * scale + (scale - 1) / 2],
        ]
    )
    if scale < 0.75:  # against aliasing
        picture = cv2.GaussianBlur(picture, (0, 0), 0.45 / scale)
    canvas = cv2.warpAffine(
        picture,
        matrix,
        (shown[1] + 2 * pad, shown[0] + 2 * pad),
        flags=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    points = face.points * scale
    points[:, :2] += matrix[:, 2] - pad
    here = replace(face, points=points)
    canvas = relight(canvas, rng)
    light, slant = light_on(canvas, here, pad)
    return Scene(canvas, here, (pad, pad), shown, draw_look(rng, light, slant, age))


def _crop(
    face: Face, size: tuple[int, int], rng: np.random.Generator
) -> tuple[float, float, float]:
    """Left, top and side of the crop in pixels of the picture, inside it."""
    room = room_around(face, size)
    largest = min(room[0] + room[2], room[1] + room[3])
    side = min(rng.uniform(*SIDE), largest)
    if side < LEAST_SIDE:
        raise UserError(
            f"head at the border: a square of {largest:.2f} distances of the eyes fits; "
            f"at least {LEAST_SIDE} is needed"
        )
    wanted = np.array([rng.uniform(-0.07, 0.07), -RAISE + rng.uniform(-0.06, 0.06)])
    placed = np.clip(wanted, side / 2 - room[:2], room[2:] - side / 2)
    if np.abs(placed - wanted).max() > OFF_CENTRE:
        raise UserError("head at the border: it cannot be put into the middle of a crop")
    left, top = face.middle + (placed - side / 2) * face.unit
    return float(left), float(top), side * face.unit


def relight(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another exposure, warmth, saturation and a light from a side."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.16)
    side = 1 + strength * (x * np.cos(angle) + y * np.sin(angle))
    colours = picture.astype(np.float32) / 255
    grey = colours.mean(2, keepdims=True)
    colours = grey + (colours - grey) * rng.uniform(0.85, 1.12)
    warmth = rng.normal(0, 0.03)
    gains = np.array([1 + warmth, 1.0, 1 - warmth]) * rng.uniform(0.88, 1.1)
    colours = np.clip(colours, 0, 1) ** rng.uniform(0.9, 1.12) * gains * side[..., None]
    return (colours * 255 + 0.5).clip(0, 255).astype(np.uint8)


def light_on(picture: np.ndarray, face: Face, margin: int) -> tuple[np.ndarray, float]:
    """What white looks like in a face's light, RGB [3], and how much brighter it is at the right.

    Measured at the whites of the eyes, which are about three quarters as bright as white.
    """
    pixels = []
    for above, under in zip(EYES, LOWER_LIDS, strict=True):
        lids = np.round(face.points[[*above, *under[-2:0:-1]], :2] + margin).astype(np.int32)
        mask = np.zeros(picture.shape[:2], np.uint8)
        cv2.fillPoly(mask, [lids], 1)
        pixels.append(picture[mask > 0])
    found = np.concatenate(pixels).astype(np.float64)
    if len(found) < 20:
        found = np.full((20, 3), 150.0)
    luma = found.mean(1)
    whites = found[luma >= np.quantile(luma, 0.75)].mean(0)
    white = whites / 0.75
    level = np.clip(white.mean(), 95, 235)
    tint = white / white.mean()
    tint = 1 + (tint - 1) * 0.6  # eyes are redder than the light
    left, right = (
        np.mean([picture[tuple(_pixel(face.points[i], margin, picture))] for i in side]) + 10
        for side in CHEEKS
    )
    return tint * level, float(np.clip((right - left) / (right + left), -0.4, 0.4))


def _pixel(point: np.ndarray, margin: int, picture: np.ndarray) -> tuple[int, int]:
    height, width = picture.shape[:2]
    x, y = np.round(point[:2] + margin).astype(int)
    return int(np.clip(y, 0, height - 1)), int(np.clip(x, 0, width - 1))
