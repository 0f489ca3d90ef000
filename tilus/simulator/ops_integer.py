"""Integer arithmetic and bit manipulation."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import numpy as np

from tilus.simulator.isa import INT, instr
from tilus.simulator.machine import Array, Binder, Group, Op, Predicated, Run, dtype_of

_WIDE = {"u16": "u32", "s16": "s32", "u32": "u64", "s32": "s64"}
_LANES = np.uint32(32)


def _three(b: Binder, op: Op, kind: str) -> tuple[Array, Array, Array]:
    d, a, c = b.need(op, 3)
    return b.dst(op, d, kind), b.src(op, a, kind), b.src(op, c, kind)


@instr(f"add t:{INT}")
def add(b: Binder, op: Op) -> Predicated:
    return b.alu(op, np.add, *_three(b, op, str(op.fields["t"])))


@instr(f"sub t:{INT}")
def sub(b: Binder, op: Op) -> Predicated:
    return b.alu(op, np.subtract, *_three(b, op, str(op.fields["t"])))


@instr("add =sat =s32", "sub =sat =s32")
def saturating(b: Binder, op: Op) -> Predicated:
    sign = 1 if op.opcode.startswith("add") else -1

    def fn(x: Array, y: Array) -> Array:
        return np.clip(x.astype(np.int64) + sign * y.astype(np.int64), -(1 << 31), (1 << 31) - 1).astype(np.int32)

    return b.alu(op, fn, *_three(b, op, "s32"))


@instr("add t:u16x2|s16x2", "min t:u16x2|s16x2", "max t:u16x2|s16x2")
def packed_halves(b: Binder, op: Op) -> Predicated:
    ufunc = {"add": np.add, "min": np.minimum, "max": np.maximum}[op.opcode.split(".")[0]]
    half = np.int16 if op.fields["t"] == "s16x2" else np.uint16

    def fn(x: Array, y: Array) -> Array:
        return np.ascontiguousarray(ufunc(x.view(half), y.view(half)) if x.size == y.size else
                                    ufunc(np.broadcast_to(x, (b.lanes,)).copy().view(half),
                                          np.broadcast_to(y, (b.lanes,)).copy().view(half))).view(np.uint32)

    return b.alu(op, fn, *_three(b, op, "b32"))


@instr("mul mode:lo t:" + INT)
def mul_lo(b: Binder, op: Op) -> Predicated:
    return b.alu(op, np.multiply, *_three(b, op, str(op.fields["t"])))


def high_product(x: Array, y: Array, kind: str) -> Array:
    """The upper half of the full product."""
    bits = int(kind[1:])
    if bits < 64:
        wide = np.int64 if kind[0] == "s" else np.uint64
        shift = np.array(bits, wide)
        return ((x.astype(wide) * y.astype(wide)) >> shift).astype(dtype_of(kind))
    low32, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a, c = x.view(np.uint64), y.view(np.uint64)
    al, ah, cl, ch = a & low32, a >> half, c & low32, c >> half
    mid = ah * cl + ((al * cl) >> half)
    mid2 = al * ch + (mid & low32)
    high = ah * ch + (mid >> half) + (mid2 >> half)
    if kind == "s64":
        high = high - np.where(x < 0, c, 0).astype(np.uint64) - np.where(y < 0, a, 0).astype(np.uint64)
    result: Array = high.view(dtype_of(kind))
    return result


@instr("mul mode:hi t:" + INT)
def mul_hi(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    return b.alu(op, lambda x, y: high_product(x, y, kind), *_three(b, op, kind))


@instr("mul mode:wide t:u16|s16|u32|s32")
def mul_wide(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    d, a, c = b.need(op, 3)
    wide = dtype_of(_WIDE[kind])

    def fn(x: Array, y: Array) -> Array:
        return np.multiply(x, y, dtype=wide)

    return b.alu(op, fn, b.dst(op, d, _WIDE[kind]), b.src(op, a, kind), b.src(op, c, kind))


@instr("mad mode:lo|hi t:" + INT, "mad mode:hi =sat t:s32")
def mad(b: Binder, op: Op) -> Predicated:
    kind, mode = str(op.fields["t"]), op.fields["mode"]
    d, a, c, e = b.need(op, 4)
    if mode == "lo":
        def fn(x: Array, y: Array, z: Array) -> Array:
            return x * y + z
    elif ".sat" in op.opcode:
        def fn(x: Array, y: Array, z: Array) -> Array:
            wide = high_product(x, y, kind).astype(np.int64) + z.astype(np.int64)
            return np.clip(wide, -(1 << 31), (1 << 31) - 1).astype(np.int32)
    else:
        def fn(x: Array, y: Array, z: Array) -> Array:
            return high_product(x, y, kind) + z
    return b.alu(op, fn, b.dst(op, d, kind), b.src(op, a, kind), b.src(op, c, kind), b.src(op, e, kind))


@instr("mad mode:wide t:u16|s16|u32|s32")
def mad_wide(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    d, a, c, e = b.need(op, 4)
    wide = dtype_of(_WIDE[kind])
    return b.alu(op, lambda x, y, z: np.multiply(x, y, dtype=wide) + z, b.dst(op, d, _WIDE[kind]),
                 b.src(op, a, kind), b.src(op, c, kind), b.src(op, e, _WIDE[kind]))


@instr("mul24 mode:lo|hi t:u32|s32", "mad24 mode:lo|hi t:u32|s32")
def mul24(b: Binder, op: Op) -> Predicated:
    kind, high = str(op.fields["t"]), op.fields["mode"] == "hi"
    wide = np.int64 if kind == "s32" else np.uint64

    def cut(x: Array) -> Array:
        shift = np.array(8, x.dtype)
        return ((x << shift) >> shift).astype(wide)

    def product(x: Array, y: Array) -> Array:
        full = cut(x) * cut(y)
        return (full >> np.array(16, wide) if high else full).astype(dtype_of(kind))

    if op.opcode.startswith("mul24"):
        return b.alu(op, product, *_three(b, op, kind))
    d, a, c, e = b.need(op, 4)
    return b.alu(op, lambda x, y, z: product(x, y) + z, b.dst(op, d, kind), b.src(op, a, kind), b.src(op, c, kind),
                 b.src(op, e, kind))


def divide(x: Array, y: Array) -> Array:
    """Quotient truncated towards zero; division by zero gives all ones."""
    zero = y == 0
    safe = np.where(zero, y.dtype.type(1), y)
    if x.dtype.kind == "u":
        result = x // safe
    else:
        quotient = np.floor_divide(x, safe)
        result = quotient + ((quotient * safe != x) & ((x < 0) != (safe < 0)))
    return np.where(zero, np.array(-1).astype(x.dtype), result).astype(x.dtype)


@instr(f"div t:{INT}")
def div(b: Binder, op: Op) -> Predicated:
    return b.alu(op, divide, *_three(b, op, str(op.fields["t"])))


@instr(f"rem t:{INT}")
def rem(b: Binder, op: Op) -> Predicated:
    return b.alu(op, lambda x, y: np.where(y == 0, x, x - divide(x, y) * y), *_three(b, op, str(op.fields["t"])))


@instr(f"min t:{INT}", f"max t:{INT}")
def minmax(b: Binder, op: Op) -> Predicated:
    return b.alu(op, np.minimum if op.opcode.startswith("min") else np.maximum, *_three(b, op, str(op.fields["t"])))


@instr("min ?relu t:s32|s16x2", "max ?relu t:s32|s16x2")
def minmax_relu(b: Binder, op: Op) -> Predicated:
    ufunc = np.minimum if op.opcode.startswith("min") else np.maximum
    if op.fields["t"] == "s32":
        return b.alu(op, lambda x, y: np.maximum(ufunc(x, y), 0), *_three(b, op, "s32"))
    return b.alu(op, lambda x, y: np.maximum(ufunc(_halves(b, x), _halves(b, y)), 0).view(np.uint32),
                 *_three(b, op, "b32"))


def _halves(b: Binder, x: Array) -> Array:
    return (x if x.size == b.lanes else np.full(b.lanes, x[0])).view(np.int16)


@instr("abs t:s16|s32|s64", "neg t:s16|s32|s64")
def absneg(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    d, a = b.need(op, 2)
    return b.alu(op, np.abs if op.opcode.startswith("abs") else np.negative, b.dst(op, d, kind), b.src(op, a, kind))


@instr("sad t:" + INT)
def sad(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    d, a, c, e = b.need(op, 4)
    return b.alu(op, lambda x, y, z: z + (np.maximum(x, y) - np.minimum(x, y)), b.dst(op, d, kind), b.src(op, a, kind),
                 b.src(op, c, kind), b.src(op, e, kind))


# -- extended precision

@instr("add =cc t:u32|s32|u64|s64", "addc ?cc t:u32|s32|u64|s64", "sub =cc t:u32|s32|u64|s64",
       "subc ?cc t:u32|s32|u64|s64")
def carried(b: Binder, op: Op) -> Run:
    """The flag after a subtraction is the carry of ``a + ~b + 1``, set where nothing was borrowed.

    Within one family that is all the same; the 128-bit division of CUDA C++ reads the flag of ``subc.cc`` by ``addc``.
    """
    kind = "u" + str(op.fields["t"])[1:]
    dst, x, y = _three(b, op, kind)
    head = op.opcode.split(".")[0]
    uses, sets = head.endswith("c"), ".cc" in op.opcode
    flag = b.batch.carry
    subtract = head.startswith("sub")

    def run(g: Group) -> None:
        if subtract:
            borrow = (~flag).astype(x.dtype) if uses else np.zeros(1, x.dtype)
            value = x - y - borrow
            out = (x > y) | ((x == y) & (borrow == 0))
        else:
            extra = flag.astype(x.dtype) if uses else np.zeros(1, x.dtype)
            partial = x + y
            value = partial + extra
            out = (partial < x) | (value < partial)
        _write(g, dst, value)
        if sets:
            _write(g, flag, out)

    return run


def _write(g: Group, dst: Array, value: Any) -> None:
    if g.m is None:
        dst[...] = value
    else:
        np.copyto(dst, value, where=g.m)


@instr("mad mode:lo|hi =cc t:u32|s32|u64|s64", "madc mode:lo|hi ?cc t:u32|s32|u64|s64")
def mad_carried(b: Binder, op: Op) -> Run:
    kind = str(op.fields["t"])
    unsigned = "u" + kind[1:]
    d, a, c, e = b.need(op, 4)
    dst = b.dst(op, d, unsigned)
    x, y, z = b.src(op, a, kind), b.src(op, c, kind), b.src(op, e, unsigned)
    uses, sets, high = op.opcode.startswith("madc"), ".cc" in op.opcode, op.fields["mode"] == "hi"
    flag = b.batch.carry

    def run(g: Group) -> None:
        product = (high_product(x, y, kind) if high else x * y).view(dst.dtype)
        extra = flag.astype(dst.dtype) if uses else np.zeros(1, dst.dtype)
        partial = product + z
        value = partial + extra
        _write(g, dst, value)
        if sets:
            _write(g, flag, (partial < product) | (value < partial))

    return run


# -- bits

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
        _write(g, dst, value)
        _write(g, flag, join(value != 0, other))

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


@instr("dp4a ta:u32|s32 tb:u32|s32", "dp2a mode:lo|hi ta:u32|s32 tb:u32|s32")
def dot_product(b: Binder, op: Op) -> Predicated:
    d, a, c, e = b.need(op, 4)
    ta, tb = str(op.fields["ta"]), str(op.fields["tb"])
    signed = "s" in ta[0] + tb[0]
    kind = "s32" if signed else "u32"
    four = op.opcode.startswith("dp4a")

    def parts(x: Array, kind: str, size: int) -> Array:
        return np.ascontiguousarray(x).view(f"{'i' if kind[0] == 's' else 'u'}{size}").astype(np.int64).reshape(
            len(x), -1)

    def fn(x: Array, y: Array, z: Array) -> Array:
        left, right = parts(x, ta, 1 if four else 2), parts(y, tb, 1)
        if not four:
            right = right[:, 2:] if op.fields["mode"] == "hi" else right[:, :2]
        total = (left * right).sum(axis=1) + z.astype(np.int64)
        return (total & 0xFFFFFFFF).astype(np.uint32).view(dtype_of(kind))

    return b.alu(op, fn, b.dst(op, d, kind), b.src(op, a, "b32"), b.src(op, c, "b32"), b.src(op, e, kind))
