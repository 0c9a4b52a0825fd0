"""Times of words and phonemes: they add up, fit, and follow the rate."""

import pytest

from avgen.clips.timed_words import Word
from avgen.models.english import SpokenWord
from avgen.models.timing import Lengths, SpeechTimer, place, spread

GRID = {"z": ["Z", "EH", "D"], "a": ["EY"]}

WORDS = (
    SpokenWord("hi", ("HH", "AY1"), ","),
    SpokenWord("there", ("DH", "EH1", "R"), "."),
)
LENGTHS = Lengths([0.3, 0.5], [[0.1, 0.2], [0.1, 0.3, 0.1]], [0.15, 0.7], 0.2, 0.4)


def times(timed):
    return [(t.start_s, t.end_s) for t in timed]


def test_words_pauses_and_silence_stand_one_after_another():
    speech = place(WORDS, LENGTHS, None, 1.0)
    assert times(speech.words) == [pytest.approx((0.2, 0.5)), pytest.approx((0.65, 1.15))]
    assert [p.phoneme for p in speech.phonemes] == ["HH", "AY1", ",", "DH", "EH1", "R", "."]
    bounds = [p.start_s for p in speech.phonemes] + [speech.phonemes[-1].end_s]
    assert bounds == pytest.approx([0.2, 0.3, 0.5, 0.65, 0.75, 1.05, 1.15, 1.55])
    assert speech.tail_s == 0.4


def test_the_rate_scales_speech_and_pauses_but_not_the_silence_around():
    speech = place(WORDS, LENGTHS, None, 2.0)
    assert times(speech.words) == [pytest.approx((0.2, 0.35)), pytest.approx((0.425, 0.675))]
    assert speech.phonemes[-1].end_s == pytest.approx(1.075)


def test_silence_shrinks_before_speech_is_hurried():
    speech = place(WORDS, LENGTHS, 1.25, 1.0)  # 0.95 s of speech, 0.3 s of the 0.6 s of silence
    assert times(speech.words) == [pytest.approx((0.1, 0.4)), pytest.approx((0.55, 1.05))]
    hurried = place(WORDS, LENGTHS, 0.5, 1.0)  # 0.05 s of silence, speech 0.45 / 0.95 as long
    assert hurried.words[0].start_s == pytest.approx(0.05 / 3)
    assert hurried.words[1].end_s == pytest.approx(0.05 / 3 + 0.45)


@pytest.mark.parametrize("seconds", [0.2, 0.05])
def test_what_does_not_fit_is_an_error(seconds):
    with pytest.raises(ValueError, match=r"2 words take 0.95 s and do not fit .* 4 times"):
        place(WORDS, LENGTHS, seconds, 1.0)


def test_three_thousand_words_do_not_fit_a_second(timer):
    with pytest.raises(ValueError, match=r"3000 words take .* do not fit 1 s"):
        timer.time("place " * 3000, 1.0)


@pytest.mark.parametrize("rate", [0.2, 5.0, float("nan")])
def test_an_odd_rate_is_an_error(rate):
    with pytest.raises(ValueError, match=r"rate .*; it must be from 0.25 to 4"):
        place(WORDS, LENGTHS, None, rate)


def test_spread_sums_to_the_word():
    words = (Word("place", 0.5, 0.9), Word("a", 1.0, 1.3))
    timed = spread(words, GRID)
    assert [p.phoneme for p in timed] == ["P", "L", "EY1", "S", "EY"]
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
    timed = timer.time("Red, now").words
    assert [w.text for w in timed] == ["red", "now"]
    assert [t for w in timed for t in (w.start_s, w.end_s)] == pytest.approx([0.4, 0.8, 0.8, 1.2])


def test_unknown_words_take_the_sum_of_their_phonemes(timer):
    (word,) = timer.time("green").words
    mean = timer.phoneme_s
    expected = mean["stop"] + mean["other"] + mean["vowel"] + mean["other"]
    assert word.end_s - word.start_s == pytest.approx(expected)
    assert 0.2 < expected < 1.0


@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.5, 2.0, 5.0])
def test_speech_fits_inside_the_seconds(timer, seconds):
    timed = timer.time("red now soon", seconds).words
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
        timer.time("...")
    with pytest.raises(ValueError, match="no words to fit"):
        SpeechTimer.fit([((), 1.0)])
