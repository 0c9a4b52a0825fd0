"""A portrait and where its landmarks go in, frames out.

The picture is warped by a mesh: MediaPipe's triangles of the face and rings of points around it.
Eyes are holes in it, through which the eyeballs are seen as they are in the picture, so that lids
pass over them and irises turn; the mouth is a hole whose inside is painted. All is drawn at twice
the size and brought down.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from avgen.corpora.portraits.basis import (
    EYES,
    INNER_LIPS,
    IRISES,
    LOWER_LIDS,
    OVAL,
    load_basis,
)
from avgen.corpora.portraits.deformation import RINGS, Moved, resting_rings
from avgen.corpora.portraits.faces import Face
from avgen.corpora.portraits.interior import MouthLook, paint

OVERSAMPLE = 2
# MediaPipe's numbers of the upper lip's points, without the corners of the mouth: three rows.
UPPER_LIP = (
    *(11, 12, 13, 38, 41, 42, 72, 73, 74, 80, 81, 82, 183, 184, 191),
    *(268, 271, 272, 302, 303, 304, 310, 311, 312, 407, 408, 415),
)
LEAST_GAP = 0.004  # of the lips, in units: below it nothing is painted
_RING = len(OVAL)
_LIPS = np.array([*INNER_LIPS[0], *INNER_LIPS[1][-2:0:-1]])
_EYES = [np.array([*above, *under[-2:0:-1]]) for above, under in zip(EYES, LOWER_LIDS, strict=True)]


@dataclass(frozen=True)
class Scene:
    """A picture as it is animated.

    Attributes:
        picture: uint8 [H, W, 3], RGB, larger than what is shown by `margin` on every side.
        face: Its face, in pixels of what is shown.
        margin: Pixels of the picture beyond the left and upper border of what is shown.
        size: Height and width of what is shown.
        look: How the mouth is inside.
    """

    picture: np.ndarray
    face: Face
    margin: tuple[float, float]
    size: tuple[int, int]
    look: MouthLook


def animate(scene: Scene, moved: Moved, gaze: np.ndarray) -> np.ndarray:
    """Frames uint8 [T, H / OVERSAMPLE, W / OVERSAMPLE, 3] of a face that moves.

    Args:
        scene: What is moved.
        moved: Where to, from `deformation.deform` with the same face.
        gaze: How far the irises are turned, in units: [T, 2].
    """
    height, width = scene.size
    source = np.concatenate([scene.face.points[:468, :2], resting_rings(scene.face)[:, :2]])
    source = source + scene.margin
    triangles = mesh_triangles()
    frames = []
    for index in range(len(moved.points)):
        target = np.concatenate([moved.points[index, :468, :2], moved.rings[index]])
        order = far_first(moved.points[index], triangles)
        maps = mesh_map(source, target, triangles[order], scene.size)
        for eye in (0, 1):
            _look_through(scene, moved, maps, index, eye, gaze[index])
        frame = taken_from(scene.picture, maps)
        if moved.gap[index] > LEAST_GAP:
            _paint_mouth(scene, moved, frame, index)
        frames.append(
            cv2.resize(
                frame, (width // OVERSAMPLE, height // OVERSAMPLE), interpolation=cv2.INTER_AREA
            )
        )
    return np.stack(frames)


def mesh_triangles() -> np.ndarray:
    """Of the face, of the strips between its outline and the rings, and of its holes: [N, 3]."""
    around = [np.array(OVAL), *(468 + np.arange(_RING) + _RING * k for k in range(len(RINGS)))]
    strips = []
    for inner, outer in zip(around[:-1], around[1:], strict=True):
        further, beyond = np.roll(inner, -1), np.roll(outer, -1)
        strips += [np.stack([inner, further, outer], 1), np.stack([further, beyond, outer], 1)]
    for upper, lower in ((INNER_LIPS[0], INNER_LIPS[1]), *zip(EYES, LOWER_LIDS, strict=True)):
        above, below = np.array(upper), np.array(lower)
        strips += [np.stack([above[:-1], above[1:], below[1:]], 1)]
        strips += [np.stack([above[:-1], below[1:], below[:-1]], 1)]
    return np.concatenate([load_basis().triangles, *strips]).astype(np.int32)


def far_first(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The order to draw in: what is around the face, its triangles from far to near, upper lip.

    So the upper lip covers the lower one where they are pressed together.
    """
    num_face = len(load_basis().triangles)
    depth = points[triangles[:num_face], 2].mean(1)
    depth[np.isin(triangles[:num_face], UPPER_LIP).any(1)] -= 1e6
    return np.concatenate([np.arange(num_face, len(triangles)), np.argsort(-depth)])


def mesh_map(
    source: np.ndarray, target: np.ndarray, triangles: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Where in the picture every pixel is taken from: float32 [H, W, 2].

    Worked out for every second pixel each way; it is continuous, and affine in every triangle.
    """
    affine = affine_maps(target[triangles], source[triangles])
    coarse = -(-size[0] // OVERSAMPLE), -(-size[1] // OVERSAMPLE)
    off = (OVERSAMPLE - 1) / 2  # where the first coarse pixel's middle is
    which = np.zeros(coarse, np.int32)
    corners = np.round((target[triangles] - off) / OVERSAMPLE * 16).astype(np.int32)
    for number, corner in enumerate(corners):
        cv2.fillConvexPoly(which, corner, number, shift=4)
    y, x = np.ogrid[: coarse[0], : coarse[1]]
    x, y = (x * OVERSAMPLE + off).astype(np.float32), (y * OVERSAMPLE + off).astype(np.float32)
    xx, xy, x0, yx, yy, y0 = (np.ascontiguousarray(column)[which] for column in affine.T)
    maps = np.stack([xx * x + xy * y + x0, yx * x + yy * y + y0], -1)
    return cv2.resize(maps, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def taken_from(picture: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """What a map [H, W, 2] of `mesh_map` shows of a picture: uint8 [H, W, 3]."""
    where = maps[..., 0], maps[..., 1]
    return cv2.remap(picture, *where, cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT_101)


def affine_maps(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """What takes each target triangle [N, 3, 2] to its source: (xx, xy, x0, yx, yy, y0) [N, 6]."""
    edge = target[:, 1:] - target[:, :1]  # [N, 2 edges, 2]
    determinant = edge[:, 0, 0] * edge[:, 1, 1] - edge[:, 0, 1] * edge[:, 1, 0]
    determinant = np.where(np.abs(determinant) < 1e-6, 1e-6, determinant)
    inverse = np.stack([edge[:, 1, 1], -edge[:, 0, 1], -edge[:, 1, 0], edge[:, 0, 0]], 1)
    inverse = inverse.reshape(-1, 2, 2) / determinant[:, None, None]
    linear = inverse @ (source[:, 1:] - source[:, :1])  # rows: x and y of the target
    shift = source[:, 0] - np.einsum("ni,nij->nj", target[:, 0], linear)
    return np.stack(
        [
            linear[:, 0, 0],
            linear[:, 1, 0],
            shift[:, 0],
            linear[:, 0, 1],
            linear[:, 1, 1],
            shift[:, 1],
        ],
        1,
    ).astype(np.float32)


def _window(points: np.ndarray, size: tuple[int, int], edge: int) -> tuple[slice, slice]:
    """Rows and columns around points [N, 2], within the picture."""
    low = np.clip(np.floor(points.min(0)).astype(int) - edge, 0, None)
    high = np.clip(np.ceil(points.max(0)).astype(int) + edge + 1, 0, (size[1], size[0]))
    return slice(int(low[1]), int(max(high[1], low[1]))), slice(
        int(low[0]), int(max(high[0], low[0]))
    )


def _inside(polygon: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """How much of each pixel of a window is inside a polygon, float32 [h, w]."""
    mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    corners = np.round((polygon - (columns.start, rows.start)) * 16).astype(np.int32)
    cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA, shift=4)
    return mask.astype(np.float32) / 255


def _look_through(
    scene: Scene, moved: Moved, maps: np.ndarray, index: int, eye: int, gaze: np.ndarray
) -> None:
    """Let an eyeball be seen between its lids, its iris turned; in place."""
    lids = moved.points[index, _EYES[eye], :2]
    rows, columns = _window(lids, scene.size, 1)
    mask = _inside(lids, rows, columns) > 0.5
    if not mask.any():
        return
    y, x = np.mgrid[rows, columns].astype(np.float32)
    place = np.stack([x, y], -1) - moved.eyes[index, eye].astype(np.float32)
    iris = scene.face.points[IRISES[eye], :2]
    ring = scene.face.points[IRISES[eye] + 1 : IRISES[eye] + 5, :2]
    radius = np.linalg.norm(ring - iris, axis=1).mean()
    turn = gaze * scene.face.unit
    away = np.linalg.norm(place - iris - turn, axis=-1) / radius
    share = np.clip(1 - (away - 1.1) / 1.2, 0, 1)[..., None]
    taken = place - (turn * share).astype(np.float32) + np.array(scene.margin, np.float32)
    window = maps[rows, columns]
    window[mask] = taken[mask]


def _paint_mouth(scene: Scene, moved: Moved, frame: np.ndarray, index: int) -> None:
    """Paint the inside of the mouth where lips are apart; in place."""
    points, unit = moved.points[index], scene.face.unit
    lips = points[_LIPS, :2]
    rows, columns = _window(lips, scene.size, 2)
    inside = cv2.GaussianBlur(_inside(lips, rows, columns), (0, 0), 0.7)[..., None]
    if not inside.any():
        return
    across = points[EYES[1][0], :2] - points[EYES[0][0], :2]
    across = across / np.linalg.norm(across)
    down = np.array([-across[1], across[0]])
    y, x = np.mgrid[rows, columns].astype(np.float32)
    from_teeth = np.stack([x, y], -1) - moved.teeth[index]
    x, y = from_teeth @ across / unit, from_teeth @ down / unit
    upper = points[list(INNER_LIPS[0]), :2] - moved.teeth[index]
    lip = np.interp(x, upper @ across / unit, upper @ down / unit)
    colours = paint(scene.look, x, y, lip, float(moved.jaw[index]), float(moved.tongue[index]))
    window = frame[rows, columns]
    window[:] = (window + (colours - window) * inside + 0.5).clip(0, 255)
