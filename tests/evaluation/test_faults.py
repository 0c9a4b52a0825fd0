"""What a run makes of avgen's own mistakes, of processes that die and of those that never end."""

import json
import os
import signal
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avgen.cli import main
from avgen.clips import Clip, write_clip
from avgen.evaluation.rows import read_rows
from avgen.evaluation.run.processes import AHEAD, in_processes

RATE = 16_000
HERE = __name__


class Broken:
    """A recogniser with a bug: numpy raises its ValueError, which is nobody's input."""

    PROTOCOL = "wer@broken/1"

    def __call__(self, waveform, sample_rate):
        np.zeros(3) + np.zeros(4)
        return []


class Deadly:
    """Ends its process, as a crash inside a C library does, where the sound is loud."""

    PROTOCOL = "wer@deadly/1"

    def __call__(self, waveform, sample_rate):
        if np.abs(waveform).max() > 0.5:
            os.kill(os.getpid(), signal.SIGKILL)
        return ["one"]


def write(folder: Path, **loudness: float) -> Path:
    folder.mkdir()
    for name, level in loudness.items():
        noise = np.random.default_rng(0).uniform(-level, level, (1, 6400)).astype(np.float32)
        clip = Clip(np.zeros((10, 16, 16, 3), np.uint8), Fraction(25), noise, RATE)
        write_clip(clip, folder / f"{name}.mkv")
    said = folder.parent / "said.csv"
    said.write_text("id,text\n" + "".join(f"{name},one\n" for name in loudness))
    return folder


def asked(folder: Path, ears: str, *more: str) -> list[str]:
    report = ["-o", str(folder.parent / "r"), "--metrics", "media", "wer"]
    said = ["--transcripts", str(folder.parent / "said.csv")]
    return ["evaluate", str(folder), *report, *said, "--recognizer", f"{HERE}.{ears}", *more]


def test_a_bug_is_a_failure_of_avgen_with_its_traceback_and_exit_code_1(tmp_path, capsys):
    folder = write(tmp_path / "in", a=0.1)
    assert main(asked(folder, "Broken", "--workers", "1")) == 1
    (row,) = read_rows(tmp_path / "r")
    result = row["metrics"]["wer"]
    assert result["status"] == "failed"
    assert result["reason"].startswith("ValueError: operands could not be broadcast")
    assert "in __call__" in result["traceback"]
    assert "failed on a.mkv: ValueError: operands" in capsys.readouterr().err
    summary = json.loads((tmp_path / "r/summary.json").read_text())
    assert [fault["metric"] for fault in summary["faults"]] == ["wer"]
    assert "in __call__" in (tmp_path / "r/report.html").read_text()


@pytest.mark.slow
def test_a_process_that_dies_loses_its_own_clip_and_names_it(tmp_path, capsys):
    folder = write(tmp_path / "in", quiet=0.1, soft=0.2, deadly=0.9, low=0.3)
    assert main(asked(folder, "Deadly", "--workers", "2")) == 1
    rows = {row["id"]: row for row in read_rows(tmp_path / "r")}
    assert {name for name, row in rows.items() if row["status"] == "scored"} == {
        "quiet.mkv",
        "soft.mkv",
        "low.mkv",
    }
    assert "ended, twice (exit code -9)" in rows["deadly.mkv"]["reason"]
    assert "failed on deadly.mkv" in capsys.readouterr().err


def fate(job: str) -> str:
    """A job that dies, one that never ends, and one that is done."""
    if job == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job == "hangs":
        time.sleep(600)
    return f"{job}: done"


@pytest.mark.slow
def test_jobs_that_die_or_never_end_are_lost_and_the_others_done():
    jobs = ["one", "dies", "two", "hangs", "three", "four"]
    lost = dict(
        line.split(": ", 1)
        for line in in_processes(fate, jobs, 2, lambda job, why: f"{job}: {why}", timeout_s=5)
    )
    assert {job for job, said in lost.items() if said == "done"} == {"one", "two", "three", "four"}
    assert "exit code -11" in lost["dies"]
    assert lost["hangs"] == "took longer than 5 s"


def test_few_jobs_are_done_before_they_are_taken(tmp_path):
    """Frames that wait to be encoded would fill the disk else."""
    folders = [tmp_path / str(number) for number in range(12)]
    for taken, _ in enumerate(in_processes(os.mkdir, folders, 1, lambda job, why: None), 1):
        time.sleep(0.02)
        assert len(list(tmp_path.iterdir())) <= taken + AHEAD
    assert taken == 12
