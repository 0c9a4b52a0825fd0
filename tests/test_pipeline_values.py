"""What a pipeline makes, in numbers: its codecs and its network are closed forms, and no constant
that could be wrong is 0 or 1, or the same in picture and sound.

The network's velocity is linear in its tokens, so that what the sampler comes to is a few lines of
numpy, written here from the formulas.
"""

from dataclasses import asdict, replace
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from avgen.clips import Clip, Word
from avgen.codecs.base import EvenLatents
from avgen.codecs.normalize import LatentStatistics
from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import AUDIO, VIDEO, make_layout, pack, unpack
from avgen.models.phonemes import ARPABET
from avgen.models.text import caption_ids, make_text
from avgen.models.timing import SpeechTimer
from avgen.pipeline import AVPipeline, PipelineConfig

RATE, HOP = 24000, 320
STEPS, SHIFT = 5, 2.0
VIDEO_MEAN, VIDEO_STD = np.array([0.1, -0.2, 0.3]), np.array([0.3, 0.45, 0.15])
AUDIO_MEAN, AUDIO_STD = np.array([-0.05, 0.07]), np.array([0.06, 0.11])


class Blocks(nn.Module):
    """A picture codec: a latent is the mean colour of its 4 x 16 x 16 pixels, halved."""

    stride, latent_channels, reach = (4, 16, 16), 3, 0

    def __init__(self):
        super().__init__()
        self.seen, self.encoded, self.decoded = [], [], []

    def encode(self, video):
        self.seen.append(video)
        front = torch.cat([video[:, :, :1]] * 3 + [video], 2)
        behind = torch.cat([front, *[video[:, :, -1:]] * (-front.shape[2] % 4)], 2)
        self.encoded.append(nn.functional.avg_pool3d(behind, self.stride) / 2)
        return self.encoded[-1]

    def decode_chunks(self, latents, *, num_frames, height, width, start=0, stop=None, **given):
        self.decoded.append(latents)
        video = 2 * latents
        for size, axis in zip(self.stride, (2, 3, 4), strict=True):
            video = video.repeat_interleave(size, axis)
        video = video[:, :, 3 : 3 + num_frames, :height, :width]
        video = video[:, :, max(0, 4 * start - 3) : None if stop is None else 4 * stop - 3]
        yield video[:, :, :2]
        yield video[:, :, 2:]


class Halves(EvenLatents, nn.Module):
    """A sound codec: a latent is the mean of each half of its 320 samples."""

    sample_rate, num_channels, hop_length, latent_channels, reach = RATE, 1, HOP, 2, 0

    def __init__(self):
        super().__init__()
        self.seen, self.encoded, self.decoded = [], [], []

    def encode(self, waveform):
        self.seen.append(waveform)
        padded = nn.functional.pad(waveform, (0, -waveform.shape[2] % HOP))
        self.encoded.append(padded.unflatten(2, (-1, 2, HOP // 2)).mean(-1)[:, 0].mT)
        return self.encoded[-1]

    def decode_chunks(self, latents, *, num_samples, start=0, stop=None):
        self.decoded.append(latents)
        sound = latents.mT.flatten(1).repeat_interleave(HOP // 2, 1)[:, None, :num_samples]
        yield sound[..., HOP * start : None if stop is None else HOP * stop]


class Linear(nn.Module):
    """A network whose velocity is linear in its tokens, and other for every token and text."""

    def __init__(self):
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(
            distilled=False, has_references=False, has_sound=True, num_expressions=0
        )
        self.sigmas, self.texts = [], []

    def read(self, captions, speech):
        return make_text(captions, speech)

    def prepare(self, layout, text, decoupled=False, reference=None):
        assert not decoupled
        return SimpleNamespace(layout=layout, text=text)

    def forward(self, tokens, sigma, context):
        layout, text = context.layout, context.text
        self.layout = layout
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


class Watched(AVPipeline):
    """A pipeline that keeps what it made: conditions, window, latents."""

    def make_window(self, conditions, window, before, progress):
        latents = super().make_window(conditions, window, before, progress)
        self.made.append((conditions, window, latents[:2]))
        return latents


def normalised(latents, mean, std):
    """Latents [1, C, ...] as the network knows them."""
    shape = (-1,) + (1,) * (latents.ndim - 2)
    return (latents - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)


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
    pipe = Watched(Linear(), Blocks(), Halves(), config)
    pipe.made = []
    return pipe


def picture(num_frames):
    shape = (num_frames, 32, 48, 3)
    return np.random.default_rng(5).integers(30, 220, shape, dtype=np.uint8)


def sound(length):
    return (0.1 * np.random.default_rng(6).standard_normal((1, length))).astype(np.float32)


def check_window(pipe, window, seed, known, scales=(3.0, 1.7)):
    """The latents that a window made are those of the formulas.

    Args:
        pipe: Has just made a clip.
        window: Its number in the clip.
        seed: Of the clip.
        known: Normalised latents of picture and sound that it was given; they may be longer or
            shorter than the window, and None where none are.
        scales: Of guidance.

    Returns:
        The layout, and bool [L], which tokens were given.
    """
    conditions, own, made = pipe.made[window - count(pipe)]
    calls = slice((window - count(pipe)) * STEPS, (window - count(pipe) + 1) * STEPS or None)
    text, sigma = pipe.transformer.texts[calls][0], pipe.transformer.sigmas[calls]
    layout = pipe.layout(conditions, own)
    given = (sigma[0] == 0).numpy()
    full = [torch.zeros_like(latents) for latents in made]
    for latents, some in zip(full, known, strict=True):
        if some is not None:
            latents[:, :, : some.shape[2]] = some[:, :, : latents.shape[2]]
    clean = pack(*full, layout)[0].numpy()
    noise = noise_of(seed, window, (1, *clean.shape))[0].numpy() * layout.used.numpy()
    pull = [float(value) for value in pull_of(text)]
    by_token = np.array(scales)[layout.modality.numpy()]
    start = np.where(given[:, None], clean, noise)
    tokens = sampled(start, given, pull[0], pull[-1], by_token, layout)
    expected = unpack(torch.from_numpy(tokens)[None].float(), layout)
    for latents, right in zip(made, expected, strict=True):
        np.testing.assert_allclose(latents.numpy(), right.numpy(), rtol=1e-4, atol=1e-5)
    return layout, given


def count(pipe):
    """Windows of the last clip."""
    return pipe.made[-1][1].index + 1


def as_pixels(latents, num_frames):
    """What the codec makes of picture latents [1, 3, T, H, W], uint8 [T, H, W, 3]."""
    chunks = Blocks().decode_chunks(latents, num_frames=num_frames, height=32, width=48)
    video = torch.cat(list(chunks), 2)[0].numpy()
    return np.clip(np.round((np.moveaxis(video, 0, -1) + 1) * 127.5), 0, 255).astype(np.uint8)


def test_the_latents_that_are_made(pipe):
    """Shift, guidance of both modalities, statistics, sampler, noise: each has its say."""
    clip = pipe('a tall man "place red"', seed=11, negative_prompt="rain", progress=False)
    _, given = check_window(pipe, 0, 11, (None, None))
    assert not given.any()
    assert not pipe.video_codec.seen and not pipe.audio_codec.seen  # nothing to encode
    text = pipe.transformer.texts[0]
    assert text.caption_mask.sum(1).tolist() == [3, 1]
    assert text.speech_mask.sum(1).tolist() == [7, 0]
    assert text.caption_ids[0, :3].tolist() == caption_ids("a tall man")
    assert text.caption_ids[1, 0].item() == caption_ids("rain")[0]
    made = pipe.made[0][2]
    for latents, codec, mean, std in zip(
        made,
        (pipe.video_codec, pipe.audio_codec),
        (VIDEO_MEAN, AUDIO_MEAN),
        (VIDEO_STD, AUDIO_STD),
        strict=True,
    ):
        (decoded,) = codec.decoded
        assert torch.allclose(normalised(decoded, mean, std).float(), latents, atol=1e-5)
        assert float(decoded.std()) > 0.05
    assert np.array_equal(clip.frames, as_pixels(pipe.video_codec.decoded[0], 9))
    (waveform,) = Halves().decode_chunks(pipe.audio_codec.decoded[0], num_samples=8640)
    np.testing.assert_array_equal(clip.waveform, waveform[0].numpy().clip(-1, 1))
    even = np.linspace(1, 0, STEPS + 1)
    for step, sigma in enumerate(pipe.transformer.sigmas):
        np.testing.assert_allclose(sigma, 2 * even[step] / (1 + even[step]), rtol=1e-6)


def test_the_first_picture_is_of_the_caption_alone(pipe):
    """By a network of its own, in one frame without words; the rest goes on from it."""
    pipe.text_to_image, pipe.config = Linear(), replace(pipe.config, picture={})
    clip = pipe('a tall man "place red"', seed=11, negative_prompt="rain", progress=False)
    texts, sigmas = pipe.text_to_image.texts, pipe.text_to_image.sigmas
    assert len(texts) == STEPS and texts[0].caption_ids[0, :3].tolist() == caption_ids("a tall man")
    assert texts[0].caption_mask.sum(1).tolist() == [3, 1] and not texts[0].speech_mask.any()
    silence = AudioGrid(HOP, RATE, HOP, 2, 3)
    layout = make_layout(VideoGrid(1, 32, 48, Fraction(25), (4, 16, 16), 3, 2), silence, False)
    assert sigmas[0].shape == (layout.num_tokens,)
    noise = noise_of(11, 2**31, (1, layout.num_tokens, layout.used.shape[1]))[0].numpy()
    noise, scales = noise * layout.used.numpy(), np.full(layout.num_tokens, 3.0)
    none_given, pull = np.zeros(layout.num_tokens, bool), [float(p) for p in pull_of(texts[0])]
    tokens = sampled(noise, none_given, *pull, scales, layout)
    latents, _ = unpack(torch.from_numpy(tokens)[None].float(), layout)
    shape = (1, 3, 1, 1, 1)
    raw = latents * torch.tensor(VIDEO_STD).view(shape) + torch.tensor(VIDEO_MEAN).view(shape)
    off = clip.frames[:1].astype(int) - as_pixels(raw, 1)
    assert np.abs(off).max() <= 1 and clip.frames[0].std() > 5
    (seen,) = pipe.video_codec.encoded
    _, given = check_window(pipe, 0, 11, (normalised(seen, VIDEO_MEAN, VIDEO_STD), None))
    assert given.sum() == layout.num_tokens

    texts.clear()
    pipe('a tall man "place red"', image=picture(1)[0], progress=False)
    pipe('a tall man "place red"', video=Clip(picture(9), Fraction(25)), progress=False)
    assert not texts  # there is a picture


def test_the_first_picture_has_settings_of_its_own(pipe):
    """Less noise to begin with; from the last noise level on what is expected is what is made.

    Patches too: one latent in place of two each way.
    """
    own = {"sampler": "euler", "num_inference_steps": 6, "shift": 1.0, "guidance_scale": 2.2}
    own |= {"temperature": 0.7, "last_sigma": 0.35, "video_patch": 1}
    values = asdict(pipe.config) | {"picture": own}
    pipe.config, pipe.text_to_image = PipelineConfig.from_json(values), Linear()
    clip = pipe('a tall man "place red"', seed=11, negative_prompt="rain", progress=False)
    levels = [1, 5 / 6, 4 / 6, 3 / 6]
    found = [float(sigma[0]) for sigma in pipe.text_to_image.sigmas]
    np.testing.assert_allclose(found, levels, rtol=1e-6)
    assert len(pipe.transformer.sigmas) == STEPS

    layout = pipe.text_to_image.layout
    assert (
        layout.video.patch == 1 and layout.num_tokens == 2 * 3 < pipe.transformer.layout.num_tokens
    )
    tokens = 0.7 * noise_of(11, 2**31, (1, layout.num_tokens, layout.used.shape[1]))[0].numpy()
    tokens, place = tokens * layout.used.numpy(), np.linspace(-1, 1, layout.num_tokens)[:, None]
    cond, uncond = (float(p) * (1 + 0.3 * place) for p in pull_of(pipe.text_to_image.texts[0]))
    for sigma, after in pairwise([*levels, 0]):
        pulled = uncond + 2.2 * (cond - uncond)
        velocity = (0.7 * tokens + 0.4 * sigma**2 + pulled) * layout.used.numpy()
        tokens = tokens + (after - sigma) * velocity
    latents, _ = unpack(torch.from_numpy(tokens)[None].float(), layout)
    shape = (1, 3, 1, 1, 1)
    raw = latents * torch.tensor(VIDEO_STD).view(shape) + torch.tensor(VIDEO_MEAN).view(shape)
    assert np.abs(clip.frames[:1].astype(int) - as_pixels(raw, 1)).max() <= 1

    with pytest.raises(TypeError, match="softness"):
        PipelineConfig.from_json(values | {"picture": {"softness": 2}})


def test_each_scale_is_its_modalitys(pipe):
    options = {"seed": 3, "negative_prompt": "rain in the night", "progress": False}
    pipe('a man "red"', guidance_scale=0.4, audio_guidance_scale=5.0, **options)
    check_window(pipe, 0, 3, (None, None), (0.4, 5.0))
    pipe.transformer.texts.clear()
    pipe('a man "red"', guidance_scale=1.0, audio_guidance_scale=1.0, **options)
    assert [len(text.caption_ids) for text in pipe.transformer.texts] == [1] * STEPS
    pipe.transformer.texts.clear()
    pipe('a man "red"', guidance_scale=1.0, audio_guidance_scale=2.0, **options)
    assert [len(text.caption_ids) for text in pipe.transformer.texts] == [2] * STEPS


def test_a_window_goes_on_from_the_one_before(pipe):
    """It has noise of its own, the words at its own seconds, and the last latents of the other."""
    words = (Word("red", 0.05, 0.2), Word("now", 0.3, 0.45))
    clip = pipe("a man", words=words, num_frames=13, seed=11, progress=False)
    assert [(own.start, own.stop) for _, own, _ in pipe.made] == [(0, 9), (4, 13)]
    _, given = check_window(pipe, 0, 11, (None, None))
    assert not given.any()
    video, audio = pipe.made[0][2]
    # Of three latent frames the last two, of 27 latents of sound those from frame 4 on.
    layout, given = check_window(pipe, 1, 11, (video[:, :, 1:], audio[:, :, 12:]))
    np.testing.assert_array_equal(given, layout.spans[:, 1].numpy() <= 5 / 25 + 1e-6)
    assert not pipe.video_codec.seen and not pipe.audio_codec.seen
    text = pipe.transformer.texts[STEPS]
    spans, mask = text.speech_spans[0], text.speech_mask[0]
    phonemes = [ARPABET[i] for i in text.speech_ids[0, mask]]
    assert phonemes == ["D", "N", "AW"]  # of red, what ends after the window's start at 0.16 s
    assert spans[mask][-1, 1].item() == pytest.approx(0.45 - 0.16)
    assert spans[mask][0, 1].item() == pytest.approx(0.2 - 0.16)
    decoded = pipe.video_codec.decoded[-1]  # one row of latents, from the first to the last
    assert decoded.shape[2] == 4
    assert np.array_equal(clip.frames, as_pixels(decoded, 13))
    (waveform,) = Halves().decode_chunks(pipe.audio_codec.decoded[-1], num_samples=13 * 960)
    np.testing.assert_array_equal(clip.waveform, waveform[0].numpy().clip(-1, 1))


def test_a_picture_a_sound_a_video_and_a_beginning_are_given(pipe):
    def known():
        return (
            normalised(pipe.video_codec.encoded[-1], VIDEO_MEAN, VIDEO_STD),
            normalised(pipe.audio_codec.encoded[-1], AUDIO_MEAN, AUDIO_STD),
        )

    image, waveform = picture(1)[0], sound(8640)
    clip = pipe("a man", image=image, audio=(waveform, RATE), seed=2, progress=False)
    layout, given = check_window(pipe, 0, 2, known())
    starts = layout.spans[:, 0].numpy()
    own = layout.modality.numpy()
    np.testing.assert_array_equal(given, (own == AUDIO) | (starts == 0))
    assert pipe.video_codec.seen[0].shape[2] == 1  # the picture alone is encoded
    np.testing.assert_allclose(
        pipe.video_codec.seen[0][0, :, 0], np.moveaxis(image, -1, 0) / 127.5 - 1, atol=1e-6
    )
    np.testing.assert_allclose(pipe.audio_codec.seen[0][0, 0], waveform[0], atol=1e-6)
    np.testing.assert_array_equal(clip.waveform, waveform)
    assert not pipe.audio_codec.decoded  # it comes out as it went in

    video = Clip(picture(9), Fraction(25))
    pipe("a man", video=video, seed=4, progress=False)
    _, given = check_window(pipe, 0, 4, (known()[0], None))
    np.testing.assert_array_equal(given, own == VIDEO)
    assert len(pipe.video_codec.decoded) == 1  # of the clip before

    beginning = Clip(picture(7), Fraction(25), sound(7 * 960), RATE)
    clip = pipe('a man "red"', extend=beginning, num_frames=9, seed=6, progress=False)
    layout, given = check_window(pipe, 0, 6, known())
    assert np.array_equal(clip.frames[:7], beginning.frames)
    stops = layout.spans[:, 1].numpy()
    np.testing.assert_array_equal(given, stops <= 5 / 25 + 1e-6)  # frames 2 to 6 of the beginning
    np.testing.assert_allclose(
        pipe.video_codec.seen[-1][0].numpy(),
        np.moveaxis(beginning.frames[2:], -1, 0) / 127.5 - 1,
        atol=1e-6,
    )
    heard, own = pipe.audio_codec.seen[-1][0, 0].numpy(), beginning.waveform[0, 2 * 960 :]
    np.testing.assert_array_equal(heard[: len(own)], own)  # and then its mirror image
    np.testing.assert_array_equal(heard[len(own) :], own[-2 : -2 - (len(heard) - len(own)) : -1])

    short = Clip(picture(4), Fraction(25), sound(4 * 960), RATE)
    pipe('a man "red"', extend=short, num_frames=9, seed=7, progress=False)
    layout, given = check_window(pipe, 0, 7, known())
    assert layout.video.num_frames == 6  # the last of the four is context: one whole latent
    np.testing.assert_array_equal(given, layout.spans[:, 1].numpy() <= 1 / 25 + 1e-6)
