"""A `Studio` in, the application that answers HTTP out: the API, the page, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from avgen import __version__
from avgen.studio import batches_api, failures, tools_api, videos_api
from avgen.studio.events import Events
from avgen.studio.security import COOKIE, Guard
from avgen.studio.state import Studio

STATIC = Path(__file__).parent / "static"
_DOOR = """<!doctype html><html lang="en"><meta charset="utf-8"><title>avgen studio</title>
<link rel="stylesheet" href="/static/app.css"><main class="door"><h1>avgen studio</h1>
<form method="post" action="/enter"><label>Token <input type="password" name="token" required
autocomplete="current-password"></label> <button>Enter</button></form></main></html>"""


def make_app(studio: Studio, work: bool = True) -> FastAPI:
    """The application.

    Args:
        studio: Its state.
        work: Start the worker with it.
    """

    @asynccontextmanager
    async def alive(app: FastAPI) -> AsyncIterator[None]:
        app.state.events = Events(studio)
        tasks = [asyncio.create_task(app.state.events.run()),
                 asyncio.create_task(studio.know_model())]  # fmt: skip
        if work:
            studio.start()
        yield
        for task in tasks:
            task.cancel()
        studio.stop()

    app = FastAPI(
        title="avgen studio",
        version=__version__,
        lifespan=alive,
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    app.state.studio = studio
    failures.handle(app)
    for routes in (videos_api, batches_api, tools_api):
        app.include_router(routes.router)
    _add_page(app, studio)
    app.add_middleware(Guard, gate=studio.gate)
    return app


def _add_page(app: FastAPI, studio: Studio) -> None:
    """The page, its files, and the door for those who need a token."""
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return FileResponse(STATIC / "index.html")

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> Response:
        return FileResponse(STATIC / "icon.svg", media_type="image/svg+xml")

    @app.get("/enter", include_in_schema=False)
    def door(code: str | None = None) -> Response:
        return HTMLResponse(_DOOR) if code is None else _let_in(studio, code)

    @app.post("/enter", include_in_schema=False)
    async def knock(request: Request) -> Response:
        form = await request.form(max_fields=1, max_files=0)
        return _let_in(studio, str(form.get("token", "")))


def _let_in(studio: Studio, secret: str) -> Response:
    session = studio.gate.enter(secret)
    if session is None:
        return HTMLResponse(_DOOR, 401)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(COOKIE, session, httponly=True, samesite="strict")
    return answer
