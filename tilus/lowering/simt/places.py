"""Lowering of argmax and argmin: the extremum, and the first place that has it.

A thread's elements come in order, so that the later of two wins where the extremum is not the earlier one: a number
wins over a NaN, and of equals the first one stays. Among threads the extremum is found first; where a thread has
another number its place does not count, and the least place is left. Where all are NaNs it is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import i32
from tilus.ir.ops import Binary, Compare, Reduce, Select
from tilus.ir.ops.simt import WarpShuffle
from tilus.layouts import RegisterLayout
from tilus.lowering.simt.across_warps import Combine, reduce_warps
from tilus.lowering.simt.collective import axis_index, combine_kind, lower_reduce, padded, redux, set_result
from tilus.lowering.simt.context import Thread
from tilus.lowering.simt.scratch import lane_masks, shared_digits

NOWHERE = 2**31 - 1


def lower_place(thread: Thread, op: Reduce) -> None:
    extremum = "max" if op.kind == "argmax" else "min"
    value, layout = padded(thread, op)
    best, place = _of_thread(thread, extremum, value, layout, op.axis)
    masks = lane_masks(layout, op.axis)
    if masks:
        best, place = _of_lanes(thread, extremum, best, place, layout, op.axis, masks)
    digits = shared_digits(layout, op.axis)
    if digits:
        best, place = reduce_warps(thread, op, [best, place], layout, op.axis, digits, _least_place(extremum))
    if value.tile.dtype.is_float:
        count = place.tile.size
        number = thread.emit(Compare("eq", best, best))
        place = thread.emit(Select(number, place, thread.const(0, i32, count)))
    set_result(thread, op, place)


def _of_thread(thread: Thread, extremum: str, value: Value, layout: RegisterLayout, axis: int) -> tuple[Value, Value]:
    """Of each thread's own elements."""
    result = layout.reduce(axis)
    members: list[list[int]] = [[] for _ in range(result.num_locals)]
    for local, index in sorted(enumerate(layout.local_indices), key=lambda pair: pair[1][axis]):
        members[result.local_of(index[:axis] + index[axis + 1 :])].append(local)
    places = axis_index(thread, layout, axis)
    columns = []
    for k in range(len(members[0])):
        chosen = [m[k] for m in members]
        columns.append((thread.take(value, chosen), thread.take(places, chosen)))
    while len(columns) > 1:
        merged = [_later(thread, extremum, *columns[i], *columns[i + 1]) for i in range(0, len(columns) - 1, 2)]
        columns = merged + columns[len(columns) - len(columns) % 2 :]
    return columns[0]


def _later(thread: Thread, extremum: str, x: Value, i: Value, y: Value, j: Value) -> tuple[Value, Value]:
    best = thread.emit(Binary(extremum, x, y))
    return best, thread.emit(Select(thread.emit(Compare("ne", best, x)), j, i))


def _of_lanes(thread: Thread, extremum: str, value: Value, place: Value, layout: RegisterLayout, axis: int,
              masks: Sequence[int]) -> tuple[Value, Value]:
    across = redux(thread, extremum, value, layout, axis)
    best = value if across is None else across(value)
    for mask in masks if across is None else ():
        best = thread.emit(Binary(extremum, best, thread.emit(WarpShuffle(best, thread.const(mask), "bfly"))))
    place = _counted(thread, best, value, place)
    across = redux(thread, "min", place, layout, axis)
    if across is not None:
        return best, across(place)
    for mask in masks:
        place = thread.emit(Binary("min", place, thread.emit(WarpShuffle(place, thread.const(mask), "bfly"))))
    return best, place


def _counted(thread: Thread, best: Value, value: Value, place: Value) -> Value:
    """The place where the value is the best one."""
    same = thread.emit(Compare("eq", value, best))
    return thread.emit(Select(same, place, thread.const(NOWHERE, i32, place.tile.size)))


def _least_place(extremum: str) -> Combine:
    combine = combine_kind(extremum)

    def of_warps(thread: Thread, xs: Sequence[Value], ys: Sequence[Value]) -> list[Value]:
        (best,) = combine(thread, xs[:1], ys[:1])
        places = [_counted(thread, best, *pair) for pair in (xs, ys)]
        return [best, thread.emit(Binary("min", *places))]

    return of_warps


LOWERINGS: dict[type[Operation], Callable[[Thread, Any], None]] = {
    Reduce: lambda thread, op: (lower_place if op.kind.startswith("arg") else lower_reduce)(thread, op),
}

__all__ = ["LOWERINGS"]
