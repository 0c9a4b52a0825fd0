"""Training of the picture's codec: what it starts from."""

from dataclasses import replace

import torch

from avgen.codecs.base import save_module
from avgen.codecs.video import ConvVideoCodec, ConvVideoCodecConfig, Flaws
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
        replace(SMALL, encoder_depths=(1, 1, 2), mover_widths=(8, 8, 8)),
        OptimizerConfig(lr=1e-3, warmup_steps=1, total_steps=2),
        PixelLoss(),
        initial_weights=tmp_path / "model.safetensors",
    )
    pixels = torch.rand(1, 3, 9, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        assert torch.equal(system.codec.encode(pixels), first.encode(pixels))


def loss(rank, batch_idx):
    """Of one step with much noise on the latents, on a process."""

    class OnRank(VideoCodecSystem):
        global_rank = rank

    torch.manual_seed(0)
    codec = replace(SMALL, latent_channels=4)
    system = OnRank(codec, OptimizerConfig(1e-3, 1, 2), PixelLoss(), Flaws(noise=1.0))
    system.log = system.log_dict = lambda *args, **kwargs: None
    for parameter in system.codec.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    torch.manual_seed(rank + 10 * batch_idx + torch.seed() % 7)  # what else draws changes nothing
    video = torch.arange(2 * 5 * 32 * 32 * 3, dtype=torch.int64).remainder(251).to(torch.uint8)
    video = video.view(2, 5, 32, 32, 3)
    batch = {"video": video, "anchor": video[:, 3]}
    return float(system.training_step(batch, batch_idx).detach())


def test_noise_is_of_the_seed_the_batch_and_the_process_alone():
    """So that a run resumes exactly, processes differ, and so do micro-batches of a step."""
    assert loss(0, 0) == loss(0, 0)
    assert len({loss(rank, batch) for rank in (0, 1) for batch in (0, 1)}) == 4
