"""The tile kernel of each plan of a partition: its grid, its parameters, and loops with the stores of its roots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from tilus.ir.attributes import Attributes
from tilus.ir.builder import Builder
from tilus.ir.core import Block, Function, Value
from tilus.ir.ops import Compare, Dim, Dot, GridIndex, If, Scan, Yield
from tilus.ir.ops.array import Deposit, Greatest, MergeRuns, PartialReduce, Sort
from tilus.ir.types import Extent, ViewType, extents_of
from tilus.lowering.array.access import UNIT, Axes, Axis, Places, tile_shape
from tilus.lowering.array.evaluate import Evaluator
from tilus.lowering.array.partition import ORDERING, KernelPlan
from tilus.lowering.array.sorting import find_greatest, merge_rows, sort_run, tile_sizes
from tilus.lowering.array.tiles import Tiling
from tilus.lowering.array.types import identity, wide

if TYPE_CHECKING:
    from tilus.lowering.array.tiling import Tiler

Outputs: TypeAlias = list[tuple[Value, list[Value]]]
"""What a kernel computes, and the views that it writes it to."""
LEAST_FILLED = 8
"""Of a tile that is longer than others, rows fill at least such a part: the rest is filled up."""


class TiledKernel:
    """The tile kernel of a plan."""

    def __init__(self, tiler: Tiler, plan: KernelPlan, tiling: Tiling) -> None:
        self.tiler, self.plan, self.tiling = tiler, plan, tiling
        self.extents = extents_of(plan.roots[0].tile)
        self.places = Places(plan.reads)
        if plan.product is not None:  # tiles that suit tensor cores even for one row or column
            rows, columns = plan.product
            self.sizes = [{rows: tiling.BM, columns: tiling.BN}.get(d, 0) for d in range(len(self.extents))]
        elif isinstance(root := plan.roots[0].defining, ORDERING):
            self.sizes = tile_sizes(root, tiler.bounds)
        elif isinstance(plan.roots[0].defining, PartialReduce):
            self.sizes = [0]  # a part each
        else:
            at = [self.places(root) for root in plan.roots]
            sizes = [(tiling.BN, tiling.BM)[p] if p < 2 else 0 for p in map(max, zip(*at, strict=True))]
            self.sizes = [0 if n == 1 else size for n, size in zip(self.extents, sizes, strict=True)]
        self.looped = set(plan.looped)

    def grid(self, extent: Callable[[Extent], Value], b: Builder) -> list[Value]:
        """Rows of tiles and single indices on the first axis, columns of tiles on the second."""
        counts = self._counts(extent, b)
        outer = [c for d, c in counts if d != self._column()]
        total = outer[0] if outer else None
        for count in outer[1:]:
            assert total is not None
            total = b.binary("mul", total, count)
        column = [c for d, c in counts if d == self._column()]
        return [*([total] if total is not None else []), *column] or [b.const(1)]

    def _column(self) -> int:
        return len(self.extents) - 1

    def _counts(self, extent: Callable[[Extent], Value], b: Builder) -> list[tuple[int, Value]]:
        """For each dimension on the grid, innermost tiles first, how many tiles or indices it has."""
        found = []
        for d in reversed(range(len(self.extents))):
            if d in self.looped:
                continue
            count, size = extent(self.extents[d]), self.sizes[d]
            if size > 1:
                count = b.binary("floordiv", b.binary("add", count, b.const(size - 1)), b.const(size))
            found.append((d, count))
        return found

    def build(self, name: str) -> Function:
        tiler, plan = self.tiler, self.plan
        needed = [tiler.memory[v] for v in plan.reads if v in tiler.memory]
        needed += [(replace(p, written=True), d) for root in plan.written for p, d in tiler.writes[root]]
        parameters = {tiler.argument_of(p).name: (tiler.argument_of(p), d) for p, d in needed}
        scalars = [(v, p) for v, p in tiler.inputs if p.kind == "scalar"]
        order = [n for n in tiler.arguments if n in parameters]
        # Arrays whose extents are needed although nothing reads them.
        known = {s for p, _ in parameters.values() for s in p.dims}
        for value, p in tiler.inputs:
            if p.kind == "array" and p.name not in parameters and not set(p.dims) <= known:
                parameters[p.name] = (p, value.tile.dtype)
                order.append(p.name)
                known |= set(p.dims)
        body = Block()
        views = {n: body.add_arg(ViewType(parameters[n][1], parameters[n][0].shape), n) for n in order}
        given = {v: body.add_arg(v.tile, p.name) for v, p in scalars}
        b = Builder(body, tiler.function.span)
        extents = tiler.extents_in(b, [(parameters[n][0], views[n]) for n in order])
        for n in order:
            views[n] = tiler.collapsed(b, parameters[n][0], views[n])
            extents.update((name, b.add(Dim(views[n], axis)).result) for axis, name in enumerate(tiler.dims.get(n, ()))
                           if name in tiler.products)
        views.update((p.name, tiler.part(b, p, views, extents)) for p, _ in needed if p.name in tiler.parts)
        stored = {v: views[p.name] for v, (p, _) in tiler.memory.items() if v in plan.reads}
        evaluator = Evaluator(body, self.tiling, stored, extents, given, tiler.bounds)
        evaluator.reduces = plan.reduces
        evaluator.b.span = tiler.function.span
        outputs, reduced = ([(root, [views[p.name] for p, _ in tiler.writes[root]]) for root in roots]
                            for roots in (plan.roots, plan.reduced))
        self._body(evaluator, outputs, reduced)
        evaluator.b.add(Yield(()))
        rank = len(self.grid(evaluator.extent, Builder(Block())))
        raster = self.tiling.raster if rank > 1 and any(isinstance(op, Dot) for op in body.walk()) else None
        return Function(name, body, [parameters[n][0] for n in order] + [p for _, p in scalars],
                        Attributes(warps=self.tiling.warps, grid_rank=rank, raster=raster), tiler.function.span)

    def _body(self, e: Evaluator, outputs: Outputs, reduced: Outputs) -> None:
        axes = self._grid_axes(e)

        def store() -> None:
            self._store_all(e, axes, outputs)
            self._store_reduced(e, axes, reduced)

        kinds = {(extents_of(r.x.tile)[r.axis], self.places(r.x)[r.axis]) for r in self.plan.reduces}
        passes = len(self.plan.reduces) + len(self.looped)
        ((extent, place),) = kinds if len(kinds) == 1 else [(0, 2)]
        size = e.size_at(place)
        if size < 2 or passes < 2 or any(self.sizes[d] != size or self.extents[d] != extent for d in self.looped):
            store()
            return
        most = extent if isinstance(extent, int) else self.tiler.bounds.get(extent)
        if most is not None:
            if most <= size:
                e.resident[extent, size] = Axis(extent, size)
            store()
            return
        longest = 0 if place else self.tiler.tiles.resident // self.tiling.BM
        choices = [(0, size), *([(longest // LEAST_FILLED, longest)] if longest > size else [])]
        self._whole_rows(e, (extent, size), choices, store)

    def _whole_rows(self, e: Evaluator, walked: tuple[Extent, int], choices: list[tuple[int, int]],
                    store: Callable[[], None]) -> None:
        """Rows of an extent that one of some tiles is for are kept in it and read once; others are walked along.
        ``choices``: of each tile, extents above which it is for, and its own."""
        if not choices:
            store()
            return
        (least, most), *left = choices
        extent, _ = walked
        suits = e.b.add(Compare("le", e.extent(extent), e.b.const(most))).result
        if least:
            suits = e.b.binary("and", suits, e.b.add(Compare("gt", e.extent(extent), e.b.const(least))).result)
        then, orelse = Block(), Block()
        with e.into(then):
            e.resident[walked] = Axis(extent, most)
            store()
            e.resident.clear()
            e.b.add(Yield(()))
        with e.into(orelse):
            self._whole_rows(e, walked, left, store)
            e.b.add(Yield(()))
        e.b.add(If(suits, then, orelse))

    def _grid_axes(self, e: Evaluator) -> list[Axis | None]:
        """The block's coordinates; None for the dimensions that it walks itself."""
        axes: list[Axis | None] = [None] * len(self.extents)
        counts = self._counts(e.extent, e.b)
        outer = [(d, c) for d, c in counts if d != self._column()]
        rest = e.b.add(GridIndex(0)).result if outer else None
        for position, (d, count) in enumerate(outer):
            assert rest is not None
            last = position == len(outer) - 1
            index = rest if last else e.b.binary("mod", rest, count)
            rest = rest if last else e.b.binary("floordiv", rest, count)
            axes[d] = self._axis(e, d, index)
        if len(outer) < len(counts):
            axes[self._column()] = self._axis(e, self._column(), e.b.add(GridIndex(1 if outer else 0)).result)
        return axes

    def _axis(self, e: Evaluator, dim: int, index: Value) -> Axis:
        size = self.sizes[dim]
        if size > 1:
            index = e.b.binary("mul", index, e.b.const(size))
        return Axis(self.extents[dim], size, index)

    def _store_reduced(self, e: Evaluator, axes: list[Axis | None], reduced: Outputs) -> None:
        """The stores of what has one element for all along the dimensions that the block walks."""
        for root, views in reduced:
            kept = iter([axis for axis in axes if axis is not None and axis.extent != 1])
            at = tuple(UNIT if n == 1 else next(kept) for n in extents_of(root.tile))
            tile = e.tile(root, at)
            for view in views:
                e.store(view, at, tile)

    def _store_all(self, e: Evaluator, axes: list[Axis | None], outputs: Outputs) -> None:
        """Loops over the dimensions that the block walks, and in them the stores."""
        (root, views), *_ = outputs
        op, rows = root.defining, [axis for axis in axes if axis is not None]
        if isinstance(op, MergeRuns):
            merge_rows(e, op, rows, *views)
            return
        if isinstance(op, Greatest):
            find_greatest(e, op, rows, views, self.tiler.bounds)
            return
        missing = next((d for d, axis in enumerate(axes) if axis is None), None)
        if missing is None:
            at: Axes = tuple(a or UNIT for a in axes)
            for root, views in outputs:
                op = root.defining
                if isinstance(op, Deposit):
                    e.deposit(op, views[0], at)
                    continue
                tile = sort_run(e, op, at) if isinstance(op, Sort) else e.tile(root, at)
                for view in views:
                    e.store(view, at, tile)
            return
        extent, size = self.extents[missing], self.sizes[missing]
        whole = e.resident.get((extent, size))
        if whole is not None:
            self._store_all(e, [whole if d == missing else a for d, a in enumerate(axes)], outputs)
            return
        trial = Axis(extent, size)
        at = tuple(trial if a is None else a for a in axes)
        for root, _ in outputs:
            e.prepare(root, at, trial)

        scans = [op for root, _ in outputs if isinstance(op := root.defining, Scan) and op.axis == missing]
        before = [e.b.const(identity(op.kind, wide(op.x.tile.dtype)), wide(op.x.tile.dtype),
                            tile_shape((*at[:missing], *at[missing + 1 :]))) for op in scans]
        backwards = {op.reverse for op in scans}

        def body(axis: Axis, carried: list[Value]) -> list[Value]:
            here = self._from_the_end(e, axis) if True in backwards else axis
            e.carried.update(zip(scans, carried, strict=True))
            self._store_all(e, [here if d == missing else a for d, a in enumerate(axes)], outputs)
            return [e.carried.pop(op) for op in scans]

        e.loop(extent, size, before, body)

    def _from_the_end(self, e: Evaluator, axis: Axis) -> Axis:
        """The tiles of a dimension the other way round."""
        size = max(1, axis.size)
        last = e.b.binary("floordiv", e.b.binary("sub", e.extent(axis.extent), e.b.const(1)), e.b.const(size))
        return Axis(axis.extent, axis.size, e.b.binary("sub", e.b.binary("mul", last, e.b.const(size)), e.offset(axis)))


__all__ = ["TiledKernel"]
