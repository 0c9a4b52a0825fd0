"""Who may speak to the server, and how much: checked before anything else reads a request.

A page of another site can make a browser send requests to this machine. So the Host must be one
that the server goes by (DNS rebinding), whatever changes something must come from a page of its own
or from no page at all, and beyond this machine a token is needed.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from avgen.studio.failures import raw

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
COOKIE = "avgen_session"
MAX_BODY = 200 * 2**20  # of a form, whose files are put on the disk as they come
MAX_TEXT_BODY = 72 * 2**20  # of anything else, which is held in memory: a data URL of 50 MiB
SILENCE_S = 30.0  # between two pieces of a body
POLICY = (
    "default-src 'self'; img-src 'self' blob:; media-src 'self' blob:; style-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_OPEN = ("/health", "/ready", "/enter", "/static/")  # no token needed


@dataclass
class Gate:
    """What the checks need to know.

    Attributes:
        hosts: Names that the server goes by, without ports.
        token: That programs send; None where none is needed.
        sessions: Of browsers that came by the printed link.
        codes: Of links that were printed and not yet used.
    """

    hosts: tuple[str, ...] = LOOPBACK
    token: str | None = None
    sessions: set[str] = field(default_factory=set)
    codes: set[str] = field(default_factory=set)

    def new_code(self) -> str:
        """A code for a link that opens the page once."""
        code = secrets.token_urlsafe(18)
        self.codes.add(code)
        return code

    def enter(self, secret: str) -> str | None:
        """A new session for a code that was printed, or for the token; None for anything else."""
        is_token = self.token is not None and hmac.compare_digest(
            secret.encode(), self.token.encode()
        )
        if not is_token and secret not in self.codes:
            return None
        self.codes.discard(secret)
        session = secrets.token_urlsafe(24)
        self.sessions.add(session)
        return session

    def knows(self, headers: Headers) -> bool:
        """Whether a request brings the token or a session."""
        if self.token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode(), self.token.encode()
        ):
            return True
        for part in headers.get("cookie", "").split(";"):
            name, _, value = part.strip().partition("=")
            if name == COOKIE and value in self.sessions:
                return True
        return False

    def fault(self, method: str, path: str, headers: Headers) -> tuple[int, str, str] | None:
        """Why a request is turned away: status, code, message."""
        host = headers.get("host", "")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if name.lower() not in self.hosts:
            return 403, "bad_host", "Host is none that this server goes by"
        origin = headers.get("origin")
        if origin is not None and (origin == "null" or urlsplit(origin).netloc != host):
            return 403, "bad_origin", "Origin is another site's"
        site = headers.get("sec-fetch-site", "none")
        is_visit = headers.get("sec-fetch-mode") == "navigate" and method == "GET"
        if site in ("cross-site", "same-site") and not (is_visit and not path.startswith("/v1")):
            return 403, "bad_origin", "the request comes from another site's page"
        if not self.knows(headers) and path != "/enter" and not path.startswith(_OPEN):
            return 401, "invalid_api_key", "a token is needed: Authorization: Bearer TOKEN"
        return None


class Guard:
    """ASGI middleware: turns requests away, bounds their bodies, and adds headers to answers.

    Args:
        app: What comes after.
        gate: Whom to let through.
        max_body: Bytes of a body.
    """

    def __init__(self, app: ASGIApp, gate: Gate, max_body: int = MAX_BODY) -> None:
        self.app, self.gate, self.max_body = app, gate, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, request_id = Headers(scope=scope), f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _add_headers(MutableHeaders(scope=message), request_id, scope["path"])
            await send(message)

        fault = self.gate.fault(scope["method"], scope["path"], headers)
        is_form = headers.get("content-type", "").lower().startswith("multipart/")
        most = self.max_body if is_form else min(self.max_body, MAX_TEXT_BODY)
        length = headers.get("content-length", "0")
        if fault is None and (not length.isdigit() or int(length) > most):
            fault = 413, "too_large", f"the body must have at most {most} bytes"
        if fault is not None:
            is_page = fault[0] == 401 and "text/html" in headers.get("accept", "")
            await _refuse(answer, *fault, to="/enter" if is_page else None)
            return
        body = _Body(receive, most)
        try:
            await self.app(scope, body.receive, answer)
        except _Refused as refused:
            if not started:
                await _refuse(answer, *refused.fault)


class _Refused(Exception):  # noqa: N818
    def __init__(self, *fault: Any) -> None:
        super().__init__(fault[2])
        self.fault = fault


class _Body:
    """A body that is counted, and that may not fall silent."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self.left, self.is_done = receive, most, False

    async def receive(self) -> Message:
        if self.is_done:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), SILENCE_S)
        except TimeoutError:
            raise _Refused(400, "slow_body", f"nothing came for {SILENCE_S:.0f} s") from None
        self.left -= len(message.get("body", b""))
        self.is_done = not message.get("more_body", False)
        if self.left < 0:
            raise _Refused(413, "too_large", "the body is larger than allowed")
        return message


async def _refuse(send: Send, status: int, code: str, message: str, to: str | None = None) -> None:
    status, content = raw(303 if to else status, code, message)
    headers = [(b"content-type", b"application/json"), (b"x-should-retry", b"false")]
    if to:
        headers.append((b"location", to.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _add_headers(headers: MutableHeaders, request_id: str, path: str) -> None:
    headers["x-request-id"] = request_id
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["Content-Security-Policy"] = POLICY
    if path.startswith("/v1"):
        headers.setdefault("Cache-Control", "no-store")
    elif not path.startswith("/static/vendor/"):
        headers.setdefault("Cache-Control", "no-cache")
