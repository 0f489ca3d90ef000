"""Blocks that several cores may share, for launches of fewer blocks than there are cores.

Where each row of the tiles that a block stores is made of the same rows of other tiles and of what is the same for all
rows, a part of the block can do some of the rows. So a kernel is made one of parts: what it loads and counts by rows
begins at the part's first row, and what it stores ends after the last one. Which tiles those are is found backwards
from the stores, through what ``cpu/demand.py`` sees through as well, so that nothing is computed of other rows. "Rows"
are what lies along any one dimension of each tile. The launch decides into how many parts blocks are divided.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tilus.ir.builder import Builder
from tilus.ir.core import VARIADIC, Block, Function, Module, Operation, Value
from tilus.ir.dtypes import i64
from tilus.ir.families import DerivedView, Elementwise
from tilus.ir.ops import (
    Assume,
    Binary,
    Broadcast,
    Cast,
    Const,
    ConvertLayout,
    CutView,
    DeviceAssert,
    Dim,
    Dot,
    For,
    GridIndex,
    GridSize,
    If,
    Iota,
    Load,
    Map,
    PartStart,
    PartStop,
    Reduce,
    Reshape,
    Scan,
    Store,
    Transpose,
    Yield,
)
from tilus.ir.types import TileType

ROWS_OF_DOTS, COLUMNS_OF_DOTS, ROWS = (4, 12), (32, 32), (8, 32)
"""At multiples of how many rows parts begin, and how many they have at least: of products as many as are in registers
at a time, so that they are done in the same way as those of whole blocks, and of other tiles enough to make good for
what each part does anew."""
LEAST_WORK = 1 << 18
"""Of a block that is worth being divided: operations on elements."""
ASSUMED_TRIPS = 16
_FOLLOWED = (Binary, Cast, Const, DerivedView, Dim, GridIndex, GridSize)


class _Refused(Exception):
    """What a kernel cannot be divided for."""


def divide_blocks(module: Module) -> None:
    """Make kernels ones of parts, in place, where that can be done and blocks do much."""
    for kernel in module.kernels:
        if kernel.attributes.parts or kernel.attributes.cooperative or kernel.attributes.may_alias:
            continue
        if _work(kernel.body) < LEAST_WORK:
            continue
        plan = _best_plan(kernel)
        if plan is not None:
            _Divider(kernel, plan).run()
            kernel.attributes.parts = plan.parts


def _work(block: Block) -> int:
    """Operations on elements of a block of code, about."""
    total = 0
    for op in block.ops:
        if isinstance(op, Dot):
            total += op.result.tile.size * op.a.tile.shape[-1]
        elif op.results and isinstance(op.results[0].type, TileType):
            total += op.results[0].tile.size
        trips = ASSUMED_TRIPS if isinstance(op, For) else 1
        total += trips * sum(map(_work, op.regions))
    return total


def _best_plan(kernel: Function) -> _Plan | None:
    """The plan with the most parts; None where there is none with two."""
    stores = [op for op in kernel.walk() if isinstance(op, Store)]
    best: _Plan | None = None
    for dims in _candidates(stores):
        try:
            plan = _Plan(kernel, dict(zip(stores, dims, strict=True)))
        except _Refused:
            continue
        if plan.parts > (best.parts if best is not None else 1):
            best = plan
    return best


def _candidates(stores: Sequence[Store]) -> Iterator[list[int]]:
    """A dimension of each store: one of the first one's, and the same of the others, or else one as long."""
    for d, extent in enumerate(stores[0].value.tile.shape if stores else ()):
        dims: list[int] = []
        for store in stores:
            alike = [e for e, n in enumerate(store.value.tile.shape) if n == extent]
            if alike:
                dims.append(d if d in alike else alike[0])
        if len(dims) == len(stores):
            yield dims


class _Plan:
    """``rows``: of tiles of which parts have some rows, the dimension; ``whole``: what is needed as it is."""

    def __init__(self, kernel: Function, stores: dict[Store, int]) -> None:
        self.kernel, self.stores = kernel, stores
        self.rows: dict[Value, int] = {}
        self.whole: set[Value] = set()
        self.around: dict[Value, tuple[For | If, int]] = {}
        self.dots: set[tuple[int, int]] = set()
        self.prepacked = {v for v, p in zip(kernel.body.args, kernel.parameters, strict=True) if p.prepacked}
        self.extent = 0
        self._waiting: list[Value] = []
        for op in kernel.walk():
            self._look_at(op)
        for store, d in stores.items():
            self.extent = store.value.tile.shape[d]
            self._need(store.value, d)
            if store.mask is not None:
                self._need(store.mask, d)
            self._need_whole(store.view, *store.offsets)
        while self._waiting:
            value = self._waiting.pop()
            self._need_sources(value, self.rows[value])
        if any(value in self.around or isinstance(value.defining, Dot) for value in self.rows.keys() & self.whole):
            raise _Refused("all rows of a tile are carried around a loop, or of a product")
        _check_memory(kernel, self)
        self.step, self.least = max(self.dots, default=ROWS)
        self.parts = self.extent // self.least

    def _look_at(self, op: Operation) -> None:
        """Refuse what cannot be done by several parts; control flow and effects are the same for all of them."""
        if isinstance(op, (For, If)):
            for i, result in enumerate(op.results):
                self.around[result] = op, i
                if isinstance(op, For):
                    self.around[op.carried[i]] = op, i
            self._need_whole(*((op.start, op.stop, op.step) if isinstance(op, For) else (op.condition,)))
        elif isinstance(op, (Assume, DeviceAssert)):
            self._need_whole(op.condition)
        elif not isinstance(op, (Map, Store)) and (op.regions or any(e.kind != "read" for e in op.effects())):
            raise _Refused(f"{op.NAME} is done once")

    # What is needed as it is.

    def _need_whole(self, *values: Value) -> None:
        stack = list(values)
        while stack:
            value = stack.pop()
            if value in self.whole:
                continue
            self.whole.add(value)
            if value in self.around:
                op, i = self.around[value]
                stack += _places(op, i)
            elif value.defining is not None:
                stack += value.defining.operands

    # What is needed by rows.

    def _need(self, value: Value, d: int) -> None:
        if value not in self.rows:
            self._waiting.append(value)
        if self.rows.setdefault(value, d) != d or value.tile.shape[d] != self.extent:
            raise _Refused("a tile is needed by rows and by columns")

    def _need_sources(self, value: Value, d: int) -> None:
        if value in self.around:
            op, i = self.around[value]
            for place in _places(op, i):
                self._need(place, d)
            return
        made = value.defining
        assert made is not None
        if isinstance(made, Load) and _root(made.view) in self.prepacked:
            raise _Refused("prepacked tiles are read as they lie")
        rows = dict(sources(made, d))
        for name, _ in made.OPERAND_FIELDS:
            operand = getattr(made, name)
            dim = rows.get(name)
            if dim is None:
                self._need_whole(*(operand if isinstance(operand, tuple) else [operand] if operand is not None else []))
            else:
                self._need(operand, dim)
        if isinstance(made, Dot):
            self.dots.add(ROWS_OF_DOTS if d == 0 else COLUMNS_OF_DOTS)


def _places(op: For | If, i: int) -> list[Value]:
    """The values that are the i-th one that a loop carries or a branch gives."""
    ends = [region.terminator.operands[i] for region in op.regions]
    return [op.results[i], *ends, *((op.carried[i], op.init[i]) if isinstance(op, For) else ())]


def sources(op: Operation, d: int) -> list[tuple[str, int]]:
    """The operands, by their fields, whose rows make those of the result along its dimension ``d``, and along which
    dimension theirs are. All other operands are the same for all rows."""
    if isinstance(op, Dot) and op.result.tile.rank == 2:
        return [("accumulator", d), ("a", 0) if d == 0 else ("b", 1)]
    if isinstance(op, (Const, Iota)):
        return []
    if isinstance(op, Load):
        narrow = op.view.view.dtype.bits % 8 or op.view.view.space != "global"
        if narrow or not op.shape:
            raise _Refused("elements that are parts of bytes, or in shared memory, are read")
        return [("mask", d)] if op.mask is not None else []
    if isinstance(op, Broadcast):
        scalar = op.x.tile.is_scalar
        return [] if scalar or (op.x.tile.shape[d] == 1 and op.shape[d] != 1) else [("x", d)]
    if isinstance(op, Transpose):
        return [("x", op.permutation[d])]
    if isinstance(op, ConvertLayout):
        return [("x", d)]
    if isinstance(op, Reshape):
        return [("x", _dim_before(op, d))]
    if isinstance(op, Reduce):
        return [("x", d + (d >= op.axis))]
    if isinstance(op, Scan) and op.axis != d:
        return [("x", d)]
    if isinstance(op, Elementwise) and not op.regions and all(kind != VARIADIC for _, kind in op.OPERAND_FIELDS):
        return [(name, d) for name, _ in op.OPERAND_FIELDS if not getattr(op, name).tile.is_scalar]
    raise _Refused(f"{op.NAME} is not done row by row")


def _dim_before(op: Reshape, d: int) -> int:
    """Where a dimension is in what is reshaped: others of extent 1 may come and go."""
    source, target = op.x.tile.shape, op.shape
    if target[d] == 1 or [n for n in source if n != 1] != [n for n in target if n != 1]:
        raise _Refused("rows are divided otherwise in a tile of another shape")
    place = sum(n != 1 for n in target[:d])
    return [e for e, n in enumerate(source) if n != 1][place]


def _root(view: Value) -> Value:
    while isinstance(view.defining, DerivedView):
        view = view.defining.view
    return view


def _check_memory(kernel: Function, plan: _Plan) -> None:
    """Refuse arrays that parts write and of which another part accesses the same rows."""
    places: dict[Value, set[object]] = {}
    written: set[Value] = set()
    for op in kernel.walk():
        for effect in op.effects():
            if effect.value is None:
                continue
            root = _root(effect.value)
            where: object = op
            if isinstance(op, Store):
                written.add(root)
                where = op.view, op.offsets[plan.stores[op]], plan.stores[op]
            elif isinstance(op, Load) and op.result in plan.rows and op.result not in plan.whole:
                where = op.view, op.offsets[plan.rows[op.result]], plan.rows[op.result]
            places.setdefault(root, set()).add(where)
    if any(len(places[array]) > 1 for array in written):
        raise _Refused("parts access what others write")


class _Divider:
    """Makes a kernel one of parts, by its plan."""

    def __init__(self, kernel: Function, plan: _Plan) -> None:
        self.kernel, self.plan = kernel, plan
        self.first = Builder(Block(), kernel.span)
        self.early: dict[Value, Value] = {v: v for v in kernel.body.args}
        self.part: dict[Value, Value] = {}
        needed = self._needed()
        self.start = self.first.add(PartStart(needed, plan.extent, plan.step, plan.least)).result
        stop = self.first.add(PartStop(needed, plan.extent, plan.step, plan.least)).result
        self.count = self.first.binary("sub", stop, self.start)

    def run(self) -> None:
        body = self.kernel.body
        self._block(body)
        body.ops = [*self.first.block.ops, *body.ops]

    def _needed(self) -> Value:
        """How many rows of the tiles a block stores: all, unless its arrays end before."""
        b = self.first
        rows: Value | None = None
        for store, d in self.plan.stores.items():
            view, offset = self._from_the_start(store.view), self._from_the_start(store.offsets[d])
            if view is None or offset is None:
                return b.const(self.plan.extent)
            left = b.binary("sub", b.add(Dim(view, d)).result, offset)
            rows = left if rows is None else b.binary("max", rows, left)
        assert rows is not None
        return b.binary("max", b.binary("min", rows, b.const(self.plan.extent)), b.const(0))

    def _from_the_start(self, value: Value) -> Value | None:
        """A scalar or view that can be computed where the kernel begins, computed there."""
        if value not in self.early:
            op = value.defining
            if not isinstance(op, _FOLLOWED) or any(self._from_the_start(o) is None for o in op.operands):
                return None
            self.first.add(op.clone(self.early))
        return self.early[value]

    def _block(self, block: Block) -> None:
        b = Builder(Block())
        for op in block.ops:
            b.span = op.span
            for region in op.regions:
                if isinstance(op, (For, If)):
                    self._block(region)
            if isinstance(op, Store):
                self._cut(op, b)
            elif isinstance(op, (For, If, Yield)):
                op.map_operands(self._of_part)
            elif any(r in self.plan.rows for r in op.results):
                op = self._divided(op, b)
            b.add(op)
        block.ops = b.block.ops

    def _of_part(self, value: Value) -> Value:
        return self.part.get(value, value)

    def _divided(self, op: Operation, b: Builder) -> Operation:
        """An operation by rows; beside itself, where its result is needed as it is as well."""
        made, d = op, next(self.plan.rows[r] for r in op.results if r in self.plan.rows)
        if any(r in self.plan.whole for r in op.results):
            b.add(op)
            copy = op.clone({})
            self.part.update(zip(op.results, copy.results, strict=True))
            op = copy
        for name, _ in sources(op, d):
            setattr(op, name, self._of_part(getattr(op, name)))
        if isinstance(op, Load):
            op.offsets = self._moved(op.offsets, d, b)
            op.in_bounds = tuple(e for e in op.in_bounds if e != d)
        if isinstance(op, Iota) and op.axis == d:
            moved = self._counted(op, b)
            self.part[made.result] = moved.result
            return moved
        return op

    def _moved(self, offsets: tuple[Value, ...], d: int, b: Builder) -> tuple[Value, ...]:
        return (*offsets[:d], b.binary("add", offsets[d], self.start), *offsets[d + 1 :])

    def _counted(self, op: Iota, b: Builder) -> Operation:
        """Numbers from the part's first row on."""
        b.add(op)
        start = b.add(Cast(self.start, op.dtype)).result if op.dtype is not i64 else self.start
        return Binary("add", op.result, b.add(Broadcast(start, op.shape)).result, span=op.span)

    def _cut(self, op: Store, b: Builder) -> None:
        d = self.plan.stores[op]
        op.value = self._of_part(op.value)
        op.mask = None if op.mask is None else self._of_part(op.mask)
        op.offsets = self._moved(op.offsets, d, b)
        op.view = b.add(CutView(op.view, d, op.offsets[d], self.count)).result
        op.in_bounds = tuple(e for e in op.in_bounds if e != d)


__all__ = ["divide_blocks"]
