"""Which tiles of a kernel get longer, and along which dimension, where a block does what several neighbours do.

Every block of a one-dimensional grid reads and writes its own part of arrays, beside those of its neighbours: an
offset grows by the tile's extent from block to block. So one longer tile is the tiles of neighbours side by side, and
what is computed of such tiles, element by element or by reductions along other dimensions, is longer as well. The plan
is found backwards from the stores. Kernels for which there is none are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.families import Elementwise, Movement
from tilus.ir.ops import (
    Assume,
    Binary,
    Broadcast,
    Cast,
    Const,
    DeviceAssert,
    Dim,
    For,
    GridIndex,
    If,
    Iota,
    Load,
    Map,
    PermuteView,
    Reduce,
    Reshape,
    Scan,
    Slice,
    Store,
    Stride,
    Subview,
    Transpose,
    Yield,
)
from tilus.ir.rewriter import find_users
from tilus.ir.types import TileType
from tilus.lowering.cpu.slopes import Slopes, constant_of

MOST_TRIPS = 8
"""Of a loop in a block that does little."""
_KNOWN = (Elementwise, Assume, Broadcast, Const, DeviceAssert, Dim, For, GridIndex, If, Iota, Load, PermuteView, Reduce,
          Reshape, Scan, Slice, Store, Stride, Subview, Transpose, Yield)


class Refused(Exception):
    """A kernel whose blocks cannot be taken together, and why."""


class Plan:
    """``wide`` has the dimension of each tile that gets longer; ``narrow`` the values of which that of the first block
    is needed, since they are the same for all blocks or known to grow with them; ``varying`` those that are not the
    same. ``once``: the loops that are supposed to have one iteration, which the launch finds out; none where blocks
    ``walk``, in loops of any length."""

    def __init__(self, kernel: Function, *, walk: bool = False) -> None:
        self.kernel, self.walk = kernel, walk
        self.wide: dict[Value, int] = {}
        self.narrow: set[Value] = set()
        self.varying: set[Value] = set()
        self.once: list[For] = []
        self.slopes = Slopes(self._slope, constant_of)
        self.loops: dict[Value, tuple[Operation, int]] = {}
        for op in kernel.walk():
            self._look_at(op)
        while self._spread_varying(kernel.body):
            pass
        for op in kernel.walk():
            self._start(op)
        self._check_counts(kernel)
        self._check_memory(kernel)

    def _look_at(self, op: Operation) -> None:
        if not isinstance(op, _KNOWN):
            raise Refused(f"{op.NAME} is not of neighbouring blocks at once")
        if isinstance(op, Map) and any(inner.regions for inner in op.body.ops):
            raise Refused("an element's code has control flow")
        if isinstance(op, (For, If)):
            self.loops.update((r, (op, i)) for i, r in enumerate(op.results))
        if isinstance(op, For):
            self.loops.update((v, (op, i)) for i, v in enumerate(op.carried))
            if self.walk or _has_known_trips(op):
                return
            if not all(map(self._follows, (op.start, op.stop))) or constant_of(op.step) is None:
                raise Refused("a loop may be long")
            self.once.append(op)

    def _follows(self, value: Value) -> bool:
        """Whether the launch knows a number."""
        op = value.defining
        if op is None:
            return value in self.kernel.body.args
        if isinstance(op, Dim):
            return op.view in self.kernel.body.args
        plain = isinstance(op, Cast) or (isinstance(op, Binary) and op.kind in ("add", "sub", "mul", "min", "max"))
        return isinstance(op, Const) or (plain and all(map(self._follows, op.operands)))

    # What blocks have in common.

    def _spread_varying(self, block: Block) -> bool:
        """Find values that are not the same for all blocks; whether there have been new ones."""
        before = len(self.varying)
        for op in block.ops:
            if isinstance(op, GridIndex) or (not op.regions and not self.varying.isdisjoint(op.operands)):
                self.varying.update(op.results)
            if isinstance(op, Map) and not self.varying.isdisjoint(op.operands):
                self.varying.update(op.results)
            elif isinstance(op, (For, If)):
                self._spread_around(op)
        return len(self.varying) > before

    def _spread_around(self, op: For | If) -> None:
        while self._spread_around_once(op):
            pass

    def _spread_around_once(self, op: For | If) -> bool:
        before = len(self.varying)
        for region in op.regions:
            self._spread_varying(region)
            for i, value in enumerate(region.terminator.operands):
                if value in self.varying:
                    self.varying.add(op.results[i])
        if isinstance(op, For):
            for i, value in enumerate(op.init):
                if value in self.varying or op.results[i] in self.varying:
                    self.varying |= {op.carried[i], op.results[i]}
        return len(self.varying) > before

    def _slope(self, value: Value) -> int | None:
        if isinstance(value.defining, GridIndex):
            return 1
        return 0 if value not in self.varying else None

    # What gets longer.

    def _start(self, op: Operation) -> None:
        if isinstance(op, Store):
            d = self.dim_of_access(op.offsets, op.value.tile.shape)
            if d is None:
                raise Refused("blocks write the same elements")
            self.same(op.view)
            for offset in op.offsets:
                self.first(offset)
            self.longer(op.value, d)
            if op.mask is not None:
                self.longer(op.mask, d)
        elif isinstance(op, For):
            for value in (op.start, op.stop, op.step):
                self.same(value)
        elif isinstance(op, (If, DeviceAssert)):
            self.same(op.condition)

    def dim_of_access(self, offsets: Sequence[Value], shape: tuple[int, ...]) -> int | None:
        """The dimension along which neighbours access what follows; None where they access the same."""
        slopes = [self.slopes.of(o) for o in offsets]
        moved = [d for d, slope in enumerate(slopes) if slope != 0]
        if not moved:
            return None
        if len(moved) > 1 or len(shape) != len(offsets) or slopes[moved[0]] != shape[moved[0]]:
            raise Refused("blocks do not access parts of arrays that lie side by side")
        return moved[0]

    def same(self, value: Value) -> None:
        """A value that has to be the same for all blocks."""
        if value in self.varying:
            raise Refused("something that is one for a block differs among neighbours")
        self.first(value)

    def first(self, value: Value) -> None:
        """A value of which that of the first block is needed."""
        if value in self.narrow:
            return
        self.narrow.add(value)
        if value in self.varying and (not value.tile.is_scalar or self.slopes.of(value) is None):
            raise Refused("something that is one for a block differs among neighbours")
        if value in self.loops:
            op, i = self.loops[value]
            self._through(op, i, self.first)
        elif value.defining is not None:
            for operand in value.defining.operands:
                self.first(operand)

    def longer(self, value: Value, d: int) -> None:
        """A tile that is needed for all blocks, side by side along dimension ``d``."""
        waiting: list[Value] = []

        def need(tile: Value, along: int) -> None:
            if tile not in self.wide:
                waiting.append(tile)
            if self.wide.setdefault(tile, along) != along:
                raise Refused("a tile is needed side by side along two dimensions")

        if value.tile.is_scalar:
            raise Refused("a scalar differs among neighbours")
        need(value, d)
        while waiting:
            self._need_sources(waiting.pop(), need)

    def _need_sources(self, value: Value, need: Callable[[Value, int], None]) -> None:
        """Ask for what a longer tile is made of."""
        d = self.wide[value]
        if value in self.loops and (value in self.varying or value.tile.shape[d] != 1):
            around, i = self.loops[value]
            self._through(around, i, lambda v: need(v, d))
            return
        if self.is_repeated(value):
            self.first(value)
            return
        op = value.defining
        assert op is not None
        self._check(op, d)
        growing = op.offsets if isinstance(op, Load) else op.operands if self.ramp_of(op) is not None else ()
        for operand in op.operands:
            dim = self.dim_of_operand(op, operand, d)
            if dim is not None:
                need(operand, dim)
            elif operand in growing:
                self.first(operand)
            else:
                self.same(operand)

    def is_repeated(self, value: Value) -> bool:
        """Whether a longer tile repeats one row that is the same for all blocks."""
        return value not in self.varying and value.tile.shape[self.wide[value]] == 1 \
            and not isinstance(value.defining, Const)

    def _through(self, op: Operation, i: int, need: Callable[[Value], None]) -> None:
        """Ask for what the loop or branch makes its result ``i`` of."""
        need(op.results[i])
        if isinstance(op, For):
            need(op.carried[i])
            need(op.init[i])
        for region in op.regions:
            need(region.terminator.operands[i])

    def ramp_of(self, op: Operation) -> int | None:
        """By how much a scalar grows from block to block that is given to the elements of a tile; None for others."""
        if not isinstance(op, Broadcast) or not op.x.tile.is_scalar or op.x not in self.varying:
            return None
        return self.slopes.of(op.x)

    def _check(self, op: Operation, d: int) -> None:
        """Refuse tiles that do not go on from block to block."""
        if isinstance(op, Load) and self.dim_of_access(op.offsets, op.shape) != d:
            raise Refused("blocks read the same elements, or along another dimension")
        if isinstance(op, Broadcast) and op.x in self.varying and op.x.tile.is_scalar and \
                (self.ramp_of(op) is None or not op.x.tile.dtype.is_int):
            raise Refused("a scalar differs among neighbours")

    # Numbers that are counted from one that grows from block to block by as many as there are go on in a longer tile,
    # though neither what is counted from nor the count does.

    def _check_counts(self, kernel: Function) -> None:
        """Refuse counts that are of anything else."""
        users: dict[Value, list[Operation]] | None = None
        for value, d in self.wide.items():
            op = value.defining
            counts = isinstance(op, Iota) and op.axis == d
            if value.tile.shape[d] > 1 and (counts or (op is not None and self.ramp_of(op) is not None)):
                users = find_users(kernel) if users is None else users
                if not self._is_counted(value, users):
                    raise Refused("a tile repeats itself from block to block")

    def _check_memory(self, kernel: Function) -> None:
        """Refuse accesses to what a neighbour has written: blocks would find it sooner or later than they do."""
        rows: dict[Value, set[tuple[Value, Value | None, int]]] = {}
        effects: dict[Value, set[type[Operation]]] = {}
        for op in kernel.walk():
            if isinstance(op, (Load, Store)):
                array, shape = argument_of(op.view, 0)[0], op.shape if isinstance(op, Load) else op.value.tile.shape
                d = self.dim_of_access(op.offsets, shape)
                where = (op.view, None, 0) if d is None else (op.view, op.offsets[d], shape[d])
                rows.setdefault(array, set()).add(where)
                effects.setdefault(array, set()).add(type(op))
        if any(len(rows[array]) > 1 and len(kinds) > 1 for array, kinds in effects.items()):
            raise Refused("blocks write what neighbours access")

    def _is_counted(self, value: Value, users: dict[Value, list[Operation]]) -> bool:
        """Whether all longer tiles that are made of a tile are sums of a count and what it is counted from."""
        made = [user for user in users.get(value, ()) if user.results and user.results[0] in self.wide]
        return all(self._is_sum(user) or (isinstance(user, Movement) and self._is_counted(user.results[0], users))
                   for user in made)

    def _is_sum(self, op: Operation) -> bool:
        if not isinstance(op, Binary) or op.kind != "add":
            return False
        d = self.wide[op.result]
        for first, count in ((op.lhs, op.rhs), (op.rhs, op.lhs)):
            start, numbers = self._moved(first, d)[0].defining, self._moved(count, d)
            if isinstance(start, Broadcast) and self.ramp_of(start) == op.result.tile.shape[d] and \
                    isinstance(numbers[0].defining, Iota) and numbers[0].defining.axis == numbers[1]:
                return True
        return False

    def _moved(self, value: Value, d: int) -> tuple[Value, int]:
        """The tile whose elements another one has, and the dimension of it."""
        op = value.defining
        while isinstance(op, Movement) and not op.x.tile.is_scalar:
            source = self.dim_of_operand(op, op.x, d)
            if source is None:
                break
            value, d, op = op.x, source, op.x.defining
        return value, d

    def dim_of_operand(self, op: Operation, operand: Value, d: int) -> int | None:
        """The dimension along which an operand gets longer where the result does along ``d``; None for operands that
        stay as they are."""
        if not isinstance(operand.type, TileType) or operand.tile.is_scalar:
            return None
        shape = operand.tile.shape
        if isinstance(op, Broadcast):
            return None if shape[d] == 1 and op.shape[d] != 1 else d
        if isinstance(op, Transpose):
            return op.permutation[d]
        if isinstance(op, Reshape):
            return _dim_of_reshaped(op, d)
        if isinstance(op, Slice) and op.sizes[d] == shape[d]:
            return d
        if isinstance(op, Reduce):
            return d + (d >= op.axis)
        if isinstance(op, Scan) and op.axis != d:
            return d
        if isinstance(op, (Elementwise, Load)) and shape == op.results[0].tile.shape:
            return d
        raise Refused(f"{op.NAME} is along the dimension of neighbours")


def argument_of(view: Value, d: int) -> tuple[Value, int]:
    """The argument that a view is of, and the dimension of it that a dimension is."""
    while isinstance(op := view.defining, (PermuteView, Subview)):
        if isinstance(op, PermuteView):
            d = op.permutation[d]
        elif op.results[0].view.rank:
            d = [k for k in range(op.view.view.rank) if k not in op.dropped][d]
        view = op.view
    return view, d


def _has_known_trips(loop: For) -> bool:
    start, stop, step = map(constant_of, (loop.start, loop.stop, loop.step))
    if start is None or stop is None or not step:
        return False
    if len(range(start, stop, step)) > MOST_TRIPS:
        raise Refused("a loop is long")
    return True


def _dim_of_reshaped(op: Reshape, d: int) -> int:
    """Where the dimension is in what is reshaped: only others of extent 1 may come and go."""
    source, target = op.x.tile.shape, op.shape
    before = [n for n in target[:d] if n != 1]
    if [n for n in source if n != 1] == [n for n in target if n != 1]:
        for e, n in enumerate(source):
            if n == target[d] and [m for m in source[:e] if m != 1] == before:
                return e
    raise Refused("neighbours do not lie side by side in a tile of another shape")


__all__ = ["Plan", "Refused", "argument_of"]
