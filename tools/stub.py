"""Writes tilus/__init__.pyi: what type checkers see of the package.

Run ``python -m tools.stub > tilus/__init__.pyi`` from the root of the repository.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import tilus as tl
from tilus.lang.builtins.functions import FUNCTIONS
from tilus.lang.public import public_names

HEAD = '''\
"""What type checkers see of tilus. Made by `python -m tools.stub > tilus/__init__.pyi`.

Element types are of type Any, so that annotations such as `tl.f16["M", "K"]` pass; functions have their own types.
"""

import builtins
from typing import Any

'''


def stub() -> str:
    """The text of the stub."""
    imports, functions, types = [], [], []
    for module, original, name in {*_imported(Path(tl.__file__)), *_declared()}:
        if name == "bool":
            imports.append(("tilus.ir.dtypes", "bool_", name))
        elif _is_element_type(name):
            types.append(name)
        elif name in FUNCTIONS:
            functions.append(name)
        else:
            imports.append((module, original, name))
    lines = [f"from {module} import {original} as {name}" for module, original, name in
             sorted(imports, key=lambda names: [*map(_natural, (names[0], names[2]))])]
    lines += ["", *(f"{name}: Any" for name in sorted(types, key=_natural))]
    for name in sorted(functions, key=_natural):
        signature = str(inspect.signature(FUNCTIONS[name])).replace("'", "").replace("bool", "builtins.bool")
        lines += ["", f"def {name}{signature}:", f'    """{FUNCTIONS[name].__doc__}"""']
    return HEAD + "\n".join(lines) + "\n"


def _imported(path: Path) -> Iterator[tuple[str, str, str]]:
    """What a module imports for its users, for type checkers too: from where, the name there and here."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        for statement in node.body if isinstance(node, ast.If) else [node]:
            if isinstance(statement, ast.ImportFrom) and statement.module is not None:
                for alias in statement.names:
                    name = alias.asname or alias.name
                    if not name.startswith("_") or name == "__version__":
                        yield statement.module, alias.name, name


def _declared() -> Iterator[tuple[str, str, str]]:
    """What modules of the language declare, likewise."""
    for name, value in public_names():
        yield getattr(value, "__module__", ""), name, name


def _is_element_type(name: str) -> bool:
    """Whether it is one that stands in annotations; `bool` and `float` are Python's there."""
    return isinstance(getattr(tl, name), tl.DType) and name not in ("bool", "float")


def _natural(name: str) -> list[tuple[int, str]]:
    """Numbers in a name by their size."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


if __name__ == "__main__":
    print(stub(), end="")
