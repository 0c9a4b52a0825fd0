"""The closed form of a latent, and the decoder's excitations; exact in chunks and stretches."""

import math

import pytest
import torch
from torch import Tensor

from avgen.codecs.base import AudioCodec, load_module, save_module
from avgen.codecs.excitation import fixed_noise, pulse_phases, pulses
from avgen.codecs.pitch import USUAL_HZ
from avgen.codecs.speech import (
    PITCH_DEVIATION,
    SpeechCodec,
    SpeechCodecConfig,
    cosine_transform,
    latent_scales,
)
from avgen.errors import UserError

RATE, HOP = 24000, 320
TINY = SpeechCodecConfig(width=16, hidden=32, depth=2)


@pytest.fixture(scope="module")
def codec() -> SpeechCodec:
    torch.manual_seed(3)
    return SpeechCodec(TINY).eval()


def pulse_train(hz: Tensor) -> Tensor:
    """A waveform [1, 1, N] with all harmonics at 1/100, of a pitch [T] a hop."""
    phases = pulse_phases(hz[None], HOP, RATE)
    around = torch.cat([hz[:1], hz, hz[-1:]])[None]
    return 0.01 * pulses(around, phases, HOP, RATE).reshape(1, 1, -1)


def test_no_harmonic_folds_at_a_low_rate() -> None:
    """At 16 kHz those up to 11.5 kHz would come back at 4.5 kHz and above, off the harmonics."""
    hz = torch.full((1, 50), 212.0, dtype=torch.float64)
    around = torch.cat([hz[:, :1], hz, hz[:, -1:]], 1)
    train = pulses(around, pulse_phases(hz, HOP, 16000), HOP, 16000).reshape(-1).double()
    spectrum = torch.fft.rfft(train * torch.hann_window(len(train), dtype=torch.float64)).abs()
    freqs = torch.arange(len(spectrum)) * 16000 / len(train)
    off = (freqs / 212 - (freqs / 212).round()).abs() > 0.3
    assert spectrum[off & (freqs > 4000)].max() < 0.01 * spectrum.max()


def speechlike(seconds: float, seed: int = 0) -> Tensor:
    """Pulses of a pitch that glides, and stretches of noise and of silence: [1, 1, N]."""
    count = round(seconds * RATE / HOP)
    place = torch.arange(count)
    waveform = pulse_train(140 + 40 * torch.sin(place / 25.0)).clone()
    noise = torch.randn(waveform.shape, generator=torch.Generator().manual_seed(seed))
    third = waveform.shape[-1] // 3
    waveform[..., third : 2 * third] = 0.05 * noise[..., third : 2 * third]
    waveform[..., 2 * third : 2 * third + third // 3] = 0
    return waveform


@pytest.mark.parametrize("hz", [73.0, 118.4, 207.0, 361.0])
def test_a_pulse_train_has_its_pitch_and_is_voiced(codec: SpeechCodec, hz: float) -> None:
    latents = codec.encode(pulse_train(torch.full((75,), hz)))
    middle = latents[0, :, 5:-5]
    cents = 1200 * torch.log2(codec.pitch_hz(latents)[0, 5:-5] / hz)
    assert cents.abs().max() < 8
    expected = (math.log(hz) - math.log(USUAL_HZ)) / PITCH_DEVIATION
    assert torch.allclose(middle[-2], torch.tensor(expected), atol=0.02)
    assert middle[-1].min() > 0.95  # voicing in [0, 1] is latent in [-1, 1]


def test_a_pitch_that_glides_is_followed(codec: SpeechCodec) -> None:
    place = torch.arange(150)
    hz = 150 * torch.exp(0.35 * torch.sin(place / 20.0))
    found = codec.pitch_hz(codec.encode(pulse_train(hz)))[0]
    assert (1200 * torch.log2(found / hz))[4:-4].abs().max() < 35


def test_noise_and_silence_are_unvoiced_and_keep_the_pitch_before(codec: SpeechCodec) -> None:
    noise = 0.1 * torch.randn(1, 1, 40 * HOP, generator=torch.Generator().manual_seed(5))
    for unvoiced in (noise, torch.zeros(1, 1, 40 * HOP)):
        sound = torch.cat([pulse_train(torch.full((40,), 231.0)), unvoiced], -1)
        latents = codec.encode(sound)[0]
        assert latents[-1, 45:].max() < -0.8
        held = codec.pitch_hz(latents[None])[0, 45:75]
        assert (1200 * torch.log2(held / 231.0)).abs().max() < 130


def test_low_voices_with_a_strong_second_harmonic_keep_their_pitch(codec: SpeechCodec) -> None:
    time_s = torch.arange(RATE) / RATE
    parts = [(1, 0.2), (2, 1.0), (3, 0.25), (4, 0.2), (5, 0.2), (6, 0.15), (7, 0.15), (9, 0.1)]
    sound = sum(a * torch.sin(2 * math.pi * 108.0 * k * time_s + k) for k, a in parts)
    found = codec.pitch_hz(codec.encode(0.1 * sound[None, None]))[0, 5:-5]
    assert (1200 * torch.log2(found / 108.0)).abs().max() < 30


def test_cepstra_are_those_of_the_envelope(codec: SpeechCodec) -> None:
    """White noise of known power: all bands alike, and the first cepstrum says how loud."""
    noise = 0.1 * torch.randn(1, 1, 400 * HOP, generator=torch.Generator().manual_seed(1))
    means, deviations = latent_scales(TINY)
    cepstra = (codec.encode(noise)[0].T * deviations + means).mean(0)
    # |STFT| is Rayleigh; the mean of its logarithm over single bins is that of its square halved.
    rms = 0.1 * math.sqrt(6 / TINY.envelope_window)
    log_rayleigh = math.log(rms) - 0.5772 / 2
    per_band = cepstra[0] / math.sqrt(TINY.num_mels)
    assert log_rayleigh - 0.02 < per_band < math.log(rms)  # wide bands average before the log
    assert cepstra[2:-2].abs().max() < 0.7


def test_the_cosine_transform_inverts_and_gives_the_bands_back() -> None:
    matrix = cosine_transform(80)
    assert torch.allclose(matrix @ matrix.T, torch.eye(80), atol=1e-6)
    bands = torch.randn(3, 80, generator=torch.Generator().manual_seed(2))
    assert torch.allclose((bands @ matrix.T) @ matrix, bands, atol=1e-5)


def test_chunks_are_the_whole(codec: SpeechCodec) -> None:
    waveform = speechlike(2.5)[..., :-77]
    whole = codec.encode(waveform)
    assert torch.allclose(codec.encode(waveform, chunk_latents=31), whole, atol=1e-5)
    length = waveform.shape[-1]
    decoded = codec.decode(whole, num_samples=length)
    assert decoded.shape == waveform.shape
    chunked = codec.decode(whole, num_samples=length, chunk_latents=29)
    assert torch.allclose(chunked, decoded, atol=1e-6)
    stretch = codec.decode_chunks(whole, num_samples=length, start=17, stop=40)
    hop = codec.hop_length  # the pulses' phase is that of the whole
    assert torch.allclose(next(stretch), decoded[..., 17 * hop : 40 * hop], atol=1e-6)


def test_a_stretch_with_its_context_is_the_whole(codec: SpeechCodec) -> None:
    waveform = speechlike(4.0)
    whole = codec.encode(waveform)
    start, end = 110, 180
    windows = 2  # hops of samples beyond the context that its outermost windows see
    first, last = start - codec.encoder_reach - windows, end + codec.encoder_reach + windows
    part = codec.encode(waveform[..., first * HOP : last * HOP])
    assert torch.allclose(part[..., start - first : end - first], whole[..., start:end], atol=1e-4)


def test_the_phase_of_the_pulses_goes_on(codec: SpeechCodec) -> None:
    """Pulses are where the integral of the pitch is whole, to a thousandth of a turn."""
    hz = torch.linspace(100, 180, 75, dtype=torch.float64)[None]
    phases = pulse_phases(hz, HOP, RATE)
    samples = torch.nn.functional.interpolate(
        hz[:, None], scale_factor=HOP, mode="linear", align_corners=False
    )[0, 0]
    turns = torch.cat([torch.zeros(1), (samples / RATE).cumsum(0)[HOP - 1 : -1 : HOP]]) % 1
    apart = (phases[0] - turns + 0.5) % 1 - 0.5
    assert apart.abs().max() < 1e-3


def test_noise_depends_on_the_place_alone() -> None:
    whole = fixed_noise(0, 200, 5)
    assert torch.equal(fixed_noise(61, 131, 5), whole[61:131])
    assert whole.std() == pytest.approx(1, abs=0.05)


def test_the_decoder_starts_as_a_vocoder(codec: SpeechCodec) -> None:
    """Untrained, it gives pitch, voicing and level back."""
    waveform = speechlike(2.5)
    latents = codec.encode(waveform)
    again = codec.encode(codec.decode(latents, num_samples=waveform.shape[-1]))
    voiced, noise = slice(5, 55), slice(70, 115)
    cents = 1200 * torch.log2(codec.pitch_hz(again) / codec.pitch_hz(latents))[0, voiced]
    assert cents.abs().max() < 40
    assert again[0, -1, voiced].mean() > 0.8
    assert again[0, -1, noise].max() < -0.6
    for span in (voiced, noise):
        level = (again - latents)[0, 0, span].mean() * 8 / math.sqrt(80)
        assert level.abs() < 0.45  # nepers


def test_the_pitch_is_a_knob(codec: SpeechCodec) -> None:
    latents = codec.encode(speechlike(1.2))
    higher = codec.with_pitch(latents, 1.25)
    assert torch.allclose(codec.pitch_hz(higher), 1.25 * codec.pitch_hz(latents), rtol=1e-4)
    assert torch.equal(higher[:, :-2], latents[:, :-2])
    assert torch.equal(higher[:, -1], latents[:, -1])
    length = latents.shape[-1] * HOP
    heard = codec.encode(codec.decode(higher, num_samples=length))
    ratio = codec.pitch_hz(heard)[0, 5:25] / codec.pitch_hz(latents)[0, 5:25]
    assert ratio.median().item() == pytest.approx(1.25, rel=0.03)


def test_a_click_stays_within_a_hop(codec: SpeechCodec) -> None:
    waveform = torch.zeros(1, 1, 60 * HOP)
    waveform[..., 30 * HOP + 50] = 0.9
    decoded = codec.decode(codec.encode(waveform), num_samples=waveform.shape[-1])[0, 0]
    power = decoded.square()
    centre = (power * torch.arange(len(power))).sum() / power.sum()
    assert abs(centre.item() - (30 * HOP + 50)) < HOP


def test_a_folder_gives_it_back(codec: SpeechCodec, tmp_path) -> None:
    save_module(codec, tmp_path, dtype=torch.float32)
    loaded = load_module(tmp_path)
    assert isinstance(loaded, SpeechCodec)
    assert isinstance(loaded, AudioCodec)
    assert loaded.latent_channels == 24
    assert loaded.latent_rate == 75
    waveform = speechlike(0.8)
    latents = codec.encode(waveform)
    assert torch.equal(loaded.encode(waveform), latents)
    decoded = loaded.decode(latents, num_samples=waveform.shape[-1])
    assert torch.equal(decoded, codec.decode(latents, num_samples=waveform.shape[-1]))


def test_the_fingerprint_is_of_the_latents_alone(codec: SpeechCodec) -> None:
    assert SpeechCodec(SpeechCodecConfig(width=8, hidden=8, depth=1)).fingerprint == (
        codec.fingerprint
    )
    fewer = SpeechCodec(SpeechCodecConfig(width=8, hidden=8, depth=1, num_cepstra=18))
    assert fewer.fingerprint != codec.fingerprint


def test_what_does_not_fit_is_named(codec: SpeechCodec) -> None:
    with pytest.raises(UserError, match=r"waveform of shape \(1, 2, 320\)"):
        codec.encode(torch.zeros(1, 2, HOP))
    with pytest.raises(UserError, match=r"num_samples 900: 2 latents hold 321 to 640"):
        codec.decode(torch.zeros(1, 24, 2), num_samples=900)
    with pytest.raises(UserError, match=r"pitch_window 1201"):
        SpeechCodecConfig(pitch_window=1201)
