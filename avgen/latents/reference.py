"""A voice and a face to be like -> tokens that stand before a clip's own, the same in every window.

A reference is a little clip of the same person: a picture, sound of another utterance, or both. Its
tokens are given, lie before the clip in time (from `REFERENCE_START_S` on), and are of a kind of
their own, so that they are never taken for the clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from avgen.errors import UserError
from avgen.latents.context import SOUND_PLACE
from avgen.latents.packing import VIDEO, Layout

REFERENCE_START_S = -4.0
REFERENCE_LONGEST_S = 3.0  # so that it ends a second before the clip begins


@dataclass(frozen=True)
class Reference:
    """References of B clips, padded to one length.

    Attributes:
        tokens: float32 [B, N, W], normalised.
        modality: int64 [B, N]; VIDEO or AUDIO.
        seconds: float32 [B, N], of the middle of each token's span, below 0.
        places: float32 [B, N, 2], as in `Layout`.
        seen: Bool [B, N], on the CPU; False at padding, and throughout where a clip has none.
    """

    tokens: Tensor
    modality: Tensor
    seconds: Tensor
    places: Tensor
    seen: Tensor

    def to(self, device: torch.device | str) -> Reference:
        """The same on a device; `seen` stays where it is."""
        moved = {field.name: getattr(self, field.name).to(device) for field in fields(self)[:-1]}
        return Reference(**moved, seen=self.seen)


def make_reference(parts: Sequence[tuple[Tensor, Layout] | None]) -> Reference:
    """Collate the references of some clips.

    Args:
        parts: Of each clip the tokens [N, W] of its reference and their layout (`make_layout`,
            `pack`), or None. At least one has some.

    Raises:
        UserError: a reference lasts too long.
    """
    width = next(part[0].shape[1] for part in parts if part is not None)
    rows = []
    for part in parts:
        if part is None:
            none = torch.zeros(0)
            rows.append((none.view(0, width), none.long(), none, none.view(0, 2)))
            continue
        tokens, layout = part
        end_s = float(layout.spans[:, 1].max())
        if end_s > REFERENCE_LONGEST_S:
            raise UserError(
                f"a reference of {end_s:.2f} s; at most {REFERENCE_LONGEST_S} s are listened to"
            )
        is_video = (layout.modality == VIDEO)[:, None]
        places = torch.where(is_video, layout.places, layout.places.new_tensor(SOUND_PLACE))
        seconds = REFERENCE_START_S + layout.spans.mean(-1)
        rows.append((tokens, layout.modality, seconds, places))
    seen = [torch.ones(len(row[0]), dtype=torch.bool) for row in rows]
    padded = [pad_sequence(list(column), True) for column in zip(*rows, strict=True)]
    return Reference(*padded, seen=pad_sequence(seen, True))
