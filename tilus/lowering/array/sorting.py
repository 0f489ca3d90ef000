"""Rows of integers in ascending order: runs that fit a tile by a bitonic network, longer rows by merging runs.

The steps of the network are a loop in which each element meets the one whose index differs in one bit. A merge finds
the place of an element of one run in the other by bisection; a block merges the runs of a row until there is one.
The greatest few of a row are found one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.dtypes import bool_, i32, i64
from tilus.ir.ops import Compare, For, Gather, Iota, Load, Reduce, Scatter, Select, Take, While, Yield
from tilus.ir.ops.array import Greatest, MergeRuns, Sort
from tilus.ir.rewriter import rewrite_block
from tilus.ir.types import Extent, TileType, extents_of
from tilus.lowering.array.access import Axes, Axis, tile_shape
from tilus.lowering.array.evaluate import Evaluator
from tilus.lowering.array.tiles import bound_of

RUN = 1024
"""Elements of the runs of longer rows."""
SEVERAL = 256
"""Elements of tiles of several rows, at most."""


def divide_sorts(function: Function, bounds: Mapping[str, int]) -> None:
    """Say of the sorts of an array-level function how long their runs are, and merge those of long rows, and have the
    greatest elements of long rows found among those of runs, in place."""
    mapping: dict[Value, Value] = {}

    def rewrite(op: Operation) -> list[Operation] | None:
        if isinstance(op, Greatest):
            extent = extents_of(op.x.tile)[-1]
            if bound_of(extent, RUN) if isinstance(extent, int) else bounds.get(extent):
                return None
            of_runs = Greatest(op.x, op.count, RUN, _total(function, extent, op.count), span=op.span)
            op.x = of_runs.result
            return [of_runs, op]
        if not isinstance(op, Sort):
            return None
        extent = extents_of(op.x.tile)[-1]
        bound = bound_of(extent, RUN) if isinstance(extent, int) else bounds.get(extent)
        runs = Sort(op.x, bound or RUN, span=op.span)
        made: list[Operation] = [runs] if bound else [runs, MergeRuns(runs.result, RUN, span=op.span)]
        mapping[op.result] = made[-1].result
        return made

    rewrite_block(function.body, rewrite, mapping)


def _total(function: Function, extent: Extent, count: int) -> Extent:
    """How many elements so many of each run are, as a size of the function."""
    if isinstance(extent, int):
        return -(-extent // RUN) * count
    name = f"{extent}_of_runs{count}"
    sizes = [(f"{name}_sum", "add", extent, RUN - 1), (f"{name}_runs", "floordiv", f"{name}_sum", RUN),
             (name, "mul", f"{name}_runs", count)]
    function.attributes.sizes += tuple(size for size in sizes if size not in function.attributes.sizes)
    return name


def tile_sizes(op: Sort | MergeRuns | Greatest, bounds: Mapping[str, int]) -> list[int]:
    """Of the tiles of a kernel that sorts or merges: rows and elements of a run."""
    extents = extents_of(op.x.tile)
    if isinstance(op, Greatest):
        return [0] * (len(extents) - 1) + [op.count if op.run else 0]
    sizes = [0] * (len(extents) - 1) + [op.run]
    if isinstance(op, Sort) and len(extents) > 1 and extents[-2] != 1:
        sizes[-2] = min(max(1, SEVERAL // op.run), _bound(extents[-2], bounds))
    return sizes


def _bound(extent: Extent, bounds: Mapping[str, int]) -> int:
    found = bound_of(extent, RUN) if isinstance(extent, int) else bounds.get(extent)
    return found or RUN


def sort_run(e: Evaluator, op: Sort, axes: Axes) -> Value:
    """The elements of a tile in ascending order along the last dimension; what is beyond the array goes to the end."""
    shape, last, size = tile_shape(axes), len(tile_shape(axes)) - 1, axes[-1].size
    tile = e.bounded(e.tile(op.x, axes), axes, axes[-1], i64.max_value)
    place = e.b.add(Iota(shape, last, i32)).result
    zero = e.b.const(0, i32, shape)

    def bit(number: Value) -> Value:
        return e.spread(e.cast(e.b.binary("shl", e.b.const(1), number), i32), shape)

    def is_low(mask: Value) -> Value:
        return e.b.add(Compare("eq", e.b.binary("and", place, mask), zero)).result

    def step(stage: Value, back: Value, tile: Value) -> Value:
        """Those ``2 ** (stage - back)`` apart, of which the lesser goes first in every other run of
        ``2 ** (stage + 1)``."""
        apart = bit(e.b.binary("sub", stage, back))
        ascending = is_low(bit(e.b.binary("add", stage, e.b.const(1))))
        least = e.b.binary("xor", e.b.binary("xor", is_low(apart), ascending), e.b.const(True, bool_, shape))
        other = e.b.add(Take(tile, e.b.binary("xor", place, apart), last)).result
        less = e.b.add(Compare("lt", other, tile)).result
        differ = e.b.binary("xor", least, less)
        return e.b.add(Select(differ, tile, other)).result

    def stage(number: Value, tile: Value) -> Value:
        return _counted(e, e.b.binary("add", number, e.b.const(1)), [tile], lambda back, carried: [
            step(number, back, carried[0])])[0]

    stages = size.bit_length() - 1
    return _counted(e, e.b.const(stages), [tile], lambda number, carried: [stage(number, carried[0])])[0]


def _counted(e: Evaluator, count: Value, init: list[Value], body: Callable[[Value, list[Value]], list[Value]],
             step: int = 1) -> tuple[Value, ...]:
    """A loop over numbers below ``count``."""
    block = Block([TileType(i64), *(v.type for v in init)])
    with e.into(block):
        e.b.add(Yield(tuple(body(block.args[0], block.args[1:]))))
    return e.b.add(For(e.b.const(0), count, e.b.const(step), tuple(init), block)).results


def find_greatest(e: Evaluator, op: Greatest, row: list[Axis], results: list[Value], bounds: Mapping[str, int]) -> None:
    """The greatest elements of one row, or of one run of it, each of those below the one before it. What fits a tile
    stays in it."""
    extent = extents_of(op.x.tile)[-1]
    bound = op.run or (bound_of(extent, RUN) if isinstance(extent, int) else bounds.get(extent))
    size = bound or RUN
    first = e.b.const(0)
    if op.run:
        *row, last_axis = row
        first = e.offset(last_axis)
    start = e.b.binary("mul", e.b.binary("floordiv", first, e.b.const(op.count)), e.b.const(size))
    least = e.b.const(i64.min_value, i64, (size,))

    def loaded(axis: Axis) -> Value:
        at = (*row, axis)
        return e.bounded(e.tile(op.x, at), at, axis, i64.min_value)

    def below(tile: Value, last: Value) -> Value:
        less = e.b.add(Compare("lt", tile, e.spread(last, (size,)))).result
        return e.b.add(Select(less, tile, least)).result

    whole = loaded(Axis(extent, size, start)) if bound else None

    def step(number: Value, carried: list[Value]) -> list[Value]:
        (last,) = carried
        if whole is not None:
            most = below(whole, last)
        else:
            most = e.loop(extent, size, [least], lambda axis, found: [
                e.b.binary("max", found[0], below(loaded(axis), last))])[0]
        found = e.b.add(Reduce("max", most, 0)).result
        for view in results:
            e.store(view, (*row, Axis(extents_of(op.result.tile)[-1], 0, e.b.binary("add", first, number))), found)
        return [found]

    _counted(e, e.b.const(op.count), [e.b.const(i64.max_value)], step)


def merge_rows(e: Evaluator, op: MergeRuns, row: list[Axis], result: Value, runs: Value) -> None:
    """Merge the runs of one row of the memory ``runs``, which is written to, into that of ``result``."""
    extent = extents_of(op.x.tile)[-1]
    whole = (*row, Axis(extent, op.run))
    source, target = (e.window(view, whole)[0] for view in (runs, result))
    before, body = Block([TileType(i64), TileType(i64)]), Block([TileType(i64), TileType(i64)])
    with e.into(before):
        e.b.add(Yield((e.b.add(Compare("lt", before.args[0], e.extent(extent))).result,)))
    with e.into(body):
        length, bits = body.args
        _merge(e, op, (source, target), extent, length, bits)
        double, more = e.b.binary("add", length, length), e.b.binary("add", bits, e.b.const(1))
        _merge(e, op, (target, source), extent, double, more)
        e.b.add(Yield((e.b.binary("add", double, double), e.b.binary("add", more, e.b.const(1)))))
    e.b.add(While((e.b.const(op.run), e.b.const(op.run.bit_length())), before, body))

    def copy(start: Value, _: list[Value]) -> list[Value]:
        at = (Axis(extent, op.run, start),)
        e.store(target, at, e.b.add(Load(source, (start,), (op.run,))).result)
        return []

    _counted(e, e.extent(extent), [], copy, op.run)


def _merge(e: Evaluator, op: MergeRuns, views: tuple[Value, Value], extent: Extent, length: Value, bits: Value) -> None:
    """Merge runs of ``length`` elements, ``2 ** (bits - 1)``, of the first view in pairs into the second."""
    source, target = views
    shape = (op.run,)
    zero = e.b.const(0, i64, shape)

    def spread(value: Value) -> Value:
        return e.spread(value, shape)

    def select(condition: Value, x: Value, y: Value) -> Value:
        return e.b.add(Select(condition, x, y)).result

    def tile(start: Value, _: list[Value]) -> list[Value]:
        place = e.b.binary("add", e.b.add(Iota(shape, 0, i64)).result, spread(start))
        value = e.b.add(Load(source, (start,), shape)).result
        pair = e.b.binary("shl", e.b.binary("shr", place, spread(bits)), spread(bits))
        second = e.b.add(Compare("ge", e.b.binary("sub", place, pair), spread(length))).result
        end = e.b.binary("min", e.b.binary("add", pair, select(second, spread(length), spread(
            e.b.binary("add", length, length)))), spread(e.extent(extent)))
        first = e.b.binary("min", e.b.binary("add", pair, select(second, zero, spread(length))), end)

        def halve(_: Value, carried: list[Value]) -> list[Value]:
            low, high = carried
            middle = e.b.binary("shr", e.b.binary("add", low, high), e.b.const(1, i64, shape))
            less = e.b.add(Compare("lt", e.b.add(Gather(source, (middle,))).result, value)).result
            less = e.b.binary("and", less, e.b.add(Compare("lt", low, high)).result)
            return [select(less, e.b.binary("add", middle, e.b.const(1, i64, shape)), low), select(less, high, middle)]

        found = _counted(e, bits, [first, end], halve)[0]
        own = select(second, e.b.binary("sub", place, spread(length)), place)
        to = e.b.binary("add", own, e.b.binary("sub", found, first))
        inside = e.b.add(Compare("lt", place, spread(e.extent(extent)))).result
        e.b.add(Scatter(target, (to,), value, inside))
        return []

    _counted(e, e.extent(extent), [], tile, op.run)


__all__ = ["divide_sorts", "find_greatest", "merge_rows", "sort_run", "tile_sizes"]
