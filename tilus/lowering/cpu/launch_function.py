"""Native code for a launch function: the scalars in it, from packed arguments on.

What a launch is and where workspaces come from is for those who derive from :class:`LaunchFunction`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilus.diagnostics import Diagnostic, Label
from tilus.ir.core import Block, Function, Value
from tilus.ir.ops import (
    Const,
    DeviceAssert,
    Dim,
    Launch,
    PtrAdd,
    PtrCast,
    PtrLoad,
    PtrStore,
    ResidentBlocks,
    ShapedView,
    Stride,
    Workspace,
    Yield,
)
from tilus.ir.types import ViewType
from tilus.lowering.cpu.emit import Cursor
from tilus.lowering.cpu.values import Number
from tilus.targets.grid import MAX_BLOCKS, too_many_blocks


class LaunchFunction:
    """The body of a native function whose first argument points to packed arguments.

    Attributes:
        words: of each array its address, extents and strides; ``values`` the scalars.
        status: 0, or the number of the first check that failed: its place in ``checks`` plus one.
    """

    def __init__(self, launch: Function, body: Block, checks: list[Diagnostic]) -> None:
        self.launch, self.body, self.checks = launch, body, checks
        self.c = Cursor(body)
        self.values: dict[Value, Value] = {}
        self.words: dict[Value, list[Number]] = {}
        self.status: Value = self.c.const(0)

    def start(self, op: Launch) -> None:
        """A kernel is launched."""
        raise NotImplementedError

    def workspace(self, op: Workspace) -> None:
        """Words for a workspace."""
        raise NotImplementedError

    def resident(self) -> Value:
        """How many blocks run at once, an i32."""
        raise NotImplementedError

    def evaluate(self) -> None:
        """The operations of the launch function, in order."""
        self._bind()
        for op in self.launch.body.ops:
            if isinstance(op, Yield):
                break
            if isinstance(op, Launch):
                self.start(op)
            elif isinstance(op, Workspace):
                self.workspace(op)
            elif isinstance(op, DeviceAssert):
                self.require(self.values[op.condition], failed_assertion(op))
            elif isinstance(op, ShapedView):
                extents = [self.values[e] for e in op.extents]
                self.words[op.result] = [self.words[op.view][0], *extents, *self.contiguous(extents)[0]]
            elif isinstance(op, Dim):
                self.values[op.result] = self.c.value(self.words[op.view][1 + op.axis])
            elif isinstance(op, Stride):
                self.values[op.result] = self.c.value(self.words[op.view][1 + op.view.view.rank + op.axis])
            elif isinstance(op, Const):
                self.values[op.result] = self.c.const(op.value, op.dtype)
            elif isinstance(op, ResidentBlocks):
                self.values[op.result] = self.resident()
            else:
                self.values[op.result] = self.c.b.add(op.on([self.values[v] for v in op.operands])).result

    def _bind(self) -> None:
        c, packed, slot = self.c, self.body.args[0], 0
        for value in self.launch.body.args:
            if isinstance(value.type, ViewType):
                count = 1 + 2 * value.type.rank
                words: list[Number] = [c.b.add(PtrLoad(c.offset(packed, slot + i))).result for i in range(count)]
                for d, n in enumerate(value.type.shape):
                    if n is not None:
                        words[1 + d] = n
                self.words[value] = words
                slot += count
            else:
                pointer = c.b.add(PtrCast(c.offset(packed, slot), value.tile.dtype)).result
                self.values[value] = c.b.add(PtrLoad(pointer)).result
                slot += 1

    def contiguous(self, extents: Sequence[Number]) -> tuple[list[Number], Number]:
        """The strides of a contiguous array, and how many elements it has."""
        strides: list[Number] = []
        size: Number = 1
        for extent in reversed(extents):
            strides.insert(0, size)
            size = self.c.mul(size, extent)
        return strides, size

    def grid(self, op: Launch) -> tuple[list[Number], Number]:
        """Three extents, and how many blocks there are, of which a launch may not have too many."""
        c = self.c
        grid: list[Number] = [self.values[g] for g in op.grid]
        grid += [1] * (3 - len(grid))
        total: Number = 1
        for extent in grid:  # clamped, so that no product overflows
            total = c.mul(c.min(total, MAX_BLOCKS + 1), c.min(c.max(extent, 0), MAX_BLOCKS + 1))
        self.require(c.compare("le", total, MAX_BLOCKS), too_many_blocks(op.span))
        return grid, total

    def require(self, holds: Value, otherwise: Diagnostic) -> None:
        """A check: what is said unless a condition holds."""
        self.checks.append(otherwise)
        failed = self.c.select(holds, 0, len(self.checks))
        self.status = self.c.select(self.c.compare("eq", self.status, 0), failed, self.status)

    def store(self, pointer: Value, index: int, value: Value) -> None:
        """A scalar becomes a word."""
        at = self.c.b.add(PtrAdd(pointer, None, index)).result
        self.c.b.add(PtrStore(self.c.as_pointer(at, value.tile.dtype), value))


def failed_assertion(op: DeviceAssert) -> Diagnostic:
    """What is said where it fails."""
    labels = (Label(op.span),) if op.span.known else ()
    return Diagnostic("E0704", op.message or "device assertion failed", labels)


__all__ = ["LaunchFunction", "failed_assertion"]
