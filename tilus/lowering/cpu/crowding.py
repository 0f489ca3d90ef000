"""Whose atomics meet, and what that costs: by it a launch decides whether it had better have them alone.

Two cores that change the same lines of memory by turns take ten times as long for each change as one core that nobody
else disturbs, which needs no locked instructions. So a launch that does hardly anything else runs on one thread, and
where it does, and no other launch with atomics is in progress, without those (``runtime/cpu/atomics_ir.py``).
"""

from __future__ import annotations

from collections.abc import Callable

from tilus.ir.core import Function, Operation, Value
from tilus.ir.families import DerivedView
from tilus.ir.ops import Atomic, GridIndex, Print, While
from tilus.ir.types import TileType
from tilus.lowering.cpu.emit import Cursor
from tilus.lowering.cpu.values import Number
from tilus.lowering.cpu.work import LOCKED, LONE, is_own

CROWDED = 24
"""The work of an atomic on a line that another core has had last."""
FEW = 1 << 16
"""Elements of arrays in which cores that go by data often meet."""
DOMINANT = 32
"""The other work for an atomic with which it still matters how that is done."""


def may_be_plain(op: Atomic) -> bool:
    """Whether it needs no locked instruction where no other launch of this process has atomics."""
    return op.order == "relaxed" and op.scope != "system"


def is_shared(op: Operation) -> bool:
    """Whether other blocks may be at the memory of an atomic."""
    return isinstance(op, Atomic) and not is_own(op)


def ends_by_itself(kernel: Function) -> bool:
    """Whether a launch of it, which nothing in it waits in, ends whatever others do: loops may wait for what they read
    by atomics, and whoever prints calls Python."""
    return not any(isinstance(op, Print) or (isinstance(op, While) and any(is_shared(inner) for inner in op.walk()))
                   for op in kernel.walk())


class Crowd:
    """Counts the atomics of a kernel that may be plain, by whether they meet those of other blocks: on a few elements,
    at indices that are data or every block's.

    Args:
        c: where the code goes that this takes.
        elements: how many an array that is an argument of the kernel has; None where it is not known.
    """

    def __init__(self, c: Cursor, elements: Callable[[Value], Number | None]) -> None:
        self.c, self.elements = c, elements

    def meeting(self, op: Operation, inner: Number) -> Number:
        """Those of one operation that do; for :class:`tilus.lowering.cpu.work.Sum`."""
        if not isinstance(op, Atomic) or not _is_counted(op):
            return inner
        size = op.value.tile.size
        count = self.elements(_root(op.view)) if _meets(op) else None
        if count is None:
            return 0
        if isinstance(count, int):
            return size if count <= FEW else 0
        return self.c.select(self.c.compare("le", count, FEW), size, 0)

    def apart(self, op: Operation, inner: Number) -> Number:
        """Those that do not."""
        if not isinstance(op, Atomic) or not _is_counted(op):
            return inner
        return self.c.sub(op.value.tile.size, self.meeting(op, 0))


def dominates(c: Cursor, beside: Number, meeting: Number, apart: Number) -> Value:
    """Whether it matters how a block's atomics are done, given its work beside them."""
    return c.compare("le", beside, c.mul(c.add(meeting, apart), DOMINANT))


def is_better_alone(c: Cursor, threads: Number, beside: Number, meeting: Number, apart: Number) -> Value:
    """Whether one thread that has its atomics alone is faster than all, whose lines go from one to the other."""
    alone = c.add(beside, c.mul(c.add(meeting, apart), LONE))
    divided = c.add(beside, c.mul(apart, LOCKED))
    return c.compare("le", c.mul(alone, threads), c.add(divided, c.mul(c.mul(meeting, CROWDED), threads)))


def _is_counted(op: Atomic) -> bool:
    return is_shared(op) and may_be_plain(op)


def _root(view: Value) -> Value:
    """The array that a view is of."""
    while isinstance(view.owner, DerivedView):
        view = view.owner.view
    return view


def _meets(op: Atomic) -> bool:
    """Whether blocks that run at the same time may go to the same elements."""
    by_block = False
    seen: set[Value] = set()
    stack = [*op.indices, *_starts(op.view)]
    while stack:
        value = stack.pop()
        made = value.owner
        if value in seen:
            continue
        seen.add(value)
        if isinstance(made, GridIndex):
            by_block = True
        elif isinstance(made, Operation):
            if made.effects() or made.regions:
                return True
            stack += [o for o in made.operands if isinstance(o.type, TileType)]
    return not by_block


def _starts(view: Value) -> list[Value]:
    """What says where views of an array begin."""
    found: list[Value] = []
    while isinstance(view.owner, DerivedView):
        found += [o for o in view.owner.operands if isinstance(o.type, TileType)]
        view = view.owner.view
    return found


__all__ = ["Crowd", "dominates", "ends_by_itself", "is_better_alone", "is_shared", "may_be_plain"]
