"""Speakers keep their split; who opted out is out, and the counts say why."""

from collections import Counter
from dataclasses import replace

import pytest

from avgen.corpora.consent import OptOut, apply_opt_out, licence_summary, read_opt_out
from avgen.corpora.manifest import ClipRecord
from avgen.corpora.splits import split_by_speaker


def record(id="a", speaker="ann", source="https://x/1", corpus="mine", **values):
    given = ClipRecord(id, f"{id}.mp4", corpus, speaker, "train", "a person", (), None, "free")
    return replace(given, source=source, **values)


def test_a_speaker_stays_in_a_split():
    """Pinned: a speaker who moves from training to testing would spoil every measurement."""
    pinned = {"Actor_04": "validation", "Actor_06": "test", "Actor_13": "test", "Actor_01": "train"}
    assert {name: split_by_speaker(name, "ravdess") for name in pinned} == pinned
    assert split_by_speaker("s1", "grid") != split_by_speaker("s1", "mead")


def test_shares_of_splits():
    counts = Counter(split_by_speaker(f"speaker {i}", "mine") for i in range(5000))
    assert counts["test"] == pytest.approx(500, rel=0.12)
    assert counts["validation"] == pytest.approx(250, rel=0.2)
    only = {split_by_speaker(f"speaker {i}", "mine", test=0.0) for i in range(500)}
    assert only == {"train", "validation"}


def test_a_list_as_text(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("# asked by mail\nann\nmine/ben # a speaker of one corpus\n\nhttps://x/7\nd\n")
    records = [
        record("a", "ann"),
        record("b", "ben"),
        record("c", "ben", corpus="other"),
        record("d", "dan"),
        record("e", "eve", source="https://x/7"),
        record("f", "fay", consent="withdrawn"),
        record("g", "gil", source=""),
    ]
    kept, counts = apply_opt_out(records, read_opt_out(path))
    assert [r.id for r in kept] == ["c", "g"]
    assert counts == {"consent": 1, "id": 1, "speaker": 2, "source": 1, "unmatched": 0}


def test_a_list_as_csv_names_the_kind(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("speaker,id,why\nann,,mail\n,zoe,mail\n")
    records = [record("ann", "zoe"), record("b", "ann")]
    kept, counts = apply_opt_out(records, read_opt_out(path))
    assert [r.id for r in kept] == ["ann"]  # an id that is a speaker's name
    assert counts["speaker"] == 1
    assert counts["unmatched"] == 1  # zoe is a speaker here, and was given as an id


def test_membership_is_what_a_preparation_asks():
    opt_out = OptOut(frozenset({("", "ann")}))
    assert record() in opt_out
    assert record(speaker="ben") not in opt_out
    assert record(speaker="ben", consent="withdrawn") in OptOut()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("out.txt", "# nobody\n", "names nobody"),
        ("out.csv", "name\nann\n", "one of .'id', 'speaker', 'source'. is wanted"),
        ("out.csv", "id\n", "names nobody"),
    ],
)
def test_a_list_that_protects_nobody_is_an_error(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_opt_out(tmp_path / name)
    with pytest.raises(ValueError, match=r"none\.txt: is missing"):
        read_opt_out(tmp_path / "none.txt")


def test_licences_are_summed_up():
    records = [record("a"), record("b", "ben", consent="given"), record("c", corpus="other")]
    table = licence_summary([*records, replace(record("d"), licence="")])
    assert table.splitlines()[2:] == [
        "| mine | free | 2 | 2 | 1 |",
        "| mine | not stated | 1 | 1 | 0 |",
        "| other | free | 1 | 1 | 0 |",
    ]
