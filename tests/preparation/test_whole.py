"""Records that are kept whole, heads found in them, and voices without a picture."""

import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avgen.clips import Clip, read_clip, write_clip
from avgen.clips.timed_words import Word
from avgen.clips.transforms import crop, resize
from avgen.corpora.manifest import read_manifest
from avgen.evaluation.faces.head import head_box
from avgen.models.phonemes import TimedPhoneme
from avgen.preparation.crop import narrowed
from avgen.preparation.outcome import read_outcome
from avgen.preparation.run import Request, prepare
from avgen.preparation.settings import Settings
from avgen.preparation.store import Store, from_int16, to_int16

RATE = 16_000
WORDS = (Word("one", 0.1, 0.3), Word("two", 0.5, 0.7))
PHONEMES = (TimedPhoneme("W", 0.1, 0.2), TimedPhoneme("T", 0.5, 0.6))


@pytest.fixture
def film(tmp_path) -> Clip:
    """Twenty frames of noise, 0.8 s at 25 fps with a rising tone, written as a.mkv."""
    draw = np.random.default_rng(0)
    frames = draw.integers(0, 256, (20, 48, 64, 3), np.uint8)
    waveform = (0.7 * np.sin(np.arange(12_800) ** 1.2 / 90))[None].astype(np.float32)
    write_clip(Clip(frames, Fraction(25), waveform, RATE), tmp_path / "a.mkv")
    return read_clip(tmp_path / "a.mkv")


def run(tmp_path: Path, items, **settings) -> Store:
    settings = {"sample_rate": RATE, "size": None, "stages": "none"} | settings
    store = Store(tmp_path / "out")
    prepare(Request("test", tmp_path, store.folder, Settings(**settings)), items)
    return store


def test_samples_come_back_to_half_a_step():
    waveform = np.array([[-1.0, -0.40001, 0.3, 1.0]], np.float32)
    assert to_int16(waveform).tolist() == [[-32767, -13107, 9830, 32767]]
    assert np.abs(from_int16(to_int16(waveform)) - waveform).max() <= 0.5 / 32767
    assert from_int16(to_int16(waveform))[0, [0, 3]].tolist() == [-1, 1]


def test_a_record_is_kept_as_it_is(record, film, tmp_path):
    store = run(tmp_path, [record("a.mkv", words=WORDS, phonemes=PHONEMES)])
    (made,) = read_manifest(store.folder / "manifest.jsonl")
    assert (made.media, made.words, made.phonemes) == ("frames/a.npy", WORDS, PHONEMES)
    assert np.array_equal(np.load(store.frames("a")), film.frames)
    assert np.array_equal(np.load(store.waveform("a")), to_int16(film.waveform))
    assert store.read_waveform("a") == pytest.approx(film.waveform, abs=1e-4)
    assert store.rates() == {"fps": "25", "sample_rate": RATE}


def test_a_box_and_a_span_are_cut_out(record, film, tmp_path):
    one = record("a.mkv", box=(8, 4, 40, 30), span=(0.4, 0.8), words=WORDS, phonemes=PHONEMES)
    store = run(tmp_path, [one], size=(60, 80))
    (made,) = read_manifest(store.folder / "manifest.jsonl")
    assert made.words == (Word("two", 0.1, 0.3),) and made.box is made.span is None
    assert made.phonemes == (TimedPhoneme("T", 0.1, 0.2),)
    expected = resize(crop(film.frames[10:], (8, 4, 40, 30)), 60, 80)
    assert np.array_equal(np.load(store.frames("a")), expected)
    assert np.array_equal(np.load(store.waveform("a")), to_int16(film.waveform[:, 6400:]))
    assert read_outcome(store.outcome("a")).kept[0].origin.box == (8, 4, 40, 30)


def test_rates_of_their_own_and_clips_without_sound(record, film, tmp_path):
    write_clip(Clip(film.frames, Fraction(30000, 1001)), tmp_path / "b.mkv")
    store = run(tmp_path, [record("a.mkv"), record("b.mkv")], fps=None, keep_silent=True)
    assert (store.fps("a"), store.fps("b")) == (25, Fraction(30000, 1001))
    assert store.read_waveform("b") is None and len(np.load(store.frames("b"))) == 20
    (folder := store.folder / "strict").mkdir()
    again = prepare(
        Request("test", tmp_path, folder, Settings(stages="none", size=None)),
        [record("a.mkv"), record("b.mkv")],
    )
    assert again.reasons == {"no sound": 1} and again.clips == 1
    assert again.hours == pytest.approx((0.8 / 3600, 0.8 / 3600), rel=1e-3)


def write_wav(path: Path, waveform: np.ndarray, rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(to_int16(waveform).astype("<i2").tobytes())


def test_a_voice_alone_has_a_waveform_and_no_frames(record, film, tmp_path):
    write_wav(tmp_path / "v.wav", film.waveform, RATE)
    store = run(tmp_path, [record("v.wav", words=WORDS, phonemes=PHONEMES)], fps=Fraction(25))
    (made,) = read_manifest(store.folder / "manifest.jsonl")
    assert (made.media, made.words, made.phonemes) == ("waveforms/v.npy", WORDS, PHONEMES)
    assert np.abs(np.load(store.waveform("v")) - to_int16(film.waveform).astype(int)).max() <= 1
    assert not store.frames("v").exists()
    (kept,) = read_outcome(store.outcome("v")).kept
    assert (kept.num_frames, kept.seconds(Fraction(25))) == (0, 0.8)


def test_the_middle_of_a_square_has_the_shape_that_is_wanted():
    assert narrowed((10, 20, 128, 128), (128, 128)) == (10, 20, 128, 128)
    assert narrowed((10, 20, 128, 128), (64, 48)) == (26, 20, 96, 128)
    assert narrowed((10, 20, 128, 128), (48, 64)) == (10, 36, 128, 96)
    assert narrowed((10, 20, 127, 127), None) == (10, 20, 127, 127)


def test_a_head_is_cropped_and_no_face_is_a_reason(record, grid, film, tmp_path):
    clip = read_clip(grid / "s1/srwo9a.mpg", end_s=1)
    x, y, width, height = box = head_box(clip.frames)
    assert width == height and 120 < width < 288  # half of GRID's 360 x 288
    assert 0 <= x < x + width <= 360 and 0 <= y < y + height <= 288
    assert abs(x + width / 2 - 180) < 60
    head = record(grid / "s1/srwo9a.mpg", id="head", span=(0.0, 1.0))
    store = run(tmp_path, [record("a.mkv"), head], stages="head", size=(64, 48))
    assert read_outcome(store.outcome("a")).reason == "no face"
    frames = np.load(store.frames("head"))
    assert np.array_equal(frames, resize(crop(clip.frames, narrowed(box, (64, 48))), 64, 48))


@pytest.mark.slow
def test_a_voice_is_cut_and_filtered_as_pictures_are(record, grid, tmp_path):
    sounds = [
        read_clip(grid / f"s1/{name}.mpg", sample_rate=24_000, num_channels=1).waveform
        for name in ("bbir6n", "lbak3a", "pbbv9a", "srwo9a")
    ]
    speech = np.concatenate(sounds, 1)
    write_wav(tmp_path / "v.wav", speech, 24_000)
    write_wav(tmp_path / "quiet.wav", speech[:, :72_000] * 2e-4, 24_000)
    items = [record("v.wav"), record("quiet.wav")]
    store = run(tmp_path, items, stages="all", size=(128, 128), sample_rate=24_000)
    kept = read_outcome(store.outcome("v")).kept
    assert len(kept) == 2 and read_outcome(store.outcome("quiet")).reason == "no sound"
    spans = [one.origin.span for one in kept]
    assert spans[0][0] == 0 and spans[0][1] == spans[1][0] <= 10
    assert spans[1][1] == pytest.approx(speech.shape[1] / 24_000, abs=1e-3)
    joined = np.concatenate([np.load(store.waveform(one.record.id)) for one in kept], 1)
    assert np.abs(joined - to_int16(speech).astype(int)).max() <= 1
    assert all(one.measures["speech_s"] > 1 and one.num_frames == 0 for one in kept)
