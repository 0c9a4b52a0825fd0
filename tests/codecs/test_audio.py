"""Our audio codec: lengths, places in time, chunks, and the folder it is saved in."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from avgen.codecs.audio import AudioAutoencoder, AudioAutoencoderConfig
from avgen.codecs.base import AudioCodec, load_module, save_module
from avgen.codecs.hops import blocks, overlap_add

TINY = AudioAutoencoderConfig(
    sample_rate=8000,
    hop_length=80,
    latent_channels=6,
    fft_length=320,
    num_mels=20,
    phase_bins=10,
    encoder_width=16,
    encoder_hidden=16,
    encoder_depth=2,
    decoder_width=16,
    decoder_hidden=16,
    decoder_depth=2,
)


@pytest.fixture
def codec() -> AudioAutoencoder:
    return AudioAutoencoder(TINY).eval()


def test_default_codec_is_small_and_has_three_latents_a_video_frame_at_25_fps() -> None:
    codec = AudioAutoencoder(AudioAutoencoderConfig())
    assert isinstance(codec, AudioCodec)
    assert codec.latent_rate == Fraction(75)
    assert codec.latent_rate / 25 == 3
    assert (codec.sample_rate, codec.hop_length, codec.num_channels) == (24000, 320, 1)
    assert sum(p.numel() for p in codec.parameters()) <= 2_200_000


@torch.no_grad()
@pytest.mark.parametrize("num_samples", [1, 79, 80, 81, 400, 1234])
def test_any_length_comes_back_as_long_as_it_was(codec, num_samples) -> None:
    waveform = torch.randn(2, 1, num_samples) * 0.1
    latents = codec.encode(waveform)
    assert latents.shape == (2, 6, -(-num_samples // 80))
    assert codec.decode(latents, num_samples=num_samples).shape == waveform.shape


@torch.no_grad()
def test_an_odd_hop_loses_nothing() -> None:
    odd = AudioAutoencoder(replace(TINY, hop_length=45, fft_length=180)).eval()
    for num_samples in (1, 45, 46, 400):
        waveform = torch.randn(1, 1, num_samples)
        latents = odd.encode(waveform)
        assert latents.shape[2] == -(-num_samples // 45)
        assert odd.decode(latents, num_samples=num_samples).shape == waveform.shape
    whole = odd.encode(waveform)
    assert torch.allclose(odd.encode(waveform, chunk_latents=2), whole, atol=1e-5)


@torch.no_grad()
def test_latents_have_zero_mean_and_unit_variance_however_loud_the_sound(codec) -> None:
    waveform = torch.randn(1, 1, 1600)
    for gain in (1e-3, 0.1, 1.0):
        latents = codec.encode(gain * waveform)
        assert torch.allclose(latents.mean(1), torch.zeros(1, 20), atol=1e-5)
        assert torch.allclose(latents.var(1, correction=0), torch.ones(1, 20), atol=1e-2)


@torch.no_grad()
def test_padding_of_the_last_hop_is_silence(codec) -> None:
    waveform = torch.randn(1, 1, 1000)
    padded = torch.cat([waveform, torch.zeros(1, 1, 40)], dim=2)
    assert torch.equal(codec.encode(waveform), codec.encode(padded))


@torch.no_grad()
@pytest.mark.parametrize("chunk_latents", [1, 7, 30, 64])
def test_working_in_chunks_gives_the_whole(codec, chunk_latents) -> None:
    waveform = torch.randn(2, 1, 63 * 80 + 17) * 0.1
    whole = codec.encode(waveform, chunk_latents=10_000)
    assert torch.allclose(codec.encode(waveform, chunk_latents=chunk_latents), whole, atol=1e-5)
    sound = codec.decode(whole, num_samples=waveform.shape[2], chunk_latents=10_000)
    parts = codec.decode(whole, num_samples=waveform.shape[2], chunk_latents=chunk_latents)
    assert sound.abs().max() > 1e-3
    assert torch.allclose(parts, sound, atol=1e-6)


@torch.no_grad()
def test_chunks_join_in_order_and_are_no_longer_than_asked(codec) -> None:
    latents = torch.randn(1, 6, 25)
    parts = list(codec.decode_chunks(latents, num_samples=1990, chunk_latents=10))
    assert [part.shape[2] for part in parts] == [800, 800, 390]
    assert torch.allclose(torch.cat(parts, 2), codec.decode(latents, num_samples=1990), atol=1e-6)


@torch.no_grad()
def test_a_latent_is_changed_by_its_own_stretch_of_sound_and_only_as_far_as_stated(codec) -> None:
    waveform = torch.randn(1, 1, 60 * 80) * 0.1
    clicked = waveform.clone()
    clicked[..., 30 * 80 + 40] += 1.0  # the middle of latent 30
    change = (codec.encode(clicked) - codec.encode(waveform)).abs().amax(1)[0]
    touched = change.nonzero()[:, 0]
    # A window of four hops around each latent reaches one hop and a half to either side of it.
    reach = codec.encoder_reach + 2
    assert change[30] > 0.01
    assert touched.min() >= 30 - reach
    assert touched.max() <= 30 + reach


@torch.no_grad()
def test_a_latent_changes_the_sound_around_it_and_only_as_far_as_stated(codec) -> None:
    latents = torch.randn(1, 6, 60)
    other = latents.clone()
    other[..., 30] += 1.0
    made = [codec.decode(z, num_samples=60 * 80)[0, 0] for z in (latents, other)]
    energy = (made[1] - made[0]).square()
    touched = energy.nonzero()[:, 0]
    centre = (energy * torch.arange(len(energy))).sum() / energy.sum()
    assert abs(centre - 30.5 * 80) < 80
    assert touched.min() >= (30 - codec.reach) * 80
    assert touched.max() < (31 + codec.reach) * 80


@torch.no_grad()
def test_synthesis_is_the_inverse_of_analysis(codec) -> None:
    # Windowed frames of a signal, windowed again, must add up to that signal at every sample.
    waveform = torch.randn(1, 20 * 80)
    window = torch.hann_window(320)
    frames = torch.nn.functional.pad(waveform, (120, 120)).unfold(1, 320, 80) * window**2
    assert torch.allclose(overlap_add(frames, codec.hop_length), waveform, atol=1e-5)


@torch.no_grad()
def test_a_stretch_decodes_as_in_the_whole(codec) -> None:
    """And no later latent than `reach` beyond it is looked at."""
    latents = torch.randn(1, 6, 90, generator=torch.Generator().manual_seed(3))
    whole = codec.decode(latents, num_samples=7190)
    seen = latents.clone()
    seen[..., 50 + codec.reach :] = torch.nan
    part = torch.cat(list(codec.decode_chunks(seen, num_samples=7190, start=31, stop=50)), 2)
    assert torch.allclose(part, whole[..., 31 * 80 : 50 * 80], atol=1e-6)
    last = torch.cat(list(codec.decode_chunks(latents, num_samples=7190, start=70)), 2)
    assert torch.allclose(last, whole[..., 70 * 80 :], atol=1e-6)


def test_other_shapes_are_refused_with_the_rule(codec) -> None:
    for shape in [(1, 2, 800), (800,), (1, 1, 0)]:
        with pytest.raises(ValueError, match="must be \\[B, 1, N\\]"):
            codec.encode(torch.zeros(shape))
    with pytest.raises(ValueError, match="must be \\[B, 6, T\\]"):
        codec.decode(torch.zeros(1, 5, 10), num_samples=800)
    for num_samples in (0, 720, 801):
        with pytest.raises(ValueError, match="10 latents hold 721 to 800"):
            codec.decode(torch.zeros(1, 6, 10), num_samples=num_samples)
    with pytest.raises(ValueError, match="chunk_latents 0"):
        codec.decode(torch.zeros(1, 6, 10), num_samples=800, chunk_latents=0)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="fft_length 1000"):
        AudioAutoencoderConfig(fft_length=1000)
    with pytest.raises(ValueError, match="phase_bins 700"):
        AudioAutoencoderConfig(phase_bins=700)
    with pytest.raises(ValueError, match="decoder_depth 0"):
        AudioAutoencoderConfig(decoder_depth=0)


@torch.no_grad()
def test_saved_and_loaded_codec_makes_the_same_sound(codec, tmp_path) -> None:
    save_module(codec, tmp_path, dtype=torch.float32)
    loaded = load_module(tmp_path)
    assert isinstance(loaded, AudioAutoencoder)
    waveform = torch.randn(1, 1, 900)
    latents = loaded.encode(waveform)
    assert torch.equal(latents, codec.encode(waveform))
    made = loaded.decode(latents, num_samples=900)
    assert torch.equal(made, codec.decode(latents, num_samples=900))


@torch.no_grad()
def test_in_bfloat16_the_sound_is_nearly_the_same(codec) -> None:
    waveform = torch.randn(1, 1, 900) * 0.1
    latents = codec.encode(waveform)
    made = codec.decode(latents, num_samples=900)
    codec.bfloat16()
    assert (codec.encode(waveform).float() - latents).abs().mean() < 0.05
    coarse = codec.decode(latents.bfloat16(), num_samples=900).float()
    assert (coarse - made).square().mean() < 0.01 * made.square().mean()


def test_many_blocks_start_out_as_small_as_they_are_many():
    assert [block.scale.unique().tolist() for block in blocks(6, 8, 4)] == [[0.25]] * 4
