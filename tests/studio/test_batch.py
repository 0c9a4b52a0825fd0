"""Batches: lines that are checked first, clips that are made once however often a run is killed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from avgen.cli import main
from avgen.studio.lines import read_lines

SAID = 'a man says "place red"'


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def results(folder):
    text = "".join(path.read_text() for path in sorted(folder.glob("results*.jsonl")))
    rows = [json.loads(line) for line in text.splitlines()]
    return {row["custom_id"]: row["response"]["body"]["avgen"]["sha256"] for row in rows}


def test_lines_in_every_form(tmp_path):
    body = {"prompt": SAID, "seed": 3, "size": "64x32"}
    text = "\n".join([
        json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/videos", "body": body}),
        json.dumps(body),
        "",
        json.dumps({"custom_id": "a", "body": body}),
        json.dumps({"custom_id": "../b", "body": body}),
        json.dumps({"custom_id": "c", "url": "/v1/chat", "body": body}),
        json.dumps({"prompt": SAID, "nonsense": 1}),
        "{broken",
        json.dumps({"image": "face.png", "prompt": SAID}),
    ])  # fmt: skip
    lines = {line.number: line for line in read_lines(text, ".jsonl", tmp_path)}
    assert (lines[1].name, lines[2].name) == ("a", "2")
    assert lines[1].request == lines[2].request
    assert (lines[1].request.width, lines[1].request.height, lines[1].request.seed) == (64, 32, 3)
    assert lines[9].request.image == tmp_path / "face.png"
    said = {number: line.error for number, line in lines.items() if line.error}
    assert sorted(said) == [4, 5, 6, 7, 8]
    assert "line 1" in said[4]
    assert "custom_id" in said[5]
    assert "/v1/videos" in said[6]
    assert "no such field" in said[7]
    assert "not JSON" in said[8]
    (row,) = read_lines('custom_id,prompt,seed\nx,"a ""red"" one",7\n', ".csv")
    assert (row.name, row.request.prompt, row.request.seed) == ("x", 'a "red" one', 7)
    assert row.key("m", "1") != row.key("m", "2")
    (row,) = read_lines("seed,prompt\n7,a man, smiling\n", ".csv")
    assert "more cells than" in row.error
    (row,) = read_lines('{"prompt": "caf\\ud83d"}', ".jsonl")
    assert "not JSON" in row.error and "ud83d" in row.error


def test_a_line_that_fails_ends_itself_alone(tiny_model, tmp_path, monkeypatch, capsys):
    """Whatever it fails by: one that is too large for the memory, for one."""
    path = write(tmp_path / "l.jsonl", [{"prompt": SAID, "seed": i} for i in range(3)])
    command = ["batch", str(path), "-o", str(tmp_path / "out"), "--model", str(tiny_model)]
    draw = torch.randn

    def short(*arguments, **more):
        monkeypatch.setattr(torch, "randn", draw)  # there is room for the next
        raise MemoryError

    monkeypatch.setattr(torch, "randn", short)
    assert main(command) == 1
    assert sorted(results(tmp_path / "out")) == ["2", "3"]
    (row,) = (tmp_path / "out/errors.jsonl").read_text().splitlines()
    assert json.loads(row)["error"]["code"] == "out_of_memory"
    assert main(command) == 0


def test_wrong_lines_stop_a_batch_before_it_begins(tiny_model, tmp_path, capsys):
    path = write(tmp_path / "l.jsonl", [{"prompt": SAID}, {"prompt": SAID, "rate": 9}])
    command = ["batch", str(path), "-o", str(tmp_path / "out"), "--model", str(tiny_model)]
    assert main(command) == 2
    said = capsys.readouterr()
    assert f"{path}:2: rate is 9" in said.out
    assert "1 of 2 lines" in said.err
    assert not (tmp_path / "out").exists()
    assert main([*command, "--keep-going"]) == 1
    assert (tmp_path / "out" / "1.mp4").is_file()
    (row,) = (tmp_path / "out" / "errors.jsonl").read_text().splitlines()
    assert json.loads(row)["custom_id"] == "2"


def test_a_batch_goes_on_where_it_was(tiny_model, tmp_path, capsys):
    path = write(tmp_path / "l.jsonl", [{"prompt": SAID, "seed": i} for i in range(4)])
    command = ["batch", str(path), "-o", str(tmp_path / "out"), "--model", str(tiny_model)]
    assert main([*command, "--shard", "1/2"]) == 0
    assert sorted(results(tmp_path / "out")) == ["1", "3"]
    assert main(command) == 0
    assert "2 made, 2 there already" in capsys.readouterr().out
    first = results(tmp_path / "out")
    clip = tmp_path / "out" / "2.mp4"
    assert hashlib.sha256(clip.read_bytes()).hexdigest() == first["2"]
    clip.unlink()
    torn = (tmp_path / "out" / "results.jsonl").open("a")
    torn.write('{"id": "4", "custom')
    torn.close()
    assert main(command) == 0
    assert "1 made, 3 there already" in capsys.readouterr().out
    assert results(tmp_path / "out") == first


@pytest.mark.slow
def test_a_killed_batch_is_an_undisturbed_one(moving_model, tmp_path):
    """A twelfth of the lines are wrong; AVGEN_LINES=60 AVGEN_KILLS=3 is the whole trial."""
    count, kills = int(os.environ.get("AVGEN_LINES", 12)), int(os.environ.get("AVGEN_KILLS", 1))
    rows = [{"prompt": SAID, "seed": i, "num_inference_steps": 1} for i in range(count)]
    wrong = list(range(3, count, 12))
    for number in wrong:
        rows[number] = {"prompt": SAID, "rate": 99}
    path = write(tmp_path / "l.jsonl", rows)
    found = []
    for name, times in (("calm", 0), ("killed", kills)):
        command = [sys.executable, "-m", "avgen.cli", "batch", str(path), "-o",
                   str(tmp_path / name), "--model", str(moving_model), "--keep-going"]  # fmt: skip
        for _ in range(times):
            made = len(list((tmp_path / name).glob("*.mp4")))
            running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            while len(list((tmp_path / name).glob("*.mp4"))) < made + 3:
                time.sleep(0.02)
            running.send_signal(signal.SIGKILL)
            running.wait()
        assert subprocess.run(command).returncode == 1
        found.append(results(tmp_path / name))
        assert not list((tmp_path / name).glob(".avgen-*"))
        errors = (tmp_path / name / "errors.jsonl").read_text().splitlines()
        assert [json.loads(row)["custom_id"] for row in errors] == [str(n + 1) for n in wrong]
    assert len(found[0]) == count - len(wrong)
    assert found[0] == found[1]
