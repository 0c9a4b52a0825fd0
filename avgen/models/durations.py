"""How long phonemes and pauses last: a small network over their sequence.

In: the phonemes of a text with their stress, their words and the pauses between them. Out: seconds
of each. It is trained on voices whose phoneme times are known (training/duration_fit.py), on the
logarithm of seconds, so that what it gives is the typical length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avgen.clips.timed_words import Word
from avgen.models.english import SpokenWord, pronounce, read
from avgen.models.phonemes import PAUSES, PHONEMES, TimedPhoneme, table_rows
from avgen.models.timing import Lengths, TimedSpeech, divide, place

NUM_PLACES = 5  # numbers that say where in its word and its phrase a phoneme stands


@dataclass(frozen=True)
class DurationConfig:
    """Sizes of a `DurationModel`, and the silence around speech.

    Attributes:
        width: Channels.
        depth: Convolutions over the sequence.
        lead_s: Seconds before the first word.
        tail_s: Seconds after the last.
        lexicon: Lower-case words -> phonemes that go before the dictionary's.
    """

    width: int = 96
    depth: int = 4
    lead_s: float = 0.25
    tail_s: float = 0.35
    lexicon: Mapping[str, Sequence[str]] = field(default_factory=dict)


class DurationModel(nn.Module):
    """See the module's docstring; it is a `SpeechTiming`."""

    def __init__(self, config: DurationConfig) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(len(PHONEMES) + 1, config.width)
        self.inward = nn.Linear(NUM_PLACES + 1, config.width)
        self.layers = nn.ModuleList(
            nn.Conv1d(config.width, config.width, 5, padding=2) for _ in range(config.depth)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(config.depth))
        self.outward = nn.Linear(config.width, 1)

    def forward(self, ids: Tensor, places: Tensor, pace: Tensor, mask: Tensor) -> Tensor:
        """Logarithm of seconds [B, S].

        Args:
            ids: int64 [B, S], rows of `PHONEMES`; len(PHONEMES) at padding.
            places: float [B, S, NUM_PLACES]; see `describe`.
            pace: float [B], mean logarithm of how much longer than usual the speaker's phonemes
                are; 0 is usual.
            mask: bool [B, S], False at padding.
        """
        paces = pace[:, None, None].expand(-1, ids.shape[1], 1)
        stream = self.table(ids) + self.inward(torch.cat([places, paces], -1))
        for layer, norm in zip(self.layers, self.norms, strict=True):
            hidden = (norm(stream) * mask[..., None]).transpose(1, 2)
            stream = stream + F.gelu(layer(hidden)).transpose(1, 2)
        return self.outward(stream)[..., 0]

    @property
    def tail_s(self) -> float:
        """Silence after the last word, in seconds."""
        return self.config.tail_s

    @torch.no_grad()
    def lengths(self, words: Sequence[SpokenWord]) -> Lengths:
        """How long words, their phonemes and the pauses between them take."""
        words = [*words[:-1], replace(words[-1], pause="")]
        ids, places = describe(words)
        device = self.outward.weight.device
        log_s = self(
            ids[None].to(device),
            places[None].to(device),
            torch.zeros(1, device=device),
            torch.ones(1, len(ids), dtype=torch.bool, device=device),
        )
        seconds = iter(log_s[0].double().exp().tolist())
        word_s, weights, pause_s = [], [], []
        for word in words:
            weights.append([next(seconds) for _ in word.phonemes])
            word_s.append(sum(weights[-1]))
            pause_s.append(next(seconds) if word.pause else 0.0)
        return Lengths(word_s, weights, pause_s, self.config.lead_s, self.config.tail_s)

    def time(self, text: str, seconds: float | None = None, rate: float = 1.0) -> TimedSpeech:
        """Times for a text; see `avgen.models.timing.place`.

        Raises:
            UserError: no word in the text, or one that cannot be said, or words that do not fit.
        """
        words = read(text, self.config.lexicon)
        return place(words, self.lengths(words), seconds, rate)

    def spread(self, words: Sequence[Word]) -> tuple[TimedPhoneme, ...]:
        """The phonemes of words whose times are known, each with its share of the word's time."""
        if not words:
            return ()
        said = pronounce([word.text for word in words], self.config.lexicon)
        spoken = [SpokenWord(w.text, phonemes) for w, phonemes in zip(words, said, strict=True)]
        timed: list[TimedPhoneme] = []
        for word, phonemes, weights in zip(words, said, self.lengths(spoken).weights, strict=True):
            timed += divide(word, phonemes, weights)
        return tuple(timed)


def describe(words: Sequence[SpokenWord]) -> tuple[Tensor, Tensor]:
    """Rows int64 [S] and places float32 [S, NUM_PLACES] of words' phonemes and pauses.

    A phoneme's places: whether it begins its word, whether it ends it, the word's phonemes over 10,
    and how near the phrase's beginning and its end are (1 / (1 + words to it)).
    """
    phonemes: list[TimedPhoneme] = []
    places: list[list[float]] = []
    before = 0
    ends = [index for index, word in enumerate(words) if word.pause] or [len(words) - 1]
    for index, word in enumerate(words):
        after = next((end for end in ends if end >= index), len(words) - 1) - index
        near = [1 / (1 + before), 1 / (1 + after)]
        last = len(word.phonemes) - 1
        for position, phoneme in enumerate(word.phonemes):
            phonemes.append(TimedPhoneme(phoneme, 0, 0))
            places.append([float(position == 0), float(position == last), (last + 1) / 10, *near])
        before += 1
        if word.pause:
            phonemes.append(TimedPhoneme(word.pause, 0, 0))
            places.append([0.0, 0.0, 0.0, *near])
            before = 0
    assert all(p.phoneme in PHONEMES or p.phoneme in PAUSES for p in phonemes)
    return torch.tensor(table_rows(phonemes)), torch.tensor(places)
