"""Writes docs/api.md: every public name with its signature and docstring, from the code.

Run ``python -m tools.api_reference > docs/api.md`` from the root of the repository.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Iterator
from typing import Any

import tilus as tl

HEAD = """\
# API reference

What `import tilus as tl` gives. The meaning of programs is in [language.md](language.md), error bounds of functions
are in [functions.md](functions.md). Made by `python -m tools.api_reference > docs/api.md`.
"""
SECTIONS = {
    "Kernels and calls": ("tilus.runtime.",),
    "Tuning": ("tilus.tuning.",),
    "Cost models": ("tilus.model.",),
    "Quantisation": ("tilus.quantization.",),
    "The launch, loops and checks": ("tilus.lang.builtins.control",),
    "Making tiles": ("tilus.lang.builtins.creation",),
    "Elementwise": ("tilus.lang.builtins.elementwise", "tilus.lang.builtins.functions"),
    "Reductions, scans, order and products": ("tilus.lang.builtins.reduction", "tilus.lang.builtins.statistics",
                                              "tilus.lang.builtins.sparse", "tilus.lang.builtins.scaled",
                                              "tilus.lang.builtins.ordering", "tilus.lang.builtins.convolutions"),
    "Functions given by the user": ("tilus.lang.builtins.functional",),
    "Shapes and layouts": ("tilus.lang.builtins.shape", "tilus.lang.builtins.layouts"),
    "Memory": ("tilus.lang.builtins.memory",),
    "Synchronisation and groups": ("tilus.lang.builtins.sync",),
    "Values in a kernel": ("tilus.lang.values", "tilus.lang.views"),
    "Errors and warnings": ("tilus.diagnostics.",),
    "Types": ("tilus.ir.dtypes",),
}


CALLED = ("adopt", "call", "choose", "compile", "explain", "key_of", "lookup", "on", "tune")
"""The methods of kernels and fused functions, autotuned ones too, that are the user's."""


def public_names() -> dict[str, Any]:
    """What the package exports, without its own modules."""
    return {name: value for name, value in vars(tl).items()
            if not name.startswith("_") and not isinstance(value, types.ModuleType)}


def signature(name: str, value: Callable[..., Any]) -> str:
    """``name(parameters) -> result`` as in the source, without the quotes of postponed annotations."""
    getattr(vars(value).get("__init__") if isinstance(value, type) else None, "compile", lambda: None)()  # of a record
    try:
        text = str(inspect.signature(value))
    except ValueError:
        return name
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text).replace("builtins.", "")
    for before, after in (("(self, ", "("), ("(self)", "()"), ("(/, ", "(")):
        text = text.replace(before, after)
    return f"{name}{text}"


def text_of(value: Any) -> str:
    """The docstring in Markdown."""
    doc = inspect.getdoc(value) or ""
    doc = re.sub(r":(?:func|class|meth|mod):`~?\.?([^`]*)`", r"`\1`", doc).replace("``", "`")
    doc = re.sub(r"^(Args|Raises|Attributes|Returns):$", r"\n*\1:*\n", doc, flags=re.MULTILINE)
    return re.sub(r"^    (?=\S)", "- ", doc, flags=re.MULTILINE).replace("\n        ", "\n  ")


def entry(name: str, value: Any, level: int = 3) -> Iterator[str]:
    yield f"{'#' * level} `{name}`\n"
    if callable(value) and not isinstance(value, (tl.DType, types.UnionType)):
        yield f"```python\n{signature(name, value)}\n```\n"
    yield f"{text_of(value)}\n"
    if isinstance(value, type) and value.__module__.startswith("tilus."):
        for method, function in methods(value):
            yield from entry(f"{name}.{method}", function, level + 1)


def methods(kind: type) -> Iterator[tuple[str, Any]]:
    """The documented methods of a class, its bases' too."""
    for name in sorted(dir(kind)):
        value = inspect.getattr_static(kind, name)
        if name.startswith("_") or not inspect.getdoc(value) or issubclass(kind, Exception):
            continue
        if kind.__module__.startswith(("tilus.runtime.", "tilus.tuning.")) and name not in CALLED:
            continue
        function = getattr(kind, name)
        if callable(function) or isinstance(value, property):
            yield name, function if callable(function) else value


def document() -> str:
    names = public_names()
    lines = [HEAD]
    left = dict(names)
    for title, modules in SECTIONS.items():
        lines.append(f"## {title}\n")
        found = {n: v for n, v in names.items() if _module(v).startswith(modules) and n in left}
        for name in sorted(found, key=str.lower):
            left.pop(name)
            if not isinstance(found[name], (tl.DType, tl.QuantFormat)):
                lines += entry(f"tl.{name}", found[name])
        dtypes = sorted((n for n, v in found.items() if isinstance(v, tl.DType)), key=_by_width)
        formats = sorted(n for n, v in found.items() if isinstance(v, tl.QuantFormat))
        if formats:
            lines.append("Formats: " + ", ".join(f"`tl.{n}`" for n in formats) + ".\n")
        if dtypes:
            lines.append("Element types: " + ", ".join(f"`tl.{n}`" for n in dtypes) + ".\n")
    lines.append("## `tl.random`\n")
    lines.append(f"{text_of(tl.random)}\n")
    for name, value in sorted(vars(tl.random).items()):
        if inspect.isfunction(value) and value.__module__ == tl.random.__name__ and not name.startswith("_"):
            lines += entry(f"tl.random.{name}", value)
    assert not left, f"in no section: {sorted(left)}"
    text = "\n".join(lines)
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _module(value: Any) -> str:
    if value is tl.Layout:
        return "tilus.lang.builtins.layouts"
    return str(getattr(value, "__module__", None) or type(value).__module__)


def _by_width(name: str) -> tuple[str, int, str]:
    digits = re.sub(r"\D", " ", name).split()
    return name[0] if name[:2] not in ("bf", "tf") else "f", int(digits[0]) if digits else 0, name


if __name__ == "__main__":
    print(document(), end="")
