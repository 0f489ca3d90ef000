"""Synchronisation, launch and debugging operations at tile level."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Effect, Operation, Value
from tilus.ir.dtypes import DType, i32, i64
from tilus.ir.ops.arith import COMPARE_KINDS
from tilus.ir.terms import BarrierMode, CompareKind, Scope
from tilus.ir.types import TileType, Type, ViewType


class GridIndex(Operation):
    """This block's index along an axis of the grid (i64), from 0 to the extent less one."""

    NAME = "grid_index"
    axis: int

    def infer(self) -> Sequence[Type]:
        return (TileType(i64),)


class GridSize(Operation):
    """The extent of the grid along an axis (i64)."""

    NAME = "grid_size"
    axis: int

    def infer(self) -> Sequence[Type]:
        return (TileType(i64),)


class Sync(Operation):
    """Barrier among the threads of the executing group (all of the block outside of a group); orders their accesses
    to shared and global memory."""

    NAME = "sync"

    def effects(self) -> Sequence[Effect]:
        return (Effect("sync"),)


class NamedBarrier(Operation):
    """``mode`` is ``"sync"`` (arrive and wait) or ``"arrive"`` on barrier ``id`` (1 to 15), complete when ``warps``
    warps have arrived."""

    NAME = "named_barrier"
    id: int
    warps: int
    mode: BarrierMode = "sync"

    def effects(self) -> Sequence[Effect]:
        return (Effect("sync"),)


class GridSync(Operation):
    """Barrier among all blocks of a cooperative launch; orders their accesses to global memory. Where the target's
    blocks have to count themselves, ``counter`` is an i32 of global memory, 0 at the launch."""

    NAME = "grid_sync"
    counter: Value | None = None

    def effects(self) -> Sequence[Effect]:
        return (Effect("sync", "global"),)


class WaitUntil(Operation):
    """Waits, with acquire semantics at ``scope``, until ``view[indices] KIND value`` holds for a scalar element."""

    NAME = "wait_until"
    kind: CompareKind
    view: Value
    indices: tuple[Value, ...]
    value: Value
    scope: Scope = "device"

    def infer(self) -> Sequence[Type]:
        if self.kind not in COMPARE_KINDS:
            self.fail("E0107", f"there is no comparison {self.kind!r}")
        if self.value.type != TileType(self.view.view.dtype):
            self.fail("E0201", f"waiting on {self.view.view.dtype} for a value of {self.value.type}")
        return ()

    def effects(self) -> Sequence[Effect]:
        return (Effect("atomic", self.view.view.space, self.view), Effect("sync"))


class Print(Operation):
    """Prints the values; ``format`` has ``{}`` where each goes."""

    NAME = "print"
    format: str
    values: tuple[Value, ...] = ()

    def effects(self) -> Sequence[Effect]:
        return (Effect("io"),)


class DeviceAssert(Operation):
    """Ends the kernel with an error where the bool (a scalar or a tile) does not hold."""

    NAME = "device_assert"
    condition: Value
    message: str

    def effects(self) -> Sequence[Effect]:
        return (Effect("io"),)


class Assume(Operation):
    """A promise that a scalar bool holds, for the index analysis."""

    NAME = "assume"
    condition: Value

    def effects(self) -> Sequence[Effect]:
        return (Effect("assume"),)


class ResidentBlocks(Operation):
    """How many blocks of the kernel the device runs at once (i32); the launch function only."""

    NAME = "resident_blocks"

    def infer(self) -> Sequence[Type]:
        return (TileType(i32),)


class Workspace(Operation):
    """Global scratch memory of a launch; zero-filled before it where ``zero``. The launch function only."""

    NAME = "workspace"
    extents: tuple[Value, ...]
    dtype: DType
    zero: bool = False

    def infer(self) -> Sequence[Type]:
        return (ViewType(self.dtype, (None,) * len(self.extents)),)

    def effects(self) -> Sequence[Effect]:
        return (Effect("alloc", "global"),)


class ShapedView(Operation):
    """The memory of a contiguous array, or the beginning of that, under another shape. The launch function only."""

    NAME = "shaped_view"
    view: Value
    extents: tuple[Value, ...]

    def infer(self) -> Sequence[Type]:
        return (ViewType(self.view.view.dtype, (None,) * len(self.extents)),)


class Launch(Operation):
    """Runs ``kernel`` over a grid of blocks; an extent of 0 launches nothing. The launch function only."""

    NAME = "launch"
    kernel: str
    grid: tuple[Value, ...]
    args: tuple[Value, ...]

    def effects(self) -> Sequence[Effect]:
        return (Effect("write", "global"),)


__all__ = [
    "Assume", "DeviceAssert", "GridIndex", "GridSize", "GridSync", "Launch", "NamedBarrier", "Print",
    "ResidentBlocks", "ShapedView", "Sync", "WaitUntil", "Workspace",
]
