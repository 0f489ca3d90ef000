"""Where paths meet: merging what differs after branches, and what thread groups leave.

What a path changes is names of the current function and elements of mutable Python objects (:mod:`tilus.lang.heap`).
Tiles and numbers that differ between paths become values of the IR; anything else has to be the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import Span, UserError
from tilus.ir.core import Block
from tilus.ir.ops import If, Yield
from tilus.ir.types import TileType
from tilus.lang.heap import (
    Contents,
    Snapshot,
    contents,
    equal,
    has_tiles,
    is_instance,
    keys_equal,
    same_or_mutable,
    write,
)
from tilus.lang.trees import (
    UNSET,
    Leaf,
    Undefined,
    common_type,
    describe,
    typed,
    with_items,
    zero_like,
)
from tilus.lang.values import Tile
from tilus.records import record

if TYPE_CHECKING:
    from tilus.lang.tracer import Tracer


@record
class Outcome:
    """What a path leaves behind: names, contents of the objects that were there before, and its operations."""

    scope: dict[str, Any]
    held: dict[int, Contents]
    block: Block


Build = Callable[[Sequence[Tile]], Any]


class _Join:
    """Merges the outcomes of two paths."""

    def __init__(self, tracer: Tracer, snapshot: Snapshot, sides: Sequence[Outcome], span: Span) -> None:
        self.tracer, self.snapshot, self.sides, self.span = tracer, snapshot, sides, span
        self.pairs: list[tuple[Leaf, Leaf, TileType]] = []
        self.merged: dict[tuple[int, int], tuple[Any, Any, Any]] = {}  # the object made of two

    def run(self, condition: Tile) -> dict[str, Any]:
        """Emit the ``if``, write what objects hold after it, and give the scope after it."""
        first, second = (s.scope for s in self.sides)
        scope: dict[str, Any] = {}
        pending: dict[str, Build] = {}
        for name in dict.fromkeys([*first, *second]):
            joined = self._name(name, first.get(name, UNSET), second.get(name, UNSET))
            if callable(joined) and not isinstance(joined, Undefined):
                pending[name] = joined
            scope[name] = joined
        cells = self._objects()
        results = _emit_if(self.tracer, condition, self.pairs, [s.block for s in self.sides], self.span)
        scope.update({name: build(results) for name, build in pending.items()})
        for item, keys, builds in cells:
            write(item, (keys, [b if isinstance(b, Undefined) else b(results) for b in builds]))
        self.tracer.scope = scope
        self._mark_ambiguous()
        return scope

    def _name(self, name: str, a: Any, b: Any) -> Build | Undefined:
        if a is b:
            return lambda results: a
        if name == "$value" and (a is UNSET or b is UNSET):
            with self.tracer.into(self.sides[0 if a is UNSET else 1].block):
                a, b = (zero_like(b), b) if a is UNSET else (a, zero_like(a))
        if a is UNSET or b is UNSET:
            return Undefined(f"{name!r} is assigned in only one branch of an `if`", self.span)
        return self._value(repr(name), a, b, strict=name.isidentifier())

    def _value(self, what: str, a: Any, b: Any, strict: bool = False) -> Build | Undefined:
        """How the value after the paths is made of the values ``a`` and ``b`` at their ends."""
        if same_or_mutable(a, b):
            return lambda results: a
        if isinstance(a, Undefined) or isinstance(b, Undefined):
            return a if isinstance(a, Undefined) else b
        if isinstance(a, (tuple, list, dict)) or isinstance(b, (tuple, list, dict)):
            return self._tree(what, a, b)
        type_ = common_type(a, b)
        if type_ is not None:
            place = len(self.pairs)
            self.pairs.append((a, b, type_))
            return lambda results: results[place]
        if strict and isinstance(a, Tile) and isinstance(b, Tile):
            raise UserError.at("E0104", f"{what} is {describe(a)} after one branch and {describe(b)} after the other",
                               self.span, help="convert both to one type and shape")
        return Undefined(f"{what} is {describe(a)} after one branch of an `if` and {describe(b)} after the other",
                         self.span)

    def _tree(self, what: str, a: Any, b: Any) -> Build | Undefined:
        first, second = self._held(0, a), self._held(1, b)
        if type(a) is not type(b) or not keys_equal(first, second):
            return Undefined(f"{what} has different structure after the branches of an `if`", self.span)
        parts = [self._value(what, x, y) for x, y in zip(first[1], second[1], strict=True)]
        builds: list[Build] = []
        for part in parts:
            if isinstance(part, Undefined):
                return part
            builds.append(part)

        def build(results: Sequence[Tile]) -> Any:
            if isinstance(a, tuple):
                return with_items(a, [p(results) for p in builds])
            key = (id(a), id(b))
            if key not in self.merged:
                new = copy.copy(a)
                write(new, (first[0], [p(results) for p in builds]))
                self.merged[key] = (new, a, b)
            return self.merged[key][0]

        return build

    def _held(self, side: int, value: Any) -> Contents:
        """What a tuple, list or dict holds at the end of a path."""
        if isinstance(value, tuple):
            return len(value), list(value)
        return self.sides[side].held.get(id(value)) or contents(value)

    def _objects(self) -> list[tuple[Any, Any, list[Build | Undefined]]]:
        """For each object that the paths leave differently: it, its keys, and what its elements are made of."""
        heap = self.tracer.context.heap
        found: list[tuple[Any, Any, list[Build | Undefined]]] = []
        for key, item in self.snapshot.objects.items():
            a, b = (side.held[key] for side in self.sides)
            name = heap.name_of(item)
            if not keys_equal(a, b):
                where = heap.change_of(item, self.span)
                heap.add_lost(item, Undefined(f"{name} is changed in an `if` that is decided at run time, so that its "
                                              "length or keys depend on it", where))
                found.append((item, a[0], [_constantly(v) for v in a[1]]))
            elif not equal(a, b):
                keys = range(a[0]) if isinstance(a[0], int) else a[0]
                found.append((item, a[0], [self._value(element(item, k, name), x, y)
                                           for k, x, y in zip(keys, a[1], b[1], strict=True)]))
            elif not equal(contents(item), b):
                found.append((item, b[0], [_constantly(v) for v in b[1]]))
        return found

    def _mark_ambiguous(self) -> None:
        """Objects made of two others cannot be changed where those, or others made of them, are still there."""
        if not self.merged:
            return
        heap = self.tracer.context.heap
        alive = heap.reachable()
        uses: dict[int, int] = {}
        for _, a, b in self.merged.values():
            for source in (a, b):
                uses[id(source)] = uses.get(id(source), 0) + 1
        for new, a, b in self.merged.values():
            if any(id(s) in alive or uses[id(s)] > 1 or heap.is_ambiguous(s) for s in (a, b)):
                heap.add_ambiguous((new, a, b), self.span)


def element(item: Any, key: Any, name: str) -> str:
    """Part of an object as messages name it."""
    return f"the field {key!r} of {name}" if is_instance(item) else f"the element {key!r} of {name}"


def _constantly(value: Any) -> Build:
    return lambda results: value


def merge_branches(tracer: Tracer, condition: Tile, snapshot: Snapshot, sides: Sequence[Outcome],
                   span: Span) -> dict[str, Any]:
    """Emit the ``if`` of two traced paths and give the scope after it."""
    return _Join(tracer, snapshot, sides, span).run(condition)


def _emit_if(tracer: Tracer, condition: Tile, pairs: list[tuple[Leaf, Leaf, TileType]], blocks: list[Block],
             span: Span) -> list[Tile]:
    for side, block in enumerate(blocks):
        with tracer.into(block):
            values = [typed(pair[side], pair[2]) for pair in pairs]
        block.ops.append(Yield(tuple(v.value for v in values), span=span))
    if not pairs and all(len(b.ops) == 1 for b in blocks):
        return []
    op = If(condition.value, *blocks, span=span)
    tracer.context.emit(op)
    return [Tile(r) for r in op.results]


def leave_group(tracer: Tracer, snapshot: Snapshot, span: Span) -> None:
    """Tiles that a thread group has put into Python objects stay in the group."""
    for key, item in snapshot.objects.items():
        keys, values = contents(item)
        before = snapshot.held[key][1]
        kept = [Undefined("this element belongs to the thread group that assigned it", span)
                if has_tiles(v) and not any(v is b for b in before) else v for v in values]
        write(item, (keys, kept))
