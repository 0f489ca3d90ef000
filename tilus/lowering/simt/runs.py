"""How indices and masks go along a dimension of their tile: in steps of one, or constant over runs of neighbours.

``columns < N`` with N a multiple of 8 holds for all of 8 aligned neighbours or for none: one comparison does for them,
and an access under such a mask may be a vector.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from tilus.ir.core import Value
from tilus.ir.ops import Binary, Broadcast, Cast, Compare, Const, ConvertLayout, Iota, Reshape, Unary
from tilus.lowering.facts import Facts

ALWAYS = 1 << 30
"""The run of what does not vary along a dimension."""


def mask_run(facts: Facts, mask: Value, dim: int) -> int:
    """The mask is constant over aligned runs of this many elements along ``dim``: a power of two, at least 1."""
    if not mask.tile.shape or mask.tile.shape[dim] == 1:
        return ALWAYS
    op = mask.defining
    if isinstance(op, ConvertLayout):
        return mask_run(facts, op.x, dim)
    if isinstance(op, Const):
        return ALWAYS
    if isinstance(op, Compare):
        return _comparison_run(facts, op, dim)
    if isinstance(op, Binary) and op.kind in ("and", "or", "xor"):
        return min(mask_run(facts, op.lhs, dim), mask_run(facts, op.rhs, dim))
    if isinstance(op, Unary) and op.kind == "not":
        return mask_run(facts, op.x, dim)
    if isinstance(op, Broadcast):
        return mask_run(facts, op.x, dim)
    if isinstance(op, Reshape):
        source = _same_dim(op, dim)
        return 1 if source is None else mask_run(facts, op.x, source)
    return 1


def _comparison_run(facts: Facts, op: Compare, dim: int) -> int:
    if not op.lhs.tile.dtype.is_int:
        return 1
    left, right = affine(facts, op.lhs, dim), affine(facts, op.rhs, dim)
    if left is None or right is None:
        return 1
    left, right = _in_runs(left, right)
    if left.step == right.step == 0:
        return left.run
    # first + t < bound for t = 0 … n - 1 is the same question n times where both are multiples of n
    if (left.step, right.step, op.kind) not in ((1, 0, "lt"), (1, 0, "ge"), (0, 1, "gt"), (0, 1, "le")):
        return 1
    divisor = math.gcd(left.divisor, right.divisor)
    return min(divisor & -divisor, left.run) if divisor else left.run


class Affine(NamedTuple):
    """An integer that goes by ``step`` along a dimension within aligned runs of ``run`` elements; at the beginning of a
    run it is a multiple of ``divisor`` (0: it is 0)."""

    step: int
    divisor: int
    run: int = ALWAYS

    def within(self, run: int) -> Affine:
        """The same in shorter runs."""
        return self if run == self.run else Affine(self.step, math.gcd(self.divisor, self.step * run), run)


def _in_runs(x: Affine, y: Affine) -> tuple[Affine, Affine]:
    """Both in runs that are runs of both."""
    run = min(x.run, y.run)
    return x.within(run), y.within(run)


def affine(facts: Facts, value: Value, dim: int) -> Affine | None:
    """How an integer goes along a dimension; None where that is not known."""
    op, tile = value.defining, value.tile
    if not tile.shape or tile.shape[dim] == 1:
        return Affine(0, facts.of(value).divisor)
    if isinstance(op, ConvertLayout):
        return affine(facts, op.x, dim)
    if isinstance(op, Const):
        return Affine(0, abs(int(op.value)))
    if isinstance(op, Iota):
        return Affine(1, 0) if op.axis == dim else Affine(0, 1)
    if isinstance(op, Cast) and op.x.tile.dtype.is_int and op.x.tile.dtype.bits <= op.dtype.bits:
        return affine(facts, op.x, dim)
    if isinstance(op, Broadcast):
        return Affine(0, facts.of(op.x).divisor) if op.x.tile.is_scalar else affine(facts, op.x, dim)
    if isinstance(op, Reshape):
        source = _same_dim(op, dim)
        return None if source is None else affine(facts, op.x, source)
    if isinstance(op, Binary):
        left, right = affine(facts, op.lhs, dim), affine(facts, op.rhs, dim)
        return None if left is None or right is None else _combined(facts, op, *_in_runs(left, right))
    return None


def _combined(facts: Facts, op: Binary, left: Affine, right: Affine) -> Affine | None:
    if op.kind in ("add", "sub"):
        step = left.step + right.step if op.kind == "add" else left.step - right.step
        return Affine(step, math.gcd(left.divisor, right.divisor), left.run)
    if left.step == right.step == 0:
        divisor = left.divisor * right.divisor if op.kind == "mul" else facts.of(op.result).divisor
        return Affine(0, divisor, left.run)
    if op.kind not in ("mod", "floordiv") or (left.step, right.step) != (1, 0) or facts.of(op.rhs).low < 0:
        return None
    # Multiples of the divisor lie at the beginnings of runs only; by 0 the remainder is the dividend, the quotient 0.
    divisor = math.gcd(left.divisor, right.divisor)
    run = min(divisor & -divisor, left.run) if divisor else left.run
    return Affine(1, run, run) if op.kind == "mod" else Affine(0, 1, run)


def _same_dim(op: Reshape, dim: int) -> int | None:
    """The operand's dimension that a reshape which only adds or drops extents of 1 makes ``dim``."""
    old = [d for d, n in enumerate(op.x.tile.shape) if n != 1]
    new = [d for d, n in enumerate(op.result.tile.shape) if n != 1]
    if [op.x.tile.shape[d] for d in old] != [op.result.tile.shape[d] for d in new] or dim not in new:
        return None
    return old[new.index(dim)]
