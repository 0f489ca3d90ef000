"""What is known at compile time of a view's strides and alignment, and how wide accesses through it may be."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType, bf16, f16, f32
from tilus.ir.ops import (
    Atomic,
    CollapseView,
    CopyAsync,
    Dot,
    Gather,
    GatherAsync,
    Load,
    PermuteView,
    Scatter,
    Subview,
    TileBytes,
    Transpose,
)
from tilus.ir.ops.memory import split_dims
from tilus.ir.types import TileType
from tilus.layouts import RegisterLayout, blocked
from tilus.lowering.facts import Fact, Facts
from tilus.lowering.simt.bits import is_narrow, unit
from tilus.lowering.simt.runs import Affine, affine, mask_run
from tilus.records import record
from tilus.targets import Feature, Target

VECTOR_BITS = 128


@record(frozen=True, slots=True)
class ViewFacts:
    """Facts of a global view: per dimension of extents and strides (in elements); the start of the view is
    ``alignment`` bits aligned."""

    extents: tuple[Fact, ...]
    strides: tuple[Fact, ...]
    alignment: int


def view_facts(facts: Facts, view: Value) -> ViewFacts:
    """The facts of a view of global memory."""
    parameter = facts.parameters.get(view)
    width = 8 if view.view.dtype.is_bool else view.view.dtype.bits
    if parameter is not None:
        dims = range(view.view.rank)
        return ViewFacts(tuple(facts.extent(view, d) for d in dims), tuple(facts.stride(view, d) for d in dims),
                         VECTOR_BITS if parameter.aligned else 8 if width % 8 else width)
    op = view.defining
    if isinstance(op, PermuteView):
        inner = view_facts(facts, op.view)
        return ViewFacts(tuple(inner.extents[p] for p in op.permutation),
                         tuple(inner.strides[p] for p in op.permutation), inner.alignment)
    if isinstance(op, CollapseView):
        inner, last = view_facts(facts, op.view), [part[-1] for part in split_dims(range(op.view.view.rank), op.groups)]
        return ViewFacts(tuple(facts.extent(view, d) for d in range(view.view.rank)),
                         tuple(inner.strides[d] for d in last), inner.alignment)
    if isinstance(op, TileBytes):
        dims = range(view.view.rank)
        return ViewFacts(tuple(facts.extent(view, d) for d in dims), tuple(facts.stride(view, d) for d in dims),
                         VECTOR_BITS if facts.parameters[op.view].aligned else 8)
    if isinstance(op, Subview):
        inner = view_facts(facts, op.view)
        alignment = inner.alignment
        for start, stride in zip(op.starts, inner.strides, strict=True):
            moved = facts.of(start).divisor * stride.divisor * width
            if moved:
                alignment = math.gcd(alignment, moved)
        kept = [d for d in range(op.view.view.rank) if d not in op.dropped]
        clipped = []
        for d in kept:
            given, whole, first = facts.of(op.extents[d]), inner.extents[d], facts.of(op.starts[d])
            # The window is clipped to what it is a view of.
            divisor = math.gcd(given.divisor, math.gcd(whole.divisor, first.divisor))
            clipped.append(Fact(0, max(0, min(given.high, whole.high)), divisor))
        return ViewFacts(tuple(clipped), tuple(inner.strides[d] for d in kept), alignment)
    rank = view.view.rank
    wide = Fact(-(1 << 62), 1 << 62, 1)
    return ViewFacts((Fact(0, 1 << 62, 1),) * rank, (wide,) * rank, 8 if width % 8 else width)


def contiguous_order(facts: Facts, view: Value, rank: int) -> tuple[int, ...]:
    """Dimensions from the fastest in memory to the slowest, as far as strides are known."""
    if not rank:
        return ()
    if view.view.space == "shared":
        return _shared_order(view)
    strides = view_facts(facts, view).strides

    def key(d: int) -> tuple[int, int]:
        fact = strides[d]
        if fact.is_constant:
            return (0 if fact.low == 1 else (2 if fact.low else 3), abs(fact.low))
        return (1, -d)

    return tuple(sorted(range(rank), key=key))


def _shared_order(view: Value) -> tuple[int, ...]:
    op = view.defining
    if isinstance(op, PermuteView):
        return tuple(op.permutation.index(d) for d in _shared_order(op.view))
    if isinstance(op, Subview):
        kept = [d for d in range(op.view.view.rank) if d not in op.dropped]
        return tuple(kept.index(d) for d in _shared_order(op.view) if d in kept)
    layout = view.view.layout
    dims = reversed(range(view.view.rank))
    return tuple(dims) if layout is None else tuple(sorted(dims, key=lambda d: -layout.vector_width(d)))


def contiguous_axis(facts: Facts, tile: Value, initial: Mapping[Value, Value]) -> int:
    """The dimension of a tile along which neighbours lie side by side in the memory that it comes from, element by
    element but for transpositions; the last one where it comes from none. ``initial`` are the first values of what
    loops carry."""
    front, seen = [(tile, tuple(range(tile.tile.rank)))], {tile}
    while front:
        value, dims = front.pop()  # dims: which dimension of the tile each of the value's is
        maker, shape = value.defining, value.tile.shape
        if isinstance(maker, Load):
            return dims[contiguous_order(facts, maker.view, len(dims))[0]]
        operands = [] if maker is None or isinstance(maker, Dot) else list(maker.operands)
        if value in initial:
            operands = [initial[value]]
        elif isinstance(maker, Transpose):
            dims = tuple(dims[maker.permutation.index(d)] for d in range(len(dims)))
            shape = maker.x.tile.shape
        for operand in reversed(operands):
            if isinstance(operand.type, TileType) and operand.tile.shape == shape and operand not in seen:
                seen.add(operand)
                front.append((operand, dims))
    return tile.tile.rank - 1


def vector_width(facts: Facts, op: Operation, dim: int, tile: TileType, partial: bool = False) -> int:
    """How many elements along ``dim`` one access of a load, store or asynchronous copy may move: a power of two, so
    that every access is aligned and none straddles the end of the tile, nor of the view, unless an access may be
    ``partial``, moving what is there."""
    view, dtype = (op.source if isinstance(op, CopyAsync) else op.view), tile.dtype  # type: ignore[attr-defined]
    if dtype.is_bool:
        return 1
    width = dtype.bits & -dtype.bits  # what divides every group of a power of two of elements
    known = view_facts(facts, view)
    stride = known.strides[dim]
    if not (stride.is_constant and stride.low == 1):
        return 1
    offset = facts.of(op.offsets[dim])  # type: ignore[attr-defined]
    limits = [tile.shape[dim], known.alignment // width, offset.divisor]
    limits += [s.divisor for d, s in enumerate(known.strides) if d != dim]
    if dim not in getattr(op, "in_bounds", ()) and not partial:
        limits.append(known.extents[dim].divisor)
    return _width(facts, width, limits, getattr(op, "mask", None), dim)


def may_be_partial(target: Target, dtype: DType) -> bool:
    """Whether asynchronous copies take how many bytes of a vector there are."""
    return target.has(Feature.CP_ASYNC) and not is_narrow(dtype) and not dtype.is_bool


def copied_layout(facts: Facts, op: CopyAsync, threads: int, target: Target) -> tuple[RegisterLayout, int]:
    """The layout in which so many threads copy a tile, and the elements of one move."""
    shape, dtype = tuple(int(d or 1) for d in op.destination.view.shape), op.destination.view.dtype
    order = contiguous_order(facts, op.source, len(shape))
    width = vector_width(facts, op, order[0], TileType(dtype, shape), may_be_partial(target, dtype))
    if is_narrow(dtype):  # what shares a byte belongs to one thread
        width = max(width, unit(dtype.bits)[0])
    return blocked(shape, threads, width, order), width


def _width(facts: Facts, bits: int, limits: list[int], mask: Value | None, dim: int) -> int:
    """The widest power of two of elements that divides all limits and is no longer than the runs of the mask; 1 where
    those, ``bits`` wide each, do not fill a byte."""
    width = VECTOR_BITS // bits
    if mask is not None:
        limits = [*limits, mask_run(facts, mask, dim)]
    for limit in limits:
        if limit:
            width = math.gcd(width, limit)
    return max(1, width) if width * bits >= 8 else 1


def added_at_once(op: Atomic, target: Target) -> int:
    """How many neighbouring elements an atomic may add to that gives no old values: all targets have pairs of f16."""
    vectors, dtype = target.has(Feature.ATOM_VECTOR), op.result.tile.dtype
    if op.kind != "add" or dtype not in ((f32, f16, bf16) if vectors else (f16,)):
        return 1
    return VECTOR_BITS // dtype.bits if vectors else 2


def gathered_vector(facts: Facts, op: Atomic | Gather | Scatter | GatherAsync) -> tuple[int, int]:
    """The dimension of the index tiles along which memory goes side by side, and how many elements along it one access
    may move; the last dimension and 1 where there is none."""
    shape, dtype = op.indices[0].tile.shape if op.indices else (), op.view.view.dtype
    found = along_memory(facts, op)
    if found is None:
        return len(shape) - 1, 1
    dim, axis, start = found
    known, bits = view_facts(facts, op.view), dtype.bits & -dtype.bits
    limits = [shape[dim], start.run, known.alignment // bits, start.divisor, known.extents[axis].divisor]
    limits += [s.divisor for a, s in enumerate(known.strides) if a != axis]
    return dim, _width(facts, bits, limits, op.mask, dim)


def along_memory(facts: Facts, op: Atomic | Gather | Scatter | GatherAsync) -> tuple[int, int, Affine] | None:
    """A dimension of the index tiles along which the index of the axis with stride 1 grows by one within runs, in which
    the others do not vary, that axis, and how its index goes; None where there is no such dimension."""
    view, shape = op.view, op.indices[0].tile.shape if op.indices else ()
    if view.view.dtype.bits < 8 or view.view.space != "global":
        return None
    strides = view_facts(facts, view).strides
    for dim in reversed(range(len(shape))):
        along = [a for a in (affine(facts, index, dim) for index in op.indices) if a is not None]
        axes = [axis for axis, a in enumerate(along) if a.step == 1]
        if len(along) != len(op.indices) or len(axes) != 1 or sum(a.step == 0 for a in along) != len(along) - 1:
            continue
        (axis,) = axes
        if strides[axis].is_constant and strides[axis].low == 1:
            return dim, axis, along[axis].within(min(a.run for a in along))
    return None
