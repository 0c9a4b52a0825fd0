"""A layout and what stands before it -> the stream: each token's kind, seconds, place, and sight.

What the transformer attends over is a stream: of every clip its caption, its speech, then its own
tokens. Clips follow one another without padding, those of a batch of one layout too, and each
attends to itself alone. Nothing here has weights or depends on noise, so it is worked out once a
clip and not once a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from avgen.latents.packing import AUDIO, VIDEO, Layout, PackedLayout

# Kinds of tokens besides VIDEO and AUDIO: rows of modulation tables.
SPEECH, CAPTION, REFERENCE = 2, 3, 4

# What is not in the picture has places of its own beside it, in pixels from its middle (down,
# right).
SOUND_PLACE = (-2048.0, 0.0)
SPEECH_PLACE = (-2048.0, -2048.0)
CAPTION_PLACE = (0.0, -2048.0)
CAPTION_STEP = 32.0  # pixels from one word of a caption to the next, and from line to line
CAPTION_LINE = 32  # words, after which a caption goes on below, clear of any picture


class Prefix(NamedTuple):
    """Tokens of one kind that stand before the own tokens of B clips.

    Attributes:
        kind: Theirs.
        seen: Bool [B, N], on the CPU; the others are padding or hidden.
        seconds: float32 [B, N].
        places: float32 [B, N, 2].
    """

    kind: int
    seen: Tensor
    seconds: Tensor
    places: Tensor


@dataclass(frozen=True)
class Sight:
    """How far tokens of a long clip see in time, in blocks of seconds.

    A token sees its own block and `blocks` before it, and as many after it unless `is_causal`; all
    see what has no time, captions and references, which see everything, or, where it is causal,
    each other alone. So a clip costs what its length is, and a causal one is its own beginning.

    Args:
        block_s: Seconds of a block; a token is in that of its middle.
        blocks: That are seen on a side; None are all.
        is_causal: Whether none after it is.
    """

    block_s: float
    blocks: int | None = 1
    is_causal: bool = False


class Group(NamedTuple):
    """Tokens of a stream that see the same.

    Attributes:
        queries: int64; their places.
        keys: int64; the places of what they see.
    """

    queries: Tensor
    keys: Tensor


@dataclass(frozen=True)
class Segments:
    """What sees what in a stream: each clip its own tokens.

    Attributes:
        lengths: Tokens of each clip.
        ends: int32; where the clips begin and end: 0, then the sums of lengths.
        masks: Bool [M, M] of each clip, True where a query (row) may see a key (column); None where
            every token sees all of its clip.
        groups: In place of all this where sight is limited in time; None where it is not.
    """

    lengths: tuple[int, ...]
    ends: Tensor
    masks: tuple[Tensor, ...] | None
    groups: tuple[Group, ...] | None = None

    @property
    def num_pairs(self) -> int:
        """Queries times keys that see each other, which is what attention costs, unpadded."""
        if self.groups is None:
            return sum(length**2 for length in self.lengths)
        return sum(len(group.queries) * len(group.keys) for group in self.groups)


@dataclass(frozen=True)
class Stream:
    """The M tokens that attend.

    Attributes:
        order: int64 [M]; which of [all prefixes, all own tokens] stands at each place.
        own: int64; the place of every own token.
        prefix_kinds: int64; kind of every prefix token, before `order`.
        seconds: float32 [M].
        places: float32 [M, 2].
        segments: What sees what.
    """

    order: Tensor
    own: Tensor
    prefix_kinds: Tensor
    seconds: Tensor
    places: Tensor
    segments: Segments


@dataclass(frozen=True)
class NoiseLevels:
    """The few noise levels that the tokens of a batch are at, and which of them each is at.

    A network works out once a level what it would else work out once a token.

    Attributes:
        values: float32 [N], sigma.
        kinds: int64 [N], the kind of token that is at it.
        index: int64 [B, L].
        told: float32 [N, K]; what else a network is told of them, or None.
    """

    values: Tensor
    kinds: Tensor
    index: Tensor
    told: Tensor | None = None

    def to(self, device: torch.device | str) -> NoiseLevels:
        """The same on a device."""
        told = None if self.told is None else self.told.to(device)
        values, kinds = self.values.to(device), self.kinds.to(device)
        return NoiseLevels(values, kinds, self.index.to(device), told)


def distinct_levels(sigma: Tensor, modality: Tensor, told: Tensor | None = None) -> NoiseLevels:
    """The levels of sigma [B, L] in [0, 1] for tokens of modality [L], found by comparing.

    Exact for any sigma. On a GPU the number of levels makes the host wait; who draws sigma on the
    CPU calls this there.

    Args:
        sigma: Noise levels.
        modality: Of the tokens.
        told: float32 [B, L, K], what else a network is told of each token's noise (levels that
            differ in it are two), or None.
    """
    if told is not None:
        kinds = modality.expand(len(sigma), -1)
        rows = torch.cat([kinds[..., None], sigma[..., None], told], -1).float() + 0.0
        found, index = torch.unique(rows.flatten(0, 1), dim=0, return_inverse=True)
        return NoiseLevels(found[:, 1], found[:, 0].long(), index.view_as(sigma), found[:, 2:])
    bits = (sigma.float() + 0.0).contiguous().view(torch.int32).long()  # -0 + 0 is 0
    found, index = torch.unique((modality << 32) | bits, return_inverse=True)
    values = (found & 0xFFFFFFFF).int().view(torch.float32)
    return NoiseLevels(values, found >> 32, index)


def caption_places(num_words: int) -> Tensor:
    """Places float32 [P, 2] of a caption's words: side by side in lines, left of any picture."""
    word = torch.arange(num_words)
    steps = torch.stack([word // CAPTION_LINE, word % CAPTION_LINE], 1)
    return torch.tensor(CAPTION_PLACE) + CAPTION_STEP * steps


def make_stream(
    layout: Layout | PackedLayout,
    prefixes: Sequence[Prefix],
    decoupled: bool,
    sight: Sight | None = None,
) -> Stream:
    """Lay the stream of some clips out.

    Args:
        layout: Of every clip, or of all, packed.
        prefixes: What stands before each clip's own tokens, in this order; a row a clip.
        decoupled: Keep picture and sound from seeing each other, and what is neither from seeing
            either, since it would carry from one to the other.
        sight: How far tokens see in time; None is all of their clip.
    """
    device, num_clips = layout.spans.device, len(prefixes[0].seen)
    rows = 1 if isinstance(layout, PackedLayout) else num_clips
    own_lengths = (
        layout.lengths if isinstance(layout, PackedLayout) else (layout.num_tokens,) * rows
    )
    order, lengths = _order(own_lengths, prefixes)
    kinds = [torch.full((p.seen.numel(),), p.kind) for p in prefixes]
    prefix_kinds = torch.cat(kinds).to(device)
    own = (order >= len(prefix_kinds)).nonzero()[:, 0].to(device)
    order = order.to(device)
    is_video = (layout.modality == VIDEO)[:, None]
    places = torch.where(is_video, layout.places, layout.places.new_tensor(SOUND_PLACE))
    places = [*(p.places.to(device).flatten(0, 1) for p in prefixes), places.repeat(rows, 1)]
    seconds = [p.seconds.to(device).flatten() for p in prefixes]
    seconds.append(layout.spans.mean(-1).repeat(rows))
    masks = groups = None
    times = torch.cat(seconds)[order]
    if sight is not None:
        kinds = torch.cat([prefix_kinds, layout.modality.repeat(rows)])[order]
        parts = (part.cpu().split(lengths) for part in (kinds, times))
        groups = _groups(zip(*parts, strict=True), sight, decoupled, device)
    elif decoupled:
        kinds = torch.cat([prefix_kinds, layout.modality.repeat(rows)])[order]
        masks = tuple(_coupled(of_clip) for of_clip in kinds.split(lengths))
    ends = torch.tensor([0, *lengths]).cumsum(0).int().to(device)
    segments = Segments(tuple(lengths), ends, masks, groups)
    return Stream(order, own, prefix_kinds, times, torch.cat(places)[order], segments)


def _groups(
    clips: Iterable[tuple[Tensor, Tensor]],
    sight: Sight,
    decoupled: bool,
    device: torch.device,
) -> tuple[Group, ...]:
    """What the tokens of each clip see, given their kinds and seconds, both on the CPU."""
    groups, first = [], 0
    for kinds, seconds in clips:
        timeless = (kinds == CAPTION) | (kinds == REFERENCE)
        block = torch.where(timeless, -1, (seconds / sight.block_s).floor().clamp(min=0)).long()
        own = (kinds == VIDEO) | (kinds == AUDIO)
        for number in block.unique().tolist():
            reach = block.max() if sight.blocks is None else sight.blocks
            last = number if sight.is_causal else number + reach
            seen = timeless | ((block >= number - reach) & (block <= last))
            if number < 0:
                seen = timeless if sight.is_causal else torch.ones_like(timeless)
            for kind in kinds[block == number].unique() if decoupled else [None]:
                asks = (block == number) & (True if kind is None else kinds == kind)
                shown = seen if kind is None else seen & (~own | (kinds == kind))
                pair = (part.nonzero()[:, 0] + first for part in (asks, shown))
                groups.append(Group(*(part.to(device) for part in pair)))
        first += len(kinds)
    return tuple(groups)


def _coupled(kinds: Tensor) -> Tensor:
    """Bool [M, M]: all but a picture's or sound's token (column) for one of another kind (row)."""
    is_own = (kinds == VIDEO) | (kinds == AUDIO)
    return ~is_own | (kinds[:, None] == kinds)


def _order(own_lengths: Sequence[int], prefixes: Sequence[Prefix]) -> tuple[Tensor, list[int]]:
    """Places of [all prefixes, all own tokens] clip by clip without what is hidden, and lengths."""
    clip = torch.arange(len(own_lengths))
    clips = [clip.repeat_interleave(prefix.seen.shape[1]) for prefix in prefixes]
    clips = torch.cat([*clips, clip.repeat_interleave(torch.tensor(own_lengths))])
    seen = torch.cat([p.seen.flatten() for p in prefixes])
    kept = F.pad(seen, (0, sum(own_lengths)), value=True).nonzero()[:, 0]
    order = kept[clips[kept].argsort(stable=True)]
    return order, clips[kept].bincount(minlength=len(clip)).tolist()
