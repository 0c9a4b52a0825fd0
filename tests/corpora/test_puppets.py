"""Puppets are measured in their pixels and samples, never by what the drawing code meant to do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("hibari", reason="the puppets' voice is the extra avgen[puppets]")

from avgen.clips.media.read import read_clip
from avgen.corpora.manifest import read_manifest
from avgen.models.phonemes import ARPABET, TimedPhoneme
from puppets.dataset import (
    Pose,
    Puppet,
    PuppetCorpus,
    Voice,
    draw,
    draw_puppet,
    draw_sentence,
    make_clip,
    speak,
    write_puppets,
)
from puppets.mouth import Mouth, shape_mouth
from puppets.person import BACKGROUNDS, CLOTHES, HAIR, SKIN
from puppets.voices import SAMPLE_RATE

SIZE = (96, 96)
LABIALS = "bob may buy pam a big map"


def _plain(seed: int) -> Puppet:
    """A puppet whose mouth is easy to measure: no beard, light skin."""
    return replace(draw_puppet(seed), beard="none", skin="light")


def _inside_mouth(frames: np.ndarray) -> np.ndarray:
    """How many pixels of each frame, near the mouth, are the dark of a mouth, teeth or tongue."""
    height, width = frames.shape[1:3]
    part = frames[:, int(0.6 * height) : int(0.82 * height), int(0.36 * width) : int(0.64 * width)]
    red, green, blue = np.moveaxis(part.astype(float), -1, 0)
    dark = (red < 110) & (green < 60)
    teeth = (green > 205) & (blue > 200)
    return (dark | teeth).sum(axis=(1, 2)).astype(float)


def _loudness(waveform: np.ndarray, num_frames: int) -> np.ndarray:
    """Root mean square during each frame, smoothed over three."""
    parts = waveform[0, : waveform.shape[1] // num_frames * num_frames].reshape(num_frames, -1)
    return np.convolve(np.sqrt((parts**2).mean(axis=1)), np.ones(3) / 3, mode="same")


def _onset_s(waveform: np.ndarray) -> tuple[float, float]:
    loud = np.flatnonzero(np.abs(waveform[0]) > 0.05 * np.abs(waveform).max())
    return loud[0] / SAMPLE_RATE, loud[-1] / SAMPLE_RATE


def _nearest(colour: np.ndarray, palette: dict[str, np.ndarray]) -> str:
    return min(palette, key=lambda name: float(np.abs(palette[name] - colour).sum()))


def test_the_mouth_opens_with_the_sound() -> None:
    rng = np.random.default_rng(0)
    at_once, later = [], []
    for seed in range(6):
        clip, _, _ = make_clip(
            _plain(seed), draw_sentence(rng), seed=seed, size=SIZE, fps="25", seconds=2.8
        )
        opening = _inside_mouth(clip.frames)
        assert clip.waveform is not None
        loudness = _loudness(clip.waveform, len(opening))
        at_once.append(np.corrcoef(opening, loudness)[0, 1])
        later.append(np.corrcoef(opening[8:], loudness[:-8])[0, 1])
    assert np.mean(at_once) > 0.6
    assert np.mean(later) < 0.35


def test_lips_are_closed_on_p_b_and_m_and_open_on_vowels() -> None:
    puppet = _plain(3)
    speech = speak(LABIALS, puppet.voice, speed=0.85)
    closed = [
        p.start_s + 0.3 * (p.end_s - p.start_s) for p in speech.phonemes if p.phoneme in "PBM"
    ]
    vowels = [(p.start_s + p.end_s) / 2 for p in speech.phonemes if p.phoneme in ("AA", "AE")]
    assert len(closed) >= 7

    def openings(times_s: list[float]) -> np.ndarray:
        mouths = shape_mouth(speech.phonemes, np.array(times_s))
        return _inside_mouth(np.stack([draw(puppet, m, Pose(), SIZE) for m in mouths]))

    rest = openings([-1.0])[0]
    assert openings(closed).max() <= rest + 2
    assert openings(vowels).min() > rest + 20


def test_stops_are_softest_where_their_phonemes_are() -> None:
    speech = speak("a puppy may keep a baby happy", Voice(), speed=0.85)
    power = np.convolve(speech.waveform[0] ** 2, np.ones(240) / 240, mode="same")
    depths = []
    for phoneme in speech.phonemes[1:-1]:
        if phoneme.phoneme in "PBK":
            middle_s = (phoneme.start_s + phoneme.end_s) / 2
            around = power[
                int((middle_s - 0.15) * SAMPLE_RATE) : int((middle_s + 0.15) * SAMPLE_RATE)
            ]
            inside = power[int(phoneme.start_s * SAMPLE_RATE) : int(phoneme.end_s * SAMPLE_RATE)]
            depths.append(inside.min() / around.max())
    assert len(depths) >= 6
    assert np.median(depths) < 0.01


@pytest.mark.parametrize("voice", [Voice(), Voice(0.6, 0.87)], ids=["woman", "man"])
def test_sound_starts_and_ends_with_the_words(voice: Voice) -> None:
    for text in ("place red at g nine now", "my mom put a map here", "she sells shoes"):
        speech = speak(text, voice)
        start_s, end_s = _onset_s(speech.waveform)
        assert speech.words[0].start_s == pytest.approx(start_s, abs=0.04)
        assert speech.words[-1].end_s == pytest.approx(end_s, abs=0.08)
        assert [word.text for word in speech.words] == text.split()


def test_words_tile_the_speech_and_hold_their_phonemes() -> None:
    speech = speak("We want five pink houses, by the sea.", Voice())
    for word, following in zip(speech.words, speech.words[1:], strict=False):
        assert word.end_s <= following.start_s + 1e-9
    comma = speech.words[4], speech.words[5]
    assert comma[0].text == "houses"
    assert comma[1].start_s - comma[0].end_s > 0.02
    said = {
        word.text: [p.phoneme for p in speech.phonemes if word.start_s <= p.start_s < word.end_s]
        for word in speech.words
    }
    assert said["five"] == ["F", "AY", "V"]
    assert said["pink"] == ["P", "IH", "NG", "K"]
    assert all(p.end_s > p.start_s for p in speech.phonemes)
    assert {p.phoneme for p in speech.phonemes} <= set(ARPABET)


def test_a_mans_voice_is_lower() -> None:
    def pitch_hz(voice: Voice) -> float:
        waveform = speak("you move", voice).waveform[0]
        middle = len(waveform) // 2
        part = waveform[middle - 1500 : middle + 1500]
        similar = np.correlate(part, part, mode="full")[len(part) - 1 :]
        shortest, longest = SAMPLE_RATE // 350, SAMPLE_RATE // 70
        return SAMPLE_RATE / (shortest + similar[shortest:longest].argmax())

    assert pitch_hz(Voice(0.6, 0.87)) / pitch_hz(Voice()) == pytest.approx(0.6, abs=0.08)


def test_the_clip_is_placed_in_its_seconds() -> None:
    clip, _, words = make_clip(
        _plain(1), "we buy two maps", seed=5, size=(32, 48), fps="30000/1001", seconds=2.0
    )
    assert clip.frames.shape == (60, 32, 48, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.waveform is not None
    assert clip.waveform.shape == (1, 48048)
    start_s, _ = _onset_s(clip.waveform)
    assert words[0].start_s == pytest.approx(start_s, abs=0.04)


def test_the_seed_decides_everything() -> None:
    def clip_of(puppet_seed: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        clip, _, _ = make_clip(
            draw_puppet(puppet_seed), "they see bells", seed=seed, size=(48, 48), fps="12"
        )
        assert clip.waveform is not None
        return clip.frames, clip.waveform

    first, again, other = clip_of(2, 7), clip_of(2, 7), clip_of(2, 8)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert first[0].shape != other[0].shape or not np.array_equal(first[0], other[0])
    assert draw_puppet(2) == draw_puppet(2)
    assert len({draw_puppet(seed).caption for seed in range(50)}) > 45


@pytest.mark.parametrize("seed", range(30))
def test_the_captions_colours_are_the_pixels(seed: int) -> None:
    puppet = draw_puppet(seed)
    frame = draw(puppet, Mouth(), Pose(), (128, 128)).astype(float)
    corner = np.median(frame[8:24, 2:10].reshape(-1, 3), axis=0)
    chest = np.median(frame[122:, 40:56].reshape(-1, 3), axis=0)
    cheek = np.median(frame[64:72, 56:60].reshape(-1, 3), axis=0)
    assert _nearest(corner, BACKGROUNDS) == puppet.background
    assert _nearest(cheek, SKIN) == puppet.skin
    if puppet.hair_style != "long":
        assert _nearest(chest, CLOTHES) == puppet.clothes
    if puppet.hair_style not in ("bald", "bun"):
        assert _nearest(np.median(frame[14:22, 56:72].reshape(-1, 3), axis=0), HAIR) == puppet.hair
    words = puppet.caption.split()
    assert {puppet.kind, puppet.skin, puppet.clothes, puppet.background} <= set(words)
    assert ("glasses" in words) == (puppet.glasses != "none")


def test_drawing_small_is_drawing_large_seen_from_afar() -> None:
    puppet, mouth = draw_puppet(4), Mouth(opening=0.7)
    small = draw(puppet, mouth, Pose(), (64, 64)).astype(float)
    large = draw(puppet, mouth, Pose(), (256, 256)).astype(float)
    averaged = large.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - averaged).mean() < 2.0


def test_the_head_moves_where_the_pose_puts_it() -> None:
    puppet = replace(_plain(6), hair="black", hair_style="short", background="yellow")

    def crown(pose: Pose) -> float:
        row = draw(puppet, Mouth(), pose, (128, 128))[20].astype(int).sum(axis=1)
        return float(np.flatnonzero(row < 250).mean())

    assert crown(Pose(x=0.25)) - crown(Pose()) == pytest.approx(16, abs=1)
    assert crown(Pose(roll=0.1)) > crown(Pose()) + 3


def test_phonemes_colour_their_neighbours() -> None:
    def rounding(vowel: str) -> float:
        phonemes = [TimedPhoneme("S", 0.0, 0.1), TimedPhoneme(vowel, 0.1, 0.25)]
        return shape_mouth(phonemes, np.array([0.085]))[0].rounding

    assert rounding("UW") > rounding("IY") + 0.1
    with pytest.raises(ValueError, match="'QQ'"):
        shape_mouth([TimedPhoneme("QQ", 0.0, 0.1)], np.array([0.0]))
    for phoneme in ARPABET:
        (mouth,) = shape_mouth([TimedPhoneme(phoneme, 0.0, 0.2)], np.array([0.1]))
        assert 0 <= mouth.opening <= 1


def _corpus(**changes: object) -> PuppetCorpus:
    values = {
        "num_clips": 4, "num_puppets": 2, "seed": 1, "height": 32, "width": 32, "fps": "12",
        "seconds": 2.5, "num_validation": 1, "num_test": 1,
    }  # fmt: skip
    return PuppetCorpus(**(values | changes))  # type: ignore[arg-type]


def test_a_corpus_says_what_is_in_its_clips(tmp_path: Path) -> None:
    records = write_puppets(tmp_path, _corpus())
    assert read_manifest(tmp_path / "manifest.jsonl") == records
    assert [record.split for record in records] == ["train", "train", "validation", "test"]
    assert [record.speaker for record in records] == ["puppet-0000", "puppet-0001"] * 2
    assert records[0].caption == records[2].caption != records[1].caption
    clip = read_clip(tmp_path / records[1].media)
    assert clip.frames.shape == (30, 32, 32, 3)
    assert clip.waveform is not None
    assert clip.sample_rate == SAMPLE_RATE
    start_s, _ = _onset_s(clip.waveform)
    assert records[1].words[0].start_s == pytest.approx(start_s, abs=0.04)


def test_an_interrupted_corpus_goes_on_and_another_is_refused(tmp_path: Path) -> None:
    records = write_puppets(tmp_path, _corpus())
    kept, lost = (tmp_path / record.media for record in records[:2])
    before, lost_bytes = kept.stat().st_mtime_ns, read_clip(lost).frames
    lost.unlink()
    (tmp_path / "manifest.jsonl").unlink()
    assert write_puppets(tmp_path, _corpus()) == records
    assert kept.stat().st_mtime_ns == before
    assert np.array_equal(read_clip(lost).frames, lost_bytes)
    with pytest.raises(ValueError, match=r"puppets\.json"):
        write_puppets(tmp_path, _corpus(seed=2))


def test_sentences_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    records = write_puppets(tmp_path, _corpus(seconds=1.9, height=16, width=16))
    assert all(record.words[-1].end_s <= 1.9 for record in records)
    with pytest.raises(ValueError, match=r"seconds is 0\.9; none of 20"):
        write_puppets(tmp_path / "short", _corpus(seconds=0.9))


def test_what_cannot_be_said_is_named() -> None:
    for text in ("", "we buy 12 maps", "Hello. Goodbye."):
        with pytest.raises(ValueError, match="one sentence of plain words"):
            speak(text, Voice())
    with pytest.raises(ValueError, match=r"seconds is 0\.5"):
        make_clip(_plain(0), "we buy two maps", seed=0, size=(16, 16), fps="25", seconds=0.5)
    with pytest.raises(ValueError, match="pitch is 9"):
        Voice(9, 1)
    with pytest.raises(ValueError, match="num_test 9"):
        _corpus(num_test=9)
