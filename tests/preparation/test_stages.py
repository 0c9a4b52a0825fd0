"""Stages that need no face: scenes, spans, crops, moved sound, quality, words."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avgen.clips.timebase import num_samples
from avgen.clips.timed_words import Word
from avgen.plugins import load_plugin
from avgen.preparation import crop, people, quality, scenes, spans, speaker, words
from avgen.preparation.collect import split_of
from avgen.preparation.outcome import Dropped
from avgen.preparation.people import Person
from avgen.preparation.settings import Limits, Settings

FPS, RATE = Fraction(25), 24_000


def pictures(*seeds: int, length: int = 30) -> np.ndarray:
    """Frames uint8 [T, 72, 96, 3]: one picture for each seed, `length` times, with some noise."""
    shots = []
    for seed in seeds:
        draw = np.random.default_rng(seed)
        blocks = draw.integers(0, 256, (6, 8, 3)).repeat(12, 0).repeat(12, 1)
        shots.append(np.clip(blocks + draw.normal(0, 2, (length, 72, 96, 3)), 0, 255))
    return np.concatenate(shots).astype(np.uint8)


def test_scenes_end_where_the_picture_changes():
    assert scenes.cut(pictures(1, 2, 3)) == [(0, 30), (30, 60), (60, 90)]


def test_a_flash_is_no_cut():
    frames = pictures(1, length=60)
    frames[20:22], frames[40] = 255, 0
    assert scenes.cut(frames) == [(0, 60)]


@given(
    length_s=st.floats(2, 120),
    marks=st.lists(st.floats(0, 120), max_size=40),
)
def test_spans_tile_and_keep_their_lengths(length_s, marks):
    marks = sorted(mark for mark in marks if mark < length_s)
    speech = list(zip(marks[::2], marks[1::2], strict=False))
    found = spans.cut(1.0, 1.0 + length_s, [(a + 1, b + 1) for a, b in speech], 2, 10)
    assert found[0][0] == 1.0 and found[-1][1] == 1.0 + length_s
    assert all(before[1] == after[0] for before, after in zip(found, found[1:], strict=False))
    assert all(2 - 1e-9 <= end - start <= 10 + 1e-9 for start, end in found)


def test_spans_are_cut_in_the_last_pause_that_fits():
    speech = [(0.0, 3.0), (4.0, 8.0), (9.0, 14.0)]
    assert spans.cut(0, 14, speech, 2, 10) == [(0, 8.5), (8.5, 14)]


def boxes_around(centres: np.ndarray, side: float) -> np.ndarray:
    return np.concatenate([centres - side / 2, np.full_like(centres, side)], 1)


def test_a_steady_head_has_one_window_however_its_box_trembles():
    draw = np.random.default_rng(0)
    boxes = boxes_around(np.array([180.0, 150.0]) + draw.normal(0, 4, (75, 2)), 140)
    window = crop.path(boxes, (288, 360), (128, 128), 25, 2)
    assert (window == window[0]).all() and (window == np.round(window)).all()
    assert window[0, 2] == window[0, 3] == 189
    left, top, width, height = window[0]
    assert left >= 0 and top >= 0 and left + width <= 360 and top + height <= 288


def test_a_window_follows_a_head_without_trembling():
    draw = np.random.default_rng(0)
    walk = np.stack([np.linspace(150, 450, 100), np.full(100, 180.0)], 1)
    window = crop.path(
        boxes_around(walk + draw.normal(0, 4, (100, 2)), 120), (360, 640), (128, 128), 25, 2
    )
    middles = window[:, :2] + window[:, 2:] / 2
    inner = slice(20, -20)
    assert np.abs(middles[inner, 0] - walk[inner, 0]).max() < 6
    assert np.abs(np.diff(middles, 2, axis=0)).max() < 0.3  # pixels a frame, a frame
    frames = np.zeros((100, 360, 640, 3), np.uint8)
    for frame, (x, y) in zip(frames, walk.astype(int), strict=True):
        frame[y - 4 : y + 4, x - 4 : x + 4] = 255
    seen = crop.cut(frames, window, (128, 128))[..., 0].argmax(2).max(1)[inner]
    assert np.ptp(seen) <= 8


def test_a_window_has_the_shape_that_is_wanted_and_a_small_face_is_refused():
    boxes = boxes_around(np.full((5, 2), 200.0), 100)
    window = crop.path(boxes, (400, 400), (256, 128), 25, 2)
    assert window[0, 2:].tolist() == [135, 270]
    with pytest.raises(Dropped, match="enlarged"):
        crop.path(boxes, (400, 400), (512, 512), 25, 2)


@pytest.mark.parametrize("early_s", [0.0, 0.2, -0.2, 0.48, -0.0137])
def test_sound_is_moved_by_as_much_as_it_was_early(early_s):
    length = num_samples(75, FPS, RATE)
    picture_s = np.array([0.6, 1.4, 2.2])
    waveform = np.zeros((1, length), np.float32)
    waveform[0, np.round((picture_s - early_s) * RATE).astype(int)] = 1
    (first, last), sound = speaker.moved(waveform, RATE, (0, 75), FPS, early_s)
    heard_s = np.flatnonzero(sound[0]) / RATE + first / 25
    assert np.abs(heard_s - picture_s).max() <= 1.5 / RATE
    assert sound.shape[1] == num_samples(last - first, FPS, RATE)
    assert last - first == 75 - int(np.ceil(abs(early_s) * 25))


def test_a_lead_is_over_lags_that_are_not_near():
    curve = np.full(31, 0.1)
    curve[9:14] = [0.3, 0.5, 0.6, 0.5, 0.3]
    assert speaker.lead(curve) == pytest.approx(0.5)


def test_pictures_that_are_blurred_or_dark_are_refused():
    import cv2

    limits = Limits(min_contrast=1)
    draw = np.random.default_rng(0)
    blocks = draw.integers(60, 200, (5, 4, 4, 3)).repeat(30, 1).repeat(30, 2)
    sharp = np.clip(blocks + draw.normal(0, 8, blocks.shape), 0, 255).astype(np.uint8)
    boxes = np.tile([10.0, 10.0, 90.0, 90.0], (5, 1))
    assert quality.picture(sharp, boxes, limits)["sharpness"] > 0.02
    soft = np.stack([cv2.GaussianBlur(frame, (0, 0), 8) for frame in sharp])
    with pytest.raises(Dropped, match="sharpness"):
        quality.picture(soft, boxes, Limits(min_contrast=0))
    with pytest.raises(Dropped, match="luma"):
        quality.picture(sharp // 10, boxes, limits)
    with pytest.raises(Dropped, match="wide"):
        quality.picture(sharp, boxes / 3, limits)


def test_sound_that_is_quiet_noisy_or_clipped_is_refused():
    time = np.arange(3 * RATE) / RATE
    spoken = (time > 1) & (time < 2)
    tone = (0.2 * np.sin(2 * np.pi * 440 * time) * spoken)[None].astype(np.float32)
    found = quality.sound(tone + 0.002, RATE, [(1.0, 2.0)], Limits())
    assert found["level_db"] == pytest.approx(-17, abs=0.1)
    assert found["snr_db"] == pytest.approx(-17 + 54, abs=0.2)
    noise = np.random.default_rng(0).normal(0, 0.2, tone.shape).astype(np.float32)
    for waveform, reason in ((tone * 0.01, "at -57 dB"), (tone + noise, "over"), (9 * tone, "%")):
        with pytest.raises(Dropped, match=reason):
            quality.sound(np.clip(waveform, -1, 1), RATE, [(1.0, 2.0)], Limits())
    with pytest.raises(Dropped, match="no speech"):
        quality.sound(tone, RATE, [(1.0, 1.2)], Limits())


def test_words_are_of_the_clip_where_half_of_them_is():
    said = (Word("a", 0.0, 1.0), Word("b", 1.2, 2.0), Word("c", 2.9, 4.0))
    assert words.place(said, 0.5, 3.0) == (Word("a", 0.0, 0.5), Word("b", 0.7, 1.5))


def test_a_plugin_is_named_by_its_path():
    assert load_plugin("math.sqrt")(9) == 3
    for path in ("math.no_such_thing", "no_such_module.f", "f", "math.pi"):
        with pytest.raises(ValueError, match="plug-in"):
            load_plugin(path)


def test_splits_are_by_speaker_or_by_clip_and_stable(record):
    clips = [record(f"{i}.mp4", speaker=f"s{i % 40}") for i in range(400)]
    by_speaker = {clip.id: split_of(clip, "speaker") for clip in clips}
    assert all(by_speaker[clip.id] == by_speaker[str(int(clip.id) % 40)] for clip in clips)
    by_clip = [split_of(clip, "clip") for clip in clips]
    assert 20 <= by_clip.count("test") <= 60 and by_clip.count("train") > 300
    assert {split_of(clip, "corpus") for clip in clips} == {"train"}


def test_only_the_face_that_the_corpus_annotates_counts(record):
    left, right = (Person(0, boxes_around(np.full((9, 2), at), 40)) for at in (60.0, 200.0))
    where = record("a.mp4", region=(0.5, 0.5, 0.5, 0.5))
    assert people.annotated([left, right], where, (240, 320)) == [right]
    assert people.annotated([left, right], record("a.mp4"), (240, 320)) == [left, right]
    with pytest.raises(Dropped, match="annotates"):
        people.annotated([left], where, (240, 320))


def test_settings_refuse_what_makes_no_clip():
    for wrong in (
        {"size": (8, 128)},
        {"fps": Fraction(0)},
        {"limits": Limits(min_s=5, max_s=4)},
        {"stages": "some"},
        {"fps": None},
        {"size": None},
        {"keep_silent": True},
    ):
        with pytest.raises(ValueError):
            Settings(**wrong)
