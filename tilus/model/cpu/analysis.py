"""A function of lowered code as a tree of regions: what one execution of each takes, and how its accesses walk.

The integers of the function are evaluated once, with how they change from iteration to iteration of each loop around
them (forward differentiation): so an access has an address and a slope for each loop, whatever the code computes
addresses by. What does not depend on a loop counts where LLVM moves it to, before the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.ops import (
    Binary,
    Broadcast,
    Cast,
    Fma,
    For,
    If,
    Iota,
    MaskedLoad,
    MaskedStore,
    PtrAdd,
    PtrLoad,
    PtrStore,
    Select,
    While,
)
from tilus.ir.ops.simd import ConstantTable, DotBytes, DotPairs, GatherLoad, PairSums, ScatterStore, TileDot
from tilus.ir.ops.thread import Alloca
from tilus.ir.types import TileType
from tilus.model.cpu.instructions import FREE, LOAD, PORTS, SCALAR, STORE, TILE_INSTRUCTIONS, Core, use_of
from tilus.model.cpu.numbers import EVALUATE, Number, element_bytes
from tilus.records import record

ROOT_BITS = 44
"""Addresses that differ in their upper bits are of different arrays."""
LINE_BYTES = 64
LOCAL = 0x10000 << ROOT_BITS
"""Where the arguments, the state of the launch and local variables lie: accesses to them always hit."""
ARRAYS = 0x8000
"""Roots of arrays and workspaces are below."""
TABLES = 0xFFFF << ROOT_BITS

Slopes = dict["Region", float]
ANYWHERE = 1e15 + 0.375
"""The slope of what comes out of data: longer than any array, and a multiple of nothing."""
Step = tuple[Operation, Callable[[Any, Sequence[Number]], Number] | None, tuple[Value, ...]]
"""An operation, how its number comes of those of its operands, and those."""


class Region:
    """Operations that run together: a function's body, one iteration of a loop, a branch.

    Attributes:
        ports: what one execution takes of each of ``PORTS``, without the regions within.
        flops: operations on elements that are floats, two for a multiply-add; functions are not counted.
        read, written: bytes of arrays, as the code asks for them.
        loaded, stored: where buffers begin that are read and written, those of regions within included.
        path: cycles of the longest chain of operations in one execution, those of regions within included.
        recurrence: cycles from one iteration to the next that depends on it, at least.
        accesses: to memory, without those of the regions within.
        program: the operations that decide how often regions run, with their operands'.
        varies: whether the index of the loop, or what it carries, is among those.
    """

    __slots__ = ("accesses", "block", "children", "depth", "flops", "is_loop", "loaded", "op", "parent", "path",
                 "ports", "program", "read", "recurrence", "seen", "stored", "varies", "written")

    def __init__(self, block: Block | None, parent: Region | None, op: Operation | None, is_loop: bool) -> None:
        self.block, self.parent, self.op, self.is_loop = block, parent, op, is_loop
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.ports = [0.0] * len(PORTS)
        self.recurrence = self.path = self.flops = self.read = self.written = 0.0
        self.accesses: list[Access] = []
        self.loaded: set[int] = set()
        self.stored: set[int] = set()
        self.children: list[Region] = []
        self.program: list[Step] = []
        self.varies = False
        self.seen: set[Any] = set()
        if parent is not None:
            parent.children.append(self)

    def walk(self) -> Iterable[Region]:
        yield self
        for child in self.children:
            yield from child.walk()


@record(eq=False, slots=True)
class Access:
    """Memory that an execution of a region touches: ``copies`` pieces of ``width`` bytes from ``start`` on (None:
    anywhere), which move by ``slopes`` bytes from iteration to iteration."""

    region: Region
    root: int | None
    start: int | None
    copies: float
    width: float
    slopes: Slopes
    store: bool
    around: bool = False


AXES = 3


class Analysis:
    """Of a kernel's function ``block(arguments, frame, state, b0, b1, b2)``.

    Attributes:
        body: the region of a block's own operations.
        axes: pseudo-loops over blocks, one for each axis of the grid.
        regions: by the block of operations.
        block_varies: per axis, whether it decides how often something runs.
        carried: of loops the carried values that do: in an iteration, before the first, after it, after all.
    """

    def __init__(self, function: Function, memory: Mapping[int, Number], core: Core) -> None:
        self.function, self.memory, self.core = function, memory, core
        self.axes = [Region(None, None, None, True) for _ in range(AXES)]
        self.body = Region(function.body, None, None, False)
        self.regions: dict[Block, Region] = {function.body: self.body}
        self._tree(self.body)
        self.wanted: set[Value] = set()
        self._mark(function.body, self.wanted, None)
        self.carried: dict[For, list[tuple[Value, Value, Value, Value]]] = {}
        self.block_varies = [function.body.args[i] in self.wanted for i in range(3, 3 + AXES)]
        self._programs(self.body)
        self.numbers: dict[Value, Number] = {}
        self.slopes: dict[Value, Slopes] = {}
        self.homes: dict[Value, Region] = {}
        self.locals = LOCAL + (1 << 30)

    def look(self, numbers: Mapping[int, Number], executed: Mapping[Region, float]) -> None:
        """Find what regions take, with the numbers of one block; ``executed`` says how often they are."""
        self.executed = executed
        self._mark(self.function.body, self.wanted, executed)
        for i, argument in enumerate(self.function.body.args):
            self.numbers[argument] = numbers.get(i)
            if 3 <= i < 3 + AXES:
                self.slopes[argument] = {self.axes[i - 3]: 1}
        self._visit(self.body)
        for region in self.regions.values():
            if region in executed:
                region.accesses = _merged(region)

    # The tree, and what is wanted.

    def _tree(self, region: Region) -> None:
        assert region.block is not None
        for op in region.block.ops:
            if not op.REGION_FIELDS:
                continue
            for block in op.regions:
                inner = Region(block, region, op, isinstance(op, (For, While)))
                self.regions[block] = inner
                self._tree(inner)

    def _mark(self, block: Block, wanted: set[Value], addresses: Container[Region] | None) -> None:
        """Add what control flow depends on, and what addresses do in the regions of which they are wanted."""
        if addresses is not None and self.regions[block] not in addresses:
            return
        for op in reversed(block.ops):
            if op.REGION_FIELDS:
                self._mark_control(op, wanted, addresses)
                continue
            for result in op.results:
                if result in wanted:
                    wanted.update(op.operands)
                    break
            if not isinstance(op, _ACCESSES):
                continue
            if addresses is not None:
                wanted.add(op.pointer)
                if isinstance(op, (GatherLoad, ScatterStore)):
                    wanted.add(op.indices)
            if isinstance(op, PtrStore) and _is_number(op.value):
                wanted.update((op.pointer, op.value))

    def _mark_control(self, op: Operation, wanted: set[Value], addresses: Container[Region] | None) -> None:
        if isinstance(op, For):
            wanted.update((op.start, op.stop, op.step))
            self._mark_carried(op.results, op.init, op.carried, op.body, wanted, addresses)
        elif isinstance(op, While):
            wanted.add(op.before.terminator.operands[0])
            self._mark(op.before, wanted, addresses)
            wanted.update(i for i, a in zip(op.init, op.before.args, strict=True) if a in wanted)
            wanted.update(b for b, a in zip(op.body.args, op.before.args, strict=True) if a in wanted)
            self._mark_carried(op.results, op.init, op.body.args, op.body, wanted, addresses)
        else:
            if isinstance(op, If):
                wanted.add(op.condition)
            for region in op.regions:
                if region.ops and region.terminator.TERMINATOR:
                    wanted.update(v for v, r in zip(region.terminator.operands, op.results, strict=False)
                                  if r in wanted)
                self._mark(region, wanted, addresses)

    def _mark_carried(self, results: Iterable[Value], init: tuple[Value, ...], carried: list[Value], body: Block,
                        wanted: set[Value], addresses: Container[Region] | None) -> None:
        before = -1
        while before != len(wanted):  # what an iteration needs of the one before
            before = len(wanted)
            for result, first, value, last in zip(results, init, carried, body.terminator.operands, strict=True):
                if (result in wanted or value in wanted) and _is_number(value):
                    wanted.update((first, value, last))
            self._mark(body, wanted, addresses)
            if not any(v in wanted for v in carried):
                break

    def _programs(self, region: Region) -> None:
        assert region.block is not None
        wanted = self.wanted
        region.program = [
            (op, EVALUATE.get(type(op)), tuple(op.operands)) for op in region.block.ops
            if op.REGION_FIELDS or any(r in wanted for r in op.results)
            or (isinstance(op, PtrStore) and op.value in wanted)]
        region.varies = any(a in wanted for a in region.block.args)
        for op in region.block.ops:
            if isinstance(op, For):
                self.carried[op] = [
                    (carried, init, end, result) for carried, init, end, result
                    in zip(op.carried, op.init, op.body.terminator.operands, op.results, strict=True)
                    if carried in wanted or result in wanted]
        for child in region.children:
            self._programs(child)

    # The walk.

    def _visit(self, region: Region) -> None:
        assert region.block is not None
        chains: dict[Value, float] = dict.fromkeys(region.block.args[1:] if isinstance(region.op, For) else
                                                   region.block.args if region.is_loop else (), 0.0)
        carried = list(chains)
        wanted, core = self.wanted, self.core
        ready: dict[Value, float] = {}
        longest = 0.0
        for op in region.block.ops:
            if op.REGION_FIELDS:
                self._enter(op)
                self._end(op, region)
                end = max([ready[v] for v in op.operands if v in ready], default=0.0) + self._latency(op, region)
                ready.update(dict.fromkeys(op.results, end))
                longest = max(longest, end)
                continue
            operands = op.operands
            for result in op.results:
                if result in wanted:
                    self._number(op, operands)
                    break
            found = use_of(op, core)
            end = max([ready[v] for v in operands if v in ready], default=0.0) + found.latency
            for result in op.results:
                ready[result] = end
            longest = max(longest, end)
            home = self._home(op, operands, region)
            if found.latency and chains:
                start = max([chains[v] for v in operands if v in chains], default=-1.0)
                if start >= 0:
                    chains.update(dict.fromkeys(op.results, start + found.latency))
            if found.ports is not FREE and not self._repeated(op, operands, home):
                home.ports = [a + b for a, b in zip(home.ports, found.ports, strict=True)]
                home.flops += _flops(op)
            if type(op) in _ACCESSES:
                self._access(op, region)
        region.path = longest
        for child in region.children:
            region.loaded |= child.loaded
            region.stored |= child.stored
        if carried and region.block.ops:
            ends = region.block.terminator.operands
            region.recurrence = max((chains.get(v, 0.0) for v in ends), default=0.0)

    def _latency(self, op: Operation, region: Region) -> float:
        """Cycles until a loop, or the branch that is taken, has its results."""
        longest = 0.0
        for block in op.regions:
            inner = self.regions[block]
            count = self.executed.get(inner, 0.0)
            if count:
                trips = count / self.executed[region] if inner.is_loop else 1.0
                longest = max(longest, inner.path + max(0.0, trips - 1) * inner.recurrence)
        return longest

    def _home(self, op: Operation, operands: Sequence[Value], region: Region) -> Region:
        """Where an operation is done: before the loops that it does not depend on."""
        home = region
        if home.is_loop and type(op) not in _ACCESSES and not op.effects():
            homes, deepest = self.homes, 0
            for value in operands:
                found = homes.get(value)
                if found is not None and found.depth > deepest:
                    deepest = found.depth
            while home.depth > deepest and home.is_loop and home.parent is not None:
                home = home.parent
        for result in op.results:
            self.homes[result] = home
        return home

    def _repeated(self, op: Operation, operands: Sequence[Value], home: Region) -> bool:
        """Whether the region has computed the same address or integer before."""
        kind = type(op)
        if kind is PtrAdd:
            key: Any = (kind, *operands, op.constant)  # type: ignore[attr-defined]
        elif kind is Binary:
            key = (kind, *operands, op.kind)  # type: ignore[attr-defined]
        elif kind is Broadcast or kind is Cast:
            key = (kind, *operands, op.result.type)
        else:
            return False
        known = key in home.seen
        home.seen.add(key)
        return known

    def _enter(self, op: Operation) -> None:
        for block in op.regions:
            inner = self.regions[block]
            if inner not in self.executed:
                continue
            self.homes.update(dict.fromkeys(block.args, inner))
            if isinstance(op, For):
                self._enter_for(op, inner)
            elif isinstance(op, While):
                self._carry(block.args, op.init, (), inner)
            inner.ports[SCALAR] += 2.0 if inner.is_loop else 1.0  # a comparison and a jump; the index
            self._visit(inner)

    def _enter_for(self, op: For, inner: Region) -> None:
        number, slope = self.numbers.get(op.start), self.slopes.get(op.start, {})
        step = self.numbers.get(op.step)
        self.numbers[op.index] = number
        self.slopes[op.index] = {**slope, inner: step if isinstance(step, int) else 1}
        self._carry(op.carried, op.init, op.body.terminator.operands, inner)

    def _carry(self, carried: Iterable[Value], init: Iterable[Value], last: Iterable[Value], inner: Region) -> None:
        """Numbers that a loop carries begin with their first; where an iteration adds to them is found by a trial."""
        pairs = [(c, i) for c, i in zip(carried, init, strict=True) if c in self.wanted and _is_number(c)]
        for value, first in pairs:
            self.numbers[value] = self.numbers.get(first)
            self.slopes[value] = dict(self.slopes.get(first, {}))
        if not pairs:
            return
        block = inner.block
        assert block is not None
        ends = list(last) or list(block.terminator.operands)
        for op in block.ops:
            if any(r in self.wanted for r in op.results) and not op.REGION_FIELDS:
                self._number(op, op.operands)
        for (value, first), end in zip(((c, i) for c, i in zip(carried, init, strict=True)), ends, strict=False):
            if value in self.wanted and _is_number(value):
                a, b = self.numbers.get(first), self.numbers.get(end)
                if isinstance(a, int) and isinstance(b, int) and a != b:
                    self.slopes[value][inner] = b - a

    def _end(self, op: Operation, region: Region) -> None:
        """The numbers that control flow gives: of loops the first, of branches the one that is known to be taken."""
        self.homes.update(dict.fromkeys(op.results, region))
        sources: Iterable[Value] = ()
        if isinstance(op, (For, While)):
            sources = op.init
        elif isinstance(op, If) and op.results:
            condition = self.numbers.get(op.condition)
            sources = (op.orelse if condition is False else op.then).terminator.operands
        for result, source in zip(op.results, sources, strict=False):
            if result in self.wanted:
                self.numbers[result] = self.numbers.get(source)
                self.slopes[result] = self.slopes.get(source, {})

    # Numbers and slopes.

    def _number(self, op: Operation, operands: Sequence[Value]) -> None:
        numbers = self.numbers
        kind = type(op)
        if isinstance(op, PtrLoad):
            self._loaded(op)
            return
        elif kind is Alloca:
            numbers[op.result] = self.locals
            self.locals += 1 << 12
        elif kind is Iota:
            numbers[op.result] = 0
            self.slopes[op.result] = {_LANE: 1}
            return
        elif kind is Broadcast:
            numbers[op.result] = numbers.get(operands[0])
        elif kind is ConstantTable:
            numbers[op.result] = TABLES
        elif isinstance(op, (MaskedLoad, GatherLoad)):
            numbers[op.result] = 0
            around = (self.slopes.get(op.pointer), self.slopes.get(getattr(op, "indices", op.pointer)))
            self.slopes[op.result] = {_LANE: ANYWHERE, **{r: ANYWHERE for slopes in around for r in slopes or ()}}
            return
        elif isinstance(op, Select):  # where it is not known, what is usual stands first
            numbers[op.result] = numbers.get(op.y if numbers.get(op.condition) is False else op.x)
        else:
            rule = EVALUATE.get(kind)
            numbers[op.result] = None if rule is None else rule(op, [numbers.get(v) for v in operands])
        found = [self.slopes.get(v) for v in operands]
        if any(found):
            slopes = self._slopes(op, operands, found)
            if slopes:
                self.slopes[op.result] = slopes

    def _loaded(self, op: PtrLoad) -> None:
        """A word that is known; else some number, another one wherever it is read."""
        known = None if op.count else self.memory.get(self.numbers.get(op.pointer))  # type: ignore[arg-type]
        self.numbers[op.result] = known
        if known is None:
            self.numbers[op.result] = 0
            self.slopes[op.result] = dict.fromkeys(self.slopes.get(op.pointer) or (), ANYWHERE)
            if op.count:
                self.slopes[op.result][_LANE] = ANYWHERE

    def _slopes(self, op: Operation, operands: Sequence[Value], found: list[Slopes | None]) -> Slopes | None:
        if isinstance(op, PtrAdd):
            return _sum(found[0], found[1], 1, element_bytes(op.pointer)) if len(found) > 1 else found[0]
        if isinstance(op, Binary):
            return self._binary_slopes(op, operands[0], operands[1], found[0], found[1])
        if isinstance(op, Select):
            condition = self.numbers.get(op.condition)
            return found[2] if condition is False else found[1]
        return found[0]

    def _binary_slopes(self, op: Binary, x: Value, y: Value, a: Slopes | None, b: Slopes | None) -> Slopes | None:
        p, q, kind = self.numbers.get(x), self.numbers.get(y), op.kind
        if kind == "add":
            return _sum(a, b, 1, 1)
        if kind == "sub":
            return _sum(a, b, 1, -1)
        if kind == "mul":
            return _sum(a, b, q or 0, p or 0)
        if kind in ("quo", "floordiv") and q:
            return _sum(a, None, 1 / q, 1)
        if kind in ("rem", "mod") and q:
            return {r: s for r, s in (a or {}).items() if s % q} or None
        if kind in ("min", "max") and p is not None and q is not None:
            return a if (p <= q) == (kind == "min") else b
        if kind in ("shl", "lsl") and q is not None:
            return _sum(a, None, 1 << q, 1)
        if kind in ("shr", "asr", "lsr") and q is not None:
            return _sum(a, None, 1 / (1 << q), 1)
        if kind == "and" and q is not None and q >= 0:  # of the last bits
            return {r: s for r, s in (a or {}).items() if s % (q + 1)} or None
        return a if kind == "and" else None

    # Accesses.

    def _access(self, op: Any, region: Region) -> None:
        store = isinstance(op, (PtrStore, MaskedStore, ScatterStore))
        value = op.value if store else op.result
        tile = value.tile
        size = element_bytes(op.pointer)
        address, slopes = self.numbers.get(op.pointer), self.slopes.get(op.pointer) or {}
        around = isinstance(op, PtrStore) and op.non_temporal
        root = None if address is None else address >> ROOT_BITS
        if root == ARRAYS and address is not None:
            (region.stored if store else region.loaded).add(address)
        if root is None or root < ARRAYS:
            moved = max(1, tile.size) * size
            if store:
                region.written += moved
            else:
                region.read += moved
        if root is not None and root >= TABLES >> ROOT_BITS:
            return
        if isinstance(op, (GatherLoad, ScatterStore)):
            index = self.numbers.get(op.indices)
            lanes = max(1, tile.size)
            if index is None or address is None:
                region.accesses.append(Access(region, root, None, lanes, size, {}, store))
                return
            slopes = _sum(slopes, self.slopes.get(op.indices), 1, size) or {}
            step = abs(slopes.get(_LANE, 0))
            slopes = {r: s for r, s in slopes.items() if r is not _LANE}
            copies, width = extend(1, size, lanes, step)
            region.accesses.append(Access(region, root, address + size * int(index), copies, width, slopes, store))
            return
        width = max(1, tile.size) * size
        self._splits(region, store, address, width, size, slopes)
        region.accesses.append(Access(region, root, address, 1, width, slopes, store, around))


    def _splits(self, region: Region, store: bool, address: int | None, width: int, size: int, slopes: Slopes) -> None:
        """A register's worth that lies on two lines is moved in two steps."""
        piece = min(width, self.core.width, LINE_BYTES)
        if piece <= size or (address is not None and address % piece == 0
                             and all(s % piece == 0 for s in slopes.values())):
            return
        region.ports[STORE if store else LOAD] += -(-width // piece) * (piece - size) / LINE_BYTES


_LANE = Region(None, None, None, True)
_ACCESSES = (PtrLoad, PtrStore, MaskedLoad, MaskedStore, GatherLoad, ScatterStore)


def _is_number(value: Value) -> bool:
    return not isinstance(value.type, TileType) or (not value.type.shape and not value.type.dtype.is_float)


def _flops(op: Operation) -> float:
    if isinstance(op, Fma):
        return 2.0 * max(1, op.result.tile.size)
    if isinstance(op, DotBytes):
        return 8.0 * op.result.tile.size
    if isinstance(op, PairSums):
        return 8.0 * op.unsigned.tile.size
    if isinstance(op, DotPairs):
        return 4.0 * op.result.tile.size
    if isinstance(op, TileDot):
        return 16.0 * TILE_INSTRUCTIONS[op.instruction]
    if isinstance(op, Binary) and op.result.tile.dtype.is_float:
        return float(max(1, op.result.tile.size))
    return 0.0


def _sum(a: Slopes | None, b: Slopes | None, p: float, q: float) -> Slopes | None:
    """``p a + q b``."""
    result: Slopes = {}
    for slopes, factor in ((a, p), (b, q)):
        if slopes and factor:
            for region, slope in slopes.items():
                result[region] = result.get(region, 0) + slope * factor
    return {r: s for r, s in result.items() if s} or None


def extend(copies: float, width: float, trips: float, slope: float) -> tuple[float, float]:
    """What ``trips`` iterations touch of memory of which one touches ``copies`` pieces of ``width`` bytes, where they
    move by ``slope`` bytes: longer pieces, or more of them."""
    if trips <= 1:
        return copies * trips, width
    if not slope:
        return copies, width
    if slope <= max(width, LINE_BYTES):
        return copies, width + (trips - 1) * slope
    return copies * trips, width


def _merged(region: Region) -> list[Access]:
    """Accesses that move alike, as one of the lines that they touch together."""
    groups: dict[Any, list[Access]] = {}
    merged: list[Access] = []
    for access in region.accesses:
        if access.start is None:
            merged.append(access)
            continue
        moves = sorted((id(region), slope) for region, slope in access.slopes.items())
        key = (access.root, access.store, access.around, access.copies, *moves)
        groups.setdefault(key, []).append(access)
    for members in groups.values():
        members.sort(key=lambda a: a.start or 0)
        first = members[0]
        assert first.start is not None
        pieces, end, covered = 1, first.start + first.width, first.width
        for access in members[1:]:
            assert access.start is not None
            if access.start > end + LINE_BYTES:
                pieces += 1
                covered += access.width
            else:
                covered += max(0.0, access.start + access.width - end)
            end = max(end, access.start + access.width)
        merged.append(Access(region, first.root, first.start, pieces * first.copies, covered / pieces, first.slopes,
                             first.store, first.around))
    return merged


__all__ = ["LINE_BYTES", "LOCAL", "ROOT_BITS", "Access", "Analysis", "Region", "extend"]
