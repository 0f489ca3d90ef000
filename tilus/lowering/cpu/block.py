"""Lowering of one kernel's body: what is computed when, where values live, and the structured control flow."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import Broadcast, Compare, For, GridIndex, Groups, PtrAdd, PtrCast, PtrLoad, Sync, While, Yield
from tilus.ir.ops.groups import Warps
from tilus.ir.ops.simd import IntToPtr
from tilus.ir.rewriter import count_uses
from tilus.ir.types import ViewType
from tilus.lowering.cpu.demand import Demand
from tilus.lowering.cpu.emit import Cursor
from tilus.lowering.cpu.state import STATE_GRID0, pause_if_due, tick_seen
from tilus.lowering.cpu.values import BlockState, Buffer, Coords, Lazy, Machine, Memory, Number, Rep, Table, Window
from tilus.lowering.facts import Facts

if TYPE_CHECKING:
    from tilus.lowering.cpu.function import CpuProgram
    from tilus.lowering.cpu.ways import Multiplied

Handler = Callable[["BlockLowering", Operation], None]
HANDLERS: dict[type[Operation], Handler] = {}
WRITERS: dict[type[Rep], Callable[[BlockLowering, Value, Buffer], dict[int, Number]]] = {}
"""What computes a tile into a buffer, and says from where on its elements are one and the same."""
FRAME_ALIGNMENT = 64
MATERIALISE_COST = 6
"""What a tile that is used more than once may cost an element before it is kept in a buffer."""


LONGEST_COST = 400
"""What an element may cost before the tile is kept in a buffer in any case: code that is emitted in several versions
and widths stays short, and compiling takes time in proportion to the program's length."""


def handles(*kinds: type[Operation]) -> Callable[[Handler], Handler]:
    """Registers the lowering of operation classes."""

    def register(function: Handler) -> Handler:
        for kind in kinds:
            HANDLERS[kind] = function
        return function

    return register


def lower(self: BlockLowering, op: Operation) -> None:
    """Lower an operation as its class says, or the family that it is of."""
    handler = next((HANDLERS[kind] for kind in type(op).__mro__ if kind in HANDLERS), None)
    if handler is None:
        raise UnsupportedError.at("E0507", f"the CPU engine does not support {op.NAME}", op.span)
    handler(self, op)


class BlockLowering:
    """State of the lowering of one kernel. The arguments of ``body`` are those of the emitted function."""

    def __init__(self, kernel: Function, body: Block, program: CpuProgram, machine: Machine, facts: Facts) -> None:
        self.kernel = kernel
        self.program = program
        self.machine = machine
        self.facts = facts
        self.c = Cursor(body)
        self.arguments, self.frame, self.state, *self.block_index = body.args
        self.scalars: dict[Value, Value] = {}
        self.views: dict[Value, Memory] = {}
        self.reps: dict[Value, Rep] = {}
        self.uses: Counter[Value] = count_uses(kernel)
        self.blocks: list[BlockState] = []
        self.ticks = tick_seen(self.c, self.state)
        self.lanes = 0
        self.full_windows: set[Window] = set()
        # What vectors end before, along which dimension, and what it is up to there.
        self.inside: dict[tuple[Window | Compare, int], bool] = {}
        self.outside: set[Window] = set()  # windows of which elements beyond the end are read
        self.tables: dict[Value, Table] = {}  # the tiles that are looked up where they are evaluated
        self.aligned: set[Window] = set()  # of prepacked arrays, read in steps of whole words
        self.write_only: set[Value] | None = None
        self.going_on: set[Operation] | None = None  # the loads that are followed by those of what is next in memory
        self.goes_below: set[Operation] | None = None  # those that are followed by those of the rows below
        self.memos: list[Value] = []
        self.tiles: dict[Operation, Value] = {}  # memories of packed tiles, which are kept between blocks
        self.packed: dict[Operation | None, Value] = {}  # B of dots that is packed before the loops that they are in
        self.neighbours: dict[Operation, Value] = {}  # memories of products that blocks side by side share
        self.short = False  # whether rows of arrays are, so that loops over them take a few lanes at a time
        self.grouped = False  # whether blocks of some columns of the grid go together
        self.has_groups = any(isinstance(op, Groups) for op in kernel.walk())
        self.own_memory: set[object] = set()  # the roots of shared memory
        self.yield_frame: Value | None = None  # of the task that the code runs in, if it is one
        self.barriers: Value | None = None  # how many threads have arrived at each named barrier
        self.group_warps: Warps | None = None  # those of the group that the code is of
        self.multiplied: Multiplied | None = None  # the product that is being lowered
        self.frame_top = 0
        self.frame_peak = 0
        self.nested_uses: set[Value] = set()
        self._find_nested_uses(kernel.body, 0, dict.fromkeys(kernel.body.args, 0))
        self.demand = Demand(kernel)

    def _find_nested_uses(self, block: Block, depth: int, owners: dict[Value, int]) -> None:
        """Values used in a loop or group that does not contain their definition: they are kept, not computed anew."""
        for op in block.ops:
            for operand in op.operands:
                if owners.get(operand, depth) < depth:
                    self.nested_uses.add(operand)
            for region in op.regions:
                inner = depth + isinstance(op, (For, While, Groups))
                owners.update((a, inner) for a in region.args)
                self._find_nested_uses(region, inner, owners)
            owners.update((r, depth) for r in op.results)

    # Pointers and the frame.

    def load_words(self, pointer: Value, slot: int, count: int) -> list[Value]:
        return [self.c.b.add(PtrLoad(self.c.offset(pointer, slot + i))).result for i in range(count)]

    def pointer_of(self, address: Value, dtype: DType) -> Value:
        return self.c.b.add(IntToPtr(address, dtype)).result

    def allocate(self, dtype: DType, shape: tuple[int, ...], strides: tuple[int, ...] | None = None,
                 extra: int = 0) -> Buffer:
        """A buffer of the frame, until the enclosing region ends. ``extra`` elements may be touched past its end."""
        strides = row_major(shape) if strides is None else strides
        count = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if math.prod(shape) else 0
        return Buffer(self.allocate_raw(dtype, count + extra), dtype, shape, strides)

    def allocate_raw(self, dtype: DType, count: int) -> Value:
        size = count * container_bytes(dtype)
        start = self.frame_top
        self.frame_top = -(-(start + size) // FRAME_ALIGNMENT) * FRAME_ALIGNMENT
        self.frame_peak = max(self.frame_peak, self.frame_top)
        pointer = self.c.b.add(PtrAdd(self.frame, None, start)).result if start else self.frame
        return self.c.b.add(PtrCast(pointer, dtype)).result

    # The walk.

    def lower_block(self, block: Block) -> list[Value]:
        """Lower the operations of a block; gives the operands of its terminator, not yet forced."""
        state = BlockState(_last_uses(block))
        self.blocks.append(state)
        for position, op in enumerate(block.ops):
            state.position = position
            if isinstance(op, Yield):
                break
            self.settle(op)
            lower(self, op)
        self.blocks.pop()
        return list(block.terminator.operands)

    def settle(self, op: Operation) -> None:
        """Before an operation that changes memory, compute what was to be read from there later."""
        state = self.blocks[-1]
        if not state.pending:
            return
        written: set[object] = set()
        everything = others = False
        for inner in op.walk():
            for effect in inner.effects():
                if effect.kind in ("write", "atomic"):
                    root = self.root_of(effect.value)
                    written.add(root)
                    if root is None and effect.value is not None:  # made in a region, of what is not known here
                        others = everything = True
                if effect.kind == "sync":
                    others = True
                    everything |= not isinstance(inner, Sync) or self.has_groups
        if not written and not others:
            return
        own = set(op.operands) if not op.regions else set()
        for value in list(state.pending):
            rep = self.reps.get(value)
            if not isinstance(rep, Lazy):
                state.pending.remove(value)
                continue
            last = state.last_use.get(value, -1)
            if last < state.position or (last == state.position and value in own):
                continue  # dead, or read by the operation itself, which sees to it
            # At a barrier of the whole block nobody else has written the block's own memory.
            changing = others and any(not self._is_constant_memory(r) and (everything or r not in self.own_memory)
                                      for r in rep.roots)
            if changing or rep.roots & written:
                self.force(value)

    def _is_constant_memory(self, root: object) -> bool:
        memory = self.views.get(root) if isinstance(root, Value) else None
        return memory is not None and memory.read_only

    def root_of(self, view: Value | None) -> object:
        """The argument or allocation that a view is part of, which may be made only later, in a loop."""
        while view is not None and view not in self.views:
            op = view.defining
            view = next((o for o in op.operands if isinstance(o.type, ViewType)), None) if op is not None else None
        return self.views[view].root if view is not None else None

    # Values.

    def define(self, value: Value, rep: Rep) -> None:
        """Record how a tile is represented, computing it now where that is better."""
        self.reps[value] = rep
        if not isinstance(rep, Lazy):
            return
        if value in self.nested_uses and not rep.free and self._keeps_source(rep):
            rep.free = True
        shared = not rep.free and (value in self.nested_uses or (self.uses[value] > 1 and rep.cost > MATERIALISE_COST))
        if shared or rep.cost > LONGEST_COST:
            self.force(value)
            return
        if rep.roots:
            self.blocks[-1].pending.append(value)

    def _keeps_source(self, rep: Lazy) -> bool:
        """Whether a tile repeats a smaller one, which is kept instead of it, in a buffer. That lives as long as the
        tile may be used: a loop carries a buffer as its own only where nothing else has used it."""
        op = rep.op
        if not isinstance(op, Broadcast) or op.x.tile.is_scalar or op.x.tile.size >= op.result.tile.size:
            return False
        source = self.reps[op.x]
        if isinstance(source, Lazy) and not source.free:
            source = self.force(op.x)
        if isinstance(source, Buffer):
            rep.roots = frozenset((source,))
            rep.cost = 1
        return True

    def lazy(self, op: Operation, cost: int, *, free: bool = False, window: Window | None = None,
             roots: Iterable[object] = ()) -> Lazy:
        """A lazy tile that depends on the tile operands of ``op``."""
        all_roots: set[object] = set(roots)
        for operand in op.operands:
            if isinstance(operand.type, ViewType) or operand.tile.is_scalar:
                continue
            rep = self.reps[operand]
            if isinstance(rep, Lazy):
                cost += rep.cost
                all_roots |= rep.roots
            else:
                cost += 1
                all_roots.add(rep)
                free = False
            free = free and isinstance(rep, Lazy) and rep.free
        return Lazy(op, frozenset(all_roots), min(cost, 1000), free, window)

    def scalar(self, value: Value) -> Value:
        return self.scalars[value]

    def grid_number(self, kind: type[Operation], axis: int) -> Value:
        """This block's index along an axis, or the extent of the grid."""
        if kind is GridIndex:
            return self.block_index[axis]
        size: Value = self.c.once(("grid size", axis), lambda: self.c.b.add(
            PtrLoad(self.c.offset(self.state, STATE_GRID0 + axis))).result)
        return size

    def force(self, value: Value, into: Buffer | None = None) -> Buffer:
        """The tile in a buffer: computed now if it is lazy; ``into`` says where."""
        rep = self.reps[value]
        if isinstance(rep, Buffer) and into is None:
            return rep
        target = into or self.allocate(value.tile.dtype, value.tile.shape)
        if target is not rep:
            ends = WRITERS[Buffer](self, value, target)
            target.ends = ends if into is None else {}  # what others write as well has none
        self.reps[value] = target
        return target

    def is_last_use(self, value: Value) -> bool:
        """Whether nothing after the current operation uses ``value``, defined or carried in this block."""
        state = self.blocks[-1]
        return state.last_use.get(value, -1) <= state.position

    def _is_stable(self, buffer: Buffer, alias: Value) -> bool:
        """Whether ``buffer`` keeps its contents as long as ``alias`` is used: not a carried tile, which changes."""
        return buffer.owned and not buffer.carried and alias not in self.nested_uses

    def lanes_of(self, coords: Coords) -> int:
        return self.lanes if any(c.vector for c in coords) else 0

    def pause_if_due(self) -> None:
        """In each iteration of a loop: signals are looked at once in a while."""
        pause_if_due(self.c, self.state, self.ticks, self.yield_frame)

    # Regions.

    def rarely(self, condition: Value, then: Callable[[], None], orelse: Callable[[], None]) -> None:
        """A branch of which ``then`` is long and most often never run. The stacks of tasks are too small to compile it
        there."""
        self.c.branch(condition, then, orelse, apart=self.yield_frame is None)

    @contextlib.contextmanager
    def keeping_tiles(self) -> Iterator[None]:
        """For the code of a region: what it computes of tiles from outside is not there when it is left."""
        outside = dict(self.reps)
        yield
        self.reps |= outside

    def region(self, lower: Callable[[], Sequence[Value]]) -> Sequence[Value]:
        """Run ``lower`` with a frame of its own on top of the current one."""
        top = self.frame_top
        result = lower()
        self.frame_top = top
        return result


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, running = [], 1
    for n in reversed(shape):
        strides.append(running)
        running *= max(n, 1)
    return tuple(reversed(strides))


def container_bytes(dtype: DType) -> int:
    """Bytes of an element in a buffer of the frame."""
    return 1 if dtype.is_bool else next(n for n in (8, 16, 32, 64) if n >= dtype.bits) // 8


def _last_uses(block: Block) -> dict[Value, int]:
    last: dict[Value, int] = {}
    for position, op in enumerate(block.ops):
        for inner in op.walk():
            for operand in inner.operands:
                last[operand] = position
    return last
