"""A kernel's control flow, followed with the numbers of a call for some blocks: how often its regions are executed, and
what its accesses of global memory touch.

Scalars are what the interpreter makes of their operations, for all lanes at once. Iterations of loops are sampled
(``tilus/model/sampled.py``), which is exact for what is linear in the index but for the first and last one. What comes
out of data is not known: branches on it count half each, and loops run :data:`~tilus.model.sampled.ASSUMED_TRIPS`
times; :attr:`Follower.assumed` says so.
"""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tilus.interp.evaluate import evaluate
from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.families import Access, AsyncCopy
from tilus.ir.ops import (
    Atomic,
    Binary,
    CollapseView,
    CopyAsync,
    Dim,
    For,
    Gather,
    GatherAsync,
    GridIndex,
    GridSize,
    If,
    Load,
    PermuteView,
    Scatter,
    Store,
    Stride,
    Subview,
    TileBytes,
    While,
    Yield,
)
from tilus.ir.ops.groups import Groups
from tilus.ir.types import TileType
from tilus.lowering.facts import Facts
from tilus.lowering.forms import root_of, shape_of
from tilus.lowering.simt.access import gathered_vector
from tilus.model.sampled import ASSUMED_TRIPS
from tilus.model.tiles.frames import Frame, iterations
from tilus.model.tiles.masks import share_of
from tilus.model.tiles.windows import SECTOR, Box, Numbers, Window
from tilus.records import field, record

FOLLOWED = 4
"""Iterations of a ``while`` that are followed."""


@record(eq=False)
class Touched:
    """What the executions of an access of global memory touch, summed up by block.

    Attributes:
        elements: that are in bounds, and not masked.
        sectors: of 32 bytes that they lie in, each execution for itself.
        first: the first element from the array's beginning that each block touches, in its first iterations; -1 for
            none or where it is not known.
    """

    array: str
    bits: int
    elements: Any
    sectors: Any
    first: Any


@record
class Follower:
    """A kernel and the blocks that are followed.

    Attributes:
        grid: how many blocks there are along each axis.
        indices: for each block that is followed its index along each axis.
        numbers: what is known of the kernel's parameters: numbers and windows.
        briefly: only the first iteration of each loop is followed, for what blocks touch first.
        counts: for each region of code how often each block executes it.
        touched: the accesses of global memory.
        assumed: what was not known, in words.
    """

    function: Function
    facts: Facts
    grid: tuple[int, int, int]
    indices: tuple[Any, Any, Any]
    numbers: Mapping[Value, Any]
    briefly: bool = False
    counts: dict[Block, Any] = field(default_factory=dict)
    touched: dict[Operation, Touched] = field(default_factory=dict)
    assumed: set[str] = field(default_factory=set)

    @property
    def blocks(self) -> int:
        return len(self.indices[0])

    def run(self) -> None:
        count = self.blocks
        frame = Frame(np.arange(count), np.ones(count))
        frame.env.update(self.numbers)
        self._block(self.function.body, frame)

    def _block(self, block: Block, frame: Frame) -> None:
        count = frame.total(1.0, self.blocks)
        self.counts[block] = self.counts.get(block, 0.0) + count
        for op in block.ops:
            rule = _RULES.get(type(op))
            if rule is not None:
                rule(self, op, frame)
            elif isinstance(op, Access) and op.view.view.space == "global":
                self._access(op, frame)
            elif not op.regions:
                self._scalar(op, frame)

    def _scalar(self, op: Operation, frame: Frame) -> None:
        """An operation on scalars; what is computed with tiles is not known."""
        if len(op.results) != 1 or not isinstance(op.result.type, TileType) or op.result.type.shape:
            return
        operands = op.operands
        if any(not isinstance(v.type, TileType) or v.type.shape or frame.get(v) is None for v in operands):
            return
        results = evaluate(op, frame.get)
        if results is not None:
            frame.env[op.result] = results[0]

    # -- control flow

    def _for(self, op: For, frame: Frame) -> None:
        start, stop, step = (frame.get(v) for v in (op.start, op.stop, op.step))
        lanes = len(frame.blocks)
        if start is None or stop is None or step is None:
            self.assumed.add(f"loops whose bounds are data run {ASSUMED_TRIPS} times")
            start, step = (n if n is not None else 0 for n in (start, step))
            trips: Any = np.full(lanes, ASSUMED_TRIPS)
        else:
            start, stop, step = (np.asarray(n).astype(np.int64) for n in (start, stop, step))
            trips = np.maximum(0, -((start - stop) // np.where(step == 0, 1, step)))
        trips = np.broadcast_to(trips, (lanes,))
        if self.briefly:
            chosen = np.flatnonzero(trips > 0)
            numbers, shares = np.zeros(len(chosen), np.int64), np.ones(len(chosen))
        else:
            chosen, numbers, shares = iterations(trips, lanes)
        inner = frame.inside(chosen, frame.weights[chosen] * shares)
        index = np.broadcast_to(start, (lanes,))[chosen] + numbers * np.broadcast_to(step, (lanes,))[chosen]
        inner.env[op.index] = index
        growths = {}
        for carried, first, following in zip(op.carried, op.init, op.body.terminator.operands, strict=True):
            growth = growths[carried] = self._growth(op, carried, following, frame)
            before = frame.get(first) if growth is not None else None
            inner.env[carried] = None if before is None else \
                np.broadcast_to(before, (lanes,))[chosen] + numbers * np.broadcast_to(growth, (lanes,))[chosen]
        self._block(op.body, inner)
        for carried, first, result in zip(op.carried, op.init, op.results, strict=True):
            before, growth = frame.get(first), growths[carried]
            frame.env[result] = None if before is None or growth is None else before + trips * growth

    def _growth(self, op: For, carried: Value, following: Value, frame: Frame) -> Numbers:
        """By how much each iteration changes a carried number; None where that is not known to be always the same."""
        if not isinstance(carried.type, TileType) or carried.type.shape:
            return None
        if following is carried:
            return 0
        maker = following.defining
        if not isinstance(maker, Binary) or maker.kind not in ("add", "sub"):
            return None
        if maker.lhs is carried:
            change = frame.get(maker.rhs)
            return change if change is None or maker.kind == "add" else -change
        return frame.get(maker.lhs) if maker.kind == "add" and maker.rhs is carried else None

    def _if(self, op: If, frame: Frame) -> None:
        condition = frame.get(op.condition)
        lanes = len(frame.blocks)
        every = np.arange(lanes)
        if condition is None:
            self.assumed.add("branches on data are taken every other time")
            for region in (op.then, op.orelse):
                self._block(region, frame.inside(every, frame.weights / 2))
            return
        chosen = np.broadcast_to(condition, (lanes,)).astype(bool)
        frames = []
        for region, these in ((op.then, np.flatnonzero(chosen)), (op.orelse, np.flatnonzero(~chosen))):
            inner = frame.inside(these, frame.weights[these])
            if len(these):
                self._block(region, inner)
            frames.append((inner, these, region.terminator.operands))
        for number, result in enumerate(op.results):
            frame.env[result] = _merged([(inner.get(values[number]) if len(these) else 0, these)
                                         for inner, these, values in frames], lanes)

    def _while(self, op: While, frame: Frame) -> None:
        """Some iterations, then as many more as are assumed."""
        state: list[Any] = [frame.get(v) for v in op.init]
        alive, weights = np.arange(len(frame.blocks)), frame.weights
        for trip in range(FOLLOWED + 1):
            before = frame.inside(alive, weights[alive])
            before.env.update(zip(op.before.args, _of_lanes(state, alive), strict=True))
            self._block(op.before, before)
            condition = before.get(op.before.terminator.operands[0])
            share = 1.0
            if condition is None or trip == FOLLOWED:
                self.assumed.add(f"loops that end by data, or late, run {ASSUMED_TRIPS} times")
                share = float(ASSUMED_TRIPS - trip)
            else:
                alive = alive[np.broadcast_to(condition, (len(alive),)).astype(bool)]
            if not len(alive):
                break
            body = frame.inside(alive, weights[alive] * share)
            body.env.update(zip(op.body.args, _of_lanes(state, alive), strict=True))
            self._block(op.body, body)
            if share != 1.0:
                break
            lanes = len(frame.blocks)
            state = [_spread(body.get(v), alive, lanes) for v in op.body.terminator.operands]

    def _groups(self, op: Groups, frame: Frame) -> None:
        for body in op.bodies:
            self._block(body, frame.inside(np.arange(len(frame.blocks)), frame.weights))

    # -- views and accesses

    def _view(self, op: Operation, frame: Frame) -> None:
        window = frame.get(op.view)  # type: ignore[attr-defined]
        if not isinstance(window, Window):
            return
        if isinstance(op, Subview):
            found = window.subview([_number(frame, v) for v in op.starts], [_number(frame, v) for v in op.extents],
                                   op.dropped)
        elif isinstance(op, PermuteView):
            found = window.permute(op.permutation)
        elif isinstance(op, CollapseView):
            found = window.collapse(op.groups)
        else:
            assert isinstance(op, TileBytes)
            found = window.columns_of_tiles(op.columns, op.rows, op.row_bytes)
        frame.env[op.result] = found

    def _extent(self, op: Dim | Stride, frame: Frame) -> None:
        window = frame.get(op.view)
        if isinstance(window, Window):
            frame.env[op.result] = np.asarray((window.extents if isinstance(op, Dim) else window.strides)[op.axis])

    def _grid(self, op: GridIndex | GridSize, frame: Frame) -> None:
        frame.env[op.result] = np.asarray(self.grid[op.axis]) if isinstance(op, GridSize) \
            else self.indices[op.axis][frame.blocks]

    def _access(self, op: Any, frame: Frame) -> None:
        view: Value = op.source if isinstance(op, CopyAsync) else op.view
        window = frame.get(view)
        if not isinstance(window, Window):
            root = root_of(view)
            window = Window(root.name, view.view.dtype.packed_bits, 0, (1 << 40,) * view.view.rank,
                            (1,) * view.view.rank, (0,) * view.view.rank, (1 << 40,) * view.view.rank, False)
        if isinstance(op, (Gather, Scatter, GatherAsync, Atomic)):
            elements, sectors, first = self._gathered(op, window, frame)
        else:
            box = window.box([_number(frame, v) for v in op.offsets], shape_of(op))
            share = share_of(op.mask, frame, self.assumed)
            elements, sectors, first = box.elements * share, box.sectors * share, box.base if box.known else None
            if isinstance(op, Load) and not op.shape:
                frame.env[op.result] = _looked_up(box)
        found = self.touched.get(op)
        if found is None:
            found = self.touched[op] = Touched(window.array, window.bits, 0.0, 0.0, np.full(self.blocks, -1))
        found.elements = found.elements + frame.total(elements, self.blocks)
        found.sectors = found.sectors + frame.total(sectors, self.blocks)
        if first is not None:
            there = np.broadcast_to(np.asarray(sectors) > 0, (len(frame.blocks),))
            place = np.broadcast_to(np.asarray(first, np.int64), (len(frame.blocks),))[there]
            found.first[frame.blocks[there][::-1]] = place[::-1]

    def _gathered(self, op: Any, window: Window, frame: Frame) -> tuple[Numbers, Numbers, Numbers]:
        """Of an access by index tiles: neighbours as far as they are known to be such, each else in a sector of its
        own. Those that are not masked are taken to be in bounds."""
        indices = [_number(frame, v) for v in op.indices]
        if all(n is not None for n in indices):  # of one element
            box = window.box(indices, ())
            return box.elements, box.sectors, box.base if box.known else None
        size = op.indices[0].tile.size
        width = 1 if isinstance(op, Atomic) else gathered_vector(self.facts, op)[1]
        self.assumed.add("what is gathered by index tiles is in bounds")
        elements = size * share_of(op.mask, frame, self.assumed)
        return elements, elements / width * np.ceil(width * window.bits / 8 / SECTOR), None


def _number(frame: Frame, value: Value) -> Numbers:
    """A scalar as a 64-bit integer; None where it is a tile or not known."""
    if not isinstance(value.type, TileType) or value.type.shape:
        return None
    found = frame.get(value)
    return None if found is None else np.asarray(found).astype(np.int64)


def _looked_up(box: Box) -> Numbers:
    """An element of a table whose contents are known."""
    contents = box.window.contents
    if contents is None or not box.known:
        return None
    return contents[np.clip(box.base, 0, len(contents) - 1)]


def _merged(parts: Sequence[tuple[Any, Any]], lanes: int) -> Any:
    """One number of all lanes out of those of some lanes each; None where one is not known."""
    found: Any = None
    for number, these in parts:
        if not len(these):
            continue
        if number is None or isinstance(number, Window):
            return None
        if len(these) == lanes:
            return number
        part = np.broadcast_to(number, (len(these),))
        found = np.zeros(lanes, part.dtype) if found is None else found
        found[these] = part
    return found


def _of_lanes(numbers: Sequence[Any], lanes: Any) -> list[Any]:
    return [n if n is None or isinstance(n, Window) or np.ndim(n) == 0 else n[lanes] for n in numbers]


def _spread(number: Any, lanes: Any, count: int) -> Any:
    """A number of some lanes as one of all; the others have 0, and are not asked."""
    if number is None or isinstance(number, Window) or np.ndim(number) == 0:
        return number
    found = np.zeros(count, number.dtype)
    found[lanes] = number
    return found


_RULES: dict[type[Operation], Callable[[Follower, Any, Frame], None]] = {
    For: Follower._for, If: Follower._if, While: Follower._while, Groups: Follower._groups,
    **dict.fromkeys((Subview, PermuteView, CollapseView, TileBytes), Follower._view),
    **dict.fromkeys((Dim, Stride), Follower._extent), **dict.fromkeys((GridIndex, GridSize), Follower._grid),
    CopyAsync: Follower._access, GatherAsync: Follower._access, Yield: lambda follower, op, frame: None,
}


def is_global(op: Operation) -> bool:
    """Whether an operation accesses global memory."""
    return isinstance(op, AsyncCopy) or (isinstance(op, Access) and op.view.view.space == "global")


def reads(op: Operation) -> bool:
    """Whether an access of global memory reads it."""
    return isinstance(op, (Load, Gather, AsyncCopy, Atomic))


def writes(op: Operation) -> bool:
    """Whether an access of global memory writes it."""
    return isinstance(op, (Store, Scatter, Atomic))


__all__ = ["Follower", "Touched", "is_global", "reads", "writes"]
