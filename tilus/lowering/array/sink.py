"""Elementwise operations before a change of shape rather than behind it: what is done to a product that is read under
another shape, as a convolution's is, is done with the sums in registers.

Sections of dimensions are told apart by their products: in ``(n, o, h*w)`` and ``(n, o, h, w)`` there are three.
Operands that have all of a section, or one index of it, are there under both shapes.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tilus.ir.core import Function, Operation, Parameter, Value
from tilus.ir.families import Elementwise
from tilus.ir.ops import Broadcast, Const, Reshape
from tilus.ir.ops.array import Contract, Regroup
from tilus.ir.rewriter import erase_dead, rewrite_block
from tilus.ir.types import Extent, extents_of

Section = tuple[slice, slice]
"""Dimensions of what is regrouped, and those of the result that they become."""
Sizes = Mapping[str, tuple[Any, ...]]
"""What extents are made of."""


def sink_regroups(function: Function, inputs: Sequence[Parameter]) -> None:
    """Move changes of the shape of products behind the elementwise operations that follow, in place."""
    sink = _Sink(function, inputs)
    rewrite_block(function.body, sink.rewrite, sink.mapping)
    erase_dead(function)


class _Sink:
    """``below`` has, for what is a change of shape of a product and what is done to that, the value under the shape
    before."""

    def __init__(self, function: Function, inputs: Sequence[Parameter]) -> None:
        self.mapping: dict[Value, Value] = {}
        self.contiguous = {v for v, p in zip(function.body.args, inputs, strict=True)
                           if p.kind == "array" and p.contiguous}
        self.sizes = {name: (kind, *operands) for name, kind, *operands in function.attributes.sizes}
        self.below: dict[Value, Regroup] = {}
        self.products: set[Value] = set()

    def rewrite(self, op: Operation) -> list[Operation] | None:
        if isinstance(op, Contract) or (isinstance(op, Elementwise) and any(v in self.products for v in op.operands)):
            self.products.add(op.results[0])
        if isinstance(op, Regroup):
            return self.regroup(op)
        if isinstance(op, Elementwise):
            return self.elementwise(op)
        return None

    def regroup(self, op: Regroup) -> list[Operation] | None:
        inner = op.x.defining
        if isinstance(inner, Regroup):  # as it is when something has been moved
            op.x = inner.x
            if extents_of(op.x.tile) == op.shape:
                self.mapping[op.result] = op.x
                return []
        if op.x in self.products:
            self.below[op.result] = op
        return None

    def elementwise(self, op: Elementwise) -> list[Operation] | None:
        moved = next((self.below[v] for v in op.operands if v in self.below), None)
        if moved is None:
            return None
        before, after = extents_of(moved.x.tile), moved.shape
        parts = sections(before, after, self.sizes)
        made: list[Operation] = []
        operands = []
        for value in op.operands:
            there = self.under(value, moved, parts, made)
            if there is None:
                return None
            operands.append(there)
        inner = op.on(operands)
        result = inner.results[0]
        outer = Regroup(result, after, moved.totals, span=op.span)
        self.products.add(result)
        self.below[outer.result] = outer
        self.mapping[op.results[0]] = outer.result
        return [*made, inner, outer]

    def under(self, value: Value, moved: Regroup, parts: Sequence[Section], made: list[Operation]) -> Value | None:
        """An operand under the shape before, by operations appended to ``made``; None where that would take memory."""
        before, op = extents_of(moved.x.tile), value.defining
        known = self.below.get(value)
        if known is not None:
            return known.x if extents_of(known.x.tile) == before else None
        if not value.tile.shape:
            return value
        if value in self.contiguous:
            made.append(Regroup(value, before, (moved.totals[1], moved.totals[0]), span=moved.span))
        elif isinstance(op, Const):
            made.append(Const(op.value, op.dtype, before, span=op.span))
        elif isinstance(op, Broadcast):
            source = self.spread(op.x, moved, parts, made)
            if source is None:
                return None
            made.append(Broadcast(source, before, span=op.span))
        else:
            return None
        return made[-1].results[0]

    def spread(self, x: Value, moved: Regroup, parts: Sequence[Section], made: list[Operation]) -> Value | None:
        """What is broadcast, with the dimensions before the change."""
        before, extents = extents_of(moved.x.tile), extents_of(x.tile)
        if not extents:
            return x
        target: list[Extent] = []
        for first, second in parts:
            old, new = before[first], moved.shape[second]
            has = extents[second]
            if all(n == 1 for n in has):
                target += [1] * len(old)
            elif has == new and old == new:
                target += old
            else:
                return None
        if tuple(target) == extents:
            return x
        made.append(Reshape(x, tuple(target), span=moved.span))
        return made[-1].results[0]


def sections(before: Sequence[Extent], after: Sequence[Extent], sizes: Sizes) -> list[Section]:
    """Where the products of both shapes agree, from either end; what is between is one section."""
    front = _agreeing(before, after, sizes)
    rest_before, rest_after = before[front[-1][0] :], after[front[-1][1] :]
    back = _agreeing(rest_before[::-1], rest_after[::-1], sizes)
    cuts = [*front, *((len(before) - a, len(after) - b) for a, b in reversed(back))]
    return [(slice(a, c), slice(b, d)) for (a, b), (c, d) in itertools.pairwise(cuts) if (a, b) != (c, d)]


def _agreeing(one: Sequence[Extent], other: Sequence[Extent], sizes: Sizes) -> list[tuple[int, int]]:
    """How many dimensions of each, from the first on, have the same product, as far as there are such."""
    found, ours, theirs = [(0, 0)], Counter[Extent](), Counter[Extent]()
    a = b = 0
    while a < len(one) or b < len(other):
        if a < len(one) and (not ours - theirs or b == len(other)):
            ours += _factors(one[a], sizes)
            a += 1
        elif b < len(other):
            theirs += _factors(other[b], sizes)
            b += 1
        if ours == theirs:
            found.append((a, b))
        elif ours - theirs and theirs - ours:
            break
    return found


def _factors(extent: Extent, sizes: Sizes) -> Counter[Extent]:
    if extent == 1:
        return Counter()
    made = sizes.get(extent) if isinstance(extent, str) else None
    if made is None or made[0] != "mul":
        return Counter([extent])
    _, a, b = made
    return _factors(a, sizes) + _factors(b, sizes)


__all__ = ["sections", "sink_regroups"]
