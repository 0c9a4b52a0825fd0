"""A folder of good and bad clips through `evaluate`: a row for each, whatever happens to it."""

import fcntl
import json
import shutil
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avgen.clips import Clip, write_clip
from avgen.evaluation.report.differences import compare
from avgen.evaluation.rows import read_rows
from avgen.evaluation.run.runner import Request, evaluate, partners_of

FPS, RATE, SIDE = Fraction(25), 16_000, 32
METRICS = ("media", "flash_click")  # no network, no face: the way of a row is what is tested


def flash_and_click(offset_s: float, at: tuple[float, ...], seconds: int = 4) -> Clip:
    """Flashes at these times, and clicks that come `offset_s` before them."""
    frames = np.full((seconds * 25, SIDE, SIDE, 3), 16, np.uint8)
    waveform = np.zeros((1, seconds * RATE), np.float32)
    click = 0.8 * np.cos(2 * np.pi * 1000 * np.arange(RATE // 100) / RATE)
    for second in at:
        frame = round(second * 25)
        frames[frame : frame + 3] = 235
        sample = round((frame / 25 - offset_s) * RATE)
        waveform[0, sample : sample + len(click)] = click
    return Clip(frames, FPS, waveform, RATE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three clips (one 80 ms off) in two folders, and four that cannot be scored."""
    folder = tmp_path_factory.mktemp("clips")
    for name, offset_s, at in (
        ("s1/a", 0.0, (0.8, 2.0, 3.1)),
        ("s1/b", 0.08, (1.1, 1.6, 2.9)),
        ("s2/c", 0.0, (0.7, 1.4, 2.7)),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        write_clip(flash_and_click(offset_s, at), folder / f"{name}.mkv")
    still = np.zeros((5, SIDE, SIDE, 3), np.uint8)
    write_clip(Clip(still, FPS), folder / "mute.mkv")
    write_clip(Clip(still[:1], FPS, np.zeros((1, 640), np.float32), RATE), folder / "one.mkv")
    whole = (folder / "s1/a.mkv").read_bytes()
    (folder / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    (folder / "text.mp4").write_text("no video")
    (folder / "notes.txt").write_text("not a clip")
    return folder


@pytest.fixture(scope="module")
def report(folder, tmp_path_factory) -> Path:
    report = tmp_path_factory.mktemp("reports") / "report"
    evaluate(Request(folder, metrics=METRICS), report)
    return report


def by_id(report: Path) -> dict[str, dict]:
    return {row["id"]: row for row in read_rows(report)}


def test_every_file_has_one_row_with_values_or_a_reason(report):
    rows = by_id(report)
    assert len(read_rows(report)) == len(rows) == 7
    scored = {name for name, row in rows.items() if row["status"] == "scored"}
    assert scored == {"s1/a.mkv", "s1/b.mkv", "s2/c.mkv"}
    assert "cut short" in rows["cut.mkv"]["reason"]
    assert "no media file" in rows["text.mp4"]["reason"]
    assert "no sound" in rows["mute.mkv"]["reason"]
    assert "never flashes" in rows["one.mkv"]["reason"]
    assert rows["mute.mkv"]["metrics"]["media"]["values"]["sample_rate"] is None


def test_offsets_and_controls_are_what_was_made(report):
    result = by_id(report)["s1/b.mkv"]["metrics"]["flash_click"]
    assert result["values"]["offset_ms"] == pytest.approx(80, abs=1)
    assert result["controls"]["delayed"]["values"]["offset_ms"] == pytest.approx(-120, abs=1)
    other = result["controls"]["mismatched"]
    assert other["status"] == "unscored" or other["values"]["num_pairs"] < 3


def test_the_summary_counts_and_says_how(report):
    summary = json.loads((report / "summary.json").read_text())
    counts = summary["coverage"]["clips"]
    assert (counts["found"], counts["scored"], counts["failed"]) == (7, 3, 4)
    assert sum(counts["reasons"].values()) == 4
    found = summary["metrics"]["flash_click"]["values"]["num_pairs"]
    assert found["clips"]["mean"] == 3
    assert found["delayed"]["mean"] == 3
    assert found["auc"] > 0.8
    assert summary["run"]["protocols"]["flash_click"] == "avgen-flash-click/1"
    assert {"av", "opencv", "torch"} <= summary["run"]["versions"].keys()


def test_a_stopped_run_goes_on_where_it_stopped(report, folder, tmp_path):
    """Cut the rows in the middle of a line, as a kill does: the rest is done, no row twice."""
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    (stopped / "run.json").write_bytes((report / "run.json").read_bytes())
    lines = (report / "clips.jsonl").read_bytes().splitlines(keepends=True)
    (stopped / "clips.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:40])
    done = []
    evaluate(
        Request(folder, metrics=METRICS), stopped, progress=lambda *counts: done.append(counts)
    )
    assert done == [(3, 7), (4, 7), (5, 7), (6, 7), (7, 7)]
    assert sorted(by_id(stopped)) == sorted(by_id(report))
    assert len(read_rows(stopped)) == 7
    assert read_rows(stopped)[:3] == read_rows(report)[:3]


def test_a_reader_leaves_the_file_to_its_writer(report, tmp_path):
    """`avgen compare`, or a page, while a run writes: half a row is not read and not cut off."""
    running = tmp_path / "running"
    running.mkdir()
    (running / "run.json").write_bytes((report / "run.json").read_bytes())
    whole = (report / "clips.jsonl").read_bytes()
    written = whole[: whole.index(b"\n") + 41]
    (running / "clips.jsonl").write_bytes(written)
    assert len(read_rows(running)) == 1
    compare(report, running)
    assert (running / "clips.jsonl").read_bytes() == written


def test_two_runs_do_not_write_one_report(report, folder):
    with (report / "clips.jsonl").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another run writes this report"):
            evaluate(Request(folder, metrics=METRICS), report)


def test_every_clip_is_mismatched_with_the_next_that_has_sound(tmp_path):
    """A shuffled round of 5,000 files, every third without sound, in time that grows with it."""
    loud, mute = (tmp_path / f"{name}.mkv" for name in ("loud", "mute"))
    write_clip(flash_and_click(0.0, (0.2,), seconds=1), loud)
    write_clip(Clip(np.zeros((5, SIDE, SIDE, 3), np.uint8), FPS), mute)
    clips = {f"{n:04d}.mkv": mute if n % 3 == 0 else loud for n in range(5000)}
    sounds = {str(loud): True, str(mute): False}
    start = time.perf_counter()
    partners = partners_of(clips, 3, lambda path: sounds[str(path)])
    assert time.perf_counter() - start < 1
    assert partners.keys() == clips.keys()
    heard = [name for name in clips if clips[name] == loud]
    own = [name for name in heard if partners[name] == name]
    assert not own
    assert sorted(partners[name] for name in heard) == heard  # a round: each is another's once
    assert {clips[other] for other in partners.values()} == {loud}
    assert partners_of({"a": loud, "b": mute}, 0) == {"a": None, "b": "a"}
    assert partners_of({"b": mute}, 0) == {"b": None}


def test_with_speakers_by_folder_another_one_is_taken_where_there_is_one():
    clips = {f"{name}/{i}.mkv": Path("x") for name in ("s1", "s2", "s3") for i in range(5)}
    partners = partners_of(clips, 7, lambda path: True, by_folder=True)
    assert all(Path(name).parent != Path(other).parent for name, other in partners.items())
    alone = partners_of({n: p for n, p in clips.items() if n < "s2"}, 7, lambda path: True, True)
    assert all(name != other for name, other in alone.items())


def test_clips_that_changed_are_measured_anew_and_those_that_are_gone_leave(folder, tmp_path):
    clips, report = tmp_path / "clips", tmp_path / "report"
    clips.mkdir()
    for name in ("a", "b"):
        shutil.copy2(folder / f"s1/{name}.mkv", clips)
    evaluate(Request(clips, metrics=METRICS), report)
    before = by_id(report)
    write_clip(flash_and_click(0.16, (0.8, 2.0, 3.1)), clips / "a.mkv", overwrite=True)
    done = []
    evaluate(Request(clips, metrics=METRICS), report, progress=lambda *c: done.append(c))
    after = by_id(report)
    assert done[0] == (0, 2)  # a's sound is b's control
    assert len(read_rows(report)) == 2
    moved = [
        row["a.mkv"]["metrics"]["flash_click"]["values"]["offset_ms"] for row in (before, after)
    ]
    assert moved == pytest.approx([0, 160], abs=2)
    (clips / "a.mkv").unlink()
    evaluate(Request(clips, metrics=METRICS), report)
    assert [row["id"] for row in read_rows(report)] == ["b.mkv"]


def test_a_folder_of_another_run_is_refused(report, folder, tmp_path):
    with pytest.raises(ValueError, match="seed"):
        evaluate(Request(folder, metrics=METRICS, seed=1), report)
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="no report"):
        evaluate(Request(folder, metrics=METRICS), tmp_path)


def test_what_cannot_be_asked_for_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match="mouths"):
        evaluate(Request(folder, metrics=["mouths"]), tmp_path / "r")
    with pytest.raises(ValueError, match="resnet"):
        evaluate(Request(folder, weights={"resnet": folder}), tmp_path / "r")
    with pytest.raises(ValueError, match="not a TorchScript file"):
        evaluate(Request(folder, weights={"i3d": folder / "notes.txt"}), tmp_path / "r")
    with pytest.raises(
        ValueError, match=r"avgen\.nowhere\.Ears: no such plug-in .*a recognizer is"
    ):
        evaluate(Request(folder, recognizer="avgen.nowhere.Ears"), tmp_path / "r")
    with pytest.raises(ValueError, match="no such file"):
        evaluate(Request(folder / "nowhere"), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_missing_weights_are_a_row_that_says_skipped(folder, tmp_path):
    clip = folder / "s1/a.mkv"
    evaluate(Request(clip, metrics=["media", "flash_click", "mouth"]), tmp_path / "r")
    (row,) = read_rows(tmp_path / "r")
    assert row["status"] == "scored"
    assert row["metrics"]["mouth"]["status"] == "skipped"
    assert "face_landmarker" in row["metrics"]["mouth"]["reason"]
    control = row["metrics"]["flash_click"]["controls"]["mismatched"]
    assert control["reason"] == "there is no other clip with sound"


def test_references_are_measured_too_and_intervals_count_speakers(folder, tmp_path):
    request = Request(folder / "s1", folder / "s1", METRICS, speakers_by_folder=True)
    summary = evaluate(request, tmp_path / "r")
    assert summary["coverage"]["reference"]["scored"] == 2
    found = summary["metrics"]["flash_click"]["values"]["num_pairs"]
    assert found["real"] == "reference"
    assert found["skill"]["clips"] == 1
    assert found["clips"]["interval"] == [None, None]  # of one speaker nobody knows the spread
    rows = [row for row in read_rows(tmp_path / "r") if row["set"] == "clips"]
    assert all(Path(row["reference"]).name == Path(row["path"]).name for row in rows)


@pytest.mark.slow
def test_several_processes_give_the_same_rows(report, folder, tmp_path):
    evaluate(Request(folder, metrics=METRICS), tmp_path / "r", workers=2)
    one, other = by_id(report), by_id(tmp_path / "r")
    for row in (*one.values(), *other.values()):
        del row["took_s"]
    assert one == other


def test_the_page_loads_nothing_and_plays_the_clips(report):
    page = (report / "report.html").read_text()
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "<svg" in page
    assert "cut short" in page


def test_reports_are_compared_clip_by_clip(report, folder, tmp_path):
    (tmp_path / "late/s1").mkdir(parents=True)
    for name, at in (("s1/a", (0.8, 2.0, 3.1)), ("s1/b", (1.1, 1.6, 2.9))):
        write_clip(flash_and_click(-0.1, at), tmp_path / f"late/{name}.mkv")
    evaluate(Request(tmp_path / "late", metrics=METRICS), tmp_path / "r")
    found = compare(report, tmp_path / "r")
    assert found["pairs"] == 2
    assert "s2/c" in found["only_in_first"]
    offset = found["metrics"]["flash_click"]["offset_ms"]
    assert offset["n"] == 2
    assert offset["difference"] == pytest.approx(-140, abs=1)  # -100 each, from 0 and 80
    evaluate(Request(tmp_path / "late", metrics=["media"]), tmp_path / "other")
    with pytest.raises(ValueError, match="protocols"):
        compare(report, tmp_path / "other")
    with pytest.raises(ValueError, match="is not a report"):
        compare(report, folder)


def test_the_probe_counts_only_by_itself(folder, tmp_path):
    """With a metric that no clip can have, what was probed is not scored; alone it is."""
    for metrics, status in ((["media"], "scored"), (["media", "wer"], "failed")):
        evaluate(Request(folder, metrics=metrics), tmp_path / status)
        rows = by_id(tmp_path / status)
        assert rows["s1/a.mkv"]["status"] == rows["mute.mkv"]["status"] == status
        assert rows["text.mp4"]["status"] == "failed"
