"""Views of memory: windows as pointers with bounds, and what accesses through them have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tilus.ir.core import Value
from tilus.ir.dtypes import bool_, i32, i64, u32, u64
from tilus.ir.families import DerivedView
from tilus.ir.ops import Binary, Cast, Compare, PermuteView, Select, Subview
from tilus.layouts import RegisterLayout, blocked
from tilus.lowering.facts import Fact, Facts, constant_fact
from tilus.lowering.simt.access import view_facts
from tilus.lowering.simt.context import GlobalView, SharedView, Thread


def lower_subview(thread: Thread, op: Subview) -> None:
    view = thread.views[op.view]
    thread.views[op.result] = (
        _global_subview(thread, op, view) if isinstance(view, GlobalView) else _shared_subview(thread, op, view)
    )


def _global_subview(thread: Thread, op: Subview, view: GlobalView) -> GlobalView:
    pointer = view.pointer
    small = is_small(thread, op.view)
    extents: list[Value | int] = []
    strides: list[Value | int] = []
    lows: list[Value | None] = []
    inside: Value | None = None
    facts = view_facts(thread.facts, op.view)
    for d, (start, extent) in enumerate(zip(op.starts, op.extents, strict=True)):
        first = thread.facts.of(start)
        low_known = first.low >= 0
        pointer = advance(thread, pointer, thread.value(start), view.strides[d], small)
        if d in op.dropped:
            bounds = element_predicate(thread, view, [start], [d])
            inside = thread.both(inside, bounds)
            continue
        whole = view.extents[d]
        end, beginning = _range(thread.facts, op.view, d)
        size: Value | int = thread.value(extent)
        given = thread.facts.of(extent)
        if first.is_constant and first.low == 0 and extent.defining is not None and _same_extent(op, d):
            size = whole
        elif not (first.high + given.high <= facts.extents[d].low):
            rest = _minus(thread, whole, thread.value(start), _difference(end, first))
            size = thread.emit(Binary("min", *thread.same_width(thread.value(extent), rest)))
        extents.append(size)
        strides.append(view.strides[d])
        before = view.lows[d]
        low = None
        if before is not None or not low_known:
            low = _minus(thread, 0 if before is None else before, thread.value(start), _difference(beginning, first))
            low = thread.emit(Binary("max", low, thread.const(0, low.tile.dtype)))
        lows.append(low)
    if inside is not None and extents:  # an index outside of a dropped dimension: nothing is in bounds
        size = extents[0] if isinstance(extents[0], Value) else thread.const(extents[0])
        extents[0] = thread.emit(Select(inside, size, thread.const(0, size.tile.dtype)))
    return GlobalView(pointer, extents, strides, lows)


def _same_extent(op: Subview, d: int) -> bool:
    from tilus.ir.ops import Dim

    maker = op.extents[d].defining
    return isinstance(maker, Dim) and maker.view is op.view and maker.axis == d


def _range(facts: Facts, view: Value, d: int) -> tuple[Fact, Fact]:
    """What the end and the beginning of a view along a dimension, counted from its start, may be: they are far away, or
    the end is before the beginning, where a window lies outside of what it is a window of."""
    op = view.defining
    if isinstance(op, PermuteView):
        return _range(facts, op.view, op.permutation[d])
    if not isinstance(op, Subview):
        return facts.extent(view, d), constant_fact(0)
    axis = [a for a in range(op.view.view.rank) if a not in op.dropped][d]
    start, given = facts.of(op.starts[axis]), facts.of(op.extents[axis])
    end, beginning = (_difference(fact, start) for fact in _range(facts, op.view, axis))
    return (Fact(min(given.low, end.low), min(given.high, end.high)),
            Fact(max(0, beginning.low), max(0, beginning.high)))


def is_counted(facts: Facts, view: Value, d: int) -> bool:
    """Whether the extent of a view is certainly no less than 0: that of a window that lies outside of what it is a
    window of may be."""
    return _range(facts, view, d)[0].low >= 0


def _difference(a: Fact, b: Fact) -> Fact:
    return Fact(a.low - b.high, a.high - b.low)


def _minus(thread: Thread, x: Value | int, y: Value, result: Fact) -> Value:
    """A difference, in as many bits as its range takes."""
    y = y if result.fits(32) else thread.widen(y, i64)
    left = thread.const(x, y.tile.dtype) if isinstance(x, int) else x
    return thread.emit(Binary("sub", *thread.same_width(left, y)))


def _shared_subview(thread: Thread, op: Subview, view: SharedView) -> SharedView:
    starts, moved = moved_to(thread, view, op.starts)
    # Of a window with a run-time extent, as much as there may be.
    extents = tuple(
        whole - max(0, thread.facts.of(start).low) if given is None else given
        for given, whole, start in zip(_static_extents(op), view.shape, op.starts, strict=True)
    )
    layout = moved.layout.slice(starts, extents)
    for d in sorted(op.dropped, reverse=True):
        layout = layout.drop(d, 0)
    shape = tuple(e for d, e in enumerate(extents) if d not in op.dropped)
    return replace(moved, layout=layout, shape=shape)


def moved_to(thread: Thread, view: SharedView, offsets: Sequence[Value]) -> tuple[tuple[int, ...], SharedView]:
    """A view moved to an index: the constant starts that are left for its layout, and the view moved by the others.

    A start that moves by whole periods of the swizzle is an offset of the address. Others are seen by the swizzle.
    """
    layout, moved = view.layout, view
    swizzle = view.swizzle
    period = 1 if swizzle is None else 1 << (swizzle.base + swizzle.shift + swizzle.bits)
    starts = [0] * len(offsets)
    for d, offset in enumerate(offsets):
        fact = thread.facts.of(offset)
        if fact.is_constant:
            stride = layout.strides[d] if len(layout.modes[d]) <= 1 else 0
            if stride and fact.low * stride % period == 0:
                moved = replace(moved, constant=moved.constant + fact.low * stride)
            else:
                starts[d] = fact.low
            continue
        stride = layout.strides[d]
        by = thread.binary("mul", thread.widen(thread.value(offset), i32), stride)
        if fact.divisor * stride % period == 0:
            total = by if moved.moving is None else thread.emit(Binary("add", moved.moving, by))
            moved = replace(moved, moving=total, step=math.gcd(moved.step, fact.divisor * stride))
        else:
            total = by if moved.inner is None else thread.emit(Binary("add", moved.inner, by))
            moved = replace(moved, inner=total)
    return tuple(starts), moved


def _static_extents(op: Subview) -> list[int | None]:
    kept = iter(op.shape)
    return [1 if d in op.dropped else next(kept) for d in range(op.view.view.rank)]


def is_small(thread: Thread, view: Value) -> bool:
    """Whether offsets of in-bounds elements from the view's start fit in 32 bits."""
    op = view.defining
    while isinstance(op, DerivedView):
        view = op.view
        op = view.defining
    parameter = thread.facts.parameters.get(view)
    return parameter is not None and parameter.small


def advance(thread: Thread, pointer: Value, index: Value, stride: Value | int, small: bool) -> Value:
    """``pointer`` moved by ``index * stride`` elements; the product is taken in 32 bits where offsets fit."""
    maker = index.defining
    from tilus.ir.ops import Const

    if isinstance(maker, Const) and int(maker.value) == 0:
        return pointer
    if isinstance(maker, Const) and isinstance(stride, int):
        return thread.move(pointer, None, int(maker.value) * stride)
    if isinstance(stride, int) and stride == 1:
        return thread.move(pointer, index)
    width = i32 if small else i64
    index = thread.widen(index, width)
    if isinstance(stride, int):
        return thread.move(pointer, thread.binary("mul", index, stride))
    return thread.move(pointer, thread.emit(Binary("mul", index, thread.widen(stride, width))))


def is_written(thread: Thread, view: Value) -> bool:
    op = view.defining
    while isinstance(op, DerivedView):
        view = op.view
        op = view.defining
    parameter = thread.facts.parameters.get(view)
    return parameter is None or parameter.written


def scalar_layout(thread: Thread) -> RegisterLayout:
    return blocked((), thread.threads)


def one_thread(thread: Thread) -> Value:
    return thread.at_entry(("one", thread.first_warp), lambda: thread.compare("eq", thread.tid(), 0))


def index_predicate(thread: Thread, view: GlobalView, d: int, index: Value, fact: Fact,
                    counted: bool = False) -> Value | None:
    """Whether an index is in bounds along one dimension of a view; ``counted``: whose extent is no less than 0."""
    predicate: Value | None = None
    extent, low = view.extents[d], view.lows[d]
    if fact.high >= 1 << 63:  # of u64: as a signed number it would seem to be negative
        largest = thread.const((1 << 63) - 1, index.tile.dtype)
        index = thread.widen(thread.emit(Binary("min", index, largest)), i64)
    above = not (isinstance(extent, int) and fact.high < extent)
    if above and counted and low is None and fact.low < 0:
        return within(thread, index, extent)
    if above:
        predicate = thread.compare("lt", index, extent)
    if low is not None:
        predicate = thread.both(predicate, thread.compare("ge", index, low))
    elif fact.low < 0:
        predicate = thread.both(predicate, thread.compare("ge", index, 0))
    return predicate


def within(thread: Thread, index: Value, extent: Value | int) -> Value:
    """0 ≤ index < extent, by one comparison: as numbers without sign, negative ones are larger than any extent."""
    if isinstance(extent, int):
        extent = thread.const(extent, index.tile.dtype)
    index, extent = thread.same_width(index, extent)
    unsigned = u32 if index.tile.dtype is i32 else u64
    return thread.emit(Compare("lt", thread.emit(Cast(index, unsigned)), thread.emit(Cast(extent, unsigned))))


def element_predicate(thread: Thread, view: GlobalView, offsets: Sequence[Value], dims: Sequence[int]) -> Value | None:
    """Whether indices along ``dims``, tile-level scalars, are in bounds of a view."""
    predicate: Value | None = None
    for d, offset in zip(dims, offsets, strict=True):
        bounds = index_predicate(thread, view, d, thread.value(offset), thread.facts.of(offset))
        predicate = thread.both(predicate, bounds)
    return predicate


def shared_offset(thread: Thread, view: SharedView, parts: Sequence[Value | None], starts: Sequence[int]) -> Value:
    """The swizzled offset of the element of a view at run-time parts plus constant starts."""
    layout, total = view.layout, view.inner
    constant = layout.base
    for d, (part, start) in enumerate(zip(parts, starts, strict=True)):
        terms = layout.terms(d)
        for divisor, modulus, stride in terms:
            if part is None:
                constant += start // divisor % modulus * stride
                continue
            digit = part
            if len(terms) == 1:
                constant += start * stride
            else:
                digit = thread.binary("add", digit, start)
                digit = thread.unsigned("floordiv", digit, divisor)
                if divisor * modulus < layout.shape[d]:
                    digit = thread.unsigned("mod", digit, modulus)
            moved = thread.binary("mul", digit, stride)
            total = moved if total is None else thread.binary("add", total, moved)
    offset = thread.const(constant) if total is None else thread.binary("add", total, constant)
    swizzle = layout.swizzle if view.inner is None else view.swizzle
    if swizzle is not None:
        shifted = thread.binary("and", thread.binary("shr", offset, swizzle.shift), swizzle.mask)
        offset = thread.binary("xor", offset, shifted)
    return offset


def _below(thread: Thread, layout: RegisterLayout, d: int, part: Value, limit: int) -> Value:
    """Whether the thread's part of the index along ``d`` is below a constant."""
    key = ("pad", thread.first_warp, layout, d, limit)
    return thread.at_entry(key, lambda: thread.compare("lt", part, limit))


def tile_padding(thread: Thread, layout: RegisterLayout, shape: tuple[int, ...], local: int) -> Value | None:
    """Whether a local holds an element of the tile; None where it always does."""
    predicate: Value | None = None
    offsets = layout.local_indices[local]
    for d, extent in enumerate(shape):
        if layout.shape[d] <= extent:
            continue
        limit = extent - offsets[d]
        part = thread.thread_index(layout, d)
        if part is None:
            if limit <= 0:
                return thread.const(False, bool_)
            continue
        predicate = thread.both(predicate, _below(thread, layout, d, part, limit))
    return predicate
