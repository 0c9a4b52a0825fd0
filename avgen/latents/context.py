"""A layout and what stands before it -> the stream: each token's kind, seconds, place, and sight.

What the transformer attends over is a stream: of every clip its caption, its speech, then its own
tokens. Clips of one layout are rows of a batch, with what is hidden masked; packed clips follow one
another in one row without padding, and each attends to itself alone. Nothing here has weights or
depends on noise, so it is worked out once a clip and not once a step.
"""

from __future__ import annotations

from collections.abc import Sequence
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
class Segments:
    """What sees what in a stream: each clip its own tokens.

    Attributes:
        lengths: Tokens of each clip.
        packed: Whether the clips follow one another in one row; else they are rows.
        ends: int32; where the clips of a packed stream begin and end: 0, then the sums of lengths.
        masks: Bool, True where a query (row) may see a key (column): one a clip [M, M] of a packed
            stream, else one [B or 1, 1, 1 or M, M]; None where nothing is hidden.
    """

    lengths: tuple[int, ...]
    packed: bool
    ends: Tensor
    masks: tuple[Tensor, ...] | None


@dataclass(frozen=True)
class Stream:
    """The tokens that attend: R rows of M.

    Attributes:
        order: int64 [M]; which of [all prefixes, all own tokens] stands at each place of a packed
            stream; None where they stand so.
        own: Places of the layout's own tokens, int64 [L] or all after the prefixes.
        prefix_kinds: int64; kind of every prefix token, before `order`.
        seconds: float32 [R, M].
        places: float32 [R, M, 2].
        segments: What sees what.
    """

    order: Tensor | None
    own: Tensor | slice
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
    """

    values: Tensor
    kinds: Tensor
    index: Tensor


def distinct_levels(sigma: Tensor, modality: Tensor) -> NoiseLevels:
    """The levels of sigma [B, L] in [0, 1] for tokens of modality [L], found by comparing.

    Exact for any sigma. On a GPU the number of levels makes the host wait; who draws sigma on the
    CPU calls this there.
    """
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
    layout: Layout | PackedLayout, prefixes: Sequence[Prefix], decoupled: bool
) -> Stream:
    """Lay the stream of some clips out.

    Args:
        layout: Of every clip, or of all, packed.
        prefixes: What stands before each clip's own tokens, in this order; a row a clip.
        decoupled: Keep picture and sound from seeing each other, and what is neither from seeing
            either, since it would carry from one to the other.
    """
    device, num_clips = layout.spans.device, len(prefixes[0].seen)
    packed = isinstance(layout, PackedLayout)
    repeats = num_clips if packed else 1
    kinds = [torch.full((repeats * p.seen.shape[1],), p.kind) for p in prefixes]
    prefix_kinds = torch.cat(kinds).to(device)
    kinds = torch.cat([prefix_kinds, layout.modality])
    is_video = (layout.modality == VIDEO)[:, None]
    own_places = torch.where(is_video, layout.places, layout.places.new_tensor(SOUND_PLACE))
    own_seconds = layout.spans.mean(-1)
    seconds = [p.seconds.to(device) for p in prefixes]
    places = [p.places.to(device) for p in prefixes]
    if isinstance(layout, PackedLayout):
        order, lengths = _packed_order(layout, prefixes)
        own = (order >= len(prefix_kinds)).nonzero()[:, 0].to(device)
        order = order.to(device)
        seconds = torch.cat([*(s.flatten() for s in seconds), own_seconds])[order][None]
        places = torch.cat([*(p.flatten(0, 1) for p in places), own_places])[order][None]
        masks = None
        if decoupled:
            masks = tuple(~_apart(of_clip) for of_clip in kinds[order].split(lengths))
    else:
        order, lengths = None, (len(kinds),) * num_clips
        own = slice(len(prefix_kinds), None)
        seconds = torch.cat([*seconds, own_seconds.expand(num_clips, -1)], 1)
        places = torch.cat([*places, own_places.expand(num_clips, -1, 2)], 1)
        seen = F.pad(torch.cat([p.seen for p in prefixes], 1), (0, layout.num_tokens), value=True)
        masks = _batch_mask(seen, kinds, decoupled)
    ends = torch.tensor([0, *lengths]).cumsum(0).int().to(device)
    segments = Segments(tuple(lengths), packed, ends, masks)
    return Stream(order, own, prefix_kinds, seconds, places, segments)


def _batch_mask(seen: Tensor, kinds: Tensor, decoupled: bool) -> tuple[Tensor] | None:
    """Of rows [B, M] with kinds [M]: what is seen (on the CPU), and by whom."""
    mask = None if bool(seen.all()) else seen.to(kinds.device)[:, None, None, :]
    if decoupled:
        together = ~_apart(kinds)
        mask = together[None, None] if mask is None else mask & together
    return None if mask is None else (mask,)


def _apart(kinds: Tensor) -> Tensor:
    """Bool [M, M]: a picture's or sound's token (column) and a token of another kind (row)."""
    is_own = (kinds == VIDEO) | (kinds == AUDIO)
    return is_own & (kinds[:, None] != kinds)


def _packed_order(layout: PackedLayout, prefixes: Sequence[Prefix]) -> tuple[Tensor, list[int]]:
    """Places of [all prefixes, all own tokens] clip by clip without what is hidden, and lengths."""
    clip = torch.arange(len(layout.lengths))
    clips = [clip.repeat_interleave(prefix.seen.shape[1]) for prefix in prefixes]
    clips = torch.cat([*clips, clip.repeat_interleave(torch.tensor(layout.lengths))])
    seen = F.pad(
        torch.cat([p.seen.flatten() for p in prefixes]), (0, layout.num_tokens), value=True
    )
    kept = seen.nonzero()[:, 0]
    order = kept[clips[kept].argsort(stable=True)]
    return order, clips[kept].bincount(minlength=len(clip)).tolist()
