"""Barriers that keep global memory in program order within a block.

The threads of a block run ahead of each other, so an element that one thread writes and another one reads or writes
needs a barrier in between. Of two accesses to one array, at least one a write, none is needed where

* every element is accessed by the same thread both times: the same tile of the array in the same layout, or
* the two tiles cannot meet: their offsets along a dimension differ by at least the tile's extent, also between the
  iterations of a loop.

Groups of one operation run side by side: the user orders what they do. Between a group and what follows its operation
the barrier is the whole block's.

Offsets are compared as linear forms (forms.py). Shared memory that the user named is not ordered for him.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.ops import (
    Atomic,
    For,
    Groups,
    If,
    Load,
    PermuteView,
    Scatter,
    Store,
    Subview,
    Sync,
    WaitUntil,
    While,
)
from tilus.ir.ops.groups import Warps, executing_warps
from tilus.ir.types import ViewType
from tilus.layouts import RegisterLayout
from tilus.lowering.forms import Form, Window, form_of, root_of, window_of
from tilus.records import record


def order_memory(module: Module) -> None:
    """Insert the barriers that program order of global memory needs. Layouts must have been chosen."""
    for function in module.kernels:
        _Order(function).run()


def unordered_arrays(function: Function) -> tuple[str, ...]:
    """The array parameters whose accesses need no order among threads: read only, or written once.

    Compilers of C and LLVM move accesses by way of a pointer that is `restrict` across barriers, so that only these
    arrays have such pointers.
    """
    order = _Order(function)
    return tuple(p.name for value, p in zip(function.body.args, function.parameters, strict=True)
                 if isinstance(value.type, ViewType) and value not in order.roots and value not in order.one_root)


ONE_THREAD = "one thread"
Owner = tuple[RegisterLayout, tuple[int, ...]] | str | None


@record(frozen=True)
class _Access:
    """An access to an array since the last barrier.

    ``window`` gives per dimension of the array the first index and the extent, None where the indices are run-time
    tiles. ``owner`` says which thread has which element: a layout and the array's axes of its dimensions,
    ``ONE_THREAD`` for what the first thread does alone, None where an element is accessed by several threads.
    ``iterations`` are the loops of which an earlier iteration made the access; ``unknown`` are values of ``window``
    that have changed since then.
    """

    root: Value
    kind: str
    window: Window | None
    owner: Owner
    group: Warps | None
    iterations: tuple[For | While, ...] = ()
    unknown: frozenset[Value] = frozenset()


class _Order:
    def __init__(self, function: Function) -> None:
        self.function = function
        names = set(function.attributes.may_alias)
        aliased = [v for v, p in zip(function.body.args, function.parameters, strict=True) if p.name in names]
        self.one_root = dict.fromkeys(aliased, aliased[0]) if aliased else {}
        self.group: Warps | None = None
        self.roots = self._hazardous()

    def run(self) -> None:
        if self.roots:
            self._block(self.function.body, [])

    def _hazardous(self) -> set[Value]:
        """Arrays that are written and accessed otherwise too, or written in a loop or twice."""
        found: set[Value] = set()
        seen: set[Value] = set()
        written: set[Value] = set()

        def visit(block: Block, looped: bool) -> None:
            for op in block.ops:
                for access in self._accesses(op):
                    if access.root in seen or looped:
                        found.add(access.root)
                    seen.add(access.root)
                    if access.kind != "read":
                        written.add(access.root)
                for region in op.regions:
                    visit(region, looped or isinstance(op, (For, While)))

        self.roots = set()
        visit(self.function.body, False)
        return found & written

    # -- the walk

    def _block(self, block: Block, pending: list[_Access]) -> list[_Access]:
        """Insert barriers into a block that is entered with ``pending`` accesses; gives those it is left with."""
        ops: list[Operation] = []
        for op in block.ops:
            if isinstance(op, Sync):
                pending = self._after_barrier(pending)
            mine = self._hazardous_accesses(op)
            if self._needs_barrier(op, mine, pending):
                ops.append(Sync(span=op.span))
                pending = self._after_barrier(pending)
            pending = pending + mine
            if op.regions:
                pending = self._regions(op, pending)
            if isinstance(op, WaitUntil):
                pending = self._after_barrier(pending)
            ops.append(op)
        block.ops = ops
        return pending

    def _hazardous_accesses(self, op: Operation) -> list[_Access]:
        return [a for a in self._accesses(op) if a.root in self.roots]

    def _needs_barrier(self, op: Operation, mine: list[_Access], pending: list[_Access]) -> bool:
        """Whether what an operation does itself, or groups that begin with it, meets what others have done."""
        if isinstance(op, Groups):
            return any(self._meet(old, replace(new, group=warps))
                       for body, warps in executing_warps(op, None) for inner in body.walk()
                       for new in self._hazardous_accesses(inner) for old in pending if old.group != warps)
        # What other threads did before a group began was ordered then.
        return any(self._meet(old, new) for old in pending if self.group in (None, old.group) for new in mine)

    def _after_barrier(self, pending: list[_Access]) -> list[_Access]:
        """A group's barrier orders its own accesses only."""
        return [] if self.group is None else [a for a in pending if a.group != self.group]

    def _regions(self, op: Operation, pending: list[_Access]) -> list[_Access]:
        if isinstance(op, (For, While)):
            return self._loop(op, pending)
        if isinstance(op, Groups):
            return self._groups(op, pending)
        merged: list[_Access] = []
        for region in op.regions:
            merged += self._block(region, list(pending))
        return _leave(op, merged if isinstance(op, If) else pending + merged)

    def _groups(self, op: Groups, pending: list[_Access]) -> list[_Access]:
        for body, warps in executing_warps(op, None):
            self.group = warps
            pending = self._block(body, pending)
        self.group = None
        return _leave(op, pending)

    def _loop(self, op: For | While, pending: list[_Access]) -> list[_Access]:
        """Barriers are only ever added, so that what is left after a first walk covers what later walks leave."""
        bodies = [op.body] if isinstance(op, For) else [op.before, op.body]
        after = list(pending)
        for body in bodies:
            after = self._block(body, after)
        before = {id(a) for a in pending}
        carried = [a if id(a) in before else replace(a, iterations=(*a.iterations, op)) for a in after]
        again = _unique([*pending, *carried])
        for body in bodies:
            again = self._block(body, again)
        return _leave(op, _unique([*pending, *again]))

    # -- accesses

    def _accesses(self, op: Operation) -> list[_Access]:
        found = []
        for effect in op.effects():
            if effect.space != "global" or effect.value is None or effect.kind not in ("read", "write", "atomic"):
                continue
            root = root_of(effect.value)
            window = None if root in self.one_root else window_of(op, effect.value)
            found.append(_Access(self.one_root.get(root, root), effect.kind, window, owner_of(op), self.group))
        return found

    # -- whether two accesses need a barrier in between

    def _meet(self, old: _Access, new: _Access) -> bool:
        if old.root is not new.root or old.kind == new.kind == "read" or old.kind == new.kind == "atomic":
            return False
        owned = old.owner is not None and old.owner == new.owner and old.group == new.group
        if owned and old.owner == ONE_THREAD:
            return False
        if old.window is None or new.window is None:
            return True
        same = owned
        for (first, extent), (second, width) in zip(old.window, new.window, strict=True):
            difference = self._difference(old, first, second)
            if difference is None:
                same = False
                continue
            distance, step = difference
            nearest = distance + step
            if (step >= 0 and nearest >= extent) or (step <= 0 and -nearest >= width):
                return False
            same = same and distance == 0 and step == 0 and extent == width
        return not same

    def _difference(self, old: _Access, first: Form, second: Form) -> tuple[int, int] | None:
        """How far ``second`` is past ``first``: a distance, and what each later iteration adds to it."""
        if any(v in old.unknown for v in first.values()):
            return None
        if not old.iterations:
            gap = second.plus(first, -1)
            return None if gap.terms else (gap.constant, 0)
        if len(old.iterations) > 1 or not isinstance(old.iterations[0], For):
            return None
        loop = old.iterations[0]
        inside = {v for inner in loop.body.walk() for v in inner.results} | set(loop.carried)
        for inner in loop.body.walk():
            inside |= {a for region in inner.regions for a in region.args}
        step = form_of(loop.step)
        varying = inside | {loop.index}
        if step.terms or any(v in varying for form in (first, second) for atom, _ in form.terms
                             if atom is not loop.index for v in Form.atom(atom).values()):
            return None
        per_index = dict(first.terms).get(loop.index, 0)
        if per_index != dict(second.terms).get(loop.index, 0):
            return None
        gap = second.plus(first, -1)
        return None if gap.terms else (gap.constant, per_index * step.constant)


def _leave(op: Operation, accesses: Iterable[_Access]) -> list[_Access]:
    """Accesses that come out of a region: what is defined in it varies and cannot be compared any more."""
    inside = {v for inner in op.walk() for region in inner.regions for v in region.args}
    inside |= {r for region in op.regions for inner in region.walk() for r in inner.results}
    left = []
    for access in accesses:
        used = {v for form, _ in access.window or () for v in form.values()} & inside
        loops = tuple(loop for loop in access.iterations if loop is not op)
        left.append(replace(access, unknown=access.unknown | used, iterations=loops) if used or
                    loops != access.iterations else access)
    return _unique(left)


def _unique(accesses: Iterable[_Access]) -> list[_Access]:
    return list(dict.fromkeys(accesses))


def _axes(view: Value) -> tuple[int, ...]:
    """Which axis of the whole array each dimension of a view is."""
    maker = view.defining
    if isinstance(maker, Subview):
        return tuple(axis for d, axis in enumerate(_axes(maker.view)) if d not in maker.dropped)
    if isinstance(maker, PermuteView):
        inner = _axes(maker.view)
        return tuple(inner[p] for p in maker.permutation)
    return tuple(range(view.view.rank))


def owner_of(op: Operation) -> Owner:
    """Which thread accesses an element."""
    if isinstance(op, (Store, Scatter, Atomic)) and op.value.tile.is_scalar:
        return ONE_THREAD
    value = op.result if isinstance(op, Load) else op.value if isinstance(op, Store) else None
    layout = value.tile.layout if value is not None else None
    return None if layout is None or layout.is_replicated else (layout, _axes(op.view))  # type: ignore[attr-defined]
