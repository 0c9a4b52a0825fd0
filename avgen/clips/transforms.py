"""Frames or sound in, another size or number of channels out; times do not change."""

from collections.abc import Sequence

import numpy as np

from avgen.errors import UserError

# ITU-R BS.775-4, table 2: the centre and the surrounds of a side are folded in at -3 dB.
_MINUS_3_DB = 0.5**0.5

# FFmpeg's names of 1 to 8 channels whose layout is not known. Of three the third is a centre: as
# bass it would be folded in for nothing, but a centre that is left out is the voice.
_CHANNELS = (
    *(("FC",), ("FL", "FR"), ("FL", "FR", "FC"), ("FL", "FR", "BL", "BR")),
    *(("FL", "FR", "FC", "BL", "BR"), ("FL", "FR", "FC", "LFE", "BL", "BR")),
    ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
)

# Stereo whose mean has less than this of the power of half its difference is out of phase.
_OUT_OF_PHASE = 0.01


def remix(
    waveform: np.ndarray,
    num_channels: int,
    channels: Sequence[str] | None = None,
    *,
    out_of_phase: bool | None = None,
) -> np.ndarray:
    """The sound in another number of channels, never louder than full scale.

    Mono becomes two equal channels; stereo becomes mono as its mean, or, where left and right are
    out of phase and cancel each other, as half their difference; more channels fold down by ITU-R
    BS.775 without bass (LFE); stereo becomes 5.1 as its front pair.

    Args:
        waveform: float32 [C, N].
        num_channels: 1, 2 or 6, or as many as there are.
        channels: FFmpeg's names of the C channels; None for the usual ones (FL FR FC LFE ...).
        out_of_phase: whether stereo is, as `is_out_of_phase` says of all of it; None to ask that of
            `waveform`.

    Raises:
        UserError: no rule for these numbers of channels.
    """
    source = waveform.shape[0]
    if source == num_channels:
        return waveform
    if not 1 <= source <= len(_CHANNELS) or num_channels not in (1, 2, 6):
        raise UserError(
            f"{source} channels to {num_channels}; 1 to {len(_CHANNELS)} become 1, 2 or 6"
        )
    stereo = fold(waveform, channels)
    if num_channels == 1:
        if is_out_of_phase(stereo) if out_of_phase is None else out_of_phase:
            stereo[1] *= -1
        return stereo.mean(axis=0, keepdims=True, dtype=np.float32)
    if num_channels == 2:
        return stereo
    surround = np.zeros((6, waveform.shape[1]), dtype=np.float32)
    surround[:2] = stereo
    return surround


def fold(waveform: np.ndarray, channels: Sequence[str] | None = None) -> np.ndarray:
    """Sound float32 [C, N] of 1 to 8 channels as a stereo pair [2, N]; arguments as of `remix`."""
    if not any(_gain(name, side) for name in channels or () for side in "LR"):
        channels = None  # the names are none that FFmpeg has a place for
    channels = channels or _CHANNELS[waveform.shape[0] - 1]
    gains = np.array([[_gain(name, side) for name in channels] for side in "LR"], dtype=np.float32)
    totals = gains.sum(axis=1, keepdims=True)
    return (gains / np.where(totals > 0, totals, 1)) @ waveform


def _gain(channel: str, side: str) -> float:
    """What a channel gives to one side ("L" or "R") of a stereo pair, before they are scaled."""
    if channel.startswith("LFE"):
        return 0.0
    if channel in ("FL", "FR", "DL", "DR"):
        return float(channel[1] == side)
    if channel == "FC":
        return _MINUS_3_DB
    if "L" in channel or "R" in channel:
        return _MINUS_3_DB * (side in channel)
    return 0.5 * channel.endswith("C")  # behind or above, in the middle: -3 dB for each, twice


def is_out_of_phase(stereo: np.ndarray) -> bool:
    """Whether the mean of left and right, float32 [2, N], is silent although they are not."""
    middle, side = stereo[0] + stereo[1], stereo[0] - stereo[1]
    return bool(np.vdot(middle, middle) < _OUT_OF_PHASE * np.vdot(side, side))


def crop(frames: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """The part of every frame inside `box`, a view.

    Args:
        frames: [..., H, W, 3].
        box: x, y, width, height in pixels.

    Raises:
        UserError: the box is empty or reaches out of the frame.
    """
    x, y, width, height = box
    frame_height, frame_width = frames.shape[-3:-1]
    inside = 0 <= x < x + width <= frame_width and 0 <= y < y + height <= frame_height
    if not inside:
        raise UserError(
            f"box {box} (x, y, width, height) of a {frame_width}x{frame_height} frame; "
            "it must be inside and not empty"
        )
    return frames[..., y : y + height, x : x + width, :]


def resize(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Frames of another size, antialiased: a triangle filter as wide as the coarser grid's pixel.

    Pixel centres are at halves, so a picture keeps its place: nothing shifts by part of a pixel.

    Args:
        frames: uint8 [T, H, W, 3].
        height: of the result, in pixels.
        width: of the result, in pixels.

    Returns:
        uint8 [T, height, width, 3].

    Raises:
        UserError: a size that is not positive.
    """
    if height < 1 or width < 1:
        raise UserError(f"size {width}x{height}; both must be at least 1 pixel")
    if frames.shape[1:3] == (height, width):
        return frames
    rows = _triangle_weights(frames.shape[1], height)
    columns = _triangle_weights(frames.shape[2], width)
    resized = np.empty((frames.shape[0], height, width, 3), dtype=np.uint8)
    for index, frame in enumerate(frames):  # one at a time: floats of a whole clip are large
        by_rows = np.tensordot(rows, frame.astype(np.float32), axes=(1, 0))  # [height, W, 3]
        by_both = np.tensordot(columns, by_rows, axes=(1, 1))  # [width, height, 3]
        resized[index] = np.clip(by_both.transpose(1, 0, 2) + 0.5, 0, 255)
    return resized


def _triangle_weights(source: int, target: int) -> np.ndarray:
    """What each source pixel gives to each target pixel: [target, source], rows sum to 1."""
    scale = source / target
    support = max(scale, 1.0)  # in source pixels: no narrower than one, or upscaling would alias
    centres = (np.arange(target) + 0.5) * scale - 0.5
    distance = np.abs(centres[:, None] - np.arange(source)[None, :]) / support
    weights = np.maximum(0.0, 1.0 - distance)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def center_crop_resize(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """The largest middle part of that shape, resized to it: nothing is stretched.

    Args:
        frames: uint8 [T, H, W, 3].
        height: of the result, in pixels.
        width: of the result, in pixels.

    Returns:
        uint8 [T, height, width, 3].
    """
    if height < 1 or width < 1:
        raise UserError(f"size {width}x{height}; both must be at least 1 pixel")
    frame_height, frame_width = frames.shape[1:3]
    crop_height = min(frame_height, max(1, round(frame_width * height / width)))
    crop_width = min(frame_width, max(1, round(frame_height * width / height)))
    x, y = (frame_width - crop_width) // 2, (frame_height - crop_height) // 2
    return resize(crop(frames, (x, y, crop_width, crop_height)), height, width)
