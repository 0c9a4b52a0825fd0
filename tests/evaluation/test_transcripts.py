"""What is said in a clip: from a file, from what avgen writes beside and into its own clips."""

import json
from fractions import Fraction

import numpy as np
import pytest

from avgen.clips import Clip, Word, write_clip
from avgen.evaluation.report.differences import compare
from avgen.evaluation.rows import read_rows
from avgen.evaluation.run.runner import Request, evaluate
from avgen.evaluation.speech.transcripts import (
    Transcript,
    read_transcripts,
    spoken_words,
    transcript_of,
)
from avgen.provenance.sidecar import tags, write_sidecar

RATE = 16_000
HERE = f"{__name__}"


class Parrot:
    """Hears "one" in a sound that is louder than 0.5, else "two three"."""

    PROTOCOL = "wer@parrot/1"

    def __call__(self, waveform, sample_rate):
        assert sample_rate == RATE and waveform.shape[0] == 1
        return ["one"] if np.abs(waveform).max() > 0.5 else ["two", "three"]


def parrot(waveform, sample_rate):
    return ["One!"]


def clip(loudness: float) -> Clip:
    frames = np.zeros((10, 16, 16, 3), np.uint8)
    noise = np.random.default_rng(int(10 * loudness)).uniform(-loudness, loudness, (1, 6400))
    return Clip(frames, Fraction(25), noise.astype(np.float32), RATE)


def test_words_are_compared_without_case_and_punctuation():
    assert spoken_words("Don\u2019t stop, 9 - NOW!") == ["don't", "stop", "9", "now"]
    assert spoken_words(" ... ") == []


def test_a_file_is_jsonl_a_manifest_or_a_csv(tmp_path):
    lines = tmp_path / "said.jsonl"
    lines.write_text(
        '{"id": "a", "text": "bin blue"}\n\n'
        '{"id": "b", "words": [{"text": "lay"}, {"text": "red"}]}\n{"id": 3, "words": ["set"]}\n'
    )
    found = read_transcripts(lines)
    assert {name: said.text for name, said in found.items()} == {
        "a": "bin blue",
        "b": "lay red",
        "3": "set",
    }
    table = tmp_path / "said.csv"
    table.write_text('id,text\na,"bin, blue\nat f"\n')
    assert read_transcripts(table) == {"a": Transcript("bin, blue\nat f")}
    lines.write_text('{"id": "a", "text": "b", "phonemes": [["", 0, 0.1], ["B", 0.1, 0.2]]}\n')
    assert read_transcripts(lines)["a"].phonemes == (Word("B", 0.1, 0.2),)
    lines.write_text('{"id": "a", "text": "b", "phonemes": [["B", 0.1]]}\n')
    with pytest.raises(ValueError, match=r"said\.jsonl:1"):
        read_transcripts(lines)
    lines.write_text('{"id": "a", "text": "b"}\n{"id": "c"}\n')
    with pytest.raises(ValueError, match=r"said\.jsonl:2"):
        read_transcripts(lines)
    table.write_text("name,words\na,b\n")
    with pytest.raises(ValueError, match="id and text"):
        read_transcripts(table)
    with pytest.raises(ValueError, match="cannot be read"):
        read_transcripts(tmp_path / "nowhere.jsonl")


def test_a_transcript_is_found_by_place_name_sidecar_or_tag(tmp_path):
    path = tmp_path / "s1/a.mkv"
    path.parent.mkdir()
    parameters = {"prompt": 'a man says "lay red"', "speech": None}
    write_clip(clip(0.1), path, metadata=tags("made", parameters))
    for key in ("s1/a.mkv", "s1/a", "a"):
        assert transcript_of("s1/a.mkv", path, {key: Transcript("bin blue")}).text == "bin blue"
    assert transcript_of("s1/a.mkv", path, {}).text == "lay red"  # of its tags
    write_sidecar(path, "made", {"prompt": None, "words": [["set", 0, 1], ["green", 1, 2]]})
    assert transcript_of("s1/a.mkv", path, {}).text == "set green"
    write_sidecar(path, "made", {"speech": "place white"})
    assert transcript_of("s1/a.mkv", path, {}).text == "place white"
    write_sidecar(path, "made", {"prompt": ["another", "program's"]})
    assert transcript_of("s1/a.mkv", path, {}) == Transcript()
    write_clip(clip(0.1), tmp_path / "b.mkv")
    assert transcript_of("b.mkv", tmp_path / "b.mkv", {}) == Transcript()
    (tmp_path / "c.mp4").write_text("no video")
    assert transcript_of("c.mp4", tmp_path / "c.mp4", {}) == Transcript()


@pytest.fixture
def folder(tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    write_clip(clip(0.9), clips / "right.mkv", metadata=tags("made", {"speech": "one"}))
    write_clip(clip(0.1), clips / "wrong.mkv", metadata=tags("made", {"speech": "one two four"}))
    write_clip(clip(0.9), clips / "unknown.mkv")
    return clips


def test_error_rates_and_reasons_in_a_report(folder, tmp_path):
    report = tmp_path / "r"
    request = Request(folder, metrics=["wer"], recognizer=f"{HERE}.Parrot")
    summary = evaluate(request, report)["metrics"]["wer"]
    rows = {row["id"]: row["metrics"]["wer"] for row in read_rows(report)}
    assert rows["right.mkv"]["values"]["rate"] == 0
    assert rows["wrong.mkv"]["values"]["num_errors"] == 2  # "two three" for "one two four"
    assert 'heard "two three"' in rows["wrong.mkv"]["values"]["words"]
    assert "no transcript" in rows["unknown.mkv"]["reason"]
    assert summary["protocol"] == "wer@parrot/1"
    assert summary["values"]["rate"]["clips"]["mean"] == pytest.approx(1 / 3)  # of 0 and 2 of 3
    assert summary["rate_of_all_words"]["clips"] == pytest.approx(2 / 4)
    assert "errors over all words: clips 0.5" in (report / "summary.md").read_text()
    assert rows["wrong.mkv"]["controls"]["mismatched"]["status"] == "scored"


def test_reports_of_other_ears_are_not_compared(folder, tmp_path):
    said = tmp_path / "said.jsonl"
    said.write_text(
        "".join(json.dumps({"id": n, "text": "one"}) + "\n" for n in ("right", "unknown"))
    )
    request = Request(folder, metrics=["wer"], transcripts=said, recognizer=f"{HERE}.parrot")
    metric = evaluate(request, tmp_path / "other")["metrics"]["wer"]
    assert metric["protocol"] == f"wer@{HERE}.parrot" and metric["scored"] == 3
    evaluate(Request(folder, metrics=["wer"], recognizer=f"{HERE}.Parrot"), tmp_path / "one")
    with pytest.raises(ValueError, match="unlike protocols"):
        compare(tmp_path / "one", tmp_path / "other")
    said.write_text(
        ""
    )  # the run goes on with the transcripts that it was begun with, or not at all
    with pytest.raises(ValueError, match="request"):
        evaluate(request, tmp_path / "other")
    evaluate(Request(folder, metrics=["media", "wer"]), tmp_path / "deaf")
    (row, *_) = read_rows(tmp_path / "deaf")
    assert (
        row["metrics"]["wer"]["reason"] == "skipped: no recogniser given (--recognizer IMPORT.PATH)"
    )
