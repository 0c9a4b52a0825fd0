"""The codecs' numbers: closed forms where there is one, stored values (golden.json) of the rest."""

import math

import numpy as np
import pytest
import torch

from avgen.codecs.audio import AudioAutoencoder, AudioAutoencoderConfig
from avgen.codecs.normalize import LatentStatistics
from avgen.codecs.video import ConvVideoCodec, ConvVideoCodecConfig, fold

SOUND = AudioAutoencoderConfig(
    sample_rate=8000,
    hop_length=80,
    latent_channels=5,
    fft_length=320,
    num_mels=20,
    phase_bins=10,
    encoder_width=12,
    encoder_hidden=18,
    encoder_depth=2,
    decoder_width=14,
    decoder_hidden=20,
    decoder_depth=2,
)
PICTURE = ConvVideoCodecConfig(5, (6, 8, 10), (8, 10, 12), (1, 2, 1), (2, 1, 1), 2, 2)


@pytest.fixture(scope="module")
def sound_codec(fill):
    return fill(AudioAutoencoder(SOUND)).requires_grad_(False)


@pytest.fixture(scope="module")
def picture_codec(fill):
    return fill(ConvVideoCodec(PICTURE)).requires_grad_(False)


def tone(hertz, amplitude=0.5):
    return amplitude * torch.sin(2 * math.pi * hertz * torch.arange(320) / 8000)[None, None]


@pytest.mark.parametrize("hertz", [200, 500, 1000, 2000, 3200])
def test_a_tone_is_heard_in_its_band(sound_codec, hertz):
    """Bands are 20 triangles of equal distance on Slaney's mel scale from 0 to 4 kHz."""

    def mel(f):
        return f * 3 / 200 if f < 1000 else 15 + 27 * math.log(f / 1000) / math.log(6.4)

    features = sound_codec.encoder.features(tone(hertz))[0, 0, :20]
    centre = mel(hertz) / (mel(4000) / 21) - 1
    assert abs(int(features.argmax()) - centre) <= 0.5 + 0.1
    assert float(features.max() - features.min()) > 1.5


def test_the_spectrum_of_a_tone(sound_codec):
    """A sine of amplitude a, whole periods in the window: a in its bin, a / 2 in those beside it,
    which the encoder sees to the power of 0.3, times 3; its phase stays."""
    features = sound_codec.encoder.features(tone(100, 0.5))[0, 0, 20:].view(10, 2)
    sizes = features.norm(dim=1) / 3
    np.testing.assert_allclose(sizes[3:6], [0.25**0.3, 0.5**0.3, 0.25**0.3], rtol=1e-3)
    phases = torch.atan2(features[3:6, 1], features[3:6, 0])
    np.testing.assert_allclose(phases, [math.pi / 2, -math.pi / 2, math.pi / 2], atol=0.01)
    silence = sound_codec.encoder.features(torch.zeros(1, 1, 320))[0, 0]
    np.testing.assert_allclose(silence[:20], math.log(1e-5) / 3 + 2, rtol=1e-5)
    assert not silence[20:].any()


def test_sound_to_latents_and_back(sound_codec, chirp, golden):
    waveform = 0.3 * torch.from_numpy(chirp((2, 1, 1111), 4)).float()
    latents = sound_codec.encode(waveform)
    golden("sound codec: features", sound_codec.encoder.features(waveform[:, :, :320]))
    golden("sound codec: latents", latents)
    given = torch.from_numpy(chirp((2, 5, 14), 8)).float()
    golden("sound codec: waveform", sound_codec.decode(given, num_samples=1111), 48)


def test_picture_to_latents_and_back(picture_codec, chirp, golden):
    """Sizes that the strides do not divide; more latents than a chunk and a tile have."""
    video = torch.from_numpy(chirp((1, 3, 11, 40, 56), 4)).float()
    golden("picture codec: latents", picture_codec.encode(video), 48)
    given = torch.from_numpy(chirp((1, 5, 4, 3, 4), 8)).float()
    made = picture_codec.decode(given, num_frames=11, height=40, width=56)
    assert float((made.abs() == 1).float().mean()) < 0.3
    golden("picture codec: pixels", made, 64)


def test_the_place_of_every_pixel_in_what_is_folded():
    video = torch.arange(3 * 8 * 8 * 12).view(1, 3, 8, 8, 12)
    folded = fold(video)
    for color, frame, row, column in [(0, 0, 0, 1), (2, 5, 6, 9), (1, 7, 3, 4)]:
        channel = ((color * 4 + frame % 4) * 4 + row % 4) * 4 + column % 4
        value = folded[0, frame // 4, channel, row // 4, column // 4]
        assert value == video[0, color, frame, row, column]


def test_statistics_are_each_channels_own():
    latents = torch.arange(12.0).view(1, 2, 6) ** 2
    fitted = LatentStatistics.fit([latents[0, :, :4], latents[0, :, 4:]])
    for channel in range(2):
        own = latents[0, channel].double().numpy()
        assert fitted.mean[channel] == pytest.approx(own.mean())
        assert fitted.std[channel] == pytest.approx(own.std())
    statistics = LatentStatistics((3.0, -1.0), (2.0, 0.5))
    made = statistics.normalize(latents)
    np.testing.assert_allclose(made[0, 0], (latents[0, 0] - 3) / 2)
    np.testing.assert_allclose(made[0, 1], (latents[0, 1] + 1) / 0.5)
    np.testing.assert_allclose(statistics.denormalize(latents)[0, 1], latents[0, 1] * 0.5 - 1)
