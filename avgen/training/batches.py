"""Shapes of clips -> which of them train together.

Two ways. `Buckets`: clips of one shape a batch, so that every step's tensors have one of a few
shapes (what `compile` wants) and nothing is padded but words. `Packs`: clips of any shapes, one
after another in a sequence of so many tokens (what corpora of many sizes and lengths want). Both
cost what the clips' own tokens cost, and both give the loss that each clip has alone.

With `Buckets`, two processes of batches of b draw, step by step, what one process of batches of
2 b does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from avgen.clips.timebase import exact, to_index
from avgen.errors import UserError
from avgen.preparation.latent_store import ClipShape

Step = list[list[int]]  # the clips of every process
OPEN_PACKS = 16  # that a clip may still go into


class Batching(Protocol):
    """Which clips train together."""

    def cut(self, shape: ClipShape, time_stride: int) -> ClipShape | None:
        """What is trained on of a clip of this shape: its beginning; None leaves it out."""
        ...

    def plan(
        self,
        order: Sequence[int],
        shapes: Mapping[int, ClipShape],
        tokens: Mapping[int, int],
        world: int,
    ) -> list[Step]:
        """Steps in which every clip of `order` is at least once.

        Args:
            order: Clips, in the order in which they are to come.
            shapes: Of each clip, cut.
            tokens: Of each clip.
            world: Processes.
        """
        ...


def whole_latents(num_frames: int, time_stride: int) -> int:
    """The most frames, of at most `num_frames`, that fill their last latent: 1 + k * stride."""
    return 1 + (num_frames - 1) // time_stride * time_stride


@dataclass(frozen=True)
class Buckets:
    """Batches of clips of one shape, lengths cut to a few.

    Every clip is in an epoch at least once: a shape's last batch is filled up with its first clips.

    Args:
        batch_size: Clips a step and process.
        lengths_s: A clip is cut to the longest of these that it has; a shorter clip is left out.
        sound_batch_size: Clips a step and process where they have no picture, which cost a quarter;
            None is `batch_size`.
        still_batch_size: Likewise where they are one frame without sound.
    """

    batch_size: int
    lengths_s: list[float]
    sound_batch_size: int | None = None
    still_batch_size: int | None = None

    def cut(self, shape: ClipShape, time_stride: int) -> ClipShape | None:
        """The beginning of the clip, as long as the longest of `lengths_s` that it has."""
        frames = [
            whole_latents(to_index(exact(seconds), shape.fps), time_stride)
            for seconds in self.lengths_s
        ]
        fitting = [count for count in frames if 0 < count <= shape.num_frames]
        return replace(shape, num_frames=max(fitting)) if fitting else None

    def plan(
        self,
        order: Sequence[int],
        shapes: Mapping[int, ClipShape],
        tokens: Mapping[int, int],
        world: int,
    ) -> list[Step]:
        """Steps of batches of one shape, the shapes mixed over the epoch."""
        by_shape: dict[ClipShape, list[int]] = {}
        for clip in order:
            by_shape.setdefault(shapes[clip], []).append(clip)
        steps = []
        for shape, clips in by_shape.items():
            own = None if shape.has_picture else self.sound_batch_size
            if shape.num_frames == 1 and not shape.has_sound:
                own = self.still_batch_size
            size = world * (self.batch_size if own is None else own)
            missing = -len(clips) % size
            filled = clips + [clips[i % len(clips)] for i in range(missing)]
            steps += [filled[i : i + size] for i in range(0, len(filled), size)]
        mixed = dict(zip(sorted(order), order, strict=True))  # a permutation: it mixes the shapes
        steps.sort(key=lambda step: mixed[step[0]])
        return [[step[rank::world] for rank in range(world)] for step in steps]


@dataclass(frozen=True)
class Packs:
    """Sequences of clips of any shapes.

    Args:
        max_tokens: Tokens of picture and sound in the sequence of a step and process.
        longest_s: A longer clip is cut to this.
        shortest_s: A shorter clip is left out.
    """

    max_tokens: int
    longest_s: float
    shortest_s: float = 0.0

    def cut(self, shape: ClipShape, time_stride: int) -> ClipShape | None:
        """The beginning of the clip, `longest_s` at most."""
        most = min(shape.num_frames, max(1, to_index(exact(self.longest_s), shape.fps)))
        if shape.num_frames < to_index(exact(self.shortest_s), shape.fps):
            return None
        return replace(shape, num_frames=whole_latents(most, time_stride))

    def plan(
        self,
        order: Sequence[int],
        shapes: Mapping[int, ClipShape],
        tokens: Mapping[int, int],
        world: int,
    ) -> list[Step]:
        """Every clip into the first of the last few sequences that has room for it.

        The last step's missing sequences are the first again.

        Raises:
            UserError: one clip alone has more than `max_tokens`.
        """
        packs: list[list[int]] = []
        room: list[int] = []
        for clip in order:
            if tokens[clip] > self.max_tokens:
                raise UserError(
                    f"a clip of {tokens[clip]} tokens ({shapes[clip]}); max_tokens is "
                    f"{self.max_tokens}"
                )
            first = max(0, len(packs) - OPEN_PACKS)
            fits = [i for i in range(first, len(packs)) if room[i] >= tokens[clip]]
            if not fits:
                packs.append([])
                room.append(self.max_tokens)
                fits = [len(packs) - 1]
            packs[fits[0]].append(clip)
            room[fits[0]] -= tokens[clip]
        packs += [packs[i % len(packs)] for i in range(-len(packs) % world)]
        return [packs[i : i + world] for i in range(0, len(packs), world)]
