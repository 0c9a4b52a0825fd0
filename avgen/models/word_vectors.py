"""Caption words -> tokens by what they mean: a word never trained on is near those that were.

`word_vectors.npz` holds 7,373 English words of how people, clothes, voices and places look and
sound, as 96 numbers each: a distilled sentence encoder (all-MiniLM-L6-v2, Apache-2.0), whitened and
rounded, 0.6 MB; recipes/people/word_vectors.py made it. A prompt in a person's own words is then a
matter of a linear map that all words share. A table of hashed words knows only its own, and a
pretrained encoder would be a download and more than half of the default model's size.

Reference: static vectors out of a sentence encoder as in Model2Vec (Tulkens & van Dongen 2024).
"""

from __future__ import annotations

import re
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

FILE = Path(__file__).with_name("word_vectors.npz")
UNKNOWN_ROWS = 512  # hashed, for words that no vector is known of: names
SHORTEST_PIECE = 4  # letters of a known word at the beginning or end of an unknown one


@cache
def vocabulary() -> dict[str, int]:
    """Row of every known word, from 1 on; 0 is no word that is known."""
    words = np.load(FILE)["words"].tobytes().decode().split("\n")
    return {word: row for row, word in enumerate(words, 1)}


def row_of(word: str) -> int:
    """The row of a word, or of the longest known word that it begins or ends with, or 0."""
    rows, word = vocabulary(), word.removesuffix("'s")
    for length in range(len(word), max(SHORTEST_PIECE, len(word) // 2) - 1, -1):
        for piece in (word[:length], word[-length:]):
            if piece in rows:
                return rows[piece]
    return rows.get(word, 0)


def word_ids(caption: str) -> list[int]:
    """Row and hash, in one number, of every word of a caption; punctuation does not count."""
    words = re.findall(r"[\w']+", caption.lower().replace("\u2019", "'"))
    hashes = [zlib.crc32(word.encode()) % UNKNOWN_ROWS for word in words]
    return [row_of(word) * UNKNOWN_ROWS + own for word, own in zip(words, hashes, strict=True)]


class WordCaptions(nn.Module):
    """Caption words to tokens [B, P, D]; their order is in their rotary position."""

    tokenize = staticmethod(word_ids)

    def __init__(self, width: int) -> None:
        super().__init__()
        vectors = F.pad(torch.as_tensor(np.load(FILE)["vectors"]), (0, 0, 1, 0))
        # The file has int8, in sixteenths; averages of weights take floats, and these exactly.
        self.register_buffer("vectors", vectors.half() / 16, persistent=False)
        self.project = nn.Linear(vectors.shape[1], width)
        self.unknown = nn.Embedding(UNKNOWN_ROWS, width)
        nn.init.zeros_(self.unknown.weight)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Look up ids [B, P]; what the mask [B, P] hides is never seen."""
        rows = ids // UNKNOWN_ROWS
        unknown = (rows == 0)[..., None] * self.unknown(ids % UNKNOWN_ROWS)
        known = self.vectors[rows].float()  # pyright: ignore[reportIndexIssue]
        return self.project(known) + unknown
