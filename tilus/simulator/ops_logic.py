"""Moves, logic, comparison and selection."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import numpy as np

from tilus.simulator.isa import INT, instr
from tilus.simulator.layout import CLUSTER_SHIFT, LOCAL_WINDOW, SHARED_WINDOW, whole_address
from tilus.simulator.machine import (
    Array,
    Binder,
    Both,
    Const,
    Group,
    Op,
    Predicated,
    Reg,
    Run,
    Sink,
    Special,
    Symbol,
    Vec,
)
from tilus.simulator.numbers import bf16_to_f32, flush
from tilus.simulator.syntax import type_bits

_CLOCKS = ("%clock", "%clock64", "%globaltimer", "%globaltimer_lo", "%clock_hi", "%globaltimer_hi")
_INT_COMPARE = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
                "ge": np.greater_equal, "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal}


def write(g: Group, dst: Array, value: Any) -> None:
    """Write values of all lanes under the group's mask."""
    if g.m is None:
        dst[...] = value
    else:
        np.copyto(dst, value, where=g.m, casting="unsafe")


@instr("mov t:b16|b32|b64|b128|u16|u32|u64|s16|s32|s64|f32|f64|pred|f16|f16x2|bf16|bf16x2", kind="move")
def mov(b: Binder, op: Op) -> Predicated | Run:
    kind = str(op.fields["t"])
    d, a = b.need(op, 2)
    if isinstance(d, Vec) or isinstance(a, Vec):
        return _unpack(b, op, kind, d.items, a) if isinstance(d, Vec) else _pack(b, op, kind, d, a)
    if kind == "b128":
        target, source = b.row(_register(b, op, d)), b.row(_register(b, op, a))

        def copy(g: Group) -> None:
            target[g.mask] = source[g.mask]

        return copy
    dst = b.dst(op, d, kind)
    if isinstance(a, Special) and a.name in _CLOCKS:
        launch, shift = b.launch, 32 if a.name.endswith("_hi") else 0

        def clock(g: Group) -> None:
            launch.clock_reads += 1
            write(g, dst, np.uint64(launch.steps + _unfinished(b) + launch.clock_reads >> shift).astype(dst.dtype))

        return clock
    if isinstance(a, Symbol) and a.space == "local" and a.formal:
        value = np.array([a.address + LOCAL_WINDOW], np.uint64).astype(dst.dtype)
        return b.alu(op, lambda x: x, dst, value)
    if isinstance(a, Reg) and a.bits == 1 and kind == "pred" and a.negated:
        return b.alu(op, np.logical_not, dst, b.row(a))
    return b.alu(op, lambda x: x, dst, b.src(op, a, kind))


def _unfinished(b: Binder) -> int:
    """Instructions of the batch that the launch has not counted yet."""
    executor = b.batch.state["executor"]
    return int(executor.steps - executor.counted)


def _register(b: Binder, op: Op, item: object) -> Reg:
    if not isinstance(item, Reg):
        raise b.error("a register is expected", op)
    return item


def _unpack(b: Binder, op: Op, kind: str, items: tuple[Any, ...], source: Any) -> Run:
    size = type_bits(kind) // 8
    part = _part_size(b, op, size, len(items))
    name = {1: "b8", 2: "b16", 4: "b32", 8: "b64"}[part]
    row = b.row(source) if isinstance(source, Reg) else np.full(b.lanes, b.src(op, source, kind))
    if row.dtype.itemsize * ((row.ndim > 1 and 2) or 1) != size:
        raise b.error("the parts do not make up the register", op)
    view = row.view(f"u{part}").reshape(b.lanes, -1)
    targets = [None if isinstance(item, Sink) else _narrow(b, op, item, name) for item in items]

    def run(g: Group) -> None:
        values = [view[:, i].copy() for i in range(len(targets))]
        for target, value in zip(targets, values, strict=True):
            if target is not None:
                write(g, target, value)

    return run


def _part_size(b: Binder, op: Op, size: int, count: int) -> int:
    """Bytes of each of the parts of a register."""
    if count not in (2, 4, 8) or size < count or size // count > 8:
        raise b.error(f"{count} parts of {size} bytes", op)
    return size // count


def _narrow(b: Binder, op: Op, item: Any, name: str) -> Array:
    """A destination row; 8-bit values go to the low byte's register in full."""
    return b.row(_register(b, op, item)) if name == "b8" else b.dst(op, item, name)


def _pack(b: Binder, op: Op, kind: str, target: Any, source: Any) -> Run:
    size = type_bits(kind) // 8
    part = _part_size(b, op, size, len(source.items))
    name = {1: "b8", 2: "b16", 4: "b32", 8: "b64"}[part]
    row = b.row(_register(b, op, target))
    rows = [b.src(op, item, name, loose=True) for item in source.items]
    buffer = np.zeros((b.lanes, len(rows)), f"u{part}")
    whole = buffer.view(row.dtype) if row.ndim > 1 else buffer.view(row.dtype).reshape(-1)
    if whole.shape != row.shape:
        raise b.error("the parts do not make up the register", op)

    def run(g: Group) -> None:
        for i, values in enumerate(rows):
            buffer[:, i] = values
        if g.m is None:
            row[...] = whole
        else:
            row[g.m] = whole[g.m]

    return run


@instr("and t:pred|b16|b32|b64", "or t:pred|b16|b32|b64", "xor t:pred|b16|b32|b64", kind="logic")
def bitwise(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    d, a, c = b.need(op, 3)
    name = op.opcode.split(".")[0]
    ufunc: Any
    if kind == "pred":
        ufunc = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}[name]
    else:
        ufunc = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[name]
    return b.alu(op, ufunc, b.dst(op, d, kind), b.src(op, a, kind), b.src(op, c, kind))


@instr("not t:pred|b16|b32|b64", "cnot t:b16|b32|b64", kind="logic")
def invert(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    d, a = b.need(op, 2)
    if op.opcode.startswith("cnot"):
        return b.alu(op, lambda x: (x == 0).astype(x.dtype), b.dst(op, d, kind), b.src(op, a, kind))
    ufunc = np.logical_not if kind == "pred" else np.invert
    return b.alu(op, ufunc, b.dst(op, d, kind), b.src(op, a, kind))


def compare_float(name: str, x: Array, y: Array) -> Array:
    """A PTX comparison of floats: the plain forms are false for NaN, those ending in u are true."""
    if name == "num":
        return ~(np.isnan(x) | np.isnan(y))
    if name == "nan":
        return np.isnan(x) | np.isnan(y)
    if name == "ne":
        return (x != y) & ~(np.isnan(x) | np.isnan(y))
    if name in _INT_COMPARE:
        result: Array = _INT_COMPARE[name](x, y)
        return result
    base = name[:-1]
    return np.asarray(_INT_COMPARE[base](x, y)) | np.isnan(x) | np.isnan(y)


_FLOAT_COMPARE = "eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan"
_JOIN = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def _operands(b: Binder, op: Op, kind: str, first: Any, second: Any) -> tuple[Array, Array]:
    x, y = b.src(op, first, kind), b.src(op, second, kind)
    return x, y


def _comparison(kind: str, compare: str, ftz: bool) -> Any:
    if kind in ("f32", "f64", "f16"):
        if ftz:
            return lambda x, y: compare_float(compare, flush(x), flush(y))
        if compare in _INT_COMPARE and compare != "ne":
            return _INT_COMPARE[compare]
        return lambda x, y: compare_float(compare, x, y)
    if kind == "bf16":
        return lambda x, y: compare_float(compare, bf16_to_f32(x), bf16_to_f32(y))
    return _INT_COMPARE[compare]


@instr(f"setp cmp:eq|ne|lt|le|gt|ge|lo|ls|hi|hs ?bool:and|or|xor t:b16|b32|b64|{INT}",
       f"setp cmp:{_FLOAT_COMPARE} ?bool:and|or|xor ?ftz t:f32|f64|f16|bf16", kind="compare")
def setp(b: Binder, op: Op) -> Predicated | Run:
    kind, compare = str(op.fields["t"]), str(op.fields["cmp"])
    join = op.fields["bool"]
    items = b.need(op, 4) if join else b.need(op, 3)
    first = items[0]
    x, y = _operands(b, op, kind, items[1], items[2])
    function = _comparison(kind, compare, bool(op.fields.get("ftz")))
    if not join and not isinstance(first, Both):
        return b.alu(op, function, b.dst(op, first, "pred"), x, y)
    first_item, second_item = (first.first, first.second) if isinstance(first, Both) else (first, None)
    p = b.dst(op, first_item, "pred")
    q = b.dst(op, second_item, "pred") if second_item is not None else None
    other, negated = _predicate_source(b, op, items[3]) if join else (None, False)
    joiner = _JOIN[join] if join else None

    def run(g: Group) -> None:
        value = np.asarray(function(x, y))
        positive, negative = value, ~value
        if joiner is not None and other is not None:
            extra = ~other if negated else other
            positive, negative = joiner(positive, extra), joiner(negative, extra)
        write(g, p, positive)
        if q is not None:
            write(g, q, negative)

    return run


def _predicate_source(b: Binder, op: Op, item: Any) -> tuple[Array, bool]:
    if isinstance(item, Reg) and item.bits == 1:
        return b.row(item), item.negated
    if isinstance(item, Const):
        return np.array([bool(item.value)]), False
    raise b.error("a predicate is expected", op)


@instr(f"setp cmp:{_FLOAT_COMPARE} ?bool:and|or|xor ?ftz t:f16x2|bf16x2", kind="compare")
def setp_packed(b: Binder, op: Op) -> Run:
    kind, compare = str(op.fields["t"]), str(op.fields["cmp"])
    join = op.fields["bool"]
    items = b.need(op, 4) if join else b.need(op, 3)
    first = items[0]
    if not isinstance(first, Both):
        raise b.error("two predicates p|q are expected", op)
    p, q = b.dst(op, first.first, "pred"), b.dst(op, first.second, "pred")
    x, y = b.src(op, items[1], "b32"), b.src(op, items[2], "b32")
    other, negated = _predicate_source(b, op, items[3]) if join else (None, False)

    def run(g: Group) -> None:
        from tilus.simulator.ops_half import unpack

        left, right = unpack(x, kind), unpack(y, kind)
        for half, target in ((0, p), (1, q)):
            value = compare_float(compare, left[:, half], right[:, half])
            if join:
                assert other is not None
                value = _JOIN[join](value, ~other if negated else other)
            write(g, target, value)

    return run


@instr(f"set cmp:{_FLOAT_COMPARE}|lo|ls|hi|hs ?bool:and|or|xor ?ftz td:u32|s32|f32|f16|bf16|u16|s16 "
       f"t:b16|b32|b64|{INT}|f32|f64|f16|bf16", kind="compare")
def set_value(b: Binder, op: Op) -> Run:
    kind, compare, out = str(op.fields["t"]), str(op.fields["cmp"]), str(op.fields["td"])
    join = op.fields["bool"]
    items = b.need(op, 4) if join else b.need(op, 3)
    x, y = _operands(b, op, kind, items[1], items[2])
    function = _comparison(kind, compare, bool(op.fields.get("ftz")))
    other, negated = _predicate_source(b, op, items[3]) if join else (None, False)
    dst = b.dst(op, items[0], out)
    true = {"f32": 1.0, "f16": 1.0, "bf16": 0x3F80}.get(out, -1)
    yes = np.array(true).astype(dst.dtype)

    def run(g: Group) -> None:
        value = np.asarray(function(x, y))
        if join:
            assert other is not None
            value = _JOIN[join](value, ~other if negated else other)
        write(g, dst, np.where(value, yes, yes.dtype.type(0)))

    return run


@instr("set cmp:eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan ?ftz td:f16x2|bf16x2|u32|s32 t:f16x2|bf16x2",
       kind="compare")
def set_packed(b: Binder, op: Op) -> Predicated:
    from tilus.simulator.ops_half import unpack

    kind, compare, out = str(op.fields["t"]), str(op.fields["cmp"]), str(op.fields["td"])
    d, a, c = b.need(op, 3)
    yes = np.uint16({"f16x2": 0x3C00, "bf16x2": 0x3F80}.get(out, 0xFFFF))

    def fn(x: Array, y: Array) -> Array:
        value = compare_float(compare, unpack(x, kind), unpack(y, kind))
        return np.ascontiguousarray(np.where(value, yes, np.uint16(0))).view(np.uint32).reshape(-1)

    return b.alu(op, fn, b.dst(op, d, "b32"), b.src(op, a, "b32"), b.src(op, c, "b32"))


@instr(f"selp t:b16|b32|b64|{INT}|f32|f64|f16|bf16", kind="logic")
def selp(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    d, a, c, p = b.need(op, 4)
    row, negated = _predicate_source(b, op, p)
    x, y = b.src(op, a, kind), b.src(op, c, kind)
    if negated:
        x, y = y, x
    return b.alu(op, np.where, b.dst(op, d, kind), row, x, y)


@instr(f"slct ?ftz t:b16|b32|b64|{INT}|f32|f64 tc:s32|f32", kind="logic")
def slct(b: Binder, op: Op) -> Predicated:
    kind, selector = str(op.fields["t"]), str(op.fields["tc"])
    d, a, c, e = b.need(op, 4)

    def fn(x: Array, y: Array, z: Array) -> Array:
        value = flush(z) if op.fields["ftz"] else z
        return np.where(value >= 0, x, y)

    return b.alu(op, fn, b.dst(op, d, kind), b.src(op, a, kind), b.src(op, c, kind), b.src(op, e, selector))


@instr("cvta ss:shared|shared::cta|shared::cluster|global|local|const|param t:u32|u64",
       "cvta =to ss:shared|shared::cta|shared::cluster|global|local|const|param t:u32|u64", kind="move")
def cvta(b: Binder, op: Op) -> Predicated:
    kind, space = str(op.fields["t"]), str(op.fields["ss"])
    d, a = b.need(op, 2)
    window = SHARED_WINDOW if space.startswith("shared") else LOCAL_WINDOW if space == "local" else 0
    dst, src = b.dst(op, d, kind), b.src(op, a, kind)
    offset = np.array([window], np.uint64).astype(dst.dtype)
    if space in ("param", "const") and ".to." not in op.opcode and kind == "u64":
        return b.alu(op, whole_address, dst, src)
    if ".to." in op.opcode:
        return b.alu(op, np.subtract, dst, src, offset)
    return b.alu(op, np.add, dst, src, offset)


@instr("isspacep ss:shared|shared::cta|shared::cluster|global|local|const|param|param::entry", kind="compare")
def isspacep(b: Binder, op: Op) -> Predicated:
    space = str(op.fields["ss"])
    d, a = b.need(op, 2)
    windows = b.batch.shared.windows

    def within(x: Array, window: int) -> Array:
        return (x >= np.uint64(window)) & (x < np.uint64(window + (1 << 32)))

    def fn(x: Array) -> Array:
        if space == "local":
            return within(x, LOCAL_WINDOW)
        if space in ("shared", "shared::cta"):
            own = windows if windows is not None else np.zeros(1, np.int64)
            return (x >> np.uint64(CLUSTER_SHIFT)) << np.uint64(CLUSTER_SHIFT) == np.uint64(SHARED_WINDOW) + own.view(
                np.uint64)
        if space == "shared::cluster":
            return within(x, SHARED_WINDOW)
        if space == "global":
            return ~within(x, LOCAL_WINDOW) & ~within(x, SHARED_WINDOW)
        return np.zeros(x.shape, bool)

    return b.alu(op, fn, b.dst(op, d, "pred"), b.src(op, a, "u64"))


