"""Lips that are pressed further than is told: weights in place of other expressions."""

import subprocess
import sys
from pathlib import Path

import torch

from avgen.codecs.base import load_module, save_module
from avgen.codecs.video import ConvVideoCodec, ConvVideoCodecConfig
from avgen.corpora.portraits.deformation import TRACK

SCRIPT = Path(__file__).parents[2] / "recipes/people/press.py"
CLOSED, GAP = TRACK.index("lipsClosed"), TRACK.index("lipGap")


def test_a_pressed_mover_does_as_one_that_is_told_less_of_a_gap(tmp_path):
    torch.manual_seed(5)
    scales = tuple((0.05 + torch.rand(len(TRACK))).tolist())
    widths = (8, 16, 16)
    codec = ConvVideoCodec(
        ConvVideoCodecConfig(6, widths, widths, mover_widths=widths, expression_scales=scales)
    )
    with torch.no_grad():
        for parameter in codec.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape)).copy_(parameter.bfloat16())
    save_module(codec.eval(), tmp_path / "codec")
    command = [sys.executable, SCRIPT, tmp_path / "codec", tmp_path / "out", "--share", "0.3"]
    subprocess.run(command, check=True)
    pressed = load_module(tmp_path / "out")
    latents, told = torch.randn(1, 6, 3, 2, 2), torch.randn(1, 3, 4, len(TRACK))
    less = told.clone()
    less[..., GAP] -= 0.3 * told[..., CLOSED]
    clip = {"num_frames": 9, "height": 32, "width": 32}
    with torch.inference_mode():
        expected = codec.decode(latents, **clip, expressions=less)
        made, before = (c.decode(latents, **clip, expressions=told) for c in (pressed, codec))
    torch.testing.assert_close(made, expected, atol=0.02, rtol=0)  # weights are bfloat16
    assert (before - expected).abs().max() > 0.1
