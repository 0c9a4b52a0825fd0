"""The expressions that a face is moved by, as displacements of MediaPipe's landmarks.

`expressions.npz` is derived from ICT-FaceKit (LICENSE-ICT-FaceKit.txt beside it) by
recipes/people/make_expressions.py. Names are those of ARKit's blendshapes, with `_L` and `_R` for
the person's own left and right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

BASIS = Path(__file__).with_name("expressions.npz")

# MediaPipe's numbers of points. Rows run from the left of the picture to the right.
INNER_LIPS = (
    (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308),
    (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308),
)
# Upper and lower lid of the eye at the left of the picture and of the other, from the outer corner.
EYES = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133),
    (263, 466, 388, 387, 386, 385, 384, 398, 362),
)
LOWER_LIDS = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133),
    (263, 249, 390, 373, 374, 380, 381, 382, 362),
)
IRISES = (468, 473)
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
CHIN = 152


@dataclass(frozen=True)
class Basis:
    """Expressions of a face in units of the distance of the outer corners of its eyes.

    Axes are those of the picture: x to the right, y down, z away from the viewer.

    Attributes:
        names: Of the K expressions.
        offsets: How far each moves every landmark at weight 1: float32 [K, 478, 3].
        neutral: The landmarks of the head they are of, around the middle of its eyes: [478, 3].
        triangles: Landmarks of each triangle of the face, eyes and mouth left open: int32 [852, 3].
    """

    names: tuple[str, ...]
    offsets: np.ndarray
    neutral: np.ndarray
    triangles: np.ndarray

    def index(self, name: str) -> int:
        """The number of an expression."""
        return self.names.index(name)


@cache
def load_basis() -> Basis:
    """The expressions that avgen ships."""
    with np.load(BASIS) as stored:
        flip = np.array([1, -1, -1], np.float32)  # stored with y up and z towards the viewer
        return Basis(
            names=tuple(str(name) for name in stored["names"]),
            offsets=stored["offsets"].astype(np.float32) * flip,
            neutral=stored["neutral"].astype(np.float32) * flip,
            triangles=stored["triangles"].astype(np.int32),
        )
