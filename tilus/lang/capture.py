"""The source of a Python function as an AST, with the names it can see."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import sys
import threading
import types
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import Span, UserError
from tilus.diagnostics.frames import caller_span
from tilus.diagnostics.sources import COMMAND, source_lines

if TYPE_CHECKING:
    from tilus.lang.reads import Reads


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
        name = self.function.__code__.co_name
        nodes = _lambdas if name == "<lambda>" else _definitions
        found = nodes(self.file, _source(self.file, self.name)).get((self.line, name))
        if self.file == COMMAND and (found is None or not self._is_in_command()):
            raise _unavailable(self.file, self.name)
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

    def _is_in_command(self) -> bool:
        """Whether the function is one of ``python -c``, rather than of another string."""
        todo = [compile(_source(self.file, self.name), self.file, "exec", dont_inherit=True)]
        while todo:
            code = todo.pop()
            if code == self.function.__code__:
                return True
            todo += [c for c in code.co_consts if isinstance(c, types.CodeType)]
        return False

    @property
    def source(self) -> str:
        """The text of the function, for the cache's key."""
        return ast.get_source_segment(_source(self.file, self.name), self.node) or ""

    def span(self, node: ast.AST) -> Span:
        return span_of(self.file, node)

    @property
    def closure(self) -> dict[str, Any]:
        """The free variables that have a value now."""
        return {name: cell.cell_contents for name, cell in self._cells.items() if has_value(cell)}

    @functools.cached_property
    def _cells(self) -> dict[str, types.CellType]:
        return dict(zip(self.function.__code__.co_freevars, self.function.__closure__ or (), strict=True))

    def lookup(self, name: str, reads: Reads) -> Any:
        """The value of a free name, which is noted among the reads. Raises KeyError."""
        cell = self._cells.get(name)
        if cell is not None and has_value(cell):
            reads.cell(cell)
            return cell.cell_contents
        if cell is not None:
            raise KeyError(name)
        namespace = self.function.__globals__
        reads.name(namespace, name)
        return namespace[name] if name in namespace else vars(builtins)[name]


class BuiltFunction(CapturedFunction):
    """A name and a place for what nobody has written as a function: its arrays are made by calls of the language's
    functions (:func:`tilus.lang.arrays.build_arrays`)."""

    def __init__(self, name: str, span: Span) -> None:
        self.name, self.file, self.line = name, span.file, span.line
        node = ast.parse("lambda: None", mode="eval").body
        assert isinstance(node, ast.Lambda)
        node.lineno, node.col_offset, node.end_lineno, node.end_col_offset = (
            span.line, span.column, span.end_line, span.end_column)
        self.node = node


def has_value(cell: types.CellType) -> bool:
    """Whether a variable of an enclosing function has a value yet."""
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def span_of(file: str, node: ast.AST) -> Span:
    line = getattr(node, "lineno", 0)
    return Span(file, line, getattr(node, "col_offset", 0), getattr(node, "end_lineno", line) or line,
                getattr(node, "end_col_offset", 0) or 0)


def _source(file: str, name: str) -> str:
    lines = source_lines(file)
    if not lines:
        raise _unavailable(file, name)
    return "".join(lines)


def _unavailable(file: str, name: str) -> UserError:
    return UserError.at("E0111", f"the source of {name!r} is not available ({file})", caller_span(),
                        help="define kernels in a file or a notebook cell, or give their text to `linecache`")


def assertion_at(span: Span) -> ast.Assert | None:
    """The ``assert`` of a file that a place is in."""
    source = "".join(source_lines(span.file))
    found = None
    for node in ast.walk(ast.parse(source, span.file)):
        if isinstance(node, ast.Assert) and (node.lineno, node.col_offset) <= (span.line, span.column) and (
                span.line, span.column) < (node.end_lineno or node.lineno, node.end_col_offset or 0):
            found = node
    return found


def _parsed(file: str, source: str) -> ast.Module:
    """The tree of a source, however long its expressions are: `ast` counts their nesting against the stack's limit."""
    with _parsing:  # the limit is the whole process's
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(limit, 50_000))
        try:
            return ast.parse(source, file)
        finally:
            sys.setrecursionlimit(limit)


_parsing = threading.Lock()


@functools.lru_cache(maxsize=64)
def _tree(file: str, source: str) -> ast.Module:
    return _parsed(file, source)


Nodes = dict[tuple[int, str], list["ast.FunctionDef | ast.Lambda"]]


@functools.lru_cache(maxsize=64)
def _definitions(file: str, source: str) -> Nodes:
    """The functions that begin on a line, by name; outer ones first. They are statements, so expressions are not
    looked into, which is most of a tree."""
    found: Nodes = {}
    todo: deque[ast.AST] = deque([_tree(file, source)])
    while todo:
        node = todo.popleft()
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            found.setdefault((first, node.name), []).append(node)
        for field in ("body", "handlers", "orelse", "finalbody", "cases"):
            todo += getattr(node, field, ())
    return found


@functools.lru_cache(maxsize=64)
def _lambdas(file: str, source: str) -> Nodes:
    """The lambdas that begin on a line."""
    found: Nodes = {}
    for node in ast.walk(_tree(file, source)):
        if isinstance(node, ast.Lambda):
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
