"""Integer arithmetic."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import numpy as np

from tilus.simulator.isa import INT, instr
from tilus.simulator.machine import Array, Binder, Group, Op, Predicated, Run, dtype_of

_WIDE = {"u16": "u32", "s16": "s32", "u32": "u64", "s32": "s64"}


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
        write_lanes(g, dst, value)
        if sets:
            write_lanes(g, flag, out)

    return run


def write_lanes(g: Group, dst: Array, value: Any) -> None:
    """Write a row of all lanes where the group has them."""
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
        write_lanes(g, dst, value)
        if sets:
            write_lanes(g, flag, (partial < product) | (value < partial))

    return run


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
