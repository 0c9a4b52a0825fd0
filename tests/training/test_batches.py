"""Which clips train together: everyone's turn, one shape a batch or room in a sequence."""

from collections import Counter
from fractions import Fraction

import pytest

from avgen.training.batches import Buckets, Packs, permutation
from avgen.training.prepared import ClipShape

SHAPES = [ClipShape(9 + 4 * (i % 3), 32, 32, Fraction(25), bool(i % 2)) for i in range(40)]
TOKENS = [10 * shape.num_frames for shape in SHAPES]


@pytest.mark.parametrize("world", [1, 2])
def test_a_bucket_is_of_one_shape_and_no_clip_is_left_out(world):
    plan = Buckets(3, [1.0]).plan(SHAPES, TOKENS, world, permutation(40, seed=1))
    assert all(len(batch) == 3 for batch in plan)
    for step in range(0, len(plan), world):
        clips = [clip for batch in plan[step : step + world] for clip, _ in batch]
        assert len({SHAPES[clip] for clip in clips}) == 1
    seen = Counter(clip for batch in plan for clip, _ in batch)
    assert seen.keys() == set(range(40))
    assert max(seen.values()) <= 2
    draws = [draw for batch in plan for _, draw in batch]
    assert sorted(draws) == list(range(len(draws)))
    shapes = [SHAPES[batch[0][0]] for batch in plan]
    assert sum(a != b for a, b in zip(shapes, shapes[1:], strict=False)) > 4  # mixed, not in a row


def test_two_processes_draw_what_one_does_of_twice_the_batch():
    order = permutation(40, seed=2)
    one = Buckets(6, [1.0]).plan(SHAPES, TOKENS, 1, order)
    two = Buckets(3, [1.0]).plan(SHAPES, TOKENS, 2, order)
    assert len(two) == 2 * len(one)
    for step, batch in enumerate(one):
        assert sorted(two[2 * step] + two[2 * step + 1]) == sorted(batch)


@pytest.mark.parametrize("world", [1, 4])
def test_a_pack_is_full_and_no_clip_is_left_out(world):
    plan = Packs(500, 10.0).plan(SHAPES, TOKENS, world, permutation(40, seed=3))
    sizes = [sum(TOKENS[clip] for clip, _ in batch) for batch in plan]
    assert len(plan) % world == 0
    assert max(sizes) <= 500
    assert sum(sizes) / len(sizes) > 0.85 * 500
    seen = Counter(clip for batch in plan for clip, _ in batch)
    assert seen.keys() == set(range(40))
    if world == 1:
        assert set(seen.values()) == {1}
    with pytest.raises(ValueError, match="max_tokens is 100"):
        Packs(100, 10.0).plan(SHAPES, TOKENS, 1, permutation(40, seed=3))


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
