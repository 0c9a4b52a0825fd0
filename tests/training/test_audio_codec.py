"""Losses of the audio codec in closed form, and a few real training steps at tiny size."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from avgen.codecs.audio import AudioAutoencoder, AudioAutoencoderConfig
from avgen.codecs.base import save_module
from avgen.training.audio_codec import (
    AudioCodecSystem,
    DiscriminatorConfig,
    adversarial_loss,
    balanced_gradient,
    discriminator_loss,
    feature_loss,
    mean_losses,
    spectra,
    spectral_losses,
)
from avgen.training.optimization import OptimizerConfig

TINY = AudioAutoencoderConfig(
    sample_rate=8000,
    hop_length=80,
    latent_channels=8,
    fft_length=320,
    num_mels=24,
    phase_bins=20,
    encoder_width=24,
    encoder_hidden=24,
    encoder_depth=1,
    decoder_width=32,
    decoder_hidden=32,
    decoder_depth=2,
)


def sines(num_clips: int) -> list[dict[str, torch.Tensor]]:
    """Clips of half a second, each a tone of its own between 200 and 1000 Hz."""
    seconds = torch.arange(4000) / 8000
    tones = [200 + 800 * i / num_clips for i in range(num_clips)]
    return [{"waveform": 0.3 * torch.sin(2 * torch.pi * f * seconds)[None]} for f in tones]


class Sines(Dataset):
    """Eight of them."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return sines(8)[index]


def train(system: AudioCodecSystem, batches: int, folder) -> None:
    counted = batches if system.discriminator is None else 2 * batches
    trainer = L.Trainer(
        max_steps=counted,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(system, DataLoader(Sines(), batch_size=4))


def mel_error(codec: AudioAutoencoder) -> float:
    real = torch.stack([clip["waveform"] for clip in sines(5)])
    with torch.no_grad():
        made = codec.decode(codec.encode(real), num_samples=real.shape[2])
    return spectral_losses(made[:, 0], real[:, 0], 512, 8000)[0].item()


def test_spectrum_of_a_full_scale_sine_is_one_at_its_bin() -> None:
    sine = torch.sin(2 * torch.pi * 32 / 512 * torch.arange(2048))[None]
    magnitude = spectra(sine, 512).abs()
    assert magnitude.shape == (1, 13, 257)
    assert torch.allclose(magnitude[0, :, 32], torch.ones(13), atol=1e-4)
    assert magnitude[0, :, 40:].max() < 1e-4


def test_spectral_losses_are_zero_for_the_same_sound_and_phase_only_moves_the_complex_one() -> None:
    real = torch.sin(2 * torch.pi * 500 / 8000 * torch.arange(4096))[None]
    mel, complex_ = spectral_losses(real, real, 256, 8000)
    assert mel < 1e-9
    assert complex_ < 1e-9
    mel, complex_ = spectral_losses(-real, real, 256, 8000)
    assert mel < 1e-9
    assert complex_ > 0.01


def test_twice_as_loud_is_the_logarithm_of_two_in_mels() -> None:
    real = torch.randn(1, 8192)
    mel, _ = spectral_losses(2 * real, real, 512, 8000)
    assert mel.item() == pytest.approx(0.6931, abs=2e-3)


def test_hinge_losses_in_closed_form() -> None:
    made, real = [torch.tensor([-2.0, 0.5])], [torch.tensor([3.0, 0.0])]
    assert discriminator_loss(made, real).item() == pytest.approx((0 + 1.5) / 2 + (0 + 1) / 2)
    assert adversarial_loss(made).item() == pytest.approx((3 + 0.5) / 2)
    features = feature_loss([[torch.tensor([1.0, 1.0])]], [[torch.tensor([2.0, 4.0])]])
    assert features.item() == pytest.approx(2 / 3)


def test_balanced_gradient_gives_each_loss_its_share_whatever_its_scale() -> None:
    output = torch.tensor([1.0, 1.0], requires_grad=True)
    losses = {"small": 1e-3 * output[0], "large": 1e3 * output[1]}
    gradient = balanced_gradient(losses, {"small": 3.0, "large": 1.0}, output)
    assert torch.allclose(gradient, torch.tensor([0.75, 0.25]))


def test_a_few_steps_of_reconstruction_lower_the_error(tmp_path) -> None:
    system = AudioCodecSystem(TINY, OptimizerConfig(lr=3e-3, warmup_steps=2, total_steps=40))
    before = mel_error(system.codec)
    train(system, 30, tmp_path)
    assert mel_error(system.codec) < 0.7 * before


def test_adversarial_phase_trains_decoder_and_discriminator_and_keeps_the_encoder(tmp_path) -> None:
    torch.manual_seed(1)
    start = AudioAutoencoder(TINY)
    save_module(start, tmp_path, dtype=torch.float32)
    system = AudioCodecSystem(
        TINY,
        OptimizerConfig(lr=1e-3, warmup_steps=1, total_steps=5),
        discriminator=DiscriminatorConfig(filters=2, fft_lengths=(128, 64)),
        initial_weights=str(tmp_path / "model.safetensors"),
        freeze_encoder=True,
    )
    assert system.discriminator is not None
    # Not the biases: one on the last layer moves nothing while real and made score alike.
    judge = {n: p.clone() for n, p in system.discriminator.named_parameters() if p.ndim > 1}
    train(system, 4, tmp_path)
    for name, parameter in system.codec.encoder.named_parameters():
        assert torch.equal(parameter, start.encoder.get_parameter(name)), name
    for name, parameter in judge.items():
        assert not torch.equal(parameter, system.discriminator.get_parameter(name)), name
    assert not torch.equal(system.codec.decoder.head.weight, start.decoder.head.weight)


def test_the_same_seed_and_data_train_the_same_weights(tmp_path) -> None:
    heads = []
    for _ in range(2):
        torch.manual_seed(3)
        system = AudioCodecSystem(TINY, OptimizerConfig(lr=1e-3, warmup_steps=1, total_steps=5))
        torch.rand(17)  # what else draws from the global generator changes nothing
        train(system, 3, tmp_path)
        heads.append(system.codec.decoder.head.weight.detach())
    assert torch.equal(*heads)


def test_waveforms_shorter_than_a_window_are_refused() -> None:
    with pytest.raises(ValueError, match="waveforms of 100 samples: at least 128 needed"):
        mean_losses(torch.zeros(1, 1, 100), torch.zeros(1, 1, 100), (64, 128), 8000)


def test_negative_noise_is_refused() -> None:
    with pytest.raises(ValueError, match=r"noise -0\.1"):
        AudioCodecSystem(TINY, OptimizerConfig(lr=1e-3, warmup_steps=1, total_steps=5), noise=-0.1)


def test_noise_differs_between_processes_and_micro_batches() -> None:
    class StopError(Exception):
        pass

    def seed_of(rank: int, batch_idx: int) -> int:
        class OnRank(AudioCodecSystem):
            global_rank = rank

            def optimizers(self, use_pl_optimizer: bool = True) -> list:
                return []

            def reconstruct(self, real, generator):
                raise StopError(generator.initial_seed())

        system = OnRank(TINY, OptimizerConfig(lr=1e-3, warmup_steps=1, total_steps=5))
        with pytest.raises(StopError) as enough:
            system.training_step({"waveform": torch.zeros(1, 1, 4000)}, batch_idx)
        return enough.value.args[0]

    assert seed_of(0, 0) == seed_of(0, 0)
    assert len({seed_of(rank, batch) for rank in (0, 1) for batch in (0, 1)}) == 4
