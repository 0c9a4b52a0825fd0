"""What is asked for, in SQLite: jobs with leases, and the events that watchers are told.

    queued -> in_progress -> completed | failed
    queued or in_progress -> failed (cancelled); removed at any time

A job that is being made is leased to one worker for LEASE_S; the worker renews the lease as it
works, and only who holds it may end the job. A lease that ran out, or whose worker is gone, puts
the job back; after MAX_TRIES it has failed. Every change and the event that tells it are one
transaction, so that whoever reads events in order misses none and sees none that did not happen.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avgen.studio.places import new_id

LEASE_S = 60.0
MAX_TRIES = 2
KEPT_EVENTS = 20_000
RUNNING = "in_progress"
ENDED = ("completed", "failed")

_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, status TEXT NOT NULL,
    request TEXT NOT NULL, options TEXT NOT NULL, collection TEXT, priority INTEGER NOT NULL,
    place REAL NOT NULL, created_at REAL NOT NULL, started_at REAL, completed_at REAL,
    worker TEXT, lease_until REAL, tries INTEGER NOT NULL DEFAULT 0,
    cancelling INTEGER NOT NULL DEFAULT 0, removed INTEGER NOT NULL DEFAULT 0,
    progress TEXT NOT NULL DEFAULT '{}', result TEXT, error TEXT,
    favourite INTEGER NOT NULL DEFAULT 0, owner TEXT
);
CREATE INDEX IF NOT EXISTS by_status ON jobs (status, priority, place);
CREATE INDEX IF NOT EXISTS by_collection ON jobs (collection);
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, kind TEXT NOT NULL,
    data TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, job TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY, purpose TEXT NOT NULL, name TEXT NOT NULL, bytes INTEGER NOT NULL,
    created_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS batches (
    id TEXT PRIMARY KEY, created_at REAL NOT NULL, about TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS judgements (
    number INTEGER PRIMARY KEY AUTOINCREMENT, created_at REAL NOT NULL, about TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class Queue:
    """The queue in a file; any number of processes may have it open.

    Args:
        path: The database; made where it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = self._open()  # opened once: that costs as much as ten queries
        self._reading = threading.Lock()
        self._reader.execute("PRAGMA journal_mode = WAL")
        self._reader.executescript(_TABLES)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=30, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        connection = self._open()
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it, or none."""
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def read(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """The rows of a query."""
        with self._reading:
            return [dict(row) for row in self._reader.execute(query, values)]

    def add(
        self, requests: Sequence[Mapping[str, Any]], options: Mapping[str, Any], **more: Any
    ) -> list[str]:
        """Queue requests that are made one after another; their ids, in order.

        Args:
            requests: JSON of each (`request_schema.recorded`).
            options: What is asked besides of the clip: crop, metadata, `extend_from` ...
            **more: "priority", "collection" (what they belong to), "owner", "key" (the same key
                and body give the same jobs again).
        """
        with self.change() as change:
            ids = [insert(change, request, options, **more) for request in requests]
            if more.get("key"):
                change.execute(
                    "INSERT INTO keys VALUES (?, ?, ?)", (more["key"], ids[0], more["body"])
                )
        return ids

    def known(self, key: str) -> tuple[str, str] | None:
        """The first job that came with an idempotency key, and the body it came with."""
        rows = self.read("SELECT job, body FROM keys WHERE key = ?", key)
        return (rows[0]["job"], rows[0]["body"]) if rows else None

    def get(self, job: str) -> dict[str, Any] | None:
        """A job's row, or None."""
        rows = self.read("SELECT * FROM jobs WHERE id = ? AND NOT removed", job)
        return rows[0] if rows else None

    def position(self, row: Mapping[str, Any]) -> int | None:
        """How many jobs come before a queued one."""
        if row["status"] != "queued":
            return None
        (found,) = self.read(
            "SELECT count(*) AS n FROM jobs WHERE status = 'queued' AND NOT removed AND "
            "(priority > ?1 OR priority = ?1 AND (place < ?2 OR place = ?2 AND number < ?3))",
            row["priority"], row["place"], row["number"],
        )  # fmt: skip
        return found["n"]

    def count(self, status: str, of_batches: bool | None = None) -> int:
        """How many jobs have a status: all, those of batches, or all others."""
        query = "SELECT count(*) AS n FROM jobs WHERE status = ?1 AND NOT removed AND"
        is_batch = "(coalesce(collection, '') LIKE 'batch!_%' ESCAPE '!')"
        return self.read(f"{query} (?2 IS NULL OR {is_batch} = ?2)", status, of_batches)[0]["n"]

    def take(self, worker: str) -> dict[str, Any] | None:
        """Lease the next job; None if there is none, or the queue is paused."""
        with self.change() as change:
            if change.execute("SELECT 1 FROM settings WHERE name = 'paused'").fetchone():
                return None
            row = change.execute(
                "UPDATE jobs SET status = 'in_progress', worker = ?1, lease_until = ?2,"
                ' tries = tries + 1, started_at = ?3, progress = \'{"phase": "encoding"}\''
                " WHERE number = (SELECT number FROM jobs WHERE status = 'queued' AND NOT removed"
                " ORDER BY priority DESC, place, number LIMIT 1) RETURNING *",
                (worker, time.time() + LEASE_S, time.time()),
            ).fetchone()
            if row is None:
                return None
            tell(change, row["id"], "video")
            return dict(row)

    def report(self, job: str, worker: str, progress: Mapping[str, Any] | None = None) -> bool:
        """Renew a lease, with how far the job is; whether to go on.

        False where the job is to be ended (cancelled, removed) or is not this worker's any more.
        """
        with self.change() as change:
            row = change.execute(
                "UPDATE jobs SET lease_until = ?, progress = coalesce(?, progress) WHERE id = ?"
                " AND worker = ? AND status = 'in_progress' RETURNING cancelling, removed",
                (time.time() + LEASE_S, _text(progress), job, worker),
            ).fetchone()
            if row is not None and progress is not None:
                tell(change, job, "progress", progress)
            return row is not None and not row["cancelling"] and not row["removed"]

    def end(
        self,
        job: str,
        worker: str,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> bool:
        """End a job that a worker holds; whether it was its to end, and stays."""
        with self.change() as change:
            row = change.execute(
                "UPDATE jobs SET status = ?, result = ?, error = ?, completed_at = ?, worker = NULL"
                " WHERE id = ? AND worker = ? AND status = 'in_progress' RETURNING removed",
                ("completed" if error is None else "failed", _text(result),
                 _text(error), time.time(), job, worker),
            ).fetchone()  # fmt: skip
            if row is None:
                return False
            if not row["removed"]:
                tell(change, job, "video")
            return not row["removed"]

    def put_back(self, is_alive: Any) -> list[str]:
        """Queue again, or fail, the jobs whose lease ran out or whose worker is gone; their ids.

        Args:
            is_alive: Whether the worker of a name is there.
        """
        held = self.read("SELECT id, worker, lease_until FROM jobs WHERE status = 'in_progress'")
        lost = [r for r in held if r["lease_until"] < time.time() or not is_alive(r["worker"])]
        for row in lost:
            with self.change() as change:
                changed = change.execute(
                    "UPDATE jobs SET worker = NULL, progress = '{}',"
                    " status = CASE WHEN tries >= ?1 OR cancelling OR removed THEN 'failed'"
                    " ELSE 'queued' END,"
                    " completed_at = CASE WHEN tries >= ?1 OR cancelling OR removed THEN ?2 END,"
                    " error = CASE WHEN cancelling THEN ?3 WHEN tries >= ?1 THEN ?4 END"
                    " WHERE id = ?5 AND worker = ?6 AND status = 'in_progress'",
                    (MAX_TRIES, time.time(), json.dumps(CANCELLED), json.dumps(DIED), row["id"],
                     row["worker"]),
                ).rowcount  # fmt: skip
                if changed:
                    tell(change, row["id"], "video")
        return [row["id"] for row in lost]

    def give_back(self, worker: str) -> None:
        """Put back what a worker holds that leaves with its server; that was no try."""
        with self.change() as change:
            change.execute(
                "UPDATE jobs SET tries = tries - 1 WHERE worker = ? AND status = 'in_progress'",
                (worker,),
            )
        self.put_back(lambda name: name != worker)

    def cancel(self, job: str) -> None:
        """End a queued job now; ask a running one's worker to; an ended one stays as it is."""
        with self.change() as change:
            changed = change.execute(
                "UPDATE jobs SET cancelling = 1,"
                " completed_at = CASE WHEN status = 'queued' THEN ? END,"
                " error = CASE WHEN status = 'queued' THEN ? END,"
                " status = CASE WHEN status = 'queued' THEN 'failed' ELSE status END"
                " WHERE id = ? AND status IN ('queued', 'in_progress') AND NOT cancelling",
                (time.time(), json.dumps(CANCELLED), job),
            ).rowcount
            if changed:
                tell(change, job, "video")

    def remove(self, job: str) -> None:
        """Hide a job; a queued one ends, a running one's worker is asked to end it."""
        self.cancel(job)
        with self.change() as change:
            if change.execute(
                "UPDATE jobs SET removed = 1 WHERE id = ? AND NOT removed", (job,)
            ).rowcount:
                tell(change, job, "removed")

    def forget(self, job: str) -> None:
        """Take away the row of a job that was removed and is not being made."""
        with self.change() as change:
            change.execute(
                "DELETE FROM jobs WHERE id = ? AND removed AND status != 'in_progress'", (job,)
            )

    def events(self, after: int, limit: int = 1000) -> list[dict[str, Any]]:
        """Events that came after one, in order."""
        return self.read(
            "SELECT * FROM events WHERE number > ? ORDER BY number LIMIT ?", after, limit
        )

    def last_event(self) -> int:
        """The number of the newest event."""
        return self.read("SELECT coalesce(max(number), 0) AS n FROM events")[0]["n"]


def insert(
    change: sqlite3.Connection, request: Mapping[str, Any], options: Mapping[str, Any], **more: Any
) -> str:
    """Add a job to a transaction, as `Queue.add` takes it; its id."""
    name, now = new_id("video"), time.time()
    change.execute(
        "INSERT INTO jobs (id, status, request, options, collection, priority, place,"
        " created_at, owner) VALUES (?, 'queued', ?, ?, ?, ?, ?, ?, ?)",
        (name, json.dumps(request), json.dumps(options), more.get("collection"),
         more.get("priority", 0), now, now, more.get("owner")),
    )  # fmt: skip
    tell(change, name, "video")
    return name


def _text(content: Mapping[str, Any] | None) -> str | None:
    return None if content is None else json.dumps(content)


CANCELLED = {"code": "cancelled", "message": "cancelled by the user"}
DIED = {
    "code": "worker_died",
    "message": f"the process that made it died, {MAX_TRIES} times; its log may say why",
}


def tell(
    change: sqlite3.Connection, job: str, kind: str, data: Mapping[str, Any] | None = None
) -> None:
    """Add an event to a transaction; the oldest ones are forgotten."""
    number = change.execute(
        "INSERT INTO events (job, kind, data) VALUES (?, ?, ?)", (job, kind, json.dumps(data or {}))
    ).lastrowid
    if number and number % 1000 == 0:
        change.execute("DELETE FROM events WHERE number <= ?", (number - KEPT_EVENTS,))
