"""What a file says of how its stored pixels become upright ones.

FFmpeg's frames tell by how many degrees they are turned, but not whether they are mirrored, and not
of every kind of picture; PyAV's `frame.side_data` would, but fails at, or dies of, what EXIF puts
beside it. So a picture's EXIF and the display matrix of MP4 and MOV are read here.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from avgen.clips.files import MediaError

# Where TIFF's header begins that holds EXIF: in JPEG, PNG, WebP, or at the start of a TIFF file.
_EXIF = re.compile(rb"(?:\A|Exif\0\0|eXIf|EXIF....)(II\x2a\0|MM\0\x2a)", re.DOTALL)
_ORIENTATION_TAG = 0x0112
_LARGEST_PICTURE = 1 << 28  # bytes that are searched for EXIF

_TKHD_MATRIX = {0: 40, 1: 52}  # where the matrix begins in the box, by its version


@dataclass(frozen=True)
class Orientation:
    """How stored pixels become upright ones: rows and columns swapped first, then the flips."""

    is_transposed: bool = False
    flips_columns: bool = False
    flips_rows: bool = False

    @property
    def is_mirrored(self) -> bool:
        """Whether what is upright is a mirror image of what is stored."""
        return self.is_transposed ^ self.flips_columns ^ self.flips_rows

    @property
    def rotation_degrees(self) -> int:
        """Anticlockwise, 0 to 270; of a mirrored picture, before it is mirrored left to right."""
        if self.is_transposed:
            return 90 if self.flips_rows else 270
        return 180 if self.flips_rows else 0

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """The upright picture [H', W', C] of a stored one [H, W, C], contiguous."""
        pixels = pixels.swapaxes(0, 1) if self.is_transposed else pixels
        pixels = pixels[:, ::-1] if self.flips_columns else pixels
        return np.ascontiguousarray(pixels[::-1] if self.flips_rows else pixels)


# EXIF 2.3, table 6: which side of the upright picture row 0 and column 0 are.
_BY_EXIF = {
    1: Orientation(),
    2: Orientation(flips_columns=True),
    3: Orientation(flips_columns=True, flips_rows=True),
    4: Orientation(flips_rows=True),
    5: Orientation(is_transposed=True),
    6: Orientation(is_transposed=True, flips_columns=True),
    7: Orientation(is_transposed=True, flips_columns=True, flips_rows=True),
    8: Orientation(is_transposed=True, flips_rows=True),
}


def from_rotation(degrees: int, is_mirrored: bool, path: Path) -> Orientation:
    """What FFmpeg's angle (anticlockwise) of a display matrix means.

    Args:
        degrees: `frame.rotation`.
        is_mirrored: whether the matrix mirrors, which its angle does not tell.
        path: of the file, for the message.

    Raises:
        MediaError: turned by something else than quarters.
    """
    quarters, rest = divmod(degrees % 360, 90)
    if rest:
        raise MediaError(f"{path}: turned by {degrees} degrees; only quarter turns are read")
    if is_mirrored:
        # 0: rows flipped, 180: columns flipped, as FFmpeg takes the angle from where x goes.
        return (_BY_EXIF[4], _BY_EXIF[7], _BY_EXIF[2], _BY_EXIF[5])[quarters]
    return (_BY_EXIF[1], _BY_EXIF[8], _BY_EXIF[3], _BY_EXIF[6])[quarters]


def exif_orientation(path: Path) -> Orientation:
    """What the EXIF of a picture (JPEG, PNG, WebP, TIFF) says; upright where it says nothing."""
    with path.open("rb") as file:
        data = file.read(_LARGEST_PICTURE)
    found = _EXIF.search(data)
    if found is None:
        return Orientation()
    order = "<" if found[1].startswith(b"II") else ">"
    start = found.start(1)
    try:
        (directory,) = struct.unpack_from(f"{order}I", data, start + 4)
        (count,) = struct.unpack_from(f"{order}H", data, start + directory)
        for entry in range(count):
            place = start + directory + 2 + 12 * entry
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", data, place)
            if tag == _ORIENTATION_TAG:
                return _BY_EXIF.get(value, Orientation())
    except struct.error:  # it is cut short: the picture is what counts
        pass
    return Orientation()


def is_mirrored_track(path: Path, track: int) -> bool:
    """Whether a track of an MP4 or MOV file, or a picture in one (AVIF, HEIC), is mirrored."""
    with path.open("rb") as file:
        size = path.stat().st_size
        if any(True for _ in _boxes(file, (b"meta", b"iprp", b"ipco", b"imir"), 0, size)):
            return True
        for box in _boxes(file, (b"moov", b"trak", b"tkhd"), 0, size):
            start = _TKHD_MATRIX.get(box[0])
            if start is None or len(box) < start + 36:
                continue
            (number,) = struct.unpack_from(">I", box, 20 if box[0] else 12)
            a, b, _, c, d = struct.unpack_from(">5i", box, start)
            if number == track:
                return a * d - b * c < 0
    return False


def _boxes(file: BinaryIO, names: tuple[bytes, ...], start: int, end: int) -> Iterator[bytes]:
    """The contents of the boxes that lie in each other by these names, from `start` to `end`."""
    while start + 8 <= end:
        file.seek(start)
        size, name = struct.unpack(">I4s", file.read(8))
        header = 12 if name == b"meta" else 8  # a version goes before what is in it
        if size == 1 and start + 16 <= end:
            (size,) = struct.unpack(">Q", file.read(8))
            header = 16
        stop = end if size == 0 else start + size
        if stop < start + header or stop > end:
            return
        if name == names[0]:
            if names[1:]:
                yield from _boxes(file, names[1:], start + header, stop)
            else:
                yield file.read(stop - start - header)
        start = stop
