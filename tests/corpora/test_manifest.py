"""Records are the same after a manifest, and a line that is no record is named."""

import json
from dataclasses import replace

import pytest

from avgen.clips.timed_words import Word
from avgen.corpora.manifest import ClipRecord, read_manifest, write_manifest
from avgen.models.phonemes import TimedPhoneme


def record(name="a", box=(1, 2, 30, 30)):
    words = (Word("red", 0.1, 0.35), Word("n\u00f6", 0.35, 0.5))
    return ClipRecord(name, f"s1/{name}.mpg", "grid", "s1", "train", "a man", words, box, "free")


def test_records_come_back(tmp_path):
    records = [record("a"), record("b", box=None)]
    write_manifest(records, tmp_path / "manifest.jsonl")
    assert read_manifest(tmp_path / "manifest.jsonl") == records
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.jsonl"]
    write_manifest(records[:1], tmp_path / "manifest.jsonl")
    assert read_manifest(tmp_path / "manifest.jsonl") == records[:1]


def test_phonemes_and_tracks_come_back(tmp_path):
    phonemes = (TimedPhoneme("R", 0.1, 0.18), TimedPhoneme("EH", 0.18, 0.29))
    known = replace(record(), phonemes=phonemes, tracks={"expressions": "tracks/a.npy"})
    write_manifest([known, record("b")], tmp_path / "manifest.jsonl")
    first, second = read_manifest(tmp_path / "manifest.jsonl")
    assert first == known
    assert first.phonemes[1].end_s == 0.29 and first.tracks["expressions"] == "tracks/a.npy"
    assert second.phonemes is None and second.tracks == {}


def edited(tmp_path, **fields):
    path = tmp_path / "manifest.jsonl"
    write_manifest([record("a"), record("b")], path)
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{json.dumps({**json.loads(second), **fields})}\n")
    return path


@pytest.mark.parametrize(
    "fields", [{"colour": "red"}, {"words": [{"text": "a"}]}, {"words": 3}, {"box": 1}]
)
def test_a_wrong_line_is_named(tmp_path, fields):
    with pytest.raises(ValueError, match=r"manifest\.jsonl:2: is not a clip record"):
        read_manifest(edited(tmp_path, **fields))


def test_words_that_run_backwards_are_an_error(tmp_path):
    words = [{"text": "a", "start_s": 1.0, "end_s": 0.5}]
    with pytest.raises(ValueError, match=r"manifest\.jsonl:2: .*'a' from 1\.0"):
        read_manifest(edited(tmp_path, words=words))


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.jsonl: not found"):
        read_manifest(tmp_path / "none.jsonl")


def test_a_line_that_is_no_json_is_named(tmp_path):
    (tmp_path / "manifest.jsonl").write_text("{\n")
    with pytest.raises(ValueError, match=r"manifest\.jsonl:1: "):
        read_manifest(tmp_path / "manifest.jsonl")
