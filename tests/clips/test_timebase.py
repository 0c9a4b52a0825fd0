from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avgen.clips.timebase import (
    exact,
    frame_times,
    num_samples,
    parse_rate,
    to_index,
    to_seconds,
)

RATES = st.sampled_from(
    [Fraction(r) for r in (10, 15, 24, 25, 30, 60)]
    + [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(2250, 91)]
)
SAMPLE_RATES = st.sampled_from([8000, 16000, 22050, 24000, 44100, 48000])


def test_halves_round_up_on_both_sides_of_zero():
    assert [to_index(Fraction(n, 2), 1) for n in (-3, -1, 1, 3, 5)] == [-1, 0, 1, 2, 3]


def test_decimal_floats_are_what_they_were_meant_to_be():
    assert exact(0.04) == Fraction(1, 25)
    assert exact(1 / 30) == Fraction(1, 30)
    assert exact(2.98) == Fraction(149, 50)
    # 0.1 + 0.2 is not 0.3 in floats; on the grid it is.
    assert to_index(0.1 + 0.2, 10) == 3


@given(st.integers(-(10**6), 10**6), RATES)
def test_index_to_seconds_and_back(index, rate):
    assert to_index(to_seconds(index, rate), rate) == index
    assert to_index(float(to_seconds(index, rate)), rate) == index


@given(st.integers(0, 10**6), st.integers(0, 10**6), RATES, SAMPLE_RATES)
def test_stretches_of_sound_tile(first, length, fps, sample_rate):
    begin, end = (num_samples(n, fps, sample_rate) for n in (first, first + length))
    assert abs((end - begin) - num_samples(length, fps, sample_rate)) <= 1
    assert abs(Fraction(end, sample_rate) - (first + length) / fps) <= Fraction(1, 2 * sample_rate)


def test_samples_of_ntsc_frames():
    # 30 frames at 30000/1001 last 1.001 s: 44,144.1 and 48,048 samples.
    assert num_samples(30, Fraction(30000, 1001), 44_100) == 44_144
    assert num_samples(30, Fraction(30000, 1001), 48_000) == 48_048


def test_frame_times_start_at_the_requested_start():
    assert frame_times(0.5, 3, 25) == [Fraction(1, 2), Fraction(27, 50), Fraction(29, 50)]


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("25", Fraction(25)),
        (" 12.5 ", Fraction(25, 2)),
        ("29.97", Fraction(30000, 1001)),
        ("23.976", Fraction(24000, 1001)),
        ("30000/1001", Fraction(30000, 1001)),
    ],
)
def test_rates_as_people_write_them(text, rate):
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "0", "-25", "1/0", "nan"])
def test_rates_that_are_none(text):
    with pytest.raises(ValueError, match=r"rate '.*'; it must be"):
        parse_rate(text)


def test_times_must_be_finite():
    with pytest.raises(ValueError, match="finite"):
        to_index(float("inf"), 25)
