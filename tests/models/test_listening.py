"""A voice in, timed phonemes out: what a synthetic voice says, and where it says so."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from rapidfuzz.distance import Levenshtein

from avgen.clips import Word
from avgen.clips.transforms import remix
from avgen.corpora.voices.character import voice_named
from avgen.corpora.voices.saying import say
from avgen.errors import UserError
from avgen.models import listening
from avgen.models.durations import DurationConfig, DurationModel
from avgen.models.english import read
from avgen.models.listening import RATE, align, hear
from avgen.models.phonemes import PAUSES, without_stress
from avgen.pipeline import AVPipeline, GenerateRequest
from avgen.pipeline.conditions import at_rate

TEXT = "The old machine works again, my brother plays the violin on Sunday."
SPOKEN_RATE = 24_000


@pytest.fixture(scope="module")
def speech():
    """A sentence by one of hibari's voices, with 0.37 s of silence before it."""
    return say(TEXT, voice_named("hibari-man-young-000007"), 3, margins_s=(0.37, 0.2), kokoro=None)


@pytest.fixture(scope="module")
def samples(speech):
    return at_rate(speech.waveform, SPOKEN_RATE, RATE)[0]


def bare(phonemes):
    return [without_stress(p.phoneme) for p in phonemes if p.phoneme not in PAUSES]


def starts_of_words(phonemes, words):
    at = np.cumsum([0, *(len(word.phonemes) for word in words)])[:-1]
    return np.array([phonemes[index].start_s for index in at])


def test_known_words_are_put_where_they_are_said(speech, samples):
    words = read(TEXT)
    aligned = align(samples, words)
    assert [p.phoneme for p in aligned] == [p for word in words for p in word.phonemes]
    apart = starts_of_words(aligned, words) - [word.start_s for word in speech.words]
    assert np.median(abs(apart)) < 0.03
    assert abs(apart).max() < 0.12
    later = np.pad(samples, (round(0.5 * RATE), 0))
    moved = starts_of_words(align(later, words), words) - starts_of_words(aligned, words)
    assert np.median(moved) == pytest.approx(0.5, abs=0.02)


def test_unknown_words_are_heard(speech, samples):
    heard = hear(samples)
    distance = Levenshtein.normalized_distance(bare(heard), bare(speech.phonemes))
    assert distance < 0.3
    said = align(samples, read(TEXT))
    assert heard[0].start_s == pytest.approx(said[0].start_s, abs=0.05)
    assert all(p.phoneme[-1] in "012" for p in heard if p.phoneme[:2] in ("AA", "AE", "IY", "OW"))
    hear(np.random.default_rng(2).normal(0, 0.1, 3 * RATE).astype(np.float32))
    assert hear(samples) == heard  # whatever was heard in between


def test_nothing_is_heard_in_silence_and_in_too_little(samples):
    assert hear(np.zeros(2 * RATE, np.float32)) == ()
    assert hear(samples[: RATE // 50]) == ()


def test_words_that_do_not_fit_are_an_error(samples):
    with pytest.raises(UserError, match="'eleven green elephants sing' does not fit the sound"):
        align(samples[: 2 * RATE], read("eleven green elephants sing"))
    with pytest.raises(UserError, match="does not fit"):
        align(samples[: RATE // 50], read("yes"))


def test_long_speech_is_put_where_it_is_said_piece_by_piece(samples):
    """Four times the sentence, 23 s: a piece is 15 s at most."""
    words, four = read(TEXT), np.tile(samples, 4)
    once, length_s = align(samples, words), len(samples) / RATE
    aligned = align(four, words * 4)
    assert [p.phoneme for p in aligned] == [p.phoneme for p in once] * 4
    for number in range(4):
        part = aligned[number * len(once) : (number + 1) * len(once)]
        apart = starts_of_words(part, words) - starts_of_words(once, words) - number * length_s
        assert np.median(abs(apart)) < 0.03
    heard = hear(four)
    distance = Levenshtein.normalized_distance(bare(heard), bare(aligned))
    assert distance < 0.3
    starts = [p.start_s for p in heard]
    assert starts == sorted(starts) and 3 * length_s < starts[-1] < 4 * length_s


def test_threads_wait_and_what_is_interrupted_is_not_kept(samples, monkeypatch):
    words, part = read("the old machine"), samples[: 2 * RATE]
    expected = align(part, words)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(align, [part] * 4, [words] * 4)) == [expected] * 4

    def interrupted(decoder, samples):
        decoder.start_utt()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(listening, "_decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            align(part, words)
    assert align(part, words) == expected


def test_a_given_voice_says_what_lips_do(tiny_model, speech, samples):
    pipe = AVPipeline.from_pretrained(tiny_model)
    given = {"audio": (remix(speech.waveform, 2), SPOKEN_RATE)}

    def phonemes(**fields):
        return pipe.conditions(GenerateRequest(**given, **fields)).phonemes

    assert phonemes() == ()  # GRID's words are not those that are heard
    lexicon = {"violin": ["V", "AY0", "L", "AH0", "N"]}
    pipe.durations = DurationModel(DurationConfig(width=8, depth=1, lexicon=lexicon))
    with torch.no_grad():  # phonemes of 0.05 s
        pipe.durations.outward.weight.zero_()
        pipe.durations.outward.bias.fill_(-3.0)
    assert bare(phonemes()) == bare(hear(samples))
    assert phonemes(speech="") == ()
    prompted = phonemes(prompt=f'a man says "{TEXT}"')
    assert prompted == align(samples, read(TEXT, lexicon)) != align(samples, read(TEXT))
    second = phonemes(seconds=1.0)
    assert second and {p.end_s for p in second} <= {s / 100 for s in range(101)}
    assert phonemes(words=[Word("red", 0.2, 0.5)])[0].start_s == 0.2
    with pytest.raises(UserError, match="does not fit"):
        phonemes(speech="eleven green elephants sing", seconds=0.8)
    with pytest.raises(UserError, match="a given voice has its own pace"):
        phonemes(speech=TEXT, rate=2.0)
