"""The speech codec's decoder learns from magnitudes, and a run that stopped goes on bit for bit."""

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from avgen.codecs.speech import SpeechCodecConfig
from avgen.training.audio_codec import DiscriminatorConfig, mean_losses
from avgen.training.optimization import OptimizerConfig
from avgen.training.saving import Saving
from avgen.training.speech_codec import SpeechCodecSystem

TINY = SpeechCodecConfig(width=16, hidden=32, depth=1)
RATE = 24000


class Vowels(Dataset):
    """Eight clips of a third of a second, each with a pitch and resonances of its own."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        time_s = torch.arange(8000) / RATE
        pitch_hz, resonance_hz = 110 + 23 * index, 500 + 180 * index
        waveform = torch.zeros(8000)
        for k in range(1, 30):
            far = (k * pitch_hz - resonance_hz) / 400
            waveform += torch.sin(2 * torch.pi * k * pitch_hz * time_s + k) / (1 + far**2)
        return {"waveform": 0.05 * waveform[None]}


def trainer(folder, steps: int, every: int = 0) -> L.Trainer:
    saved = [ModelCheckpoint(folder, save_last=True, every_n_train_steps=every)] if every else []
    return L.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        callbacks=saved,
        enable_checkpointing=bool(every),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def system(steps: int = 40, **options) -> SpeechCodecSystem:
    torch.manual_seed(3)
    optimizer = OptimizerConfig(lr=3e-3, warmup_steps=2, total_steps=steps)
    return SpeechCodecSystem(TINY, optimizer, seed=5, **options)


def error(trained: SpeechCodecSystem) -> float:
    real = torch.stack([Vowels()[i]["waveform"] for i in range(3)])
    with torch.no_grad():
        latents = trained.codec.encode(real)
        made = trained.codec.decode(latents, num_samples=real.shape[2])
    return mean_losses(made, real, (512, 2048), RATE, has_phase=False)["mel"].item()


def test_a_few_steps_lower_the_error_and_leave_the_latents(tmp_path) -> None:
    trained = system()
    before, latents = error(trained), trained.codec.encode(Vowels()[2]["waveform"][None])
    trainer(tmp_path, 40).fit(trained, DataLoader(Vowels(), batch_size=4))
    assert error(trained) < 0.7 * before
    assert torch.equal(trained.codec.encode(Vowels()[2]["waveform"][None]), latents)


def test_a_run_goes_on_bit_for_bit(tmp_path) -> None:
    whole = system()
    trainer(tmp_path / "whole", 6).fit(whole, DataLoader(Vowels(), batch_size=4))
    trainer(tmp_path / "part", 4, every=4).fit(system(), DataLoader(Vowels(), batch_size=4))
    rest = system()
    torch.rand(31)  # what else draws from the global generator changes nothing
    last = str(tmp_path / "part" / "last.ckpt")
    trainer(tmp_path / "rest", 6).fit(rest, DataLoader(Vowels(), batch_size=4), ckpt_path=last)
    for name, tensor in whole.codec.state_dict().items():
        assert torch.equal(tensor, rest.codec.state_dict()[name]), name


def test_the_adversary_trains_the_decoder(tmp_path) -> None:
    trained = system(discriminator=DiscriminatorConfig(filters=2, fft_lengths=(256,)))
    assert trained.discriminator is not None
    judge = [p.clone() for p in trained.discriminator.parameters() if p.ndim > 1]
    head = trained.codec.decoder.head.weight.clone()
    trainer(tmp_path, 4).fit(trained, DataLoader(Vowels(), batch_size=4))
    after = [p for p in trained.discriminator.parameters() if p.ndim > 1]
    assert not any(torch.equal(a, b) for a, b in zip(judge, after, strict=True))
    assert not torch.equal(head, trained.codec.decoder.head.weight)


def test_losses_are_of_magnitudes_alone() -> None:
    real = 0.1 * torch.randn(2, 1, 8192, generator=torch.Generator().manual_seed(0))
    losses = mean_losses(-real, real, (512, 2048), RATE, has_phase=False)
    assert losses["mel"] < 1e-7
    assert losses["magnitude"] < 1e-7
    louder = mean_losses(1.5 * real, real, (512,), RATE, has_phase=False)
    assert louder["mel"].item() == pytest.approx(0.4055, abs=2e-3)  # log 1.5
    with pytest.raises(ValueError, match="waveforms of 100 samples: at least 128 needed"):
        mean_losses(real[..., :100], real[..., :100], (64, 128), RATE, has_phase=False)


def test_noise_leaves_the_pitch_alone() -> None:
    """However noisy the latents, the pulses keep their pitch."""
    noisy = system(noise=3.0)
    real = Vowels()[1]["waveform"][None]
    with torch.no_grad():
        made = noisy.reconstruct(real, torch.Generator().manual_seed(2))
    assert made.shape == real.shape
    assert torch.isfinite(made).all()
    again = noisy.reconstruct(real, torch.Generator().manual_seed(2))
    assert torch.equal(made, again.detach())
    with pytest.raises(ValueError, match=r"noise -0\.1"):
        system(noise=-0.1)


def test_a_run_is_saved_by_the_clock(tmp_path) -> None:
    saving = Saving(dirpath=str(tmp_path), every_minutes=0, keep=5)
    run = trainer(tmp_path / "log", 3)
    run.callbacks.append(saving)
    run.fit(system(), DataLoader(Vowels(), batch_size=4))
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == [
        "last.ckpt", "step=1.ckpt", "step=2.ckpt", "step=3.ckpt",
    ]  # fmt: skip
