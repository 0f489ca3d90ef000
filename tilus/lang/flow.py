"""Where paths meet: merging variables after branches, and carrying them around loops.

A variable's value is a tree of tuples, lists and dicts whose leaves are tiles, Python numbers, or other compile-time
objects. Tiles and numbers that differ between paths become values of the IR; anything else has to be the same.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import Diagnostic, Label, Span, UserError
from tilus.ir.core import Block
from tilus.ir.dtypes import DType, bool_, f32, i64
from tilus.ir.ops import For, If, While, Yield
from tilus.ir.types import TileType
from tilus.lang.values import Tile, View, arithmetic, as_index, as_tile, compare, constant, unary

if TYPE_CHECKING:
    from tilus.lang.builtins.control import range as tile_range
    from tilus.lang.tracer import Tracer


class _Unset:
    def __repr__(self) -> str:
        return "<no value>"


UNSET = _Unset()
"""The value of a function that has not returned yet."""


@dataclass(frozen=True, slots=True)
class Undefined:
    """A name that some path leaves without a (usable) value."""

    reason: str
    span: Span


Leaf = Any
Slot = TileType | None
"""How a leaf is carried: as a value of this type, or None where it stays the same compile-time object."""


def flatten(value: Any) -> tuple[list[Leaf], Callable[[Sequence[Leaf]], Any], Any]:
    """Leaves, a function that rebuilds the tree from leaves, and its structure for comparison."""
    if isinstance(value, (tuple, list)):
        parts = [flatten(v) for v in value]
        items = [leaf for part in parts for leaf in part[0]]
        kind = type(value)

        def rebuild(leaves: Sequence[Leaf]) -> Any:
            out, at = [], 0
            for part in parts:
                out.append(part[1](leaves[at : at + len(part[0])]))
                at += len(part[0])
            return kind(*out) if hasattr(kind, "_fields") else kind(out)

        return items, rebuild, (kind, tuple(p[2] for p in parts))
    if isinstance(value, dict):
        leaves, inner, structure = flatten(list(value.values()))
        keys = list(value)
        return leaves, lambda ls: dict(zip(keys, inner(ls), strict=True)), (dict, tuple(keys), structure)
    return [value], lambda ls: ls[0], None


def has_tiles(value: Any) -> bool:
    """Whether a tile or a view is anywhere in the tree."""
    return any(isinstance(leaf, (Tile, View)) for leaf in flatten(value)[0])


def _is_number(leaf: Leaf) -> bool:
    return isinstance(leaf, (bool, int, float)) and not isinstance(leaf, Tile)


def _same(a: Leaf, b: Leaf) -> bool:
    if a is b:
        return True
    if isinstance(a, (Tile, View)) or isinstance(b, (Tile, View)):
        return False
    try:
        return type(a) is type(b) and bool(a == b)
    except Exception:
        return False


def _number_type(*numbers: bool | int | float) -> DType:
    if any(isinstance(n, float) for n in numbers):
        return f32
    return bool_ if all(isinstance(n, bool) for n in numbers) else i64


def _common_type(a: Leaf, b: Leaf) -> TileType | None:
    """The type in which two leaves meet, or None where they do not."""
    if isinstance(a, Tile) and isinstance(b, Tile):
        return a.value.tile.without_layout() if (a.dtype, a.shape) == (b.dtype, b.shape) else None
    if isinstance(a, Tile) or isinstance(b, Tile):
        tile, number = (a, b) if isinstance(a, Tile) else (b, a)
        if not _is_number(number) or (isinstance(number, float) and not tile.dtype.is_float):
            return None
        return TileType(tile.dtype, tile.shape)
    if _is_number(a) and _is_number(b):
        return TileType(_number_type(a, b))
    return None


def _typed(leaf: Leaf, type_: TileType) -> Tile:
    return leaf if isinstance(leaf, Tile) else constant(leaf, type_.dtype, type_.shape)


def _zero_like(value: Any) -> Any:
    """A tree of zeros shaped like ``value``, for a result that no path has produced yet."""
    leaves, rebuild, _ = flatten(value)
    return rebuild([constant(0, x.dtype, x.shape) if isinstance(x, Tile) else x for x in leaves])


def _describe(leaf: Leaf) -> str:
    if isinstance(leaf, Tile):
        return str(leaf.value.tile.without_layout())
    if isinstance(leaf, View):
        return "a view of an array"
    return repr(leaf)


# -- branches


def merge_branches(tracer: Tracer, condition: Tile, before: dict[str, Any], outcomes: list[dict[str, Any]],
                   blocks: list[Block], span: Span) -> dict[str, Any]:
    """Emit the ``if`` and give the scope after it."""
    merged: dict[str, Any] = {}
    pairs: list[tuple[Leaf, Leaf, TileType]] = []
    pending: list[tuple[str, Callable[[Sequence[Leaf]], Any], list[int | None], list[Leaf]]] = []
    for name in dict.fromkeys([*outcomes[0], *outcomes[1]]):
        a, b = (o.get(name, UNSET) for o in outcomes)
        if a is b:
            merged[name] = a
            continue
        if name == "$value" and (a is UNSET or b is UNSET):
            with tracer.into(blocks[0 if a is UNSET else 1]):
                a, b = (_zero_like(b), b) if a is UNSET else (a, _zero_like(a))
        if a is UNSET or b is UNSET:
            merged[name] = Undefined(f"{name!r} is assigned in only one branch of an `if`", span)
            continue
        if isinstance(a, Undefined) or isinstance(b, Undefined):
            merged[name] = a if isinstance(a, Undefined) else b
            continue
        merged[name] = _merge_value(name, a, b, pairs, pending, span)
    results = _emit_if(tracer, condition, pairs, blocks, span)
    for name, rebuild, slots, statics in pending:
        merged[name] = rebuild([s if i is None else results[i] for i, s in zip(slots, statics, strict=True)])
    return merged


def _merge_value(name: str, a: Any, b: Any, pairs: list[tuple[Leaf, Leaf, TileType]], pending: list[Any],
                 span: Span) -> Any:
    leaves_a, rebuild, structure_a = flatten(a)
    leaves_b, _, structure_b = flatten(b)
    if structure_a != structure_b:
        return Undefined(f"{name!r} has different structure after the branches of an `if`", span)
    slots: list[int | None] = []
    for x, y in zip(leaves_a, leaves_b, strict=True):
        if _same(x, y):
            slots.append(None)
            continue
        type_ = _common_type(x, y)
        if type_ is None:
            if isinstance(x, Tile) and isinstance(y, Tile) and name.isidentifier():
                raise UserError.at("E0104", f"{name!r} is {_describe(x)} after one branch and {_describe(y)} after the "
                                            "other", span, help="convert both to one type and shape")
            return Undefined(f"{name!r} is {_describe(x)} after one branch of an `if` and {_describe(y)} after the "
                             "other", span)
        slots.append(len(pairs))
        pairs.append((x, y, type_))
    pending.append((name, rebuild, slots, leaves_a))
    return None


def _emit_if(tracer: Tracer, condition: Tile, pairs: list[tuple[Leaf, Leaf, TileType]], blocks: list[Block],
             span: Span) -> list[Tile]:
    for side, block in enumerate(blocks):
        with tracer.into(block):
            values = [_typed(pair[side], pair[2]) for pair in pairs]
        block.ops.append(Yield(tuple(v.value for v in values), span=span))
    if not pairs and all(len(b.ops) == 1 for b in blocks):
        return []
    op = If(condition.value, *blocks, span=span)
    tracer.context.emit(op)
    return [Tile(r) for r in op.results]


# -- loops


class _Loop:
    """The variables of a loop: which are carried, with which types, and what they are after it."""

    def __init__(self, tracer: Tracer, statement: ast.For | ast.While, names: Sequence[str]) -> None:
        self.tracer = tracer
        self.statement = statement
        self.before = dict(tracer.scope)
        self.assigned = list(names)
        self.names = [
            n for n in names if n in self.before and not isinstance(self.before[n], Undefined)
            and self.before[n] is not UNSET
        ]
        self.init: dict[str, Any] = {n: self.before[n] for n in self.names}
        self.slots: dict[str, list[Slot]] = {}
        for name in self.names:
            self._plan(name)

    def _plan(self, name: str) -> None:
        leaves = flatten(self.init[name])[0]
        self.slots[name] = [x.value.tile.without_layout() if isinstance(x, Tile) else None for x in leaves]

    def carried_types(self) -> list[TileType]:
        return [s for n in self.names for s in self.slots[n] if s is not None]

    def carried_names(self) -> list[str]:
        return [n if n.isidentifier() else n.strip("$") for n in self.names for s in self.slots[n] if s is not None]

    def initial(self) -> list[Tile]:
        return [
            _typed(leaf, slot)
            for n in self.names
            for leaf, slot in zip(flatten(self.init[n])[0], self.slots[n], strict=True)
            if slot is not None
        ]

    def bind(self, values: Sequence[Tile], scope: dict[str, Any]) -> None:
        """Put these carried values into ``scope``."""
        rest = iter(values)
        for name in self.names:
            leaves, rebuild, _ = flatten(self.init[name])
            scope[name] = rebuild([x if s is None else next(rest)
                                   for x, s in zip(leaves, self.slots[name], strict=True)])

    def settle(self, end: dict[str, Any]) -> bool:
        """Compare the scope after the body with the plan; False where the plan had to change. Raises UserError."""
        stable = True
        value = end.get("$value", UNSET)
        if value is not UNSET and "$value" not in self.names:
            # The first values are zeros of these types, made before the loop by `initial`.
            leaves, rebuild, _ = flatten(value)
            self.names.append("$value")
            self.init["$value"] = rebuild([0 if isinstance(x, Tile) else x for x in leaves])
            self.slots["$value"] = [x.value.tile.without_layout() if isinstance(x, Tile) else None for x in leaves]
            return False
        for name in self.names:
            if not self._settle_name(name, end[name]):
                stable = False
        return stable

    def _settle_name(self, name: str, value: Any) -> bool:
        if isinstance(value, Undefined):
            raise UserError.at("E0110", f"{value.reason}, so the next iteration has no {name!r}", value.span)
        leaves, _, structure = flatten(value)
        init, _, expected = flatten(self.init[name])
        if structure != expected:
            raise self._changed(name, self.init[name], value)
        stable = True
        for i, (first, last, slot) in enumerate(zip(init, leaves, self.slots[name], strict=True)):
            if slot is None:
                if _same(first, last):
                    continue
                type_ = _common_type(first, last) if _is_number(first) else None
                if type_ is None:
                    raise self._changed(name, first, last)
                self.slots[name][i] = type_
                stable = False
            elif isinstance(last, Tile):
                if (last.dtype, last.shape) != (slot.dtype, slot.shape):
                    raise self._changed(name, slot, last)
            elif not _is_number(last) or (isinstance(last, float) and not slot.dtype.is_float):
                raise self._changed(name, slot, last)
        return stable

    def final(self, end: dict[str, Any]) -> list[Tile]:
        """The carried values at the end of the body, converted in the current block."""
        return [
            _typed(leaf, slot)
            for n in self.names
            for leaf, slot in zip(flatten(end[n])[0], self.slots[n], strict=True)
            if slot is not None
        ]

    def after(self, results: Sequence[Tile]) -> dict[str, Any]:
        scope = dict(self.before)
        self.bind(results, scope)
        span = self.tracer.captured.span(self.statement)
        for name in self.assigned:
            if name not in self.names and name.isidentifier():
                scope[name] = Undefined(f"{name!r} is assigned only inside a loop, which may run no iteration", span)
        return scope

    def _changed(self, name: str, first: Any, last: Any) -> UserError:
        shown = str(first) if isinstance(first, TileType) else _describe(first)
        where = _assignment(self.statement, name)
        labels = [Label(self.tracer.captured.span(where or self.statement), f"here it becomes {_describe(last)}")]
        if where is not None:
            labels.append(Label(self.tracer.captured.span(self.statement), f"it enters the loop as {shown}"))
        return UserError(Diagnostic(
            "E0104", f"{name!r} is carried around a loop and changes from {shown} to {_describe(last)}", tuple(labels),
            "a carried value keeps its type and shape: convert it with `.to(dtype)` before the loop or at its end",
        ))


def trace_for(tracer: Tracer, statement: ast.For, loop: tile_range, span: Span) -> None:
    """A run-time ``for`` over a range; a ``while`` where the body may leave it early."""
    context = tracer.context
    context.span = span
    bounds = [as_index(b, "a bound of the range") for b in (loop.start, loop.stop, loop.step)]
    names = _assigned_names(statement)
    if _may_leave(statement.body):
        _trace_counted_while(tracer, statement, loop, bounds, names)
        return
    state = _Loop(tracer, statement, [n for n in names if n not in _target_names(statement.target)])
    while True:
        body = Block([TileType(i64), *state.carried_types()], [_target_name(statement), *state.carried_names()])
        tracer.scope = dict(state.before)
        state.bind([Tile(a) for a in body.args[1:]], tracer.scope)
        with tracer.into(body):
            tracer.bind(statement.target, Tile(body.args[0]))
            tracer.exec_block(statement.body)
            tracer.scope["$continue"] = False
            if not state.settle(tracer.scope):
                continue
            final = state.final(tracer.scope)
        break
    body.ops.append(Yield(tuple(v.value for v in final), span=span))
    context.span = span
    init = tuple(t.value for t in state.initial())
    op = For(*(b.value for b in bounds), init, body, loop.stages, loop.unroll, span=span)
    tracer.scope = state.after([Tile(r) for r in context.emit(op)])
    for name in _target_names(statement.target):
        tracer.scope[name] = Undefined(f"{name!r} is the index of a loop, which may run no iteration", span)


def _trace_counted_while(tracer: Tracer, statement: ast.For, loop: tile_range, bounds: list[Tile],
                         names: list[str]) -> None:
    index = "$index"
    tracer.scope[index] = bounds[0]
    stop, step = bounds[1], bounds[2]

    def test() -> Tile:
        position = tracer.scope[index]
        if isinstance(loop.step, int):
            return compare("lt" if loop.step > 0 else "gt", position, stop)
        up = arithmetic("and", compare("gt", step, 0), compare("lt", position, stop))
        return arithmetic("or", up, arithmetic("and", compare("lt", step, 0), compare("gt", position, stop)))

    def body() -> None:
        position = tracer.scope[index]
        tracer.bind(statement.target, position)
        tracer.exec_block(statement.body)
        tracer.scope[index] = arithmetic("add", position, step)

    targets = _target_names(statement.target)
    _trace_loop(tracer, statement, [index, *(n for n in names if n not in targets)], test, body)
    tracer.scope.pop(index)
    for name in targets:
        tracer.scope[name] = Undefined(f"{name!r} is the index of a loop, which may run no iteration",
                                       tracer.captured.span(statement))


def trace_while(tracer: Tracer, statement: ast.While) -> None:
    """A run-time ``while``."""

    def test() -> Tile:
        condition = tracer.eval(statement.test)
        tile = as_tile(condition)
        if tile.shape:
            raise tracer.fail("E0113", f"the condition is a tile of shape {tile.shape}", statement.test,
                              help="reduce it with tl.any or tl.all")
        return tile if tile.dtype.is_bool else compare("ne", tile, 0)

    _trace_loop(tracer, statement, _assigned_names(statement), test, lambda: tracer.exec_block(statement.body))


def _trace_loop(tracer: Tracer, statement: ast.For | ast.While, names: list[str], test: Callable[[], Tile],
                body: Callable[[], None]) -> None:
    context = tracer.context
    span = tracer.captured.span(statement)
    state = _Loop(tracer, statement, names)
    while True:
        types, labels = state.carried_types(), state.carried_names()
        condition_block, body_block = Block(types, labels), Block(types, labels)
        tracer.scope = dict(state.before)
        state.bind([Tile(a) for a in condition_block.args], tracer.scope)
        with tracer.into(condition_block):
            stopped = tracer._stopped(("$break", "$return"))
            condition = test()
            if stopped is not False:
                condition = arithmetic("and", condition, unary("not", as_tile(stopped)))
        condition_block.ops.append(Yield((condition.value,), span=span))
        tracer.scope = dict(state.before)
        state.bind([Tile(a) for a in body_block.args], tracer.scope)
        tracer.scope.update({"$break": False, "$return": False})
        with tracer.into(body_block):
            body()
            tracer.scope["$continue"] = False
            if not state.settle(tracer.scope):
                continue
            final = state.final(tracer.scope)
        break
    body_block.ops.append(Yield(tuple(v.value for v in final), span=span))
    context.span = span
    op = While(tuple(t.value for t in state.initial()), condition_block, body_block, span=span)
    tracer.scope = state.after([Tile(r) for r in context.emit(op)])


# -- what a loop assigns


def _assigned_names(statement: ast.For | ast.While) -> list[str]:
    names: dict[str, None] = {}
    for child in statement.body:
        for node in ast.walk(child):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names[node.id] = None
            elif isinstance(node, (ast.Subscript,)) and isinstance(node.ctx, ast.Store) and isinstance(
                node.value, ast.Name
            ):
                names[node.value.id] = None
    if _may_leave(statement.body):
        names.update(dict.fromkeys(("$break", "$return", "$value")))
    return list(names)


def _may_leave(statements: Sequence[ast.stmt], nested: bool = False) -> bool:
    """Whether ``break`` (of this loop) or ``return`` occurs."""
    for node in statements:
        if isinstance(node, ast.Return) or (isinstance(node, ast.Break) and not nested):
            return True
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            continue
        inner = nested or isinstance(node, (ast.For, ast.While))
        for field in ("body", "orelse"):
            if _may_leave(getattr(node, field, []), inner):
                return True
    return False


def _assignment(statement: ast.For | ast.While, name: str) -> ast.AST | None:
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


def _target_names(target: ast.expr) -> list[str]:
    return [n.id for n in ast.walk(target) if isinstance(n, ast.Name)]


def _target_name(statement: ast.For) -> str:
    return statement.target.id if isinstance(statement.target, ast.Name) else ""
