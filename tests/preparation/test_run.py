"""Corpora to prepared folders: engines, shares, runs that are killed, damage, opt-outs."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avgen.cli import main
from avgen.clips import Clip, write_clip
from avgen.clips.timed_words import Word
from avgen.corpora.consent import OptOut
from avgen.corpora.manifest import Problem, read_manifest
from avgen.errors import UserError
from avgen.preparation import engines
from avgen.preparation.outcome import read_outcome
from avgen.preparation.run import Request, prepare
from avgen.preparation.settings import Settings
from avgen.preparation.store import Store

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


def lost(job: int, reason: str) -> str:
    assert "ended" in reason
    return f"lost {job}"


def test_every_engine_does_every_job_and_the_pool_survives_what_ends_a_process():
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


@pytest.fixture
def junk(tmp_path) -> Path:
    """Forty files that are no films, for runs whose records are done at once."""
    root = tmp_path / "junk"
    root.mkdir()
    for index in range(40):
        (root / f"{index}.mp4").write_text("no film")
    return root


def outcomes(out: Path) -> set[str]:
    return {path.stem for path in (out / "outcomes").iterdir()}


def test_a_slurm_array_with_holes_does_its_shares_again(junk, tmp_path, capsys, monkeypatch):
    arguments = ["prepare", "folder", str(junk), "--engine", "process"]
    shares = []
    for task in range(4):
        out = tmp_path / f"share{task}"
        assert main([*arguments, str(out), "--num-shards", "4", "--shard", str(task)]) == 0
        shares.append(outcomes(out))
    assert len(set.union(*shares)) == sum(map(len, shares)) == 40 and all(shares)
    holes = {"MIN": "1", "MAX": "3", "COUNT": "2"}
    for name, value in holes.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    for task in (1, 3):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        out = tmp_path / f"again{task}"
        assert main([*arguments, str(out)]) == 2
        assert "2 tasks from 1 to 3; with holes" in capsys.readouterr().err
        assert not out.exists()
        assert main([*arguments, str(out), "--num-shards", "4"]) == 0
        assert outcomes(out) == shares[task]
        assert "this share is done" in capsys.readouterr().out
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "3")
    shifted = tmp_path / "shifted"
    assert main([*arguments, str(shifted)]) == 0  # 3, of 1 to 3, is the last share of three
    assert main([*arguments, str(tmp_path / "whole"), "--num-shards", "3", "--shard", "2"]) == 0
    assert outcomes(shifted) == outcomes(tmp_path / "whole")


def test_one_task_completes_a_folder_at_a_time_and_twice_is_as_once(junk, tmp_path):
    out = tmp_path / "out"
    assert main(["prepare", "folder", str(junk), str(out), "--engine", "process"]) == 0
    before, marker = tree(out), tmp_path / "marker"
    child = os.fork()
    if not child:
        with (store := Store(out)).locked():
            store.num_channels()  # reads the file that is locked
            (tmp_path / "locked").touch()
            time.sleep(0.5)
            marker.touch()
        os._exit(0)
    while not (tmp_path / "locked").exists():
        time.sleep(0.01)
    assert main(["prepare", "folder", str(junk), str(out), "--engine", "process"]) == 0
    assert marker.exists()
    os.waitpid(child, 0)
    assert tree(out) == before


def test_our_errors_keep_their_traceback_and_are_tried_again(record, tmp_path, capsys):
    write_clip(Clip(np.zeros((5, 64, 64, 3), np.uint8), Fraction(25)), tmp_path / "a.mp4")
    wrong = ["--stages", "none", "--keep-silent", "--captioner", "operator.truediv"]
    arguments = ["prepare", "folder", str(tmp_path), str(tmp_path / "out"), *wrong]
    for _ in range(2):
        assert main([*arguments, "--engine", "process"]) == 1
        assert "1 failed by an error of avgen's" in capsys.readouterr().out
    (path,) = (tmp_path / "out/outcomes").iterdir()
    (drop,) = read_outcome(path).dropped
    assert drop.reason == "failed" and drop.detail.startswith("TypeError: unsupported operand")
    assert "Traceback" in drop.traceback and "call_plugin" in drop.traceback
    assert "call_plugin" in (tmp_path / "out/report.html").read_text()
    done = []
    request = Request(
        "folder",
        tmp_path,
        tmp_path / "out",
        Settings(stages="none", keep_silent=True, captioner="operator.truediv"),
    )
    prepare(request, [record("a.mp4", id=path.stem)], None, lambda *numbers: done.append(numbers))
    assert done == [(0, 1), (1, 1)]  # it is tried again


def refuse(frames, record) -> str:
    raise UserError("no such face")


def test_what_a_plugin_refuses_is_no_error_of_ours(record, tmp_path):
    write_clip(Clip(np.zeros((5, 64, 64, 3), np.uint8), Fraction(25)), tmp_path / "a.mp4")
    settings = Settings(stages="none", keep_silent=True, captioner=f"{__name__}.refuse")
    summary = prepare(Request("test", tmp_path, tmp_path / "out", settings), [record("a.mp4")])
    assert summary.reasons == {"plug-in": 1} and not summary.failed


@pytest.mark.slow
def test_ray_uses_the_cluster_that_is_there_and_loses_one_job(monkeypatch):
    pytest.importorskip("ray", reason="pip install 'avgen[ray]'")
    ray = [sys.executable, "-m", "ray.scripts.scripts"]  # the command need not be on the path
    start = [*ray, "start", "--head", "--port=6391", "--num-cpus=2", "--include-dashboard=false"]
    ours = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ours["RAY_AUTH_MODE"] = "disabled"  # newer Ray asks for a token that a given address has not
    subprocess.run(start, check=True, env=os.environ | ours, stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6391")
        jobs = [*range(1, 40), -1]
        found = sorted(engines.run("ray", echo, jobs, 7, lost))
        assert found == sorted(["lost -1", *map(str, range(1, 40))])
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
        with pytest.raises(UserError, match="RAY_ADDRESS"):
            list(engines.run("ray", echo, [1], 1, lost))
    finally:
        subprocess.run([*ray, "stop"], check=True, stdout=subprocess.DEVNULL)


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
    pytest.importorskip("ray", reason="pip install 'avgen[ray]'")
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
    for kept in read_manifest(tmp_path / "manifest.jsonl"):
        Store(tmp_path).remove_media(kept.id)
    before = tree(tmp_path)
    assert prepare(request, items, out, quiet).clips == 1
    assert tree(tmp_path) == before
