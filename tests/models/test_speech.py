"""Text to words to phonemes, with times that add up."""

import pytest

from avgen.clips.clip import Word
from avgen.models.phonemes import PHONEMES, SpeechTimer, parse_prompt, phonemize, spread, words_of

GRID = {"z": ["Z", "EH", "D"], "a": ["EY"]}


def test_quotes_hold_what_is_spoken():
    assert parse_prompt('a man says "place red at g nine now"') == (
        "a man says",
        "place red at g nine now",
    )
    assert parse_prompt("a man \u201chello there\u201d smiles") == ("a man smiles", "hello there")
    assert parse_prompt('"one" then "two  three"') == ("then", "one two three")
    assert parse_prompt("a man") == ("a man", "")
    assert parse_prompt("") == ("", "")


def test_an_open_quote_is_an_error():
    with pytest.raises(ValueError, match="not closed"):
        parse_prompt('a man says "place red')


def test_words_are_lower_case_without_punctuation():
    assert words_of("Place RED, at g9 now!") == ["place", "red", "at", "g", "nine", "now"]
    assert words_of("42") == ["four", "two"]
    assert words_of("don\u2019t re-do") == ["don't", "re", "do"]
    assert words_of(" ... - ") == []
    assert words_of("[red] \u2014 'place' \u2018now\u2019") == ["red", "place", "now"]
    assert words_of("players' 'em") == ["players'", "'em"]  # the dictionary's own apostrophes


@pytest.mark.parametrize("text", ["red \u4f60\u597d", "a & b", "\U0001f600", "3.5", "5%"])
def test_what_has_no_letter_cannot_be_pronounced(text):
    with pytest.raises(ValueError, match="cannot be pronounced"):
        words_of(text)


def test_phonemes_of_known_words():
    assert phonemize("red") == ("R", "EH", "D")
    assert phonemize("Z", GRID) == ("Z", "EH", "D")
    assert phonemize("Green") == ("G", "R", "IY", "N")
    assert set(phonemize("zero")) <= set(PHONEMES)
    assert len(PHONEMES) == 39


def test_an_unknown_word_is_named():
    with pytest.raises(ValueError, match="'xqzzt' cannot be pronounced"):
        phonemize("xqzzt")


def test_spread_sums_to_the_word():
    words = (Word("place", 0.5, 0.9), Word("a", 1.0, 1.3))
    timed = spread(words, GRID)
    assert [p.phoneme for p in timed] == ["P", "L", "EY", "S", "EY"]
    assert timed[0].start_s == 0.5
    assert timed[3].end_s == pytest.approx(0.9)
    assert timed[4].start_s == 1.0
    assert timed[4].end_s == pytest.approx(1.3)
    assert all(a.end_s == b.start_s for a, b in zip(timed[:3], timed[1:4], strict=True))
    assert (
        timed[2].end_s - timed[2].start_s > timed[0].end_s - timed[0].start_s
    )  # vowels outlast stops


@pytest.fixture
def timer():
    utterances = [
        ((Word("red", 0.5, 0.8), Word("now", 0.8, 1.2)), 2.0),
        ((Word("red", 0.3, 0.8), Word("soon", 0.8, 1.4)), 2.0),
    ]
    return SpeechTimer.fit(utterances, GRID)


def test_fit_is_the_means_of_the_corpus(timer):
    assert timer.word_s == pytest.approx({"now": 0.4, "red": 0.4, "soon": 0.6})
    assert timer.lead_s == pytest.approx(0.4)
    assert timer.tail_s == pytest.approx(0.7)


def test_known_words_take_their_mean_after_the_lead(timer):
    timed = timer.time("Red, now", None)
    assert [w.text for w in timed] == ["red", "now"]
    assert [t for w in timed for t in (w.start_s, w.end_s)] == pytest.approx([0.4, 0.8, 0.8, 1.2])


def test_unknown_words_take_the_sum_of_their_phonemes(timer):
    (word,) = timer.time("green", None)
    mean = timer.phoneme_s
    expected = mean["stop"] + mean["other"] + mean["vowel"] + mean["other"]
    assert word.end_s - word.start_s == pytest.approx(expected)
    assert 0.2 < expected < 1.0


@pytest.mark.parametrize("seconds", [0.2, 0.5, 1.0, 1.5, 2.0, 5.0])
def test_speech_fits_inside_the_seconds(timer, seconds):
    timed = timer.time("red now soon", seconds)
    assert timed[0].start_s >= 0
    assert timed[-1].end_s <= seconds + 1e-9
    assert all(a.end_s == b.start_s for a, b in zip(timed[:-1], timed[1:], strict=True))
    lengths = [w.end_s - w.start_s for w in timed]
    assert [length / lengths[0] for length in lengths] == pytest.approx(
        [1.0, 1.0, 1.5]
    )  # paced alike
    assert max(lengths) <= 0.6 + 1e-9  # never slower than the corpus


def test_nothing_to_say_is_an_error(timer):
    with pytest.raises(ValueError, match="no words to say"):
        timer.time("...", None)
    with pytest.raises(ValueError, match="no words to fit"):
        SpeechTimer.fit([((), 1.0)])
