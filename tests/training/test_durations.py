"""A duration model learns the lengths that a corpus shows, and its pace is the usual one."""

import torch

from avgen.clips.timed_words import Word
from avgen.codecs.base import load_module, save_module
from avgen.corpora.manifest import ClipRecord
from avgen.models.durations import DurationConfig, DurationModel, describe
from avgen.models.english import SpokenWord
from avgen.models.phonemes import PHONEMES, TimedPhoneme
from avgen.training.duration_fit import duration_error, fit_durations, utterance_of

SECONDS = {"R": 0.05, "EH1": 0.16, "D": 0.06, "N": 0.07, "AW1": 0.21, ",": 0.3}


def record(index, words, pace=1.0):
    """A record in which every phoneme has its length of `SECONDS`, the last word's twice that."""
    start, timed, phonemes = 0.25, [], []
    for position, word in enumerate(words):
        last = position == len(words) - 1
        begin = start
        for phoneme in word.phonemes:
            length = SECONDS[phoneme] * pace * (2 if last else 1)
            phonemes.append(TimedPhoneme(phoneme, start, start + length))
            start += length
        timed.append(Word(word.text, begin, start))
        if word.pause and not last:
            phonemes.append(TimedPhoneme(",", start, start + SECONDS[","] * pace))
            start += SECONDS[","] * pace
    return ClipRecord(
        id=str(index), media="a.wav", corpus="c", speaker="s", split="train", caption="",
        words=tuple(timed), phonemes=tuple(phonemes), box=None, licence="",
    )  # fmt: skip


RED = SpokenWord("red", ("R", "EH1", "D"))
NOW = SpokenWord("now", ("N", "AW1"))
PAUSED = SpokenWord("red", ("R", "EH1", "D"), ",")
SENTENCES = [[RED, NOW], [NOW, RED], [PAUSED, NOW], [NOW, NOW, RED], [PAUSED, RED, NOW]]


def test_a_record_is_its_phonemes_by_words():
    found = utterance_of(record(0, [PAUSED, NOW]))
    ids, places = describe([PAUSED, NOW])
    said = ("R", "EH1", "D", ",", "N", "AW1")
    assert found.ids.tolist() == ids.tolist() == [PHONEMES.index(p) for p in said]
    assert torch.equal(found.places, places)
    assert torch.allclose(found.log_s.exp(), torch.tensor([0.05, 0.16, 0.06, 0.3, 0.14, 0.42]))
    assert found.lead_s == 0.25


def test_places_say_where_a_phoneme_stands():
    _, places = describe([PAUSED, NOW])
    assert places[0].tolist() == [1, 0, torch.tensor(0.3).item(), 1, 1]
    assert places[2].tolist() == [0, 1, torch.tensor(0.3).item(), 1, 1]
    assert places[4].tolist() == [1, 0, torch.tensor(0.2).item(), 1, 1]
    _, long = describe([NOW, NOW, RED])
    assert long[0, 3:].tolist() == [1, torch.tensor(1 / 3).item()]
    assert long[-1, 3:].tolist() == [torch.tensor(1 / 3).item(), 1]


def test_lengths_are_learned_and_the_pace_is_the_usual_one(tmp_path):
    records = [
        record(i, words, pace) for i, words in enumerate(SENTENCES) for pace in (0.8, 1.0, 1.25)
    ]
    model = fit_durations(records, DurationConfig(width=32, depth=2, lead_s=0.2), num_steps=300)
    lengths = model.lengths([PAUSED, NOW])
    assert abs(lengths.word_s[0] / 0.27 - 1) < 0.1
    assert abs(lengths.word_s[1] / 0.56 - 1) < 0.1  # the last word is twice as long
    assert abs(lengths.pause_s[0] / 0.3 - 1) < 0.15
    error = duration_error(model, records)
    assert error["log_error"] < 0.6 * error["log_error_of_means"]
    save_module(model, tmp_path, torch.float32)
    loaded = load_module(tmp_path)
    assert loaded.lengths([PAUSED, NOW]) == lengths
    speech = loaded.time("red", rate=2.0)
    assert speech.words[0].start_s == 0.2
    assert isinstance(loaded, DurationModel)


def test_words_with_times_are_divided_by_the_lengths():
    model = fit_durations(
        [record(i, words) for i, words in enumerate(SENTENCES)],
        DurationConfig(width=32, depth=2),
        num_steps=200,
    )
    phonemes = model.spread([Word("red", 1.0, 2.0), Word("now", 2.5, 3.0)])
    assert [p.phoneme for p in phonemes] == ["R", "EH1", "D", "N", "AW1"]
    assert phonemes[0].start_s == 1.0
    assert abs(phonemes[2].end_s - 2.0) < 1e-9
    assert phonemes[1].end_s - phonemes[1].start_s > 0.4  # the vowel's share: 0.16 of 0.27
    assert abs(phonemes[4].end_s - 3.0) < 1e-9
    assert model.spread([]) == ()  # a given voice, of whose words nothing is said
