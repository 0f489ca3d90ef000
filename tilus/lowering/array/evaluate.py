"""Computes tiles of array-level values inside one kernel."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from tilus.ir import functions
from tilus.ir.builder import Builder
from tilus.ir.codebooks import reads_as_zero, zero_code
from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import DType, f32, f64, i32, i64
from tilus.ir.families import Movement
from tilus.ir.ops import (
    Atomic,
    Binary,
    Bitcast,
    Broadcast,
    Cast,
    Compare,
    Const,
    Dim,
    Dot,
    For,
    Gather,
    Iota,
    Load,
    PermuteView,
    Reduce,
    Reshape,
    Scan,
    Select,
    Store,
    Subview,
    Transpose,
    Unary,
    Yield,
)
from tilus.ir.ops.array import AffineAccess, Attend, Contract, Deposit, Lookup, PartialReduce, RoundTo
from tilus.ir.ops.array import Extent as ExtentOp
from tilus.ir.terms import AtomicKind
from tilus.ir.types import Extent, TileType, extents_of
from tilus.lowering.array.access import UNIT, Axes, Axis, Places, operand_axes, source_axes, tile_shape
from tilus.lowering.array.attend import attend
from tilus.lowering.array.reductions import COMBINE, reduce
from tilus.lowering.array.tiles import Tiling, bound_of
from tilus.lowering.array.types import held, identity, wide

LONGEST_AT_ONCE = 256
"""Up to this a product within another one sums at once."""
LEAST_OF_DOT = 16
"""What extents tiles of products have at least."""
Key = tuple[Value, Axes]


def tile_counts(extents: Sequence[Extent], sizes: Sequence[int], value: Callable[[Extent], Value],
                b: Builder) -> list[Value]:
    """How many tiles of these sizes each dimension has."""
    counts = []
    for extent, size in zip(extents, sizes, strict=True):
        count = value(extent)
        if size > 1:
            count = b.binary("floordiv", b.binary("add", count, b.const(size - 1)), b.const(size))
        counts.append(count)
    return counts


class Evaluator:
    """Emits into a kernel's body.

    Attributes:
        stored: the views of values in memory: parameters, workspaces, outputs that are read again.
        carried: of scans along which the kernel walks, what they have come to.
        bounds: what symbols do not exceed.
        resident: extents all of which fit into a tile, in the branch being emitted.
        whole_axes: of extents that products within products sum over at once.
        online: the axes of the loops over keys around what is being emitted.
        reduces: the reductions that the kernel computes.
        points, repeated: single indices within windows that are not walked by loops, and how often what is being
            emitted is, for those.
    """

    def __init__(self, block: Block, tiling: Tiling, stored: dict[Value, Value], extents: dict[str, Value],
                 scalars: dict[Value, Value], bounds: Mapping[str, int] | None = None) -> None:
        self.b = Builder(block)
        self.tiling = tiling
        self.stored = stored
        self.extents = extents
        self.scalars = scalars
        self.bounds = bounds or {}
        self.resident: dict[tuple[Extent, int], Axis] = {}
        self.whole_axes: dict[Extent, Axis] = {}
        self.online: set[Axis] = set()
        self.reduces: list[Reduce] = []
        self.points: list[dict[tuple[Extent, int], Axis]] = [{}]
        self.repeated = 1
        self.places = Places(stored)
        self.carried: dict[Scan, Value] = {}
        self.memo: list[dict[Key, Value]] = [{}]
        self.sources: list[dict[tuple[AffineAccess, Axes], Axes]] = [{}]

    # -- scopes

    @contextmanager
    def into(self, block: Block) -> Iterator[None]:
        """Emit into ``block``; what is computed there is not known after."""
        outer, self.b = self.b, self.b.at(block)
        self.memo.append({})
        self.sources.append({})
        self.points.append({})
        yield
        self.points.pop()
        self.memo.pop()
        self.sources.pop()
        self.b = outer

    def extent(self, extent: Extent) -> Value:
        return self.extents[extent] if isinstance(extent, str) else self.b.const(extent)

    def size_at(self, place: int) -> int:
        """The tile size of a dimension ``place`` steps before the last; 0 for one index at a time."""
        return (self.tiling.BN, self.tiling.BM)[place] if place < 2 else 0

    def loop(self, extent: Extent, size: int, init: Sequence[Value], body: Callable[[Axis, list[Value]], list[Value]],
             schedule: Tiling | None = None, end: Value | None = None) -> tuple[Value, ...]:
        """A loop over the tiles of a dimension, up to ``end`` if that comes first, with carried values; ``schedule``
        has what loops of dots have."""
        block = Block([TileType(i64), *(v.type for v in init)])
        with self.into(block):
            results = body(Axis(extent, size, block.args[0]), block.args[1:])
            self.b.add(Yield(tuple(results)))
        start, step = self.b.const(0), self.b.const(max(1, size))
        fields = (schedule.stages, schedule.unroll) if schedule is not None else ()
        prefetch = None if schedule is None else schedule.prefetch
        stop = self.extent(extent) if end is None else self.b.binary("min", end, self.extent(extent))
        loop = For(start, stop, step, tuple(init), block, *fields, prefetch=prefetch)
        return self.b.add(loop).results

    # -- values

    def wide(self, value: Value, axes: Axes) -> Value:
        """The tile in the type it is computed in."""
        return self.cast(self.tile(value, axes), wide(value.tile.dtype))

    def cast(self, tile: Value, dtype: DType) -> Value:
        return tile if tile.tile.dtype is dtype else self.b.add(Cast(tile, dtype)).result

    def tile(self, value: Value, axes: Axes) -> Value:
        """The tile of a value at coordinates, of the type :func:`held`. What it is computed from comes first, however
        long the chain is: each step finds its operands there."""
        waiting = [(value, axes)]
        while True:
            current, at = waiting[-1]
            found = self.known(current, at)
            if found is None:
                missing = [below for below in self.below(current, at) if self.known(*below) is None]
                if missing:
                    waiting.extend(reversed(missing))
                    continue
                found = self.make(current, at)
            waiting.pop()
            if not waiting:
                return found

    def known(self, value: Value, axes: Axes) -> Value | None:
        if value in self.scalars:
            return self.scalars[value]
        key = (value, axes)
        return next((known[key] for known in reversed(self.memo) if key in known), None)

    def below(self, value: Value, axes: Axes) -> list[Key]:
        """The tiles that a step reads at once; reductions and contractions see to their own."""
        op = value.defining
        if value in self.stored or op is None:
            return []
        if isinstance(op, (Reduce, PartialReduce, Contract, Attend, Const, ExtentOp, Iota)):
            return []
        if isinstance(op, Transpose) and op.x in self.stored:
            return []
        return operand_axes(op, axes, self.source)

    def make(self, value: Value, axes: Axes) -> Value:
        span = self.b.span
        op = value.defining
        if op is not None and op.span.known:
            self.b.span = op.span
        result = self.load(value, self.stored[value], axes) if value in self.stored else self.compute(value, axes)
        self.b.span = span
        self.memo[-1][value, axes] = result
        return result

    def compute(self, value: Value, axes: Axes) -> Value:
        op = value.defining
        assert op is not None
        if isinstance(op, Reduce):
            return reduce(self, op, axes)
        if isinstance(op, Contract):
            return self.contract(op, axes)
        if isinstance(op, Attend):
            return attend(self, op, axes)
        if isinstance(op, PartialReduce):
            return self.partial_reduce(op, axes)
        if isinstance(op, Movement):
            return self.move(op, axes)
        if isinstance(op, Const):
            return self.b.const(op.value, wide(op.dtype), tile_shape(axes))
        if isinstance(op, ExtentOp):
            return self.extents[op.symbol]
        if isinstance(op, Iota):
            return self.iota(op, axes)
        if isinstance(op, Lookup):
            return self.lookup(op, axes)
        if isinstance(op, Scan):
            return self.scan(op, axes)
        operands = [self.wide(v, at) for v, at in operand_axes(op, axes, self.source)]
        if len(op.results) > 1:
            results = self.b.add(op.on(operands)).results
            self.memo[-1].update(zip([(r, axes) for r in op.results], results, strict=True))
            return results[value.index]
        return self.elementwise(op, operands)

    def elementwise(self, op: Operation, operands: list[Value]) -> Value:
        if isinstance(op, RoundTo):
            rounded = operands[0].tile.dtype is not op.dtype
            return self.b.add(Cast(operands[0], op.dtype, op.rounding)).result if rounded else operands[0]
        if isinstance(op, Cast):
            source, target = wide(op.x.tile.dtype), wide(op.dtype)
            return operands[0] if source is target else self.b.add(Cast(operands[0], target, op.rounding)).result
        if isinstance(op, Bitcast):
            bits = self.b.add(Bitcast(self.cast(operands[0], op.x.tile.dtype), op.dtype)).result
            return self.cast(bits, wide(op.dtype))
        return self.b.add(op.on(operands)).result

    def iota(self, op: Iota, axes: Axes) -> Value:
        shape = tile_shape(axes)
        index = self.indices(axes, op.axis, shape)
        return self.spread(self.cast(index, op.dtype), shape)

    def spread(self, value: Value, shape: tuple[int, ...]) -> Value:
        return self.b.add(Broadcast(value, shape)).result if value.tile.shape != shape else value

    def offset(self, axis: Axis) -> Value:
        return self.b.const(0) if axis.offset is None else axis.offset

    def move(self, op: Operation, axes: Axes) -> Value:
        ((source, at),) = operand_axes(op, axes, self.source)
        shape = tile_shape(axes)
        if isinstance(op, AffineAccess):
            return self.access(op, axes, at)
        if isinstance(op, Transpose):
            if source in self.stored:
                view = self.b.add(PermuteView(self.stored[source], op.permutation)).result
                return self.load(source, view, axes)
            kept = [d for d, axis in enumerate(at) if not axis.is_point]
            order = tuple(kept.index(p) for p in op.permutation if p in kept)
            tile = self.tile(source, at)
            return tile if order == tuple(range(len(order))) else self.b.add(Transpose(tile, order)).result
        tile = self.tile(source, at)
        if isinstance(op, Reshape) and tile.tile.shape:
            # The tile of a kernel may be larger than a dimension of extent 1; what is beyond it is never written.
            bare = tuple(1 if n == 1 else axis.size for n, axis in zip(op.shape, axes, strict=True)
                         if not axis.is_point)
            tile = tile if tile.tile.shape == bare else self.b.add(Reshape(tile, bare)).result
        return self.spread(tile, shape)

    # -- accesses

    def source(self, op: AffineAccess, axes: Axes) -> Axes:
        """Where an access needs its operand; the same axes wherever it is asked for that."""
        key = op, axes
        found = next((known[key] for known in reversed(self.sources) if key in known), None)
        if found is None:
            found = self.sources[-1][key] = source_axes(op, axes, self.first)
        return found

    def first(self, start: Extent, along: list[tuple[Axis, int]]) -> Value:
        found = [] if start == 0 else [self.extent(start)]
        for axis, factor in along:
            if axis.offset is not None:
                found.append(axis.offset if factor == 1 else self.b.binary("mul", axis.offset, self.b.const(factor)))
        return functools.reduce(lambda x, y: self.b.binary("add", x, y), found) if found else self.b.const(0)

    def access(self, op: AffineAccess, axes: Axes, at: Axes) -> Value:
        """The tile at ``axes``, of an operand whose tile is at ``at``."""
        tile = self.tile(op.x, at)
        if op.fill is not None and not self.loads_fill(op):
            inside = self.inside(op, at)
            if inside is not None:
                fill = self.b.const(op.fill, tile.tile.dtype, tile.tile.shape)
                tile = self.b.add(Select(self.spread(inside, tile.tile.shape), tile, fill)).result
        along = [next(axis for axis, _ in terms if axes[axis].size > 1)
                 for terms, axis in zip(op.terms, at, strict=True) if not axis.is_point]
        order = tuple(along.index(axis) for axis in sorted(along))
        if order != tuple(range(len(order))):
            tile = self.b.add(Transpose(tile, order)).result
        shape = tile_shape(axes)
        return tile if tile.tile.shape == shape else self.b.add(Reshape(tile, shape)).result

    def loads_fill(self, op: AffineAccess) -> bool:
        """Whether loads give what is outside of the operand anyway."""
        assert op.fill is not None
        positive = not isinstance(op.fill, float) or math.copysign(1.0, op.fill) > 0
        return op.x in self.stored and op.fill == 0 and positive and reads_as_zero(op.x.tile.dtype)

    def inside(self, op: AffineAccess, at: Axes) -> Value | None:
        """Which elements are those of the operand; None where all are."""
        shape, found = tile_shape(at), None
        for d, axis in enumerate(at):
            if op.whole(d) is not None:
                continue
            index = self.indices(at, d, shape)
            end = self.spread(self.extent(axis.extent), index.tile.shape)
            low = self.b.add(Compare("ge", index, self.b.const(0, i64, index.tile.shape))).result
            here = self.b.binary("and", low, self.b.add(Compare("lt", index, end)).result)
            found = here if found is None else self.b.binary("and", self.spread(found, shape), self.spread(here, shape))
        return found

    def indices(self, axes: Axes, dim: int, shape: tuple[int, ...]) -> Value:
        """The indices along one of the axes: of a tile's those of all its elements, of a single one a scalar."""
        axis, offset = axes[dim], self.offset(axes[dim])
        if axis.is_point:
            return offset
        index = self.b.add(Iota(shape, len(tile_shape(axes[:dim])), i64)).result
        if axis.step != 1:
            index = self.b.binary("mul", index, self.b.const(axis.step, i64, shape))
        return self.b.binary("add", index, self.spread(offset, shape))

    def lookup(self, op: Lookup, axes: Axes) -> Value:
        indices = tuple(self.tile(index, axes) for index in op.indices)
        return self.b.add(Gather(self.stored[op.x], indices, None, self.absent(op.x.tile.dtype))).result

    # -- memory

    def absent(self, dtype: DType) -> Value | None:
        """What is given for elements that are not there, unless bits of 0 say the number 0."""
        return self.b.add(Const(0.0, dtype)).result if zero_code(dtype) else None

    def load(self, value: Value, view: Value, axes: Axes) -> Value:
        view, kept = self.window(view, axes)
        absent = self.absent(value.tile.dtype)
        if any(axis.step != 1 for axis in kept):
            shape = tile_shape(kept)
            indices = tuple(self.indices(kept, d, shape) for d in range(len(kept)))
            return self.b.add(Gather(view, indices, None, absent)).result
        offsets = tuple(self.offset(a) for a in kept)
        return self.b.add(Load(view, offsets, tile_shape(kept), None, absent)).result

    def store(self, view: Value, axes: Axes, tile: Value) -> None:
        view, kept = self.window(view, axes)
        self.b.add(Store(view, tuple(self.offset(a) for a in kept), self.cast(tile, view.view.dtype)))

    def deposit(self, op: Deposit, view: Value, axes: Axes) -> None:
        """Put or add a tile of updates to the elements of a view that their indices name."""
        shape = tile_shape(axes)
        updates = self.cast(self.spread(self.tile(op.updates, axes), shape), view.view.dtype)
        indices = tuple(self.spread(self.tile(index, axes), shape) for index in op.indices)
        kind: AtomicKind = "add" if op.kind == "add" else "exchange"  # in any order, which plain writes may not be
        self.b.add(Atomic(kind, view, indices, updates, None, self.existing(axes)))

    def existing(self, axes: Axes) -> Value | None:
        """Which elements of a tile are those of an array; None where all are."""
        shape, found = tile_shape(axes), None
        for d, axis in enumerate(axes):
            if axis.is_point or (isinstance(axis.extent, int) and axis.extent % axis.size == 0):
                continue
            end = self.spread(self.extent(axis.extent), shape)
            here = self.b.add(Compare("lt", self.indices(axes, d, shape), end)).result
            found = here if found is None else self.b.binary("and", found, here)
        return found

    def window(self, view: Value, axes: Axes) -> tuple[Value, Axes]:
        """The view without the dimensions of which one index is taken, unless it is a single element."""
        dropped = tuple(d for d, axis in enumerate(axes) if axis.is_point)
        kept = tuple(axis for axis in axes if not axis.is_point)
        if not dropped or not kept:
            return view, axes
        type_ = view.view
        starts = tuple(self.offset(axis) if axis.is_point else self.b.const(0) for axis in axes)
        extents = tuple(self.b.const(1) if axis.is_point else self.extent_of(view, d) for d, axis in enumerate(axes))
        shape = tuple(n for d, n in enumerate(type_.shape) if d not in dropped)
        return self.b.add(Subview(view, starts, extents, shape, dropped)).result, kept

    def extent_of(self, view: Value, axis: int) -> Value:
        known = view.view.shape[axis]
        return self.b.add(Dim(view, axis)).result if known is None else self.b.const(known)

    # -- reductions

    def partial_reduce(self, op: PartialReduce, axes: Axes) -> Value:
        """One part: every ``parts``-th tile is added to a tile of numbers, which is reduced in the end."""
        (part,) = axes
        extents, dtype = extents_of(op.x.tile), wide(op.x.tile.dtype)
        sizes, neutral = self.part_sizes(op), identity(op.kind, dtype)
        counts = tile_counts(extents, sizes, self.extent, self.b)
        total = counts[0]
        for count in counts[1:]:
            total = self.b.binary("mul", total, count)
        shape = tuple(size for size in sizes if size)
        start = self.b.const(neutral, dtype, shape)
        block = Block([TileType(i64), start.type])
        with self.into(block):
            rest, places = block.args[0], [UNIT] * len(extents)
            for d in reversed(range(len(extents))):
                index = self.b.binary("mod", rest, counts[d]) if d else rest
                rest = self.b.binary("floordiv", rest, counts[d]) if d else rest
                offset = self.b.binary("mul", index, self.b.const(sizes[d])) if sizes[d] > 1 else index
                places[d] = Axis(extents[d], sizes[d], offset)
            at = tuple(places)
            tile = self.wide(op.x, at)
            for axis in at:
                tile = tile if axis.is_point else self.neutral_beyond(op, tile, at, axis)
            self.b.add(Yield((self.b.binary(COMBINE[op.kind], block.args[1], tile),)))
        loop = For(self.offset(part), total, self.extents[op.parts], (start,), block)
        (result,) = self.b.add(loop).results
        for place in reversed(range(len(shape))):
            result = self.b.add(Reduce(op.kind, result, place)).result
        return result

    def part_sizes(self, op: PartialReduce) -> list[int]:
        """The tiles that the elements are reduced in: the size along each dimension, 0 for one index at a time."""
        return [0 if n == 1 else self.size_at(place)
                for n, place in zip(extents_of(op.x.tile), self.places(op.x), strict=True)]

    def scan(self, op: Scan, axes: Axes) -> Value:
        """The scan over one tile, on from what :attr:`carried` has of those before; and what it has then."""
        axis = axes[op.axis]
        tile, place = self.wide(op.x, axes), len(tile_shape(axes[: op.axis]))
        combine = COMBINE[op.kind]
        if axis.is_point:
            found = total = tile
        else:
            tile = self.neutral_beyond(op, tile, axes, axis)
            found = self.b.add(Scan(op.kind, tile, place, op.reverse)).result
            total = self.b.add(Reduce(op.kind, tile, place)).result
        before = self.carried.get(op)
        if before is None:
            return found
        self.carried[op] = self.b.binary(combine, before, total)
        if not axis.is_point:
            shape = found.tile.shape
            before = self.b.add(Reshape(before, (*shape[:place], 1, *shape[place + 1 :]))).result
            before = self.spread(before, shape)
        return self.b.binary(combine, before, found)

    def prepare(self, value: Value, axes: Axes, varying: Axis) -> None:
        """Compute now the reductions that ``value`` needs and that do not depend on ``varying``, the axis of a loop
        that is about to begin."""
        waiting, seen = [(value, axes)], set[Key]()
        while waiting:
            current, at = waiting.pop()
            op = current.defining
            if (current, at) in seen or current in self.stored or current in self.scalars or op is None:
                continue
            seen.add((current, at))
            if not isinstance(op, (Reduce, Contract, Attend)):
                waiting.extend(reversed(operand_axes(op, at, self.source)))
            elif varying not in at:
                self.tile(current, at)

    # -- contractions

    def contract(self, op: Contract, axes: Axes) -> Value:
        *batch, row, column = axes
        *outer, _, extent = extents_of(op.a.tile)[op.batch :]
        kinds = [held(v, self.stored) for v in op.operands]
        nominal = [v.tile.dtype for v in op.operands]
        exact = all(k.bits <= 16 and k is n for k, n in zip(kinds, nominal, strict=True))
        accumulator = f64 if nominal[0] is f64 else i32 if nominal[0].is_int else f32
        take = self.tile if exact else self.wide
        start = self.b.const(0.0 if accumulator.is_float else 0, accumulator, tile_shape(axes))

        def body(summed: Axes, k: Axis, total: Value) -> Value:
            tiles = []
            for value, at in ((op.a, (*batch, *summed, row, k)), (op.b, (*batch, *summed, k, column))):
                tile = take(value, at)
                if not self.fades(value, at, k):
                    tile = self.bounded(tile, at, k, 0.0 if tile.tile.dtype.is_float else 0)
                tiles.append(tile)
            return self.b.add(Dot(*tiles, total, op.precision)).result

        def total(summed: Axes, before: Value) -> Value:
            if len(summed) < len(outer):
                return self.loop(outer[len(summed)], 0, [before], lambda axis, carried: [
                    total((*summed, axis), carried[0])])[0]
            whole = self.whole(extent) if any(axis in self.online for axis in (row, column)) else None
            if whole is not None:
                return body(summed, whole, before)
            return self.loop(extent, self.tiling.BK, [before], lambda k, carried: [
                body(summed, k, carried[0])], self.tiling)[0]

        return total((), start)

    def whole(self, extent: Extent) -> Axis | None:
        """An extent that is known to be short as one tile."""
        bound = bound_of(extent) if isinstance(extent, int) else self.bounds.get(extent)
        if bound is None or bound > LONGEST_AT_ONCE:
            return None
        return self.whole_axes.setdefault(extent, Axis(extent, max(bound, LEAST_OF_DOT)))

    def fades(self, value: Value, axes: Axes, k: Axis) -> bool:
        """Whether a tile is 0 beyond the array along ``k``: it is loaded so, and what is done to it keeps zeros."""
        front = [(value, axes, k)]
        seen: set[tuple[Value, Axes, Axis]] = set()
        while front:
            if (here := front.pop()) in seen:
                continue
            seen.add(here)
            value, axes, k = here
            op = value.defining
            if k not in axes or value in self.scalars or not reads_as_zero(value.tile.dtype):
                return False
            if value in self.stored:
                continue
            if isinstance(op, Lookup):
                if axes.index(k) not in op.ends:
                    return False
                continue
            if isinstance(op, AffineAccess):
                place = axes.index(k)
                along = next((d for d in range(op.x.tile.rank) if op.whole(d) == place), None)
                if along is None or op.fill not in (None, 0):
                    return False
                at = self.source(op, axes)
                front.append((op.x, at, at[along]))
                continue
            if isinstance(op, (Movement, Cast, RoundTo)) or (isinstance(op, Unary) and op.kind in _KEEPS_ZERO):
                front += [(v, at, k) for v, at in operand_axes(op, axes, self.source)]
            elif isinstance(op, Binary) and op.kind in ("add", "sub", "mul", "min", "max"):
                operands = operand_axes(op, axes, self.source)
                if op.kind == "mul":
                    operands = [(v, at) for v, at in operands if not _is_number(v)]
                front += [(v, at, k) for v, at in operands]
            else:
                return False
        return True

    def neutral_beyond(self, op: Reduce | Scan | PartialReduce, tile: Value, axes: Axes, axis: Axis) -> Value:
        """A tile of what is reduced or scanned, in which what lies beyond the array along an axis counts as nothing."""
        if op.kind in ZERO_IS_NEUTRAL and self.fades(op.x, axes, axis):
            return tile
        return self.bounded(tile, axes, axis, identity(op.kind, tile.tile.dtype))

    def bounded(self, tile: Value, axes: Axes, axis: Axis, neutral: bool | int | float) -> Value:
        """The tile with ``neutral`` for what lies beyond the array along one of its axes."""
        if isinstance(axis.extent, int) and axis.extent % axis.size == 0:
            return tile
        place, shape = len(tile_shape(axes[: axes.index(axis)])), tile_shape(axes)
        left = self.extent(axis.extent)
        if axis.offset is not None:
            left = self.b.binary("sub", left, axis.offset)
        index = self.b.add(Iota((axis.size,), 0, i64)).result
        inside = self.b.add(Compare("lt", index, self.spread(left, (axis.size,)))).result
        aligned = tuple(axis.size if d == place else 1 for d in range(len(shape)))
        if aligned != (axis.size,):
            inside = self.b.add(Reshape(inside, aligned)).result
        beyond = self.b.const(neutral, tile.tile.dtype, shape)
        return self.b.add(Select(self.spread(inside, shape), tile, beyond)).result


ZERO_IS_NEUTRAL = ("sum", "any", "xor")
_KEEPS_ZERO = frozenset({"neg", "abs", *(kind for kind, what in functions.UNARY.items() if what.keeps_zero)})


def _is_number(value: Value) -> bool:
    """Whether it is a finite number that is known, spread over any shape."""
    while isinstance(value.defining, Movement):
        value = value.defining.operands[0]
    return isinstance(value.defining, Const) and math.isfinite(value.defining.value)


__all__ = ["Evaluator", "tile_counts"]
