"""What operations of lowered code take of a core: uses of its execution ports, and latency.

An operation on a vector of lanes is as many instructions as the vector fills registers. What the emitters cannot spell
is legalised first, alone, and what comes of it is added up. Latencies are those of the cores of the last ten years
(Fog, "Instruction tables"; uops.info): they hardly differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import (
    Binary,
    Bitcast,
    Broadcast,
    Cast,
    Compare,
    Const,
    Extract,
    Fma,
    For,
    If,
    Iota,
    MaskedLoad,
    MaskedStore,
    MulHi,
    Pack,
    PtrAdd,
    PtrCast,
    PtrLoad,
    PtrStore,
    Select,
    Shuffle,
    Unary,
    While,
    Yield,
)
from tilus.ir.ops.simd import (
    ByteLookup,
    CallFunction,
    CallPointer,
    ConstantTable,
    DotBytes,
    DotPairs,
    FunctionAddress,
    GatherLoad,
    IntToPtr,
    PairSums,
    Prefetch,
    PtrToInt,
    ScaleBinary,
    ScatterStore,
    TableLookup,
    TileConfigure,
    TileDot,
    TileLoad,
    TileRelease,
    TileStore,
    TileZero,
)
from tilus.ir.ops.thread import Alloca, AtomicLoad, PtrAtomic
from tilus.ir.types import TileType
from tilus.lowering.legalise import HOST, Machine, legalise, rule_for
from tilus.model.cpu.numbers import size_of
from tilus.records import record
from tilus.targets import TARGETS

PORTS = ("vector arithmetic", "loads", "stores", "scalar instructions", "divisions", "rearrangements")
"""Of which operations take some. Divisions and rearrangements of a vector's elements are vector arithmetic that fewer
ports do."""
VECTOR, LOAD, STORE, SCALAR, DIVIDER, SHUFFLE = range(len(PORTS))
INSTRUCTIONS = (VECTOR, LOAD, STORE, SCALAR)
"""Those that count as instructions."""
LATENCY_FLOAT, LATENCY_INTEGER, LATENCY_MULTIPLY, LATENCY_LOAD, LATENCY_DIVIDE = 4, 1, 5, 6, 14
LATENCY_SHUFFLE = 3
CALL_CYCLES, ATOMIC_CYCLES = 50, 20
TILE_ROWS, TILE_SETUP_CYCLES = 16, 50


@record(frozen=True, slots=True)
class Use:
    """Of an operation: uses of :data:`PORTS`, and cycles until its result is there."""

    ports: tuple[float, ...]
    latency: float = 0.0


@record(frozen=True, slots=True)
class Core:
    """What operations take depends on: bytes of a vector register, and cycles from a sum of floats (scalars,
    and vectors), and from a multiply-add, to what needs it."""

    width: int
    scalar_add: float = 4.0
    add: float = 4.0
    multiply_add: float = 4.0


FREE = (0.0,) * len(PORTS)
NOTHING = Use(FREE)
_MACHINE = Machine(HOST, TARGETS["cpu"])
Costs = Callable[[Any, Core], Use]


def use(vector: float = 0, load: float = 0, store: float = 0, scalar: float = 0, divider: float = 0,
        shuffle: float = 0, latency: float = 0) -> Use:
    return Use((vector + shuffle, load, store, scalar, divider, shuffle), latency)


def registers(tile: TileType, vector_bytes: int) -> int:
    """How many registers a vector fills; 1 for a scalar."""
    if tile.dtype.is_bool:
        return 1
    return max(1, -(-tile.size * size_of(tile.dtype) // vector_bytes))


def lane_registers(value: Value, other: Value, width: int) -> int:
    """Registers of the wider one of two vectors: conversions and masks take instructions for each of those."""
    return max(registers(value.tile, width), registers(other.tile, width))


def _is_vector(tile: TileType) -> bool:
    return not tile.is_scalar


def _arithmetic(op: Operation, core: Core) -> Use:
    tile = op.result.tile
    n = registers(tile, core.width)
    if tile.dtype.is_float:
        adds = isinstance(op, Binary) and op.kind in ("add", "sub")
        add = core.add if _is_vector(tile) else core.scalar_add
        return use(vector=n, latency=add if adds else core.multiply_add)
    if _is_vector(tile):
        return use(vector=n, latency=LATENCY_INTEGER)
    return use(scalar=1, latency=LATENCY_INTEGER)


def _binary(op: Binary, core: Core) -> Use:
    tile, kind = op.result.tile, op.kind
    n = registers(tile, core.width)
    if tile.dtype.is_float:
        if kind == "div":
            return use(vector=n, divider=n * (2 if tile.dtype.bits == 64 else 1), latency=LATENCY_DIVIDE)
        # Of two numbers of which one may be none: a minimum, a comparison, a choice.
        return use(vector=3 * n, latency=8) if kind in ("min", "max") else _arithmetic(op, core)
    if kind in ("quo", "rem", "floordiv", "mod"):
        if _power_of_two(op.rhs):
            return _arithmetic(op, core)
        return use(scalar=4 * max(1, tile.size), divider=max(1, tile.size), latency=LATENCY_DIVIDE)
    if kind == "mul":
        if not _is_vector(tile):
            return use(scalar=1, latency=3)
        wide = {1: 3, 2: 1, 4: 2, 8: 3}[size_of(tile.dtype)]
        return use(vector=wide * n, latency=LATENCY_MULTIPLY * wide)
    return _arithmetic(op, core)


def _power_of_two(value: Value) -> bool:
    op = value.defining
    return isinstance(op, Const) and isinstance(op.value, int) and op.value > 0 and op.value & (op.value - 1) == 0


def _unary(op: Unary, core: Core) -> Use:
    if op.kind == "sqrt":
        n = registers(op.result.tile, core.width)
        return use(vector=n, divider=n, latency=LATENCY_DIVIDE)
    return _arithmetic(op, core) if op.result.tile.dtype.is_int or op.kind in ("neg", "abs", "not") else \
        use(vector=lane_registers(op.x, op.result, core.width), latency=LATENCY_FLOAT * 2)


def _compare(op: Compare, core: Core) -> Use:
    tile = op.lhs.tile
    if _is_vector(tile) or tile.dtype.is_float:
        return use(vector=registers(tile, core.width), latency=LATENCY_SHUFFLE)
    return use(scalar=1, latency=LATENCY_INTEGER)


def _select(op: Select, core: Core) -> Use:
    if not isinstance(op.x.type, TileType):
        return use(scalar=1, latency=LATENCY_INTEGER)
    return _arithmetic(op, core)


def _cast(op: Cast, core: Core) -> Use:
    old, new = op.x.tile, op.result.tile
    if not _is_vector(new):
        mixed = old.dtype.is_float or new.dtype.is_float
        return use(vector=1, latency=LATENCY_FLOAT) if mixed else use(scalar=1, latency=LATENCY_INTEGER)
    n = lane_registers(op.x, op.result, core.width)
    steps = 1 if size_of(old.dtype) == size_of(new.dtype) or not _mixed(old.dtype, new.dtype) else 2
    saturates = 2 if old.dtype.is_float and new.dtype.is_int else 0
    return use(vector=n * (steps + saturates), latency=LATENCY_SHUFFLE * (steps + saturates))


def _mixed(a: DType, b: DType) -> bool:
    return a.is_float != b.is_float or 16 in (a.bits, b.bits)


def _broadcast(op: Broadcast, core: Core) -> Use:
    """A load of one element for all lanes takes no more than the load."""
    if isinstance(op.x.defining, PtrLoad) and not op.x.tile.dtype.is_bool:
        return NOTHING
    return use(shuffle=1, latency=LATENCY_SHUFFLE)


def _shuffle(op: Shuffle, core: Core) -> Use:
    """Parts of a vector that are whole registers take nothing, others two instructions for each of those they fill."""
    n = registers(op.result.tile, core.width)
    size = size_of(op.result.tile.dtype)
    run = all(b - a == 1 for a, b in zip(op.indices, op.indices[1:], strict=False))
    if run and op.indices[0] * size % core.width == 0:
        return NOTHING
    inputs = registers(op.vector.tile, core.width)
    return use(shuffle=n * min(inputs, 2 if not run else 1), latency=LATENCY_SHUFFLE)


def _load(op: PtrLoad | MaskedLoad, core: Core) -> Use:
    n = registers(op.result.tile, core.width)
    masks = n if isinstance(op, MaskedLoad) else 0
    return use(load=n, vector=masks, latency=LATENCY_LOAD)


def _store(op: PtrStore | MaskedStore, core: Core) -> Use:
    n = registers(op.value.tile, core.width)
    return use(store=n, vector=n if isinstance(op, MaskedStore) else 0, latency=0)


def _gather(op: GatherLoad, core: Core) -> Use:
    """One load a lane, whose index is taken out of a vector and whose element is put into one."""
    lanes = max(1, op.result.tile.size)
    if lanes == 1:
        return use(load=1, scalar=1, latency=LATENCY_LOAD)
    return use(load=lanes, shuffle=2 * lanes, latency=LATENCY_LOAD + LATENCY_SHUFFLE * 2)


def _scatter(op: ScatterStore, core: Core) -> Use:
    lanes = max(1, op.value.tile.size)
    masks = 2 * lanes if op.mask is not None else 0
    return use(store=lanes, shuffle=2 * lanes if lanes > 1 else 0, scalar=masks)


TILE_INSTRUCTIONS = {"tdpbssd": 2048, "tdpbsud": 2048, "tdpbusd": 2048, "tdpbuud": 2048, "tdpbf16ps": 1024}
"""Operations a cycle: a product of whole tiles takes 16."""
BYTE_STEPS = {"vpdpbusd": (1, 1), "usdot": (1, 1), "pmaddubsw": (7, 3), "sdot": (4, 1)}
"""How many instructions a ``DotBytes`` is, and how many where its bytes are small."""


def _dot_bytes(op: DotBytes, core: Core) -> Use:
    n = registers(op.result.tile, core.width)
    steps = BYTE_STEPS[op.instruction][op.small]
    return use(vector=n * steps, latency=LATENCY_FLOAT if steps == 1 else LATENCY_MULTIPLY + 2)


def _dot_pairs(op: DotPairs, core: Core) -> Use:
    n = registers(op.result.tile, core.width)
    if op.result.tile.dtype.is_float:
        return use(vector=n, latency=LATENCY_FLOAT + 2)
    return use(vector=2 * n, latency=LATENCY_MULTIPLY + 1)


def _lookup(op: TableLookup | ByteLookup, core: Core) -> Use:
    return use(shuffle=1, latency=LATENCY_SHUFFLE)


def _pack(op: Pack, core: Core) -> Use:
    """Vectors are put together by the shuffles that follow, which take two operands."""
    if all(_is_vector(part.tile) for part in op.parts):
        return NOTHING
    return use(shuffle=max(0, len(op.parts) - 1), latency=LATENCY_SHUFFLE)


def _free(op: Operation, core: Core) -> Use:
    return NOTHING


COSTS: dict[type[Operation], Costs] = {
    Binary: _binary, Unary: _unary, Fma: _arithmetic, Compare: _compare, Select: _select, Cast: _cast, Bitcast: _free,
    Broadcast: _broadcast, Shuffle: _shuffle, PtrLoad: _load, MaskedLoad: _load, PtrStore: _store,
    MaskedStore: _store, GatherLoad: _gather, ScatterStore: _scatter, DotBytes: _dot_bytes, TableLookup: _lookup,
    ByteLookup: _lookup,
    Pack: _pack, ScaleBinary: lambda op, core: use(vector=2 * registers(op.results[0].tile, core.width),
                                                   latency=LATENCY_FLOAT),
    MulHi: lambda op, core: use(vector=4 * registers(op.result.tile, core.width), latency=2 * LATENCY_MULTIPLY),
    Extract: lambda op, core: use(shuffle=1, latency=LATENCY_SHUFFLE),
    Prefetch: lambda op, core: use(load=1),
    DotPairs: _dot_pairs,
    PairSums: lambda op, core: use(vector=registers(op.result.tile, core.width), latency=LATENCY_MULTIPLY),
    **dict.fromkeys((TileConfigure, TileRelease), lambda op, core: use(scalar=TILE_SETUP_CYCLES)),
    **dict.fromkeys((TileLoad, TileStore), lambda op, core: use(load=TILE_ROWS)),
    TileDot: lambda op, core: use(shuffle=TILE_ROWS),
    TileZero: lambda op, core: use(scalar=1),
    # Offsets are parts of instructions' addresses, those that are constant always.
    PtrAdd: lambda op, core: NOTHING if op.offset is None else use(scalar=0.5, latency=LATENCY_INTEGER),
    **dict.fromkeys((Const, Iota, PtrCast, PtrToInt, IntToPtr, Alloca, ConstantTable, FunctionAddress, Yield), _free),
    **dict.fromkeys((CallPointer, CallFunction), lambda op, core: use(scalar=CALL_CYCLES)),
    **dict.fromkeys((PtrAtomic, AtomicLoad), lambda op, core: use(scalar=ATOMIC_CYCLES, latency=ATOMIC_CYCLES)),
}
"""By class, from an operation and the core."""

_known: dict[Any, Use] = {}


def use_of(op: Operation, core: Core) -> Use:
    """What an operation takes."""
    cost = COSTS.get(type(op))
    if cost is not None and type(op) not in _LEGALISED:
        return cost(op, core)
    rhs = op.rhs.defining if isinstance(op, Binary) else None
    key = (type(op), getattr(op, "kind", ""), core, *(v.type for v in op.operands), *(r.type for r in op.results),
           rhs.value if isinstance(rhs, Const) else None)
    found = _known.get(key)
    if found is None:
        if rule_for(op, _MACHINE) is not None:
            found = _expanded(op, core)
        else:
            found = cost(op, core) if cost is not None else _arithmetic(op, core) if op.results else NOTHING
        _known[key] = found
    return found


_LEGALISED = frozenset({Binary, Unary, Fma, Compare, Cast, MulHi, PtrAtomic})


def _expanded(op: Operation, core: Core) -> Use:
    """The sum over what an operation is legalised to."""
    body = Block([v.type for v in op.operands])
    alone = op.on([v if isinstance(v.defining, Const) else a for v, a in zip(op.operands, body.args, strict=True)])
    body.ops = [alone, Yield(tuple(alone.results))]
    legalise(HOST)(Module([Function("alone", body, ())], None, "thread", frozenset(), "cpu"))
    ports, latency = _sum_of(body, core)
    return Use(tuple(ports), latency)


def _sum_of(block: Block, core: Core) -> tuple[list[float], float]:
    """Uses of a block, and the longest chain in it. Of branches the cheaper one counts: the others are for rare
    numbers, as loops that run as long as there are some are."""
    ports = [0.0] * len(PORTS)
    ready: dict[Value, float] = {}
    last = 0.0
    for op in block.ops:
        inner = [_sum_of(region, core) for region in op.regions]
        if isinstance(op, (If, While)):
            taken, latency = min(inner, key=lambda x: sum(x[0]))
        elif isinstance(op, For):
            trips = _constant_trips(op)
            taken, latency = [trips * x for x in inner[0][0]], trips * inner[0][1]
        else:
            found = use_of(op, core)
            taken, latency = list(found.ports), found.latency
        ports = [a + b for a, b in zip(ports, taken, strict=True)]
        end = max((ready.get(v, 0.0) for v in op.operands), default=0.0) + latency
        ready.update(dict.fromkeys(op.results, end))
        last = max(last, end)
    return ports, last


def _constant_trips(op: For) -> int:
    bounds = [v.defining.value if isinstance(v.defining, Const) else None for v in (op.start, op.stop, op.step)]
    start, stop, step = bounds
    return len(range(int(start), int(stop), int(step))) if None not in bounds else 1  # type: ignore[arg-type]


__all__ = ["FREE", "INSTRUCTIONS", "LOAD", "PORTS", "SCALAR", "STORE", "Core", "Use", "use_of"]
