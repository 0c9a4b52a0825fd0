"""What each task gives: a mask's content in seconds, frames and modalities."""

from fractions import Fraction

import pytest
import torch

from avgen.clips.timebase import num_samples
from avgen.latents.conditioning import (
    TASKS,
    Tasks,
    before_given,
    between_made,
    draw_given,
    latents_given,
    modality_given,
)
from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import AUDIO, VIDEO, make_layout


@pytest.fixture
def layout():
    video = VideoGrid(25, 32, 32, Fraction(25), (4, 16, 16), 3, 1)
    return make_layout(video, AudioGrid(num_samples(25, 25, 24000), 24000, 320, 2, 3))


def of(layout, mask, modality):
    """The mask of one modality, one entry a token, in time order."""
    return mask[layout.modality == modality]


def test_one_modality(layout):
    mask = modality_given(layout, AUDIO)
    assert bool(of(layout, mask, AUDIO).all())
    assert not bool(of(layout, mask, VIDEO).any())


def test_first_latents(layout):
    for count in (1, 3, 7):
        mask = latents_given(layout, count)
        assert of(layout, mask, VIDEO).tolist() == [True] * (4 * count) + [False] * (
            4 * (7 - count)
        )
        assert not bool(of(layout, mask, AUDIO).any())


def test_a_beginning_is_whole_tokens_of_both(layout):
    mask = before_given(layout, 0.36)  # frames 0 to 8: latents 0, 1, 2, and nine tokens of sound
    assert of(layout, mask, VIDEO).tolist() == [True] * 12 + [False] * 16
    assert of(layout, mask, AUDIO).tolist() == [True] * 9 + [False] * 16
    mask = before_given(
        layout, 0.35
    )  # inside the ninth frame: neither the latent nor the token is whole
    assert of(layout, mask, VIDEO).tolist() == [True] * 8 + [False] * 20
    assert of(layout, mask, AUDIO).tolist() == [True] * 8 + [False] * 17


def test_a_middle_is_made_where_it_is_touched(layout):
    mask = between_made(
        layout, 0.30, 0.52
    )  # touches latents 2 and 3 (frames 5 to 12), tokens 7 to 12
    assert of(layout, mask, VIDEO).tolist() == [True] * 8 + [False] * 8 + [True] * 12
    assert of(layout, mask, AUDIO).tolist() == [True] * 7 + [False] * 6 + [True] * 12


@pytest.mark.parametrize("task", TASKS)
def test_what_each_task_gives(layout, task):
    for seed in range(20):
        mask = draw_given(layout, task, torch.Generator().manual_seed(seed))
        video, audio = of(layout, mask, VIDEO), of(layout, mask, AUDIO)
        if task == "everything":
            assert not bool(mask.any())
        elif task in ("picture", "sound and picture"):
            assert video.tolist() == [True] * 4 + [False] * 24
            assert bool(audio.all() if task == "sound and picture" else not audio.any())
        elif task == "frames":
            count = int(video.sum())
            assert count % 4 == 0
            assert 1 <= count // 4 < 7
            assert video.tolist() == [True] * count + [False] * (28 - count)
            assert not bool(audio.any())
        elif task in ("sound", "silent video"):
            assert bool(audio.all()) == (task == "sound")
            assert bool(video.all()) == (task == "silent video")
            assert bool(audio.any()) != bool(video.any())
        elif task == "beginning":  # once made, nothing is given again
            assert bool((video.int().diff() <= 0).all())
            assert bool((audio.int().diff() <= 0).all())
            assert not bool(audio[-4:].any())
        else:  # at most one stretch is made
            assert (audio.int().diff() < 0).sum() <= 1


def test_draws_never_give_everything(layout):
    tasks = Tasks({"middle": 1.0, "frames": 1.0, "beginning": 1.0})
    masks = tasks.draw(layout, 300, torch.Generator().manual_seed(3))
    assert masks.shape == (300, layout.num_tokens)
    assert not bool(masks.all(1).any())


def test_draws_follow_the_weights(layout):
    masks = Tasks({"sound": 3.0, "silent video": 1.0}).draw(
        layout, 800, torch.Generator().manual_seed(0)
    )
    sound = (masks == modality_given(layout, AUDIO)).all(1)
    silent = (masks == modality_given(layout, VIDEO)).all(1)
    assert bool((sound ^ silent).all())
    assert float(sound.float().mean()) == pytest.approx(0.75, abs=0.05)
    again = Tasks({"sound": 3.0, "silent video": 1.0}).draw(
        layout, 800, torch.Generator().manual_seed(0)
    )
    assert torch.equal(masks, again)


def test_unknown_tasks_are_errors(layout):
    with pytest.raises(ValueError, match="unknown task 'dance'"):
        Tasks({"dance": 1.0})
    with pytest.raises(ValueError, match="unknown task 'dance'"):
        draw_given(layout, "dance", torch.Generator())
