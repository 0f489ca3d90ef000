"""Lowering of operations in which threads exchange values: reductions and replica broadcasts.

A reduction combines each thread's registers, then the lanes of a warp by butterfly shuffles, then the warps through
shared memory (:mod:`tilus.lowering.simt.across_warps`). Every holder of a result gets it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import DType, f64, i32, u32
from tilus.ir.ops import (
    Cast,
    Compare,
    Const,
    ConvertLayout,
    DeviceAssert,
    If,
    Print,
    PtrLoad,
    PtrStore,
    Reduce,
    ReduceWith,
    Select,
    Unary,
    Yield,
)
from tilus.ir.ops.simt import ASSERTION_FAILED, PrintThread, Trap, WarpRedux, WarpShuffle
from tilus.layouts import RegisterLayout
from tilus.lowering.simt.across_warps import Combine, flat_index, flat_locals, reduce_warps
from tilus.lowering.simt.barriers import barrier, reuse_barrier
from tilus.lowering.simt.context import Thread, layout_of
from tilus.lowering.simt.convert import lower_convert
from tilus.lowering.simt.origins import origin
from tilus.lowering.simt.scratch import lane_masks, shared_digits
from tilus.targets import Feature

_IDEMPOTENT = frozenset({"min", "max", "any", "all"})
_KINDS = {"sum": "add", "prod": "mul", "min": "min", "max": "max", "any": "or", "all": "and", "xor": "xor"}


def identity(kind: str, dtype: DType) -> int | float | bool:
    """The value that a reduction passes over."""
    if kind in ("sum", "xor"):
        return 0.0 if dtype.is_float else 0
    if kind == "prod":
        return 1.0 if dtype.is_float else 1
    if kind in ("any", "all"):
        return kind == "all"
    if dtype.is_float:
        return float("nan")
    return dtype.max_value if kind in ("min", "argmin") else dtype.min_value


def combine_kind(kind: str) -> Combine:
    """The combination of a built-in reduction or scan, on vectors."""

    def combine(thread: Thread, xs: Sequence[Value], ys: Sequence[Value]) -> list[Value]:
        return [thread.wrapping(_KINDS[kind], xs[0], ys[0])]

    return combine


def combine_region(block: Block) -> Combine:
    """The combination that a user-given block computes, element by element."""
    from tilus.lowering.simt.scalar_region import inline_scalar_block

    def combine(thread: Thread, xs: Sequence[Value], ys: Sequence[Value]) -> list[Value]:
        count = xs[0].tile.size
        columns: list[list[Value]] = [[] for _ in xs]
        for i in range(count):
            arguments = [thread.extract(v, i) for v in (*xs, *ys)]
            for column, value in zip(columns, inline_scalar_block(thread, block, arguments), strict=True):
                column.append(value)
        return [thread.pack(c) for c in columns]

    return combine


def lower_reduce(thread: Thread, op: Reduce) -> None:
    combine = combine_kind(op.kind)
    value, layout = padded(thread, op)
    across = redux(thread, op.kind, value, layout, op.axis)
    masked = _masked(op.kind, value)
    results = reduce_values(thread, op, [value], layout, op.axis, combine, across=across, masked=masked)
    set_result(thread, op, results[0])


def _masked(kind: str, value: Value) -> Select | None:
    """What leaves elements out by a constant that is the same however many of it a reduction combines."""
    select = value.defining
    if not isinstance(select, Select) or not isinstance(select.y.defining, Const):
        return None
    same = kind in _IDEMPOTENT or select.y.defining.value == identity(kind, value.tile.dtype)
    return select if same else None


def padded(thread: Thread, op: Reduce) -> tuple[Value, RegisterLayout]:
    """The operand, in whose padding nothing counts, and its layout."""
    x, layout = op.x.tile, layout_of(op.x)
    value = thread.widen(thread.value(op.x), x.dtype)
    return pad(thread, value, layout, x.shape, op.axis, identity(op.kind, x.dtype)), layout


def set_result(thread: Thread, op: Reduce, result: Value) -> None:
    if op.result.tile.is_scalar:
        result = thread.extract(result, 0)
    thread.set(op.result, thread.widen(result, thread.element_type(op.result)))


def lower_reduce_with(thread: Thread, op: ReduceWith) -> None:
    """Layout inference gave the operands a layout in which threads follow along the axis. Elements of its padding
    come last; they are passed over by a flag that goes along."""
    layout, shape = layout_of(op.xs[0]), op.xs[0].tile.shape
    values = [thread.widen(thread.value(x), x.tile.dtype) for x in op.xs]
    combine = combine_region(op.combine)
    if layout.shape[op.axis] != shape[op.axis]:
        values.append(exists(thread, layout, op.axis, shape[op.axis]))
        combine = where_it_exists(combine, left=False)
    results = reduce_values(thread, op, values, layout, op.axis, combine, ordered=True)
    for old, new in zip(op.results, results, strict=False):
        new = thread.extract(new, 0) if old.tile.is_scalar else new
        thread.set(old, thread.widen(new, thread.element_type(old)))


def where_it_exists(combine: Combine, *, left: bool) -> Combine:
    """The combination of tiles with, as the last one, whether each element exists. Where the left (or right) one does
    not, the other one stands."""

    def flagged(thread: Thread, xs: Sequence[Value], ys: Sequence[Value]) -> list[Value]:
        joined = combine(thread, xs[:-1], ys[:-1])
        flag, other = (xs[-1], ys) if left else (ys[-1], xs)
        kept = [thread.emit(Select(flag, new, old)) for new, old in zip(joined, other[:-1], strict=True)]
        return [*kept, other[-1]]

    return flagged


def exists(thread: Thread, layout: RegisterLayout, axis: int, extent: int) -> Value:
    """Which elements are not in the padding along an axis."""
    index = axis_index(thread, layout, axis)
    return thread.emit(Compare("lt", index, thread.const(extent, i32, index.tile.size)))


def axis_index(thread: Thread, layout: RegisterLayout, axis: int) -> Value:
    part = thread.thread_index(layout, axis)
    parts = []
    for offset in (index[axis] for index in layout.local_indices):
        parts.append(thread.const(offset) if part is None else thread.binary("add", part, offset))
    return thread.pack(parts)


def pad(thread: Thread, value: Value, layout: RegisterLayout, shape: tuple[int, ...], axis: int,
         filler: int | float | bool) -> Value:
    """Elements beyond the tile's extent along the axis become the identity."""
    if layout.shape[axis] == shape[axis]:
        return value
    index = axis_index(thread, layout, axis)
    count = value.tile.size
    inside = thread.emit(Compare("lt", index, thread.const(shape[axis], i32, count)))
    return thread.emit(Select(inside, value, thread.const(filler, value.tile.dtype, count)))


def reduce_values(thread: Thread, op: Operation, values: list[Value], layout: RegisterLayout, axis: int,
                  combine: Combine, *, ordered: bool = False,
                  across: Callable[[Value], Value] | None = None, masked: Select | None = None) -> list[Value]:
    """Reduce vectors in ``layout`` along ``axis``; the results are in ``layout.reduce(axis)``. ``ordered`` keeps the
    order along the axis, in a layout in which threads, then neighbouring registers, follow along it. ``across`` does
    the lanes of a warp at once; ``masked`` made the values, of what is left out."""
    result = layout.reduce(axis)
    values = _reduce_locals(thread, values, layout, result, axis, combine, masked)
    if across is not None:
        values = [across(v) for v in values]
    for mask in lane_masks(layout, axis) if across is None else ():
        others = [thread.emit(WarpShuffle(v, thread.const(mask), "bfly")) for v in values]
        if ordered:
            values, others = _in_order(thread, mask, values, others)
        values = combine(thread, values, others)
    digits = shared_digits(layout, axis)
    if digits:
        values = reduce_warps(thread, op, values, layout, axis, digits, combine)
    return values


_REDUX = {"sum": "add", "min": "min", "max": "max", "xor": "xor"}


def redux(thread: Thread, kind: str, value: Value, layout: RegisterLayout,
           axis: int) -> Callable[[Value], Value] | None:
    """``redux.sync`` where all lanes of a warp are reduced and the target has it for the type; else None."""
    every_lane = sorted(lane_masks(layout, axis)) == [1, 2, 4, 8, 16]
    if kind not in _REDUX or value.tile.dtype not in (i32, u32) or not every_lane:
        return None
    if not thread.target.has(Feature.REDUX):
        return None

    def reduce(vector: Value) -> Value:
        elements = [thread.extract(vector, i) for i in range(vector.tile.size)]
        return thread.pack([thread.emit(WarpRedux(e, _REDUX[kind])) for e in elements])

    return reduce


def _in_order(thread: Thread, mask: int, mine: list[Value], others: list[Value]) -> tuple[list[Value], list[Value]]:
    """The values of the lower and of the upper of two lanes that exchanged theirs."""
    upper = thread.at_entry(("upper", thread.first_warp, mask), lambda: thread.compare(
        "ne", thread.binary("and", thread.tid(), mask), 0))
    pairs = list(zip(mine, others, strict=True))
    low = [thread.emit(Select(thread.splat(upper, m.tile.size), o, m)) for m, o in pairs]
    high = [thread.emit(Select(thread.splat(upper, m.tile.size), m, o)) for m, o in pairs]
    return low, high


def _reduce_locals(thread: Thread, values: list[Value], layout: RegisterLayout, result: RegisterLayout, axis: int,
                   combine: Combine, masked: Select | None) -> list[Value]:
    members: list[list[int]] = [[] for _ in range(result.num_locals)]
    for local, index in enumerate(layout.local_indices):
        rest = index[:axis] + index[axis + 1 :]
        members[result.local_of(rest)].append(local)
    columns = [[m[k] for m in members] for k in range(len(members[0]))]
    if masked is not None:
        return [_reduce_masked(thread, masked, columns, combine)]
    return _in_pairs(thread, [[thread.take(v, c) for v in values] for c in columns], combine)


def _in_pairs(thread: Thread, columns: list[list[Value]], combine: Combine) -> list[Value]:
    while len(columns) > 1:  # neighbours first, so that the order along the axis is kept
        merged = [combine(thread, columns[i], columns[i + 1]) for i in range(0, len(columns) - 1, 2)]
        columns = merged + columns[len(columns) - len(columns) % 2 :]
    return columns[0]


def _reduce_masked(thread: Thread, select: Select, columns: list[list[int]], combine: Combine) -> Value:
    """Neighbours under one condition are combined before what is absent is left out, once for all of them."""
    runs = [list(run) for _, run in itertools.groupby(
        columns, lambda column: [origin(select.condition, local) for local in column])]
    parts = []
    for run in runs:
        (value,) = _in_pairs(thread, [[thread.take(select.x, column)] for column in run], combine)
        held, absent = (thread.take(v, run[0]) for v in (select.condition, select.y))
        parts.append([thread.emit(Select(held, value, absent))])
    return _in_pairs(thread, parts, combine)[0]


def broadcast_replicas(thread: Thread, op: Operation, value: Value, layout: RegisterLayout) -> Value:
    """The values that the first holders have, in every holder: through shared memory."""
    if not layout.is_replicated and layout.rank:
        return value
    first = thread.first_replica(layout) if layout.rank else thread.compare("eq", thread.tid(), 0)
    pointer = thread.shared_pointer(thread.shared_offsets[op], value.tile.dtype)
    element = flat_index(thread, layout)
    offsets = flat_locals(layout) if layout.rank else [0]
    target = thread.move(pointer, element)
    reuse_barrier(thread, op)
    for local, offset in enumerate(offsets):
        thread.emit(PtrStore(thread.move(target, None, offset), thread.extract(value, local), 0, first))
    barrier(thread)
    loads = [thread.emit(PtrLoad(thread.move(target, None, offset))) for offset in offsets]
    return loads[0] if value.tile.is_scalar else thread.pack(loads)


# -- debugging


def lower_assert(thread: Thread, op: DeviceAssert) -> None:
    value = thread.value(op.condition)
    held: Value | None = None
    if op.condition.tile.is_scalar:
        held = value
    else:
        layout = layout_of(op.condition)
        value = _pad_all(thread, value, layout, op.condition.tile.shape)
        for i in range(value.tile.size):
            held = thread.both(held, thread.extract(value, i))
    assert held is not None
    failed = thread.emit(Unary("not", held))
    then, orelse = Block(), Block()
    text = f"{ASSERTION_FAILED}{op.span}: {op.message}".replace("{", "{{").replace("}", "}}")
    then.ops += [PrintThread(text, span=op.span), Trap(span=op.span), Yield(())]
    orelse.ops.append(Yield(()))
    thread.emit(If(failed, then, orelse))


def _pad_all(thread: Thread, value: Value, layout: RegisterLayout, shape: tuple[int, ...]) -> Value:
    for axis in range(layout.rank):
        value = pad(thread, value, layout, shape, axis, True)
    return value


def lower_print(thread: Thread, op: Print) -> None:
    """Scalars are printed by one thread, tiles by every first holder of an element with its index."""
    outer = thread.block
    then, orelse = Block(), Block()
    first = thread.compare("eq", thread.tid(), 0)
    if all(v.tile.is_scalar for v in op.values):
        thread.block = then
        thread.emit(PrintThread(op.format, tuple(_printed(thread, thread.value(v)) for v in op.values)))
        then.ops.append(Yield(()))
        orelse.ops.append(Yield(()))
        thread.block = outer
        thread.emit(If(first, then, orelse))
        return
    tiles = [v for v in op.values if v.tile.shape]
    layout = layout_of(tiles[0])
    holder = thread.first_replica(layout)
    for local in range(layout.num_locals):
        values = [thread.value(v) if v.tile.is_scalar else thread.extract(thread.value(v), local) for v in op.values]
        body = Block()
        thread.block = body
        printed = (*(_printed(thread, v) for v in values), thread.tid())
        thread.emit(PrintThread(f"{op.format} [thread {{}}, register {local}]", printed))
        body.ops.append(Yield(()))
        thread.block = outer
        if holder is None:
            thread.block.ops.extend(body.ops[:-1])
        else:
            empty = Block()
            empty.ops.append(Yield(()))
            thread.emit(If(holder, body, empty))


def _printed(thread: Thread, x: Value) -> Value:
    """What ``vprintf`` takes of a float."""
    return thread.emit(Cast(x, f64)) if x.tile.dtype.is_float and x.tile.dtype is not f64 else x


LOWERINGS: dict[type[Operation], Callable[[Thread, Any], None]] = {
    ReduceWith: lower_reduce_with, ConvertLayout: lower_convert, DeviceAssert: lower_assert,
    Print: lower_print,
}

