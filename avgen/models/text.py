"""Words -> tokens: the caption and the speech.

The caption says how it looks and sounds and has no place in time; speech is phonemes with times.
Both are small tables trained with the transformer. A caption's words are hashed into buckets, so
any word has a row; that two words may share one is the price of needing no vocabulary. A caption
encoder that somebody else trained takes the table's place where a configuration names one
(avgen/models/text_pretrained.py).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from avgen.errors import UserError
from avgen.models.phonemes import ARPABET, TimedPhoneme, known_to, table_rows

CAPTION_BUCKETS = 512
PAD_TO = 8  # text lengths are rounded up to this, so that few shapes exist


@dataclass(frozen=True)
class Text:
    """What a batch of clips is to say and look like.

    Attributes:
        caption_ids: int64 [B, P], hashed words or a pretrained encoder's tokens.
        caption_mask: bool [B, P], False at padding.
        speech_ids: int64 [B, S], indices into PHONEMES.
        speech_spans: float32 [B, S, 2], seconds [start, end) of every phoneme.
        speech_mask: bool [B, S], False at padding.
        caption_features: [B, P, F], what a pretrained encoder makes of the caption, where it is
            known already; None where it is not.
    """

    caption_ids: Tensor
    caption_mask: Tensor
    speech_ids: Tensor
    speech_spans: Tensor
    speech_mask: Tensor
    caption_features: Tensor | None = None

    def to(self, device: torch.device | str) -> Text:
        """The same text on a device."""
        return self.map(lambda value: value.to(device))

    def rows(self, count: int) -> Text:
        """The first clips' text."""
        return self.map(lambda value: value[:count])

    def map(self, function: Callable[[Tensor], Tensor]) -> Text:
        """The same with every tensor that is there mapped."""
        parts = {n: None if part is None else function(part) for n, part in vars(self).items()}
        return Text(**parts)  # type: ignore[arg-type]

    def with_features(self, features: Sequence[Tensor | None]) -> Text:
        """The same with captions' features [p, F] of every clip, if all of them have any.

        Raises:
            UserError: they are of other captions than these.
        """
        if not all(feature is not None for feature in features):
            return self
        known = [feature for feature in features if feature is not None]
        if [len(feature) for feature in known] != self.caption_mask.sum(1).tolist():
            raise UserError("cached features of captions are not of these captions; encode anew")
        padded = torch.zeros(*self.caption_ids.shape, known[0].shape[1])
        for row, feature in zip(padded, known, strict=True):
            row[: len(feature)] = feature
        return replace(self, caption_features=padded)

    def drop(self, caption: Tensor, speech: Tensor) -> Text:
        """The same text without the captions and speech of the clips where bool [B] is True."""
        return replace(
            self,
            caption_mask=self.caption_mask & ~caption[:, None],
            speech_mask=self.speech_mask & ~speech[:, None],
        )


def caption_ids(caption: str) -> list[int]:
    """Bucket of every word of a caption; case and punctuation do not count."""
    return [
        zlib.crc32(word.encode()) % CAPTION_BUCKETS
        for word in re.findall(r"[\w']+", caption.lower())
    ]


def make_text(
    captions: Sequence[str],
    speech: Sequence[Sequence[TimedPhoneme]],
    tokenize: Callable[[str], list[int]] = caption_ids,
    num_phonemes: int = len(ARPABET),
) -> Text:
    """Collate captions and timed phonemes of a batch, padded to a multiple of `PAD_TO`.

    Args:
        captions: One a clip; empty is none.
        speech: Timed phonemes of each clip.
        tokenize: Of the network that will read the captions (`transformer.read` knows both).
        num_phonemes: Rows of its table of phonemes.
    """
    rows = [tokenize(caption) for caption in captions]
    speech = [known_to(phonemes, num_phonemes) for phonemes in speech]
    spoken = [table_rows(phonemes) for phonemes in speech]
    spans = [[(phoneme.start_s, phoneme.end_s) for phoneme in phonemes] for phonemes in speech]
    caption_padded, caption_mask = _pad(rows)
    speech_padded, speech_mask = _pad(spoken)
    speech_spans = torch.zeros(*speech_padded.shape, 2)
    for row, values in enumerate(spans):
        if values:
            speech_spans[row, : len(values)] = torch.tensor(values)
    return Text(caption_padded, caption_mask, speech_padded, speech_spans, speech_mask)


def _pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    longest = max(1, *(len(row) for row in rows)) if rows else 1
    length = -(-longest // PAD_TO) * PAD_TO
    ids = torch.zeros(len(rows), length, dtype=torch.int64)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, dtype=torch.int64)
        mask[index, : len(row)] = True
    return ids, mask


class CaptionEmbedding(nn.Module):
    """Caption words to tokens [B, P, D]; their order is in their rotary position."""

    tokenize = staticmethod(caption_ids)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(CAPTION_BUCKETS, width)
        nn.init.normal_(self.table.weight, std=0.5)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Look up ids [B, P]; what the mask [B, P] hides is never seen."""
        return self.table(ids)


class SpeechEmbedding(nn.Module):
    """Phonemes [B, S] with spans [B, S, 2] to tokens [B, S, D].

    Where they are is in their rotary position.
    """

    def __init__(self, width: int, num_phonemes: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_phonemes, width)
        self.duration = nn.Linear(2, width)
        nn.init.normal_(self.table.weight, std=0.5)

    def forward(self, ids: Tensor, spans: Tensor) -> Tensor:
        """Look up and add how long each one lasts (in tenths of a second, and its logarithm)."""
        tenths = 10 * (spans[..., 1] - spans[..., 0]).clamp_min(0.01)
        return self.table(ids) + self.duration(torch.stack([tenths, tenths.log()], -1))
