"""Writes the program of a core: scalars that fold, tensors, calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tilus.diagnostics import UNKNOWN_SPAN, Span
from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import DType, f32, i64
from tilus.ir.ops import Binary, Cast, Compare, Const, For, If, PtrAdd, Select, Yield
from tilus.ir.ops.cores import Call, Local, Part, local_type
from tilus.ir.types import TileType

Scalar = Value | int
"""A run-time number (i64) or a constant."""
UNROLLED = 4
"""Calls that are alike are written out up to so many."""


class Core:
    """An insertion point in the program of a core."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.span: Span = UNKNOWN_SPAN
        self.groups = 0

    def emit(self, op: Operation) -> Value:
        """Append an operation with one result."""
        self.append(op)
        return op.result

    def append(self, op: Operation) -> None:
        op.span = self.span
        self.block.ops.append(op)

    # -- scalars

    def value(self, x: Scalar | float, dtype: DType = i64) -> Value:
        if isinstance(x, Value):
            return x
        return self.emit(Const(float(x) if dtype.is_float else int(x), dtype))

    def binary(self, kind: str, x: Scalar, y: Scalar) -> Scalar:
        folded = _fold(kind, x, y)
        return self.emit(Binary(kind, self.value(x), self.value(y))) if folded is None else folded

    def add(self, x: Scalar, y: Scalar) -> Scalar:
        return self.binary("add", x, y)

    def sub(self, x: Scalar, y: Scalar) -> Scalar:
        return self.binary("sub", x, y)

    def mul(self, x: Scalar, y: Scalar) -> Scalar:
        return self.binary("mul", x, y)

    def min(self, x: Scalar, y: Scalar) -> Scalar:
        return self.binary("min", x, y)

    def max(self, x: Scalar, y: Scalar) -> Scalar:
        return self.binary("max", x, y)

    def quotient(self, x: Scalar, y: int) -> Scalar:
        """``x // y`` of numbers that are not negative."""
        return self.binary("quo", x, y)

    def rounded_up(self, x: Scalar, unit: int) -> Scalar:
        """The next multiple of a power of two."""
        return self.binary("and", self.add(x, unit - 1), -unit)

    def compare(self, kind: str, x: Scalar, y: Scalar) -> Value:
        return self.emit(Compare(kind, self.value(x), self.value(y)))

    def choose(self, condition: Value, x: Scalar, y: Scalar) -> Value:
        return self.emit(Select(condition, self.value(x), self.value(y)))

    def widened(self, x: Value) -> Value:
        """An integer as i64."""
        return x if x.tile.dtype is i64 else self.emit(Cast(x, i64))

    def as_f32(self, x: Value) -> Value:
        return x if x.tile.dtype is f32 else self.emit(Cast(x, f32))

    # -- memory

    def local(self, dtype: DType, size: int, memory: str = "ub", slots: int = 1, name: str = "") -> Value:
        tensor = self.emit(Local(dtype, size, memory, slots))
        tensor.name = name
        return tensor

    def part(self, tensor: Value, start: int = 0, size: int | None = None, *, dtype: DType | None = None,
             offset: Scalar = 0) -> Value:
        """``size`` elements of a tensor, all that follow for None."""
        type_ = local_type(tensor)
        dtype = dtype or type_.dtype
        whole = type_.size * type_.dtype.packed_bits // dtype.packed_bits
        if isinstance(offset, int):
            start, offset = start + offset, 0
        if start == 0 and offset == 0 and dtype is type_.dtype and size in (None, type_.size):
            return tensor
        return self.emit(Part(tensor, dtype, whole - start if size is None else size, start,
                              None if isinstance(offset, int) else offset))

    def at(self, pointer: Value, offset: Scalar) -> Value:
        """A place in global memory."""
        if isinstance(offset, int):
            return pointer if offset == 0 else self.emit(PtrAdd(pointer, None, offset))
        return self.emit(PtrAdd(pointer, offset))

    def group(self) -> int:
        """A number for calls that do not meet each other."""
        self.groups += 1
        return self.groups

    def call(self, form: str, pipe: str, to: Value | Sequence[Value], sources: Sequence[Value] = (),
             scalars: Sequence[Value] = (), *, updates: bool = False, group: int = 0) -> None:
        """A call whose text has the written tensors first; ``updates``: they are read as well."""
        written = (to,) if isinstance(to, Value) else tuple(to)
        read = 0 if updates else len(written)
        self.append(Call(form, pipe, (*written, *sources), tuple(scalars), len(written), read, group))

    # -- control flow

    @contextmanager
    def loop(self, start: Scalar, stop: Scalar, step: Scalar = 1, name: str = "i") -> Iterator[Value]:
        """A loop over i64 numbers without carried values."""
        body = Block([TileType(i64)], [name])
        op = For(self.value(start), self.value(stop), self.value(step), (), body)
        with self.within(body):
            yield body.args[0]
            self.append(Yield())
        self.append(op)

    def each(self, count: int, body: Callable[[Scalar], None], name: str = "r") -> None:
        """``body`` for 0, 1, …: written out for few, in a loop for many."""
        if count <= UNROLLED:
            for i in range(count):
                body(i)
            return
        with self.loop(0, count, 1, name) as index:
            body(index)

    @contextmanager
    def within(self, block: Block) -> Iterator[None]:
        before, self.block = self.block, block
        try:
            yield
        finally:
            self.block = before

    @contextmanager
    def only_if(self, condition: Value) -> Iterator[None]:
        then, orelse = Block(), Block()
        orelse.append(Yield())
        with self.within(then):
            yield
            self.append(Yield())
        self.append(If(condition, then, orelse))


def _fold(kind: str, x: Scalar, y: Scalar) -> Scalar | None:
    if isinstance(x, int) and isinstance(y, int):
        return {"add": x + y, "sub": x - y, "mul": x * y, "min": min(x, y), "max": max(x, y), "and": x & y,
                "quo": x // y if y else 0}[kind]
    if (kind in ("add", "sub") and isinstance(y, int) and y == 0) or (
            kind in ("mul", "quo") and isinstance(y, int) and y == 1):
        return x
    if (kind == "add" and isinstance(x, int) and x == 0) or (kind == "mul" and isinstance(x, int) and x == 1):
        return y
    if kind == "mul" and ((isinstance(x, int) and x == 0) or (isinstance(y, int) and y == 0)):
        return 0
    return None
