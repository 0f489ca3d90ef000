"""The source of a Python function as an AST, with the names it can see."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import linecache
import types
from collections.abc import Callable
from typing import Any

from tilus.diagnostics import Span, UserError
from tilus.diagnostics.frames import caller_span


class CapturedFunction:
    """A function whose body can be traced: its AST, its file, and the values of its free names.

    Raises UserError (E0111) where the source is not available, e.g. for functions typed at the plain prompt.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        if not isinstance(function, types.FunctionType):
            name = getattr(function, "__qualname__", function)
            raise UserError.at("E0111", f"{name!r} is not a plain Python function", caller_span(),
                               help="decorate a function written with `def`")
        if function.__code__.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            raise UserError.at("E0101", f"{function.__name__!r} is an `async` function, which is not supported as a "
                                        "kernel", caller_span(), help="write `def`")
        self.function = function
        self.name = function.__name__
        self.file = function.__code__.co_filename
        self.line = function.__code__.co_firstlineno

    @functools.cached_property
    def node(self) -> ast.FunctionDef | ast.Lambda:
        tree_nodes = _function_nodes(self.file, _source(self.file, self.name))
        found = tree_nodes.get((self.line, self.name))
        if found is None:
            raise UserError.at("E0111", f"the source of {self.name!r} is not where Python says it is: {self.file}",
                               help="the file has changed since it was imported; restart Python")
        if len(found) == 1 or not isinstance(found[0], ast.Lambda):
            return found[-1]
        chosen = _lambda_of(self.function.__code__, [n for n in found if isinstance(n, ast.Lambda)])
        if chosen is None:
            raise UserError.at("E0111", "several lambdas begin on one line, and Python does not say which one this is",
                               self.span(found[0]), help="put each on a line of its own, or define functions")
        return chosen

    @property
    def source(self) -> str:
        """The text of the function, for the cache's key."""
        return ast.get_source_segment(_source(self.file, self.name), self.node) or ""

    def span(self, node: ast.AST) -> Span:
        return span_of(self.file, node)

    @functools.cached_property
    def closure(self) -> dict[str, Any]:
        """The free variables that have a value."""
        cells = self.function.__closure__ or ()
        found = {}
        for name, cell in zip(self.function.__code__.co_freevars, cells, strict=True):
            try:
                found[name] = cell.cell_contents
            except ValueError:
                continue
        return found

    def lookup(self, name: str) -> Any:
        """The value of a free name. Raises KeyError."""
        if name in self.closure:
            return self.closure[name]
        if name in self.function.__globals__:
            return self.function.__globals__[name]
        return vars(builtins)[name]


def span_of(file: str, node: ast.AST) -> Span:
    line = getattr(node, "lineno", 0)
    return Span(file, line, getattr(node, "col_offset", 0), getattr(node, "end_lineno", line) or line,
                getattr(node, "end_col_offset", 0) or 0)


def _source(file: str, name: str) -> str:
    lines = linecache.getlines(file)
    if not lines:
        raise UserError.at("E0111", f"the source of {name!r} is not available ({file})",
                           help="define kernels in a file or a notebook cell")
    return "".join(lines)


def assertion_at(span: Span) -> ast.Assert | None:
    """The ``assert`` of a file that a place is in."""
    source = "".join(linecache.getlines(span.file))
    found = None
    for node in ast.walk(ast.parse(source, span.file)):
        if isinstance(node, ast.Assert) and (node.lineno, node.col_offset) <= (span.line, span.column) and (
                span.line, span.column) < (node.end_lineno or node.lineno, node.end_col_offset or 0):
            found = node
    return found


@functools.lru_cache(maxsize=64)
def _function_nodes(file: str, source: str) -> dict[tuple[int, str], list[ast.FunctionDef | ast.Lambda]]:
    """The functions that begin on a line, by name."""
    found: dict[tuple[int, str], list[ast.FunctionDef | ast.Lambda]] = {}
    for node in ast.walk(ast.parse(source, file)):
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            found.setdefault((first, node.name), []).append(node)
        elif isinstance(node, ast.Lambda):
            found.setdefault((node.lineno, "<lambda>"), []).append(node)
    return found


def _lambda_of(code: types.CodeType, candidates: list[ast.Lambda]) -> ast.Lambda | None:
    """The innermost lambda whose body holds the places of all instructions (which Python keeps since 3.11)."""
    if not hasattr(code, "co_positions"):
        return None
    places = [(line, column) for line, _, column, end in code.co_positions() if line and column is not None and end]
    inside = []
    for node in candidates:
        first, last = (node.body.lineno, node.body.col_offset), (node.body.end_lineno, node.body.end_col_offset)
        if places and all(first <= place < last for place in places):
            inside.append((first, node))
    return max(inside, key=lambda pair: pair[0])[1] if inside else None
