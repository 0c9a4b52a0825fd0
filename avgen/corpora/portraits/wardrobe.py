"""What a person wears, in other colours, and glasses on a face without any.

Of a few hundred people ten women wear glasses and one man a green hat, and a network that makes
pictures of a caption makes them badly. Clothes and hats are cut out by their colours (`grabCut`:
Rother et al., "GrabCut: Interactive Foreground Extraction using Iterated Graph Cuts", 2004) and
coloured anew, lit as they were; glasses are drawn in the head's own axes.
"""

from __future__ import annotations

import cv2
import numpy as np

from avgen.corpora.portraits.basis import CHIN, EYES, LOWER_LIDS, OVAL
from avgen.corpora.portraits.faces import Face

# What people call a colour, in CIE L*a*b*.
COLOURS = {
    "black": (16, 0, 0), "white": (88, 0, 1), "grey": (52, 0, 0), "blue": (42, 4, -38),
    "navy": (20, 4, -20), "brown": (35, 14, 20), "green": (45, -32, 22), "beige": (75, 3, 14),
    "red": (42, 54, 32), "yellow": (78, 2, 62), "pink": (70, 34, 2), "orange": (62, 38, 52),
    "purple": (36, 34, -34),
}  # fmt: skip
FRAMES = {"plastic": ((22, 22, 25), (24, 27, 48), (62, 40, 28), (105, 68, 42), (120, 30, 34)),
          "metal": ((150, 112, 60), (112, 114, 122), (46, 46, 50), (140, 85, 66))}  # fmt: skip
GAINS = (0.25, 2.6)  # of lightness: a shirt that is black has no folds to show in white
OWN = 0.35  # of how colours differ within what is worn
LIKE_SKIN = np.array((50.0, 14.0, 14.0))  # OpenCV's L*a*b* from the face's median that is skin yet
FEW = 30  # pixels, of every second each way: less is not cut out
TEMPLES = (127, 356)  # landmarks where the arms of glasses end, left and right in the picture


def clothes_of(picture: np.ndarray, face: Face, person: np.ndarray) -> np.ndarray | None:
    """Where a person's clothes are, bool [H, W]; None where too little of them is seen.

    Args:
        picture: uint8 [H, W, 3].
        face: In it.
        person: How much of each pixel is the person, float32 [H, W], 0 to 1.
    """
    height, oval = _above(face, CHIN, person.shape), _oval(face, person.shape)
    skin = _like_skin(picture, oval)
    sure = (height < -0.55) & (person > 0.8) & ~skin
    perhaps = (height < -0.12) & (person > 0.5) & ~skin
    never = (person < 0.3) | oval | (height > -0.02) | (skin & (height > -0.35))
    return _cut_out(picture, sure, perhaps, never)


def headwear_of(picture: np.ndarray, face: Face, person: np.ndarray) -> np.ndarray | None:
    """Likewise where a hat is, of someone who wears one."""
    top, oval = _above(face, OVAL[0], person.shape), _oval(face, person.shape)
    sure = (top > 0.12) & (person > 0.8)
    perhaps = (top > -0.15) & (person > 0.5) & ~oval
    brows = _above(face, (105, 334), person.shape)
    never = (person < 0.3) | (oval & (top < -0.1)) | (brows < 0.05)
    return _cut_out(picture, sure, perhaps, never)


def recoloured(picture: np.ndarray, worn: np.ndarray, colour: str) -> np.ndarray:
    """A picture in which what is worn has another colour of `COLOURS`, its folds and light kept.

    Args:
        picture: uint8 [H, W, 3].
        worn: Where it is, bool [H, W].
        colour: Its new one.
    """
    lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    mean, (target, *hue) = lab[worn].mean(0), COLOURS[colour]
    light = np.clip((lab[..., :1] + 4) * np.clip((target + 4) / (mean[0] + 4), *GAINS) - 4, 0, 100)
    depth = np.clip(light / max(target, 10), 0.3, 1.3)  # what is in the dark has less of a colour
    lab = np.concatenate([light, np.array(hue) * depth + (lab[..., 1:] - mean[1:]) * OWN], -1)
    made = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB).clip(0, 1) * 255
    share = cv2.GaussianBlur(worn.astype(np.float32), (0, 0), 1.5)[..., None]
    return (picture + (made - picture) * share + 0.5).clip(0, 255).astype(np.uint8)


def with_glasses(picture: np.ndarray, face: Face, rng: np.random.Generator) -> np.ndarray:
    """A picture uint8 [H, W, 3] of someone who wears glasses now, of a form that is drawn."""
    unit, size = face.unit, picture.shape[:2]
    kind = "metal" if rng.random() < 0.4 else "plastic"
    colour = np.array(FRAMES[kind][int(rng.integers(len(FRAMES[kind])))], np.float32)
    thick = unit * (rng.uniform(0.016, 0.026) if kind == "metal" else rng.uniform(0.028, 0.055))
    half = unit * rng.uniform(0.23, 0.285)
    tall, corners = half * rng.uniform(0.7, 0.95), rng.uniform(2.0, 5.0)
    turn = np.linspace(0, 2 * np.pi, 49)
    across, up = (np.sign(f(turn)) * np.abs(f(turn)) ** (2 / corners) for f in (np.cos, np.sin))
    sides, rims = np.array(face.points[[EYES[0][0], EYES[1][0]], 0]), []
    for eye in np.argsort(sides):  # the one at the left of the picture first
        lids = face.points[[*EYES[eye], *LOWER_LIDS[eye]], :2].mean(0)
        rims.append(lids + _flat(face, half * across, tall * (up - 0.12)))
    middle, temples = len(turn) // 2, face.points[list(TEMPLES), :2]
    temples = temples[np.argsort(temples[:, 0])]
    ends = rims[0][0], rims[1][middle]
    arch = (ends[0] + ends[1]) / 2 + _flat(face, np.zeros(1), np.full(1, 0.16 * tall))[0]
    lines = [*rims, np.array([ends[0], arch, ends[1]])]
    lines += [np.array([rims[0][middle - 4], temples[0]]), np.array([rims[1][4], temples[1]])]
    drawn, glass = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    for line in lines:
        points = [np.round(line * 16).astype(np.int32)]
        cv2.polylines(drawn, points, False, 255, max(1, round(thick)), cv2.LINE_AA, shift=4)
    cv2.fillPoly(glass, [np.round(rim).astype(np.int32) for rim in rims], 255)
    frame = cv2.GaussianBlur(drawn, (0, 0), 0.6).astype(np.float32)[..., None] / 255
    fallen = np.roll(drawn, max(1, round(0.03 * unit)), 0).astype(np.float32) / 255
    shadow = cv2.GaussianBlur(fallen, (0, 0), 0.02 * unit)[..., None]
    shine = rng.uniform(0, 0.1) * glass.astype(np.float32)[..., None] / 255
    light = picture.mean() / 128  # of the scene
    lit = picture * (1 - 0.3 * shadow)
    lit += (230 * light - lit) * shine
    return (lit + (colour * light - lit) * frame + 0.5).clip(0, 255).astype(np.uint8)


def _flat(face: Face, right: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Ways in the plane of a face, as ways in the picture: [N, 2]."""
    ways = np.stack([right, up, np.zeros(len(right))], 1) @ face.rotation.T
    return ways[:, :2] * (1, -1)


def _above(face: Face, mark: int | tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    """How far each pixel is above a landmark, in distances of the eyes: float32 [H, W]."""
    points = face.points[:, :2]
    up = points[[EYES[0][0], EYES[1][0]]].mean(0) - points[CHIN]
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    at = points[np.atleast_1d(mark)].mean(0)
    return (np.stack([x, y], -1) - at) @ up / np.linalg.norm(up) / face.unit


def _oval(face: Face, size: tuple[int, ...]) -> np.ndarray:
    """Which pixels are of the face itself: bool [H, W]."""
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [np.round(face.points[list(OVAL), :2]).astype(np.int32)], 1)
    return mask > 0


def _like_skin(picture: np.ndarray, oval: np.ndarray) -> np.ndarray:
    """Which pixels have colours of the face: bool [H, W]."""
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32)
    away = (lab - np.median(lab[oval], 0)) / LIKE_SKIN
    return (away**2).sum(-1) < 1


def _cut_out(
    picture: np.ndarray, sure: np.ndarray, perhaps: np.ndarray, never: np.ndarray
) -> np.ndarray | None:
    """Where something is: bool [H, W]; None where less than a few pixels are sure."""
    mask = np.full(picture.shape[:2], cv2.GC_PR_BGD, np.uint8)
    mask[perhaps], mask[sure], mask[never] = cv2.GC_PR_FGD, cv2.GC_FGD, cv2.GC_BGD
    half = np.ascontiguousarray(mask[::2, ::2])  # a quarter of the time
    if np.sum(half == cv2.GC_FGD) < FEW or np.sum(half == cv2.GC_BGD) < FEW:
        return None
    seen = cv2.resize(picture, half.shape[::-1], interpolation=cv2.INTER_AREA)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(seen, half, None, *models, 3, cv2.GC_INIT_WITH_MASK)  # pyright: ignore
    found = np.isin(half, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    return cv2.resize(found, mask.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0
