# ruff: noqa: RUF001 - phoneme letters look like others
"""Voices: who they are, what they say, and when; sound and times against each other."""

import json
import wave
from dataclasses import replace

import numpy as np
import pytest
import torch

from avgen.codecs.pitch import pitch_of_windows
from avgen.corpora.manifest import read_manifest
from avgen.corpora.splits import split_by_speaker
from avgen.corpora.voices.character import AGES, SEXES, draw_voice, voice_named
from avgen.corpora.voices.letters import timed_letters
from avgen.corpora.voices.saying import say
from avgen.corpora.voices.sentences import rare_pairs, read_sentences, split_of_sentence
from avgen.corpora.voices.synthesis import SAMPLE_RATE, Warp, stretch
from avgen.corpora.voices.voice_corpus import VoicePlan, collect, make_corpus, make_voice
from avgen.errors import UserError
from avgen.models.phonemes import PAUSES, PHONEMES

SENTENCES = [
    "He bought a cat at the shop, and six socks.",
    "She stopped at a shoe store to see the sheep.",
]


def test_letters_become_phonemes_with_their_times() -> None:
    """Stress marks belong to their vowel, spaces to the next word or to the pause before it."""
    said = "ðə bˈɜɹd, sˌæt?"
    units = np.full(len(said) + 2, 2)
    words, pauses = timed_letters(said, units)
    assert [[p.phoneme for p in word] for word in words] == [
        ["DH", "AH0"],
        ["B", "ER1", "D"],
        ["S", "AE2", "T"],
    ]
    late = 0.045
    place = {index: 0.05 * index - late for index in range(len(said) + 3)}
    # Letter i of `said` starts at unit i + 1.
    assert words[0][0].start_s == pytest.approx(place[1])
    bird = words[1]
    assert bird[0].start_s == pytest.approx(place[3])  # at the space
    assert (bird[1].start_s, bird[1].end_s) == pytest.approx((place[5], place[8]))
    assert pauses[0].phoneme == ","
    assert (pauses[0].start_s, pauses[0].end_s) == pytest.approx((place[9], place[11]))
    assert words[2][0].start_s == pytest.approx(place[11])
    assert (words[2][1].phoneme, words[2][1].start_s) == ("AE2", pytest.approx(place[12]))
    assert pauses[1].phoneme == "."


def test_long_british_vowels_are_one_phoneme() -> None:
    words, _ = timed_letters("bˈɜːd fˈɑː", np.full(12, 2))
    assert [[p.phoneme for p in word] for word in words] == [["B", "ER1", "D"], ["F", "AA1"]]
    with pytest.raises(ValueError, match="is no phoneme"):
        timed_letters("bˈɜ§", np.full(6, 2))


def test_a_voice_is_made_again_by_its_name_and_differs_from_others() -> None:
    voices = [draw_voice("hibari", seed) for seed in range(60)]
    assert [voice_named(voice.name) for voice in voices] == voices
    assert len({voice.warp for voice in voices}) == 60
    assert {voice.sex for voice in voices} == set(SEXES)
    assert {voice.age for voice in voices} == set(AGES)
    men = [voice.warp.pitch for voice in voices if voice.sex == "man" and voice.warp]
    women = [voice.warp.pitch for voice in voices if voice.sex == "woman" and voice.warp]
    assert max(men) < min(women)
    asked = draw_voice("hibari", 3, sex="man", age="old")
    assert asked.name == "hibari-man-old-000003"
    assert asked.caption.startswith("an old man speaks in a")
    with pytest.raises(UserError, match="as hibari-woman-old-000012"):
        voice_named("hibari-child-000001")
    with pytest.raises(UserError, match="a voice of a old man: kokoro"):
        draw_voice("kokoro", 1, sex="man", age="old")


def test_what_is_said_of_a_voice_is_how_it_is_made() -> None:
    for seed in range(120):
        voice = draw_voice("hibari", seed)
        assert voice.warp is not None
        words = voice.description
        if "deep" in words and voice.sex == "man":
            assert voice.warp.pitch * 190 < 104
        if "lively" in words or "expressive" in words:
            assert voice.warp.range > 1.3
        if "slow" in words or "calm" in words:
            assert voice.speed < 0.92
        if "breathy" in words or "husky" in words:
            assert voice.warp.breath > 0.45


def test_kokoros_voices_are_mixed_within_accent_and_sex() -> None:
    voices = [draw_voice("kokoro", seed) for seed in range(40)]
    assert {len(voice.styles) for voice in voices} == {1, 3}
    for voice in voices:
        assert sum(voice.styles.values()) == pytest.approx(1)
        prefix = ("b" if voice.british else "a") + ("m" if voice.sex == "man" else "f")
        assert {name[:2] for name in voice.styles} == {prefix}
        assert voice.british == ("British" in voice.description)


def test_speech_lies_where_its_phonemes_are() -> None:
    """Sibilants are where high frequencies are, to 25 ms; the margins are as asked for."""
    gaps = []
    for index, text in enumerate(SENTENCES):
        voice = draw_voice("hibari", index, sex=SEXES[index], age="young")
        speech = say(text, voice, 7, margins_s=(0.2, 0.3), kokoro=None)
        waveform = speech.waveform[0]
        assert speech.waveform.dtype == np.float32
        assert np.sqrt(np.mean(waveform**2)) == pytest.approx(0.08, abs=0.002)
        assert np.abs(waveform[: int(0.15 * SAMPLE_RATE)]).max() < 0.02
        assert speech.phonemes[-1].end_s == pytest.approx(len(waveform) / SAMPLE_RATE)
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(waveform, 120), 240)[::120]
        spectrum = np.abs(np.fft.rfft(windows * np.hanning(240)))
        hiss = np.log((spectrum[:, 40:].sum(1) + 0.01) / (spectrum[:, 1:20].sum(1) + 0.01))
        for before, sibilant in zip(speech.phonemes, speech.phonemes[1:], strict=False):
            if sibilant.phoneme in ("S", "SH") and before.phoneme[-1] in "012":
                first = int((sibilant.start_s - 0.08) / 0.005)
                around = hiss[first : first + 32]
                jumps = around[8:] - around[:-8]
                gaps.append((first + 4 + int(jumps.argmax())) * 0.005 - sibilant.start_s)
    assert len(gaps) >= 4
    assert abs(np.median(gaps)) < 0.025


def test_words_hold_their_phonemes_and_pauses_lie_between() -> None:
    text = SENTENCES[0]
    speech = say(text, voice_named("hibari-man-old-000001"), 0, margins_s=(0.1, 0.1), kokoro=None)
    words = "he bought a cat at the shop and six socks"
    assert " ".join(word.text for word in speech.words) == words
    assert {p.phoneme for p in speech.phonemes} <= set(PHONEMES)
    shop = next(word for word in speech.words if word.text == "shop")
    held = [p.phoneme for p in speech.phonemes if shop.start_s <= p.start_s < shop.end_s - 1e-9]
    assert held == ["SH", "AA1", "P"]
    pauses = [p for p in speech.phonemes if p.phoneme in PAUSES]
    assert [p.phoneme for p in pauses] == [",", "."]
    assert pauses[0].start_s == pytest.approx(shop.end_s)
    starts = [p.start_s for p in speech.phonemes]
    assert starts == sorted(starts)
    for before, after in zip(speech.phonemes, speech.phonemes[1:], strict=False):
        assert before.end_s == pytest.approx(after.start_s)


def test_the_warp_moves_pitch_and_resonances() -> None:
    def pitch_of(warp: Warp) -> float:
        voice = replace(draw_voice("hibari", 0), warp=warp, speed=1.0)
        speech = say("We were away a year ago.", voice, 0, margins_s=(0, 0), kokoro=None)
        windows = torch.from_numpy(speech.waveform).unfold(1, 1200, 320)
        hz, voicing = pitch_of_windows(windows, SAMPLE_RATE)
        return float(hz[voicing > 0.7].median())

    own = pitch_of(Warp())
    assert own == pytest.approx(200, rel=0.15)
    assert pitch_of(Warp(formant=0.88, pitch=0.6)) / own == pytest.approx(0.6, rel=0.03)
    assert pitch_of(Warp(formant=1.05, pitch=1.2)) / own == pytest.approx(1.2, rel=0.03)
    peak = np.zeros((601, 1), np.float32)
    peak[200] = 1
    assert stretch(peak, 0.9, -12.0)[:, 0].argmax() == 180
    assert stretch(peak, 0.9, -12.0)[545, 0] == -12  # what was above the highest frequency


def test_sentences_are_plain_new_and_split_by_their_words(tmp_path) -> None:
    gloss = (
        '00001 03 n 01 cat 0 000 | a pet; "the cat sat on the old red mat, all day"; "too short"\n'
    )
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "data.noun").write_text(gloss)
    lines = tmp_path / "lines.txt"
    lines.write_text(
        "A line that has 12 digits in it, which is not plain.\n"
        "It was held out for the test, so nobody may say it.\n"
        "the cat sat on the old red mat all day!\n"
        "Everyone  agreed that it was much too far to walk;\n"
    )
    held_out = tmp_path / "held_out.txt"
    held_out.write_text("It was held out for the test so nobody may say it\n")
    assert read_sentences([tmp_path / "net", lines], held_out) == [
        "The cat sat on the old red mat, all day.",
        "Everyone agreed that it was much too far to walk.",
    ]
    assert split_of_sentence("What, again?") == split_of_sentence("what again")
    splits = [split_of_sentence("a" * (i % 50) + " b" * (i // 50)) for i in range(2000)]
    assert splits.count("test") / 2000 == pytest.approx(0.05, abs=0.015)
    with pytest.raises(UserError, match="cannot be read as text"):
        read_sentences([tmp_path / "none.txt"])


def test_rare_pairs_are_those_that_language_has_and_the_corpus_has_not() -> None:
    language = [["K", "AE1", "T"]] * 50 + [["D", "AO0", "G"]]
    said = [["K", "AE0", "B"]] * 30 + [["AE2", "T"]] * 4
    assert rare_pairs(said, language, share=0.1, wanted=20) == {"AE T": 4}


def test_a_corpus_is_made_once_resumes_and_keeps_splits_apart(tmp_path) -> None:
    sentences = [
        f"The {a} {n} went to the {p} again."
        for a in ("old", "red", "tall", "shy")
        for n in ("fox", "cook", "queen", "judge")
        for p in ("market", "river", "station")
    ]
    plan = VoicePlan("hibari", first=10, voices=4, clips=3)
    records = make_corpus(tmp_path, plan, sentences, workers=1)
    assert read_manifest(tmp_path / "manifest.jsonl") == records
    assert len({record.speaker for record in records}) == 4
    for record in records:
        assert record.split == split_by_speaker(record.speaker, "voices")
        assert split_of_sentence(record.transcript) == record.split
        assert record.caption == voice_named(record.speaker).caption
        assert record.phonemes
        with wave.open(str(tmp_path / record.media)) as file:
            assert file.getframerate() == 24000
            assert file.getnframes() / 24000 == pytest.approx(record.lasts_s)
    chosen = next(record for record in records if record.id.endswith("-0000"))
    first = tmp_path / chosen.media
    before = first.read_bytes()
    gone = tmp_path / records[-1].speaker / "records.jsonl"
    lines = gone.read_text()
    gone.unlink()
    first.write_bytes(b"kept")  # a finished voice is not made again
    assert make_corpus(tmp_path, plan, sentences, workers=1) == records
    assert gone.read_text() == lines
    assert first.read_bytes() == b"kept"
    seed = int(chosen.speaker[-6:])
    make_voice(tmp_path / "alone", chosen.speaker, [chosen.transcript], seed, None)
    assert len(collect(tmp_path / "alone")) == 1
    again = (tmp_path / "alone" / chosen.media).read_bytes()
    assert json.loads(lines.splitlines()[0])["licence"].startswith("Apache-2.0")
    assert again == before


def test_voices_of_one_split_alone_say_any_sentence(tmp_path) -> None:
    sentences = [f"The old {noun} went to the market again." for noun in ("fox", "cook", "judge")]
    seeds = [n for n in range(60) if _is_of_test(n)][:2]
    plan = VoicePlan("hibari", first=seeds[0], voices=seeds[1] + 1 - seeds[0], clips=3, only="test")
    records = make_corpus(tmp_path, plan, sentences, workers=1)
    assert {int(record.speaker[-6:]) for record in records} == set(seeds)
    for seed in seeds:
        said = [r.transcript for r in records if int(r.speaker[-6:]) == seed]
        assert sorted(said) == sorted(sentences)
    assert {split_of_sentence(sentence) for sentence in sentences} != {"test"}


def _is_of_test(seed: int) -> bool:
    return split_by_speaker(draw_voice("hibari", seed).name, "voices") == "test"
