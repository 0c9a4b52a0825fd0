"""An import path -> the callable that it names: aligners, recognisers, captioners, codecs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from avgen.errors import UserError


@cache
def load_plugin(path: str, rule: str = "name one as package.module.name") -> Callable[..., Any]:
    """The function or class at `path`, "package.module.name".

    Args:
        path: The import path.
        rule: What a path must be, for the message.

    Raises:
        UserError: it cannot be imported or called.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{path}: no such plug-in ({error}); {rule}") from error
    if not callable(found):
        raise UserError(f"{path}: is a {type(found).__name__}; a plug-in is called; {rule}")
    return found
