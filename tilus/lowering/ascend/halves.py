"""The vector side's tiles are divided between the two vector cores of a block, by rows.

Dimensions that go together (by elementwise operations, broadcasts, what loops carry …) are one class. Those of the rows
of what comes from the matrix core, or goes there, are halved, with all that goes together with them. Where that cannot
be, because something combines rows, both cores compute all of it, and the first one stores.
"""

from __future__ import annotations

from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.dtypes import i64
from tilus.ir.families import Elementwise
from tilus.ir.ops import (
    Binary,
    Broadcast,
    Cast,
    Compare,
    Const,
    For,
    If,
    Iota,
    Load,
    Reduce,
    Reshape,
    Store,
    Transpose,
    While,
    Yield,
)
from tilus.ir.ops.cores import CoreIndex, Receive, Send, Side
from tilus.ir.types import TileType
from tilus.targets.ascend import VECTOR_CORES

Dim = tuple[Value, int]


def halve_vector_tiles(module: Module) -> None:
    """Divide the tiles of vector sides, in place."""
    for function in module.kernels:
        kinds = [op.kind for op in function.body.ops if isinstance(op, Side)]
        for op in function.body.ops:
            if isinstance(op, Side) and op.kind == "vector" and "cube" in kinds:
                _halve(op.body)


class _Classes:
    """Classes of dimensions that go together; those of ``whole`` cannot be divided."""

    def __init__(self) -> None:
        self.parent: dict[Dim, Dim] = {}
        self.whole: set[Dim] = set()

    def find(self, dim: Dim) -> Dim:
        while (above := self.parent.get(dim, dim)) != dim:
            dim = above
        return dim

    def join(self, a: Dim, b: Dim) -> None:
        a, b = self.find(a), self.find(b)
        if a != b:
            self.parent[a] = b
            if a in self.whole:
                self.whole.add(b)

    def keep(self, value: Value) -> None:
        """None of its dimensions can be divided."""
        for d in range(_rank(value)):
            self.whole.add(self.find((value, d)))


def _rank(value: Value) -> int:
    return value.type.rank if isinstance(value.type, TileType) else 0


def _halve(body: Block) -> None:
    _repeat_leaves(body)
    divided = row_dimensions(body)
    possible = bool(divided) and all(v.tile.shape[d] % VECTOR_CORES == 0 for v, d in divided.items())
    part = CoreIndex("part")
    if possible:
        Division(divided, VECTOR_CORES, part.result).block(body)
    _store_once(body, part.result, set(divided) if possible else set())
    body.ops.insert(0, part)


def row_dimensions(body: Block) -> dict[Value, int]:
    """For each tile that has rows of what comes from the matrix core, or goes there, which dimension those are; nothing
    where they cannot be divided."""
    classes = _Classes()
    ports: list[Dim] = []
    for op in body.walk():
        _relate(classes, op)
        if isinstance(op, Receive):
            ports.append((op.result, 0))
        elif isinstance(op, Send):
            ports.append((op.value, 0))
    rows = {classes.find(port) for port in ports}
    values = [v for op in body.walk() for v in (*op.results, *(a for r in op.regions for a in r.args))]
    found = [(v, d) for v in values for d in range(_rank(v)) if classes.find((v, d)) in rows]
    whole = any(classes.find(r) in classes.whole for r in rows)
    return {} if whole or len({v for v, _ in found}) != len(found) else dict(found)


def _repeat_leaves(block: Block) -> None:
    """Each use of a constant or of indices gets one of its own: rows and columns may have the same."""
    ops: list[Operation] = []
    for op in block.ops:
        for region in op.regions:
            _repeat_leaves(region)
        mapping = {}
        for value in op.operands:
            maker = value.defining
            if isinstance(maker, (Const, Iota)) and value.tile.shape:
                copy = maker.clone({})
                ops.append(copy)
                mapping[value] = copy.results[0]
        if mapping:
            op.map_operands(lambda v, m=mapping: m.get(v, v))  # type: ignore[misc]
        ops.append(op)
    block.ops = ops


def _relate(classes: _Classes, op: Operation) -> None:
    if isinstance(op, Elementwise):
        tiles = [v for v in (*op.operands, *op.results) if _rank(v)]
        for other in tiles[1:]:
            for d in range(_rank(other)):
                classes.join((tiles[0], d), (other, d))
    elif isinstance(op, (Broadcast, Transpose, Reduce, Reshape)):
        _relate_moved(classes, op)
    elif isinstance(op, (For, While)):
        args = [op.carried] if isinstance(op, For) else [op.before.args, op.body.args]
        for together in zip(op.init, *args, op.body.terminator.operands, op.results, strict=True):
            _same(classes, together)
    elif isinstance(op, If):
        for together in zip(op.then.terminator.operands, op.orelse.terminator.operands, op.results, strict=True):
            _same(classes, together)
    elif isinstance(op, (Load, Store)):
        tiles = [v for v in (op.mask, op.value if isinstance(op, Store) else op.result) if v is not None and _rank(v)]
        _same(classes, tiles)
    elif not isinstance(op, (Const, Iota, Send, Receive, Yield)):
        for value in (*op.operands, *op.results):
            classes.keep(value)


def _same(classes: _Classes, values: tuple[Value, ...] | list[Value]) -> None:
    for other in values[1:]:
        for d in range(_rank(other)):
            classes.join((values[0], d), (other, d))


def _relate_moved(classes: _Classes, op: Broadcast | Transpose | Reduce | Reshape) -> None:
    x, result = op.x, op.results[0]
    if isinstance(op, Broadcast):
        for d, (a, b) in enumerate(zip(x.tile.shape, op.shape, strict=False)):
            if a == b:
                classes.join((x, d), (result, d))
    elif isinstance(op, Transpose):
        for d, source in enumerate(op.permutation):
            classes.join((x, source), (result, d))
    elif isinstance(op, Reduce):
        classes.whole.add(classes.find((x, op.axis)))
        for d in range(_rank(x)):
            if d != op.axis:
                classes.join((x, d), (result, d - (d > op.axis)))
    else:
        wide, others = ([d for d, n in enumerate(v.tile.shape) if n != 1] for v in (x, result))
        if [x.tile.shape[d] for d in wide] == [result.tile.shape[d] for d in others]:
            for a, b in zip(wide, others, strict=True):
                classes.join((x, a), (result, b))
        else:
            classes.keep(x)
            classes.keep(result)


# -- rewriting


class Division:
    """Operations on tiles, each of which has a dimension that is divided into ``parts``, become those on the part of
    number ``index``."""

    def __init__(self, divided: dict[Value, int], parts: int, index: Value) -> None:
        self.divided, self.parts, self.index = divided, parts, index

    def block(self, block: Block) -> None:
        """Divide the operations of a block, in place."""
        for arg in block.args:
            self.shorten(arg)
        ops: list[Operation] = []
        for op in block.ops:
            for region in op.regions:
                self.block(region)
            self.operation(op, ops)
        block.ops = ops

    def shorten(self, value: Value) -> None:
        if value in self.divided:
            value.type = TileType(value.tile.dtype, self.short(value.tile.shape, self.divided[value]))

    def short(self, shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
        return tuple(n // self.parts if d == dim else n for d, n in enumerate(shape))

    def operation(self, op: Operation, ops: list[Operation]) -> None:
        """Append what an operation becomes."""
        subject = op.value if isinstance(op, (Store, Send)) else op.results[0] if op.results else None
        dim = None if subject is None else self.divided.get(subject)
        for result in op.results:
            self.shorten(result)
        if dim is None:
            ops.append(op)
            return
        if isinstance(op, (Const, Iota, Broadcast, Reshape, Receive, Load)):
            op.shape = op.results[0].tile.shape
        if isinstance(op, Iota) and op.axis == dim:
            self._indices(op, ops)
            return
        if isinstance(op, (Load, Store, Receive, Send)):
            tile = (op.value if isinstance(op, (Store, Send)) else op.result).tile
            first = self._first(ops, tile.shape[dim], op)
            if isinstance(op, (Receive, Send)):
                op.row = first if op.row is None else _sum(ops, op.row, first, op)
            else:
                moved = _sum(ops, op.offsets[dim], first, op)
                op.offsets = tuple(moved if d == dim else o for d, o in enumerate(op.offsets))
        ops.append(op)

    def _indices(self, op: Iota, ops: list[Operation]) -> None:
        first = self._first(ops, op.shape[op.axis], op)
        cast = Cast(first, op.dtype, span=op.span)
        spread = Broadcast(cast.result, op.shape, span=op.span)
        plain = Iota(op.shape, op.axis, op.dtype, span=op.span)
        moved = Binary("add", plain.result, spread.result, span=op.span)
        moved.results = op.results
        op.results[0].owner = moved
        ops += [cast, spread, plain, moved]

    def _first(self, ops: list[Operation], extent: int, op: Operation) -> Value:
        """The index of a part's first row."""
        size = Const(extent, i64, span=op.span)
        product = Binary("mul", self.index, size.result, span=op.span)
        ops += [size, product]
        return product.result


def _sum(ops: list[Operation], x: Value, y: Value, op: Operation) -> Value:
    total = Binary("add", x, y, span=op.span)
    ops.append(total)
    return total.result


def _store_once(block: Block, part: Value, divided: set[Value]) -> None:
    """What both cores have is stored by the first."""
    ops: list[Operation] = []
    for op in block.ops:
        for region in op.regions:
            _store_once(region, part, divided)
        if isinstance(op, Store) and op.value not in divided:
            zero = Const(0, i64, span=op.span)
            is_first = Compare("eq", part, zero.result, span=op.span)
            then, orelse = Block(), Block()
            then.ops, orelse.ops = [op, Yield()], [Yield()]
            ops += [zero, is_first, If(is_first.result, then, orelse, span=op.span)]
        else:
            ops.append(op)
    block.ops = ops
