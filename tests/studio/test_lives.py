"""What must survive: killed workers and servers, cancelled and poisoned clips, full disks."""

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.request

import psutil
import pytest
from served import ordinary

from avgen.studio.desk import is_alive, process_name
from avgen.studio.queue import MAX_TRIES, Queue
from avgen.studio.security import Gate
from avgen.studio.state import Settings, Studio


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


def test_what_a_leaving_worker_gives_back_was_no_try(queue):
    job, other = queue.add([{}, {}], {})
    for _ in range(MAX_TRIES + 1):  # as often as its server is stopped
        assert queue.take("leaving")["id"] == job
        queue.give_back("leaving")
        assert queue.get(job)["status"] == "queued"
    assert queue.take("stays")["tries"] == 1
    assert queue.take("leaving")["id"] == other
    queue.cancel(other)
    queue.give_back("leaving")
    assert statuses(queue, (job, other)) == ["in_progress", "failed"]
    assert json.loads(queue.get(other)["error"])["code"] == "cancelled"


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


def test_a_process_is_known_by_when_it_began(monkeypatch):
    own = process_name()
    began = psutil.Process().create_time()
    # A step of the clock, by which psutil's times move.
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: began + 1)
    assert is_alive(own)
    pid = own.partition("-")[0]
    assert not is_alive(f"{pid}-1.00")
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert not is_alive(f"{ended.pid}-1.00")


def test_the_worker_is_looked_after_whatever_fails(tmp_path):
    """Such as a clip that cannot be removed."""
    studio = Studio(Settings(tmp_path, tmp_path / "no model", "none"), Gate())
    (job,) = studio.queue.add([{}], {})
    studio.folder.clip(job).mkdir()
    studio.queue.remove(job)
    studio.worker = subprocess.Popen(["sleep", "60"])
    looking = threading.Thread(target=studio._keep_working)
    looking.start()
    time.sleep(1)
    studio.worker.kill()
    for _ in range(200):
        if studio.worker is not None and studio.worker.args[0] != "sleep":
            break
        time.sleep(0.1)
    assert (studio.deaths, studio.worker.args[1:3]) == (1, ["-m", "avgen.studio.worker"])
    studio.stop()
    looking.join()


def test_batches_are_counted_apart(queue):
    queue.add([{}, {}], {}, collection="group_1")
    queue.add([{}], {})
    queue.add([{}] * 4, {}, collection="batch_1")
    assert [queue.count("queued", kind) for kind in (None, False, True)] == [7, 3, 4]


def test_cancel_ends_a_running_clip_within_a_step(served):
    server = served
    before = {path.name.split(".")[0] for path in (server.folder / "clips").iterdir()}
    running, waiting, last = (
        server.make(seed=i, num_inference_steps=steps)
        for i, steps in ((1, 4000), (2, 4000), (3, 2))
    )
    server.wait(running, ("in_progress",))
    step_s = seconds_a_step(server, running)
    began = time.monotonic()
    server.call(f"/v1/videos/{waiting}/cancel", {})
    assert server.call(f"/v1/videos/{waiting}")["error"]["code"] == "cancelled"
    assert time.monotonic() - began < 0.5
    began = time.monotonic()
    server.call(f"/v1/videos/{running}/cancel", {})
    ended = server.wait(running, seconds=10)
    assert time.monotonic() - began < step_s + 1
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
    worker = worker_of(server)
    before = sum(worker.cpu_times()[:2])
    time.sleep(1)
    assert sum(worker.cpu_times()[:2]) - before < 0.1  # a step takes all of a second


def seconds_a_step(server, name):
    """What a step of a running clip takes, by the clock."""
    told = []
    while len(told) < 2:
        step = server.call(f"/v1/videos/{name}")["avgen"]["step"]
        if step and not (told and step < told[0][1] + 3):
            told.append((time.monotonic(), step))
    (began, first), (ended, last) = told
    return (ended - began) / (last - first)


def test_a_killed_worker_is_followed_by_another(served):
    name = served.make(num_inference_steps=120)
    served.wait(name, ("in_progress",))
    before = deaths(served)
    worker_of(served).send_signal(signal.SIGKILL)
    video = served.wait(name)
    assert video["status"] == "completed"
    assert video["avgen"]["tries"] == 2
    assert deaths(served) == before + 1


def deaths(server):
    """How many workers have died, as the server tells monitors."""
    with urllib.request.urlopen(f"{server.url}/metrics") as answer:
        return int(re.search(r"avgen_worker_deaths_total (\d+)", answer.read().decode())[1])


@pytest.mark.slow
def test_a_server_killed_again_and_again_loses_nothing(serve):
    """Every other time while a clip is being made; AVGEN_KILLS=20 is the whole trial."""
    kills = int(os.environ.get("AVGEN_KILLS", 2))
    server = serve().ready()
    names = [server.make(seed=seed, num_inference_steps=40) for seed in range(2 + kills)]
    generator = random.Random(4)
    for kill in range(kills):
        while kill % 2 == 0 and not server.call("/v1/videos?status=in_progress")["data"]:
            time.sleep(0.02)
        time.sleep(generator.uniform(0, 1 if kill % 2 == 0 else 4))
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        server.process.stdout.close()
        server.start()
    for name in names:
        video = server.wait(name, seconds=180)
        assert (video["status"], video["avgen"]["tries"]) == ("completed", 1), video
    database = sqlite3.connect(server.folder / "studio.sqlite3")
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    ends = database.execute("""SELECT job, count(*) FROM events JOIN jobs ON jobs.id = events.job
        WHERE kind = 'video' AND events.number > (SELECT max(number) FROM events AS progress
        WHERE progress.job = events.job AND kind = 'progress') GROUP BY job""").fetchall()
    assert sorted(ends) == sorted((name, 1) for name in names)  # each ended once
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


def test_a_folder_that_may_not_be_written_to_is_one_clear_error(served):
    clips = served.folder / "clips"
    clips.chmod(0o500)
    try:
        if subprocess.run([*ordinary(), "touch", clips / "x"], capture_output=True).returncode == 0:
            pytest.skip("this machine does not let root do without its rights")
        error = served.wait(served.make(seed=3))["error"]
        assert error["code"] == "not_written"
        assert "Permission denied" in error["message"]
        assert served.call("/health")["status"] == "ok"
    finally:
        clips.chmod(0o700)
    assert served.wait(served.make(seed=3))["status"] == "completed"


def test_a_model_that_is_not_there_is_said_at_once(tmp_path, capsys):
    from avgen.cli import main

    assert main(["serve", "--model", str(tmp_path), "--data", str(tmp_path / "d")]) == 2
    assert "config.json" in capsys.readouterr().err
    assert main(["serve", "--host", "0.0.0.0", "--data", str(tmp_path / "d")]) == 2
    assert "AVGEN_TOKEN" in capsys.readouterr().err
