"""Corpora to prepared folders: engines, shares, runs that are killed, damage, shards, opt-outs."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avgen.cli import main
from avgen.clips import Clip, read_clip, write_clip
from avgen.clips.clip import Word
from avgen.corpora.consent import OptOut
from avgen.corpora.manifest import Problem, read_manifest
from avgen.preparation import engines
from avgen.preparation.outcome import read_outcome
from avgen.preparation.run import Request, prepare, remove_frames

NAMES = ("bbir6n", "lbak3a", "pbbv9a", "srwo9a")


def quiet(done, total):
    pass


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def echo(job: int) -> str:
    if job < 0:
        os._exit(9)
    return str(job)


def test_every_engine_does_every_job_and_the_pool_survives_what_ends_a_process():
    lost = "lost {}".format
    assert list(engines.run("process", echo, [1, 2], 1, lost)) == ["1", "2"]
    assert sorted(engines.run("pool", echo, [1, -1, 2], 2, lost)) == ["1", "2", "lost -1"]


def test_what_is_damaged_is_reported_and_nothing_else(record, tmp_path):
    frames = np.zeros((60, 64, 64, 3), np.uint8)
    sound = np.random.default_rng(0).normal(0, 0.1, (1, 60 * 960)).astype(np.float32)
    write_clip(Clip(frames, Fraction(25), sound, 24_000), tmp_path / "black.mkv")
    whole = (tmp_path / "black.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "empty.mp4").write_bytes(b"")
    write_clip(Clip(frames, Fraction(25)), tmp_path / "mute.mp4")
    write_clip(Clip(frames[:20], Fraction(25), sound[:, :19200], 24_000), tmp_path / "short.mp4")
    silence = np.zeros_like(sound)
    write_clip(Clip(frames, Fraction(25), silence, 24_000), tmp_path / "silent.mkv")
    items = [record(p.name, id=p.stem) for p in sorted(tmp_path.iterdir())]
    items += [record("black.mkv", id="ends before its words", words=(Word("late", 3.0, 4.0),))]
    items += [record("black.mkv", id="ends before the corpus says", lasts_s=2.98)]
    items += [record("gone.mp4"), Problem("odd.mp4", "no alignment", "s1")]
    out = tmp_path / "out"
    summary = prepare(Request("test", tmp_path, out), items, OptOut(), quiet)
    assert summary is not None
    found = {p.stem: read_outcome(p).reason for p in (out / "outcomes").iterdir()}
    assert found.pop(items[-1].id) == "layout"
    assert found == {
        "black": "no face",
        "cut": "unreadable",
        "empty": "unreadable",
        "ends before its words": "unreadable",
        "ends before the corpus says": "unreadable",
        "gone": "unreadable",
        "mute": "no sound",
        "short": "too short",
        "silent": "no sound",
        "text": "unreadable",
    }
    assert (summary.records, summary.clips) == (11, 0)
    page = (out / "report.html").read_text()
    assert "unreadable: 6" in page and "is cut short or damaged" in page


def test_two_records_of_one_name_and_another_way_are_refused(record, tmp_path):
    request = Request("test", tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match="two records"):
        prepare(request, [record("a.mp4"), record("b.mp4", id="a")], OptOut(), quiet)
    prepare(request, [record("a.mp4")], OptOut(), quiet)
    other = Request("other", tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match="other corpus"):
        prepare(other, [record("a.mp4")], OptOut(), quiet)


def test_the_command_line_refuses_what_cannot_be_meant(tmp_path, capsys):
    out = str(tmp_path / "out")
    for wrong, rule in (
        (["no_such_corpus", str(tmp_path), out], "no_such_corpus"),
        (["folder", str(tmp_path), out], "videos"),
        (["folder", str(tmp_path), out, "--shard", "1"], "together"),
        (["folder", str(tmp_path), out, "--aligner", "math.pi"], "plug-in"),
    ):
        assert main(["prepare", *wrong]) == 2
        assert rule in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def corpus(grid, tmp_path_factory) -> Path:
    """Four real clips of GRID in its layout."""
    root = tmp_path_factory.mktemp("grid")
    for place in ("s1", "alignments/s1"):
        (root / place).mkdir(parents=True)
    for name in NAMES:
        (root / "s1" / f"{name}.mpg").symlink_to((grid / "s1" / f"{name}.mpg").resolve())
        path = root / "alignments" / "s1" / f"{name}.align"
        path.symlink_to((grid / "alignments" / "s1" / f"{name}.align").resolve())
    return root


@pytest.fixture(scope="module")
def prepared(corpus, tmp_path_factory) -> Path:
    """The same, prepared without disturbance."""
    out = tmp_path_factory.mktemp("prepared") / "out"
    assert main(["prepare", "grid", str(corpus), str(out), "--engine", "process"]) == 0
    return out


@pytest.mark.slow
def test_a_corpus_becomes_what_training_reads(corpus, prepared):
    from avgen.corpora.grid import read_alignment

    records = read_manifest(prepared / "manifest.jsonl")
    assert [record.id for record in records] == [f"s1_{name}" for name in NAMES]
    for record in records:
        frames = np.load(prepared / record.media)
        waveform = np.load(prepared / "waveforms" / f"{record.id}.npy")
        outcome = read_outcome(prepared / "outcomes" / f"{record.id}.json").kept[0]
        early_s = outcome.measures["corrected_ms"] / 1000
        start_s = outcome.origin.span[0] - early_s
        assert frames.shape[1:] == (128, 128, 3) and frames.dtype == np.uint8
        assert waveform.shape == (1, len(frames) * 960) and waveform.dtype == np.int16
        said = read_alignment(corpus / "alignments" / "s1" / f"{record.id[3:]}.align")
        assert [word.text for word in record.words] == [word.text for word in said]
        late_s = [a.start_s - b.start_s for a, b in zip(said, record.words, strict=True)]
        assert late_s == pytest.approx([start_s] * 6, abs=1e-3)
    assert json.loads((prepared / "rates.json").read_text()) == {"fps": "25", "sample_rate": 24000}
    assert json.loads((prepared / "lexicon.json").read_text())["z"] == ["Z", "EH", "D"]
    assert "free for research" in (prepared / "data_card.md").read_text()


@pytest.mark.slow
def test_shards_hold_the_same_pixels_and_samples(prepared, tmp_path):
    import pyarrow.parquet as pq

    seen = {}
    for shard in sorted((prepared / "shards").glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                seen[member.name] = tar.extractfile(member).read()
                assert member.mtime == 0
    records = read_manifest(prepared / "manifest.jsonl")
    assert set(seen) == {f"{r.id}.{suffix}" for r in records for suffix in ("mkv", "json")}
    for record in records:
        (tmp_path / "a.mkv").write_bytes(seen[f"{record.id}.mkv"])
        clip = read_clip(tmp_path / "a.mkv")
        assert np.array_equal(clip.frames, np.load(prepared / record.media))
        waveform = np.load(prepared / "waveforms" / f"{record.id}.npy")
        assert np.array_equal(np.round(clip.waveform * 32768), waveform)
        assert json.loads(seen[f"{record.id}.json"])["words"][0]["text"] == record.words[0].text
    table = pq.read_table(io.BytesIO((prepared / "manifest.parquet").read_bytes())).to_pylist()
    assert sorted(row["id"] for row in table) == [record.id for record in records]


@pytest.mark.slow
def test_killed_three_times_it_is_as_if_it_never_was(corpus, prepared, tmp_path):
    out = tmp_path / "out"
    arguments = ["prepare", "grid", str(corpus), str(out), "--engine", "process"]
    command = [sys.executable, "-m", "avgen.cli", *arguments]
    for goal in (1, 2, 3):
        run = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        while run.poll() is None and len(list((out / "outcomes").glob("*.json"))) < goal:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.4))
        os.killpg(run.pid, signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL, "killed too late: it was done"
    assert main(arguments) == 0
    assert tree(out) == tree(prepared)


@pytest.mark.slow
def test_shares_pool_and_one_process_give_the_same(corpus, prepared, tmp_path):
    out = tmp_path / "out"
    base = ["prepare", "grid", str(corpus), str(out), "--workers", "2"]
    assert main([*base, "--num-shards", "2", "--shard", "1"]) == 0
    assert not (out / "manifest.jsonl").exists()
    assert main([*base, "--num-shards", "2", "--shard", "0"]) == 0
    assert tree(out) == tree(prepared)


@pytest.mark.slow
def test_ray_gives_the_same(corpus, prepared, tmp_path):
    pytest.importorskip("ray.data", reason="pip install 'avgen[ray]'")
    out = tmp_path / "out"
    arguments = ["prepare", "grid", str(corpus), str(out), "--engine", "ray", "--workers", "2"]
    assert main(arguments) == 0
    assert tree(out) == tree(prepared)


@pytest.mark.slow
def test_who_opts_out_later_is_removed_and_frames_can_go(record, corpus, tmp_path):
    items = [record(f"s1/{name}.mpg", id=name, speaker=name) for name in NAMES[:2]]
    request = Request("test", corpus, tmp_path)
    assert prepare(request, items, OptOut(), quiet).clips == 2
    out = OptOut(frozenset({("speaker", NAMES[0])}))
    summary = prepare(request, items, out, quiet)
    assert (summary.clips, summary.reasons) == (1, {"opted out": 1})
    assert not [name for name in tree(tmp_path) if NAMES[0] in name and "outcomes" not in name]
    remove_frames(tmp_path, read_manifest(tmp_path / "manifest.jsonl"))
    before = tree(tmp_path)
    assert prepare(request, items, out, quiet).clips == 1
    assert tree(tmp_path) == before
