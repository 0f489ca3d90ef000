"""Adjacent dimensions become one where every operation treats them alike and every array that is given has them side by
side in memory: the loops over them are then as long as they can be.

Each pair of neighbouring dimensions of a value is a link. Operations join the links of their operands with those of
their results, and cut those that they tell apart: the axis of a reduction from its neighbours, what is broadcast from
what is not, what a transposition parts. Links that nothing cuts are dimensions that become one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from tilus.ir.core import Function, Operation, Parameter, Value
from tilus.ir.ops import Broadcast, Const, Iota, Reduce, Reshape, Scan, Transpose
from tilus.ir.ops.array import (
    AffineAccess,
    Attend,
    Contract,
    Greatest,
    Lookup,
    PartialReduce,
    Regroup,
    ScatterArray,
    Sort,
)
from tilus.ir.ops.array import Extent as ExtentOp
from tilus.ir.ops.memory import split_dims
from tilus.ir.rewriter import count_uses, erase_dead, rewrite_block
from tilus.ir.types import Extent, array_type, extents_of
from tilus.records import field, record

Link = tuple[Value, int]
"""Dimensions d and d + 1 of a value."""


@record
class Collapsed:
    """What has become of a function: for each parameter and output how many dimensions each of its dimensions was
    (in order), and the factors of every symbol that stands for a product."""

    inputs: list[tuple[int, ...]]
    outputs: list[tuple[int, ...]]
    products: dict[str, tuple[Extent, ...]] = field(default_factory=dict)


def collapse_axes(function: Function, inputs: Sequence[Parameter], outputs: Sequence[Parameter]) -> Collapsed:
    """Collapse the dimensions of an array-level function, in place. The parameters say how its arrays lie in memory."""
    links = _Links()
    runs = _runs(function)
    yielded = function.body.terminator.operands
    for value, parameter in (*zip(function.body.args, inputs, strict=True), *zip(yielded, outputs, strict=True)):
        if not parameter.contiguous:
            for d in range(value.tile.rank - 1):
                links.cut((value, d))
    for op in function.body.ops[:-1]:
        _connect(links, op, runs)
    result = Collapsed([links.groups(v) for v in function.body.args], [links.groups(v) for v in yielded])
    _rewrite(function, links, runs, result.products)
    return result


class _Links:
    """Classes of links that are cut together."""

    def __init__(self) -> None:
        self.parents: dict[Link, Link] = {}
        self.parted: set[Link] = set()

    def root(self, link: Link) -> Link:
        while link in self.parents:
            link = self.parents[link]
        return link

    def join(self, first: Link, second: Link) -> None:
        one, other = self.root(first), self.root(second)
        if one != other:
            self.parents[other] = one
            if other in self.parted:
                self.parted.add(one)

    def cut(self, link: Link) -> None:
        self.parted.add(self.root(link))

    def is_cut(self, link: Link) -> bool:
        return self.root(link) in self.parted

    def groups(self, value: Value) -> tuple[int, ...]:
        """How many dimensions of a value become each one."""
        rank = value.tile.rank
        if not rank:
            return ()
        ends = [d for d in range(rank) if d == rank - 1 or self.is_cut((value, d))]
        return tuple(end - before for before, end in itertools.pairwise([-1, *ends]))


@record(frozen=True)
class _Run:
    """Dimensions ``low`` to ``high`` of ``x``, which a reduction and those of its kind above it reduce."""

    x: Value
    low: int
    high: int


def _runs(function: Function) -> dict[Reduce, _Run]:
    """What each reduction reduces of its operand together with those above it, where nothing but those reads it and
    the dimensions are neighbours."""
    uses = count_uses(function)
    runs: dict[Reduce, _Run] = {}
    for op in reversed(function.body.ops):
        if not isinstance(op, Reduce) or op in runs:
            continue
        run = runs[op] = _Run(op.x, op.axis, op.axis)
        while isinstance(inner := run.x.defining, Reduce) and inner.kind == op.kind and uses[run.x] == 1 and \
                run.low <= inner.axis <= run.high + 1:
            run = runs[inner] = _Run(inner.x, run.low, run.high + 1)
    return runs


def _connect(links: _Links, op: Operation, runs: dict[Reduce, _Run]) -> None:
    """What an operation asks of the links of its operands and results."""
    if isinstance(op, (Const, ExtentOp, PartialReduce, Regroup)):
        return
    if isinstance(op, Iota):
        _part(links, op.result, op.axis)
    elif isinstance(op, Broadcast):
        _broadcast(links, op)
    elif isinstance(op, AffineAccess):
        _access(links, op)
    elif isinstance(op, (Lookup, ScatterArray)):
        for value in (*op.operands, op.result):
            for d in range(value.tile.rank):
                _part(links, value, d)
    elif isinstance(op, (Scan, Sort)):
        _part(links, op.x, op.axis if isinstance(op, Scan) else op.x.tile.rank - 1)
        for d in range(op.x.tile.rank - 1):
            links.join((op.result, d), (op.x, d))
    elif isinstance(op, Greatest):
        for value in (op.x, op.result):
            _part(links, value, value.tile.rank - 1)
        for d in range(op.x.tile.rank - 2):
            links.join((op.result, d), (op.x, d))
    elif isinstance(op, Reshape):
        _reshape(links, op)
    elif isinstance(op, Transpose):
        _transpose(links, op)
    elif isinstance(op, Reduce):
        _reduce(links, op, runs[op])
    elif isinstance(op, (Contract, Attend)):
        for value in (*op.operands, op.result):
            for d in range(op.batch, value.tile.rank):
                _part(links, value, d)
            for d in range(op.batch - 1):
                links.join((op.result, d), (value, d))
    else:
        for value in (*op.operands, *op.results[1:]):
            for d in range(value.tile.rank - 1):
                links.join((op.result, d), (value, d))


def _part(links: _Links, value: Value, axis: int) -> None:
    """Cut a dimension from its neighbours."""
    for d in (axis - 1, axis):
        if 0 <= d < value.tile.rank - 1:
            links.cut((value, d))


def _broadcast(links: _Links, op: Broadcast) -> None:
    source = extents_of(op.x.tile)
    spread = [n == 1 != m for n, m in zip(source, op.shape, strict=True)] if source else []
    for d, (one, other) in enumerate(itertools.pairwise(spread)):
        links.join((op.result, d), (op.x, d))
        if one != other:
            links.cut((op.result, d))


def _access(links: _Links, op: AffineAccess) -> None:
    """Dimensions that are taken whole stay together, apart from the others."""
    whole = [op.whole(d) for d in range(op.x.tile.rank)]
    joined = set()
    for d, (axis, following) in enumerate(itertools.pairwise(whole)):
        if axis is not None and following == axis + 1:
            links.join((op.result, axis), (op.x, d))
            joined.add(axis)
        else:
            links.cut((op.x, d))
    for axis in range(op.result.tile.rank - 1):
        if axis not in joined:
            links.cut((op.result, axis))


def _reshape(links: _Links, op: Reshape) -> None:
    """Dimensions of extent 1 belong to what is on both sides of them."""
    places = [[d for d, n in enumerate(extents_of(v.tile)) if n != 1] for v in (op.x, op.result)]
    for ours, theirs in zip(*(itertools.pairwise(p) for p in places), strict=True):
        first = (op.x, ours[0])
        for value, (low, high) in ((op.x, ours), (op.result, theirs)):
            for d in range(low, high):
                links.join(first, (value, d))


def _transpose(links: _Links, op: Transpose) -> None:
    order = op.permutation
    for d, (p, q) in enumerate(itertools.pairwise(order)):
        if q == p + 1:
            links.join((op.result, d), (op.x, p))
        else:
            links.cut((op.result, d))
    for d in range(len(order) - 1):
        if order.index(d + 1) != order.index(d) + 1:
            links.cut((op.x, d))


def _reduce(links: _Links, op: Reduce, run: _Run) -> None:
    """The dimensions of a run stay together, apart from the others, which are those of the result."""
    low, high, axis = run.low, run.high, op.axis
    for d in range(op.x.tile.rank - 1):
        if low <= d < high:
            links.join((op.x, low), (op.x, d))
        elif d in (low - 1, high):
            links.cut((op.x, d))
        if axis not in (d, d + 1):
            links.join((op.x, d), (op.result, d - (d > axis)))
    if 0 < axis < op.x.tile.rank - 1:
        if low < axis < high:
            links.join((op.x, low), (op.result, axis - 1))
        else:
            links.cut((op.result, axis - 1))


# What becomes of the operations.


def _rewrite(function: Function, links: _Links, runs: dict[Reduce, _Run], products: dict[str, tuple[Extent, ...]]
             ) -> None:
    groups = {v: links.groups(v) for v in (*function.body.args, *(r for op in function.body.ops for r in op.results))}
    for op in function.body.ops:
        if isinstance(op, Reduce):
            _merge(op, runs, groups)
        elif isinstance(op, Transpose):
            firsts = [part[0] for part in split_dims(op.permutation, groups[op.result])]
            op.permutation = tuple(_place(groups[op.x], d) for d in firsts)
        elif isinstance(op, AffineAccess):
            _regroup(op, groups[op.x], groups[op.result])
        elif isinstance(op, (Iota, Scan)):
            op.axis = _place(groups[op.result], op.axis)
    mapping: dict[Value, Value] = {}

    def retype(value: Value) -> None:
        shape = tuple(_product(part, products) for part in split_dims(extents_of(value.tile), groups[value]))
        value.type = array_type(value.tile.dtype, shape)

    def rewrite(op: Operation) -> list[Operation] | None:
        for result in op.results:
            retype(result)
        if isinstance(op, (AffineAccess, Const, Iota, Regroup, Reshape, Broadcast)):
            op.shape = op.result.tile.shape
            if isinstance(op, (Reshape, Broadcast)) and op.x.tile.shape == op.shape:
                mapping[op.result] = op.x
                return []
        return None

    for argument in function.body.args:
        retype(argument)
    rewrite_block(function.body, rewrite, mapping)
    erase_dead(function)


def _regroup(op: AffineAccess, below: tuple[int, ...], above: tuple[int, ...]) -> None:
    """What is said of the first of the dimensions that become one holds for that."""
    op.starts = tuple(part[0] for part in split_dims(op.starts, below))
    op.terms = tuple(tuple((_place(above, axis), factor) for axis, factor in part[0])
                     for part in split_dims(op.terms, below))


def _merge(op: Reduce, runs: dict[Reduce, _Run], groups: dict[Value, tuple[int, ...]]) -> None:
    """A reduction with those below it whose dimensions have become one with its own."""
    run = runs[op]
    x, axis = run.x, op.axis
    while isinstance(inner := x.defining, Reduce):
        run = runs[inner]
        if run.low == run.high or _place(groups[run.x], run.low) != _place(groups[run.x], run.high):
            break
        x, axis = run.x, run.low
    op.x, op.axis = x, _place(groups[x], axis)


def _product(extents: tuple[Extent, ...], products: dict[str, tuple[Extent, ...]]) -> Extent:
    factors = [n for n in extents if n != 1]
    if len(factors) == 1:
        return factors[0]
    if all(isinstance(n, int) for n in factors):
        return math.prod(int(n) for n in factors)
    name = "*".join(map(str, factors))
    products[name] = tuple(factors)
    return name


def _place(groups: tuple[int, ...], dim: int) -> int:
    """The dimension that one of the original ones belongs to."""
    return next(i for i, end in enumerate(itertools.accumulate(groups)) if dim < end)


__all__ = ["Collapsed", "collapse_axes"]
