"""Numbered draws: who draws which clip when, exactly resumably, on any number of processes.

Draws are numbered over all processes. The number of a draw decides the clip and seeds whatever else
is random about it, so a run resumes from a few numbers, whatever processes there were and are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch.utils.data import Dataset, Sampler
from torchdata.stateful_dataloader import StatefulDataLoader

from avgen.errors import UserError

OPEN_TARS = 16  # whose clips are mixed


def rank_and_world() -> tuple[int, int]:
    """This process's number, and how many there are."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def hash_seed(*numbers: int) -> int:
    """One 63-bit seed of several numbers, for a generator of their own (numpy's SeedSequence)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


@lru_cache(maxsize=4)
def permutation(num_clips: int, seed: int) -> tuple[int, ...]:
    """An order of the clips that depends on their number and the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randperm(num_clips, generator=generator).tolist())


def bounded_permutation(tars: Sequence[int], seed: int) -> tuple[int, ...]:
    """An order of clips in tars in which not many tars are read at a time.

    Tars come in an order of their own, and the clips of `OPEN_TARS` of them that follow one
    another are mixed: what a buffer does, without one, so that every draw's clip is known before.

    Args:
        tars: Number of the tar of each clip.
        seed: Of the order.
    """
    clips: dict[int, list[int]] = {}
    for clip, tar in enumerate(tars):
        clips.setdefault(tar, []).append(clip)
    names = list(clips)
    order = [names[i] for i in permutation(len(names), seed)]
    mixed: list[int] = []
    for start in range(0, len(order), OPEN_TARS):
        own = [clip for tar in order[start : start + OPEN_TARS] for clip in clips[tar]]
        mixed += [own[i] for i in permutation(len(own), hash_seed(seed, start))]
    return tuple(mixed)


def clip_of_draw(draw: int, num_clips: int, seed: int) -> int:
    """The clip of a draw: every clip once an epoch, in an order of that epoch's."""
    epoch, place = divmod(draw, num_clips)
    return permutation(num_clips, hash_seed(seed, epoch))[place]


class Steps(Sampler[list[Any]]):
    """An endless stream of steps, given out in passes of `len(self)`: what Lightning calls epochs.

    Every process takes its own part of each step. A pass that was broken off goes on where it was
    (torchdata's stateful protocol); the state is the same on every process.
    """

    def __init__(self) -> None:
        self.passed = 0

    @abstractmethod
    def __len__(self) -> int:
        """Steps of a pass."""

    @abstractmethod
    def take(self) -> list[Any]:
        """This process's part of the next step."""

    def __iter__(self) -> Iterator[list[Any]]:
        """Yield the rest of this pass, or the next one."""
        if self.passed >= len(self):  # more than it has now, where there were fewer processes
            self.passed = 0
        while self.passed < len(self):
            self.passed += 1
            yield self.take()

    def state_dict(self) -> dict[str, Any]:
        """How far all processes have come."""
        return {"passed": self.passed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.passed = state["passed"]


class Draws(Steps):
    """Numbers of draws in order, a batch of them a step and process, of several sets in turn.

    The draws of each set are numbered on their own; a batch is of one set. Without shares each set
    gets as many batches as any other, so the clips of a smaller one come more often.

    Args:
        sizes: Clips of each set; a pass is as many whole steps as all of them fill once.
        batch_size: Draws of a step and process.
        shares: How many batches of each set a round has; None is one of each.
    """

    def __init__(
        self, sizes: Sequence[int], batch_size: int, shares: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        if shares is not None and (len(shares) != len(sizes) or min(shares) < 1):
            raise UserError(f"shares {list(shares)} of {len(sizes)} folders; each has 1 or more")
        self.sizes, self.batch_size = sizes, batch_size
        by_set = enumerate(shares or [1] * len(sizes))
        self.round = [part for part, share in by_set for _ in range(share)]
        self.steps, self.taken = 0, [0] * len(sizes)

    def __len__(self) -> int:
        """Steps that the clips fill once, over all processes."""
        return sum(self.sizes) // (self.batch_size * rank_and_world()[1])

    def take(self) -> list[tuple[int, int]]:
        """Rank r of w takes draws r, r + w, r + 2 w, ... of the step's: (set, number)."""
        rank, world = rank_and_world()
        part = self.round[self.steps % len(self.round)]
        first = self.taken[part]
        self.steps, self.taken[part] = self.steps + 1, first + world * self.batch_size
        return [(part, draw) for draw in range(first + rank, self.taken[part], world)]

    def state_dict(self) -> dict[str, Any]:
        """Steps, and draws of each set by all processes."""
        return super().state_dict() | {"steps": self.steps, "taken": list(self.taken)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        super().load_state_dict(state)
        self.steps, self.taken = state["steps"], list(state["taken"])


def as_they_are(batch: Any) -> Any:
    """The batch; a loader would make tensors of its numbers."""
    return batch


def loader_of(dataset: Dataset, steps: Steps, num_workers: int = 0) -> StatefulDataLoader:
    """A loader of the batches that `dataset` makes of a step; resumes in the middle of a pass."""
    return StatefulDataLoader(
        dataset, None, sampler=steps, num_workers=num_workers, collate_fn=as_they_are
    )
