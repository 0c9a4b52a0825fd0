"""Errors as OpenAI's clients read them: {"error": {"message", "type", "param", "code"}}.

Clients try 408, 409, 429 and every 5xx again: none of these is said of what a second try cannot
cure, or the answer tells them not to.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

log = logging.getLogger("avgen.studio")

# What each status is called.
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    501: "not_supported",
    503: "server_error",
}


class ApiError(Exception):
    """An answer that is an error.

    Args:
        status: Of HTTP.
        code: For programs.
        message: For people: what is wrong, its value and the rule.
        param: The field that is wrong.
        retry_after_s: When another try may go better; none does where None.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param
        self.retry_after_s = retry_after_s

    def response(self) -> JSONResponse:
        """The answer."""
        retry = "true" if self.retry_after_s is not None else "false"
        headers = {"x-should-retry": retry}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, round(self.retry_after_s)))
        content = body(self.status, self.code, str(self), self.param)
        return JSONResponse(content, self.status, headers)


def body(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """The JSON of an error."""
    kind = _TYPES.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def bad(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """What a user asked for is wrong."""
    return ApiError(400, code, message, param)


def missing(what: str, name: str) -> ApiError:
    """There is no such thing."""
    return ApiError(404, "not_found", f"no {what} {name[:80]!r}")


def handle(app: FastAPI) -> None:
    """Make every error of an app one of these."""

    @app.exception_handler(ApiError)
    async def known(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        param = str(first["loc"][-1]) if first.get("loc") else None
        return bad(f"{param}: {first['msg']}", param).response()

    @app.exception_handler(HTTPException)
    async def http(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        made = ApiError(error.status_code, code, str(error.detail)).response()
        made.headers.update(error.headers or {})
        return made

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return ApiError(
            500, "server_error", "a fault of avgen's; the server's log has it"
        ).response()


def raw(status: int, code: str, message: str) -> tuple[int, bytes]:
    """The same for those who answer without an app: status and body."""
    return status, json.dumps(body(status, code, message)).encode()
