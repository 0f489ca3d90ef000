"""Loops that are decided at run time: what they carry from one iteration to the next, found by tracing their bodies."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import Diagnostic, Label, Span, UserError
from tilus.ir.core import Block
from tilus.ir.dtypes import i64
from tilus.ir.ops import For, While, Yield
from tilus.ir.types import TileType
from tilus.lang.flow import element
from tilus.lang.heap import Contents, contents, equal, keys_equal, same_or_mutable, write
from tilus.lang.scopes import assigned_names, assignment_of, may_leave, subscripted_names, target_name, target_names
from tilus.lang.trees import (
    UNSET,
    Slot,
    Undefined,
    common_type,
    containers,
    describe,
    flatten,
    is_number,
    literal_meets,
    typed,
)
from tilus.lang.values import Tile, arithmetic, as_index, as_tile, compare, unary

if TYPE_CHECKING:
    from tilus.lang.builtins.control import range as tile_range
    from tilus.lang.tracer import Tracer


class NotCarried(UserError):
    """What a loop of the program cannot do: change the length of a Python object, or index one. Where the iterations
    are known while compiling, the loop is written out instead."""


class _ConditionChange(Exception):
    """The condition of a loop changes Python objects."""


class _Place:
    """Something that a loop changes: a name (``owner`` None) or an element of an object. ``deep`` where lists and dicts
    in it are made anew in each iteration; ``apart`` where what was one object with another place's ends as another."""

    def __init__(self, owner: Any, key: Any, what: str, init: Any, deep: bool = False) -> None:
        self.owner, self.key, self.what, self.init, self.deep = owner, key, what, init, deep
        self.apart = False
        self.plan()

    def plan(self) -> None:
        """Take ``init`` apart, which holds what it holds before the loop."""
        self.planned = self.deep
        leaves, self.rebuild, self.structure = flatten(self.init, self.deep)
        self.leaves = leaves
        self.slots: list[Slot] = [x.value.tile.without_layout() if isinstance(x, Tile) else None for x in leaves]


class _Loop:
    """What a loop carries, with which types, and what it is after the loop."""

    def __init__(self, tracer: Tracer, statement: ast.For | ast.While, names: Sequence[str]) -> None:
        self.tracer, self.statement = tracer, statement
        self.span = tracer.captured.span(statement)
        self.before = dict(tracer.scope)
        self.snapshot = tracer.context.heap.snapshot()
        self.assigned = list(names)
        self.places = [_Place(None, n, repr(n), self.before[n]) for n in names
                       if n in self.before and not isinstance(self.before[n], Undefined)
                       and self.before[n] is not UNSET]
        self._plan_elements()
        self.bound: list[tuple[_Place, Any]] = []
        self.start: dict[int, Contents] = {}
        self.changed_before: dict[int, Any] = {}
        self.mixed: tuple[Any, ...] = ()  # lists and dicts of which the loop's results may be one

    def _plan_elements(self) -> None:
        """Elements that the body visibly assigns are carried from the first trace on."""
        for name in subscripted_names(self.statement):
            item = self.before.get(name)
            if isinstance(item, (list, dict)) and id(item) in self.snapshot.objects:
                keys = range(len(item)) if isinstance(item, list) else list(item)
                for key in keys:
                    if isinstance(item[key], Tile) and self._place_of(item, key) is None:
                        self._add(item, key)

    def _add(self, item: Any, key: Any) -> None:
        keys, values = self.snapshot.held[id(item)]
        place = key if isinstance(keys, int) else keys.index(key)
        name = self.tracer.context.heap.name_of(item)
        self.places.append(_Place(item, key, element(item, key, name), values[place]))

    def _place_of(self, item: Any, key: Any) -> _Place | None:
        return next((p for p in self.places if p.owner is item and p.owner is not None
                     and type(p.key) is type(key) and p.key == key), None)

    def carried(self) -> list[tuple[str, TileType]]:
        """Name and type of each carried value."""
        return [(self._label(p), s) for p in self.places for s in p.slots if s is not None]

    def _label(self, place: _Place) -> str:
        name = place.key if place.owner is None else self.tracer.context.heap.name_of(place.owner).strip("'")
        return name if name.isidentifier() else name.strip("$") if name.startswith("$") else "element"

    def plan(self) -> None:
        """Before an iteration is traced: take apart anew what is to be carried in more detail."""
        self.snapshot.restore()
        for place in self.places:
            if place.planned != place.deep:
                place.plan()

    def block(self, *first: tuple[str, TileType]) -> Block:
        values = [*first, *self.carried()]
        return Block([type_ for _, type_ in values], [name for name, _ in values])

    def initial(self) -> list[Tile]:
        """The carried values before the loop, converted in the current block."""
        self.snapshot.restore()
        return [typed(leaf, slot) for p in self.places for leaf, slot in zip(p.leaves, p.slots, strict=True)
                if slot is not None]

    def enter(self, values: Sequence[Tile]) -> None:
        """Names and objects as an iteration finds them, with these carried values."""
        self.snapshot.restore()
        self.tracer.scope = dict(self.before)
        self._bind(values)
        self.start = self.snapshot.now()
        self.changed_before = dict(self.tracer.context.heap.changed)

    def _bind(self, values: Sequence[Tile]) -> None:
        rest = iter(values)
        fresh: dict[int, Any] = {}
        self.bound = []
        for place in self.places:
            value = place.rebuild([x if s is None else next(rest)
                                   for x, s in zip(place.leaves, place.slots, strict=True)])
            if place.deep and isinstance(place.init, (list, dict)) and not place.apart:
                value = fresh.setdefault(id(place.init), value)
            self.bound.append((place, value))
        for place, value in self.bound:
            if place.owner is None:
                self.tracer.scope[place.key] = value
        elements: dict[int, tuple[Any, dict[Any, Any]]] = {}
        for place, value in self.bound:
            if place.owner is not None:
                elements.setdefault(id(place.owner), (place.owner, {}))[1][place.key] = value
        for item, new in elements.values():
            keys, old = contents(item)
            names = range(keys) if isinstance(keys, int) else keys
            write(item, (keys, [new.get(k, v) for k, v in zip(names, old, strict=True)]))

    def check_condition(self) -> None:
        """Raises _ConditionChange where the condition of the loop changes Python objects."""
        if not all(equal(held, self.start[key]) for key, held in self.snapshot.now().items()):
            raise _ConditionChange

    def settle(self, end: dict[str, Any]) -> bool:
        """Compare what the body leaves with the plan; False where the plan had to change. Raises UserError."""
        value = end.get("$value", UNSET)
        if value is not UNSET and not any(p.owner is None and p.key == "$value" for p in self.places):
            # The first values are zeros of these types, made before the loop by `initial`.
            leaves, rebuild, _ = flatten(value)
            place = _Place(None, "$value", "the value returned",
                           rebuild([0 if isinstance(x, Tile) else x for x in leaves]), True)
            place.slots = [x.value.tile.without_layout() if isinstance(x, Tile) else None for x in leaves]
            self.places.append(place)
            return False
        stable = True
        for place in self.places:
            stable = self._settle(place, self._at_end(place, end)) and stable
        stable = self._settle_objects() and stable
        stable = stable and self._settle_aliases(end)
        if stable:
            self._check_identities(end)
        return stable

    def _at_end(self, place: _Place, end: dict[str, Any]) -> Any:
        if place.owner is None:
            return end[place.key]
        keys, values = contents(place.owner)
        self._check_keys(place.owner, (keys, values))
        return values[place.key if isinstance(keys, int) else keys.index(place.key)]

    def _check_keys(self, item: Any, held: Contents) -> None:
        if not keys_equal(held, self.start[id(item)]):
            heap = self.tracer.context.heap
            raise NotCarried.at(
                "E0110", f"{heap.name_of(item)} is changed in a loop whose iterations are counted at run time, so that "
                         "its length or keys depend on them", heap.change_of(item, self.span),
                help="use `for … in tl.static_range(n)`, or an element for each iteration that there may be")

    def _settle_objects(self) -> bool:
        stable = True
        for key, (keys, values) in self.snapshot.now().items():
            item = self.snapshot.objects[key]
            self._check_keys(item, (keys, values))
            names = range(keys) if isinstance(keys, int) else keys
            for name, first, last in zip(names, self.start[key][1], values, strict=False):
                if not same_or_mutable(first, last) and self._place_of(item, name) is None:
                    self._add(item, name)
                    stable = False
        return stable

    def _settle_aliases(self, end: dict[str, Any]) -> bool:
        """Places of one object before the loop share one in it only where they also end as one."""
        stable = True
        shared: dict[int, Any] = {}
        for place in self.places:
            if place.deep and isinstance(place.init, (list, dict)) and not place.apart:
                last = self._at_end(place, end)
                if shared.setdefault(id(place.init), last) is not last:
                    place.apart, stable = True, False
        return stable

    def _settle(self, place: _Place, value: Any) -> bool:
        if isinstance(value, Undefined):
            raise UserError.at("E0110", f"{value.reason}, so the next iteration has no value for {place.what}",
                               value.span)
        leaves, _, structure = flatten(value, place.deep)
        if structure != place.structure:
            raise self._changed(place, place.init, value)
        stable = True
        for i, (first, last, slot) in enumerate(zip(place.leaves, leaves, place.slots, strict=True)):
            if slot is None:
                if same_or_mutable(first, last):
                    continue
                if isinstance(first, (list, dict)) and type(first) is type(last) and not place.deep:
                    place.deep = True
                    return False
                type_ = common_type(first, last) if is_number(first) else None
                if type_ is None:
                    raise self._changed(place, first, last)
                place.slots[i] = type_
                stable = False
            elif isinstance(last, Tile):
                if (last.dtype, last.shape) != (slot.dtype, slot.shape):
                    raise self._changed(place, slot, last)
            elif not is_number(last) or not literal_meets(last, slot.dtype):
                raise self._changed(place, slot, last)
        return stable

    def _check_identities(self, end: dict[str, Any]) -> None:
        """Lists and dicts that are made anew in each iteration cannot be changed in place where others are, or become,
        the same object: raises UserError. What they are after the loop is then ambiguous."""
        deep = [(p, value) for p, value in self.bound if p.deep and p.key != "$value"]
        if not deep:
            return
        heap = self.tracer.context.heap
        new = [c for _, value in deep for c in containers(value)]
        last = [c for p, _ in deep for c in containers(self._at_end(p, end))]
        first = [c for p, _ in deep for c in containers(p.init)]
        kept = self.tracer.scope
        self.tracer.scope = {n: v for n, v in end.items() if not any(p.owner is None and p.key == n for p, _ in deep)}
        alive = heap.reachable()
        self.tracer.scope = kept
        count = len({id(c) for c in new})
        aligned = all(len({id(c) for c in other}) == len({(id(a), id(b)) for a, b in zip(new, other, strict=True)})
                      == count for other in (first, last))
        mixed = not aligned or any(id(c) in alive or heap.is_ambiguous(c) for c in (*first, *last))
        self.mixed = (*first, *last) if mixed else ()
        if mixed:
            for item in (*new, *first, *last):
                if heap.changed.get(id(item)) is not self.changed_before.get(id(item)):
                    heap.add_ambiguous((item,), self.span)
                    raise UserError.at("E0303", f"this Python {type(item).__name__} is changed, but which one it is "
                                                "depends on the iteration of a loop", heap.changed[id(item)][1],
                                       help="change a copy (`x = list(x)`), or keep one object")

    def final(self, end: dict[str, Any]) -> list[Tile]:
        """The carried values at the end of the body, converted in the current block."""
        return [typed(leaf, slot) for p in self.places
                for leaf, slot in zip(flatten(self._at_end(p, end), p.deep)[0], p.slots, strict=True)
                if slot is not None]

    def after(self, results: Sequence[Tile]) -> None:
        """Names and objects as the loop leaves them."""
        tracer = self.tracer
        self.enter(results)
        carried = {p.key for p in self.places if p.owner is None}
        for name in self.assigned:
            if name not in carried and name.isidentifier():
                tracer.scope[name] = Undefined(f"{name!r} is assigned only inside a loop, which may run no iteration",
                                               self.span)
        if self.mixed:
            made = [c for place, value in self.bound if place.deep for c in containers(value)]
            tracer.context.heap.add_ambiguous((*made, *self.mixed), self.span)

    def _changed(self, place: _Place, first: Any, last: Any) -> UserError:
        tracer = self.tracer
        shown = str(first) if isinstance(first, TileType) else describe(first)
        where: Any = assignment_of(self.statement, place.key) if place.owner is None else None
        at = tracer.captured.span(where) if where is not None else \
            self.span if place.owner is None else tracer.context.heap.change_of(place.owner, self.span)
        labels = [Label(at, f"here it becomes {describe(last)}")]
        if at != self.span:
            labels.append(Label(self.span, f"it enters the loop as {shown}"))
        return UserError(Diagnostic(
            "E0104", f"{place.what} is carried around a loop and changes from {shown} to {describe(last)}",
            tuple(labels),
            "a carried value keeps its type and shape: convert it with `.to(dtype)` before the loop or at its end",
        ))


def trace_for(tracer: Tracer, statement: ast.For, loop: tile_range, span: Span) -> None:
    """A run-time ``for`` over a range; a ``while`` where the body may leave it early."""
    context = tracer.context
    context.span = span
    bounds = [as_index(b, "a bound of the range") for b in (loop.start, loop.stop, loop.step)]
    names = assigned_names(statement)
    if may_leave(statement.body):
        _trace_counted_while(tracer, statement, loop, bounds, names)
        return
    state = _Loop(tracer, statement, [n for n in names if n not in target_names(statement.target)])
    while True:
        state.plan()
        body = state.block((target_name(statement), TileType(i64)))
        state.enter([Tile(a) for a in body.args[1:]])
        with tracer.into(body), context.heap.iterators_kept(state.snapshot):
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
    op = For(*(b.value for b in bounds), init, body, loop.stages, loop.unroll, prefetch=loop.prefetch, span=span)
    state.after([Tile(r) for r in context.emit(op)])
    for name in target_names(statement.target):
        tracer.scope[name] = Undefined(f"{name!r} is the index of a loop, which may run no iteration", span)


def _trace_counted_while(tracer: Tracer, statement: ast.For, loop: tile_range, bounds: list[Tile],
                         names: Sequence[str]) -> None:
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

    targets = target_names(statement.target)
    _trace_loop(tracer, statement, [index, *(n for n in names if n not in targets)], test, body)
    tracer.scope.pop(index)
    for name in targets:
        tracer.scope[name] = Undefined(f"{name!r} is the index of a loop, which may run no iteration",
                                       tracer.captured.span(statement))


def trace_while(tracer: Tracer, statement: ast.While) -> None:
    """A run-time ``while``. Where its condition changes names or objects, it is evaluated in the body, which it may
    leave."""
    names, scope, snapshot = assigned_names(statement), tracer.scope, tracer.context.heap.snapshot()
    if not any(isinstance(n, ast.NamedExpr) for n in ast.walk(statement.test)):
        try:
            _trace_loop(tracer, statement, names, lambda: as_tile(tracer.test(statement.test)),
                        lambda: tracer.exec_block(statement.body))
            return
        except _ConditionChange:
            tracer.scope = scope
            snapshot.restore()

    def stop() -> None:
        tracer.scope["$break"] = True

    def body() -> None:
        tracer.choose(tracer.test(statement.test), statement.test, lambda: tracer.exec_block(statement.body), stop)

    inside = target_names(statement.test)
    _trace_loop(tracer, statement, list(dict.fromkeys([*inside, *names, "$break", "$return", "$value"])),
                lambda: as_tile(True), body)


def _trace_loop(tracer: Tracer, statement: ast.For | ast.While, names: Sequence[str], test: Callable[[], Tile],
                body: Callable[[], None]) -> None:
    context = tracer.context
    span = tracer.captured.span(statement)
    state = _Loop(tracer, statement, names)
    while True:
        state.plan()
        condition_block, body_block = state.block(), state.block()
        with context.heap.iterators_kept(state.snapshot):
            state.enter([Tile(a) for a in condition_block.args])
            with tracer.into(condition_block):
                stopped = tracer._stopped(("$break", "$return"))
                if stopped is False:
                    condition = test()
                else:
                    going = unary("not", as_tile(stopped))
                    condition = as_tile(tracer.short_circuit(going, True, going, test, statement))
                state.check_condition()
            condition_block.ops.append(Yield((condition.value,), span=span))
            state.enter([Tile(a) for a in body_block.args])
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
    state.after([Tile(r) for r in context.emit(op)])
