"""Who is turned away, and with what; what a server never does with what it is sent."""

import asyncio
import io
import json
import select
import socket
import struct
import urllib.error
import urllib.request
import zlib
from typing import Any

import psutil
import pytest
from served import TOKEN

from avgen.studio.security import COOKIE, Gate, Guard

HOST = "127.0.0.1:8420"


def ask(gate, method="GET", path="/v1/videos", body=b"", pieces=None, **headers):
    """Status, headers and JSON of a request to a guarded app that answers 200 to everything."""
    sent, messages = [], list(pieces or [body])

    async def app(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def receive():
        return {"type": "http.request", "body": messages.pop(0), "more_body": bool(messages)}

    async def send(message):
        sent.append(message)

    named = {"host": HOST, **{k.replace("_", "-"): v for k, v in headers.items()}}
    scope = {
        "type": "http", "method": method, "path": path, "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in named.items() if v is not None],
    }  # fmt: skip
    asyncio.run(Guard(app, gate, max_body=1000)(scope, receive, send))
    got = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
    return sent[0]["status"], got, json.loads(sent[1]["body"] or b"{}")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:8420"}, 200),
        ({"host": "[::1]:8420"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example:8420"}, 403),
        ({"host": None}, 403),
        ({"origin": f"http://{HOST}"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "null"}, 403),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}, 403),
    ],
)
def test_hosts_and_origins(headers, status):
    for method in ("GET", "POST"):
        assert ask(Gate(), method, **headers)[0] == status


def test_a_visit_from_elsewhere_opens_the_page_only():
    visit: dict[str, Any] = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    assert ask(Gate(), path="/", **visit)[0] == 200
    assert ask(Gate(), "POST", path="/", **visit)[0] == 403


def test_tokens_and_sessions():
    gate = Gate(token="s3cret")
    status, headers, said = ask(gate)
    assert (status, said["error"]["type"]) == (401, "authentication_error")
    assert headers["x-should-retry"] == "false"
    assert "s3cret" not in json.dumps(said)
    assert ask(gate, authorization="Bearer wrong")[0] == 401
    assert ask(gate, authorization="Bearer s3cret")[0] == 200
    assert ask(gate, path="/health")[0] == 200
    assert ask(gate, path="/", accept="text/html")[1]["location"] == "/enter"
    code = gate.new_code()
    session = gate.enter(code)
    assert session not in (None, code, "s3cret")
    assert gate.enter(code) is None  # once
    assert ask(gate, cookie=f"a=b; {COOKIE}={session}")[0] == 200
    assert ask(gate, cookie=f"{COOKIE}=x")[0] == 401


def test_bodies_are_bounded_whether_they_say_so_or_not():
    assert ask(Gate(), "POST", content_length="1001")[0] == 413
    assert ask(Gate(), "POST", content_length="abc")[0] == 413
    assert ask(Gate(), "POST", pieces=[b"x" * 600, b"x" * 600])[0] == 413
    assert ask(Gate(), "POST", pieces=[b"x" * 400, b"x" * 600])[0] == 200


def test_a_silent_body_is_given_up(monkeypatch):
    monkeypatch.setattr("avgen.studio.security.SILENCE_S", 0.05)
    sent = []

    async def app(scope, receive, send):
        await receive()

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(5)
        return {}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/videos",
        "headers": [(b"host", b"localhost")],
    }
    asyncio.run(Guard(app, Gate())(scope, receive, send))
    assert sent[0]["status"] == 400
    assert b"slow_body" in sent[1]["body"]


def test_every_answer_says_how_it_may_be_used():
    _, headers, _ = ask(Gate())
    assert headers["x-request-id"].startswith("req_")
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
def test_a_body_without_end_is_refused_and_fills_no_memory(served, kind):
    """1 GB of zeros in pieces that do not say how many come."""
    host = served.url.removeprefix("http://")
    process, piece, sent = psutil.Process(served.process.pid), bytes(2**20), 0
    before = most = process.memory_info().rss
    connection = socket.create_connection(host.split(":"), 60)
    head = b'--b\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'
    connection.sendall(
        f"POST /v1/videos HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n"
        f"Transfer-Encoding: chunked\r\n\r\n{len(head):x}\r\n".encode()
        + head
        + b"\r\n"
    )
    while sent < 2**30 and not select.select([connection], [], [], 0)[0]:
        connection.sendall(b"100000\r\n" + piece + b"\r\n")
        sent, most = sent + len(piece), max(most, process.memory_info().rss)
    assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    assert sent < 2**28
    assert most - before < 100 * 2**20
    assert served.call("/health")["status"] == "ok"
    connection.close()
    wanted = urllib.request.Request(
        f"{served.url}/v1/videos", bytes(1), {"Content-Length": "1073741824"}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(wanted)
    assert caught.value.code == 413


def png(width, height):
    """A PNG that says its size and holds next to nothing."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(99)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"),
        ("a.png", b"<html><script>alert(1)</script></html>"),
        ("a.mp4", b"#EXTM3U\nfile:///etc/passwd\n"),
        ("a.png", b"ffconcat version 1.0\nfile /etc/passwd\n"),
        ("bomb.png", png(30_000, 30_000)),
        ("../../etc/cron.d/a.png", b"#!/bin/sh\n"),
        ("/etc/a\x00b.png", b"not one"),
        ("x" * 300 + ".png", b"not one"),
    ],
    ids=lambda v: repr(v)[:30],
)
def test_files_that_are_none_are_refused_and_kept_nowhere(served, client, name, content):
    import openai

    before = {p for p in served.folder.rglob("*") if p.is_file() and "clips" not in p.parts}
    with pytest.raises(openai.APIStatusError) as caught:
        client.videos.create(
            prompt='"red"', input_reference=(name, io.BytesIO(content), "image/png")
        )
    assert caught.value.status_code in (400, 413, 415)
    assert caught.value.param in ("input_reference", "image")
    after = {p for p in served.folder.rglob("*") if p.is_file() and "clips" not in p.parts}
    new = {p.name for p in after - before if not p.name.startswith("studio.sqlite3")}
    assert all(n.startswith("file_") for n in new)
    assert len(new) <= 1


ELSEWHERE = [
    "/static/../state.py",
    "/static/%2e%2e/state.py",
    "/static//etc/passwd",
    "/v1/videos/..%2f..%2fetc%2fpasswd",
    "/v1/files/..%2fstudio.sqlite3/content",
    "/v1/videos/video_%00/content",
]


@pytest.mark.parametrize("path", ELSEWHERE)
def test_paths_lead_nowhere_else(served, path):
    with pytest.raises(urllib.error.HTTPError) as caught:
        served.call(path)
    assert caught.value.code in (400, 404, 405)


def test_what_was_given_is_not_handed_out(served, client):
    import openai

    file = client.files.create(
        file=("a.png", io.BytesIO(png(32, 32)), "image/png"), purpose="user_data"
    )
    assert file.filename != "a.png"
    with pytest.raises(openai.PermissionDeniedError):
        client.files.content(file.id)
    assert client.files.delete(file.id).deleted is True
    assert not (served.folder / "uploads" / file.id).exists()


def test_a_token_is_in_no_log_url_or_page(limited):
    assert urllib.request.urlopen(f"{limited.url}/health").status == 200
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{limited.url}/v1/videos")
    assert caught.value.code == 401
    assert TOKEN.encode() not in caught.value.read()
    assert limited.call("/v1/videos")["object"] == "list"
    assert TOKEN not in limited.url
    for path in limited.folder.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()
