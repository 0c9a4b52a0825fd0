"""Written English to words and phonemes."""

import pytest

from avgen.models.english import pronounce, read, words_of
from avgen.models.phonemes import PHONEMES

GRID = {"z": ["Z", "EH", "D"], "a": ["EY"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Place RED, at g9 now!", "place red at g9 now"),
        ("42", "forty two"),
        ("place 25 red", "place twenty five red"),
        ("don\u2019t re-do", "don't re-do"),
        ("don\u02bct don\u00b4t don't don`t", "don't don't don't don't"),
        ("[red] \u2014 'place' \u2018now\u2019", "place now"),
        ("[laughs] place red (softly) now <sighs>", "place red now"),
        ("players' 'em", "players' 'em"),
        ("\u201cplace red\u201d \u201estop\u201c \u00abnow\u00bb", "place red stop now"),
        ("wait\u2014what wait\u2013what wait -- what", "wait what wait what wait what"),
        ("well...maybe yes,no and/or", "well maybe yes no and or"),
        ("Dr. Smith met Mrs. Jones", "doctor smith met missus jones"),
        ("it costs $3.50", "it costs three dollars and fifty cents"),
        ("1,200 people, 50% off", "one thousand two hundred people fifty percent off"),
        ("rock & roll, #1 fan", "rock and roll number one fan"),
        ("the 2nd of May 2024", "the second of may twenty twenty four"),
        ("-5\u00b0C and 3.5", "minus five degrees celsius and three point five"),
        ("in 1999 at 3:30 pm", "in nineteen ninety nine at three thirty p.m."),
        ("10kg, \u00bd cup", "ten kilograms one half cup"),
        ("place\u00a0red\tnow\nsoon", "place red now soon"),
        ("stra\u00dfe, \u0141\u00f3d\u017a", "strasse l\u00f3d\u017a"),
        ("I \u2764 you", "i you"),
        ("it is \u22125 \u00b0C", "it is minus five degrees celsius"),
        ("3\u00bd cups", "three and one half cups"),
        ("10\u00b2 is \u00b15 \u00d7 4", "ten squared is plus or minus five times four"),
        ("60 km/h w/o me", "sixty kilometers per hour without me"),
        ("3.50 \u20ac, 50\u00a3", "three euros and fifty cents fifty pounds"),
        ("20\u201330% of Windows\u2122", "twenty to thirty percent of windows"),
        ("5 \u00b5g in a com\u00adputer", "five micrograms in a computer"),
        ("if 5 < 10 and 20 > 10", "if five less than ten and twenty greater than ten"),
    ],
)
def test_what_is_written_is_said(text, said):
    assert " ".join(words_of(text)) == said


@pytest.mark.parametrize(
    ("text", "phonemes"),
    [
        ("red", "R EH1 D"),
        ("water", "W AO1 T ER0"),
        ("NASA", "N AE1 S AH0"),
        ("FBI", "EH2 F B IY2 AY1"),
        ("a.m.", "EY2 EH1 M"),
        ("25", "T W EH1 N T IY0 F AY1 V"),
        ("isn\u2019t", "IH1 Z AH0 N T"),
        ("measure", "M EH1 ZH ER0"),
        ("singing", "S IH1 NG IH0 NG"),
        ("boy", "B OY1"),
        ("out", "AW1 T"),
        ("church judge", "CH ER1 CH JH AH1 JH"),
        ("good shoes", "G UH1 D SH UW1 Z"),
    ],
)
def test_phonemes_carry_their_stress(text, phonemes):
    assert " ".join(p for word in read(text) for p in word.phonemes) == phonemes


@pytest.mark.parametrize(
    ("text", "phonemes"),
    [
        ("7", "S EH1 V AH0 N"),
        ("15", "F IH2 F T IY1 N"),
        ("81", "EY1 T IY0 W AH1 N"),
        ("366", "TH R IY1 HH AH1 N D R AH0 D S IH1 K S T IY0 S IH1 K S"),
        ("2,048", "T UW1 TH AW1 Z AH0 N D F AO1 R T IY0 EY1 T"),
        ("1,000,000", "W AH1 N M IH1 L Y AH0 N"),
        ("3.14", "TH R IY1 P OY0 N T W AH1 N F AO1 R"),
        ("22nd", "T W EH1 N T IY0 S EH1 K AH0 N D"),
        ("1984", "N AY2 N T IY1 N EY1 T IY0 F AO1 R"),
        ("$9.99", "N AY1 N D AA1 L ER0 Z AE0 N D N AY1 N D IY0 N AY1 N S EH1 N T S"),
        ("7:45", "S EH1 V AH0 N F AO2 R T IY0 F AY1 V"),
        ("6 pm", "S IH1 K S P IY2 EH1 M"),
        ("30%", "TH ER1 T IY0 P ER0 S EH1 N T"),
        ("12kg", "T W EH1 L V K IH1 L AH0 G R AE2 M Z"),
        ("HDMI", "EY2 CH D IY2 EH2 M AY1"),
        ("Fatima", "F AH0 T IY1 M AH0"),
        ("Xavier", "Z EY1 V IY0 ER0"),
        ("Okonkwo", "AA1 K AO1 NG K W OW2"),
        ("Szymanski", "SH AY0 M AE1 N S K IY0"),
        ("Reykjavik", "R EY1 K Y AH0 V IH2 K"),
        ("Oppenheimer", "AA1 P AH0 N HH EY2 M ER0"),
        ("Ramirez", "R AE1 M AY0 ER0 Z"),
        ("Kowalski", "K AW0 AO1 L S K IY0"),
        ("Fitzgerald", "F IH1 T S JH ER0 R AH0 L D"),
        ("Yamamoto", "Y AE2 M AH0 M OW1 T OW0"),
        ("Nguyen", "AH0 NG AY1 AH0 N"),
        ("Siobhan", "S IH0 AA1 B HH AH0 N"),
        ("Tchaikovsky", "T IY1 CH EY0 K AA1 V S K IY0"),
        ("Giuseppe", "JH IH1 Y UW0 S EH2 P"),
        ("Zoe", "Z OW1 IY0"),
        ("blick", "B L IH1 K"),
        ("snorfle", "S N AO1 R F AH0 L"),
        ("vorpal", "V AO1 R P AH0 L"),
        ("quibblesnatch", "K W IH1 B AH0 L S N AE2 CH"),
        ("mimsy", "M IH1 M Z IY0"),
        ("glumpy", "G L AH1 M P IY0"),
        ("tarnwick", "T AA1 R N W IH0 K"),
        ("zebblo", "Z EH1 B L OW0"),
        ("droog", "D R UW1 G"),
        ("blorptastic", "B L AO0 R P T AE1 S T IH0 K"),
    ],
)
def test_forty_numbers_names_and_invented_words(text, phonemes):
    """Said as an American reads them who sees them for the first time: Siobhan has a b."""
    assert " ".join(p for word in read(text) for p in word.phonemes) == phonemes


def test_parts_of_speech_decide():
    words = {
        (w.text, w.phonemes)
        for text in ("I read it yesterday.", "I will read it.", "He lives there.", "two lives")
        for w in read(text)
    }
    assert {("read", ("R", "EH1", "D")), ("read", ("R", "IY1", "D"))} <= words
    assert {("lives", ("L", "IH1", "V", "Z")), ("lives", ("L", "AY1", "V", "Z"))} <= words


@pytest.mark.parametrize("word", ["xqzzt", "Zelenskyy", "Kubernetes", "blorptastic", "quinoa"])
def test_names_and_invented_words_are_said(word):
    (spoken,) = read(word)
    assert len(spoken.phonemes) >= 5
    assert set(spoken.phonemes) <= set(PHONEMES)


def test_pauses_follow_the_punctuation():
    words = read("Wait, what? Yes; no! I think (or so) \u2014 well\u2026")
    assert [(w.text, w.pause) for w in words] == [
        ("wait", ","), ("what", "."), ("yes", ","), ("no", "."), ("i", ""), ("think", ","),
        ("well", "."),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["red \u4f60\u597d", "\u043f\u0440\u0438", "\u05e9"])
def test_another_script_is_named(text):
    with pytest.raises(ValueError, match=r"cannot be pronounced.*Latin letter"):
        read(text)


@pytest.mark.parametrize("text", ["", " ... - ", "\U0001f600", "(softly)", "\u201c\u201d"])
def test_nothing_to_say_is_an_error(text):
    with pytest.raises(ValueError, match="no words to say"):
        read(text)


def test_a_lexicon_goes_first():
    assert pronounce(["Z", "a", "red"], GRID) == [
        ("Z", "EH", "D"), ("EY",), ("R", "EH1", "D"),
    ]  # fmt: skip
    assert [w.phonemes for w in read("red z", GRID)] == [("R", "EH1", "D"), ("Z", "EH", "D")]
    assert pronounce(["25"]) == [("T", "W", "EH1", "N", "T", "IY0", "F", "AY1", "V")]
