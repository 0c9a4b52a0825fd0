"""Clips in, blind pairs out; verdicts in, how often each was preferred out, with an interval.

Whoever judges sees neither names, seeds nor an order: a pair has a ticket, its sides are drawn, and
its clips are served under the ticket's name. After ITU-T P.910's pair comparison.
"""

from __future__ import annotations

import json
import math
import secrets
from typing import Any

from fastapi.responses import FileResponse, Response

from avgen.studio.failures import bad, missing
from avgen.studio.state import Studio

VERDICTS = ("left", "right", "same")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["ticket", "verdict"],
    "properties": {"ticket": {"type": "string"}, "verdict": {"enum": list(VERDICTS)}},
}
_drawn: dict[str, tuple[str, str]] = {}  # ticket -> clips on the left and on the right
MAX_DRAWN = 1000


def draw_pair(studio: Studio, question: str = "") -> dict[str, Any]:
    """Two finished clips that say the same, not yet judged most often.

    Where no two clips say the same words there is no ticket, and a reason.
    """
    rows = studio.queue.read(
        "SELECT id, options FROM jobs WHERE status = 'completed' AND NOT removed"
    )
    said: dict[str, list[str]] = {}
    for row in rows:
        words = json.loads(row["options"]).get("plan", {}).get("words") or []
        said.setdefault(" ".join(word[0].lower() for word in words), []).append(row["id"])
    pairs = [
        (one, other)
        for clips in said.values()
        for place, one in enumerate(clips)
        for other in clips[place + 1 :]
    ]
    if not pairs:
        reason = "No two finished clips say the same words: make one sentence with two seeds."
        return {"object": "judgement.pair", "ticket": None, "reason": reason}
    seen: dict[frozenset[str], int] = {}
    for row in studio.queue.read("SELECT about FROM judgements"):
        about = json.loads(row["about"])
        pair = frozenset((about["a"], about["b"]))
        seen[pair] = seen.get(pair, 0) + 1
    least = min(seen.get(frozenset(pair), 0) for pair in pairs)
    chosen = secrets.choice([p for p in pairs if seen.get(frozenset(p), 0) == least])
    sides = chosen if secrets.randbits(1) else (chosen[1], chosen[0])
    ticket = secrets.token_urlsafe(12)
    while len(_drawn) >= MAX_DRAWN:
        _drawn.pop(next(iter(_drawn)))
    _drawn[ticket] = sides
    return {
        "object": "judgement.pair",
        "ticket": ticket,
        "pairs": len(pairs),
        "judged": sum(seen.values()),
        "left": f"/v1/judgements/{ticket}/left",
        "right": f"/v1/judgements/{ticket}/right",
    }


def content(studio: Studio, ticket: str, side: str) -> Response:
    """The clip on a side of a pair."""
    if ticket not in _drawn or side not in ("left", "right"):
        raise missing("pair", ticket)
    path = studio.folder.clip(_drawn[ticket][side == "right"])
    if not path.is_file():
        raise missing("clip of the pair", ticket)
    return FileResponse(path, media_type="video/mp4")


def checked(body: dict[str, Any]) -> dict[str, Any]:
    """A verdict with the clips that it is about: "a" and "b" by their ids, never by their sides.

    Raises:
        ApiError: no such pair, or no verdict.
    """
    ticket, verdict = body.get("ticket"), body.get("verdict")
    if not isinstance(ticket, str) or ticket not in _drawn:
        raise missing("pair", str(ticket))
    if verdict not in VERDICTS:
        raise bad(f"verdict is {str(verdict)[:80]!r}; it must be {', '.join(VERDICTS)}", "verdict")
    left, right = _drawn.pop(ticket)
    a, b = sorted((left, right))
    preferred = {"left": left, "right": right}.get(verdict)
    return {"a": a, "b": b, "left": left, "verdict": verdict, "preferred": preferred}


def summary(judgements: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each pair that was judged: how often `a` was preferred; a tie is half a time for each."""
    pairs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for about in judgements:
        pairs.setdefault((about["a"], about["b"]), []).append(about)
    told = []
    for (a, b), about in pairs.items():
        wins = sum(1.0 if j["preferred"] == a else 0.5 * (j["preferred"] is None) for j in about)
        low, high = wilson(wins, len(about))
        told.append({"a": a, "b": b, "n": len(about), "a_preferred": wins / len(about),
                     "interval": [low, high]})  # fmt: skip
    return told


def wilson(wins: float, count: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927, JASA 22:209, eq. for p without continuity)."""
    share, square = wins / count, z * z / count
    middle = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)
