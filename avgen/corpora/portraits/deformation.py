"""Weights of expressions in, where every landmark of a face is in each frame out.

Expressions move landmarks as the basis says, in the head's own axes; then lips that are to be
closed meet, a lower lip that is to touch the teeth is brought there, lids meet in a blink, and the
head turns. Lengths are in units of the distance of the outer corners of the eyes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from avgen.corpora.portraits.basis import (
    CHIN,
    EYES,
    INNER_LIPS,
    LOWER_LIDS,
    OVAL,
    load_basis,
)
from avgen.corpora.portraits.faces import Face

# What a frame is moved by, in the order of a track's columns. Those after "tongueUp" are: lids,
# brows; where the eyes look, in units; degrees and units of the head; the gap that results.
TRACK = (
    "jawOpen", "mouthFunnel", "mouthPucker", "mouthRollLower", "mouthRollUpper", "mouthShrugLower",
    "mouthShrugUpper", "mouthStretch", "mouthLowerDown", "mouthUpperUp", "mouthSmile", "mouthPress",
    "lipsClosed", "lipOnTeeth", "tongueUp", "eyeBlink", "eyeSquint", "browInnerUp", "browOuterUp",
    "browDown", "gazeX", "gazeY", "yaw", "pitch", "roll", "shiftX", "shiftY", "lipGap",
)  # fmt: skip
EXPRESSIONS = tuple(
    name
    for name in TRACK[: TRACK.index("gazeX")]
    if name not in ("lipsClosed", "lipOnTeeth", "tongueUp", "eyeBlink")
)

Move = Callable[[np.ndarray], np.ndarray]  # points [T, N, 3] to where they go

LOWER_SHARE = 0.7  # of a gap that closes, what the lower lip makes up
LID_SHARE = 0.12  # likewise, the lower lid
LIP_REACH, LID_REACH = 0.26, 0.17  # how far from a lip's or a lid's edge the skin goes with it
PRESSED = 0.05  # by which closed lips overlap in their middle: pressed, as on p, b and m
ABOVE_TEETH = 0.022  # least height of the upper lip over the teeth's edge on F and V
LOWER_JAW = 0.25  # of the jaw's largest drop: landmarks that drop more are the lower lip's side

# Rings of points around the face, as multiples of its outline from the middle: how much of the
# expressions each goes along with, and of the head's motion above, beside and below the face.
RINGS = (1.12, 1.32, 1.65, 2.2, 3.6)
_WITH_FACE = (0.8, 0.45, 0.12, 0.0, 0.0)
_ABOVE, _BESIDE, _BELOW = (1.0, 1.0, 0.9, 0.5, 0.0), (1.0, 0.95, 0.7, 0.3, 0.0), (
    0.92, 0.66, 0.42, 0.25, 0.1,
)  # fmt: skip


@dataclass(frozen=True)
class Moved:
    """A face through a clip.

    Attributes:
        points: Landmarks in pixels: [T, 478, 3].
        rings: Points around the face in pixels, ring by ring: [T, len(RINGS) * 36, 2].
        teeth: Middle of the upper teeth's edge, which goes with the skull: [T, 2].
        jaw: How far the jaw has dropped, in units: [T].
        gap: Of the inner lips in their middle, in units: [T].
        eyes: How each eye's ball has moved with the head, in pixels: [T, 2 eyes, 2].
        tongue: 1 where its tip is at the teeth: [T].
    """

    points: np.ndarray
    rings: np.ndarray
    teeth: np.ndarray
    jaw: np.ndarray
    gap: np.ndarray
    eyes: np.ndarray
    tongue: np.ndarray


@cache
def _columns() -> np.ndarray:
    """Displacements [len(EXPRESSIONS), 478, 3] of each expression, both sides together."""
    basis = load_basis()
    sides = [[name] if name in basis.names else [f"{name}_L", f"{name}_R"] for name in EXPRESSIONS]
    return np.stack([sum(basis.offsets[basis.index(one)] for one in names) for names in sides])


@cache
def _followers() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """How the skin follows edges: a matrix [478, points] for each lip and each eye's lids."""
    neutral = load_basis().neutral
    drop = load_basis().offsets[load_basis().index("jawOpen")][:, 1]
    below = drop > LOWER_JAW * drop.max()
    upper, lower = (_follow(neutral, row, LIP_REACH) for row in INNER_LIPS)
    upper, lower = upper * ~below[:, None], lower * below[:, None]
    for matrix, row in zip((upper, lower), INNER_LIPS, strict=True):
        matrix[list(row)] = np.eye(len(row))
    pairs = [(upper, lower)]
    for above, under in zip(EYES, LOWER_LIDS, strict=True):
        side = neutral[:, 1] < neutral[[above[4], under[4]], 1].mean()
        lids = [_follow(neutral, row, LID_REACH) for row in (above, under)]
        lids = [lids[0] * side[:, None], lids[1] * ~side[:, None]]
        for matrix, row, other in zip(lids, (above, under), (under, above), strict=True):
            matrix[list(other)] = 0
            matrix[list(row)] = np.eye(len(row))
        pairs.append((lids[0], lids[1]))
    return tuple(pairs)


def _follow(neutral: np.ndarray, row: tuple[int, ...], reach: float) -> np.ndarray:
    """Weights [478, len(row)]: of the nearest points of the row, less the further away."""
    away = np.linalg.norm(neutral[:, None, :2] - neutral[None, list(row), :2], axis=2)
    share = np.exp(-0.5 * ((away - away.min(1, keepdims=True)) / 0.04) ** 2)
    fade = np.clip(1 - away.min(1) / reach, 0, 1)
    fade = fade * fade * (3 - 2 * fade)
    return share / share.sum(1, keepdims=True) * fade[:, None]


def deform(face: Face, tracks: Mapping[str, np.ndarray], teeth_show: float) -> Moved:
    """Move a face.

    Args:
        face: At rest, its lips closed.
        tracks: [T] for every name of TRACK but "lipGap".
        teeth_show: How far the upper teeth's edge is below the resting lips, in units.
    """
    unit, flip = face.unit, np.diag([1.0, -1.0, -1.0])
    turn = flip @ face.rotation @ flip  # the head's axes are those of the basis
    down = turn @ np.array([0.0, 1.0, 0.0])
    weights = np.stack([tracks[name] for name in EXPRESSIONS], 1)
    offsets = np.tensordot(weights, _columns(), axes=(1, 0)) @ turn.T * unit
    points = face.points[None] + offsets
    _move_lips(points, face, tracks, down, teeth_show)
    for eye in (0, 1):
        _close_lids(points, np.asarray(tracks["eyeBlink"]), eye)
    gap = (points[:, INNER_LIPS[1][5]] - points[:, INNER_LIPS[0][5]]) @ down / unit
    outline = points[:, list(OVAL)] - face.points[list(OVAL)]
    move = _head_motion(face, tracks)
    edge = _resting_lip(face)[5] + down * teeth_show * unit
    eyes = np.stack([face.points[[row[0], row[-1]]].mean(0) for row in EYES])
    jaw = weights[:, EXPRESSIONS.index("jawOpen")] * _columns()[0, INNER_LIPS[1][5], 1]
    return Moved(
        points=move(points),
        rings=_move_rings(face, outline, move, down),
        teeth=move(np.tile(edge, (len(points), 1, 1)))[:, 0, :2],
        jaw=jaw,
        gap=gap,
        eyes=move(np.tile(eyes, (len(points), 1, 1)))[..., :2] - eyes[:, :2],
        tongue=np.asarray(tracks["tongueUp"]),
    )


def _resting_lip(face: Face) -> np.ndarray:
    """The inner edge of the lips as they rest, midway of both: [11, 3]."""
    return face.points[list(INNER_LIPS[0])] * 0.5 + face.points[list(INNER_LIPS[1])] * 0.5


def _move_lips(
    points: np.ndarray,
    face: Face,
    tracks: Mapping[str, np.ndarray],
    down: np.ndarray,
    teeth_show: float,
) -> None:
    """Close and press lips, else keep them apart, bring the lower one to the teeth; in place."""
    upper, lower = (points[:, list(row)] for row in INNER_LIPS)
    gap = (lower - upper) @ down
    closed = tracks["lipsClosed"][:, None]
    inwards = 1 - np.linspace(-1, 1, 11) ** 4  # none at the corners
    change = (1 - closed) * np.maximum(gap, 0) - closed * PRESSED * face.unit * inwards - gap
    up, low = -(1 - LOWER_SHARE) * change, LOWER_SHARE * change
    # The row of the teeth's edge, less shown towards the corners of the mouth.
    shown = teeth_show * face.unit * np.linspace(-1, 1, 11) ** 2
    edge = _resting_lip(face) @ down + teeth_show * face.unit - shown
    on_teeth = tracks["lipOnTeeth"][:, None] * inwards
    above = np.maximum(upper @ down + up - (edge - ABOVE_TEETH * face.unit), 0)
    up = up - on_teeth * above
    low = low + on_teeth * (edge - lower @ down - low)
    (follow_up, follow_low), *_ = _followers()
    points += (up @ follow_up.T + low @ follow_low.T)[..., None] * down


def _close_lids(points: np.ndarray, blink: np.ndarray, eye: int) -> None:
    """Bring the lids of an eye together as far as `blink` [T] says; in place."""
    above, under = points[:, list(EYES[eye])], points[:, list(LOWER_LIDS[eye])]
    apart = under - above
    matrices = _followers()[1 + eye]
    for matrix, share in zip(matrices, (1 - LID_SHARE, -LID_SHARE), strict=True):
        points += np.einsum("pk,tkc->tpc", matrix, blink[:, None, None] * share * apart)


def _head_motion(face: Face, tracks: Mapping[str, np.ndarray]) -> Move:
    """How the head's turn and shift move points [T, N, 3]; it turns above the neck."""
    yaw, pitch, roll = (np.radians(tracks[name]) for name in ("yaw", "pitch", "roll"))
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    cr, sr, one, nil = np.cos(roll), np.sin(roll), np.ones_like(yaw), np.zeros_like(yaw)

    def rows(*values: np.ndarray) -> np.ndarray:
        return np.stack(values, -1).reshape(-1, 3, 3)

    turn = (
        rows(cr, -sr, nil, sr, cr, nil, nil, nil, one)
        @ rows(cy, nil, sy, nil, one, nil, -sy, nil, cy)
        @ rows(one, nil, nil, nil, cp, -sp, nil, sp, cp)
    )
    ears = face.points[[234, 454]].mean(0)
    pivot = np.array([ears[0], face.points[CHIN, 1], ears[2]])
    shift = np.stack([tracks["shiftX"], tracks["shiftY"], np.zeros_like(yaw)], 1) * face.unit

    def move(points: np.ndarray) -> np.ndarray:
        return np.einsum("tij,tnj->tni", turn, points - pivot) + pivot + shift[:, None]

    return move


def resting_rings(face: Face) -> np.ndarray:
    """The points around a face at rest, with the depth of its outline: [len(RINGS) * 36, 3]."""
    outline = face.points[list(OVAL)]
    middle = outline[:, :2].mean(0)
    rings = [
        np.concatenate([middle + (outline[:, :2] - middle) * k, outline[:, 2:]], 1) for k in RINGS
    ]
    return np.concatenate(rings)


def _move_rings(face: Face, outline: np.ndarray, move: Move, down: np.ndarray) -> np.ndarray:
    """Rings go along with the head and the face, less and less: [T, len(RINGS) * 36, 2]."""
    rings = resting_rings(face)
    directions = face.points[list(OVAL), :2] - face.points[list(OVAL), :2].mean(0)
    cosine = directions @ down[:2] / np.linalg.norm(directions, axis=1) / np.linalg.norm(down[:2])
    below, above = np.clip(cosine, 0, 1) ** 2, np.clip(-cosine, 0, 1) ** 2
    beside = 1 - below - above
    with_head = np.outer(_ABOVE, above) + np.outer(_BESIDE, beside) + np.outer(_BELOW, below)
    moved = move(np.tile(rings, (len(outline), 1, 1)))[..., :2] - rings[:, :2]
    along = outline[:, None, :, :2] * np.array(_WITH_FACE)[:, None, None]
    return rings[:, :2] + moved * with_head.reshape(-1, 1) + along.reshape(len(outline), -1, 2)
