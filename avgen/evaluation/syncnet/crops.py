"""Frames and boxes of a face -> what each published protocol shows SyncNet: 224 x 224 stretches.

The rules are those of the released scripts: `run_pipeline.py` of github.com/joonson/syncnet_python
(commit 6efbb1c), `calculate_scores_LRS.py` of Wav2Lip and `eval/syncnet_detect.py` of LatentSync.
Two things differ, and numbers with them: the boxes come from the caller's detector (theirs is S3FD,
whose boxes reach from hairline to chin), and no frame goes through JPEG or XVID on its way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.signal import medfilt

from avgen.errors import UserError
from avgen.evaluation.faces.head import box_overlap
from avgen.evaluation.subject import Unscored
from avgen.evaluation.syncnet.towers import SIDE

MAX_GAP = 25  # frames from one sight of a face to the next, within one track
SAME_FACE = 0.5  # intersection over union above which successive boxes are one face
MIN_SIDE = 100  # pixels; the mean side of a track's boxes must be above
CROP_SCALE = 0.4  # how much wider than the box the crop is on either side, over half its side
BACKGROUND = 110  # grey around the frame
MEDIAN_FRAMES = 13  # of the running median over centres and sides


@dataclass(frozen=True)
class Variant:
    """One of the protocols that are all called LSE.

    Attributes:
        name: `lse@` and whose it is.
        min_track: A track must be seen in more frames than this; None where the whole frame is
            shown, squeezed to a square: for clips that are crops of a face already.
    """

    name: str
    min_track: int | None

    @property
    def protocol(self) -> str:
        """Its id in reports, with the version of this implementation."""
        return f"avgen-{self.name}/1"


JOONSON = Variant("lse@joonson", min_track=100)  # Wav2Lip's script for "real videos" likewise
WAV2LIP = Variant("lse@wav2lip", min_track=None)  # its script for LRS: no face is looked for
LATENTSYNC = Variant("lse@latentsync", min_track=50)
VARIANTS = {variant.name: variant for variant in (JOONSON, WAV2LIP, LATENTSYNC)}


@dataclass(frozen=True)
class FaceTrack:
    """A face through a stretch of a clip.

    Attributes:
        first: Frame of the clip that it begins at.
        boxes: float64 [L, 4], x, y, width, height in pixels, in every frame of the stretch.
    """

    first: int
    boxes: np.ndarray


def face_tracks(boxes: np.ndarray, min_track: int) -> list[FaceTrack]:
    """The tracks of one face that are long and large enough to be scored.

    A track goes on to the next box that overlaps its last, up to MAX_GAP frames on; in between,
    boxes are interpolated. A cut to another place therefore begins another track (the scripts look
    for cuts by colour besides).

    Args:
        boxes: [T, 4], x, y, width, height in pixels; NaN in frames without the face.
        min_track: Frames; a track must be seen in more.

    Raises:
        Unscored: no track is left, with the reason.
        UserError: boxes of another shape.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise UserError(f"boxes {list(boxes.shape)}; must be [T, 4]: x, y, width, height")
    seen = [int(index) for index in np.flatnonzero(~np.isnan(boxes).any(1))]
    if not seen:
        raise Unscored("no face was found")
    found = list(_chains(boxes, seen))
    long = [chain for chain in found if len(chain) > min_track]
    if not long:
        raise Unscored(
            f"the face is followed through {max(map(len, found))} frames at most; "
            f"the protocol needs more than {min_track}"
        )
    tracks = [FaceTrack(chain[0], _interpolated(boxes, chain)) for chain in long]
    sides = [float(track.boxes[:, 2:].mean(0).max()) for track in tracks]
    large = [track for track, side in zip(tracks, sides, strict=True) if side > MIN_SIDE]
    if not large:
        raise Unscored(
            f"the face is {max(sides):.0f} pixels large; the protocol needs more than {MIN_SIDE}"
        )
    return large


def crops(frames: np.ndarray, track: FaceTrack) -> np.ndarray:
    """The face of a track, a little below its middle: uint8 [L, 224, 224, 3].

    Args:
        frames: uint8 [T, H, W, 3], the whole clip.
        track: from `face_tracks`.
    """
    # medfilt takes what is before and after the track as 0, as the scripts do.
    x, y = (medfilt(middle, MEDIAN_FRAMES) for middle in _centres(track.boxes))
    half = medfilt(track.boxes[:, 2:].max(1) / 2, MEDIAN_FRAMES)
    faces = np.empty((len(x), SIDE, SIDE, 3), np.uint8)
    for index in range(len(x)):
        frame, reach = frames[track.first + index], half[index] * (1 + 2 * CROP_SCALE)
        margin = int(reach)
        edge = ((margin, margin), (margin, margin), (0, 0))
        padded = np.pad(frame, edge, constant_values=BACKGROUND)
        row, column = y[index] + margin, x[index] + margin
        wide = half[index] * (1 + CROP_SCALE)
        face = padded[
            int(row - half[index]) : int(row + reach), int(column - wide) : int(column + wide)
        ]
        faces[index] = _square(face)
    return faces


def whole_frames(frames: np.ndarray) -> np.ndarray:
    """Frames uint8 [T, H, W, 3], squeezed to squares: uint8 [T, 224, 224, 3]."""
    return np.stack([_square(frame) for frame in frames])


def _square(image: np.ndarray) -> np.ndarray:
    """An image of 224 x 224 by cv2's bilinear filter, which does not antialias."""
    return cv2.resize(np.ascontiguousarray(image), (SIDE, SIDE))


def _chains(boxes: np.ndarray, seen: list[int]) -> Iterator[list[int]]:
    """The frames of each track: greedy, in order of time, each frame in one."""
    while seen:
        chain = [seen[0]]
        for index in seen[1:]:
            if index - chain[-1] > MAX_GAP:
                break
            if box_overlap(boxes[chain[-1]], boxes[index]) > SAME_FACE:
                chain.append(index)
        taken = set(chain)
        seen = [index for index in seen if index not in taken]
        yield chain


def _interpolated(boxes: np.ndarray, chain: list[int]) -> np.ndarray:
    times = np.arange(chain[0], chain[-1] + 1)
    return np.stack([np.interp(times, chain, column) for column in boxes[chain].T], 1)


def _centres(boxes: np.ndarray) -> np.ndarray:
    """x and y of the middle of each box: [2, L]."""
    return (boxes[:, :2] + boxes[:, 2:] / 2).T
