"""Voices alone -> latents to train the transformer on, straight from a corpus' manifest.

    python recipes/people/encode.py VOICES ... OUT [--codec CODEC] [--video CODEC] [--size 128]

VOICES are folders with a manifest.jsonl of records without pictures; the latents of several are put
together in OUT/latents. The sound codec's encoder is a formula, so a codec that was
never trained does: without --codec it is `SpeechCodec()`. What the picture's codec decides of a
token is taken from --video, or is that of recipes/grid/model.
"""

import argparse
from pathlib import Path

from avgen.codecs.base import load_module
from avgen.codecs.speech import SpeechCodec, SpeechCodecConfig
from avgen.preparation.encode import encode_voices
from avgen.preparation.latent_store import LatentConfig
from avgen.preparation.merge import merge

SHIPPED = Path(__file__).parents[2] / "recipes/grid/model/video_codec"


def main() -> None:
    """Encode every folder, then put them together."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("voices", type=Path, nargs="+")
    parser.add_argument("out", type=Path)
    parser.add_argument("--codec", type=Path, help="a folder of a SpeechCodec")
    parser.add_argument("--video", type=Path, default=SHIPPED, help="a picture codec's folder")
    parser.add_argument("--size", type=int, default=128, help="pixels of pictures to come")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    audio = SpeechCodec(SpeechCodecConfig()) if args.codec is None else load_module(args.codec)
    video = load_module(args.video)
    like = LatentConfig(
        height=args.size,
        width=args.size,
        fps="25",
        video_stride=video.stride,
        video_channels=video.latent_channels,
        video_patch=2,
        sample_rate=audio.sample_rate,
        hop_length=audio.hop_length,
        audio_channels=audio.latent_channels,
        audio_patch=3,
        fingerprint="",
    )
    several = len(args.voices) > 1
    parts = [args.out / "parts" / root.name if several else args.out for root in args.voices]
    for root, part in zip(args.voices, parts, strict=True):
        for failure in encode_voices(root, part, audio, like, args.device):
            print(failure)
    if several:
        merge(parts, args.out)


if __name__ == "__main__":
    main()
