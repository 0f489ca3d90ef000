"""Operations among the lanes of a warp: shuffles, votes, matches, reductions and election."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import numpy as np

from tilus.simulator.barriers import warp_bits
from tilus.simulator.isa import instr
from tilus.simulator.machine import POISON, Array, Binder, Both, Const, Group, Op, Reg, Run, Sink
from tilus.simulator.ops_logic import write
from tilus.simulator.resolved import Resolved

_LANE_BIT = (np.uint32(1) << np.arange(32, dtype=np.uint32)).astype(np.uint32)


def members(b: Binder, op: Op, item: Resolved | None) -> Array:
    """The member mask operand, also told to the gate at which the lanes meet."""
    mask = b.src(op, item, "b32") if item is not None else np.array([0xFFFFFFFF], np.uint32)
    b.batch.barriers.members[id(op)] = mask
    return mask


def check_member(b: Binder, op: Op, g: Group, mask: Array) -> None:
    """A lane must be in the member mask that it names."""
    if not b.launch.checks.sync or (mask.size == 1 and mask[0] == 0xFFFFFFFF):
        return
    own = np.tile(_LANE_BIT, b.batch.warps)
    outside = g.mask & ((np.broadcast_to(mask, own.shape) & own) == 0)
    if outside.any():
        b.batch.fault("sync", "the executing lane is not in the member mask", op, int(np.argmax(outside)),
                      count=int(outside.sum()))


def _data_and_predicate(b: Binder, op: Op, item: Resolved) -> tuple[Array, Array | None]:
    if isinstance(item, Both):
        first = b.dst(op, item.first, "b32")
        return first, None if isinstance(item.second, Sink) else b.dst(op, item.second, "pred")
    return b.dst(op, item, "b32"), None


@instr("shfl =sync mode:up|down|bfly|idx =b32", gate="warp", kind="shuffle")
def shfl(b: Binder, op: Op) -> Run:
    d, a, lane, clamp, mask = b.need(op, 5)
    return _shuffle(b, op, d, a, lane, clamp, members(b, op, mask))


@instr("shfl mode:up|down|bfly|idx =b32", kind="shuffle")
def shfl_old(b: Binder, op: Op) -> Run:
    d, a, lane, clamp = b.need(op, 4)
    return _shuffle(b, op, d, a, lane, clamp, np.array([0xFFFFFFFF], np.uint32))


def shuffle_source(mode: str, lane: Array, amount: Array, control: Array) -> tuple[Array, Array]:
    """(source lane, whether it is in range) by the ISA's formula."""
    value, clamp, segment = amount & 31, control & 31, (control >> 8) & 31
    top = (lane & segment) | (clamp & ~segment & 31)
    low = lane & segment
    if mode == "up":
        source = lane - value
        inside = source >= top
    elif mode == "down":
        source = lane + value
        inside = source <= top
    elif mode == "bfly":
        source = lane ^ value
        inside = source <= top
    else:
        source = low | (value & ~segment & 31)
        inside = source <= top
    return np.where(inside, source, lane), inside


def _shuffle(b: Binder, op: Op, d: Resolved, a: Resolved, lane: Resolved, clamp: Resolved, mask: Array) -> Run:
    dst, flag = _data_and_predicate(b, op, d)
    value, amount, control = b.src(op, a, "b32"), b.src(op, lane, "b32"), b.src(op, clamp, "b32")
    mode = str(op.fields["mode"])
    batch = b.batch
    own = np.arange(b.lanes) & 31
    base = np.arange(b.lanes) - own
    fixed = None
    if amount.size == 1 and control.size == 1:
        source, inside = shuffle_source(mode, own, amount.astype(np.int64), control.astype(np.int64))
        fixed = (base + source, inside)

    def run(g: Group) -> None:
        check_member(b, op, g, mask)
        if fixed is not None:
            index, inside = fixed
        else:
            source, inside = shuffle_source(mode, own, amount.astype(np.int64), control.astype(np.int64))
            index = base + source
        row = value if value.size == b.lanes else np.full(b.lanes, value[0])
        result = row[index]
        if g.idx is not None:
            dead = g.mask & ~g.mask[index]
            if dead.any():
                result = np.where(dead, np.uint32(POISON), result)
                if batch.launch.checks.sync:
                    batch.fault("sync", "the source lane of a shuffle is not active", op, int(np.argmax(dead)),
                                count=int(dead.sum()))
        write(g, dst, result)
        if batch.taint.active:
            batch.taint.moved(op, d.first if isinstance(d, Both) else d, a, index, g)
        if flag is not None:
            write(g, flag, inside)

    return run


def _predicate_values(b: Binder, op: Op, item: Resolved) -> tuple[Array, bool]:
    if isinstance(item, Reg) and item.bits == 1:
        return b.row(item), item.negated
    if isinstance(item, Const):
        return np.full(b.lanes, bool(item.value)), False
    raise b.error("a predicate is expected", op)


def _votes(b: Binder, g: Group, row: Array, negated: bool) -> tuple[Array, Array]:
    value = ~row if negated else row
    active = np.repeat(warp_bits(g.mask), 32)
    return np.repeat(warp_bits(value & g.mask), 32), active


@instr("vote =sync mode:all|any|uni =pred", "vote =sync mode:ballot =b32", gate="warp", kind="vote")
def vote(b: Binder, op: Op) -> Run:
    d, p, m = b.need(op, 3)
    return _vote(b, op, d, p, members(b, op, m))


@instr("vote mode:all|any|uni =pred", "vote mode:ballot =b32", kind="vote")
def vote_old(b: Binder, op: Op) -> Run:
    d, p = b.need(op, 2)
    return _vote(b, op, d, p, np.array([0xFFFFFFFF], np.uint32))


def _vote(b: Binder, op: Op, d: Resolved, p: Resolved, mask: Array) -> Run:
    mode = str(op.fields["mode"])
    row, negated = _predicate_values(b, op, p)
    dst = b.dst(op, d, "b32" if mode == "ballot" else "pred")

    def run(g: Group) -> None:
        check_member(b, op, g, mask)
        ballot, active = _votes(b, g, row, negated)
        ballot, active = ballot & mask, active & mask
        if mode == "ballot":
            write(g, dst, ballot)
        elif mode == "any":
            write(g, dst, ballot != 0)
        elif mode == "all":
            write(g, dst, ballot == active)
        else:
            write(g, dst, (ballot == active) | (ballot == 0))

    return run


@instr("activemask =b32", kind="vote")
def activemask(b: Binder, op: Op) -> Run:
    dst = b.dst(op, b.need(op, 1)[0], "b32")
    return lambda g: write(g, dst, np.repeat(warp_bits(g.mask), 32))


@instr("match mode:any =sync t:b32|b64", "match mode:all =sync t:b32|b64", gate="warp", kind="vote")
def match(b: Binder, op: Op) -> Run:
    d, a, m = b.need(op, 3)
    mask = members(b, op, m)
    dst, flag = _data_and_predicate(b, op, d)
    value = b.src(op, a, str(op.fields["t"]))
    every = op.fields["mode"] == "all"

    def run(g: Group) -> None:
        check_member(b, op, g, mask)
        rows = np.broadcast_to(value, (b.lanes,)).reshape(-1, 32)
        allowed = (np.broadcast_to(mask, (b.lanes,)).reshape(-1, 32, 1) & _LANE_BIT) != 0
        allowed = allowed & g.mask.reshape(-1, 1, 32)
        equal = (rows[:, :, None] == rows[:, None, :]) & allowed
        bits = (equal * _LANE_BIT).sum(axis=2, dtype=np.uint32).reshape(-1)
        if every:
            wanted = (allowed * _LANE_BIT).sum(axis=2, dtype=np.uint32).reshape(-1)
            same = bits == wanted
            write(g, dst, np.where(same, wanted, np.uint32(0)))
            if flag is not None:
                write(g, flag, same)
        else:
            write(g, dst, bits)

    return run


@instr("redux =sync op:add|min|max t:u32|s32", "redux =sync op:and|or|xor =b32",
       "redux =sync op:min|max ?abs ?NaN t:f32", gate="warp", kind="shuffle")
def redux(b: Binder, op: Op) -> Run:
    d, a, m = b.need(op, 3)
    mask = members(b, op, m)
    kind = str(op.fields.get("t") or "b32")
    dst, value = b.dst(op, d, kind), b.src(op, a, kind)
    name = str(op.fields["op"])
    neutral: Any
    ufunc: Any
    if kind == "f32":
        neutral = np.float32(np.inf if name == "min" else -np.inf)
        ufunc = {("min", False): np.fmin, ("max", False): np.fmax, ("min", True): np.minimum,
                 ("max", True): np.maximum}[name, ".NaN" in op.opcode]
    else:
        info = np.iinfo(dst.dtype)
        neutral = {"add": 0, "or": 0, "xor": 0, "and": info.max, "min": info.max, "max": info.min}[name]
        ufunc = {"add": np.add, "or": np.bitwise_or, "xor": np.bitwise_xor, "and": np.bitwise_and, "min": np.minimum,
                 "max": np.maximum}[name]

    def run(g: Group) -> None:
        check_member(b, op, g, mask)
        row = np.broadcast_to(np.abs(value) if ".abs" in op.opcode else value, (b.lanes,)).reshape(-1, 1, 32)
        allowed = (np.broadcast_to(mask, (b.lanes,)).reshape(-1, 32, 1) & _LANE_BIT) != 0
        allowed = allowed & g.mask.reshape(-1, 1, 32)
        filled = np.where(allowed, row, np.array(neutral).astype(dst.dtype))
        write(g, dst, ufunc.reduce(filled, axis=2, dtype=dst.dtype).reshape(-1))

    return run


@instr("elect =sync", gate="warp", kind="vote")
def elect(b: Binder, op: Op) -> Run:
    d, m = b.need(op, 2)
    mask = members(b, op, m)
    if not isinstance(d, Both):
        raise b.error("elect.sync writes d|p", op)
    dst = None if isinstance(d.first, Sink) else b.dst(op, d.first, "b32")
    flag = b.dst(op, d.second, "pred")
    own = np.arange(b.lanes) & 31

    def run(g: Group) -> None:
        check_member(b, op, g, mask)
        chosen = np.repeat(warp_bits(g.mask), 32) & mask
        lowest = np.bitwise_count((chosen & (~chosen + np.uint32(1))) - np.uint32(1)).astype(np.int64)
        if dst is not None:
            write(g, dst, lowest.astype(np.uint32))
        write(g, flag, own == lowest)

    return run


@instr("bar.warp =sync", gate="warp", writes=0, kind="barrier")
def warp_sync(b: Binder, op: Op) -> Run:
    mask = members(b, op, b.need(op, 1)[0])
    batch = b.batch

    def run(g: Group) -> None:
        check_member(b, op, g, mask)
        together = np.broadcast_to(mask, g.mask.shape)
        if batch.launch.shadow_hooks:
            batch.order.warp_sync(g.mask, together)

    return run
