"""The process that makes clips: it keeps the model loaded and takes one job after another.

    python -m avgen.studio.worker SETTINGS    (JSON: folder, model, device, dtype, manner)

It ends when its server does. What it must not do is end a job that is not its own any more; the
queue sees to that.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avgen.clips.media.read import read_windows
from avgen.clips.media.write import write_image
from avgen.pipeline import AVPipeline
from avgen.pipeline.continuation import windows
from avgen.pipeline.progress import Step
from avgen.pipeline.request_schema import request_from
from avgen.studio.desk import leave_with, process_name
from avgen.studio.making import Manner, failed, make_clip, read
from avgen.studio.places import Folder
from avgen.studio.queue import CANCELLED, Queue

IDLE_S = 0.15  # between looks at an empty queue
BEAT_S = 5.0  # between renewals of a lease, however long a step takes
PREVIEW_STEPS = 4  # a preview every so many steps, and half way of fewer


class Stop(Exception):  # noqa: N818 - it is no error
    """The job is to be ended: cancelled, removed, or not ours any more."""


@dataclass
class Worker:
    """Makes what the queue holds.

    Attributes:
        queue: Of jobs.
        folder: Where clips go.
        pipe: The model.
        manner: How files are made.
        previews: Whether a step shows what it expects.
    """

    queue: Queue
    folder: Folder
    pipe: AVPipeline
    manner: Manner
    load_s: float = 0.0
    previews: bool = True

    def __post_init__(self) -> None:
        self.name = process_name()

    def run(self) -> None:
        """Take jobs for ever."""
        while True:
            job = self.queue.take(self.name)
            if job is None:
                time.sleep(IDLE_S)
            else:
                self.make(job)

    def make(self, job: dict[str, Any]) -> None:
        """Make one job's clip and end the job, whatever happens."""
        name, result, error = job["id"], None, None
        done = threading.Event()
        threading.Thread(target=self._beat, args=(name, done), daemon=True).start()
        try:
            result = self._made(job)
        except Stop:
            error = CANCELLED
        except Exception as failure:  # the queue goes on, whatever one job does
            error = failed(failure)
            if error["code"] == "server_error":
                traceback.print_exc()
        finally:
            done.set()
        self.folder.preview(name).unlink(missing_ok=True)
        while True:
            try:
                self.queue.end(name, self.name, result, error)
                break
            except sqlite3.OperationalError as failure:  # the disk is full: what is not may come
                error = error or failed(failure)
                self.folder.remove(name)
                time.sleep(1)
        row = self.queue.get(name)
        if row is None or row["status"] == "failed":  # not where it is another worker's by now
            self.folder.remove(name)
            self.queue.forget(name)

    def _beat(self, job: str, done: threading.Event) -> None:
        while not done.wait(BEAT_S):
            with suppress(sqlite3.OperationalError):  # a full disk: the next beat may be kept
                self.queue.report(job, self.name)

    def _made(self, job: dict[str, Any]) -> dict[str, Any]:
        asked, options = request_from(json.loads(job["request"])), json.loads(job["options"])
        started = time.time()
        request = read(asked, Fraction(self.pipe.config.fps), options.get("crop", "face"))
        telling = Telling(self, job["id"])
        path = self.folder.clip(job["id"])
        manner = Manner(**{**vars(self.manner), "overwrite": True})
        said = make_clip(self.pipe, asked, request, path, manner, telling.step, telling.phase)
        telling.phase("measuring")
        pictures(self.folder, job["id"])
        now = time.time()
        said["metrics"] = {
            "queued_s": round(job["started_at"] - job["created_at"], 3),
            "load_s": round(self.load_s, 3),
            "generate_s": round(now - started, 3),
            "cpu_s": said["energy"]["cpu_seconds"],
        }
        return said


class Telling:
    """Tells the queue how far a job is, and stops the job where the queue says so.

    Args:
        worker: Whose job it is.
        job: Its id.
    """

    def __init__(self, worker: Worker, job: str) -> None:
        self.worker, self.job = worker, job
        self.began, self.preview_at, self.total = time.time(), 0, 0
        self.last = 0.0

    def phase(self, name: str) -> None:
        """Something besides denoising and decoding begins."""
        self._tell({"phase": name})

    def step(self, step: Step) -> None:
        """A step is done."""
        worker = self.worker
        if step.phase == "decoding":
            is_end = step.window.stop == step.conditions.num_frames
            if is_end and time.time() - self.last > 0.5:  # a frame is no news
                self._tell({"phase": "decoding", "step": step.step, "steps": step.steps})
            return
        every = max(1, min(PREVIEW_STEPS, step.steps // 2))
        due = step.step % every == 0 and step.step < step.steps
        if worker.previews and due:
            write_image(worker.pipe.preview(step), worker.folder.preview(self.job))
            self.preview_at = step.step
        if not self.total:
            codecs = worker.pipe.video_codec, worker.pipe.audio_codec
            self.total = len(list(windows(step.conditions, *codecs)))
        spent = time.time() - self.began
        self._tell({
            "phase": "denoising", "step": step.step, "steps": step.steps,
            "window": step.window.index, "windows": self.total,
            "eta_s": round(spent / step.share * (1 - step.share), 1),
            "share": round(step.share, 4),
            "preview": self.preview_at or None,
        })  # fmt: skip

    def _tell(self, progress: dict[str, Any]) -> None:
        self.last = time.time()
        if not self.worker.queue.report(self.job, self.worker.name, progress):
            raise Stop


def pictures(folder: Folder, job: str) -> None:
    """A clip's thumbnail, and a sheet of eight of its frames."""
    frames = next(read_windows(folder.clip(job), window_s=10)).frames
    write_image(frames[len(frames) // 2], folder.beside(job, "thumbnail.jpg"))
    some = frames[np.linspace(0, len(frames) - 1, 8).astype(int)]
    write_image(np.concatenate(list(some), 1), folder.beside(job, "spritesheet.jpg"))


def main(text: str) -> None:
    """Load the model and work."""
    settings = json.loads(text)
    folder = Folder(Path(settings["folder"]))
    queue = Queue(folder.database)
    leave_with(settings["parent"], lambda: queue.give_back(process_name()))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    started = time.time()
    if settings.get("threads"):
        torch.set_num_threads(settings["threads"])
    dtype = getattr(torch, settings["dtype"]) if settings.get("dtype") else None
    pipe = AVPipeline.from_pretrained(settings["model"], settings["device"], dtype)
    worker = Worker(queue, folder, pipe, Manner(**settings["manner"]), time.time() - started)
    try:
        worker.run()
    finally:
        queue.give_back(worker.name)


if __name__ == "__main__":
    main(sys.argv[1])
