"""Every length and every span follows from the clip's rates; spans tile the clip."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avgen.clips.timebase import num_samples
from avgen.latents.geometry import AudioGrid, VideoGrid

RATES = st.sampled_from([Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30)])


def video_grid(num_frames, height=32, width=32, fps=Fraction(25), stride=(4, 16, 16), patch=2):
    return VideoGrid(num_frames, height, width, fps, stride, channels=3, patch=patch)


@settings(max_examples=60, deadline=None)
@given(num_frames=st.integers(1, 200), fps=RATES, step=st.integers(1, 8))
def test_latent_frames_tile_the_frames(num_frames, fps, step):
    grid = video_grid(num_frames, fps=fps, stride=(step, 16, 16))
    covered = [f for i in range(grid.num_latents) for f in range(*grid.latent_frames(i))]
    assert covered == list(range(len(covered)))  # no frame twice, none left out
    assert num_frames <= len(covered) < num_frames + step  # and no latent too many
    assert grid.latent_frames(0) == (0, 1)


@settings(max_examples=60, deadline=None)
@given(num_frames=st.integers(1, 200), fps=RATES)
def test_spans_of_both_modalities_tile_the_clip(num_frames, fps):
    video = video_grid(num_frames, fps=fps)
    audio = AudioGrid(num_samples(num_frames, fps, 24000), 24000, 320, channels=2, patch=3)
    duration = Fraction(num_frames) / fps
    for spans, step in (
        ([video.span(i) for i in range(video.num_latents)], 4 / fps),
        ([audio.span(i) for i in range(audio.num_tokens)], Fraction(960, 24000)),
    ):
        assert spans[0][0] == 0
        assert all(end == start for (_, end), (start, _) in zip(spans[:-1], spans[1:], strict=True))
        assert spans[-1][1] >= duration - Fraction(1, 24000)  # samples round to the nearest
        assert spans[-1][1] - duration < step


def test_numbers_of_a_three_second_clip():
    grid = video_grid(73, 128, 128)
    assert grid.num_latents == 19  # 1 + 72 / 4
    assert grid.latent_size == (8, 8)
    assert grid.token_size == (4, 4)
    assert (grid.tokens_per_latent, grid.num_tokens, grid.token_channels) == (16, 304, 12)
    assert grid.span(1) == (Fraction(1, 25), Fraction(5, 25))
    audio = AudioGrid(num_samples(73, 25, 24000), 24000, 320, channels=32, patch=3)
    assert audio.num_samples == 70080
    assert (audio.num_latents, audio.num_tokens, audio.token_channels) == (219, 73, 96)
    assert audio.span(1) == (Fraction(1, 25), Fraction(2, 25))


def test_sizes_that_the_strides_do_not_divide_round_up():
    grid = video_grid(6, 33, 81)
    assert grid.num_latents == 3
    assert grid.latent_size == (3, 6)
    assert grid.token_size == (2, 3)


def test_centers_are_pixels_from_the_middle():
    grid = video_grid(1, 64, 96)  # tokens of 32 x 32 pixels: 2 x 3
    assert grid.center(0, 0) == (-16.0, -32.0)
    assert grid.center(1, 2) == (16.0, 32.0)
    assert grid.center(0, 1) == (-16.0, 0.0)


@pytest.mark.parametrize(
    "wrong", [{"num_frames": 0}, {"height": -1}, {"width": 0}, {"fps": Fraction(0)}]
)
def test_nothing_to_cover_is_an_error(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        video_grid(**{"num_frames": 1, **wrong})


def test_no_samples_are_an_error():
    with pytest.raises(ValueError, match="num_samples is 0"):
        AudioGrid(0, 24000, 320, 2, 3)
