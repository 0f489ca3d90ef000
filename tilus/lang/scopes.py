"""Which names a piece of code assigns."""

from __future__ import annotations

import ast
import functools
from collections.abc import Sequence


def own_nodes(*nodes: ast.AST) -> list[ast.AST]:
    """The nodes of some code, without those of functions defined in it, in the order of the source."""
    found: list[ast.AST] = []
    todo = list(reversed(nodes))
    while todo:
        node = todo.pop()
        found.append(node)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            todo += reversed(list(ast.iter_child_nodes(node)))
    return found


def bound_names(nodes: Sequence[ast.AST]) -> list[str]:
    """The names that some code of a function assigns, without those of functions and comprehensions in it."""
    names: dict[str, None] = {}
    todo = list(reversed(nodes))
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names[node.name] = None
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names[node.id] = None
        elif isinstance(node, ast.comprehension):
            todo += [*reversed(node.ifs), node.iter]
        elif not isinstance(node, ast.Lambda):
            todo += reversed(list(ast.iter_child_nodes(node)))
    return list(names)


@functools.lru_cache(maxsize=256)
def assigned_names(statement: ast.For | ast.While) -> tuple[str, ...]:
    names = dict.fromkeys(bound_names(statement.body))
    if may_leave(statement.body):
        names.update(dict.fromkeys(("$break", "$return", "$value")))
    return tuple(names)


@functools.lru_cache(maxsize=256)
def subscripted_names(statement: ast.For | ast.While) -> tuple[str, ...]:
    return tuple(dict.fromkeys(
        n.value.id for n in own_nodes(*statement.body)
        if isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Store) and isinstance(n.value, ast.Name)))


def may_leave(statements: Sequence[ast.stmt], nested: bool = False) -> bool:
    """Whether ``break`` (of this loop) or ``return`` occurs."""
    for node in statements:
        if isinstance(node, ast.Return) or (isinstance(node, ast.Break) and not nested):
            return True
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            continue
        inner = nested or isinstance(node, (ast.For, ast.While))
        for field in ("body", "orelse"):
            if may_leave(getattr(node, field, []), inner):
                return True
    return False


def assignment_of(statement: ast.For | ast.While, name: str) -> ast.AST | None:
    """The last assignment to ``name`` in the loop."""
    found: ast.AST | None = None
    for node in ast.walk(statement):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            targets = [node.target]
        if any(isinstance(t, ast.Name) and t.id == name for target in targets for t in ast.walk(target)) and (
            found is None or node.lineno >= found.lineno  # type: ignore[attr-defined]
        ):
            found = node
    return found


def target_names(target: ast.expr) -> list[str]:
    return [n.id for n in ast.walk(target) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]


def target_name(statement: ast.For) -> str:
    return statement.target.id if isinstance(statement.target, ast.Name) else ""
