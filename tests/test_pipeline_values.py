"""What a pipeline makes, in numbers: its codecs and its network are closed forms, and no constant
that could be wrong is 0 or 1, or the same in picture and sound.

The network's velocity is linear in its tokens, so that what the sampler comes to is a few lines of
numpy, written here from the formulas.
"""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from avgen.clips import Clip, Word
from avgen.codecs.normalize import LatentStatistics
from avgen.latents.packing import AUDIO, VIDEO, pack, unpack
from avgen.models.phonemes import ARPABET
from avgen.models.text import caption_ids
from avgen.models.timing import SpeechTimer
from avgen.pipeline import AVPipeline, PipelineConfig

RATE, HOP = 24000, 320
STEPS, SHIFT = 5, 2.0
VIDEO_MEAN, VIDEO_STD = np.array([0.1, -0.2, 0.3]), np.array([0.3, 0.45, 0.15])
AUDIO_MEAN, AUDIO_STD = np.array([-0.05, 0.07]), np.array([0.06, 0.11])


class Blocks(nn.Module):
    """A picture codec: a latent is the mean colour of its 4 x 16 x 16 pixels, halved."""

    stride, latent_channels = (4, 16, 16), 3

    def __init__(self):
        super().__init__()
        self.seen, self.encoded, self.decoded = [], [], []

    def encode(self, video):
        self.seen.append(video)
        front = torch.cat([video[:, :, :1]] * 3 + [video], 2)
        behind = torch.cat([front, *[video[:, :, -1:]] * (-front.shape[2] % 4)], 2)
        self.encoded.append(nn.functional.avg_pool3d(behind, self.stride) / 2)
        return self.encoded[-1]

    def decode_chunks(self, latents, *, num_frames, height, width):
        self.decoded.append(latents)
        video = 2 * latents
        for size, axis in zip(self.stride, (2, 3, 4), strict=True):
            video = video.repeat_interleave(size, axis)
        video = video[:, :, 3 : 3 + num_frames, :height, :width]
        yield video[:, :, :2]
        yield video[:, :, 2:]


class Halves(nn.Module):
    """A sound codec: a latent is the mean of each half of its 320 samples."""

    sample_rate, num_channels, hop_length, latent_channels = RATE, 1, HOP, 2

    def __init__(self):
        super().__init__()
        self.seen, self.encoded, self.decoded = [], [], []

    def encode(self, waveform):
        self.seen.append(waveform)
        padded = nn.functional.pad(waveform, (0, -waveform.shape[2] % HOP))
        self.encoded.append(padded.unflatten(2, (-1, 2, HOP // 2)).mean(-1)[:, 0].mT)
        return self.encoded[-1]

    def decode(self, latents, *, num_samples):
        self.decoded.append(latents)
        return latents.mT.flatten(1).repeat_interleave(HOP // 2, 1)[:, None, :num_samples]


class Captions:
    tokenize = staticmethod(caption_ids)


class Linear(nn.Module):
    """A network whose velocity is linear in its tokens, and other for every token and text."""

    def __init__(self):
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))
        self.caption = Captions()
        self.sigmas, self.texts = [], []

    def prepare(self, layout, text):
        return SimpleNamespace(layout=layout, text=text)

    def forward(self, tokens, sigma, context):
        layout, text = context.layout, context.text
        assert not tokens[:, ~layout.used].any()
        self.sigmas.append(sigma[0])
        self.texts.append(text)
        pull = pull_of(text)[:, None, None]
        place = torch.linspace(-1, 1, layout.num_tokens)[:, None]
        made = 0.7 * tokens + 0.4 * sigma[..., None] ** 2 + pull * (1 + 0.3 * place)
        return made * layout.used


def pull_of(text):
    """What a text pulls a clip towards: a number for each row."""
    end = (text.speech_spans[..., 1] * text.speech_mask).amax(1)
    return 0.05 * text.caption_mask.sum(1) + 0.5 * end


def sampled(start, given, pull, against, scales, layout):
    """The tokens [L, W] that Adams and Bashforth come to, in float64.

    Args:
        start: Noise, or what is given.
        given: Bool [L].
        pull: Of the text.
        against: Of the text that guidance pushes away from.
        scales: Of guidance, [L].
        layout: Of the tokens.
    """
    even = np.linspace(1, 0, STEPS + 1)
    grid = SHIFT * even / (1 + (SHIFT - 1) * even)
    place = np.linspace(-1, 1, layout.num_tokens)[:, None]
    tokens, before = start.astype(np.float64), None
    for step in range(STEPS):
        cond, uncond = (
            0.7 * tokens + 0.4 * grid[step] ** 2 + p * (1 + 0.3 * place) for p in (pull, against)
        )
        velocity = (uncond + scales[:, None] * (cond - uncond)) * layout.used.numpy()
        stride = grid[step + 1] - grid[step]
        slope = velocity
        if before is not None:
            ratio = stride / (grid[step] - grid[step - 1])
            slope = (1 + ratio / 2) * velocity - ratio / 2 * before
        before = velocity
        tokens = np.where(given[:, None], tokens, tokens + stride * slope)
    return tokens


def noise_of(seed, window, shape):
    """The noise of a window of a seed, for as long as a seed is to mean the same clip."""
    state = np.random.SeedSequence((seed, window)).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(state >> 1))
    return torch.randn(shape, generator=generator)


def raw(tokens, layout):
    """Latents of tokens [L, W], denormalised: [C, T, H, W] and [C, T']."""
    video, audio = unpack(torch.from_numpy(tokens)[None].float(), layout)
    video = video[0].numpy() * VIDEO_STD[:, None, None, None] + VIDEO_MEAN[:, None, None, None]
    return video, audio[0].numpy() * AUDIO_STD[:, None] + AUDIO_MEAN[:, None]


def normalised(pipe, window, layout):
    """The tokens [L, W] of what was encoded for a window."""
    video = (pipe.video_codec.encoded[window][0].numpy() - VIDEO_MEAN[:, None, None, None]) / (
        VIDEO_STD[:, None, None, None]
    )
    audio = (pipe.audio_codec.encoded[window][0].numpy() - AUDIO_MEAN[:, None]) / AUDIO_STD[:, None]
    return pack(torch.from_numpy(video)[None], torch.from_numpy(audio)[None], layout)[0].numpy()


@pytest.fixture
def pipe():
    words = (Word("place", 0.04, 0.15), Word("red", 0.15, 0.29))
    config = PipelineConfig(
        height=32,
        width=48,
        fps="25",
        num_frames=9,
        context_frames=5,
        video_patch=2,
        audio_patch=3,
        video_statistics=LatentStatistics(tuple(VIDEO_MEAN), tuple(VIDEO_STD)),
        audio_statistics=LatentStatistics(tuple(AUDIO_MEAN), tuple(AUDIO_STD)),
        timer=SpeechTimer.fit([(words, 0.36)]),
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        audio_guidance_scale=1.7,
        shift=SHIFT,
    )
    return AVPipeline(Linear(), Blocks(), Halves(), config)


def picture(num_frames):
    shape = (num_frames, 32, 48, 3)
    return np.random.default_rng(5).integers(30, 220, shape, dtype=np.uint8)


def sound(length):
    return (0.1 * np.random.default_rng(6).standard_normal((1, length))).astype(np.float32)


def check_window(pipe, window, seed, scales=(3.0, 1.7)):
    """The latents that were decoded for a window are those of the formulas; returns the layout."""
    calls = slice(window * STEPS, (window + 1) * STEPS)
    text, sigma = pipe.transformer.texts[calls][0], pipe.transformer.sigmas[calls]
    num_frames = pipe.video_codec.seen[window].shape[2]
    num_samples = pipe.audio_codec.seen[window].shape[2]
    layout = pipe.layout(
        Clip(picture(num_frames), Fraction(25), np.zeros((1, num_samples), np.float32), RATE)
    )
    given = (sigma[0] == 0).numpy()
    clean = normalised(pipe, window, layout)
    noise = noise_of(seed, window, (1, *clean.shape))[0].numpy() * layout.used.numpy()
    pull = [float(value) for value in pull_of(text)]
    by_token = np.array(scales)[layout.modality.numpy()]
    start = np.where(given[:, None], clean, noise)
    expected = raw(sampled(start, given, pull[0], pull[-1], by_token, layout), layout)
    for codec, latents in zip((pipe.video_codec, pipe.audio_codec), expected, strict=True):
        np.testing.assert_allclose(codec.decoded[window][0].numpy(), latents, rtol=1e-4, atol=1e-5)
    return layout, given


def as_pixels(latents, num_frames):
    """What the codec makes of picture latents [1, 3, T, H, W], uint8 [T, H, W, 3]."""
    chunks = Blocks().decode_chunks(latents, num_frames=num_frames, height=32, width=48)
    video = torch.cat(list(chunks), 2)[0].numpy()
    return np.clip(np.round((np.moveaxis(video, 0, -1) + 1) * 127.5), 0, 255).astype(np.uint8)


def test_the_latents_that_are_made(pipe):
    """Shift, guidance of both modalities, statistics, sampler, noise: each has its say."""
    clip = pipe('a tall man "place red"', seed=11, negative_prompt="rain", progress=False)
    _, given = check_window(pipe, 0, 11)
    assert not given.any()
    text = pipe.transformer.texts[0]
    assert text.caption_mask.sum(1).tolist() == [3, 1]
    assert text.speech_mask.sum(1).tolist() == [7, 0]
    assert text.caption_ids[0, :3].tolist() == caption_ids("a tall man")
    assert text.caption_ids[1, 0].item() == caption_ids("rain")[0]
    decoded = pipe.video_codec.decoded[0]
    assert float(decoded.std()) > 0.2
    assert np.array_equal(clip.frames, as_pixels(decoded, 9))
    waveform = Halves().decode(pipe.audio_codec.decoded[0], num_samples=8640)[0].numpy()
    np.testing.assert_array_equal(clip.waveform, waveform.clip(-1, 1))
    even = np.linspace(1, 0, STEPS + 1)
    for step, sigma in enumerate(pipe.transformer.sigmas):
        np.testing.assert_allclose(sigma, 2 * even[step] / (1 + even[step]), rtol=1e-6)


def test_each_scale_is_its_modalitys(pipe):
    options = {"seed": 3, "negative_prompt": "rain in the night", "progress": False}
    pipe('a man "red"', guidance_scale=0.4, audio_guidance_scale=5.0, **options)
    check_window(pipe, 0, 3, (0.4, 5.0))
    pipe.transformer.texts.clear()
    pipe('a man "red"', guidance_scale=1.0, audio_guidance_scale=1.0, **options)
    assert [len(text.caption_ids) for text in pipe.transformer.texts] == [1] * STEPS
    pipe.transformer.texts.clear()
    pipe('a man "red"', guidance_scale=1.0, audio_guidance_scale=2.0, **options)
    assert [len(text.caption_ids) for text in pipe.transformer.texts] == [2] * STEPS


def test_a_window_goes_on_from_the_one_before(pipe):
    """It has noise of its own, and the words at its own seconds."""
    words = (Word("red", 0.05, 0.2), Word("now", 0.3, 0.45))
    clip = pipe("a man", words=words, num_frames=13, seed=11, progress=False)
    for window, (start, stop) in enumerate([(0, 9), (4, 13)]):
        _, given = check_window(pipe, window, 11)
        assert given.any() == bool(window)
        assert pipe.video_codec.seen[window].shape[2] == stop - start
    text = pipe.transformer.texts[STEPS]
    spans, mask = text.speech_spans[0], text.speech_mask[0]
    phonemes = [ARPABET[i] for i in text.speech_ids[0, mask]]
    assert phonemes == ["D", "N", "AW"]  # of red, what ends after the window's start at 0.16 s
    assert spans[mask][-1, 1].item() == pytest.approx(0.45 - 0.16)
    assert spans[mask][0, 1].item() == pytest.approx(0.2 - 0.16)
    seen = pipe.video_codec.seen[1][0, :, :5].numpy()
    np.testing.assert_allclose(seen, np.moveaxis(clip.frames[4:9], -1, 0) / 127.5 - 1, atol=1e-6)
    heard = pipe.audio_codec.seen[1][0, 0].numpy()
    own = clip.waveform[0, 4 * 960 : 9 * 960]
    np.testing.assert_array_equal(heard[: len(own)], own)
    np.testing.assert_array_equal(heard[len(own) :], own[-2 : -2 - (len(heard) - len(own)) : -1])


def test_a_picture_a_sound_a_video_and_a_beginning_are_given(pipe):
    image, waveform = picture(1)[0], sound(8640)
    clip = pipe("a man", image=image, audio=(waveform, RATE), seed=2, progress=False)
    layout, given = check_window(pipe, 0, 2)
    starts = layout.spans[:, 0].numpy()
    own = layout.modality.numpy()
    np.testing.assert_array_equal(given, (own == AUDIO) | (starts == 0))
    np.testing.assert_allclose(
        pipe.video_codec.seen[0][0, :, 0], np.moveaxis(image, -1, 0) / 127.5 - 1, atol=1e-6
    )
    np.testing.assert_allclose(pipe.audio_codec.seen[0][0, 0], waveform[0], atol=1e-6)
    np.testing.assert_array_equal(clip.waveform, waveform)

    video = Clip(picture(9), Fraction(25))
    pipe("a man", video=video, seed=4, progress=False)
    _, given = check_window_again(pipe, 1, 4)
    np.testing.assert_array_equal(given, own == VIDEO)

    beginning = Clip(picture(7), Fraction(25), sound(7 * 960), RATE)
    clip = pipe('a man "red"', extend=beginning, num_frames=9, seed=6, progress=False)
    layout, given = check_window_again(pipe, 2, 6)
    assert np.array_equal(clip.frames[:7], beginning.frames)
    stops = layout.spans[:, 1].numpy()
    np.testing.assert_array_equal(given, stops <= 5 / 25 + 1e-6)  # frames 2 to 6 of the beginning

    short = Clip(picture(4), Fraction(25), sound(4 * 960), RATE)
    pipe('a man "red"', extend=short, num_frames=9, seed=7, progress=False)
    layout, given = check_window_again(pipe, 3, 7)
    assert layout.video.num_frames == 6  # the last of the four is context: one whole latent
    np.testing.assert_array_equal(given, layout.spans[:, 1].numpy() <= 1 / 25 + 1e-6)


def check_window_again(pipe, call, seed):
    """`check_window` of the only window of the pipeline's call number `call`."""
    codecs = (pipe.video_codec, pipe.audio_codec)
    for codec in codecs:
        for name in ("seen", "encoded", "decoded"):
            setattr(codec, name, getattr(codec, name)[-1:])
    for name in ("texts", "sigmas"):
        setattr(pipe.transformer, name, getattr(pipe.transformer, name)[-STEPS:])
    return check_window(pipe, 0, seed)
