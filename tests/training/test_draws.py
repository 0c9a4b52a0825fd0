"""Numbered draws: every clip once an epoch, whoever draws, wherever one resumes."""

from collections import Counter
from fractions import Fraction
from itertools import islice

import pytest
import torch
from safetensors.torch import load_file

from avgen.clips.timebase import to_seconds
from avgen.corpora.manifest import read_manifest
from avgen.errors import UserError
from avgen.preparation.latent_store import ClipShape, LatentConfig
from avgen.preparation.shards import pack_all
from avgen.training import data as data_module
from avgen.training import draws as draws_module
from avgen.training.batches import Buckets, Packs
from avgen.training.data import ClipData, ClipSteps
from avgen.training.draws import Draws
from avgen.training.epochs import DRAWS_OF_AN_EPOCH, Epochs

CONFIG = LatentConfig(32, 32, "25", (4, 16, 16), 4, 2, 24000, 320, 4, 3, "none")


@pytest.fixture
def processes(monkeypatch):
    """Sets which of how many processes this is."""

    def set_to(rank, world):
        for module in (draws_module, data_module):
            monkeypatch.setattr(module, "rank_and_world", lambda: (rank, world))

    return set_to


def numbers(steps, count=None):
    return [draw for step in islice(iter(steps), count) for _, draw in step]


def test_draws_go_on_from_pass_to_pass():
    draws = Draws([5], 1)
    assert [numbers(draws) for _ in range(3)] == [
        [0, 1, 2, 3, 4],
        [5, 6, 7, 8, 9],
        [10, 11, 12, 13, 14],
    ]


def test_draws_resume_in_the_middle_of_a_pass():
    draws = Draws([5], 1)
    assert numbers(draws) == [0, 1, 2, 3, 4]
    assert numbers(draws, 2) == [5, 6]
    resumed = Draws([5], 1)
    resumed.load_state_dict(draws.state_dict())
    assert numbers(resumed) == [7, 8, 9]
    assert numbers(resumed) == [10, 11, 12, 13, 14]


def test_sets_take_turns_and_have_numbers_of_their_own():
    draws = Draws([4, 6], 2)
    assert [list(step) for step in draws] == [
        [(0, 0), (0, 1)],
        [(1, 0), (1, 1)],
        [(0, 2), (0, 3)],
        [(1, 2), (1, 3)],
        [(0, 4), (0, 5)],
    ]


def test_a_set_may_have_more_batches_of_a_round():
    draws = Draws([6, 2], 2, shares=[2, 1])
    assert [list(step) for step in draws] == [
        [(0, 0), (0, 1)],
        [(0, 2), (0, 3)],
        [(1, 0), (1, 1)],
        [(0, 4), (0, 5)],
    ]
    with pytest.raises(ValueError, match=r"shares \[2\] of 2 folders; each has 1 or more"):
        Draws([6, 2], 2, shares=[2])


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_a_pass_between_them(processes, world):
    taken = []
    for rank in range(world):
        processes(rank, world)
        draws = Draws([6], 1)
        assert len(draws) == 6 // world
        taken.append(numbers(draws) + numbers(draws))
    assert not set(taken[0]) & set(taken[1])
    assert sorted(draw for draws in taken for draw in draws) == list(range(12))


def changing(processes, make, counts):
    """What is drawn where `counts` are (processes, steps that they take, None for all), in turn.

    Every change is a run that is resumed: from the state of one process.
    """
    state, taken = None, []
    for world, count in counts:
        states = []
        for rank in range(world):
            processes(rank, world)
            steps = make()
            if state is not None:
                steps.load_state_dict(state)
            taken += [pair for step in islice(iter(steps), count) for pair in step]
            states.append(steps.state_dict())
        assert all(other == states[0] for other in states)
        state = states[0]
    return taken


def test_windows_are_drawn_once_on_two_one_and_two_processes(processes):
    taken = changing(processes, lambda: Draws([24, 8], 2), [(2, 3), (1, 2), (2, 3)])
    assert len(taken) == len(set(taken)) == 12 + 4 + 12
    for part in (0, 1):
        own = sorted(draw for of, draw in taken if of == part)
        assert own == list(range(len(own)))


SHAPES = {i: ClipShape(9 + 4 * (i % 2), 32, 32, Fraction(25), True) for i in range(30)}


@pytest.mark.parametrize("batching", [Buckets(2, [1.0]), Packs(40, 1.0)], ids=["buckets", "packs"])
def test_an_epoch_is_every_clip_once_on_two_one_and_two_processes(processes, batching):
    """Half of the epoch's plan for two, some of one's, and the rest for two again."""
    epochs, taken, numbered = None, Counter(), []
    for world, count in ((2, 3), (1, 4), (2, None)):
        state = None if epochs is None else epochs.state_dict()
        epochs = Epochs(SHAPES, batching, CONFIG, seed=3)
        if state is not None:
            epochs.load_state_dict(state)
        for _ in range(count or 100):
            if epochs.epoch:
                break
            for batch in epochs.take(world):
                taken.update(clip for clip, _ in batch)
                numbered += [draw for _, draw in batch]
    assert epochs.epoch == 1
    assert taken.keys() == SHAPES.keys()
    assert len(numbered) == len(set(numbered))
    firsts = [draw for draw in numbered if draw < len(SHAPES)]
    assert sorted(firsts) == list(range(len(SHAPES)))  # every draw of the epoch, once
    assert len(numbered) - len(firsts) <= 8  # the rest fills steps up
    assert all(draw >= DRAWS_OF_AN_EPOCH for batch in epochs.take(1) for _, draw in batch)


def test_every_epoch_and_seed_has_an_order_of_its_own():
    def order(seed, epoch):
        steps = Epochs(SHAPES, Packs(40, 1.0), CONFIG, seed).plan(epoch, [(1, 0)])
        return [clip for step in steps for batch in step for clip, _ in batch]

    orders = [order(3, 0), order(3, 1), order(4, 0)]
    assert order(3, 0) == orders[0]
    assert len(set(map(tuple, orders))) == 3


def test_a_draw_has_its_number_however_many_processes_there_are():
    def numbers_of(world):
        epochs = Epochs(SHAPES, Buckets(2, [1.0]), CONFIG, seed=3)
        steps = epochs.plan(0, [(world, 0)])
        return {clip: draw for step in reversed(steps) for batch in step for clip, draw in batch}

    one = numbers_of(1)
    assert sorted(one.values()) == list(range(30))
    firsts = {clip: draw for clip, draw in numbers_of(4).items() if draw < 30}
    assert firsts.items() <= one.items()
    assert len(firsts) >= 28


def test_what_fills_the_last_step_up_is_no_step_of_its_own(processes):
    """Three clips in steps of four: after one of them nothing is left for another world."""
    epochs = Epochs(dict.fromkeys(range(3), SHAPES[0]), Buckets(2, [1.0]), CONFIG)
    epochs.take(1)
    epochs.load_state_dict(epochs.state_dict())
    assert {clip for batch in epochs.take(2) for clip, _ in batch} <= {0, 1, 2}
    assert epochs.epoch == 1
    assert len(epochs.take(2)) == 2


def test_a_share_of_the_steps_is_of_sound_alone(prepared_mixed):
    data = ClipData(prepared_mixed, Packs(120, 1.0), sound_share=0.25, seed=2)
    loader = data.train_dataloader()
    kinds, drawn = [], []
    for _ in range(3):
        for batch in loader:
            kinds.append({clip.shape.has_picture for clip in batch["clips"]})
            drawn += batch["draws"]
            for clip in batch["clips"]:
                assert (clip.video is None) == (not clip.shape.has_picture)
    assert [i for i, kind in enumerate(kinds) if kind == {False}] == list(range(3, len(kinds), 4))
    assert all(len(kind) == 1 for kind in kinds)
    assert len(drawn) == len(set(drawn))


def test_tars_of_other_clips_than_the_manifest_has_are_refused(prepared_mixed):
    """One who opted out since would stay in them."""
    records, url = read_manifest(prepared_mixed / "manifest.jsonl"), str(prepared_mixed / "tars")
    assert pack_all(prepared_mixed, url, records, clips_a_tar=7)
    assert pack_all(prepared_mixed, url, records, clips_a_tar=7)  # twice is as once
    for left, tar in ((records[1:], "000000"), (records[:14], "000002")):
        with pytest.raises(UserError, match=f"{tar}.tar: holds other clips than the manifest"):
            pack_all(prepared_mixed, url, left, clips_a_tar=7)


def test_shares_that_leave_nothing_for_clips_leave_nothing(prepared_mixed):
    """1 - 0.7 - 0.3 is 5.6e-17."""
    data = ClipData(prepared_mixed, Buckets(2, [0.3, 0.6]), sound_share=0.7, still_share=0.3)
    assert len(data.train_dataloader()) < 100


@pytest.mark.parametrize("place", ["files", "tars"])
def test_a_share_of_the_steps_is_of_stills(prepared_mixed, place):
    """Any frame that begins a latent, as the encoder makes it of that frame alone."""
    stored = {path.stem: load_file(path) for path in prepared_mixed.glob("latents/*.safetensors")}
    if place == "tars":
        records = read_manifest(prepared_mixed / "manifest.jsonl")
        assert pack_all(prepared_mixed, str(prepared_mixed / "tars"), records, clips_a_tar=2)
    batching = Buckets(2, [0.3, 0.6], sound_batch_size=5, still_batch_size=3)
    data = ClipData(prepared_mixed, batching, sound_share=0.25, still_share=0.45, seed=2)
    loader = data.train_dataloader()
    kinds, starts, drawn = [], set(), []
    for _ in range(6):
        for batch in loader:
            shapes = {(clip.shape.has_picture, clip.shape.has_sound) for clip in batch["clips"]}
            drawn += batch["draws"]
            is_still = batch["clips"][0].shape.num_frames == 1
            kinds.append("still" if is_still else "sound" if (False, True) in shapes else "clip")
            if not is_still:
                continue
            assert shapes == {(True, False)}
            assert len(batch["clips"]) == 3
            for clip in batch["clips"]:
                stride = to_seconds(data.clips("train").config.video_stride[0], clip.shape.fps)
                latent = round(clip.start_s / float(stride))
                assert abs(latent * float(stride) - clip.start_s) < 1e-9
                own = stored[clip.record.id]["still" if latent else "video"]
                own = own if place == "files" else own.bfloat16().float()  # as tars have them
                assert torch.equal(clip.video, own[:, latent : latent + 1])
                starts.add(latent)
    counts = {kind: kinds.count(kind) / len(kinds) for kind in ("sound", "still")}
    assert abs(counts["sound"] - 0.25) < 1.5 / len(kinds)
    assert abs(counts["still"] - 0.45) < 1.5 / len(kinds)
    assert len(starts) >= 3
    assert len(drawn) == len(set(drawn))


def test_shares_of_the_steps_are_at_most_all(prepared_mixed):
    with pytest.raises(UserError, match=r"sound_share 0\.7 and still_share 0\.4"):
        ClipData(
            prepared_mixed, Packs(120, 1.0), sound_share=0.7, still_share=0.4
        ).train_dataloader()


@pytest.mark.parametrize("place", ["files", "tars"])
def test_a_run_changes_its_processes_and_draws_every_clip_once(prepared_mixed, processes, place):
    """As Lightning does it: the state of one process, read by all of the next run's."""
    data = ClipData(prepared_mixed, Buckets(1, [0.3, 0.6]))
    if place == "tars":
        records = read_manifest(prepared_mixed / "manifest.jsonl")
        assert pack_all(prepared_mixed, str(prepared_mixed / "tars"), records, clips_a_tar=2)
        assert not list(prepared_mixed.glob("latents/*.safetensors"))
    clips = data.clips("train")
    plan = [(2, 3), (1, 4), (2, 2), (1, None)]
    taken = changing(processes, lambda: ClipSteps(clips, data.batching, seed=5), plan)
    numbers = [drawn.draw for drawn in taken]
    assert len(numbers) == len(set(numbers))
    firsts = {drawn.draw: drawn.clip for drawn in taken if drawn.draw < len(clips.wholes)}
    assert sorted(firsts) == list(range(15))
    assert sorted(firsts.values()) == list(range(15))
    read = {clips.clip(drawn).record.id for drawn in taken if drawn.draw < len(clips.wholes)}
    assert read == {f"m{number}" for number in range(15)}
