"""Frames or sound in, another size or number of channels out; times do not change."""

import numpy as np

from avgen.errors import UserError

# What each channel of a layout gives to the left of a stereo pair, before the sum is scaled to 1;
# the right mirrors it (ITU-R BS.775-4, table 2: centre and surrounds at -3 dB, LFE left out).
_MINUS_3_DB = 0.5**0.5
_LEFT_GAINS = {
    1: (1.0,),
    2: (1.0, 0.0),
    4: (1.0, 0.0, _MINUS_3_DB, 0.0),  # FL FR BL BR
    6: (1.0, 0.0, _MINUS_3_DB, 0.0, _MINUS_3_DB, 0.0),  # FL FR FC LFE BL BR
    8: (1.0, 0.0, _MINUS_3_DB, 0.0, _MINUS_3_DB, 0.0, _MINUS_3_DB, 0.0),  # ... SL SR
}
_MIRRORED = {
    1: (0,),
    2: (1, 0),
    4: (1, 0, 3, 2),
    6: (1, 0, 2, 3, 5, 4),
    8: (1, 0, 2, 3, 5, 4, 7, 6),
}


def remix(waveform: np.ndarray, num_channels: int) -> np.ndarray:
    """The sound in another number of channels, never louder than full scale.

    Mono becomes two equal channels; stereo becomes mono as its mean; 5.1 (and quad, 7.1) folds down
    by ITU-R BS.775 without its LFE; stereo becomes 5.1 as its front pair.

    Args:
        waveform: float32 [C, N], channels in FFmpeg's order (FL FR FC LFE BL BR SL SR).
        num_channels: 1, 2 or 6, or as many as there are.

    Raises:
        UserError: no rule for these numbers of channels.
    """
    source = waveform.shape[0]
    if source == num_channels:
        return waveform
    if source not in _LEFT_GAINS or num_channels not in (1, 2, 6):
        raise UserError(
            f"{source} channels to {num_channels}; "
            f"known are {', '.join(map(str, _LEFT_GAINS))} channels to 1, 2 or 6"
        )
    left = np.array(_LEFT_GAINS[source], dtype=np.float32)
    left /= left.sum()
    stereo = np.stack([left, left[list(_MIRRORED[source])]]) @ waveform
    if num_channels == 1:
        return stereo.mean(axis=0, keepdims=True, dtype=np.float32)
    if num_channels == 2:
        return stereo
    surround = np.zeros((6, waveform.shape[1]), dtype=np.float32)
    surround[:2] = stereo
    return surround


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
