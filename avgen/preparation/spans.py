"""A stretch with somebody in it, and when there is speech -> spans of 2 to 10 s, cut in pauses."""

from __future__ import annotations

from avgen.preparation.voice import Times


def cut(
    start_s: float, end_s: float, speech: Times, min_s: float, max_s: float
) -> list[tuple[float, float]]:
    """Spans that tile [start_s, end_s), each from min_s to max_s long.

    What is no longer than max_s stays whole. A span ends in the middle of the last pause that lets
    it be long enough and leaves enough, or, where nobody pauses, where it must.

    Args:
        start_s: Seconds.
        end_s: At least min_s later.
        speech: Starts and ends of speech, on the same clock.
        min_s: Of the shortest span.
        max_s: Of the longest; at least twice min_s.
    """
    pauses = [(a + b) / 2 for (_, a), (b, _) in zip(speech, speech[1:], strict=False)]
    spans = []
    while end_s - start_s > max_s:
        latest = min(start_s + max_s, end_s - min_s)
        fitting = [place for place in pauses if start_s + min_s <= place <= latest]
        middle = fitting[-1] if fitting else latest
        spans.append((start_s, middle))
        start_s = middle
    return [*spans, (start_s, end_s)]
