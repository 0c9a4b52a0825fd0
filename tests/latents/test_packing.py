"""Latents of both modalities become one sequence in time order, and come back exactly."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avgen.clips.timebase import num_samples
from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import AUDIO, VIDEO, concatenate, make_layout, pack, unpack

RATES = st.sampled_from([Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30)])


def grids(num_frames, height=48, width=64, fps=Fraction(25), channels=(3, 5), patches=(2, 3)):
    video = VideoGrid(num_frames, height, width, fps, (4, 16, 16), channels[0], patches[0])
    samples = num_samples(num_frames, fps, 24000)
    return video, AudioGrid(samples, 24000, 320, channels[1], patches[1])


def latents(layout, batch=2):
    video = torch.randn(
        batch, layout.video.channels, layout.video.num_latents, *layout.video.latent_size
    )
    return video, torch.randn(batch, layout.audio.channels, layout.audio.num_latents)


@settings(max_examples=40, deadline=None)
@given(
    num_frames=st.integers(1, 40),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    fps=RATES,
    channels=st.tuples(st.integers(1, 4), st.integers(1, 20)),
    patches=st.tuples(st.integers(1, 3), st.integers(1, 4)),
)
def test_unpack_inverts_pack_exactly(num_frames, height, width, fps, channels, patches):
    layout = make_layout(*grids(num_frames, height, width, fps, channels, patches))
    video, audio = latents(layout)
    tokens = pack(video, audio, layout)
    assert tokens.shape == (
        2,
        layout.video.num_tokens + layout.audio.num_tokens,
        layout.token_width,
    )
    back = unpack(tokens, layout)
    assert torch.equal(back[0], video)
    assert torch.equal(back[1], audio)


@settings(max_examples=40, deadline=None)
@given(num_frames=st.integers(1, 60), fps=RATES)
def test_tokens_are_in_time_order_picture_first(num_frames, fps):
    layout = make_layout(*grids(num_frames, fps=fps))
    starts = layout.spans[:, 0]
    assert bool((starts[1:] >= starts[:-1]).all())
    same = starts[1:] == starts[:-1]
    assert bool((layout.modality[1:] >= layout.modality[:-1])[same].all())
    assert sorted(layout.order.tolist()) == list(range(layout.num_tokens))


def test_sound_and_picture_of_one_instant_share_seconds():
    """At 25 fps a token of sound is a frame long: latent i + 1 begins with token 4 i + 1."""
    layout = make_layout(*grids(13))
    video = layout.spans[layout.modality == VIDEO].unique(dim=0)
    audio = layout.spans[layout.modality == AUDIO]
    assert video[:, 0].tolist() == pytest.approx([0, 0.04, 0.2, 0.36])
    assert torch.equal(video[1:, 0], audio[[1, 5, 9], 0])
    assert torch.equal(video[:, 1], audio[[0, 4, 8, 12], 1])


def test_a_token_holds_the_latents_of_its_place():
    """Every video latent is its own (t, y, x), so that a token says whose it is."""
    layout = make_layout(*grids(9, 64, 64, channels=(3, 1)))
    t, y, x = torch.meshgrid(torch.arange(3.0), torch.arange(4.0), torch.arange(4.0), indexing="ij")
    tokens = pack(torch.stack([t, y, x])[None], torch.zeros(1, 1, layout.audio.num_latents), layout)
    own = tokens[0, layout.modality == VIDEO][:, :12].reshape(-1, 2, 2, 3)
    seconds = torch.tensor([float(layout.video.span(i)[0]) for i in range(3)])
    assert torch.equal(seconds[own[:, 0, 0, 0].long()], layout.spans[layout.modality == VIDEO, 0])
    centers = (own[..., 1:].mean((1, 2)) + 0.5) * 16 - 32
    assert torch.equal(centers, layout.places[layout.modality == VIDEO])


def test_padding_is_zero_and_unused():
    layout = make_layout(*grids(9, channels=(2, 5), patches=(2, 3)))  # 8 numbers and 15
    video, audio = latents(layout)
    tokens = pack(torch.ones_like(video), torch.ones_like(audio), layout)
    assert layout.used.sum(1)[layout.modality == VIDEO].unique().tolist() == [8]
    assert layout.used.sum(1)[layout.modality == AUDIO].unique().tolist() == [15]
    assert bool((tokens[:, ~layout.used] == 0).all())


def test_latents_of_another_grid_are_an_error():
    layout = make_layout(*grids(9))
    video, audio = latents(layout)
    with pytest.raises(ValueError, match="video latents are"):
        pack(video[:, :, 1:], audio, layout)
    with pytest.raises(ValueError, match="video latents are"):
        pack(video[..., 1:], audio, layout)
    with pytest.raises(ValueError, match="audio latents are"):
        pack(video, audio[..., 1:], layout)
    with pytest.raises(ValueError, match="audio latents are"):
        pack(video, audio[:, 1:], layout)


def test_a_clip_without_sound_has_no_tokens_of_it():
    """Missing is not silent: the tokens are not there, and silence has tokens."""
    video_grid, audio_grid = grids(9)
    mute, sounding = make_layout(video_grid, audio_grid, False), make_layout(video_grid, audio_grid)
    assert (mute.has_sound, sounding.has_sound) == (False, True)
    assert mute.num_tokens == video_grid.num_tokens
    assert not bool((mute.modality == AUDIO).any())
    assert int((sounding.modality == AUDIO).sum()) == audio_grid.num_tokens
    video, audio = latents(sounding)
    silent = pack(video, torch.zeros_like(audio), sounding)
    tokens = pack(video, None, mute)
    assert torch.equal(tokens, silent[:, sounding.modality == VIDEO])
    with pytest.raises(ValueError, match=r"audio latents are given; .* without sound"):
        pack(video, torch.zeros_like(audio), mute)
    with pytest.raises(ValueError, match=r"audio latents are missing; .* with sound"):
        pack(video, None, sounding)
    back = unpack(tokens, mute)
    assert torch.equal(back[0], video)
    assert back[1] is None


def test_a_voice_alone_has_no_tokens_of_a_picture():
    grid, audio_grid = grids(9)
    voice, both = make_layout(grid, audio_grid, has_picture=False), make_layout(grid, audio_grid)
    assert (voice.has_sound, voice.has_picture, both.has_picture) == (True, False, True)
    assert voice.num_tokens == audio_grid.num_tokens
    assert torch.equal(voice.spans, both.spans[both.modality == AUDIO])
    assert voice.token_width == both.token_width == 15
    assert bool((voice.modality == AUDIO).all())
    video, audio = latents(both)
    tokens = pack(None, audio, voice)
    black = pack(torch.zeros_like(video), audio, both)
    assert torch.equal(tokens, black[:, both.modality == AUDIO])
    back = unpack(tokens, voice)
    assert back[0] is None
    assert torch.equal(back[1], audio)
    packed = concatenate([voice, both])
    assert packed.lengths == (voice.num_tokens, both.num_tokens)
    with pytest.raises(ValueError, match=r"video latents are given; .* without a picture"):
        pack(video, audio, voice)
    with pytest.raises(ValueError, match=r"video latents are missing; .* with a picture"):
        pack(None, audio, both)
    with pytest.raises(ValueError, match="nothing to lay out"):
        make_layout(grid, audio_grid, has_sound=False, has_picture=False)
