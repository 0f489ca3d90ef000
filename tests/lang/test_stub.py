"""The stub names what the package exports."""

from __future__ import annotations

import ast
from pathlib import Path

import tilus

PACKAGE = Path(tilus.__file__).parent


def names(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            found |= {a.asname or a.name for a in node.names}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return {name for name in found - {"Any"} if not name.startswith("_") or name.startswith("__")}


def test_the_stub_has_the_same_names() -> None:
    assert names(PACKAGE / "__init__.pyi") == names(PACKAGE / "__init__.py")
