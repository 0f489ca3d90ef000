"""Writes tilus/__init__.pyi: what type checkers see of the package, from what it imports.

Run ``python -m tools.stub > tilus/__init__.pyi`` from the root of the repository.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import tilus as tl

HEAD = '''\
"""What type checkers see of tilus. Made by `python -m tools.stub > tilus/__init__.pyi`.

Element types are of type Any, so that annotations such as `tl.f16["M", "K"]` pass; functions have their own types.
"""

from typing import Any

'''


def stub() -> str:
    """The text of the stub."""
    imported = sorted(((node.module, alias.asname or alias.name, alias.name)
                       for node in _statements(Path(tl.__file__))
                       if isinstance(node, ast.ImportFrom) and node.module is not None for alias in node.names),
                      key=lambda names: [*map(_natural, names[:2])])
    public = [(module, name, original) for module, name, original in imported
              if not name.startswith("_") or name == "__version__"]
    types = sorted((name for _, name, _ in public if _is_element_type(name)), key=_natural)
    lines = [f"from {module} import {original} as {name}" for module, name, original in public if name not in types]
    return f"{HEAD}{chr(10).join(lines)}\n\n{chr(10).join(f'{name}: Any' for name in types)}\n"


def _statements(path: Path) -> Iterator[ast.stmt]:
    """Those of a module, and of its branches for type checkers."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        yield from node.body if isinstance(node, ast.If) else [node]


def _is_element_type(name: str) -> bool:
    """Whether it is one that stands in annotations; `bool` and `float` are Python's there."""
    return isinstance(getattr(tl, name), tl.DType) and name not in ("bool", "float")


def _natural(name: str) -> list[tuple[int, str]]:
    """Numbers in a name by their size."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


if __name__ == "__main__":
    print(stub(), end="")
