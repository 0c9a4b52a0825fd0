"""GRID's layout, names, alignments and splits, on a made-up corpus."""

from collections import Counter
from itertools import product

import pytest

from avgen.corpora import grid
from avgen.corpora.grid import (
    LEXICON,
    SLOTS,
    find_alignment,
    read_alignment,
    sentence,
    split_of,
)
from avgen.models.english import pronounce

ALIGNMENT = "0 5000 sil\n5000 9000 bin\n9000 12500 blue\n12500 13000 sp\n13000 25000 at\n"


def write_alignment(path, text=ALIGNMENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_name_spells_its_sentence():
    assert sentence("bbaf2n") == ("bin", "blue", "at", "f", "two", "now")
    assert sentence("swwzza"[:3] + "yzs") == ("set", "white", "with", "y", "zero", "soon")


@pytest.mark.parametrize("name", ["", "bbaf2", "bbaf2nn", "xbaf2n", "bbaw2n", "bbaf0n", "BBAF2N"])
def test_other_names_are_errors(name):
    with pytest.raises(ValueError, match="not the name of a GRID clip"):
        sentence(name)


def test_every_word_of_the_grammar_can_be_said():
    words = {word for slot in SLOTS for word in slot.values()}
    assert len(words) == 4 + 4 + 4 + 25 + 10 + 4
    assert all(pronounce(words, LEXICON))
    z, letter = pronounce(["z", "a"], LEXICON)
    assert z == ("Z", "EH", "D")  # British
    assert letter == ("EY",)  # a letter, not an article


def test_alignments_are_in_25000ths_of_a_second(tmp_path):
    write_alignment(tmp_path / "a.align")
    words = read_alignment(tmp_path / "a.align")
    assert [(w.text, w.start_s, w.end_s) for w in words] == [
        ("bin", 0.2, 0.36),
        ("blue", 0.36, 0.5),
        ("at", 0.52, 1.0),
    ]


@pytest.mark.parametrize("line", ["1 2", "a b c", "1 2 red now", "9000 8000 red", "1.5 2 red"])
def test_a_wrong_line_of_an_alignment_is_named(tmp_path, line):
    write_alignment(tmp_path / "a.align", f"0 5 sil\n{line}\n")
    with pytest.raises(ValueError, match=r"a\.align:2: "):
        read_alignment(tmp_path / "a.align")


def test_a_clip_ends_with_the_silence_after_its_words(tmp_path):
    (tmp_path / "s1").mkdir()
    (tmp_path / "s1" / "bbaf2n.mpg").write_bytes(b"whatever, since no media is read")
    lines = "0 5000 sil\n5000 9000 bin\n9000 74500 sil\n"
    write_alignment(tmp_path / "align" / "bbaf2n.align", lines)
    (record,) = grid.records(tmp_path)
    assert [word.text for word in record.words] == ["bin"]
    assert record.lasts_s == 2.98


@pytest.mark.parametrize("place", ["alignments/s1/bbaf2n.align", "align/bbaf2n.align"])
def test_both_layouts_of_alignments(tmp_path, place):
    write_alignment(tmp_path / place)
    assert find_alignment(tmp_path, "s1", "bbaf2n") == tmp_path / place
    with pytest.raises(ValueError, match=r"alignments.s1.bbaf3n\.align: not found"):
        find_alignment(tmp_path, "s1", "bbaf3n")


def test_the_split_is_stable():
    """Pinned: a sentence that moves from training to testing would spoil every measurement."""
    assert {name: split_of(name) for name in PINNED} == PINNED
    counts = Counter(split_of("".join(letters)) for letters in product(*SLOTS))
    total = sum(counts.values())
    assert total == 64000
    assert counts["test"] / total == pytest.approx(3 / 40, rel=0.05)
    assert counts["validation"] / total == pytest.approx(1 / 40, rel=0.05)


PINNED = {
    "bbaaza": "test",
    "bgafza": "test",
    "bgba1a": "test",
    "bbaf1n": "validation",
    "bgazza": "validation",
    "bbaazn": "train",
    "bbaa1a": "train",
}
