"""Comparisons of index tiles: by how much a thread's elements differ is known, so that one difference is compared with
constants, and no element's index takes a register."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import i32, i64
from tilus.ir.ops import Binary, Broadcast, Cast, Compare, Const, Iota, Reshape, Transpose
from tilus.lowering.facts import Fact, Facts, overflows
from tilus.lowering.layout_rules import result_layout
from tilus.lowering.simt.context import Thread, layout_of, locals_of

Steps = tuple[int, ...]
"""By how much each element of a thread is more than its first one."""
WORTH_WIDE = 4
"""Different constants for each difference of 64 bits from which it takes less than as many sums."""


def steps_of(facts: Facts, value: Value) -> Steps | None:
    """Those of a tile of integers, for every thread; None where they are not known."""
    if not value.tile.shape:
        return (0,)
    op, count = value.defining, locals_of(value)
    if isinstance(op, Const):
        return (0,) * count
    if isinstance(op, Iota):
        along = [index[op.axis] for index in layout_of(value).local_indices]
        return tuple(n - along[0] for n in along)
    if isinstance(op, Broadcast):
        return _spread(facts, op, count)
    if isinstance(op, (Reshape, Transpose)):
        kept = op.x.tile.shape and result_layout(op, op.x, layout_of(op.x)) == layout_of(value)
        return steps_of(facts, op.x) if kept else None
    if isinstance(op, Cast) and op.x.tile.dtype.is_int and op.x.tile.dtype.bits <= op.dtype.bits:
        return steps_of(facts, op.x) if op.x.tile.dtype.kind == op.dtype.kind else None
    if isinstance(op, Binary) and op.kind in ("add", "sub"):
        wraps = overflows(op.kind, facts.of(op.lhs), facts.of(op.rhs), op.result.tile.dtype)
        left, right = steps_of(facts, op.lhs), steps_of(facts, op.rhs)
        if left is not None and right is not None and not wraps:
            return tuple(map(operator.add if op.kind == "add" else operator.sub, left, right))
    return None


def _spread(facts: Facts, op: Broadcast, count: int) -> Steps | None:
    if not op.x.tile.shape:
        return (0,) * count
    inner, places = steps_of(facts, op.x), _sources(op)
    return None if inner is None else tuple(inner[place] - inner[places[0]] for place in places)


def _sources(op: Broadcast) -> list[int]:
    """The operand's element that each of a thread's elements is."""
    source, shape = layout_of(op.x), layout_of(op.x).shape
    return [source.local_of(tuple(0 if n == 1 else i for i, n in zip(index, shape, strict=True)))
            for index in layout_of(op.result).local_indices]


def _equals(value: Value) -> list[int]:
    """For each of a thread's elements the first one that is known to be the same."""
    op, count = value.defining, locals_of(value)
    if not isinstance(op, Broadcast):
        return list(range(count))
    inner = _sources(op) if op.x.tile.shape else [0] * count
    return [inner.index(place) for place in inner]


def compare_by_steps(thread: Thread, op: Compare, places: Sequence[int]) -> Value | None:
    """A comparison with an index tile, at these of a thread's elements, as one of a few differences with constants:
    that of the first elements where both are index tiles, else one for each different element of the other. None where
    there is nothing to gain."""
    if not op.result.tile.shape or op.lhs.tile.dtype.kind != "int":
        return None
    steps = [steps_of(thread.facts, v) for v in (op.lhs, op.rhs)]
    if steps == [None, None]:
        return None
    firsts = [_equals(v) if found is None else None for v, found in zip((op.lhs, op.rhs), steps, strict=True)]
    left, right = ([0 if of is None else of[place] for place in places] for of in firsts)
    bounds = [sum(factor * of[place] for of, factor in zip(steps, (-1, 1), strict=True) if of) for place in places]
    pairs = list(dict.fromkeys(zip(left, right, strict=True)))
    differences = _differences(thread, op, pairs, bounds)
    if differences is None:
        return None
    which = [pairs.index(pair) for pair in zip(left, right, strict=True)]
    constants = thread.pack([thread.const(n) for n in bounds])
    return thread.emit(Compare(op.kind, thread.take(differences, which), constants))


def _differences(thread: Thread, op: Compare, pairs: list[tuple[int, int]], bounds: list[int]) -> Value | None:
    """Those of pairs of elements, as i32: where one may not fit, the nearest number beyond all bounds stands for it."""
    facts, count = [thread.facts.of(v) for v in (op.lhs, op.rhs)], len(set(bounds))
    range_ = Fact(facts[0].low - facts[1].high, facts[0].high - facts[1].low)
    fits = all(fact.fits(32) for fact in (*facts, range_))
    if count <= len(pairs) or not (fits or (range_.fits(64) and count >= WORTH_WIDE * len(pairs))):
        return None
    dtype = i32 if fits else i64
    values = (thread.widen(thread.value(v), dtype) for v in (op.lhs, op.rhs))
    x, y = (thread.pack([thread.extract(v, pair[side]) for pair in pairs]) for side, v in enumerate(values))
    difference = thread.emit(Binary("sub", x, y))
    if fits:
        return difference
    for kind, beyond in (("max", min(bounds) - 1), ("min", max(bounds) + 1)):
        difference = thread.emit(Binary(kind, difference, thread.const(beyond, i64, len(pairs))))
    return thread.widen(difference, i32)
