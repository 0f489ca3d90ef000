"""How indices and masks go along a dimension of their tile: in steps of one, or constant over runs of neighbours.

``columns < N`` with N a multiple of 8 holds for all of 8 aligned neighbours or for none: one comparison does for them,
and an access under such a mask may be a vector.
"""

from __future__ import annotations

import math

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
    if left[0] == right[0] == 0:
        return ALWAYS
    # first + t < bound for t = 0 … n - 1 is the same question n times where both are multiples of n
    if (left[0], right[0], op.kind) not in ((1, 0, "lt"), (1, 0, "ge"), (0, 1, "gt"), (0, 1, "le")):
        return 1
    divisor = math.gcd(left[1], right[1])
    return min(divisor & -divisor, ALWAYS) if divisor else ALWAYS


def affine(facts: Facts, value: Value, dim: int) -> tuple[int, int] | None:
    """An integer as ``coefficient · index along dim + rest``, where the rest does not vary along ``dim`` and is a
    multiple of the second number (0: it is 0); None where it is not of this form."""
    op, tile = value.defining, value.tile
    if not tile.shape or tile.shape[dim] == 1:
        return 0, facts.of(value).divisor
    if isinstance(op, ConvertLayout):
        return affine(facts, op.x, dim)
    if isinstance(op, Const):
        return 0, abs(int(op.value))
    if isinstance(op, Iota):
        return (1, 0) if op.axis == dim else (0, 1)
    if isinstance(op, Cast) and op.x.tile.dtype.is_int and op.x.tile.dtype.bits <= op.dtype.bits:
        return affine(facts, op.x, dim)
    if isinstance(op, Broadcast):
        return (0, facts.of(op.x).divisor) if op.x.tile.is_scalar else affine(facts, op.x, dim)
    if isinstance(op, Reshape):
        source = _same_dim(op, dim)
        return None if source is None else affine(facts, op.x, source)
    if isinstance(op, Binary) and op.kind in ("add", "sub", "mul"):
        left, right = affine(facts, op.lhs, dim), affine(facts, op.rhs, dim)
        if left is None or right is None:
            return None
        if op.kind == "mul":
            return (0, left[1] * right[1]) if left[0] == right[0] == 0 else None
        return (left[0] + right[0] if op.kind == "add" else left[0] - right[0]), math.gcd(left[1], right[1])
    return None


def _same_dim(op: Reshape, dim: int) -> int | None:
    """The operand's dimension that a reshape which only adds or drops extents of 1 makes ``dim``."""
    old = [d for d, n in enumerate(op.x.tile.shape) if n != 1]
    new = [d for d, n in enumerate(op.result.tile.shape) if n != 1]
    if [op.x.tile.shape[d] for d in old] != [op.result.tile.shape[d] for d in new] or dim not in new:
        return None
    return old[new.index(dim)]
