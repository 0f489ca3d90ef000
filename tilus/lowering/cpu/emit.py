"""Building thread-level code: a cursor with loops, branches and index arithmetic that folds constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tilus.ir.builder import Builder
from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import DType, i32, i64
from tilus.ir.ops import (
    Binary,
    Broadcast,
    Cast,
    Compare,
    Const,
    For,
    If,
    Iota,
    PtrAdd,
    PtrCast,
    Select,
    Yield,
)
from tilus.ir.types import TileType
from tilus.lowering.cpu.values import Coord, Number


class Cursor:
    """An insertion point with scopes: what is remembered in a scope may be used again there and in nested ones."""

    def __init__(self, block: Block) -> None:
        self.b = Builder(block)
        self.scopes: list[dict[Any, Any]] = [{}]
        self.known: dict[Value, int] = {}

    # Scopes.

    def recall(self, key: Any) -> Any:
        for scope in reversed(self.scopes):
            found = scope.get(key)
            if found is not None:
                return found
        return None

    def remember(self, key: Any, value: Any) -> Any:
        self.scopes[-1][key] = value
        return value

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        found = self.recall(key)
        return self.remember(key, make()) if found is None else found

    # Constants and index arithmetic.

    def const(self, value: int | float | bool, dtype: DType = i64, lanes: int = 0) -> Value:
        def make() -> Value:
            result = self.b.add(Const(value, dtype, (lanes,) if lanes else ())).result
            if dtype is i64 and not lanes:
                self.known[result] = int(value)
            return result

        found: Value = self.once(("const", value, type(value), str(value), dtype, lanes), make)
        return found

    def number(self, value: Value) -> Number:
        """The value as a Python int where it is a known constant."""
        return self.known.get(value, value)

    def value(self, x: Number) -> Value:
        return self.const(x) if isinstance(x, int) else x

    def add(self, a: Number, b: Number) -> Number:
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if isinstance(a, int) and a == 0:
            return b
        if isinstance(b, int) and b == 0:
            return a
        return self.arith("add", a, b)

    def sub(self, a: Number, b: Number) -> Number:
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        if isinstance(b, int) and b == 0:
            return a
        return self.arith("sub", a, b)

    def mul(self, a: Number, b: Number) -> Number:
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        for x, y in ((a, b), (b, a)):
            if isinstance(x, int):
                if x == 0:
                    return 0
                if x == 1:
                    return y
        return self.arith("mul", a, b)

    def min(self, a: Number, b: Number) -> Number:
        return min(a, b) if isinstance(a, int) and isinstance(b, int) else self.arith("min", a, b)

    def max(self, a: Number, b: Number) -> Number:
        return max(a, b) if isinstance(a, int) and isinstance(b, int) else self.arith("max", a, b)

    def arith(self, kind: str, a: Number, b: Number) -> Value:
        x, y = self.value(a), self.value(b)
        result: Value = self.once(("arith", kind, x, y),
                                  lambda: self.b.add(Binary(kind, x, y, False, types=(x.type,))).result)
        return result

    def compare(self, kind: str, a: Number, b: Number) -> Value:
        x, y = self.value(a), self.value(b)
        result: Value = self.once(("compare", kind, x, y), lambda: self.b.add(Compare(kind, x, y)).result)
        return result

    def both(self, a: Value | None, b: Value | None) -> Value | None:
        """Conjunction of bools, None being true."""
        if a is None or b is None:
            return b if a is None else a
        return self.b.add(Binary("and", a, b)).result

    def select(self, condition: Value, a: Number, b: Number) -> Value:
        return self.b.add(Select(condition, self.value(a), self.value(b))).result

    def index(self, coord: Coord) -> Number:
        """The scalar part of a coordinate."""
        return coord.const if coord.base is None else self.add(coord.base, coord.const)

    def computed(self, op: Operation) -> Value:
        """The result of an operation on scalars: that of an equal one, if there has been one."""
        key = ("computed", type(op), tuple(op.attributes.items()), tuple(op.operands))
        result: Value = self.once(key, lambda: self.b.add(op).result)
        return result

    # What is known of indices.

    def note_below(self, index: Number, stop: Number) -> None:
        """From here on in this scope ``index``, which is not negative, is below ``stop``, and so below all that this is
        the least of."""
        waiting = [stop]
        while waiting:
            limit = waiting.pop()
            op = limit.defining if isinstance(limit, Value) else None
            if isinstance(op, Binary) and (op.kind == "min" or (op.kind == "max" and self.number(op.rhs) == 0)):
                waiting += [op.lhs, op.rhs] if op.kind == "min" else [op.lhs]
            else:
                self.remember(("below", index, limit), True)

    def is_below(self, index: Number, limit: Number) -> bool:
        """Whether :meth:`note_below` says so."""
        return self.recall(("below", index, limit)) is not None

    # Vectors.

    def splat(self, x: Value, lanes: int) -> Value:
        if not lanes or not x.tile.is_scalar:
            return x
        result: Value = self.once(("splat", x, lanes), lambda: self.b.add(Broadcast(x, (lanes,))).result)
        return result

    def lane_numbers(self, dtype: DType, lanes: int) -> Value:
        result: Value = self.once(("iota", dtype, lanes), lambda: self.b.add(Iota((lanes,), 0, dtype)).result)
        return result

    def cast(self, x: Value, dtype: DType) -> Value:
        return x if x.tile.dtype is dtype else self.b.add(Cast(x, dtype)).result

    def lanes_below(self, limit: Number, lanes: int) -> Value:
        """The mask of the lanes whose number is below an i64 (which may be negative or large)."""
        bounded = self.max(self.min(limit, lanes), 0)
        if isinstance(bounded, int):
            bounded = self.const(bounded)
        narrow = self.once(("narrow", bounded), lambda: self.cast(bounded, i32))
        return self.b.add(Compare("lt", self.lane_numbers(i32, lanes), self.splat(narrow, lanes))).result

    # Pointers.

    def offset(self, pointer: Value, amount: Number) -> Value:
        if isinstance(amount, int):
            return self.b.add(PtrAdd(pointer, None, amount)).result if amount else pointer
        return self.b.add(PtrAdd(pointer, amount)).result

    def as_pointer(self, pointer: Value, dtype: DType) -> Value:
        return self.b.add(PtrCast(pointer, dtype)).result

    # Control flow.

    def loop(self, start: Number, stop: Number, step: int, init: Sequence[Value],
             body: Callable[[Value, list[Value]], Sequence[Value] | None]) -> list[Value]:
        """A thread-level ``for``; ``body`` takes the index and the carried values and gives the next ones (None
        where nothing is carried)."""
        first, last, by = self.value(start), self.value(stop), self.const(step)
        block = Block([TileType(i64), *(v.type for v in init)])
        outer = self.enter(block)
        yielded = tuple(body(block.args[0], list(block.args[1:])) or ())
        self.b.add(Yield(yielded))
        self.leave(outer)
        op = For(first, last, by, tuple(init), block)
        self.b.add(op)
        return list(op.results)

    def branch(self, condition: Value, then: Callable[[], Sequence[Value] | None],
               orelse: Callable[[], Sequence[Value] | None] | None = None, *, apart: bool = False) -> list[Value]:
        """A thread-level ``if``; both functions give the values of the results (None for no results)."""
        blocks = []
        for make in (then, orelse):
            block = Block()
            outer = self.enter(block)
            values = tuple(make() or ()) if make is not None else ()
            self.b.add(Yield(values))
            self.leave(outer)
            blocks.append(block)
        op = If(condition, blocks[0], blocks[1], apart)
        self.b.add(op)
        return list(op.results)

    def enter(self, block: Block) -> Block:
        outer = self.b.block
        self.b = self.b.at(block)
        self.scopes.append({})
        return outer

    def leave(self, outer: Block) -> None:
        self.scopes.pop()
        self.b = self.b.at(outer)

    def add_op(self, op: Operation) -> Operation:
        return self.b.add(op)
