"""What must survive: killed workers and servers, cancelled and poisoned clips, full disks."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import time
import urllib.error

import psutil
import pytest

from avgen.studio.desk import is_alive, process_name
from avgen.studio.queue import MAX_TRIES, Queue


@pytest.fixture
def queue(tmp_path):
    return Queue(tmp_path / "q.sqlite3")


def worker_of(server):
    """The process that makes clips."""
    for child in psutil.Process(server.process.pid).children():
        if "avgen.studio.worker" in " ".join(child.cmdline()):
            return child
    raise AssertionError("no worker")


def statuses(queue, ids):
    return [queue.get(job)["status"] for job in ids]


def test_the_queue_is_in_order_and_each_job_has_one_owner(queue):
    first, second, third = queue.add([{"seed": i} for i in (1, 2, 3)], {})
    (urgent,) = queue.add([{"seed": 9}], {}, priority=5)
    taken = queue.take("a")
    assert taken["id"] == urgent
    assert [queue.position(queue.get(job)) for job in (first, second, third)] == [0, 1, 2]
    assert queue.report(urgent, "a", {"phase": "denoising"})
    assert not queue.report(urgent, "b")
    assert not queue.end(urgent, "b", {})
    assert queue.end(urgent, "a", {"sha256": "x"})
    assert not queue.end(urgent, "a", error={"code": "late"})
    assert queue.get(urgent)["error"] is None
    assert queue.take("b")["id"] == first


def test_a_lease_that_ran_out_is_tried_again_and_then_given_up(queue):
    (job,) = queue.add([{}], {})
    for attempt in range(1, MAX_TRIES + 1):
        assert queue.take(f"dead-{attempt}")["tries"] == attempt
        assert queue.put_back(lambda name: False) == [job]
    row = queue.get(job)
    assert row["status"] == "failed"
    assert json.loads(row["error"])["code"] == "worker_died"
    assert not queue.end(job, "dead-2", {"late": True})
    assert queue.take("next") is None


def test_cancelling_and_removing(queue):
    waiting, running = queue.add([{}, {}], {})[::-1]
    assert queue.take("a")["id"] == running
    for _ in range(2):  # twice is harmless
        queue.cancel(waiting)
        queue.cancel(running)
    assert statuses(queue, (waiting, running)) == ["failed", "in_progress"]
    assert not queue.report(running, "a")
    queue.end(running, "a", error={"code": "cancelled"})
    queue.cancel(running)
    assert queue.get(running)["status"] == "failed"
    (other,) = queue.add([{}], {})
    queue.take("a")
    queue.remove(other)
    assert queue.get(other) is None
    assert not queue.report(other, "a")
    assert not queue.end(other, "a", {"sha256": "x"})  # it ends, and does not come back
    queue.forget(other)
    assert queue.read("SELECT * FROM jobs WHERE id = ?", other) == []


def test_events_are_whole_and_in_order(queue):
    (job,) = queue.add([{}], {})
    queue.take("a")
    for step in range(3):
        queue.report(job, "a", {"phase": "denoising", "step": step})
    queue.end(job, "a", {})
    told = queue.events(0)
    assert [event["kind"] for event in told] == ["video", "video", *["progress"] * 3, "video"]
    assert [json.loads(event["data"])["step"] for event in told[2:5]] == [0, 1, 2]
    assert [event["number"] for event in queue.events(told[2]["number"])] == [4, 5, 6]


def test_a_process_is_known_by_when_it_began():
    own = process_name()
    assert is_alive(own)
    pid = own.partition("-")[0]
    assert not is_alive(f"{pid}-1.00")
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert not is_alive(f"{ended.pid}-1.00")


def test_cancel_ends_a_running_clip_within_a_step(served):
    server = served
    before = {path.name.split(".")[0] for path in (server.folder / "clips").iterdir()}
    running, waiting, last = (
        server.make(seed=i, num_inference_steps=steps)
        for i, steps in ((1, 4000), (2, 4000), (3, 2))
    )
    server.wait(running, ("in_progress",))
    began = time.monotonic()
    server.call(f"/v1/videos/{waiting}/cancel", {})
    assert server.call(f"/v1/videos/{waiting}")["error"]["code"] == "cancelled"
    assert time.monotonic() - began < 0.5
    server.call(f"/v1/videos/{running}/cancel", {})
    ended = server.wait(running, seconds=10)
    assert ended["status"] == "failed"
    assert ended["error"]["code"] == "cancelled"
    assert server.call(f"/v1/videos/{running}/cancel", {})["status"] == "failed"
    assert server.wait(last)["status"] == "completed"
    assert server.call(f"/v1/videos/{last}/cancel", {})["status"] == "completed"
    names = {path.name.split(".")[0] for path in (server.folder / "clips").iterdir()}
    assert names - before == {last}
    removed = server.make(seed=4, num_inference_steps=4000)
    server.wait(removed, ("in_progress",))
    assert server.call(f"/v1/videos/{removed}", method="DELETE")["deleted"] is True
    time.sleep(0.5)
    with pytest.raises(urllib.error.HTTPError):
        server.call(f"/v1/videos/{removed}")
    assert not list((server.folder / "clips").glob(f"{removed}*"))


def test_a_killed_worker_is_followed_by_another(serve):
    server = serve().ready()
    name = server.make(num_inference_steps=120)
    server.wait(name, ("in_progress",))
    worker_of(server).send_signal(signal.SIGKILL)
    video = server.wait(name)
    assert video["status"] == "completed"
    assert video["avgen"]["tries"] == 2
    assert "avgen_worker_deaths_total 1" in metrics(server)


def metrics(server):
    import urllib.request

    with urllib.request.urlopen(f"{server.url}/metrics") as answer:
        return answer.read().decode()


@pytest.mark.slow
def test_a_server_killed_again_and_again_loses_nothing(serve):
    server = serve().ready()
    names = [server.make(seed=seed, num_inference_steps=2) for seed in range(6)]
    generator = random.Random(4)
    for _ in range(int(os.environ.get("AVGEN_KILLS", 2))):
        time.sleep(generator.uniform(0.1, 4))
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        server.process.stdout.close()
        server.start()
    for name in names:
        video = server.wait(name, seconds=120)
        # A job that was being made when the server was killed twice has had its tries.
        assert video["status"] == "completed" or video["error"]["code"] == "worker_died"
    database = sqlite3.connect(server.folder / "studio.sqlite3")
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    ends = database.execute(
        "SELECT id, count(*) FROM jobs WHERE status = 'completed' GROUP BY id"
    ).fetchall()
    assert all(count == 1 for _, count in ends)
    server.stop()
    assert not list(server.folder.rglob(".avgen-*"))


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_one_clear_error(serve, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]).returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        server = serve(folder=folder).ready()
        filler = folder / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(bytes(4096))
        with filler.open("rb+") as file:  # room for the queue, none for a clip
            file.truncate(filler.stat().st_size - 256 * 1024)
        name = server.make(width=512, height=512, num_inference_steps=1)
        video = server.wait(name)
        assert video["error"]["code"] == "disk_full", video
        filler.unlink()
        assert server.wait(server.make(seed=2))["status"] == "completed"
    finally:
        server.stop()
        subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_model_that_is_not_there_is_said_at_once(tmp_path, capsys):
    from avgen.cli import main

    assert main(["serve", "--model", str(tmp_path), "--data", str(tmp_path / "d")]) == 2
    assert "config.json" in capsys.readouterr().err
    assert main(["serve", "--host", "0.0.0.0", "--data", str(tmp_path / "d")]) == 2
    assert "AVGEN_TOKEN" in capsys.readouterr().err
