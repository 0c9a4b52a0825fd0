"""What happens, told to whoever listens, as server-sent events: each watcher from where it was.

One look at the database serves all watchers. `id:` is the event's number: a browser that comes back
says which one it saw last, and is told what it missed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from starlette.concurrency import run_in_threadpool

from avgen.studio.state import Studio
from avgen.studio.video_object import percent, preview_url, video_object

log = logging.getLogger("avgen.studio")
LOOK_S = 0.15
SILENCE_S = 15  # a comment is sent when nothing happened for so long
KEPT = 500  # events that are kept in memory; older ones are read from the database


class Events:
    """Follows the queue's events while anybody listens.

    Args:
        studio: Whose.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.recent: deque[tuple[int, str, str]] = deque(maxlen=KEPT)  # number, job, text
        self.at = studio.queue.last_event()
        self.first = self.at + 1  # of those in memory
        self.news = asyncio.Event()  # a new one each time that something happened
        self.watchers = 0

    async def run(self) -> None:
        """Look for events for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self.watchers:
                try:
                    found = await run_in_threadpool(self._told, self.at)
                except sqlite3.OperationalError:
                    log.exception("events cannot be read; tried again")
                    await asyncio.sleep(5)
                    continue
                if found:
                    self.recent.extend(found)
                    self.at = found[-1][0]
                    self.first = self.recent[0][0]
                    self.news.set()
                    self.news = asyncio.Event()

    def _told(self, after: int) -> list[tuple[int, str, str]]:
        rows, queue = self.studio.queue.events(after), self.studio.queue
        shown: dict[str, Any] = {}
        told = []
        for event in rows:
            job, kind, data = event["job"], event["kind"], json.loads(event["data"])
            if kind == "video":
                if job not in shown:
                    row = queue.get(job)
                    shown[job] = row and video_object(row, queue, self.studio.settings.name)
                content = shown[job]
                if content is None:
                    kind, content = "removed", {"id": job}
            elif kind == "progress":
                content = {"id": job, **data, "progress": percent(data),
                           "preview": preview_url(job, data)}  # fmt: skip
            else:
                content = {"id": job}
            text = f"id: {event['number']}\nevent: {kind}\ndata: {json.dumps(content)}\n\n"
            told.append((event["number"], job, text))
        return told

    async def follow(self, after: int | None, job: str | None = None) -> AsyncIterator[str]:
        """The text of events after a number (from now on where None), of all jobs or of one."""
        self.watchers += 1
        if self.watchers == 1:
            self.at = max(self.at, await run_in_threadpool(self.studio.queue.last_event))
            self.recent.clear()
            self.first = self.at + 1
        at, silent_s = self.at if after is None else min(after, self.at), 0
        try:
            yield f"retry: 2000\nid: {at}\n\n"
            while True:
                if at + 1 < self.first and at < self.at:
                    found = await run_in_threadpool(self._told, at)
                else:
                    found = [event for event in self.recent if event[0] > at]
                for number, about, text in found:
                    at = number
                    if job is None or about == job:
                        yield text
                if at < self.at:
                    if not found:
                        at = self.at
                    continue
                if self.studio.is_leaving():
                    return
                try:
                    await asyncio.wait_for(self.news.wait(), 1)
                    silent_s = 0
                except TimeoutError:
                    silent_s += 1
                    if silent_s % SILENCE_S == 0:
                        yield ": nothing new\n\n"
        finally:
            self.watchers -= 1
