"""A Jinja template and values -> text: the one way in which pages and tables are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent


def render(template: Path, **values: Any) -> str:
    """The text of a template, which may extend or import those in this folder (base.html.jinja).

    Values are escaped in templates whose name ends in `.html.jinja`.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, HERE]),
        autoescape=lambda name: name is not None and name.endswith(".html.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"interval": interval_text, "number": number_text, "cell": _cell}
    return environment.get_template(template.name).render(values)


def interval_text(found: dict[str, Any] | None) -> str:
    """Mean, interval and number of clips as 0.42 [0.38, 0.47] (n 10), or a dash."""
    if found is None:
        return "-"
    low, high = found["interval"]
    ends = "no interval" if low is None else f"{low:.3g}, {high:.3g}"
    return f"{found['mean']:.3g} [{ends}] (n {found['n']})"


def number_text(value: float | None, digits: int = 3) -> str:
    """So many digits, or a dash."""
    return "-" if value is None else f"{value:.{digits}g}"


def _cell(text: str) -> str:
    """Text inside a table of Markdown."""
    return text.replace("|", "\\|")
