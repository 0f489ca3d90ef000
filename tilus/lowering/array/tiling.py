"""Tiling: every kernel of a partition becomes an ordinary tile kernel, all of them and their workspaces one launch."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tilus.ir.attributes import Attributes
from tilus.ir.builder import Builder
from tilus.ir.core import Block, Function, Module, Parameter, Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import (
    CollapseView,
    Dim,
    Launch,
    ShapedView,
    Subview,
    Workspace,
    Yield,
)
from tilus.ir.ops.array import (
    Attend,
    Contract,
    Deposit,
    Deposited,
    Lookup,
    MergeRuns,
    PartialReduce,
    Regroup,
    RoundTo,
)
from tilus.ir.rewriter import count_uses, erase_dead
from tilus.ir.strides import contiguous_strides, divisor_of, stride_divisors
from tilus.ir.types import Extent, TileType, ViewType, extents_of
from tilus.lowering.array.access import Places, accesses_below, below_regroups, strip
from tilus.lowering.array.bounds import collapse
from tilus.lowering.array.collapse import Collapsed
from tilus.lowering.array.concatenated import Part, parts_of
from tilus.lowering.array.evaluate import Evaluator, tile_counts
from tilus.lowering.array.join import Grid, Work, join_bodies, launches_of, product_of
from tilus.lowering.array.kernel import TiledKernel
from tilus.lowering.array.partition import ORDERING, KernelPlan, partition
from tilus.lowering.array.pieces import Piece, Uses, pieces_of
from tilus.lowering.array.pieces import Workspace as Workspaced
from tilus.lowering.array.report import fusion_lines
from tilus.lowering.array.scatters import divide_scatters
from tilus.lowering.array.sorting import divide_sorts
from tilus.lowering.array.tiles import GPU_TILES, WIDEST, TileTable, Tiling, bound_of, fitted, lightened
from tilus.lowering.array.types import held, wide
from tilus.lowering.simplify import simplify_function
from tilus.records import record


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
    tiled = Tiler(function, description, collapsed, tiles, dict(overrides or {}), dict(bounds or {})).run()
    tiled.target = module.target
    return tiled


def fusion_of(module: Module, description: Description | None = None, tiles: TileTable = GPU_TILES) -> list[str]:
    """What of an array-level module whose symbols are unified is fused, and what is not and why, in lines."""
    (function,) = module.kernels
    description = description or default_parameters(function)
    collapsed = collapse(function, description.inputs, description.outputs)
    tiler = Tiler(function, description, collapsed, tiles, {}, {})
    tiler.place()
    named = {tiler.name_of(at): [tiler.plans[i] for i in plans] for at, plans in enumerate(tiler.launches)}
    return fusion_lines(function, tiler.partition, named, [value for value, _ in tiler.outputs], tiler.pieces())


class Tiler:
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
        self.parts: dict[str, tuple[Parameter, Part]] = {}  # of what is a part of an argument: of which, and where
        self.outputs = self._in_parts([self._written(value, parameter) for value, parameter in self.outputs])
        self.partition = partition(function, [value for value, _ in self.outputs], bounds)
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
        self.extents = self.extents_in(b, [(p, self.arguments[p.name]) for p in parameters if p.kind == "array"])
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
        writes = [p for root in plan.written for p, _ in self.writes.get(root, ())]
        alone = any(isinstance(root.defining, ORDERING) for root in plan.roots)
        kind = plan if alone else plan.product is not None, len(plan.reduces) > 0, self._tiling(plan).warps
        sizes = {p.name: 8 + 16 * len(p.shape) for p in map(self.argument_of, (*reads, *writes))}
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
            for root in plan.written:
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

        for root in (root for plan in self.plans for root in plan.written):
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

    def _in_parts(self, outputs: list[tuple[Value, Parameter]]) -> list[tuple[Value, Parameter]]:
        """Outputs with the parts of concatenations that nothing else uses in their places."""
        uses = count_uses(self.function)
        found = []
        for value, parameter in outputs:
            parts = parts_of(value, self.function.attributes.sizes) if uses[value] == 1 else []
            if not parts:
                found.append((value, parameter))
            for part in parts:
                name, extents = self._fresh(f"part{len(self.parts)}"), extents_of(part.value.tile)
                self.parts[name] = parameter, part
                shape = tuple(n if isinstance(n, int) else None for n in extents)
                found.append((part.value, replace(parameter, name=name, dims=extents, shape=shape, contiguous=False)))
        return found

    def argument_of(self, parameter: Parameter) -> Parameter:
        """The argument that holds what is a part of one."""
        if parameter.name not in self.parts:
            return parameter
        return replace(self.parts[parameter.name][0], written=parameter.written)

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

    def extents_in(self, b: Builder, views: list[tuple[Parameter, Value]]) -> dict[str, Value]:
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

    def part(self, b: Builder, parameter: Parameter, views: Mapping[str, Value], extents: Mapping[str, Value]) -> Value:
        """What is a part of an argument, of which the views have the dimensions of values."""
        base, part = self.parts[parameter.name]
        starts, lengths = (tuple(b.const(n) if isinstance(n, int) else extents[n] for n in numbers)
                           for numbers in (part.starts, extents_of(part.value.tile)))
        return b.add(Subview(views[base.name], starts, lengths, parameter.shape)).result

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
                if self.tiles.loads:
                    reads = accesses_below(plan.written, plan.reads.__contains__)
                    base = lightened(base, reads, self.tiles.loads)
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
        kernels = [TiledKernel(self, self.plans[i], self._tiling(self.plans[i])) for i in plans]
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

    def _joined(self, name: str, kernels: list[TiledKernel]) -> Function:
        """One of several, each of which has a range of the blocks."""
        functions = [kernel.build(name) for kernel in kernels]
        types = {p.name: a.type for f in functions for p, a in zip(f.parameters, f.body.args, strict=True)}
        parameters: dict[str, Parameter] = {}
        for parameter in (p for f in functions for p in f.parameters):
            written = parameter.written or (parameter.name in parameters and parameters[parameter.name].written)
            parameters[parameter.name] = replace(parameter, written=written)
        body = Block(list(types.values()), list(types))
        arguments = dict(zip(types, body.args, strict=True))

        def grid_of(kernel: TiledKernel, function: Function) -> Grid:
            def grid(b: Builder) -> Sequence[Value]:
                views = [(p, arguments[p.name]) for p in function.parameters if p.kind != "scalar"]
                extents = self.extents_in(b, views)
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


__all__ = ["Description", "default_parameters", "tile_arrays"]
