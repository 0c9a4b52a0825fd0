"""Codecs that others trained: any length and size, chunks, spans, stereo, fingerprints, references.

Each class is the real one, with random weights at a tiny size.
"""

import copy
import json
from fractions import Fraction

import pytest
import torch

from avgen.codecs.base import AudioCodec, VideoCodec, load_module, save_module
from avgen.errors import UserError
from avgen.latents.geometry import AudioGrid, VideoGrid

pytest.importorskip("diffusers", reason="pip install 'avgen[pretrained]'")

from tiny_pretrained import MAKE, save_tiny

from avgen.codecs.pretrained import PretrainedConfig, PretrainedVideo
from avgen.codecs.pretrained_audio import PretrainedAudio

# What the classes are known for: stride and channels; rates, channels, hop, lead.
VIDEO = {"wan": ((4, 8, 8), 4), "wan22": ((4, 16, 16), 4), "ltx": ((8, 32, 32), 8)}
AUDIO = {
    "ltx_audio": (16000, 24000, 2, 640, 480),
    "ltx_audio_bwe": (16000, 48000, 2, 640, 480),
    "oobleck": (44100, 44100, 2, 64, 0),
    "h3": (32000, 32000, 1, 800, 0),
    "encodec": (24000, 24000, 1, 320, 0),
    "dac": (16000, 16000, 1, 512, 0),
    "mimi": (24000, 24000, 1, 1920, 0),
}
CAUSAL = {"wan", "wan22", "encodec", "mimi"}  # their decoders


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    """A codec by its name, made once."""
    made = {}

    def get(name):
        if name not in made:
            fields = save_tiny(name, tmp_path_factory.mktemp(name))
            kind = PretrainedVideo if name in VIDEO else PretrainedAudio
            made[name] = kind(PretrainedConfig(**fields))
        return made[name]

    with torch.inference_mode():
        yield get


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


def test_every_class_is_tried():
    assert set(VIDEO) | set(AUDIO) == set(MAKE)


@pytest.mark.parametrize("name", VIDEO)
def test_pictures_of_any_length_and_size(codec, name):
    own = codec(name)
    assert isinstance(own, VideoCodec)
    assert (own.stride, own.latent_channels) == VIDEO[name]
    for frames, height, width in ((1, 64, 64), (7, 50, 37), (18, 33, 96)):
        grid = VideoGrid(frames, height, width, Fraction(25), own.stride, own.latent_channels, 1)
        video = noise(1, 3, frames, height, width)
        latents = own.encode(video)
        assert latents.shape[1:] == (grid.channels, grid.num_latents, *grid.latent_size)
        size = {"num_frames": frames, "height": height, "width": width}
        assert own.decode(latents, **size).shape == video.shape
        with pytest.raises(UserError, match="have"):
            own.decode(latents, **size | {"width": width + own.stride[2]})


@pytest.mark.parametrize("name", VIDEO)
def test_encoders_of_pictures_are_causal_and_flash_where_their_spans_say(codec, name):
    own, frames = codec(name), 19
    video = noise(1, 3, frames, 64, 64)
    latents = own.encode(video)
    prefix = own.encode(video[:, :, : 1 + own.stride[0]])
    torch.testing.assert_close(latents[:, :, :2], prefix, atol=1e-4, rtol=1e-4)
    grid = VideoGrid(frames, 64, 64, Fraction(25), own.stride, own.latent_channels, 1)
    for flash in (0, 3, 9, 17):
        lit = video.clone()
        lit[:, :, flash] += 1
        changed = (own.encode(lit) != latents).flatten(3).any(-1).any(1)[0].nonzero()[0].item()
        start, end = grid.span(changed)
        assert start <= Fraction(flash, 25) < end


@pytest.mark.parametrize("name", VIDEO)
def test_chunks_of_pictures_are_the_whole(codec, name):
    own = codec(name)
    count = 14 if name == "ltx" else 9
    frames = 1 + own.stride[0] * (count - 1) - 2  # the last latent is not full
    latents = noise(1, own.latent_channels, count, 2, 2, seed=1)
    size = {"num_frames": frames, "height": 2 * own.stride[1] - 5, "width": 2 * own.stride[2]}
    whole = own.model.decode(latents).sample.clamp(-1, 1)[:, :, :frames, : size["height"]]
    torch.testing.assert_close(own.decode(latents, **size), whole, atol=1e-4, rtol=1e-4)
    for start, stop in ((0, 1), (1, 3), (5, count)):
        part = torch.cat(list(own.decode_chunks(latents, **size, start=start, stop=stop)), 2)
        first, last = (0 if at == 0 else 1 + own.stride[0] * (at - 1) for at in (start, stop))
        torch.testing.assert_close(part, whole[:, :, first:last], atol=1e-4, rtol=1e-4)
    assert (own.reach == 0) == (name in CAUSAL)
    before, after = own.reaches
    assert before and after is not None  # measured, not given up


@pytest.mark.parametrize("name", AUDIO)
def test_sound_of_any_length(codec, name):
    own = codec(name)
    assert isinstance(own, AudioCodec)
    rates = own.sample_rate, own.output_sample_rate, own.num_channels, own.hop_length, own.lead
    assert rates == AUDIO[name]
    assert own.latent_rate == Fraction(own.sample_rate, own.hop_length)
    for samples in (1, own.hop_length - 1, 3 * own.hop_length + 7, 5 * own.hop_length):
        latents = own.encode(noise(2, own.num_channels, samples))
        grid = AudioGrid(
            samples, own.sample_rate, own.hop_length, own.latent_channels, 1, lead=own.lead
        )
        assert latents.shape == (2, own.latent_channels, grid.num_latents)
        wanted = samples * own.output_sample_rate // own.sample_rate
        assert own.decode(latents, num_samples=wanted).shape == (2, own.num_channels, wanted)
    with pytest.raises(UserError, match="hold"):
        own.decode(latents, num_samples=10 * own.hop_length * own.output_sample_rate)
    with pytest.raises(UserError, match="must be"):
        own.encode(noise(1, 3 - own.num_channels, 5000))


@pytest.mark.parametrize("name", AUDIO)
def test_chunks_of_sound_are_the_whole(codec, name):
    own, count = codec(name), 40 if name == "ltx_audio" else 12
    latents = noise(1, own.latent_channels, count, seed=2)
    ratio = Fraction(own.output_sample_rate, own.sample_rate)
    hop, lead = int(own.hop_length * ratio), int(own.lead * ratio)
    total = count * hop - lead - 3
    whole = own.decode(latents, num_samples=total)
    torch.testing.assert_close(
        whole[..., : total - hop],
        own._decode(own, latents)[..., : total - hop],
        atol=1e-4,
        rtol=1e-4,
    )
    for start, stop in ((0, 1), (1, 4), (count - 4, count)):
        chunks = own.decode_chunks(latents, num_samples=total, start=start, stop=stop)
        first, last = (max(0, at * hop - lead) for at in (start, stop))
        part = torch.cat(list(chunks), 2)
        torch.testing.assert_close(part, whole[..., first:last], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", AUDIO)
def test_a_latent_sounds_where_its_span_says(codec, name):
    """The samples that a latent changes: from its span's start on, or around its middle."""
    own, count, at = copy.deepcopy(codec(name)).double(), 64, 32  # the least change is one
    latents = noise(1, own.latent_channels, count, seed=3).double()
    other = latents.clone()
    other[:, :, at] += 1
    made = own._decode(own, latents), own._decode(own, other)
    apart = (made[0] - made[1]).abs().amax(1)[0]
    # the window of H3's inverse STFT fades out: the ends of what changes drown in rounding
    least = apart.max() / 1000 if name == "h3" else 0
    changed = (apart > least).nonzero()[:, 0].double() / own.output_sample_rate
    grid = AudioGrid(
        count * own.hop_length - own.lead,
        own.sample_rate, own.hop_length, own.latent_channels, 1, lead=own.lead,
    )  # fmt: skip
    start, end = (float(second) for second in grid.span(at))
    if name in CAUSAL:
        assert abs(float(changed[0]) - start) < 0.001
    elif "ltx" not in name:  # whose spectrogram is causal, and whose vocoder is not
        assert abs(float(changed[0] + changed[-1]) / 2 - (start + end) / 2) < 0.001
    else:
        spectrograms = (
            own.model.decode(z.unflatten(1, (2, -1)).mT).sample for z in (latents, other)
        )
        first, second = spectrograms
        frame = (first != second).any(-1).any(1)[0].nonzero()[0].item()
        assert abs(frame * 160 / 16000 - start) < 0.001
        # what is heard of it: reaches are that far
        heard = (apart > 1e-5 * apart.max()).nonzero()[0].item() / own.output_sample_rate
        assert start - heard < codec(name).reaches.after * (end - start)


def test_the_first_latent_of_ltx_is_ten_milliseconds(codec):
    """As LTX-2 places its tokens of sound in time; a click changes the latents of its span on."""
    from diffusers.models.transformers.transformer_ltx2 import LTX2AudioVideoRotaryPosEmbed

    own = codec("ltx_audio")
    rope = LTX2AudioVideoRotaryPosEmbed(
        dim=32, patch_size=1, patch_size_t=1, sampling_rate=16000, hop_length=160, scale_factors=[4]
    )
    theirs = rope.prepare_audio_coords(1, 6, torch.device("cpu"))[0, 0]
    grid = AudioGrid(16000, 16000, own.hop_length, own.latent_channels, 1, lead=own.lead)
    spans = torch.tensor([[float(second) for second in grid.span(i)] for i in range(6)])
    torch.testing.assert_close(spans, theirs, atol=1e-3, rtol=0)
    assert spans[1].tolist() == pytest.approx([0.01, 0.05])
    mel = torch.randn(1, 2, 21, 16, generator=torch.Generator().manual_seed(0))
    for frame in (0, 1, 4, 5, 12):
        other = mel.clone()
        other[:, :, frame] += 1
        both = (own.model.encode(m).latent_dist.mode().flatten(1) for m in (mel, other))
        first, second = (m.unflatten(1, (2, 6, -1)) for m in both)
        changed = (first != second).any(-1).any(1)[0].nonzero()[0].item()
        start, end = grid.span(changed)
        assert start <= Fraction(frame, 100) < end


def test_two_channels_are_two(codec):
    own = codec("oobleck")
    sound = noise(1, 2, 1000)
    swapped = own.encode(sound.flip(1))
    assert not torch.allclose(own.encode(sound), swapped, atol=1e-3)
    made = own.decode(swapped, num_samples=1000)
    assert not torch.allclose(made[:, 0], made[:, 1], atol=1e-4)


@pytest.mark.parametrize("name", ["wan", "encodec"])
def test_a_model_refers_to_a_codec_by_its_hash(codec, tmp_path, name):
    fields = save_tiny(name, tmp_path / "source")
    kind = type(codec(name))
    own = kind(PretrainedConfig(**fields))
    save_module(own, tmp_path / "saved")
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["config.json"]
    assert json.loads((tmp_path / "saved/config.json").read_text())["sha256"] == own.config.sha256
    again = load_module(tmp_path / "saved")
    assert again.fingerprint == own.fingerprint == codec(name).fingerprint
    save_tiny(name, tmp_path / "source", seed=1)
    with pytest.raises(UserError, match="another revision"):
        load_module(tmp_path / "saved")
    assert kind(PretrainedConfig(**fields)).fingerprint != own.fingerprint


def test_statistics_come_with_the_codec(codec):
    statistics = codec("wan").statistics
    assert statistics.mean == (0.5, -1.0, 2.0, 0.0)
    assert statistics.std == (2.0, 1.0, 0.5, 3.0)
    assert codec("encodec").statistics is None


def test_what_is_no_codec_is_one_line(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        PretrainedVideo(PretrainedConfig(str(tmp_path / "nowhere")))
    fields = save_tiny("encodec", tmp_path / "sound")
    with pytest.raises(UserError, match="is a EncodecModel; it must be one of"):
        PretrainedVideo(PretrainedConfig(**fields))
    fields = save_tiny("ltx_audio", tmp_path / "ltx")
    with pytest.raises(UserError, match="needs a vocoder"):
        PretrainedAudio(PretrainedConfig(**fields | {"vocoder": None}))
