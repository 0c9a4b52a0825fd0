"""A picture's codec in, one whose mover presses lips further than it is told out.

    python recipes/people/press.py CODEC OUT

A mover parts lips a little where it is told that they are pressed: on P, B and M they closed in
0.75 of 52 cases from a first frame, and in 0.92 and 0.94 where `lipGap` was told less by 0.15 and
0.225 of `lipsClosed` (LOG.md, twentieth session). What it is told goes through linear layers, so
their weights can take that off.
"""

import argparse
from pathlib import Path

import torch

from avgen.codecs.base import load_module, save_module
from avgen.codecs.convolutions import FRAMES
from avgen.codecs.video import ConvVideoCodec
from avgen.corpora.portraits.deformation import TRACK

SHARE = 0.2  # of lipsClosed


def main() -> None:
    """Read a codec, and write the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("codec", type=Path, help="the folder of a codec with a mover")
    parser.add_argument("out", type=Path, help="a folder")
    parser.add_argument("--share", type=float, default=SHARE, help="default: %(default)s")
    args = parser.parse_args()
    codec = load_module(args.codec)
    if not isinstance(codec, ConvVideoCodec) or len(codec.config.expression_scales) != len(TRACK):
        parser.error(f"{args.codec}: no codec whose mover is told the expressions of portraits")
    press(codec, args.share)
    save_module(codec, args.out)


@torch.no_grad()
def press(codec: ConvVideoCodec, share: float) -> None:
    """Let its mover take a share of `lipsClosed` off `lipGap`."""
    mover, scales = codec.mover, codec.config.expression_scales
    assert mover is not None and mover.told is not None
    closed, gap = TRACK.index("lipsClosed"), TRACK.index("lipGap")
    by = share * scales[closed] / scales[gap]
    whole = [layer.weight[:, :-1] for layer in mover.told]  # the last is told for its own sake
    for weight in (*whole, mover.frames.told.weight[:, FRAMES:]):
        columns = weight.unflatten(1, (-1, len(scales)))  # a view
        columns[..., closed] -= by * columns[..., gap]


if __name__ == "__main__":
    main()
