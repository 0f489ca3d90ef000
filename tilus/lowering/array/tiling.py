"""Tiling: every kernel of a partition becomes an ordinary tile kernel, all of them and their workspaces one launch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tilus.ir.attributes import Attributes
from tilus.ir.builder import Builder
from tilus.ir.core import Block, Function, Module, Parameter, Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import CollapseView, Compare, Dim, Dot, GridIndex, If, Launch, Scan, ShapedView, Workspace, Yield
from tilus.ir.ops.array import (
    Attend,
    Contract,
    Deposit,
    Deposited,
    Greatest,
    Lookup,
    MergeRuns,
    PartialReduce,
    Regroup,
    RoundTo,
    Sort,
)
from tilus.ir.rewriter import count_uses, erase_dead
from tilus.ir.strides import contiguous_strides, divisor_of, stride_divisors
from tilus.ir.types import Extent, TileType, ViewType, extents_of
from tilus.lowering.array.access import UNIT, Axes, Axis, Places, below_regroups, strip, tile_shape
from tilus.lowering.array.bounds import collapse
from tilus.lowering.array.collapse import Collapsed
from tilus.lowering.array.evaluate import Evaluator, tile_counts
from tilus.lowering.array.join import Grid, Work, join_bodies, launches_of, product_of
from tilus.lowering.array.partition import ORDERING, KernelPlan, partition
from tilus.lowering.array.pieces import Piece, Uses, pieces_of
from tilus.lowering.array.pieces import Workspace as Workspaced
from tilus.lowering.array.report import fusion_lines
from tilus.lowering.array.scatters import divide_scatters
from tilus.lowering.array.sorting import divide_sorts, find_greatest, merge_rows, sort_run, tile_sizes
from tilus.lowering.array.tiles import GPU_TILES, WIDEST, TileTable, Tiling, bound_of, fitted
from tilus.lowering.array.types import held, identity, wide
from tilus.lowering.simplify import simplify_function
from tilus.records import record

LEAST_FILLED = 8
"""Of a tile that is longer than others, rows fill at least such a part: the rest is filled up."""


@record(frozen=True)
class Description:
    """What is known of the arguments of a fused function: its parameters' facts, then those of its outputs."""

    inputs: tuple[Parameter, ...]
    outputs: tuple[Parameter, ...]


def default_parameters(function: Function) -> Description:
    """Contiguous arrays of any extents."""
    def array(name: str, type_: TileType, written: bool) -> Parameter:
        shape = tuple(n if isinstance(n, int) else None for n in extents_of(type_))
        rank = len(shape)
        return Parameter(name, "array", extents_of(type_), shape, (None,) * max(0, rank - 1) + (1,) * min(1, rank),
                         True, (1,) * rank, (1,) * rank, aligned=True, small=True, written=written)

    inputs = [array(v.name, v.tile, False) if p.kind == "array" else p
              for v, p in zip(function.body.args, function.parameters, strict=True)]
    outputs = [array(f"out{i}", v.tile, True) for i, v in enumerate(function.body.terminator.operands)]
    return Description(tuple(inputs), tuple(outputs))


def tile_arrays(module: Module, description: Description | None = None, tiles: TileTable = GPU_TILES,
                overrides: Mapping[str, int] | None = None, bounds: Mapping[str, int] | None = None) -> Module:
    """The tile module of an array-level module whose symbols are unified.

    ``tiles`` has the sizes, which ``overrides`` (names of ``tiles.NAMES``) replace. ``bounds``
    are extents that symbols do not exceed
    (:class:`~tilus.lowering.array.bounds.TiledExtents`).
    """
    (function,) = module.kernels
    description = description or default_parameters(function)
    collapsed = collapse(function, description.inputs, description.outputs)
    tiled = _Tiler(function, description, collapsed, tiles, dict(overrides or {}), dict(bounds or {})).run()
    tiled.target = module.target
    return tiled


def fusion_of(module: Module, description: Description | None = None, tiles: TileTable = GPU_TILES) -> list[str]:
    """What of an array-level module whose symbols are unified is fused, and what is not and why, in lines."""
    (function,) = module.kernels
    description = description or default_parameters(function)
    collapsed = collapse(function, description.inputs, description.outputs)
    tiler = _Tiler(function, description, collapsed, tiles, {}, {})
    tiler.place()
    named = {tiler.name_of(at): [tiler.plans[i] for i in plans] for at, plans in enumerate(tiler.launches)}
    return fusion_lines(function, tiler.partition, named, [value for value, _ in tiler.outputs], tiler.pieces())


class _Tiler:
    def __init__(self, function: Function, description: Description, collapsed: Collapsed, tiles: TileTable,
                 overrides: dict[str, int], bounds: dict[str, int]) -> None:
        divide_scatters(function)
        divide_sorts(function, bounds)
        self.function = function
        self.bounds = bounds
        self.products = collapsed.products
        self.tiles = tiles
        self.overrides = overrides
        self.given = (*description.inputs, *description.outputs)
        self.inputs = list(zip(function.body.args, description.inputs, strict=True))
        self.outputs = list(zip(function.body.terminator.operands, description.outputs, strict=True))
        self.dims = {p.name: extents_of(v.tile) for v, p in (*self.inputs, *self.outputs)}
        groups = zip((*description.inputs, *description.outputs), (*collapsed.inputs, *collapsed.outputs), strict=True)
        self.groups = {p.name: g for p, g in groups if p.kind == "array"}
        self.shaped: dict[str, tuple[Value, str]] = {}  # of views of arguments: what has the shape, and of which
        self.outputs = [self._written(value, parameter) for value, parameter in self.outputs]
        self.partition = partition(function, [value for value, _ in self.outputs])
        self.plans = self.partition.kernels
        self.memory: dict[Value, tuple[Parameter, DType]] = {}
        self.writes: dict[Value, list[tuple[Parameter, DType]]] = {}
        self.workspaces: list[Workspaced] = []
        self.launches: list[list[int]] = []
        """The kernels of each launch."""

    def run(self) -> Module:
        given = list(zip((*self.function.body.args, *self.function.body.terminator.operands), self.given, strict=True))
        parameters = [p for _, p in given]
        types: list[TileType | ViewType] = [
            ViewType(v.tile.dtype, p.shape) if p.kind == "array" else v.tile for v, p in given]
        body = Block(types, [p.name for p in parameters])
        self.arguments = {p.name: a for p, a in zip(parameters, body.args, strict=True)}
        self.place()
        b = Builder(body, self.function.span)
        self.extents = self._extents(b, [(p, self.arguments[p.name]) for p in parameters if p.kind == "array"])
        for plan in self.plans:
            self._count_parts(plan, b)
        for piece in self.pieces():
            self._allocate(piece, b)
        for name, (value, base) in self.shaped.items():
            sizes = tuple(self._extent(b, n) for n in extents_of(value.tile))
            self.arguments[name] = b.add(ShapedView(self.arguments[base], sizes)).result
        kernels = [self._launch(at, plans, b) for at, plans in enumerate(self.launches)]
        b.add(Yield(()))
        launch = Function("launch", body, parameters, None, self.function.span)
        simplify_function(launch)
        return Module(kernels, launch)

    def name_of(self, launch: int) -> str:
        """The name of what is launched."""
        return self.function.name if len(self.launches) == 1 else f"{self.function.name}_{launch}"

    def pieces(self) -> list[Piece]:
        """Memory for the workspaces."""
        uses: dict[str, Uses] = {}
        for at, plans in enumerate(self.launches):
            for work in (self._work(self.plans[i]) for i in plans):
                uses.update((name, (uses.get(name, (at, at))[0], at)) for name in work.reads | work.writes)
        return pieces_of(self.workspaces, uses)

    def _work(self, plan: KernelPlan) -> Work:
        """What decides on the launch of a kernel. Those that order elements have one of their own."""
        reads = [self.memory[v][0] for v in plan.reads if v in self.memory]
        writes = [p for root in plan.roots for p, _ in self.writes.get(root, ())]
        alone = any(isinstance(root.defining, ORDERING) for root in plan.roots)
        kind = plan if alone else plan.product is not None, len(plan.reduces) > 0, self._tiling(plan).warps
        sizes = {p.name: 8 + 16 * len(p.shape) for p in (*reads, *writes)}
        read, written = (frozenset(self._base(p.name) for p in found) for found in (reads, writes))
        return Work(kind, read, written, sizes)

    def _base(self, name: str) -> str:
        """The argument that a view of one is of."""
        while name in self.shaped:
            name = self.shaped[name][1]
        return name

    def _allocate(self, piece: Piece, b: Builder) -> None:
        shapes = [tuple(self._extent(b, n) for n in extents_of(value.tile)) for value, *_ in piece.users]
        if piece.is_of_one_shape:
            memory = b.add(Workspace(shapes[0], piece.dtype)).result
            self.arguments.update((parameter.name, memory) for _, parameter, _ in piece.users)
            return
        counts = [functools.reduce(lambda x, y: b.binary("mul", x, y), shape, b.const(1)) for shape in shapes]
        most = functools.reduce(lambda x, y: b.binary("max", x, y), counts)
        memory = b.add(Workspace((most,), piece.dtype)).result
        for (_, parameter, _), shape in zip(piece.users, shapes, strict=True):
            self.arguments[parameter.name] = b.add(ShapedView(memory, shape)).result

    def place(self) -> None:
        """The memory of each stored value: arguments, outputs, and workspaces for what outputs do not hold exactly."""
        for value, parameter in self.inputs:
            if parameter.kind == "array":
                self.memory[value] = (parameter, value.tile.dtype)
        read = {v for plan in self.plans for v in plan.reads}
        regrouped = {below_regroups(v) for v in read if isinstance(v.defining, Regroup)}
        for value, parameter in self.outputs:
            self.writes.setdefault(value, []).append((parameter, value.tile.dtype))
            holds = _exact(value) is value.tile.dtype and (parameter.contiguous or value not in regrouped)
            if value not in self.memory and holds:
                self.memory[value] = (parameter, value.tile.dtype)
        for plan in self.plans:
            for root in plan.roots:
                if root in read and root not in self.memory and not isinstance(root.defining, Deposit):
                    dtype = _exact(root)
                    rank = len(extents_of(root.tile))
                    dims = extents_of(root.tile) if isinstance(root.defining, PartialReduce) else ()
                    name = self._fresh(f"workspace{len(self.workspaces)}")
                    unknown, divisors = (None,) * rank, self._divisors(extents_of(root.tile))
                    parameter = Parameter(
                        name, "workspace", dims, unknown, contiguous_strides(unknown), True, divisors,
                        stride_divisors(unknown, divisors), aligned=True, small=True)
                    self.workspaces.append((root, parameter, dtype))
                    self.memory[root] = (parameter, dtype)
                    self.writes.setdefault(root, []).append((parameter, dtype))

        for root in (root for plan in self.plans for root in plan.roots):
            op = root.defining
            if isinstance(op, Deposit):
                self.writes[root] = [self.memory[op.x]]
            elif isinstance(op, MergeRuns):
                self.writes[root] = [self.memory[root], self.memory[op.x]]
        # In the function's order: names are the same whenever it is tiled.
        made = [r for op in self.function.body.ops for r in op.results if r in read]
        for value in sorted(made, key=lambda v: isinstance(v.defining, Regroup)):
            op = value.defining
            if isinstance(op, Deposited):
                self.memory[value] = self.memory[op.x]
            elif isinstance(op, Regroup):
                base, dtype = self.memory[below_regroups(value)]
                self.memory[value] = (self._shaped(value, base), dtype)
        self.launches = launches_of([self._work(plan) for plan in self.plans], self.tiles.joins)

    def _written(self, value: Value, parameter: Parameter) -> tuple[Value, Parameter]:
        """What is computed for an output and the array that has it: of one under another shape what it is of, unless
        that is there already."""
        source = below_regroups(value)
        if source is not value and source.defining is not None and parameter.contiguous:
            value, parameter = source, self._shaped(source, parameter)
        return (value.defining.x if isinstance(value.defining, Deposited) else value), parameter

    def _fresh(self, name: str) -> str:
        """A name that no argument has."""
        while any(p.name == name for p in self.given):
            name += "_"
        return name

    def _shaped(self, value: Value, of: Parameter) -> Parameter:
        """A view of an argument that has the shape of a value."""
        name, extents = self._fresh(f"shaped{len(self.shaped)}"), extents_of(value.tile)
        self.shaped[name] = value, of.name
        shape, divisors = tuple(n if isinstance(n, int) else None for n in extents), self._divisors(extents)
        return Parameter(name, "workspace", extents, shape, contiguous_strides(shape), True, divisors,
                         stride_divisors(shape, divisors), aligned=of.aligned, small=of.small, written=of.written)

    def _divisors(self, extents: tuple[int | str, ...]) -> tuple[int, ...]:
        """What extents are multiples of, as far as the arguments' facts say so."""
        known: dict[int | str, int] = {}
        for parameter in self.given:
            for dim, divisor in zip(parameter.dims, parameter.shape_divisors, strict=False):
                known[dim] = max(divisor, known.get(dim, 1))
        return tuple(divisor_of(n) if isinstance(n, int) else known.get(n, 1) for n in extents)

    def _extents(self, b: Builder, views: list[tuple[Parameter, Value]]) -> dict[str, Value]:
        """Every symbol's value, from the first array that has it."""
        found: dict[str, Value] = {}
        for parameter, view in views:
            for axis, symbol in enumerate(parameter.dims):
                if isinstance(symbol, str) and symbol not in found and parameter.shape[axis] is None:
                    found[symbol] = b.add(Dim(view, axis)).result
                    found[symbol].name = symbol
        for name, kind, *operands in self.function.attributes.sizes:
            if name not in found and all(isinstance(n, int) or n in found for n in operands):
                a, c = (found[n] if isinstance(n, str) else b.const(n) for n in operands)
                found[name] = b.binary(kind, a, c)
        for name, factors in self.products.items():
            if name not in found and all(isinstance(n, int) or n in found for n in factors):
                values = [found[n] if isinstance(n, str) else b.const(n) for n in factors]
                found[name] = functools.reduce(lambda x, y: b.binary("mul", x, y), values)
        return found

    def collapsed(self, b: Builder, parameter: Parameter, view: Value) -> Value:
        """The view with the dimensions that its value has."""
        groups = self.groups.get(parameter.name)
        return view if groups is None or len(groups) == view.view.rank else b.add(CollapseView(view, groups)).result

    def _extent(self, b: Builder, extent: Extent) -> Value:
        return b.const(extent) if isinstance(extent, int) else self.extents[extent]

    def _count_parts(self, plan: KernelPlan, b: Builder) -> None:
        """Into how many parts a reduction to one number is divided."""
        for root in plan.roots:
            op = root.defining
            if not isinstance(op, PartialReduce) or op.parts in self.extents:
                continue
            evaluator = Evaluator(Block(), self._tiling(plan), dict.fromkeys(plan.reads, op.x), {}, {})
            total = b.const(1)
            for count in tile_counts(extents_of(op.x.tile), evaluator.part_sizes(op), lambda n: self._extent(b, n), b):
                total = b.binary("mul", total, count)
            parts = b.binary("floordiv", total, b.const(self.tiles.tiles_of_a_part))
            self.extents[op.parts] = b.binary("max", b.binary("min", parts, b.const(self.tiles.parts)), b.const(1))

    def _tiling(self, plan: KernelPlan) -> Tiling:
        attends = [op for r in plan.heavy if isinstance(op := r.defining, Attend)]
        if attends:
            base = self._attention(attends)
        elif plan.product is not None:
            stored = {v: Value(ViewType(d, ())) for v, (_, d) in self.memory.items()}
            operands = [o for r in plan.heavy if isinstance(r.defining, Contract) for o in r.defining.operands]
            kind = max((held(o, stored) for o in operands), key=lambda d: d.bits)
            gathered = any(isinstance(strip(o).defining, Lookup) for o in operands)
            base = self.tiles.contraction(kind, plan.functions, gathered)
        else:
            last = any(r.axis == len(r.x.tile.shape) - 1 for r in plan.reduces)
            base = self.tiles.loop(last, len(plan.reduces) > 0, plan.transposes)
            if not {"BM", "BN"} & self.overrides.keys():
                base = fitted(base, self._bound(plan, 0), self._bound(plan, 1))
        return base.overridden(self.overrides)

    def _attention(self, attends: list[Attend]) -> Tiling:
        kinds = [op.rounding or wide(op.values.tile.dtype) for op in attends]
        columns = [extents_of(op.values.tile)[-1] for op in attends]
        bounds = [bound_of(n) if isinstance(n, int) else self.bounds.get(n) for n in columns]
        return self.tiles.attention(max(kinds, key=lambda d: d.bits), max(b or WIDEST for b in bounds))

    def _bound(self, plan: KernelPlan, place: int) -> int | None:
        """What no extent that a kernel takes ``place`` dimensions before the last exceeds, if that is known."""
        places = Places(plan.reads)
        tiled = [*plan.roots, *(r.x for r in plan.reduces),
                 *(r.defining.x for r in plan.roots if isinstance(r.defining, PartialReduce))]
        extents = {n for v in tiled for n, at in zip(extents_of(v.tile), places(v), strict=True) if at == place}
        bounds = [bound_of(n) if isinstance(n, int) else self.bounds.get(n) for n in extents] or [1]
        return None if None in bounds else max(b for b in bounds if b is not None)

    def _launch(self, at: int, plans: list[int], launch: Builder) -> Function:
        """What is launched for some kernels, and its launch."""
        kernels = [_Kernel(self, self.plans[i], self._tiling(self.plans[i])) for i in plans]
        grids = [kernel.grid(lambda n: self._extent(launch, n), launch) for kernel in kernels]
        if len(kernels) == 1:
            function, grid = kernels[0].build(self.name_of(at)), grids[0]
        else:
            totals = [product_of(launch, grid) for grid in grids]
            function, grid = self._joined(self.name_of(at), kernels), [
                functools.reduce(lambda x, y: launch.binary("add", x, y), totals)]
        erase_dead(function)
        _drop_unused(function)
        launch.add(Launch(function.name, tuple(grid), tuple(self.arguments[p.name] for p in function.parameters)))
        return function

    def _joined(self, name: str, kernels: list[_Kernel]) -> Function:
        """One of several, each of which has a range of the blocks."""
        functions = [kernel.build(name) for kernel in kernels]
        types = {p.name: a.type for f in functions for p, a in zip(f.parameters, f.body.args, strict=True)}
        parameters: dict[str, Parameter] = {}
        for parameter in (p for f in functions for p in f.parameters):
            written = parameter.written or (parameter.name in parameters and parameters[parameter.name].written)
            parameters[parameter.name] = replace(parameter, written=written)
        body = Block(list(types.values()), list(types))
        arguments = dict(zip(types, body.args, strict=True))

        def grid_of(kernel: _Kernel, function: Function) -> Grid:
            def grid(b: Builder) -> Sequence[Value]:
                extents = self._extents(b, [(p, arguments[p.name]) for p in function.parameters if p.kind != "scalar"])
                return kernel.grid(lambda n: b.const(n) if isinstance(n, int) else extents[n], b)

            return grid

        pairs = [(f, grid_of(kernel, f)) for kernel, f in zip(kernels, functions, strict=True)]
        join_bodies(Builder(body, self.function.span), pairs, arguments)
        return Function(name, body, list(parameters.values()), Attributes(warps=functions[0].attributes.warps),
                        self.function.span)


def _drop_unused(function: Function) -> None:
    """Leave out parameters that nothing uses."""
    uses = count_uses(function)
    kept = [i for i, a in enumerate(function.body.args) if uses[a]]
    function.body.args = [function.body.args[i] for i in kept]
    for index, argument in enumerate(function.body.args):
        argument.index = index
    function.parameters = tuple(function.parameters[i] for i in kept)


def _exact(value: Value) -> DType:
    """The type that holds a computed value without rounding it once more."""
    op = value.defining
    return op.dtype if isinstance(op, RoundTo) else wide(value.tile.dtype)


class _Kernel:
    def __init__(self, tiler: _Tiler, plan: KernelPlan, tiling: Tiling) -> None:
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
        parameters = {p.name: (p, d) for p, d in (tiler.memory[v] for v in plan.reads if v in tiler.memory)}
        for root in plan.roots:
            parameters.update({p.name: (replace(p, written=True), d) for p, d in tiler.writes[root]})
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
        extents = tiler._extents(b, [(parameters[n][0], views[n]) for n in order])
        for n in order:
            views[n] = tiler.collapsed(b, parameters[n][0], views[n])
            extents.update((name, b.add(Dim(views[n], axis)).result) for axis, name in enumerate(tiler.dims.get(n, ()))
                           if name in tiler.products)
        stored = {v: views[p.name] for v, (p, _) in tiler.memory.items() if v in plan.reads}
        evaluator = Evaluator(body, self.tiling, stored, extents, given, tiler.bounds)
        evaluator.reduces = plan.reduces
        evaluator.b.span = tiler.function.span
        outputs = [(root, [views[p.name] for p, _ in tiler.writes[root]]) for root in plan.roots]
        self._body(evaluator, outputs)
        evaluator.b.add(Yield(()))
        rank = len(self.grid(evaluator.extent, Builder(Block())))
        raster = self.tiling.raster if rank > 1 and any(isinstance(op, Dot) for op in body.walk()) else None
        return Function(name, body, [parameters[n][0] for n in order] + [p for _, p in scalars],
                        Attributes(warps=self.tiling.warps, grid_rank=rank, raster=raster), tiler.function.span)

    def _body(self, e: Evaluator, outputs: list[tuple[Value, list[Value]]]) -> None:
        axes = self._grid_axes(e)
        kinds = {(extents_of(r.x.tile)[r.axis], self.places(r.x)[r.axis]) for r in self.plan.reduces}
        passes = len(self.plan.reduces) + len(self.looped)
        ((extent, place),) = kinds if len(kinds) == 1 else [(0, 2)]
        size = e.size_at(place)
        if size < 2 or passes < 2 or any(self.sizes[d] != size or self.extents[d] != extent for d in self.looped):
            self._store_all(e, axes, outputs)
            return
        most = extent if isinstance(extent, int) else self.tiler.bounds.get(extent)
        if most is not None:
            if most <= size:
                e.resident[extent, size] = Axis(extent, size)
            self._store_all(e, axes, outputs)
            return
        longest = 0 if place else self.tiler.tiles.resident // self.tiling.BM
        choices = [(0, size), *([(longest // LEAST_FILLED, longest)] if longest > size else [])]
        self._whole_rows(e, (extent, size), choices, lambda: self._store_all(e, axes, outputs))

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

    def _store_all(self, e: Evaluator, axes: list[Axis | None], outputs: list[tuple[Value, list[Value]]]) -> None:
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


__all__ = ["Description", "default_parameters", "tile_arrays"]
