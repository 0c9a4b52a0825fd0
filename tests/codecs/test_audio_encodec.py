"""The wrapper of encodec's models against the encodec package itself, with random weights."""

import pytest
import torch

from avgen.codecs.base import AudioCodec
from avgen.codecs.encodec import EncodecAudio, EncodecAudioConfig


@pytest.fixture(scope="module")
def mono() -> EncodecAudio:
    return fresh(EncodecAudioConfig(24000))


@pytest.fixture(scope="module")
def stereo() -> EncodecAudio:
    return fresh(EncodecAudioConfig(48000))


def fresh(config: EncodecAudioConfig) -> EncodecAudio:
    """A model with random weights and codebooks (which start as zeros until they are fitted)."""
    codec = EncodecAudio(config).eval()
    for name, buffer in codec.named_buffers():
        if name.endswith("_codebook.embed"):
            buffer.normal_(generator=torch.Generator().manual_seed(0))
    return codec


@torch.no_grad()
def quantised(codec: EncodecAudio, latents: torch.Tensor, bandwidth: float) -> torch.Tensor:
    quantizer = codec.model.quantizer
    return quantizer.decode(quantizer.encode(latents, codec.model.frame_rate, bandwidth))


@torch.no_grad()
def test_24_khz_latents_are_those_that_encodec_quantises(mono) -> None:
    codec: AudioCodec = mono
    assert isinstance(codec, AudioCodec)
    assert (mono.sample_rate, mono.num_channels, mono.hop_length) == (24000, 1, 320)
    assert (mono.latent_channels, mono.latent_rate) == (128, 75)
    waveform = torch.randn(1, 1, 5000) * 0.1
    mono.model.set_target_bandwidth(6.0)
    ((codes, scale),) = mono.model.encode(waveform)
    latents = mono.encode(waveform)
    assert scale is None
    assert latents.shape == (1, 128, 16)  # ceil(5000 / 320)
    ours = mono.model.quantizer.encode(latents, mono.model.frame_rate, 6.0)
    assert torch.equal(ours.transpose(0, 1), codes)


@torch.no_grad()
def test_24_khz_snapped_decoding_is_encodecs_round_trip_trimmed(mono) -> None:
    waveform = torch.randn(2, 1, 5000) * 0.1
    mono.model.set_target_bandwidth(6.0)
    expected = mono.model(waveform)
    snapping = EncodecAudio(EncodecAudioConfig(24000, snap_bandwidth=6.0)).eval()
    snapping.load_state_dict(mono.state_dict())
    made = snapping.decode(snapping.encode(waveform), num_samples=5000)
    assert made.shape == (2, 1, 5000)
    assert torch.allclose(made, expected, atol=1e-5)
    plain = mono.decode(mono.encode(waveform), num_samples=5000)
    assert not torch.allclose(plain, expected, atol=1e-3)  # not snapped: other, continuous latents


@torch.no_grad()
def test_48_khz_carries_the_loudness_of_each_segment(stereo) -> None:
    loud = torch.randn(1, 2, 48000)
    waveform = torch.cat([loud * 0.5, loud[..., :9600] * 0.01], dim=2)
    latents = stereo.encode(waveform)
    assert (stereo.num_channels, stereo.latent_channels, stereo.latent_rate) == (2, 129, 150)
    assert latents.shape == (1, 129, 180)  # 57600 / 320
    loudness = latents[0, -1].exp()
    mono_mix = waveform.mean(1)[0]
    for span, samples in ((slice(0, 150), slice(0, 48000)), (slice(150, 180), slice(48000, None))):
        expected = mono_mix[samples].square().mean().sqrt()
        assert torch.allclose(loudness[span], expected, rtol=1e-4)


@torch.no_grad()
def test_48_khz_snapped_decoding_is_encodecs_round_trip_without_overlap(stereo) -> None:
    waveform = torch.randn(1, 2, 52000) * 0.1
    stereo.model.set_target_bandwidth(24.0)
    expected = stereo.model(waveform)
    snapping = EncodecAudio(EncodecAudioConfig(48000, snap_bandwidth=24.0)).eval()
    snapping.load_state_dict(stereo.state_dict())
    made = snapping.decode(snapping.encode(waveform), num_samples=52000)
    assert torch.allclose(made, expected, atol=1e-4)


@torch.no_grad()
def test_released_file_is_read_from_a_file_or_its_folder(mono, tmp_path) -> None:
    file = tmp_path / "encodec_24khz-d7cc33bc.th"
    torch.save(mono.model.state_dict(), file)
    waveform = torch.randn(1, 1, 640)
    for path in (file, tmp_path):
        codec = EncodecAudio.from_release(EncodecAudioConfig(24000), path)
        assert torch.equal(codec.encode(waveform), mono.encode(waveform))


def test_a_missing_corrupt_or_other_file_is_a_clear_error(mono, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.th: .*encodec_24khz"):
        EncodecAudio.from_release(EncodecAudioConfig(24000), tmp_path / "nowhere.th")
    corrupt = tmp_path / "corrupt.th"
    corrupt.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match=r"corrupt\.th"):
        EncodecAudio.from_release(EncodecAudioConfig(24000), corrupt)
    state = mono.model.state_dict()
    state.pop("decoder.model.0.conv.conv.bias")
    torch.save(state, tmp_path / "short.th")
    with pytest.raises(ValueError, match=r"short\.th: .*decoder\.model\.0\.conv\.conv\.bias"):
        EncodecAudio.from_release(EncodecAudioConfig(24000), tmp_path / "short.th")


def test_wrong_channels_lengths_and_settings_are_refused(mono, stereo) -> None:
    with pytest.raises(ValueError, match="must be \\[B, 1, N\\]"):
        mono.encode(torch.zeros(1, 2, 320))
    with pytest.raises(ValueError, match="must be \\[B, 2, N\\]"):
        stereo.encode(torch.zeros(1, 1, 320))
    with pytest.raises(ValueError, match="3 latents hold 641 to 960"):
        mono.decode(torch.zeros(1, 128, 3), num_samples=640)
    with pytest.raises(ValueError, match="sample_rate 16000"):
        EncodecAudioConfig(16000)
    with pytest.raises(ValueError, match=r"snap_bandwidth 1\.5: .*3\.0"):
        EncodecAudioConfig(48000, snap_bandwidth=1.5)
