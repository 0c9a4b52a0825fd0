"""A suffix in, how such a file is written out: container, codecs, and what they cannot hold.

| suffix     | picture                      | sound                  |
|------------|------------------------------|------------------------|
| .mp4, .mov | H.264, 4:2:0, BT.709 limited | AAC, 48 kHz            |
| .webm      | VP9, 4:2:0, BT.709 limited   | Opus, 48 kHz           |
| .mkv       | FFV1, RGB, lossless          | FLAC, 24 bit, own rate |
"""

from dataclasses import dataclass, field
from pathlib import Path

from avgen.clips.files import MediaError

# FFmpeg's usual layout of 1 to 8 channels.
CHANNEL_LAYOUTS = ("mono", "stereo", "2.1", "quad", "5.0", "5.1", "6.1", "7.1")

# Transfer characteristics that a screen of standard range cannot show as they are.
HIGH_DYNAMIC_RANGE = {16: "PQ", 18: "HLG"}  # by FFmpeg's numbers: help needs no PyAV

# Players that ignore edit lists are late by AAC's 1,024 samples of priming: 21 ms at 48 kHz, 64 at
# 16 kHz.
_DELIVERY_RATE = 48_000


@dataclass(frozen=True)
class ContainerFormat:
    """What a suffix stands for.

    Attributes:
        format: the muxer.
        video_codec: the encoder of the picture.
        pixel_format: what it is given.
        audio_codec: the encoder of the sound.
        audio_bit_rate: bits per second and channel, or None for lossless.
        sample_rate: Hz, or None for the clip's own.
        muxer_options: for the muxer.
        video_options: for the encoder of the picture.
    """

    format: str
    video_codec: str
    pixel_format: str
    audio_codec: str
    audio_bit_rate: int | None = None
    sample_rate: int | None = None
    muxer_options: dict[str, str] = field(default_factory=dict)
    video_options: dict[str, str] = field(default_factory=dict)

    @property
    def lossless(self) -> bool:
        """Whether frames come back as they went in, and samples to 24 bits."""
        return self.audio_bit_rate is None


# use_metadata_tags: without it the muxer drops every tag that it does not know.
_MPEG4 = {
    "video_codec": "libx264",
    "pixel_format": "yuv420p",
    "audio_codec": "aac",
    "audio_bit_rate": 96_000,
    "sample_rate": _DELIVERY_RATE,
    "muxer_options": {"movflags": "+faststart+use_metadata_tags"},
    # Without mbtree a picture is the same bytes on every machine with AVX2: with it x264 decides by
    # sums that each instruction set rounds in its own way, and AVX-512's by memory that nobody has
    # set. A qcomp of 0.8 in its place keeps what stands still as still as mbtree did.
    "video_options": {"crf": "16", "preset": "medium", "x264-params": "mbtree=0:qcomp=0.8"},
}
_NAMELESS = {"fflags": "+bitexact"}  # one clip, one file: no random number for its name
CONTAINERS = {
    ".mp4": ContainerFormat("mp4", **_MPEG4),
    ".mov": ContainerFormat("mov", **_MPEG4),
    ".webm": ContainerFormat(
        format="webm",
        video_codec="libvpx-vp9",
        pixel_format="yuv420p",
        audio_codec="libopus",
        audio_bit_rate=80_000,
        sample_rate=_DELIVERY_RATE,
        muxer_options=_NAMELESS,
        video_options={"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
    ),
    ".mkv": ContainerFormat(
        format="matroska",
        video_codec="ffv1",
        pixel_format="bgr0",  # the 8-bit RGB that FFV1 takes
        audio_codec="flac",
        muxer_options=_NAMELESS,
        video_options={"level": "3", "slicecrc": "1"},
    ),
}


def format_of(path: Path) -> ContainerFormat:
    """What the suffix of `path` stands for.

    Raises:
        MediaError: it stands for nothing here.
    """
    kind = CONTAINERS.get(path.suffix.lower())
    if kind is None:
        raise MediaError(
            f"{path}: unknown suffix {path.suffix!r}; it must be one of {' '.join(CONTAINERS)}"
        )
    return kind


def channels_of(kind: ContainerFormat) -> tuple[int, ...]:
    """The numbers of channels that the format takes here."""
    return tuple(range(1, len(CHANNEL_LAYOUTS) + 1)) if kind.lossless else (1, 2, 6)


def check_size(path: Path, kind: ContainerFormat, height: int, width: int) -> None:
    """Refuse a size, in pixels, that the format cannot hold.

    Raises:
        MediaError: not positive, or odd where colours are stored for 2x2 pixels.
    """
    if height < 1 or width < 1:
        raise MediaError(f"{path}: size {width}x{height}; both must be at least 1 pixel")
    if not kind.lossless and (height % 2 or width % 2):
        raise MediaError(
            f"{path}: size {width}x{height}; both must be even in {path.suffix}, whose colours "
            "are stored for 2x2 pixels; .mkv takes any size"
        )
