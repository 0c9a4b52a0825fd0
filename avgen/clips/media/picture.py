"""A file in, its frames at a constant rate out, one at a time: by timestamp, upright, RGB.

Every decoded frame goes to the slot of the target clock nearest to its timestamp, and a slot shows
the last frame that came by then. That is right for constant and variable rates alike, and rounding
in the container's clock (Matroska's 1 ms) does not matter. The clock starts at the requested time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)

from avgen.clips.files import MediaError
from avgen.clips.media.container import (
    decode_packet,
    heed_checksums,
    media_errors,
    open_media,
    tick_s,
)
from avgen.clips.media.formats import HIGH_DYNAMIC_RANGE
from avgen.clips.media.orientation import (
    Orientation,
    exif_orientation,
    from_rotation,
    is_mirrored_track,
)
from avgen.clips.media.packets import StreamTimes
from avgen.clips.timebase import to_index, to_seconds

# An untagged picture at least this high is BT.709, a smaller one BT.601: what players assume, since
# high definition came with BT.709.
_BT709_FROM_HEIGHT = 720

# What no pixel's width is of its height, or more: beyond DV's 64/45 and anamorphic 2 there is none.
_MOST_STRETCHED = Fraction(16)

# How many seconds before the one that is wanted a seek goes to, until it lands early enough.
_SEEKS_S = (0, 2, 10)

_STILLS = ("image2", "tiff")

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


@dataclass(frozen=True)
class StoredFrame:
    """A decoded frame and what is to be done for showing it.

    Attributes:
        frame: as it is stored.
        aspect: width to height of its pixels.
        orientation: how it is turned upright.
    """

    frame: VideoFrame
    aspect: Fraction
    orientation: Orientation

    def size(self, path: Path) -> tuple[int, int]:
        """Height and width with square pixels, before it is turned: every stored row is kept.

        Raises:
            MediaError: pixels so flat or so tall that no picture can be meant.
        """
        if not 1 / _MOST_STRETCHED <= self.aspect <= _MOST_STRETCHED:
            raise MediaError(f"{path}: pixels {self.aspect} as wide as high; that is no picture")
        return self.frame.height, max(1, to_index(self.aspect, self.frame.width))

    def shown_size(self, path: Path) -> tuple[int, int]:
        """Height and width of what `to_rgb` makes of it."""
        height, width = self.size(path)
        return (width, height) if self.orientation.is_transposed else (height, width)


def frames_on_clock(
    path: Path, times: StreamTimes, start_s: Fraction, fps: Fraction, num_frames: int
) -> Iterator[np.ndarray]:
    """`num_frames` frames, uint8 [H, W, 3], the first at `start_s` of the container's clock.

    Of several that are nearest to one time, the nearest is shown there, and the last afterwards
    where there is no other.

    Raises:
        MediaError: a frame cannot be decoded, or decoding ends before the picture should.
    """
    converter = VideoReformatter()  # one for all: it is slower to set up than to use
    slot = held_slot = 0
    shown: tuple[StoredFrame, np.ndarray] | None = None  # made once however long it stays

    def show(stored: StoredFrame) -> np.ndarray:
        nonlocal shown
        if shown is None or shown[0] is not stored:
            shown = stored, to_rgb(stored, path, converter)
        return shown[1]

    held: StoredFrame | None = None
    nearest, off_s, last_s = held, Fraction(0), times.first_s
    for stored, frame_s in _decoded_from(path, times, start_s):
        next_slot = to_index(frame_s - start_s, fps)
        while held is not None and slot < min(next_slot, num_frames):
            assert nearest is not None
            yield show(nearest if slot == held_slot else held)
            slot += 1
        if slot >= num_frames:
            return
        own_s = abs(frame_s - start_s - to_seconds(next_slot, fps))
        if nearest is None or next_slot != held_slot or own_s <= off_s:
            nearest, off_s = stored, own_s
        held, held_slot, last_s = stored, next_slot, frame_s
    _require_end(path, times, last_s)
    assert held is not None and nearest is not None
    for index in range(slot, num_frames):
        yield show(nearest if index == held_slot else held)


def first_frame(path: Path, times: StreamTimes) -> np.ndarray:
    """The first frame, uint8 [H, W, 3].

    Raises:
        MediaError: it cannot be decoded.
    """
    return to_rgb(first_decoded(path, times), path, VideoReformatter())


def first_decoded(path: Path, times: StreamTimes) -> StoredFrame:
    """The first frame as it is stored, and how it is to be shown.

    Raises:
        MediaError: it cannot be decoded.
    """
    for stored, _ in _decoded_from(path, times, times.first_s):
        return stored
    raise MediaError(f"{path}: its picture cannot be decoded")


def _require_end(path: Path, times: StreamTimes, last_s: Fraction) -> None:
    """The last frame must have come out of the decoder, or the rest would be a frozen picture."""
    assert times.rate is not None
    if last_s < times.last_s - max(Fraction(3, 4) / times.rate, times.tick_s):
        raise MediaError(
            f"{path}: the picture decodes to {float(last_s - times.first_s):.2f} s only, "
            f"of {float(times.end_s - times.first_s):.2f} s; the file is damaged"
        )


def _decoded_from(
    path: Path, times: StreamTimes, start_s: Fraction
) -> Iterator[tuple[StoredFrame, Fraction]]:
    """Frames and their times, from the one that is on screen at `start_s`, or an earlier one."""
    assert times.rate is not None
    target_s = start_s - Fraction(1, 2) / times.rate
    # A seek lands on a keyframe, or, in a container without an index (MPEG transport streams),
    # anywhere, and the next keyframe is then too late: it is tried again from earlier.
    for earlier_s in _SEEKS_S if times.is_seekable else ():
        if target_s - earlier_s <= times.first_s:
            break
        with open_media(path) as container:
            stream = container.streams[times.index]
            with media_errors(path, "cannot seek"):
                container.seek(int((target_s - earlier_s) / tick_s(stream)), stream=stream)
            frames = _decode(container, path, times, after_seek=True)
            first = next(frames, None)
            if first is not None and first[1] <= target_s:
                yield first
                yield from frames
                return
    with open_media(path) as container:
        yield from _decode(container, path, times)


def _decode(
    container: InputContainer, path: Path, times: StreamTimes, *, after_seek: bool = False
) -> Iterator[tuple[StoredFrame, Fraction]]:
    """Every frame and its time, in order; after a seek from the first one that is whole."""
    stream = container.streams[times.index]
    assert isinstance(stream, av.VideoStream) and times.rate is not None
    heed_checksums(stream)
    aspect = stream.sample_aspect_ratio or Fraction(1)  # square where the file does not say
    turned = _turned(path, container, stream)
    previous: Fraction | None = None
    where = times.first_s
    packets = container.demux(stream)
    number = 0
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
            if times.counted is not None:
                frame_s = times.counted_s(number)
            elif frame.pts is not None:
                frame_s = frame.pts * tick_s(frame)
            else:
                frame_s = times.first_s if previous is None else previous + 1 / times.rate
            if previous is not None and frame_s < previous:
                raise MediaError(f"{path}: timestamps of the picture run backwards")
            where = previous = frame_s
            number += 1
            yield StoredFrame(frame, aspect, turned(frame)), frame_s


def _turned(
    path: Path, container: InputContainer, stream: av.VideoStream
) -> Callable[[VideoFrame], Orientation]:
    """How the frames of a stream become upright: by EXIF, or by the container's display matrix."""
    if container.format.name in _STILLS or container.format.name.endswith("_pipe"):
        by_exif = exif_orientation(path)
        return lambda frame: by_exif
    mirrored = "mp4" in container.format.name and is_mirrored_track(path, stream.id)
    return lambda frame: from_rotation(frame.rotation, mirrored, path)


def to_rgb(stored: StoredFrame, path: Path, converter: VideoReformatter) -> np.ndarray:
    """The frame as it is to be seen: uint8 [H, W, 3], square pixels, upright, full-range RGB.

    What is transparent shows white. High dynamic range becomes BT.709: its reference white is
    white, brighter is clipped.

    Raises:
        MediaError: it cannot be converted, or has no reasonable size.
    """
    frame = stored.frame
    matrix = _MATRICES.get(
        frame.colorspace,
        Colorspace.ITU709 if frame.height >= _BT709_FROM_HEIGHT else Colorspace.ITU601,
    )
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    as_rgb = frame.format.is_rgb
    transparent = frame.format.has_palette or any(c.is_alpha for c in frame.format.components)
    bright = frame.color_trc in HIGH_DYNAMIC_RANGE
    _, width = stored.size(path)
    with media_errors(path, "a frame cannot be converted to RGB"):
        rgb = converter.reformat(
            frame,
            width=width,
            format="rgba" if transparent else "rgb24",
            src_colorspace=None if as_rgb else matrix,
            src_color_range=None if as_rgb else ColorRange.JPEG if full else ColorRange.MPEG,
            dst_color_range=None if as_rgb else ColorRange.JPEG,
            dst_color_trc=ColorTrc.BT709 if bright else None,
            dst_color_primaries=ColorPrimaries.BT709 if bright else None,
            interpolation=_QUALITY,
            threads=1,
        ).to_ndarray()
    return stored.orientation.apply(_on_white(rgb) if transparent else rgb)


def _on_white(rgba: np.ndarray) -> np.ndarray:
    """Pixels uint8 [H, W, 4] before a white background: [H, W, 3]."""
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    if (alpha == 255).all():
        return rgb
    alpha = alpha.astype(np.uint32)
    return ((rgb * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
