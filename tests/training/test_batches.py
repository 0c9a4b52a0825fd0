"""Which clips train together: everyone's turn, one shape a batch or room in a sequence."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest

from avgen.preparation.latent_store import ClipShape
from avgen.training.batches import Buckets, Packs
from avgen.training.draws import permutation

SHAPES = {i: ClipShape(9 + 4 * (i % 3), 32, 32, Fraction(25), bool(i % 2)) for i in range(40)}
TOKENS = {i: 10 * shape.num_frames for i, shape in SHAPES.items()}


@pytest.mark.parametrize("world", [1, 2])
def test_a_bucket_is_of_one_shape_and_no_clip_is_left_out(world):
    plan = Buckets(3, [1.0]).plan(permutation(40, seed=1), SHAPES, TOKENS, world)
    assert all([len(batch) for batch in step] == [3] * world for step in plan)
    for step in plan:
        assert len({SHAPES[clip] for batch in step for clip in batch}) == 1
    seen = Counter(clip for step in plan for batch in step for clip in batch)
    assert seen.keys() == set(range(40))
    assert max(seen.values()) <= 2
    shapes = [SHAPES[step[0][0]] for step in plan]
    assert sum(a != b for a, b in zip(shapes, shapes[1:], strict=False)) > 4  # mixed, not in a row


def test_two_processes_draw_what_one_does_of_twice_the_batch():
    order = permutation(40, seed=2)
    one = Buckets(6, [1.0]).plan(order, SHAPES, TOKENS, 1)
    two = Buckets(3, [1.0]).plan(order, SHAPES, TOKENS, 2)
    assert len(two) == len(one)
    for (batch,), halves in zip(one, two, strict=True):
        assert sorted(halves[0] + halves[1]) == sorted(batch)


def test_clips_without_a_picture_have_batches_of_their_own_size():
    shapes = {i: replace(shape, has_picture=i % 4 > 0) for i, shape in SHAPES.items()}
    plan = Buckets(2, [1.0], sound_batch_size=5).plan(permutation(40, seed=2), shapes, TOKENS, 1)
    sizes = {shapes[batch[0]].has_picture: len(batch) for (batch,) in plan}
    assert sizes == {True: 2, False: 5}


def test_stills_have_batches_of_their_own_size():
    silent = {i: replace(shape, has_sound=False) for i, shape in SHAPES.items()}
    shapes = {i: replace(own, num_frames=1) if i % 4 else own for i, own in silent.items()}
    plan = Buckets(2, [1.0], still_batch_size=7).plan(permutation(40, seed=2), shapes, TOKENS, 1)
    sizes = {shapes[batch[0]].num_frames == 1: len(batch) for (batch,) in plan}
    assert sizes == {True: 7, False: 2}


@pytest.mark.parametrize("world", [1, 4])
def test_a_pack_is_full_and_no_clip_is_left_out(world):
    plan = Packs(500, 10.0).plan(permutation(40, seed=3), SHAPES, TOKENS, world)
    sizes = [sum(TOKENS[clip] for clip in batch) for step in plan for batch in step]
    assert {len(step) for step in plan} == {world}
    assert max(sizes) <= 500
    assert sum(sizes) / len(sizes) > 0.85 * 500
    seen = Counter(clip for step in plan for batch in step for clip in batch)
    assert seen.keys() == set(range(40))
    if world == 1:
        assert set(seen.values()) == {1}
    with pytest.raises(ValueError, match="max_tokens is 100"):
        Packs(100, 10.0).plan(permutation(40, seed=3), SHAPES, TOKENS, 1)


def test_an_order_is_its_seeds():
    assert permutation(9, 5) == permutation(9, 5) != permutation(9, 6)
    assert sorted(permutation(9, 5)) == list(range(9))


@pytest.mark.parametrize(
    ("num_frames", "fps", "cut"),
    [
        (73, 25, 73),
        (72, 25, 49),
        (60, 25, 49),
        (48, 25, None),
        (60, 24, 45),
        (75, "30000/1001", 57),
    ],
)
def test_buckets_cut_to_a_few_lengths(num_frames, fps, cut):
    """1.96 s and 2.92 s, that is 49 and 73 frames at 25 a second, 1 + 4 k frames at any."""
    shape = ClipShape(num_frames, 32, 32, Fraction(fps), True)
    made = Buckets(1, [2.92, 1.96]).cut(shape, 4)
    assert (None if made is None else made.num_frames) == cut


def test_packs_cut_what_is_too_long_and_leave_out_what_is_too_short():
    packs = Packs(1000, longest_s=2.0, shortest_s=0.5)
    cuts = [packs.cut(ClipShape(n, 32, 32, Fraction(25), True), 4) for n in (12, 13, 16, 200)]
    assert cuts[0] is None
    assert [cut.num_frames for cut in cuts[1:]] == [13, 13, 49]
