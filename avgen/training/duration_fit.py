"""Trains a `DurationModel` on the times of a corpus' phonemes.

In: records with phonemes and their times. Out: the network, and how far it is off. A speaker's pace
is given to it in training as one number, so that what it gives without one is the usual pace.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from avgen.corpora.manifest import ClipRecord
from avgen.errors import UserError
from avgen.models.durations import DurationConfig, DurationModel, describe
from avgen.models.english import SpokenWord
from avgen.models.phonemes import PAUSES, PHONEMES

SHORTEST_S = 0.01  # a phoneme's length is taken to be at least this


@dataclass(frozen=True)
class Utterance:
    """What a record says, as the network sees it.

    Attributes:
        ids: int64 [S], rows of phonemes and pauses.
        places: float32 [S, NUM_PLACES]; see `avgen.models.durations.describe`.
        log_s: float32 [S], logarithm of seconds.
        lead_s: Seconds before the first phoneme.
    """

    ids: Tensor
    places: Tensor
    log_s: Tensor
    lead_s: float


def utterance_of(record: ClipRecord) -> Utterance | None:
    """A record's phonemes by words, with their lengths; None where it has no times of them."""
    if not record.phonemes or not record.words:
        return None
    words: list[SpokenWord] = []
    seconds: list[float] = []
    timed = list(record.phonemes)
    for index, word in enumerate(record.words):
        until = record.words[index + 1].start_s if index + 1 < len(record.words) else float("inf")
        own = [p for p in timed if word.start_s - 1e-6 <= p.start_s < until - 1e-6]
        spoken = [p for p in own if p.phoneme not in PAUSES]
        pauses = [p for p in own if p.phoneme in PAUSES]
        if not spoken:
            return None
        pause = pauses[0] if pauses and index + 1 < len(record.words) else None
        words.append(
            SpokenWord(
                word.text,
                tuple(p.phoneme for p in spoken),
                pause.phoneme if pause else "",
            )
        )
        seconds += [p.end_s - p.start_s for p in (*spoken, *([pause] if pause else []))]
    ids, places = describe(words)
    log_s = torch.tensor(seconds).clamp_min(SHORTEST_S).log()
    return Utterance(ids, places, log_s, record.phonemes[0].start_s)


def fit_durations(
    records: Iterable[ClipRecord],
    config: DurationConfig,
    *,
    num_steps: int = 3000,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    seed: int = 0,
) -> DurationModel:
    """Train on all records that have phonemes with times.

    The loss is the absolute error of the logarithm of seconds, whose best answer is the median.

    Raises:
        UserError: no record has phonemes with times.
    """
    utterances = [found for record in records if (found := utterance_of(record)) is not None]
    if not utterances:
        raise UserError("no record has phonemes with times; a duration model needs them")
    usual = _usual(utterances)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DurationModel(config)
    torch.nn.init.zeros_(model.outward.weight)
    torch.nn.init.constant_(model.outward.bias, float(usual.mean()))
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, num_steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(num_steps):
        chosen = torch.randint(len(utterances), (batch_size,), generator=generator).tolist()
        ids, places, log_s, mask = _collate([utterances[index] for index in chosen])
        pace = ((log_s - usual[ids]) * mask).sum(1) / mask.sum(1)
        error = (model(ids, places, pace, mask) - log_s).abs()
        loss = (error * mask).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def duration_error(model: DurationModel, records: Iterable[ClipRecord]) -> dict[str, float]:
    """How far a model's lengths are off, each speaker's pace being unknown to it.

    Returns:
        Mean absolute error of the logarithm of a phoneme's seconds, the same where every phoneme
        has its mean logarithm (the control), and the median error of an utterance's length over
        its length.
    """
    utterances = [found for record in records if (found := utterance_of(record)) is not None]
    usual = _usual(utterances)
    ids, places, log_s, mask = _collate(utterances)
    made = model(ids, places, torch.zeros(len(ids)), mask)
    count = mask.sum()
    total = ((made.exp() * mask).sum(1) / (log_s.exp() * mask).sum(1) - 1).abs().median()
    return {
        "log_error": float(((made - log_s).abs() * mask).sum() / count),
        "log_error_of_means": float(((usual[ids] - log_s).abs() * mask).sum() / count),
        "length_error": float(total),
    }


def _usual(utterances: Sequence[Utterance]) -> Tensor:
    """Mean logarithm of seconds of each row, of all where a row is absent: float32 [rows + 1]."""
    ids = torch.cat([u.ids for u in utterances])
    log_s = torch.cat([u.log_s for u in utterances])
    counts = torch.zeros(len(PHONEMES) + 1).index_add(0, ids, torch.ones_like(log_s))
    sums = torch.zeros(len(PHONEMES) + 1).index_add(0, ids, log_s)
    return torch.where(counts > 0, sums / counts.clamp_min(1), log_s.mean())


def _collate(utterances: Sequence[Utterance]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    ids = pad_sequence([u.ids for u in utterances], True, padding_value=len(PHONEMES))
    places = pad_sequence([u.places for u in utterances], True)
    log_s = pad_sequence([u.log_s for u in utterances], True)
    return ids, places, log_s, ids < len(PHONEMES)
