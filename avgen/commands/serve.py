"""`avgen serve`: a model folder in, a page and an API out, on this machine unless told else."""

from __future__ import annotations

import argparse
import os
import secrets
from pathlib import Path

from avgen.commands.output import add_model_arguments, resolve_device
from avgen.errors import UserError
from avgen.pipeline.config import DEFAULT_MODEL, PipelineConfig

SUMMARY = "open avgen studio: a page to make, watch, compare and judge clips, and an API"
DESCRIPTION = """\
Serve avgen studio: a page in the browser, and an HTTP API that OpenAI's client speaks. One process
keeps the model loaded and makes what is queued; the queue survives whatever dies.

Only this machine can reach it unless --host says otherwise, and then it needs a token, from
--token or AVGEN_TOKEN, or drawn and written to a file in the studio's folder."""
EXAMPLES = """\
examples:
  avgen serve                                     http://127.0.0.1:8420
  avgen serve --model runs/mine/model --runs runs
  AVGEN_TOKEN=... avgen serve --host 0.0.0.0 --allow-host studio.example.org"""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where, what, and how much."""
    parser.add_argument("--host", default="127.0.0.1", help="address (default: this machine only)")
    parser.add_argument(
        "--port", type=int, default=8420, help="(default: 8420; 0 takes a free one)"
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that browsers may call this server by; may be given again",
    )
    parser.add_argument("--token", help="that every request must bring (better: AVGEN_TOKEN)")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("studio"),
        metavar="FOLDER",
        help="where clips, uploads and the queue are kept (default: ./studio)",
    )
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="training runs to show")
    add_model_arguments(parser)
    parser.add_argument("--threads", type=int, metavar="N", help="of the arithmetic")
    parser.add_argument("--max-queued", type=int, default=100, help="clips that may wait")
    parser.add_argument("--max-seconds", type=float, default=60.0, help="of one clip")
    parser.add_argument(
        "--watts-per-core",
        type=float,
        metavar="W",
        help="estimate energy where nothing measures it, and call it an estimate",
    )
    parser.add_argument("--no-marks", action="store_true", help="as of `avgen generate`")
    parser.add_argument("--no-metadata", action="store_true", help="as of `avgen generate`")


def run(args: argparse.Namespace) -> int:
    """Check, say where, and serve until stopped."""
    token = args.token or os.environ.get("AVGEN_TOKEN") or None
    is_local = args.host in LOOPBACK
    if not is_local and token is None:
        raise UserError(
            f"--host {args.host}: others can reach it; set AVGEN_TOKEN (or --token) to a secret, "
            f"as {secrets.token_urlsafe(18)}"
        )
    model = Path(args.model) if args.model else DEFAULT_MODEL
    PipelineConfig.read(model)
    try:
        import uvicorn

        from avgen.studio.app import make_app
        from avgen.studio.security import LOOPBACK as NAMES
        from avgen.studio.security import Gate
        from avgen.studio.state import Settings, Studio
    except ImportError as error:
        raise UserError(
            f"avgen serve needs {error.name}; pip install 'avgen[studio]' brings it"
        ) from error
    manner = {"model": model.resolve().name if args.model else "default",
              "metadata": not args.no_metadata, "marks": not args.no_marks,
              "watts_per_core": args.watts_per_core}  # fmt: skip
    settings = Settings(
        folder=args.data.resolve(),
        model=model.resolve(),
        name=f"avgen-{manner['model']}",
        device=resolve_device(args.device) if args.device != "auto" else _auto(),
        dtype=args.dtype,
        threads=args.threads,
        manner=manner,
        max_queued=args.max_queued,
        max_seconds=args.max_seconds,
        runs=args.runs and args.runs.resolve(),
    )
    own = () if args.host in ("0.0.0.0", "::") else (_name(args.host),)
    gate = Gate((*NAMES, *own, *(name.lower() for name in args.allow_host)), token)
    studio = Studio(settings, gate)
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(studio),
            host=args.host,
            port=args.port,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=2,
            server_header=False,
        )
    )
    studio.is_leaving = lambda: server.should_exit
    _serve(server, gate, args.host)
    return 0


def _serve(server: object, gate: object, host: str) -> None:
    """Serve, and say where once it is known."""
    import asyncio

    async def told() -> None:
        task = asyncio.create_task(server.serve())  # type: ignore[attr-defined]
        while not server.started and not task.done():  # type: ignore[attr-defined]
            await asyncio.sleep(0.02)
        if server.started:  # type: ignore[attr-defined]
            port = server.servers[0].sockets[0].getsockname()[1]  # type: ignore[attr-defined]
            shown = "127.0.0.1" if host in ("0.0.0.0", "::") else _name(host)
            code = f"/enter?code={gate.new_code()}" if gate.token else "/"  # type: ignore[attr-defined]
            print(f"avgen studio: http://{shown}:{port}{code}  (Ctrl-C ends it)", flush=True)
        await task

    asyncio.run(told())


def _name(host: str) -> str:
    return f"[{host}]" if ":" in host else host.lower()


def _auto() -> str:
    """CUDA where the driver is there, without loading torch in the server."""
    return "cuda" if Path("/proc/driver/nvidia/version").exists() else "cpu"
