"""Lowering of dots to mma.sync instructions, or to multiply-adds where there is none for the types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilus.ir.core import Operation, Value
from tilus.ir.ops import Binary, Cast, Dot, Fma, Map
from tilus.ir.ops.simt import Mma
from tilus.layouts import RegisterLayout
from tilus.layouts.mma import fragments
from tilus.lowering.dot_plan import mma_shape
from tilus.lowering.simt.context import Thread, layout_of


def lower_dot(thread: Thread, op: Dot) -> None:
    shape = mma_shape(op, thread.target) if op.a.tile.rank == 2 else None
    c = thread.value(op.accumulator)
    if shape is None:
        thread.set(op.result, _multiply_add(thread, op, thread.value(op.a), thread.value(op.b), c))
    else:
        thread.set(op.result, _mma(thread, op, c, shape))


def _fragment(thread: Thread, operand: Value, first: int, count: int) -> Value:
    """Locals of an operand; from a tile whose loads were put off, by the instructions that fill them."""
    deferred = thread.deferred.get(operand)
    if deferred is None or operand in thread.values:
        return thread.take(thread.value(operand), range(first, first + count))
    width = deferred.width
    if count >= width:
        return thread.pack([deferred.part(i) for i in range(first // width, (first + count) // width)])
    return thread.take(deferred.part(first // width), range(first % width, first % width + count))


def _offsets(layout: RegisterLayout) -> list[tuple[int, ...]]:
    return [tuple(i) for i in layout.local_offsets().tolist()]


def _mma(thread: Thread, op: Dot, c: Value, shape: tuple[int, int, int, int]) -> Value:
    """One instruction per atom of the result and step of k. The atoms of a fragment are its innermost locals."""
    m, n, k, bits = shape
    atom = fragments(m, n, k, bits)
    la, lb, lc = layout_of(op.a), layout_of(op.b), layout_of(op.result)
    na, nb, nc = atom.a.num_locals, atom.b.num_locals, atom.c.num_locals
    a_at = {index: i * na for i, index in enumerate(_offsets(la)[::na])}
    b_at = {index: i * nb for i, index in enumerate(_offsets(lb)[::nb])}
    c_index = _offsets(lc)[::nc]
    accumulators = [thread.take(c, range(i * nc, (i + 1) * nc)) for i in range(len(c_index))]
    rows = {index[0] for index in a_at}
    steps = sorted({index[1] for index in a_at})
    tf32 = op.a.tile.dtype.name == "f32"
    for step in steps:
        for i, (row, column) in enumerate(c_index):
            assert row in rows
            fa, fb = a_at[row, step], b_at[step, column]
            accumulators[i] = thread.emit(Mma(_fragment(thread, op.a, fa, na), _fragment(thread, op.b, fb, nb),
                                              accumulators[i], (m, n, k), tf32))
    return thread.pack(accumulators)


def _multiply_add(thread: Thread, op: Dot, a: Value, b: Value, c: Value) -> Value:
    """Each thread holds the rows of a and the columns of b that its elements of the result need."""
    dtype = op.accumulator.tile.dtype
    compute = dtype if dtype.bits >= 32 else None
    la, lb, lc = layout_of(op.a), layout_of(op.b), layout_of(op.result)
    rank = lc.rank
    if op.a.tile.dtype is not dtype:
        a, b = (thread.emit(Cast(v, dtype)) for v in (a, b))
    a_at = {index: i for i, index in enumerate(_offsets(la))}
    b_at = {index: i for i, index in enumerate(_offsets(lb))}
    c_index = _offsets(lc)
    result = c
    for k in range(op.a.tile.shape[-1]):
        xs = [a_at[index[: rank - 1] + (k,)] for index in c_index]
        ys = [b_at[index[: rank - 2] + (k, index[-1])] for index in c_index]
        x, y = thread.take(a, xs), thread.take(b, ys)
        if dtype.is_float and compute is not None:
            result = thread.emit(Fma(x, y, result))
        else:
            result = thread.emit(Binary("add", result, thread.emit(Binary("mul", x, y))))
    return result


def lower_map(thread: Thread, op: Map) -> None:
    from tilus.lowering.simt.scalar_region import inline_scalar_block

    vectors = [thread.widen(thread.value(x), x.tile.dtype) for x in op.xs]
    captured = [thread.widen(thread.value(x), x.tile.dtype) for x in op.captured]
    columns: list[list[Value]] = [[] for _ in op.results]
    for i in range(vectors[0].tile.size):
        arguments = [*(thread.extract(v, i) for v in vectors), *captured]
        for column, value in zip(columns, inline_scalar_block(thread, op.body, arguments), strict=True):
            column.append(value)
    for result, column in zip(op.results, columns, strict=True):
        packed = thread.pack(column)
        thread.set(result, thread.widen(packed, thread.element_type(result)))


LOWERINGS: dict[type[Operation], Callable[[Thread, Any], None]] = {Dot: lower_dot, Map: lower_map}

