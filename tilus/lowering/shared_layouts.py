"""Shared-memory layouts: for each allocation without one, the swizzle under which its accesses conflict least."""

from __future__ import annotations

import math
from collections.abc import Iterator
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
from tilus.layouts import RegisterLayout
from tilus.layouts.banks import Access, access_of, choose_swizzle, wavefronts
from tilus.layouts.mma import ldmatrix_plan
from tilus.layouts.shared import SharedLayout, row_major, strided_order
from tilus.lowering.dots import Place, unit_of
from tilus.lowering.facts import Facts
from tilus.lowering.simt.access import contiguous_order, copied_layout, gathered_vector
from tilus.lowering.simt.bits import is_narrow
from tilus.lowering.simt.plan_shared import allocation_bytes
from tilus.targets import Feature, Target

NIBBLE = 4
"""Bits of elements that fill no register, but of which ldmatrix loads as many as fill one."""


def choose_shared_layouts(function: Function, facts: Facts, target: Target, warps: int) -> None:
    """Give every shared allocation a layout, in place: without padding where all of them together then take more
    memory than there is."""
    allocations = [op for op in function.walk() if isinstance(op, AllocShared)]
    free: list[tuple[AllocShared, _Accesses]] = []
    for op in allocations:
        if op.layout is not None:
            continue
        if op.dtype.bits != NIBBLE and (op.dtype.bits < 8 or is_narrow(op.dtype)):  # bool is held in bytes
            op.results[0].type = replace(op.result.view, layout=row_major(*op.shape))
        else:
            free.append((op, _Accesses(function, facts, target, warps, op)))
    for compact in (False, True):
        for op, accesses in free:
            op.results[0].type = replace(op.result.view, layout=_choose(op, accesses, compact))
        if sum(map(allocation_bytes, allocations)) <= target.shared_per_block_optin:
            return


def conflicts(op: AllocShared, function: Function, facts: Facts, target: Target) -> float:
    """How many passes the accesses to an allocation take for each that they need, in the mean, in the layout that the
    user has given it; 1 where the compiler chooses."""
    layout, ratios = op.layout, []
    if layout is None or is_narrow(op.dtype):
        return 1.0
    for dims, access in _Accesses(function, facts, target, function.attributes.warps, op).found:
        if access is not None:
            part = SharedLayout([layout.shape[d] for d in dims], [layout.modes[d] for d in dims], layout.swizzle)
            taken, least = wavefronts(part, access, op.dtype.bits)
            ratios.append(taken / max(1, least))
    return sum(ratios) / len(ratios) if ratios else 1.0


def _choose(op: AllocShared, accesses: _Accesses, compact: bool) -> SharedLayout:
    """Accesses that leave out leading dimensions (slots of a ring) decide the layout of one slot; its fastest dimension
    is that along which copies move vectors."""
    rank, found = len(op.shape), accesses.found
    if any(access is None for _, access in found):
        return _linear(op, accesses.fastest)
    ranks = {len(dims) for dims, _ in found}
    inner = ranks.pop() if len(ranks) == 1 else rank
    kept = tuple(range(rank - inner, rank))
    if any(dims != kept for dims, _ in found) or not inner:
        return row_major(*op.shape)
    shape = op.shape[rank - inner :]
    given = [a for _, a in found if a is not None]
    fitting = [a for a in given if all(x <= y for x, y in zip(a.layout.shape, shape, strict=True))]
    fastest = accesses.fastest - (rank - inner)
    order = (fastest, *(d for d in reversed(range(inner)) if d != fastest))
    layout = row_major(*shape)
    if fitting:
        layout = choose_swizzle(shape, op.dtype.bits, fitting, order, compact=compact)
    for extent in reversed(op.shape[: rank - inner]):
        layout = layout.buffers(extent, max(1, 128 * 8 // op.dtype.bits))
    return layout


def _linear(op: AllocShared, fastest: int) -> SharedLayout:
    """Rows apart by an odd number of 16 bytes and no swizzle: multiply-adds walk along a dimension in a loop."""
    rank = len(op.shape)
    if rank < 2:
        return row_major(*op.shape)
    inner = op.shape[-2:]
    pad = max(1, 128 // op.dtype.bits)
    layout = strided_order(inner, (0, 1) if fastest == rank - 2 else (1, 0), pad)
    for extent in reversed(op.shape[:-2]):
        layout = layout.buffers(extent, max(1, 128 * 8 // op.dtype.bits))
    return layout


class _Accesses:
    """The accesses to an allocation.

    Attributes:
        found: each with the allocation's dimensions that its own stand for; None where an operand is read in place.
        fastest: the dimension that is contiguous: along which asynchronous copies move vectors, else the last one.
    """

    def __init__(self, function: Function, facts: Facts, target: Target, warps: int, allocation: AllocShared) -> None:
        self.facts, self.target, self.bits = facts, target, allocation.dtype.bits
        self.users = find_users(function)
        self.found: list[tuple[tuple[int, ...], Access | None]] = []
        self.fastest = len(allocation.shape) - 1
        self._seen: set[object] = set()
        self._dims = {allocation.result: tuple(range(len(allocation.shape)))}
        ops = list(self._users_of(function.body.ops, (0, warps)))
        copies = [self._fastest_of(op, count) for op, count in ops if isinstance(op, AsyncCopy)]
        self.fastest = next((d for d in copies if d is not None), self.fastest)
        for op, count in ops:
            self._access(op, count)

    def _users_of(self, ops: list[Operation], warps: Warps
                  ) -> Iterator[tuple[Load | Store | CopyAsync | GatherAsync, int]]:
        """The accesses through the allocation's views, each with how many warps execute it."""
        dims = self._dims
        for op in ops:
            if isinstance(op, Subview) and op.view in dims:
                dims[op.result] = tuple(d for i, d in enumerate(dims[op.view]) if i not in op.dropped)
            elif isinstance(op, PermuteView) and op.view in dims:
                dims[op.result] = tuple(dims[op.view][p] for p in op.permutation)
            elif isinstance(op, (Load, Store, CopyAsync, GatherAsync)) and _shared_view(op) in dims:
                yield op, warps[1]
            for region, executing in executing_warps(op, warps):
                yield from self._users_of(region.ops, executing)

    def _fastest_of(self, op: Operation, warps: int) -> int | None:
        """The allocation's dimension along which a copy moves more than an element; None where it does not."""
        assert isinstance(op, (CopyAsync, GatherAsync))
        access = self._copy(op, warps) if isinstance(op, CopyAsync) else self._gather(op)
        return self._dims[op.destination][access.dim] if access.vector > 1 else None

    def _access(self, op: Load | Store | CopyAsync | GatherAsync, warps: int) -> None:
        mine = self._dims[_shared_view(op)]
        order = tuple(sorted(range(len(mine)), key=lambda i: mine[i]))
        access: Access | None
        if isinstance(op, Load) and self._is_read_in_place(op.result):
            self.found.append((mine, None))
            return
        if isinstance(op, (CopyAsync, GatherAsync)):
            access = self._copy(op, warps) if isinstance(op, CopyAsync) else self._gather(op)
            if mine[access.dim] != self.fastest:
                access = Access(access.layout, 1, access.dim)
        else:
            tile = (op.result if isinstance(op, Load) else op.value).tile
            if not tile.shape or tile.layout is None:
                return
            fastest = mine.index(self.fastest) if self.fastest in mine else order[-1]
            access = self._matrix(op, tile.layout, fastest) or access_of(tile.layout, self.bits, fastest)
        if order != tuple(range(len(mine))):
            access = Access(access.layout.permute(order), access.vector, order.index(access.dim))
        key = (tuple(sorted(mine)), access)
        if key not in self._seen:
            self._seen.add(key)
            self.found.append(key)

    def _is_read_in_place(self, value: Value) -> bool:
        for user in self.users.get(value, ()):
            if isinstance(user, Dot):
                return unit_of(user).place is Place.SHARED
            if isinstance(user, Transpose) and self._is_read_in_place(user.result):
                return True
        return False

    def _copy(self, op: CopyAsync, warps: int) -> Access:
        layout, width = copied_layout(self.facts, op, warps * self.target.warp_size, self.target)
        return Access(layout, width, contiguous_order(self.facts, op.source, layout.rank)[0])

    def _gather(self, op: GatherAsync) -> Access:
        along, width = gathered_vector(self.facts, op)
        layout = op.indices[0].tile.layout
        assert layout is not None
        return Access(layout, math.gcd(width, layout.vector_width(along)), along)

    def _matrix(self, op: Load | Store, layout: RegisterLayout, fastest: int) -> Access | None:
        instruction = Feature.LDMATRIX if isinstance(op, Load) else Feature.STMATRIX
        if not self.target.has(instruction) or self.bits not in (NIBBLE, 8, 16, 32):
            return None
        if op.mask is not None or (isinstance(op, Store) and layout.is_replicated):
            return None
        plan = ldmatrix_plan(layout, self.bits, fastest)
        return None if plan is None else plan.access


def _shared_view(op: Load | Store | CopyAsync | GatherAsync) -> Value:
    """The view of shared memory that an operation reads or writes, if it is one of shared memory."""
    return op.destination if isinstance(op, (CopyAsync, GatherAsync)) else op.view

