"""Lowering of layout conversions, by the plans of the layout algebra."""

from __future__ import annotations

import math

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType, bool_, u8
from tilus.ir.ops import Binary, Cast, Compare, ConvertLayout, PtrLoad, PtrStore, Reshape, Select, Transpose
from tilus.ir.ops.simt import MovMatrix, WarpShuffle
from tilus.layouts import RegisterLayout
from tilus.layouts.convert import (
    Identity,
    MatrixTransposition,
    RegisterPermutation,
    SharedPlan,
    conversion_rounds,
    order_of,
)
from tilus.layouts.mma import MatrixPlan
from tilus.layouts.shared import row_major
from tilus.layouts.shuffle import BitMap, ShufflePlan
from tilus.lowering.simt.barriers import barrier, reuse_barrier
from tilus.lowering.simt.bits import register_type
from tilus.lowering.simt.context import SharedView, Thread, layout_of
from tilus.lowering.simt.scratch import conversion_plan, holds_only_element
from tilus.lowering.simt.shared_access import SharedAccess, matrix_loads, store_matrices
from tilus.lowering.simt.views import tile_padding


def lower_convert(thread: Thread, op: ConvertLayout) -> None:
    value = thread.value(op.x)
    thread.set(op.result, convert(thread, value, layout_of(op.x), op))


def convert(thread: Thread, value: Value, source: RegisterLayout, op: ConvertLayout | Transpose | Reshape) -> Value:
    """``value`` moved from a layout to that of the result of ``op``, which owns the scratch memory."""
    tile, target = op.result.tile, layout_of(op.result)
    plan = conversion_plan(tile, source, target, thread.target)
    if isinstance(plan, Identity):
        return value
    if isinstance(plan, RegisterPermutation):
        return thread.take(value, plan.perm)
    if isinstance(plan, ShufflePlan):
        return _shuffle(thread, value, plan, target)
    if isinstance(plan, MatrixTransposition):
        return thread.pack([thread.emit(MovMatrix(thread.take(value, (2 * s, 2 * s + 1)))) for s in plan.pairs])
    rounds = conversion_rounds(plan, thread.round_bytes)
    if len(rounds) == 1:
        return _through_shared(thread, value, plan, op, tile.shape)
    given: dict[int, Value] = {}
    for part in rounds:
        if given:
            barrier(thread)
        moved = _through_shared(thread, thread.take(value, part.taken), part.plan, op, part.plan.dst.shape)
        given.update((local, thread.extract(moved, i)) for i, local in enumerate(part.given))
    return thread.pack([given[local] for local in range(target.num_locals)])


def storage_type(dtype: DType) -> DType:
    """The type in which elements lie in scratch memory."""
    return u8 if dtype.is_bool else register_type(dtype)


def _through_shared(thread: Thread, value: Value, plan: SharedPlan, op: Operation, shape: tuple[int, ...]) -> Value:
    dtype = value.tile.dtype
    stored = thread.emit(Cast(value, u8)) if dtype.is_bool else value
    storage = storage_type(dtype)
    pointer = thread.shared_pointer(thread.shared_offsets[op], storage)
    reuse_barrier(thread, op)
    rank = plan.src.rank
    there = SharedView(pointer, plan.shared, plan.shared.shape)
    if isinstance(plan.store, MatrixPlan):
        access = SharedAccess(thread, there, plan.store.rows, plan.store.vector, (0,) * rank)
        store_matrices(thread, access, plan.store, stored)
    else:
        vector = math.gcd(plan.store.vector, max(1, 128 // storage.bits))
        store = SharedAccess(thread, there, plan.store.layout, vector, (0,) * rank)
        stored = thread.take(stored, order_of(plan.src, plan.store))
        first = thread.first_replica(plan.src)
        for group in range(plan.src.num_locals // vector):
            start = group * vector
            part = thread.take(stored, range(start, start + vector)) if vector > 1 else thread.extract(stored, start)
            thread.emit(PtrStore(store.address(group), part, vector * storage.itemsize, first))
    barrier(thread)
    if isinstance(plan.load, MatrixPlan):
        access = SharedAccess(thread, there, plan.load.rows, plan.load.vector, (0,) * rank)
        return thread.pack(matrix_loads(thread, access, plan.load).all())
    vector = math.gcd(plan.load.vector, max(1, 128 // storage.bits))
    if plan.dst.shape != shape:  # the padding was perhaps not written
        vector = 1
    load = SharedAccess(thread, there, plan.load.layout, vector, (0,) * rank)
    parts = [
        thread.emit(PtrLoad(load.address(group), vector if vector > 1 else 0, vector * storage.itemsize,
                            tile_padding(thread, plan.load.layout, shape, group * vector)))
        for group in range(plan.dst.num_locals // vector)
    ]
    order = order_of(plan.dst, plan.load)
    result = thread.take(thread.pack(parts), [order.index(local) for local in range(len(order))])
    if dtype.is_bool:
        zero = thread.const(0, u8, result.tile.size)
        return thread.emit(Compare("ne", result, zero))
    return result


def reshape_through_shared(thread: Thread, op: Reshape | Transpose, value: Value) -> Value:
    """A reshape whose layouts do not fit: the tile is written row-major and read in the result's layout."""
    assert isinstance(op, Reshape)
    target = layout_of(op.result)
    dtype = value.tile.dtype
    pointer = _write_row_major(thread, op, value)
    load = SharedAccess(thread, SharedView(pointer, row_major(*op.shape), op.shape), target, 1, (0,) * target.rank)
    parts = []
    for local in range(target.num_locals):
        predicate = tile_padding(thread, target, op.shape, local)
        parts.append(thread.emit(PtrLoad(load.address(local), 0, 0, predicate)))
    result = thread.pack(parts)
    if dtype is bool_:
        return thread.emit(Compare("ne", result, thread.const(0, u8, result.tile.size)))
    return result


def _write_row_major(thread: Thread, op: Reshape | Transpose, value: Value) -> Value:
    """Write the operand into the operation's scratch memory; its address."""
    source, shape = layout_of(op.x), op.x.tile.shape
    stored = thread.emit(Cast(value, u8)) if value.tile.dtype is bool_ else value
    pointer = thread.shared_pointer(thread.shared_offsets[op], storage_type(value.tile.dtype))
    reuse_barrier(thread, op)
    first = thread.first_replica(source)
    store = SharedAccess(thread, SharedView(pointer, row_major(*shape), shape), source, 1, (0,) * source.rank)
    for local in range(source.num_locals):
        predicate = thread.both(first, tile_padding(thread, source, shape, local))
        thread.emit(PtrStore(store.address(local), thread.extract(stored, local), 0, predicate))
    barrier(thread)
    return pointer


def only_element(thread: Thread, op: Reshape | Transpose, value: Value) -> Value:
    """The element of a tile that has one, as a scalar in every thread."""
    if holds_only_element(layout_of(op.x)):
        return thread.extract(value, 0)
    result = thread.emit(PtrLoad(_write_row_major(thread, op, value)))
    if value.tile.dtype is bool_:
        return thread.emit(Compare("ne", result, thread.const(0, u8)))
    return result


# -- shuffles


def _bit_map(thread: Thread, bits: BitMap, x: Value) -> Value:
    """The XOR map of a thread number as arithmetic."""
    if all(c == 1 << i for i, c in enumerate(bits.columns)):
        return thread.binary("xor", x, bits.constant)
    result: Value | None = None
    for i, column in enumerate(bits.columns):
        if not column:
            continue
        bit = thread.binary("and", thread.binary("shr", x, i), 1)
        part = thread.binary("mul", bit, column)
        result = part if result is None else thread.emit(Binary("xor", result, part))
    if result is None:
        return thread.const(bits.constant)
    return thread.binary("xor", result, bits.constant)


def _shuffle(thread: Thread, value: Value, plan: ShufflePlan, target: RegisterLayout) -> Value:
    """The rounds of a plan: offer a register group, shuffle, keep it as the group that the round names."""
    received: list[tuple[BitMap, Value]] = []
    for step in plan.rounds:
        offered = _choose(thread, value, plan, step.send)
        if not step.is_local:
            mask = step.xor_mask
            if mask is not None:
                offered = thread.emit(WarpShuffle(offered, thread.const(mask), "bfly"))
            else:
                lane = thread.binary("and", _bit_map(thread, step.source, thread.tid()), thread.target.warp_size - 1)
                offered = thread.emit(WarpShuffle(offered, lane, "idx"))
        received.append((step.receive, offered))
    groups = [_received(thread, received, g) for g in range(plan.dst_groups)]
    width = plan.unit
    parts = [
        thread.take(groups[g], range(o * width, (o + 1) * width))
        for o in range(plan.repeat)
        for g in range(plan.dst_groups)
    ]
    return thread.pack(parts)


def _group(thread: Thread, value: Value, plan: ShufflePlan, group: int) -> Value:
    """One register group of every repetition, as a vector."""
    return thread.take(
        value, [(o * plan.src_groups + group) * plan.unit + u for o in range(plan.repeat) for u in range(plan.unit)]
    )


def _choose(thread: Thread, value: Value, plan: ShufflePlan, send: BitMap) -> Value:
    """The group numbered ``send(thread)``."""
    if send.is_constant:
        return _group(thread, value, plan, send.constant)
    number = thread.at_entry(("send", send), lambda: _bit_map(thread, send, thread.tid()))
    reachable = sorted(_reachable(send))
    result = _group(thread, value, plan, reachable[0])
    for group in reachable[1:]:
        result = _select_if(thread, number, group, _group(thread, value, plan, group), result)
    return result


def _received(thread: Thread, received: list[tuple[BitMap, Value]], group: int) -> Value:
    """What a thread keeps as destination group ``group``: from the round that names it."""
    candidates = [(receive, offered) for receive, offered in received if group in _reachable(receive)]
    result = candidates[0][1]
    for receive, offered in candidates[1:]:
        number = thread.at_entry(
            ("receive", receive),
            lambda receive=receive: _bit_map(  # type: ignore[misc]
                thread, receive, thread.tid()
            ),
        )
        result = _select_if(thread, number, group, offered, result)
    return result


def _select_if(thread: Thread, number: Value, group: int, x: Value, y: Value) -> Value:
    condition = thread.splat(thread.compare("eq", number, group), x.tile.size)
    return thread.emit(Select(condition, x, y))


def _reachable(bits: BitMap) -> set[int]:
    values = {bits.constant}
    for column in bits.columns:
        if column:
            values |= {v ^ column for v in values}
    return values
