"""A package's public names, listed once and loaded on first use.

    if TYPE_CHECKING:
        from avgen.clips.clip import Clip as Clip

    __getattr__, __dir__, __all__ = lazy_names(__name__)

What type checkers read is the list: the imports under `if TYPE_CHECKING:` are found in the
package's source and done when somebody asks for a name, so that importing one of them does not
load the libraries of another.
"""

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

Loader = Callable[[str], Any]


def lazy_names(package: str) -> tuple[Loader, Callable[[], list[str]], list[str]]:
    """The module functions `__getattr__` and `__dir__` of a package, and its `__all__`."""
    source = Path(str(sys.modules[package].__file__)).read_text(encoding="utf-8")
    homes = {
        alias.asname or alias.name: node.module
        for block in ast.parse(source).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return load, names, sorted(homes)
