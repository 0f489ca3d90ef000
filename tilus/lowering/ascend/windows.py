"""Which part of a tile is in bounds, and where it lies in global memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilus.ir.core import Value
from tilus.ir.ops import Binary, Load, PtrLoad, Select, Store
from tilus.lowering.ascend.core import Scalar
from tilus.lowering.ascend.lazy import constant
from tilus.lowering.ascend.units import TYPES
from tilus.lowering.ascend.views import GlobalView
from tilus.records import record

if TYPE_CHECKING:
    from tilus.lowering.ascend.cube import Cube
    from tilus.lowering.ascend.vector import Vector


@record(frozen=True, slots=True)
class Window:
    """What of a tile is in bounds: along each dimension from ``begins`` on ``counts`` elements; ``offset`` is where the
    tile's first element lies behind the parameter's pointer. ``whole``: all of it is."""

    view: GlobalView
    offset: Scalar
    begins: tuple[Scalar, ...]
    counts: tuple[Scalar, ...]
    whole: bool


def window(side: Vector | Cube, op: Load | Store, shape: tuple[int, ...]) -> Window:
    view, core, facts = side.views.of(op.view), side.core, side.facts
    offset = view.offset
    begins: list[Scalar] = []
    counts: list[Scalar] = []
    for d, (value, extent) in enumerate(zip(op.offsets, shape or (1,) * len(op.offsets), strict=True)):
        start, fact = side.views.number(value), facts.of(value)
        offset = core.add(offset, core.mul(start, view.strides[d]))
        low, high = view.lows[d], view.highs[d]
        begin: Scalar = 0
        if fact.low < 0 or not isinstance(low, int) or low:
            begin = core.max(core.min(core.sub(low, start), extent), 0)
        inside = d in op.in_bounds or (isinstance(high, int) and fact.high + extent <= high) or (
            fact.high + extent <= facts.extent(op.view, d).low)
        end: Scalar = extent if inside else core.max(core.min(core.sub(high, start), extent), begin)
        begins.append(begin)
        counts.append(core.sub(end, begin))
    whole = all(isinstance(b, int) and b == 0 for b in begins) and tuple(counts) == (shape or (1,) * len(counts))
    return Window(view, offset, tuple(begins), tuple(counts), whole)


def lower_scalar_load(side: Vector | Cube, op: Load) -> None:
    """An element by the scalar unit."""
    core, place = side.core, window(side, op, ())
    dtype = op.result.tile.dtype
    if dtype not in TYPES:
        side.refuse(op, f"scalars of {dtype} are not loaded by {side.target}")
    inside: Value | None = None
    for begin, count in zip(place.begins, place.counts, strict=True):
        if not (isinstance(count, int) and count == 1 and isinstance(begin, int) and begin == 0):
            condition = core.compare("gt", count, begin)
            inside = condition if inside is None else core.emit(Binary("and", inside, condition))
    if op.mask is not None:
        side.refuse(op, "loads of a scalar under a mask are not lowered", "use `if`")
    offset = place.offset if inside is None else core.choose(inside, place.offset, 0)
    found = core.emit(PtrLoad(core.at(place.view.pointer, offset)))
    if inside is not None:
        other = other_of(side, op)
        found = core.emit(Select(inside, found, other if isinstance(other, Value) else core.value(other, dtype)))
    side.scalars[op.result] = found


def other_of(side: Vector | Cube, op: Load) -> Value | float:
    """What is read beyond the array."""
    if op.other is None:
        return 0.0
    number = constant(op.other)
    return side.scalar(op.other) if number is None else number
