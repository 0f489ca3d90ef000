"""Operations on bits: shifts, counts, fields, permutations of bytes, and logic of three inputs."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import numpy as np

from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Binder, Group, Op, Predicated, Run, dtype_of
from tilus.simulator.ops_integer import write_lanes


@instr("shl t:b16|b32|b64", "shr t:b16|b32|b64|u16|u32|u64|s16|s32|s64")
def shift(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    d, a, c = b.need(op, 3)
    dst, x, amount = b.dst(op, d, kind), b.src(op, a, kind), b.src(op, c, "u32")
    ufunc = np.left_shift if op.opcode.startswith("shl") else np.right_shift
    bits = int(kind[1:])
    if amount.size == 1:
        return b.alu(op, ufunc, dst, x, np.minimum(amount, bits).astype(x.dtype))
    return b.alu(op, lambda v, n: ufunc(v, np.minimum(n, bits).astype(v.dtype)), dst, x, amount)


@instr("shf way:l|r mode:clamp|wrap t:b32")
def funnel_shift(b: Binder, op: Op) -> Predicated:
    d, a, c, e = b.need(op, 4)
    left, clamp = op.fields["way"] == "l", op.fields["mode"] == "clamp"

    def fn(low: Array, high: Array, amount: Array) -> Array:
        n = (np.minimum(amount, 32) if clamp else amount & 31).astype(np.uint64)
        full = (high.astype(np.uint64) << np.uint64(32)) | low
        return (((full << n) >> np.uint64(32)) if left else full >> n).astype(np.uint32)

    return b.alu(op, fn, b.dst(op, d, "b32"), b.src(op, a, "b32"), b.src(op, c, "b32"), b.src(op, e, "u32"))


@instr("popc t:b32|b64")
def popc(b: Binder, op: Op) -> Predicated:
    d, a = b.need(op, 2)
    return b.alu(op, lambda x: np.bitwise_count(x).astype(np.uint32), b.dst(op, d, "u32"),
                 b.src(op, a, str(op.fields["t"])))


def top_bit(x: Array) -> Array:
    """Number of the highest set bit of unsigned values as int64, -1 for zero."""
    value = x.astype(np.uint64)
    result = np.full(x.shape, -1, np.int64)
    for step in (32, 16, 8, 4, 2, 1):
        big = value >> np.uint64(step) != 0
        result = np.where(big, result + step, result)
        value = np.where(big, value >> np.uint64(step), value)
    return np.where(value != 0, result + 1, result)


@instr("clz t:b32|b64")
def clz(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    d, a = b.need(op, 2)
    bits = int(kind[1:])
    return b.alu(op, lambda x: (bits - 1 - top_bit(x)).astype(np.uint32), b.dst(op, d, "u32"), b.src(op, a, kind))


@instr("bfind ?shiftamt t:u32|s32|u64|s64")
def bfind(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    d, a = b.need(op, 2)
    bits = int(kind[1:])

    def fn(x: Array) -> Array:
        value = (np.where(x < 0, ~x, x) if kind[0] == "s" else x).view(f"u{bits // 8}")
        top = top_bit(value)
        if op.fields["shiftamt"]:
            top = np.where(top >= 0, bits - 1 - top, top)
        return top.astype(np.uint32)

    return b.alu(op, fn, b.dst(op, d, "u32"), b.src(op, a, kind))


@instr("brev t:b32|b64")
def brev(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    d, a = b.need(op, 2)
    size = int(kind[1:]) // 8
    table = np.array([int(f"{i:08b}"[::-1], 2) for i in range(256)], np.uint8)

    def fn(x: Array) -> Array:
        swapped = table[np.ascontiguousarray(x).view(np.uint8)].reshape(-1, size)[:, ::-1]
        return np.ascontiguousarray(swapped).view(x.dtype).reshape(-1)

    return b.alu(op, fn, b.dst(op, d, kind), b.src(op, a, kind))


@instr("bfe t:u32|s32|u64|s64")
def bfe(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    bits = int(kind[1:])
    d, a, c, e = b.need(op, 4)

    def fn(x: Array, position: Array, length: Array) -> Array:
        pos = (position & 0xFF).astype(np.int64)
        count = (length & 0xFF).astype(np.int64)
        value = x.view(f"u{bits // 8}")
        one = value.dtype.type(1)
        field = np.right_shift(value, np.minimum(pos, bits).astype(value.dtype))
        width = np.minimum(count, bits)
        mask = np.where(width >= bits, value.dtype.type(0) - one, (one << (width % bits).astype(value.dtype)) - one)
        field = field & mask
        if kind[0] == "s":
            top = np.minimum(pos + count - 1, bits - 1)
            sign = (value >> np.maximum(top, 0).astype(value.dtype)) & one
            field = np.where((sign != 0) & (count > 0), field | _above(width, bits, pos, value.dtype), field)
        return np.where(count == 0, value.dtype.type(0), field).view(dtype_of(kind))

    return b.alu(op, fn, b.dst(op, d, kind), b.src(op, a, kind), b.src(op, c, "u32"), b.src(op, e, "u32"))


def _above(width: Array, bits: int, pos: Array, dtype: Any) -> Array:
    """Ones above the extracted field, which ends early where the source word ends."""
    kept = np.clip(np.minimum(width, bits - pos), 0, bits)
    ones = ~np.array(0, dtype)
    return np.where(kept >= bits, np.array(0, dtype), ones << (kept % bits).astype(dtype))


@instr("bfi t:b32|b64")
def bfi(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    bits = int(kind[1:])
    d, a, c, e, f = b.need(op, 5)

    def fn(x: Array, y: Array, position: Array, length: Array) -> Array:
        pos = (position & 0xFF).astype(np.int64)
        width = np.minimum((length & 0xFF).astype(np.int64), bits)
        one = x.dtype.type(1)
        ones = np.where(width >= bits, x.dtype.type(0) - one, (one << (width % bits).astype(x.dtype)) - one)
        place = np.minimum(pos, bits).astype(x.dtype)
        mask = np.left_shift(ones, place)
        return (y & ~mask) | (np.left_shift(x, place) & mask)

    return b.alu(op, fn, b.dst(op, d, kind), b.src(op, a, kind), b.src(op, c, kind), b.src(op, e, "u32"),
                 b.src(op, f, "u32"))


@instr("bmsk mode:clamp|wrap t:b32")
def bmsk(b: Binder, op: Op) -> Predicated:
    d, a, c = b.need(op, 3)
    wrap = op.fields["mode"] == "wrap"

    def fn(position: Array, width: Array) -> Array:
        pos, count = position.astype(np.int64), width.astype(np.int64)
        pos, count = (pos & 31, count & 31) if wrap else (np.minimum(pos, 32), np.minimum(count, 32))
        return ((((np.int64(1) << count) - 1) << pos) & 0xFFFFFFFF).astype(np.uint32)

    return b.alu(op, fn, b.dst(op, d, "b32"), b.src(op, a, "u32"), b.src(op, c, "u32"))


@instr("szext mode:clamp|wrap t:u32|s32")
def szext(b: Binder, op: Op) -> Predicated:
    kind, wrap = str(op.fields["t"]), op.fields["mode"] == "wrap"
    d, a, c = b.need(op, 3)

    def fn(x: Array, width: Array) -> Array:
        count = width.astype(np.int64)
        count = count & 31 if wrap else np.minimum(count, 32)
        value = x.view(np.uint32).astype(np.int64) & ((np.int64(1) << count) - 1)
        if kind == "s32":
            sign = np.where(count > 0, (value >> np.maximum(count - 1, 0)) & 1, 0)
            value = value - (sign << count)
        return (value & 0xFFFFFFFF).astype(np.uint32).view(dtype_of(kind))

    return b.alu(op, fn, b.dst(op, d, kind), b.src(op, a, kind), b.src(op, c, "u32"))


@instr("fns t:b32")
def fns(b: Binder, op: Op) -> Predicated:
    d, a, c, e = b.need(op, 4)

    def fn(mask: Array, base: Array, offset: Array) -> Array:
        mask, base, offset = np.broadcast_arrays(mask, base.astype(np.int64), offset)
        result = np.full(mask.shape, 0xFFFFFFFF, np.uint32)
        bits = (mask[:, None] >> np.arange(32, dtype=np.uint32)) & 1
        for lane in range(mask.size):
            start, count = int(base[lane]), int(offset[lane])
            order = range(start, 32) if count >= 0 else range(start, -1, -1)
            found = [i for i in order if bits[lane, i]]
            if count == 0:
                found = found[:1] if found and found[0] == start else []
                if found:
                    result[lane] = start
            elif len(found) >= abs(count):
                result[lane] = found[abs(count) - 1]
        return result

    return b.alu(op, fn, b.dst(op, d, "b32"), b.src(op, a, "b32"), b.src(op, c, "b32"), b.src(op, e, "s32"))


@instr("prmt =b32 ?mode:f4e|b4e|rc8|ecl|ecr|rc16")
def prmt(b: Binder, op: Op) -> Predicated:
    d, a, c, e = b.need(op, 4)
    mode = op.fields["mode"]

    def fn(x: Array, y: Array, control: Array) -> Array:
        full = (y.astype(np.uint64) << np.uint64(32)) | x
        result = np.zeros(np.broadcast_shapes(full.shape, control.shape), np.uint32)
        for byte in range(4):
            if mode is None:
                nibble = (control >> np.uint32(4 * byte)) & np.uint32(15)
                select, sign = nibble & 7, nibble >> 3
            else:
                select, sign = _prmt_select(mode, byte, control & 3), np.zeros(1, np.uint32)
            value = ((full >> (select.astype(np.uint64) * np.uint64(8))) & np.uint64(255)).astype(np.uint32)
            value = np.where(sign != 0, np.where(value & 128, np.uint32(255), np.uint32(0)), value)
            result |= value << np.uint32(8 * byte)
        return result

    return b.alu(op, fn, b.dst(op, d, "b32"), b.src(op, a, "b32"), b.src(op, c, "b32"), b.src(op, e, "b32"))


def _prmt_select(mode: str, byte: int, c: Array) -> Array:
    if mode == "f4e":
        return c + byte
    if mode == "b4e":
        return (c - byte) & 7
    if mode == "rc8":
        return c
    if mode == "ecl":
        return np.maximum(c, byte)
    if mode == "ecr":
        return np.minimum(c, byte)
    return (c & 1) * 2 + (byte & 1)


@instr("lop3 =b32", "lop3 ?bool:or|and =b32", writes=1)
def lop3(b: Binder, op: Op) -> Predicated | Run:
    from tilus.simulator.machine import Both, Const

    items = list(b.need(op, 5, 6))
    table = items[4]
    if not isinstance(table, Const):
        raise b.error("the table must be a constant", op)
    minterms = int(table.value)
    first = items[0]
    x, y, z = (b.src(op, item, "b32") for item in items[1:4])
    evaluate = lop3_function(minterms)
    if not isinstance(first, Both):
        return b.alu(op, evaluate, b.dst(op, first, "b32"), x, y, z)
    dst, flag = b.dst(op, first.first, "b32"), b.dst(op, first.second, "pred")
    other = b.src(op, items[5], "pred")
    join = np.logical_or if op.fields["bool"] == "or" else np.logical_and

    def run(g: Group) -> None:
        value = evaluate(x, y, z)
        write_lanes(g, dst, value)
        write_lanes(g, flag, join(value != 0, other))

    return run


def lop3_function(table: int) -> Any:
    """The bitwise function of three words whose truth table is the 8-bit number."""
    known = {0xC0: lambda x, y, z: x & y, 0xFC: lambda x, y, z: x | y, 0x3C: lambda x, y, z: x ^ y,
             0x96: lambda x, y, z: x ^ y ^ z, 0x80: lambda x, y, z: x & y & z, 0xFE: lambda x, y, z: x | y | z,
             0xEA: lambda x, y, z: (x & y) | z, 0xF8: lambda x, y, z: x | (y & z), 0x78: lambda x, y, z: x ^ (y & z)}
    if table in known:
        return known[table]

    def general(x: Array, y: Array, z: Array) -> Array:
        result: Array = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), np.uint32)
        for term in range(8):
            if table >> term & 1:
                result = result | ((x if term & 4 else ~x) & (y if term & 2 else ~y) & (z if term & 1 else ~z))
        return result

    return general
