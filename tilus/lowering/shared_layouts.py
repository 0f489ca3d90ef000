"""Shared-memory layouts: for each allocation without one, the swizzle under which its accesses conflict least."""

from __future__ import annotations

import math
from dataclasses import replace

from tilus.ir.core import Function, Operation, Value
from tilus.ir.families import AsyncCopy
from tilus.ir.ops import (
    AllocShared,
    CopyAsync,
    Dot,
    GatherAsync,
    Load,
    PermuteView,
    Store,
    Subview,
    Transpose,
)
from tilus.ir.ops.groups import Warps, executing_warps
from tilus.ir.rewriter import find_users
from tilus.ir.types import TileType, ViewType
from tilus.layouts import RegisterLayout, blocked
from tilus.layouts.banks import Access, access_of, choose_swizzle, wavefronts
from tilus.layouts.mma import ldmatrix_plan
from tilus.layouts.shared import SharedLayout, row_major, strided_order
from tilus.lowering.dots import Place, unit_of
from tilus.lowering.facts import Facts
from tilus.lowering.simt.access import contiguous_order, gathered_vector, vector_width
from tilus.lowering.simt.bits import is_narrow
from tilus.targets import Feature, Target


def choose_shared_layouts(function: Function, facts: Facts, target: Target, warps: int) -> None:
    """Give every shared allocation a layout, in place."""
    allocations = [op for op in function.walk() if isinstance(op, AllocShared) and op.layout is None]
    for op in allocations:
        if op.dtype.bits < 8 or is_narrow(op.dtype):  # bool is held in bytes
            layout = row_major(*op.shape)
        else:
            layout = _choose(op, _Accesses(function, facts, target, warps).of(op))
        op.results[0].type = replace(op.result.view, layout=layout)


def conflicts(op: AllocShared, function: Function, facts: Facts, target: Target) -> float:
    """How many passes the accesses to an allocation take for each that they need, in the mean, in the layout that the
    user has given it; 1 where the compiler chooses."""
    layout, ratios = op.layout, []
    if layout is None or is_narrow(op.dtype):
        return 1.0
    for dims, access in _Accesses(function, facts, target, function.attributes.warps).of(op):
        if access is not None:
            part = SharedLayout([layout.shape[d] for d in dims], [layout.modes[d] for d in dims], layout.swizzle)
            taken, least = wavefronts(part, access, op.dtype.bits)
            ratios.append(taken / max(1, least))
    return sum(ratios) / len(ratios) if ratios else 1.0


def _choose(op: AllocShared, found: list[tuple[tuple[int, ...], Access | None]]) -> SharedLayout:
    """Accesses that leave out leading dimensions (slots of a ring) decide the layout of one slot."""
    rank = len(op.shape)
    if any(access is None for _, access in found):
        return _linear(op)
    ranks = {len(dims) for dims, _ in found}
    inner = ranks.pop() if len(ranks) == 1 else rank
    kept = tuple(range(rank - inner, rank))
    if any(dims != kept for dims, _ in found) or not inner:
        return row_major(*op.shape)
    shape = op.shape[rank - inner :]
    given = [a for _, a in found if a is not None]
    accesses = [a for a in given if all(x <= y for x, y in zip(a.layout.shape, shape, strict=True))]
    layout = choose_swizzle(shape, op.dtype.bits, accesses) if accesses else row_major(*shape)
    for extent in reversed(op.shape[: rank - inner]):
        layout = layout.buffers(extent, max(1, 128 * 8 // op.dtype.bits))
    return layout


def _linear(op: AllocShared) -> SharedLayout:
    """Rows apart by an odd number of 16 bytes and no swizzle: multiply-adds walk along a dimension in a loop."""
    rank = len(op.shape)
    if rank < 2:
        return row_major(*op.shape)
    inner = op.shape[-2:]
    pad = max(1, 128 // op.dtype.bits)
    layout = strided_order(inner, (1, 0), pad)
    for extent in reversed(op.shape[:-2]):
        layout = layout.buffers(extent, max(1, 128 * 8 // op.dtype.bits))
    return layout


class _Accesses:
    """The accesses to an allocation, each with the allocation's dimensions that its own stand for."""

    def __init__(self, function: Function, facts: Facts, target: Target, warps: int) -> None:
        self.function, self.facts, self.target, self.warps = function, facts, target, warps
        self.users = find_users(function)

    def of(self, allocation: AllocShared) -> list[tuple[tuple[int, ...], Access | None]]:
        dims: dict[Value, tuple[int, ...]] = {allocation.result: tuple(range(len(allocation.shape)))}
        found: list[tuple[tuple[int, ...], Access | None]] = []
        seen: set[object] = set()
        self._visit(self.function.body.ops, dims, found, seen, allocation.dtype.bits, (0, self.warps))
        return found

    def _visit(self, ops: list[Operation], dims: dict[Value, tuple[int, ...]],
               found: list[tuple[tuple[int, ...], Access | None]], seen: set[object], bits: int, warps: Warps) -> None:
        for op in ops:
            if isinstance(op, Subview) and op.view in dims:
                dims[op.result] = tuple(d for i, d in enumerate(dims[op.view]) if i not in op.dropped)
            elif isinstance(op, PermuteView) and op.view in dims:
                dims[op.result] = tuple(dims[op.view][p] for p in op.permutation)
            elif isinstance(op, (Load, Store, CopyAsync, GatherAsync)):
                self._access(op, dims, found, seen, bits, warps[1])
            for region, executing in executing_warps(op, warps):
                self._visit(region.ops, dims, found, seen, bits, executing)

    def _access(self, op: Load | Store | CopyAsync | GatherAsync, dims: dict[Value, tuple[int, ...]],
                found: list[tuple[tuple[int, ...], Access | None]], seen: set[object], bits: int, warps: int) -> None:
        view = op.destination if isinstance(op, AsyncCopy) else op.view
        if view not in dims:
            return
        mine = dims[view]
        order = tuple(sorted(range(len(mine)), key=lambda i: mine[i]))
        access: Access | None
        if isinstance(op, Load) and self._is_read_in_place(op.result):
            found.append((dims[view], None))
            return
        if isinstance(op, CopyAsync):
            access = self._copy(op, warps)
        elif isinstance(op, GatherAsync):
            along, width = gathered_vector(self.facts, op)
            layout = op.indices[0].tile.layout
            assert layout is not None
            access = Access(layout, math.gcd(width, layout.vector_width(along)), along)
        else:
            tile = (op.result if isinstance(op, Load) else op.value).tile
            if not tile.shape or tile.layout is None:
                return
            access = self._matrix(op, tile.layout, bits) or access_of(tile.layout, bits, order[-1])
        if order != tuple(range(len(mine))):
            access = Access(access.layout.permute(order), access.vector, order.index(access.dim))
        key = (tuple(sorted(mine)), access)
        if key not in seen:
            seen.add(key)
            found.append(key)

    def _is_read_in_place(self, value: Value) -> bool:
        for user in self.users.get(value, ()):
            if isinstance(user, Dot):
                return unit_of(user).place is Place.SHARED
            if isinstance(user, Transpose) and self._is_read_in_place(user.result):
                return True
        return False

    def _copy(self, op: CopyAsync, warps: int) -> Access:
        view = op.destination.type
        assert isinstance(view, ViewType)
        shape = tuple(int(d or 1) for d in view.shape)
        order = contiguous_order(self.facts, op.source, len(shape))
        width = vector_width(self.facts, op, order[0], TileType(view.dtype, shape))
        return Access(blocked(shape, warps * self.target.warp_size, width, order), width, order[0])

    def _matrix(self, op: Load | Store, layout: RegisterLayout, bits: int) -> Access | None:
        instruction = Feature.LDMATRIX if isinstance(op, Load) else Feature.STMATRIX
        if not self.target.has(instruction) or bits not in (8, 16, 32):
            return None
        if op.mask is not None or (isinstance(op, Store) and layout.is_replicated):
            return None
        plan = ldmatrix_plan(layout, bits, 1)
        return None if plan is None else plan.access

