"""A file in, its frames at a constant rate out, one at a time: by timestamp, upright, RGB.

Every decoded frame goes to the slot of the target clock nearest to its timestamp, and a slot shows
the last frame that came by then. That is right for constant and variable rates alike, and rounding
in the container's clock (Matroska's 1 ms) does not matter. The clock starts at the requested time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from avgen.clips.clip import MediaError
from avgen.clips.media.container import (
    decode_packet,
    heed_checksums,
    media_errors,
    open_media,
    tick_s,
)
from avgen.clips.media.packets import StreamTimes
from avgen.clips.timebase import to_index

# An untagged picture at least this high is BT.709, a smaller one BT.601: what players assume, since
# high definition came with BT.709.
_BT709_FROM_HEIGHT = 720

_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,  # BT.470BG, the same numbers
    6: Colorspace.ITU601,  # SMPTE 170M
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}

# Chroma is brought to full size before the conversion, and rounded, not cut.
_QUALITY = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND


def frames_on_clock(
    path: Path, times: StreamTimes, start_s: Fraction, fps: Fraction, num_frames: int
) -> Iterator[np.ndarray]:
    """`num_frames` frames, uint8 [H, W, 3], the first at `start_s` of the container's clock.

    Raises:
        MediaError: a frame cannot be decoded, or decoding ends before the picture should.
    """
    with open_media(path) as container:
        aspect = _aspect(_stream(container, times))
        frames = _decoded_from(container, path, times, start_s)
        converter = VideoReformatter()  # one for all: it is slower to set up than to use
        slot = 0
        shown: np.ndarray | None = None  # the picture of `held`, made once however long it stays
        held: VideoFrame | None = None
        last_s = times.first_s
        for frame, frame_s in frames:
            next_slot = to_index(frame_s - start_s, fps)
            while held is not None and slot < min(next_slot, num_frames):
                shown = to_rgb(held, aspect, path, converter) if shown is None else shown
                yield shown
                slot += 1
            if slot >= num_frames:
                return
            held, shown, last_s = frame, None, frame_s
        _require_end(path, times, last_s, container)
        assert held is not None
        shown = to_rgb(held, aspect, path, converter)
        for _ in range(num_frames - slot):
            yield shown


def first_frame(path: Path, times: StreamTimes) -> np.ndarray:
    """The first frame, uint8 [H, W, 3].

    Raises:
        MediaError: it cannot be decoded.
    """
    return to_rgb(*first_decoded(path, times), path, VideoReformatter())


def first_decoded(path: Path, times: StreamTimes) -> tuple[VideoFrame, Fraction]:
    """The first frame as it is stored, and the aspect ratio of its pixels, width to height.

    Raises:
        MediaError: it cannot be decoded.
    """
    with open_media(path) as container:
        stream = _stream(container, times)
        decoded = next(_decoded_from(container, path, times, times.first_s), None)
        if decoded is None:
            raise MediaError(f"{path}: its picture cannot be decoded")
        return decoded[0], _aspect(stream)


def _stream(container: InputContainer, times: StreamTimes) -> av.VideoStream:
    stream = container.streams[times.index]
    assert isinstance(stream, av.VideoStream)
    return stream


def _aspect(stream: av.VideoStream) -> Fraction:
    """Width to height of a stored pixel; square where the file does not say."""
    return stream.sample_aspect_ratio or Fraction(1)


def _require_end(
    path: Path, times: StreamTimes, last_s: Fraction, container: InputContainer
) -> None:
    """The last frame must have come out of the decoder, or the rest would be a frozen picture."""
    assert times.rate is not None
    slack = max(Fraction(3, 4) / times.rate, tick_s(container.streams[times.index]))
    if last_s < times.last_s - slack:
        raise MediaError(
            f"{path}: the picture decodes to {float(last_s - times.first_s):.2f} s only, "
            f"of {float(times.end_s - times.first_s):.2f} s; the file is damaged"
        )


def _decoded_from(
    container: InputContainer, path: Path, times: StreamTimes, start_s: Fraction
) -> Iterator[tuple[VideoFrame, Fraction]]:
    """Frames and their times, from the one that is on screen at `start_s`, or an earlier one."""
    stream = _stream(container, times)
    heed_checksums(stream)
    assert times.rate is not None
    half_slot = Fraction(1, 2) / times.rate
    if start_s - half_slot > times.first_s:
        target = int((start_s - half_slot) / tick_s(stream))
        with media_errors(path, "cannot seek"):
            container.seek(target, stream=stream)
        frames = _decode(container, stream, path, times, after_seek=True)
        first = next(frames, None)
        if first is not None and first[1] <= start_s - half_slot:
            yield first
            yield from frames
            return
        # The container has no index and its seek went too far (MPEG program streams do this).
        with media_errors(path, "cannot seek"):
            container.seek(int(times.first_s / tick_s(stream)), stream=stream)
    yield from _decode(container, stream, path, times)


def _decode(
    container: InputContainer,
    stream: av.VideoStream,
    path: Path,
    times: StreamTimes,
    *,
    after_seek: bool = False,
) -> Iterator[tuple[VideoFrame, Fraction]]:
    """Every frame and its time, in order; after a seek from the first one that is whole."""
    previous: Fraction | None = None
    where = times.first_s
    packets = container.demux(stream)
    while True:
        so_far = f"the picture decodes to {float(where - times.first_s):.2f} s and no further"
        with media_errors(path, so_far):
            packet = next(packets, None)
            frames = (
                [] if packet is None else decode_packet(packet, previous is None and after_seek)
            )
        if packet is None:
            return
        for frame in frames:
            if frame.is_corrupt:
                if previous is None and after_seek:
                    continue
                raise MediaError(f"{path}: {so_far} (damaged frame)")
            if frame.pts is None:
                raise MediaError(f"{path}: a frame at about {float(where):.2f} s has no timestamp")
            frame_s = frame.pts * tick_s(frame)
            if previous is not None and frame_s < previous:
                raise MediaError(f"{path}: timestamps of the picture run backwards")
            where = previous = frame_s
            yield frame, frame_s


def to_rgb(
    frame: VideoFrame, aspect: Fraction, path: Path, converter: VideoReformatter
) -> np.ndarray:
    """The frame as it is to be seen: uint8 [H, W, 3], square pixels, upright, full-range RGB."""
    matrix = _MATRICES.get(
        frame.colorspace,
        Colorspace.ITU709 if frame.height >= _BT709_FROM_HEIGHT else Colorspace.ITU601,
    )
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    as_rgb = frame.format.is_rgb
    with media_errors(path, "a frame cannot be converted to RGB"):
        rgb = converter.reformat(
            frame,
            width=_square_width(frame, aspect),
            format="rgb24",
            src_colorspace=None if as_rgb else matrix,
            src_color_range=None if as_rgb else ColorRange.JPEG if full else ColorRange.MPEG,
            dst_color_range=None if as_rgb else ColorRange.JPEG,
            interpolation=_QUALITY,
            threads=1,
        )
    return orientation(frame, path).apply(rgb.to_ndarray())


def _square_width(frame: VideoFrame, aspect: Fraction) -> int:
    """The width at which its pixels are square: the height stays, every stored row is kept."""
    return max(1, to_index(aspect, frame.width))


def shown_size(frame: VideoFrame, aspect: Fraction, path: Path) -> tuple[int, int]:
    """Height and width of what `to_rgb` makes of the frame."""
    height, width = frame.height, _square_width(frame, aspect)
    return (width, height) if orientation(frame, path).is_transposed else (height, width)


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
        """The upright picture [H', W', 3] of a stored one [H, W, 3], contiguous."""
        pixels = pixels.swapaxes(0, 1) if self.is_transposed else pixels
        pixels = pixels[:, ::-1] if self.flips_columns else pixels
        return np.ascontiguousarray(pixels[::-1] if self.flips_rows else pixels)


def orientation(frame: VideoFrame, path: Path) -> Orientation:
    """What the container or the picture's EXIF says of its orientation.

    Raises:
        MediaError: turned by something else than quarters.
    """
    matrix = frame.side_data.get(SideDataType.DISPLAYMATRIX)  # pyright: ignore
    if matrix is None:
        return Orientation()
    # libavutil/display.h: nine int32 in rows (a b u), (c d v), (x y w);
    # x' = a x + c y, y' = b x + d y
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].tolist()
    if not a and not d and b and c:
        return Orientation(True, c < 0, b < 0)
    if not b and not c and a and d:
        return Orientation(False, a < 0, d < 0)
    raise MediaError(f"{path}: turned by {frame.rotation} degrees; only quarter turns are read")
