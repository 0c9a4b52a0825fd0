"""Training of the picture's codec: what it starts from."""

from dataclasses import replace

import torch

from avgen.codecs.base import save_module
from avgen.codecs.video import ConvVideoCodec, ConvVideoCodecConfig
from avgen.training.optimization import OptimizerConfig
from avgen.training.video_codec import PixelLoss, VideoCodecSystem

SMALL = ConvVideoCodecConfig(latent_channels=2, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8))


def test_a_codec_with_more_blocks_starts_as_the_one_it_is_trained_on_from(tmp_path):
    torch.manual_seed(0)
    first = ConvVideoCodec(SMALL)
    for parameter in first.parameters():  # residual blocks start as the identity; this one learned
        torch.nn.init.normal_(parameter, std=0.1)
    save_module(first, tmp_path, dtype=torch.float32)
    system = VideoCodecSystem(
        replace(SMALL, encoder_depths=(1, 1, 2)),
        OptimizerConfig(lr=1e-3, warmup_steps=1, total_steps=2),
        PixelLoss(),
        initial_weights=tmp_path / "model.safetensors",
    )
    pixels = torch.rand(1, 3, 9, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        assert torch.equal(system.codec.encode(pixels), first.encode(pixels))
