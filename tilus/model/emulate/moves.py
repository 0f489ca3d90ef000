"""Moves, special registers, and what the lanes of a warp exchange."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tilus.model.emulate.operands import (
    Read,
    Source,
    bank_source,
    double_source,
    moved,
    predicate,
    word_source,
)
from tilus.model.emulate.operations import Operation, operation, parts_of
from tilus.model.emulate.registers import results
from tilus.model.emulate.state import State
from tilus.model.emulate.values import (
    TRUE,
    U32,
    U64,
    UNKNOWN,
    UNKNOWN_TRUTH,
    ZERO,
    Array,
    Value,
    any_lane,
    both,
    high_word,
    low_word,
    settled,
    signed,
    word,
)
from tilus.model.sass import Instruction


@operation("MOV", "UMOV", "MOV32I", "MOV64IUR")
def _move(i: Instruction) -> Operation:
    source = i.operands[1]
    if i.has("64"):
        return Operation((double_source(source),), results(i), lambda a: (low_word(a), high_word(a)), linear=True,
                         wide=True)
    return Operation((word_source(source),), results(i)[:1], lambda a: (a,), linear=True)


@operation("LDC", "ULDC", "LDCU")
def _load_constant(i: Instruction) -> Operation | None:
    operand = i.operands[1]
    if operand.kind != "constant":
        return None
    found = results(i)
    narrow = next((m for m in i.modifiers if m in ("U8", "S8", "U16", "S16")), None)
    if narrow is not None:
        bits = int(narrow[1:])

        def extend(a: Array) -> tuple[Array, ...]:
            if narrow[0] == "U":
                return (a,)
            return ((signed(a << U32(32 - bits)) >> np.int32(32 - bits)).view(U32),)

        return Operation((bank_source(operand, bits // 8),), found, extend)
    words = tuple(word_source(moved(operand, 4 * n)) for n in range(len(found)))
    return Operation(words, found, lambda *values: values)


def _special(name: str) -> Read:
    def read(state: State) -> Value:
        lanes = state.lanes
        kind, _, axis = name.removeprefix("SR_").partition(".")
        if axis in ("X", "Y", "Z"):
            place = "XYZ".index(axis)
            if kind in ("TID", "CTAID"):
                return (lanes.thread if kind == "TID" else lanes.block)[place], True
            extents = {"NTID": state.launch.block, "NCTAID": state.launch.grid, "GRIDDIM": state.launch.grid,
                       "CgaDim": state.launch.cluster, "NCgaId": state.launch.cluster}.get(kind)
            if extents is not None:
                return word(extents[place]), True
        lane = lanes.lane.astype(U32)[None, None, :]
        if kind == "LANEID":
            return lane, True
        if kind in _LANE_MASKS:
            return _LANE_MASKS[kind](lane.astype(U64)).astype(U32), True
        if name == "SRZ" or kind in ("CgaCtaId", "SWINHI", "SWINLO"):
            # Blocks of a cluster have shared windows of their own, which only differ in their upper bits.
            return ZERO, True
        return UNKNOWN

    return read


_LANE_MASKS: dict[str, Callable[[Array], Array]] = {
    "EQMASK": lambda n: U64(1) << n, "LTMASK": lambda n: (U64(1) << n) - U64(1),
    "LEMASK": lambda n: (U64(2) << n) - U64(1), "GTMASK": lambda n: ~((U64(2) << n) - U64(1)),
    "GEMASK": lambda n: ~((U64(1) << n) - U64(1)),
}


@operation("S2R", "S2UR", "CS2R")
def _read_special(i: Instruction) -> Operation:
    found = results(i)
    source = Source((), _special(i.operands[1].name))
    if i.opcode == "CS2R" and len(found) == 2:
        return Operation((source,), found, lambda a: (a, np.zeros_like(a)))
    if i.opcode == "S2UR":
        return Operation((source,), found, lambda a: (a[:, :, :1],))
    return Operation((source,), found, lambda a: (a,))


# -- across a warp


def _with_active(sources: tuple[Source, ...], found: tuple[int, ...],
                 compute: Callable[..., tuple[Array, ...]]) -> Operation:
    """An operation whose last operand is the lanes that execute it."""
    return Operation((*sources, Source((), lambda state: (state.active, True))), found, compute)


@operation("R2UR")
def _to_uniform(i: Instruction) -> Operation:
    """The value of the first lane that executes it."""
    found = results(i)
    operand = next(o for o in i.operands if o.kind == "R")

    def compute(value: Array, active: Array) -> tuple[Array, ...]:
        return (first_active(value, active),)

    return _with_active((word_source(operand),), found[-1:], compute)


def first_active(value: Array, active: Array) -> Array:
    """The value of each warp's first active lane."""
    if value.shape[2] == 1:
        return value
    if active.shape[2] == 1:
        return value[:, :, :1]
    shape = np.broadcast_shapes(value.shape, active.shape)
    lane = np.broadcast_to(active, shape).argmax(axis=2)[:, :, None]
    return np.take_along_axis(np.broadcast_to(value, shape), lane, axis=2)


@operation("VOTE", "VOTEU")
def _vote(i: Instruction) -> Operation | None:
    kind = next((m for m in i.modifiers if m in ("ANY", "ALL", "EQ")), None)
    found = results(i)
    operand = i.operands[-1]
    if kind is None or operand.kind not in ("P", "UP"):
        return None
    has_register = i.operands[0].kind in ("R", "UR")

    def compute(flag: Array, active: Array) -> tuple[Array, ...]:
        shape = np.broadcast_shapes(flag.shape, active.shape)
        voting = np.broadcast_to(flag & active, shape)
        some, every = any_lane(voting), ~any_lane(active & ~flag)
        outcome = {"ANY": some, "ALL": every, "EQ": ~some | every}[kind]
        return (ballot(voting), outcome) if has_register else (outcome,)

    return _with_active((predicate(operand),), found, compute)


def ballot(voting: Array) -> Array:
    """The truths of a warp's lanes as bits; where there is one for all of them, all are alike."""
    if voting.shape[2] == 1:
        alike: Array = np.where(voting, U32(0xFFFF_FFFF), U32(0))
        return alike
    bits = U32(1) << np.arange(voting.shape[2], dtype=U32)
    total: Array = np.where(voting, bits, U32(0)).sum(axis=2, keepdims=True, dtype=U32)
    return total


@operation("ELECT")
def _elect(i: Instruction) -> Operation:
    """The first active lane of each warp."""
    def compute(active: Array) -> tuple[Array, ...]:
        first = np.zeros(active.shape[:2] + (32,), bool) if active.shape[2] == 1 else np.zeros(active.shape, bool)
        lane = active.argmax(axis=2)[:, :, None] if active.shape[2] > 1 else np.zeros((*active.shape[:2], 1), int)
        np.put_along_axis(first, lane, True, axis=2)
        return (first,)

    return _with_active((), results(i)[:1], compute)


@operation("SHFL")
def _shuffle(i: Instruction) -> Operation | None:
    """``P, D, a, b, c``: a of another lane, of which b and c say how it is found."""
    kind = next((m for m in i.modifiers if m in ("IDX", "UP", "DOWN", "BFLY")), None)
    p = parts_of(i)
    if kind is None or len(p.sources) != 3:
        return None
    a, b, c = (word_source(o) for o in p.sources)

    def read(state: State) -> Value:
        (value, known), (lane, known_b), (bounds, known_c) = a.read(state), b.read(state), c.read(state)
        known = both(known, both(known_b, known_c))
        if known is False or len(state.lanes.lane) != 32:
            return UNKNOWN
        if value.shape[2] == 1 and isinstance(known, bool):
            return value, known
        at, _ = _partner(kind, state.lanes.lane.astype(np.int64)[None, None, :], lane, bounds)
        shape = np.broadcast_shapes(value.shape, at.shape)
        at = np.broadcast_to(at, shape)
        taken = np.take_along_axis(np.broadcast_to(value, shape), at, axis=2)
        if not isinstance(known, bool):
            known = settled(np.take_along_axis(np.broadcast_to(known, shape), at, axis=2))
        return taken, known

    def inside(state: State) -> Value:
        (lane, known_b), (bounds, known_c) = b.read(state), c.read(state)
        known = both(known_b, known_c)
        if known is False:
            return UNKNOWN_TRUTH
        return _partner(kind, state.lanes.lane.astype(np.int64)[None, None, :], lane, bounds)[1], known

    sources = (Source(a.registers + b.registers + c.registers, read), Source(b.registers + c.registers, inside))
    return Operation(sources, p.results, lambda value, ok: (ok, value))


def _partner(kind: str, lane: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """The lane that each lane reads, and whether that is within its segment (PTX ISA, shfl.sync)."""
    amount = (b & U32(31)).astype(np.int64)
    clamp, segment = (c & U32(31)).astype(np.int64), (c >> U32(8) & U32(31)).astype(np.int64)
    least, most = lane & segment, (lane & segment) | (clamp & ~segment)
    if kind == "UP":
        at = lane - amount
        inside = at >= most
    else:
        at = {"DOWN": lane + amount, "BFLY": lane ^ amount}.get(kind, least | (amount & ~segment))
        inside = at <= most
    return np.where(inside, at, lane) & 31, inside


@operation("MATCH", "REDUX", "UREDUX")
def _across(i: Instruction) -> Operation | None:
    """Only of what all lanes have alike."""
    p = parts_of(i)
    if i.opcode != "MATCH" and not any(m in ("MIN", "MAX", "AND", "OR") for m in i.modifiers):
        return None
    source = word_source(p.sources[0])

    def read(state: State) -> Value:
        value, known = source.read(state)
        return (value, known) if value.shape[2] == 1 else (value[:, :, :1], False)

    found = (p.results[-1],) if i.opcode != "MATCH" else p.results
    if i.opcode != "MATCH":
        return Operation((Source(source.registers, read),), found, lambda a: (a,))
    return _with_active((Source(source.registers, read),), found,
                        lambda a, active: (TRUE, ballot(active))[-len(found):])


__all__ = ["ballot", "first_active"]
