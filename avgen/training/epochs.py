"""Clips and a batching -> steps, epoch after epoch, on any number of processes.

Every clip comes once an epoch, whoever draws it. Where the number of processes changes within an
epoch, the clips that are left of it are planned anew. The number of a draw is the clip's place in
the epoch's order: it depends neither on the plan nor on the processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from avgen.preparation.latent_store import ClipShape, LatentConfig
from avgen.training.batches import Batching
from avgen.training.draws import bounded_permutation, hash_seed, permutation

DRAWS_OF_AN_EPOCH = 10**9  # more than any epoch has: numbers of draws do not meet

NumberedStep = list[list[tuple[int, int]]]  # of every process, its clips and the draws' numbers


class Epochs:
    """The steps of some clips.

    Args:
        shapes: Clip -> what is trained on of it.
        batching: How steps are made of them.
        config: What the latents were made with.
        seed: Of the order.
        first: The number of the first draw.
        tars: Of clips in tars, the tar of each: the order then takes a few of them at a time.

    Attributes:
        segments: How many processes took how many steps of this epoch, one after another.
    """

    def __init__(
        self,
        shapes: Mapping[int, ClipShape],
        batching: Batching,
        config: LatentConfig,
        seed: int = 0,
        first: int = 0,
        tars: Mapping[int, int] | None = None,
    ) -> None:
        counts = {shape: config.num_tokens(shape) for shape in set(shapes.values())}
        self.shapes, self.batching = shapes, batching
        self.tokens = {clip: counts[shape] for clip, shape in shapes.items()}
        self.seed, self.first, self.epoch, self.tars = seed, first, 0, tars
        self.segments: list[tuple[int, int]] = []
        self._planned: tuple[Any, list[NumberedStep]] = (None, [])

    def take(self, world: int) -> NumberedStep:
        """The next step."""
        if not self.segments or self.segments[-1][0] != world:
            self.segments.append((world, 0))
        steps = self.plan(self.epoch, self.segments)
        if not steps:  # all clips were drawn; what was left of the plan was to fill it up
            self.epoch, self.segments = self.epoch + 1, [(world, 0)]
            steps = self.plan(self.epoch, self.segments)
        taken = self.segments[-1][1]
        self.segments[-1] = world, taken + 1
        if taken + 1 == len(steps):
            self.epoch, self.segments = self.epoch + 1, []
        return steps[taken]

    def plan(self, epoch: int, segments: Sequence[tuple[int, int]]) -> list[NumberedStep]:
        """The steps of the last of an epoch's segments; the last plan asked for is kept."""
        key = epoch, tuple(segments[:-1]), segments[-1][0]
        if self._planned[0] != key:
            clips = list(self.shapes)
            order_seed = hash_seed(self.seed, epoch)
            if self.tars is None:
                order = permutation(len(clips), order_seed)
            else:
                order = bounded_permutation([self.tars[clip] for clip in clips], order_seed)
            numbers = {
                clips[place]: self.first + epoch * DRAWS_OF_AN_EPOCH + i
                for i, place in enumerate(order)
            }
            times: Counter[int] = Counter()
            steps: list[NumberedStep] = []
            for world, taken in segments:
                left = [clip for clip in numbers if not times[clip]]
                plan = self.batching.plan(left, self.shapes, self.tokens, world) if left else []
                seen = times.copy()
                steps = [[numbered(batch, numbers, seen) for batch in step] for step in plan]
                times.update(clip for step in plan[:taken] for batch in step for clip in batch)
            self._planned = key, steps
        return self._planned[1]

    def state_dict(self) -> dict[str, Any]:
        """How far all processes have come."""
        return {"epoch": self.epoch, "segments": [list(segment) for segment in self.segments]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.epoch = state["epoch"]
        self.segments = [(world, taken) for world, taken in state["segments"]]


def numbered(
    batch: Sequence[int], numbers: Mapping[int, int], seen: Counter[int]
) -> list[tuple[int, int]]:
    """The clips of a batch and their draws; a clip's second draw is numbered after all firsts."""
    draws = []
    for clip in batch:
        draws.append((clip, numbers[clip] + len(numbers) * seen[clip]))
        seen[clip] += 1
    return draws
