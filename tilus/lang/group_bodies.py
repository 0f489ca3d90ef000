"""Kernels that Python itself runs, changed where Python's meaning is not the language's.

The bodies of their thread groups are made functions, and Python's numbers are scalars where they are asked for what
only scalars have: on other engines the literal that a loop changes is one (``k = 0; while …: k += 1; k.to(…)``).

Groups run side by side, but the body of a Python ``with`` cannot be left and resumed. So ``with tl.group(0, 1): BODY``
becomes a function of the local names that BODY mentions, which is handed to the context and run as a strand of its own.
Before and after the iterations of a run-time loop, and the branches of a run-time condition, around groups the block
waits for the groups that have begun.
Lines and columns stay, for debuggers. Functions with nothing of that are left as they are.
"""

from __future__ import annotations

import ast
import copy
import functools
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tilus.diagnostics import UserError
from tilus.lang.capture import CapturedFunction

_RUN = "__tilus_run_group__"
_UNBOUND = "__tilus_unbound__"
_BODY = "__tilus_group_body__"
_SCALAR = "__tilus_scalar__"
_JOINING = "__tilus_joining__"
_OF_SCALARS = ("to", "bitcast", "dtype", "shape")
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
RunGroup = Callable[[Any, Callable[[], None]], None]


class _Unbound:
    """The value of a name that has none yet when a group begins."""


def with_group_functions(captured: CapturedFunction, run_group: RunGroup, join: Callable[[], None]
                         ) -> Callable[..., Any]:
    """The function, whose groups call ``run_group(manager, body)``, and which calls ``join()`` to wait for them.

    Raises UserError (E0101) where a ``return``, ``break`` or ``continue`` would leave a group.
    """
    function = captured.function
    code = _compiled(captured)
    if code is None:
        return function
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))

    def run(manager: Any, body: Callable[..., None], names: tuple[str, ...], scope: dict[str, Any]) -> None:
        run_group(manager, functools.partial(body, **{n: scope[n] for n in names if n in scope}))

    cells |= {name: types.CellType(value) for name, value in (
        (_RUN, run), (_UNBOUND, _Unbound), (_SCALAR, _as_scalar), (_JOINING, functools.partial(_joining, join)))}
    made = types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__,
                              tuple(cells[name] for name in code.co_freevars))
    made.__kwdefaults__ = function.__kwdefaults__
    return made


@functools.lru_cache(maxsize=256)
def _compiled(captured: CapturedFunction) -> types.CodeType | None:
    """The code of the changed function; None where there is nothing to change."""
    node = captured.node
    if isinstance(node, ast.Lambda) or not any(map(_is_changed, ast.walk(node))):
        return None
    try:
        node = copy.deepcopy(node)
    except RecursionError:
        raise UserError.at("E0112", f"an expression of {captured.name} nests too deeply for the python engine",
                           captured.span(node), help="give parts of it names") from None
    node.decorator_list = []
    node.returns = None
    arguments = node.args
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        argument.annotation = None
    # The values of the defaults are those of the function that there is.
    nothing = ast.Constant(None)
    arguments.defaults = [nothing for _ in arguments.defaults]
    arguments.kw_defaults = [None if d is None else nothing for d in arguments.kw_defaults]
    node = _Scalars().visit(node)
    _Groups(captured, node).visit_body()
    free = [ast.arg(name) for name in (*captured.function.__code__.co_freevars, _RUN, _UNBOUND, _SCALAR, _JOINING)]
    parameters = ast.arguments(posonlyargs=[], args=free, kwonlyargs=[], kw_defaults=[], defaults=[])
    around = ast.copy_location(ast.FunctionDef(
        name="__tilus_closure__", args=parameters, body=[node], decorator_list=[]), node)
    module = ast.fix_missing_locations(ast.Module([around], []))
    try:
        code = compile(module, captured.file, "exec")
    except SyntaxError as error:
        raise UserError.at("E0101", "`break` and `continue` cannot leave a thread group", captured.span(node)) \
            from error
    return _nested_code(_nested_code(code, around.name), node.name)


def _nested_code(code: types.CodeType, name: str) -> types.CodeType:
    return next(c for c in code.co_consts if isinstance(c, types.CodeType) and c.co_name == name)


def _is_changed(node: ast.AST) -> bool:
    return isinstance(node, ast.With) or (isinstance(node, ast.Attribute) and node.attr in _OF_SCALARS)


def _as_scalar(value: Any) -> Any:
    from tilus.lang.values import as_tile

    return as_tile(value) if type(value) in (bool, int, float) else value


class _JoiningLoop:
    """What a run-time loop goes over, where each iteration begins when the groups of the one before have ended."""

    def __init__(self, items: Iterable[Any], join: Callable[[], None]) -> None:
        self.items, self.join = items, join

    def __iter__(self) -> Iterator[Any]:
        for item in self.items:
            self.join()
            yield item


def _joining(join: Callable[[], None], value: Any) -> Any:
    """A condition or what a loop goes over, as it is tested or gone over; again after the branch or loop."""
    from tilus.lang.builtins import control
    from tilus.lang.values import Tile

    if isinstance(value, (range, control.range)):
        return _JoiningLoop(value, join)
    if isinstance(value, (Tile, _JoiningLoop)):
        join()
    return value


class _Scalars(ast.NodeTransformer):
    """Makes scalars of Python's numbers that are asked for their type or converted."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if node.attr in _OF_SCALARS and isinstance(node.ctx, ast.Load):
            call = ast.Call(ast.Name(_SCALAR, ast.Load()), [node.value], [])
            for inner in (call, call.func):
                ast.copy_location(inner, node.value)
            node.value = call
        return node


class _Groups(ast.NodeTransformer):
    """Rewrites the ``with`` statements of one function, and control flow around them; functions within it are
    rewritten by themselves."""

    def __init__(self, captured: CapturedFunction, function: ast.FunctionDef) -> None:
        self.captured, self.function = captured, function
        arguments = function.args
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        self.joined = 0
        self.local_names = {a.arg for a in named if a is not None} | _names(function.body, ast.Store)

    def visit_body(self) -> None:
        self.function.body = self._visited(self.function.body)

    def _visited(self, body: list[ast.stmt]) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for statement in body:
            new = self.visit(statement)
            found += new if isinstance(new, list) else [new]
        return found

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        _Groups(self.captured, node).visit_body()
        return node

    def visit_If(self, node: ast.If) -> Any:
        return self._joined(node, "test")

    def visit_While(self, node: ast.While) -> Any:
        return self._joined(node, "test")

    def visit_For(self, node: ast.For) -> Any:
        return self._joined(node, "iter")

    def _joined(self, node: ast.If | ast.While | ast.For, field: str) -> Any:
        """``if (held := joining(TEST)): …`` and ``joining(held)`` after it, where groups may be in it."""
        may_have_groups = any(isinstance(inner, (ast.With, ast.Call)) for s in node.body + node.orelse
                              for inner in _own_nodes(s))
        self.generic_visit(node)
        if not may_have_groups:
            return node
        held = f"{_JOINING}{self.joined}"
        self.joined += 1
        before, after = ast.parse(f"({held} := {_JOINING}(None))\n{_JOINING}({held})").body
        for new in (before, after):
            for inner in ast.walk(new):
                ast.copy_location(inner, node)
        assert isinstance(before, ast.Expr)
        assert isinstance(before.value, ast.NamedExpr)
        assert isinstance(before.value.value, ast.Call)
        before.value.value.args[0] = getattr(node, field)
        setattr(node, field, before.value)
        return [node, after]

    def visit_With(self, node: ast.With) -> Any:
        body = self._visited(node.body)
        leaving = next((n for s in node.body for n in _own_nodes(s) if isinstance(n, ast.Return)), None)
        if leaving is not None:
            raise UserError.at("E0101", "`return` cannot leave a thread group", self.captured.span(leaving))
        names = sorted((_names(node.body, ast.Store) | _names(node.body, ast.Load)) & self.local_names)
        make = ast.parse(f"def {_BODY}({', '.join(f'{n}={_UNBOUND}' for n in names)}): pass").body[0]
        assert isinstance(make, ast.FunctionDef)
        unbound = [statement for n in names for statement in ast.parse(f"if {n} is {_UNBOUND}: del {n}").body]
        call = ast.parse(f"{_RUN}(None, {_BODY}, {tuple(names)!r}, locals())").body[0]
        assert isinstance(call, ast.Expr)
        assert isinstance(call.value, ast.Call)
        for new in (make, call, *unbound):
            for inner in ast.walk(new):
                ast.copy_location(inner, node)
        make.body = [*unbound, *body]
        call.value.args[0] = node.items[0].context_expr
        return [make, call]


def _own_nodes(statement: ast.stmt) -> list[ast.AST]:
    """The nodes of a statement, without those of functions in it."""
    found: list[ast.AST] = []
    todo: list[ast.AST] = [statement]
    while todo:
        node = todo.pop()
        found.append(node)
        if not isinstance(node, _SCOPES):
            todo += ast.iter_child_nodes(node)
    return found


def _names(body: list[ast.stmt], context: type) -> set[str]:
    """The names that statements load or store, those of functions within them too where they are loaded."""
    inside = [n for s in body for n in (ast.walk(s) if context is ast.Load else _own_nodes(s))]
    found = {n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, context)}
    if context is ast.Store:
        found |= {n.name for n in inside if isinstance(n, ast.FunctionDef)}
    return found
