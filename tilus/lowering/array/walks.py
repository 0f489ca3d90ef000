"""Which plans go over the same elements: what is computed for each, and what is reduced along one of their dimensions,
such as a normalised row with its mean. One kernel for both reads the elements once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from tilus.ir.core import Value
from tilus.ir.ops import Scan
from tilus.ir.ops.array import Deposit, Greatest, MergeRuns, PartialReduce, Sort
from tilus.ir.types import Extent, extents_of

if TYPE_CHECKING:
    from tilus.lowering.array.partition import KernelPlan

Walk: TypeAlias = tuple[list[Value], list[Value], tuple[int, ...]]
"""The values of one shape, those reduced along dimensions of it, and these dimensions."""
FEW = 16
"""Rows of which each is the work of one block."""
OF_THEIR_OWN = (Sort, MergeRuns, Greatest, PartialReduce, Deposit, Scan)
"""What has its own way of walking along its elements."""


def walk_of(kernel: KernelPlan, plan: KernelPlan, bounds: Mapping[str, int]) -> Walk | None:
    """How one kernel does the work of two that read some of the same memory; None where it takes two."""
    found = _walk_of(kernel, plan)
    return None if found is None or _are_few(found, bounds) else found


def _are_few(walk: Walk, bounds: Mapping[str, int]) -> bool:
    """Whether rows are long and not enough for all processors: what is computed for each element is for more blocks."""
    (root, *_), _, looped = walk
    at_most = [n if isinstance(n, int) else bounds.get(n) for n in extents_of(root.tile)]
    others = [n for d, n in enumerate(at_most) if d not in looped]
    return None in (at_most[d] for d in looped) and None not in others and math.prod(n or 0 for n in others) <= FEW


def _walk_of(kernel: KernelPlan, plan: KernelPlan) -> Walk | None:
    if kernel.product is not None or plan.product is not None or not kernel.reads & plan.reads:
        return None
    if any(isinstance(root.defining, OF_THEIR_OWN) for root in (*kernel.written, *plan.written)):
        return None
    if _extents(kernel) == _extents(plan):
        return _side_by_side(kernel, plan)
    return _reduced(kernel, plan) or _reduced(plan, kernel)


def _side_by_side(kernel: KernelPlan, plan: KernelPlan) -> Walk | None:
    """One of them goes along rows, and the other one is elementwise, so that it can."""
    looped = kernel.looped or plan.looped
    if not looped or any(k.looped != looped and k.heavy for k in (kernel, plan)):
        return None
    if any(k.looped not in ((), looped) for k in (kernel, plan)):
        return None
    return kernel.roots + plan.roots, kernel.reduced + plan.reduced, looped


def _reduced(over: KernelPlan, under: KernelPlan) -> Walk | None:
    """``under`` writes what is reduced along one dimension of what ``over`` writes."""
    extents, dims = _extents(over), {op.axis for op in under.reduces}
    if len(dims) != 1 or under.looped or under.reduced or any(extents_of(op.x.tile) != extents for op in under.reduces):
        return None
    (dim,) = dims
    if over.looped not in ((), (dim,)) or (not over.looped and over.heavy):
        return None
    left = [n for d, n in enumerate(extents) if d != dim and n != 1]
    if any([n for n in extents_of(root.tile) if n != 1] != left for root in under.roots):
        return None
    return over.roots, over.reduced + under.roots, (dim,)


def _extents(plan: KernelPlan) -> tuple[Extent, ...]:
    return extents_of(plan.roots[0].tile)


__all__ = ["walk_of"]
