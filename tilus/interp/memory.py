"""Memory, views of it, and the shadow that says who wrote what, when.

A view maps each of its dimensions to an axis of its root memory; offsets count from the view's start and its bounds lie
within those of the view it was made from. Accesses are of two kinds: a box of consecutive elements, or points given by
index arrays; both give access to any array shaped like the root, so that shadows are read and written alike.
"""

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from tilus.diagnostics import CheckError, Diagnostic, Label, Span
from tilus.interp.numbers import Array, held_as
from tilus.interp.packing import PackedElements
from tilus.ir.dtypes import DType
from tilus.ir.ops.memory import split_dims
from tilus.records import field, record

RELEASE, ACQUIRE = ("release", "acq_rel"), ("acquire", "acq_rel")


@record(eq=False)
class Task:
    """A strand of execution: the warps of a block, or those of a group. ``epoch`` counts its barriers; accesses of
    task ``t`` before its epoch ``seen[t]`` are ordered before what this one does now. ``before`` are the block,
    groups that it joined and groups of the same warps: global memory goes on from them in program order."""

    number: int
    block: tuple[int, ...]
    warps: frozenset[int]
    epoch: int = 1
    seen: dict[int, int] = field(default_factory=dict)
    before: frozenset[int] = frozenset()
    copies: list[list[Copy]] = field(default_factory=list)
    open_copies: list[Copy] = field(default_factory=list)

    def release(self) -> dict[int, int]:
        """What whoever synchronises with this moment knows; later accesses are of a new epoch."""
        clock = {**self.seen, self.number: self.epoch + 1}
        self.epoch += 1
        return clock

    def acquire(self, clock: dict[int, int]) -> None:
        for task, epoch in clock.items():
            if epoch > self.seen.get(task, 0):
                self.seen[task] = epoch

    @property
    def where(self) -> str:
        warps = f", warps {min(self.warps)} to {max(self.warps)}" if self.warps else ""
        return f"block {self.block if len(self.block) > 1 else self.block[0]}{warps}"


@record(eq=False)
class Copy:
    """An asynchronous copy in flight."""

    land: Callable[[], None]
    access: Access
    memory: Memory
    span: Span


class Memory:
    """An array with what is known of its elements.

    Args:
        array: the elements, in the interpreter's representation.
        space: ``"global"`` or ``"shared"``.
        initialised: False where reads before any write are errors.
        tracked: whether races are looked for.
    """

    def __init__(self, name: str, array: Array | PackedElements, dtype: DType, space: str, *, initialised: bool = True,
                 tracked: bool = False) -> None:
        self.name = name
        self.rank = array.ndim
        # NumPy's arrays of rank 0 turn into numbers when they are indexed.
        self.array: Any = array.reshaped(array.shape or (1,)) if isinstance(array, PackedElements) and not array.shape \
            else array if isinstance(array, PackedElements) else np.atleast_1d(array)
        self.dtype = dtype
        self.space = space
        shape = self.array.shape
        self.valid = None if initialised else np.zeros(shape, np.bool_)
        self.tracked = tracked
        self.before_write: Callable[[], None] | None = None  # called once, before the first write
        self.clocks: dict[tuple[int, ...], dict[int, int]] = {}
        self.spans: list[Span] = []
        self._numbers: dict[Span, int] = {}
        self._collapsed: dict[tuple[int, ...], Memory] = {}
        if tracked:
            self.writer, self.written, self.write_at = (np.full(shape, -1, np.int32) for _ in range(3))
            self.reader, self.read, self.read_at = (np.full(shape, -1, np.int32) for _ in range(3))
        self.pending = np.full(shape, -1, np.int32) if space == "shared" else None

    def collapsed(self, groups: tuple[int, ...]) -> Memory:
        """The same elements under a shape in which adjacent dimensions are one; what is known of them is shared."""
        found = self._collapsed.get(groups)
        if found is None:
            found = self._collapsed[groups] = copy.copy(self)
            shape = tuple(math.prod(part) for part in split_dims(self.array.shape, groups))
            found.rank, found._collapsed = len(shape), {}
            for name in ("array", "valid", "writer", "written", "write_at", "reader", "read", "read_at", "pending"):
                array = getattr(self, name, None)
                if isinstance(array, PackedElements):
                    setattr(found, name, array.reshaped(shape))
                elif array is not None:
                    view = array.view()
                    view.shape = shape  # fails where the elements would have to be copied
                    setattr(found, name, view)
            found.before_write = self.will_write
        return found

    def span_number(self, span: Span) -> int:
        found = self._numbers.get(span)
        if found is None:
            found = self._numbers[span] = len(self.spans)
            self.spans.append(span)
        return found

    # checks

    def elements(self, access: Access) -> Array:
        """The values of elements; of a bool's bytes any but 0 is true."""
        values = access.get(self.array)
        return values.view(np.uint8) != 0 if self.dtype.is_bool else values

    def on_read(self, task: Task, access: Access, span: Span) -> None:
        if self.valid is None and not self.tracked and self.pending is None:
            return
        if access.empty:
            return
        if self.pending is not None:
            pending = access.get(self.pending)
            if np.any(pending >= 0):
                self._fail("E0706", f"{self.name} is read while an asynchronous copy into it is in flight", span, task,
                           [(self.spans[int(pending.max())], "the copy")], "call tl.wait before the load")
        if self.valid is not None and not np.all(access.get(self.valid)):
            self._fail("E0702", f"{self.name} is read before it is written", span, task,
                       help="initialise it, or mask the elements that are not there")
        if self.tracked:
            self._check(task, access, self.writer, self.written, self.write_at, span, "read", "written")
            access.set(self.reader, task.number)
            access.set(self.read, task.epoch)
            access.set(self.read_at, self.span_number(span))

    def will_write(self) -> None:
        """Before each write."""
        if self.before_write is not None:
            self.before_write()
            self.before_write = None

    def on_write(self, task: Task, access: Access, span: Span, *, copy: bool = False) -> None:
        if access.empty:
            return
        self.will_write()
        if self.pending is not None and not copy:
            pending = access.get(self.pending)
            if np.any(pending >= 0):
                self._fail("E0701", f"race on {self.name}: it is written while an asynchronous copy into it is in "
                                    "flight", span, task, [(self.spans[int(pending.max())], "the copy")],
                           "call tl.wait and tl.sync before the store")
        if self.tracked:
            self._check(task, access, self.writer, self.written, self.write_at, span, "written", "written")
            self._check(task, access, self.reader, self.read, self.read_at, span, "written", "read")
        self.mark_written(task, access, span)

    def mark_written(self, task: Task, access: Access, span: Span) -> None:
        if self.valid is not None:
            access.set(self.valid, True)
        if self.tracked:
            access.set(self.writer, task.number)
            access.set(self.written, task.epoch)
            access.set(self.write_at, self.span_number(span))

    def _check(self, task: Task, access: Access, tasks: Array, epochs: Array, places: Array, span: Span, now: str,
               before: str) -> None:
        """Every recorded access has to be ordered before this one."""
        who, when = access.get(tasks), access.get(epochs)
        # Shared memory is synchronised by the user; global memory behaves in program order within a task.
        suspicious = who >= 0 if self.space == "shared" else (who >= 0) & (who != task.number)
        if not np.any(suspicious):
            return
        for other in np.unique(who[suspicious]):
            if self.space == "global" and int(other) in task.before:
                continue
            known = task.epoch if other == task.number else task.seen.get(int(other), 0)
            late = suspicious & (who == other) & (when >= known)
            if np.any(late):
                place = self.spans[int(access.get(places)[late].max())]
                if self.space == "shared":
                    text = f"race on {self.name}: it is {now} without a barrier after it was {before}"
                    help = "call tl.sync() between the two"
                else:
                    text = f"race on {self.name}: an element is {now} that another block or group has {before}"
                    help = "blocks are ordered by atomics, semaphores and tl.grid_sync only"
                self._fail("E0701", text, span, task, [(place, f"{before} here")], help)

    def _fail(self, code: str, message: str, span: Span, task: Task, others: Sequence[tuple[Span, str]] = (),
              help: str | None = None) -> NoReturn:
        labels = [Label(span)] if span.known else []
        labels += [Label(place, text) for place, text in others if place.known and place != span]
        raise CheckError(Diagnostic(code, message, tuple(labels), help, (f"in {task.where}",)))


class Access:
    """Elements of a root memory, aligned with part of a tile."""

    empty: bool

    def get(self, array: Array | PackedElements) -> Array:
        raise NotImplementedError

    def set(self, array: Array | PackedElements, value: Any) -> None:
        raise NotImplementedError


class BoxAccess(Access):
    """A box of the root; ``tile`` is the box of the tile that it meets, ``mask`` selects among its elements."""

    def __init__(self, index: tuple[Any, ...], order: tuple[int, ...], tile: tuple[slice, ...],
                 mask: Array | None) -> None:
        self.index, self.order, self.tile, self.mask = index, order, tile, mask
        self.empty = any(s.stop <= s.start for s in tile) or (mask is not None and not mask.any())

    def _part(self, array: Array) -> Array:
        return array[self.index + (Ellipsis,)].transpose(self.order)  # of rank 0 too an array that can be written

    def get(self, array: Array | PackedElements) -> Array:
        if isinstance(array, PackedElements):
            return array.take(self.get(array.positions))
        part = self._part(array)
        return part if self.mask is None else part[self.mask]

    def set(self, array: Array | PackedElements, value: Any) -> None:
        if isinstance(array, PackedElements):
            array.put(self.get(array.positions), value)
            return
        part = self._part(array)
        if self.mask is None:
            part[...] = value
        else:
            part[self.mask] = value

    def select(self, tile: Array) -> Array:
        """The elements of a tile that the access meets."""
        part = tile[self.tile]
        return part if self.mask is None else part[self.mask]

    def fill(self, tile: Array, values: Array) -> None:
        if self.mask is None:
            tile[self.tile] = values
        else:
            tile[self.tile][self.mask] = values


class PointAccess(Access):
    """Points of the root; ``chosen`` says which elements of the tile they are."""

    def __init__(self, index: tuple[Array, ...], chosen: Array) -> None:
        self.index, self.chosen = index, chosen
        self.empty = not chosen.any()

    def get(self, array: Array | PackedElements) -> Array:
        if isinstance(array, PackedElements):
            return array.take(self.get(array.positions))
        return np.asarray(array[self.index])

    def set(self, array: Array | PackedElements, value: Any) -> None:
        if isinstance(array, PackedElements):
            array.put(self.get(array.positions), value)
        else:
            array[self.index] = value


@record(frozen=True, eq=False)
class View:
    """A window of a memory.

    Attributes:
        axes: the root axis of each dimension.
        starts: for each root axis, the root index of the view's 0.
        extents: of each dimension, as the program sees it.
        low, high: of each dimension, the indices that are in bounds.
        empty: whether a dropped dimension is out of bounds, so that nothing is in bounds.
    """

    memory: Memory
    axes: tuple[int, ...]
    starts: tuple[int, ...]
    extents: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    empty: bool = False

    @property
    def dtype(self) -> DType:
        return self.memory.dtype

    def stride(self, axis: int) -> int:
        """In elements."""
        array = self.memory.array
        return int(array.strides[self.axes[axis]] // max(1, array.itemsize))

    def subview(self, starts: Sequence[int], extents: Sequence[int], dropped: Sequence[int]) -> View:
        root = list(self.starts)
        axes, kept, low, high, empty = [], [], [], [], self.empty
        for d, (start, extent) in enumerate(zip(starts, extents, strict=True)):
            root[self.axes[d]] += start
            if d in dropped:
                empty |= not self.low[d] <= start < self.high[d]
                continue
            axes.append(self.axes[d])
            kept.append(extent)
            low.append(max(0, self.low[d] - start))
            high.append(min(extent, self.high[d] - start))
        return View(self.memory, tuple(axes), tuple(root), tuple(kept), tuple(low), tuple(high), empty)

    def permute(self, order: Sequence[int]) -> View:
        def pick(items: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(items[p] for p in order)

        return View(self.memory, pick(self.axes), self.starts, pick(self.extents), pick(self.low), pick(self.high),
                    self.empty)

    def box(self, offsets: Sequence[int], shape: Sequence[int], mask: Array | None) -> BoxAccess:
        """The elements of the box at ``offsets`` that are in bounds."""
        index: list[Any] = list(self.starts)
        tile = []
        for d, (offset, size) in enumerate(zip(offsets, shape, strict=True)):
            first = max(0, self.low[d] - offset)
            last = max(first, min(size, self.high[d] - offset)) if not self.empty else first
            at = self.starts[self.axes[d]] + offset
            tile.append(slice(first, last))
            index[self.axes[d]] = slice(at + first, at + last)
        ranked = sorted(self.axes)
        order = tuple(ranked.index(a) for a in self.axes)
        chosen = tuple(tile)
        return BoxAccess(tuple(index), order, chosen, None if mask is None else mask[chosen])

    def points(self, indices: Sequence[Array], mask: Array | None) -> PointAccess:
        """The elements at index arrays of one shape, where they are in bounds and ``mask`` holds."""
        shape = indices[0].shape if indices else ()
        chosen = np.full(shape, not self.empty)
        wide = [_wide(i) for i in indices]
        for d, i in enumerate(wide):
            chosen &= (i >= self.low[d]) & (i < self.high[d])
        if mask is not None:
            chosen &= mask
        count = int(np.count_nonzero(chosen))
        root: list[Array] = [np.full(count, s, np.int64) for s in self.starts]
        for d, i in enumerate(wide):
            root[self.axes[d]] = i[chosen] + self.starts[self.axes[d]]
        return PointAccess(tuple(root), chosen)


def _wide(indices: Array) -> Array:
    if indices.dtype == np.uint64:
        return np.where(indices > np.uint64(1 << 62), np.uint64(1 << 62), indices).astype(np.int64)
    return indices.astype(np.int64)


def whole(memory: Memory) -> View:
    """The view of all of a memory."""
    rank, shape = memory.rank, memory.array.shape[:memory.rank]
    return View(memory, tuple(range(rank)), (0,) * memory.array.ndim, shape, (0,) * rank, shape)


def poisoned(shape: tuple[int, ...], dtype: DType) -> Array:
    """Elements whose bits are unlikely to pass for a value: NaN for floats, 0xA5 bytes for the rest."""
    held = held_as(dtype)
    if dtype.is_bool:
        return np.ones(shape, held)
    raw = np.full(int(np.prod(shape, dtype=np.int64)) * held.itemsize, 0xFF if dtype.is_float else 0xA5, np.uint8)
    codes = raw.view(held).reshape(shape)
    return codes if dtype.is_arithmetic else codes & held.type((1 << dtype.bits) - 1)
