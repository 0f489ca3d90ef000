"""Registers of a thread and shared memory of a block, before either has been handed out.

Registers are an estimate: tiles that are alive at once, of loads that wait for their dot the fragments of one step, and
what addresses and numbers take. Shared memory is what the rings and allocations need that are alive at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.families import Elementwise
from tilus.ir.ops import (
    AllocShared,
    Broadcast,
    Const,
    ConvertLayout,
    Dot,
    For,
    Gather,
    Iota,
    Load,
    Reshape,
    Transpose,
    While,
)
from tilus.ir.types import TileType
from tilus.lowering.dots import unit_of
from tilus.lowering.forms import root_of
from tilus.lowering.schedule.plan import ring_bytes
from tilus.lowering.simt.bits import register_type
from tilus.lowering.simt.plan_shared import allocation_bytes
from tilus.lowering.simt.scratch import ROUND_BYTES, scratch_bytes
from tilus.model.tiles.work import locals_of, staged_load
from tilus.records import record
from tilus.targets import Target

NUMBERS = 22
"""Registers for the thread's and the block's numbers, addresses and what instructions need for a moment."""
WORD = 32
ADDRESS, COPIED = 2, 128
"""Registers of an address, and bits that it moves."""
LOADED = 4
"""Registers that an ldmatrix fills."""
STEPS_AHEAD = 4
"""So many steps of k ptxas loads the fragments of before they are used, as seen in its code."""


@record(frozen=True)
class Shared:
    """Bytes of shared memory of a block.

    Attributes:
        certain: of rings and allocations that are alive at once; no arrangement takes less.
        likely: with what conversions and reductions take for a moment.
    """

    certain: int
    likely: int


def shared_memory(function: Function, target: Target) -> Shared:
    """What a kernel whose loops are planned and whose tiles have layouts takes."""
    spans: list[tuple[int, int, int]] = []
    starts: dict[Value, tuple[int, int]] = {}
    ends: dict[Value, int] = {}
    scratch: list[tuple[int, Operation]] = []
    place = 0

    def visit(block: Block) -> None:
        nonlocal place
        for op in block.ops:
            place += 1
            first = place
            for value in op.operands:
                root = root_of(value)
                if root in starts:
                    ends[root] = place
            if isinstance(op, AllocShared):
                starts[op.result] = place, allocation_bytes(op)
            elif isinstance(op, ConvertLayout) and staged_load(op.x) is not None:
                pass
            elif not isinstance(op, Dot) and op.results and isinstance(op.results[0].type, TileType):
                scratch.append((place, op))
            for region in op.regions:
                visit(region)
            if isinstance(op, (For, While)):
                for root, at in ends.items():
                    if at >= first > starts[root][0]:
                        ends[root] = place
            if isinstance(op, For):
                spans.append((first, place, ring_bytes(op)))

    visit(function.body)
    spans += [(at, ends.get(root, at), size) for root, (at, size) in starts.items()]
    certain = max((_alive(spans, at) for at, _, _ in spans), default=0)
    at_once = max(ROUND_BYTES, sum(size for _, _, size in spans))  # conversions of larger tiles go in rounds
    likely = max((_alive(spans, at) + scratch_bytes(op, target, set(), at_once) for at, op in scratch), default=0)
    return Shared(certain, max(certain, likely))


def _alive(spans: list[tuple[int, int, int]], place: int) -> int:
    return sum(size for first, last, size in spans if first <= place <= last)


@record(frozen=True)
class Registers:
    """Of a thread.

    Attributes:
        needed: so that nothing is spilled.
        wanted: what ptxas takes where there are as many: it loads fragments ahead.
        at_dots: of each dot how many are alive while it is done, and its steps of k.
    """

    needed: int
    wanted: int
    at_dots: tuple[tuple[float, int], ...]

    def moved(self, limit: int) -> float:
        """Registers that are stored to local memory or loaded from there, each time that all of it is executed: what is
        too much once, and what is too much for a dot in each of its steps."""
        at_dots = [(max(0.0, alive - limit), steps) for alive, steps in self.at_dots]
        return 2 * max([max(0, self.needed - limit), *(excess * steps for excess, steps in at_dots)])


def registers_of(function: Function) -> Registers:
    """The registers of a kernel whose loops are planned and whose tiles have layouts."""
    least, most = _Pressure(False), _Pressure(True)
    needed, wanted = (NUMBERS + round(p.of_block(function.body, frozenset())) for p in (least, most))
    return Registers(needed, wanted, tuple((NUMBERS + alive, steps) for alive, steps in least.at_dots))


class _Pressure:
    def __init__(self, ahead: bool) -> None:
        self.ahead, self.prefetch = ahead, False
        self.copies = 0.0
        self.kept: set[Value] = set()
        self.at_dots: list[tuple[float, int]] = []

    def of_block(self, block: Block, after: frozenset[Value]) -> float:
        """The most that is alive at once within a block, with ``after`` alive behind it."""
        kept = {made_of(v) for op in block.ops for region in op.regions for v in _used_from_outside(region)}
        self.kept |= {v for v in kept if isinstance(v.defining, ConvertLayout)}
        alive = {v: self.size(v) for v in after}
        most = total = sum(alive.values())
        for op in reversed(block.ops):
            for result in op.results:
                total -= alive.pop(result, 0.0)
            inner = 0.0
            if op.regions and not isinstance(op, Elementwise) and op.NAME in ("for", "if", "while", "groups"):
                behind = self._through(op, alive)
                before = self.prefetch, self.copies
                if isinstance(op, For) and op.schedule is not None:
                    self.prefetch, self.copies = op.schedule.prefetch > 0, _copies(op)
                inner = max((self.of_block(region, behind) for region in op.regions), default=0.0)
                self.prefetch, self.copies = before
                for region in op.regions:
                    for value in _used_from_outside(region):
                        total += self._add(alive, value)
            for value in op.operands:
                total += self._add(alive, value)
            pressure = total + self._for_a_moment(op)
            if isinstance(op, Dot):
                self.at_dots.append((pressure, -(-op.a.tile.shape[-1] // max(1, unit_of(op).depth))))
            most = max(most, inner, pressure)
        return most

    def _through(self, op: Operation, alive: Mapping[Value, float]) -> frozenset[Value]:
        """What lives while a region runs: what is used afterwards, and in a loop what each iteration uses."""
        found = {v for v in alive if v not in op.results}
        if isinstance(op, (For, While)):
            for region in op.regions:
                found.update(_used_from_outside(region))
        return frozenset(found)

    def _add(self, alive: dict[Value, float], value: Value) -> float:
        value = made_of(value)
        if value in alive:
            return 0.0
        alive[value] = self.size(value)
        return alive[value]

    def size(self, value: Value) -> float:
        """Registers of a tile; what is made again where it is needed, and what waits in shared memory, takes none."""
        if not isinstance(value.type, TileType) or not value.type.shape:
            return 0.0
        maker = value.defining
        if isinstance(maker, (Const, Iota)) or staged_load(value) is not None or value.tile.dtype.is_bool:
            return 0.0
        if is_streamed(value) and value not in self.kept:
            return 0.0
        if value.tile.dtype.is_int and value.tile.dtype.bits == 64:  # an index: the thread's number and constants
            return 1.0
        return locals_of(value) * register_type(value.tile.dtype).bits / WORD

    def _for_a_moment(self, op: Operation) -> float:
        """What is alive only while an operation is done: fragments of a dot and the addresses of copies, addresses of
        loads."""
        if isinstance(op, Dot):
            return self._fragments(op) + self.copies
        if isinstance(op, (Load, Gather)) and not op.ring:
            return 2.0 * len(op.operands)
        return 0.0

    def _fragments(self, op: Dot) -> float:
        """Of the operands that come from shared memory: two steps of k where the loop loads them ahead, else what one
        instruction loads; and of some more steps where there are registers for them."""
        steps = -(-op.a.tile.shape[-1] // max(1, unit_of(op).depth))
        streamed = [v for v in (op.a, op.b) if is_streamed(v) and made_of(v) not in self.kept]
        # What is computed in the loop is there only after a barrier, just before the dot.
        most = STEPS_AHEAD if all(map(_is_loaded, streamed)) else 2
        found = 0.0
        for value in streamed:
            step = locals_of(value) * register_type(value.tile.dtype).bits / WORD / steps
            least = 2 * step if self.prefetch else min(step, LOADED)
            found += min(steps + self.prefetch, most) * step if self.ahead else least
        return found


def _copies(loop: For) -> float:
    """Registers for the addresses of a loop's copies: each has one of 64 bits."""
    loads = [op for op in loop.body.ops if isinstance(op, (Load, Gather)) and op.ring]
    return sum(ADDRESS * locals_of(load.result) * load.result.tile.dtype.bits / COPIED for load in loads)


def is_streamed(value: Value) -> bool:
    """Whether a dot's operand is loaded from shared memory step by step: it is there in the fragments' layout only for
    the dot that follows in the same block."""
    while isinstance(value.defining, Transpose):
        value = value.defining.x
    maker = value.defining
    return isinstance(maker, ConvertLayout) or (isinstance(maker, Load) and maker.view.view.space == "shared")


def _is_loaded(operand: Value) -> bool:
    """Whether a dot's operand comes from memory as it is."""
    maker = made_of(operand).defining
    return isinstance(maker.x.defining if isinstance(maker, ConvertLayout) else maker, (Load, Gather))


def made_of(value: Value) -> Value:
    """What has to be alive for a value: of broadcasts and the like what they are made from."""
    while isinstance(value.defining, (Broadcast, Reshape, Transpose)):
        value = value.defining.x
    return value


def _used_from_outside(block: Block) -> set[Value]:
    inside: set[Value] = set(block.args)
    used: set[Value] = set()
    for op in block.walk():
        inside.update(op.results)
        for region in op.regions:
            inside.update(region.args)
        used.update(map(made_of, op.operands))
    return used - inside


__all__ = ["Registers", "Shared", "registers_of", "shared_memory"]
