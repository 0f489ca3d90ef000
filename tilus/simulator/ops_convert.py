"""Conversions between types."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Binder, Group, Op, Predicated, dtype_of
from tilus.simulator.numbers import (
    BF16,
    F16,
    F32,
    FORMATS,
    TABLES,
    TF32,
    bf16_to_f32,
    encode,
    f32_to_bf16,
    flush,
    round_to,
)
from tilus.simulator.ops_half import unpack

_INTS = "u8|u16|u32|u64|s8|s16|s32|s64"
_FLOATS = "f16|bf16|f32|f64"
_TO_INT: dict[str, Callable[[Array], Array]] = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def read_float(x: Array, kind: str) -> Array:
    """Register rows of a float type as float64."""
    return bf16_to_f32(x).astype(np.float64) if kind == "bf16" else x.astype(np.float64)


def write_float(value: Array, kind: str, mode: str) -> Array:
    """float64 rounded by mode into the register form of a float type; NaN becomes the canonical one."""
    if kind == "f64":
        return value
    if kind == "bf16":
        wide = round_to(value, BF16, mode).astype(np.float32)
        return f32_to_bf16(wide)
    if mode == "rn":
        return value.astype(dtype_of(kind))
    return round_to(value, F32 if kind == "f32" else F16, mode).astype(dtype_of(kind))


def float_to_int(value: Array, kind: str, mode: str) -> Array:
    """Rounded and clamped to the integer type; NaN gives 0, or 2^63 for 64-bit results as the hardware has it."""
    bits, signed = int(kind[1:]), kind[0] == "s"
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    rounded = _TO_INT[mode](value)
    nan = np.isnan(rounded)
    inside = np.where(nan, 0.0, rounded)
    dtype = dtype_of(kind)
    over, under = inside >= float(high) + (0 if bits == 64 else 1), inside <= float(low)
    if bits < 64:
        over = inside > high
    safe = np.where(over | under, 0.0, inside)
    result = safe.astype(dtype)
    result = np.where(over, dtype.type(high), np.where(under, dtype.type(low), result))
    if bits == 64:
        result = np.where(nan, np.array(1 << 63, np.uint64).view(dtype) if signed else np.array(1 << 63, np.uint64),
                          result)
    return np.asarray(result, dtype)


def int_to_float(x: Array, kind: str, mode: str) -> Array:
    """Integer to float; 64-bit integers are rounded once."""
    if kind == "f64" and x.dtype.itemsize < 8:
        return x.astype(np.float64)
    if kind == "f32" and mode == "rn":
        return x.astype(np.float32)
    if kind == "f64" and mode == "rn":
        return x.astype(np.float64)
    nearest = x.astype(np.float64)
    if x.dtype.itemsize < 8:
        return write_float(nearest, kind, mode)
    from tilus.simulator.numbers import directed, to_odd

    limit = 2.0 ** 63 if x.dtype.kind == "i" else 2.0 ** 64
    top = nearest >= limit
    back = np.where(top, 0.0, nearest).astype(x.dtype)
    difference = np.where(top, -1.0, (x - back).view(np.int64).astype(np.float64))
    if kind == "f64":
        return directed(nearest, difference, mode)
    return write_float(to_odd(nearest, difference), kind, mode)


@instr(f"cvt ?r:rni|rzi|rmi|rpi|rn|rz|rm|rp ?ftz ?sat td:{_INTS}|{_FLOATS} ts:{_INTS}|{_FLOATS}", kind="convert")
def cvt(b: Binder, op: Op) -> Predicated:
    td, ts, r = str(op.fields["td"]), str(op.fields["ts"]), op.fields["r"]
    sat, ftz = bool(op.fields["sat"]), bool(op.fields["ftz"])
    d, a = b.need(op, 2)
    src = b.src(op, a, ts, loose=True)
    to_float, from_float = td[0] in "fb", ts[0] in "fb"
    if not to_float:
        return _to_int_row(b, op, d, td, ts, _int_function(td, ts, r, sat, ftz, from_float, b, op), src)
    dst = b.dst(op, d, td)
    if not from_float:
        mode = r or "rn"
        if mode not in ("rn", "rz", "rm", "rp"):
            raise b.error(f"rounding .{mode} is not for this conversion", op)

        def from_int(x: Array) -> Array:
            value = int_to_float(x, td, mode)
            return np.clip(value, 0, 1) if sat else value

        return b.alu(op, from_int, dst, src)
    return b.alu(op, _float_function(td, ts, r, sat, ftz), dst, src)


def _int_function(td: str, ts: str, r: str | None, sat: bool, ftz: bool, from_float: bool, b: Binder,
                  op: Op) -> Callable[[Array], Array]:
    if from_float:
        if r not in _TO_INT:
            raise b.error("a conversion to an integer needs .rni, .rzi, .rmi or .rpi", op)

        def from_f(x: Array) -> Array:
            return float_to_int(read_float(flush(x) if ftz and ts == "f32" else x, ts), td, str(r))

        return from_f
    bits = int(td[1:])
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if td[0] == "s" else (0, (1 << bits) - 1)

    def from_i(x: Array) -> Array:
        if sat:
            info = np.iinfo(x.dtype)
            x = np.clip(x, max(low, int(info.min)), min(high, int(info.max)))
        return x.astype(dtype_of(td))

    return from_i


def _to_int_row(b: Binder, op: Op, d: Any, td: str, ts: str, fn: Callable[[Array], Array], src: Array) -> Predicated:
    """An integer result may go to a wider register, extended by its sign."""
    from tilus.simulator.machine import Reg

    if not isinstance(d, Reg):
        raise b.error("the destination is not a register", op)
    row = b.row(d)
    signed = td[0] == "s"
    wide = row.view(f"{'i' if signed else 'u'}{row.dtype.itemsize}")
    if wide.dtype.itemsize * 8 < int(td[1:]):
        raise b.error("the destination is too narrow", op)
    if ts[0] in "us" and int(ts[1:]) == int(td[1:]) and wide.dtype == src.dtype:
        return b.alu(op, lambda x: x, wide, src)
    return b.alu(op, lambda x: fn(x).astype(wide.dtype), wide, src)


def _float_function(td: str, ts: str, r: str | None, sat: bool, ftz: bool) -> Callable[[Array], Array]:
    def fn(x: Array) -> Array:
        source = flush(x) if ftz and ts == "f32" else x
        if ts == td and r is None and not sat:
            return source
        value = read_float(source, ts)
        mode = r or "rn"
        if mode in _TO_INT:
            value = np.copysign(_TO_INT[mode](value), value)
            mode = "rn"
        if sat:
            value = np.where(np.isnan(value), 0.0, np.clip(value, 0, 1)) + 0.0
        result = write_float(value, td, mode)
        return flush(result) if ftz and td == "f32" else result

    return fn


def _relu(op: Op, x: Array) -> Array:
    return np.where(np.isnan(x), x, np.maximum(x, 0) + 0.0) if ".relu" in op.opcode else x


@instr("cvt r:rn|rz ?relu ?satfinite td:f16x2|bf16x2 =f32", kind="convert")
def cvt_packed(b: Binder, op: Op) -> Predicated:
    d, a, c = b.need(op, 3)
    kind, mode = str(op.fields["td"])[:-2], str(op.fields["r"])
    saturate = bool(op.fields["satfinite"])

    def half(x: Array) -> Array:
        value = _relu(op, x.astype(np.float64))
        if saturate:
            limit = (F16 if kind == "f16" else BF16).largest
            value = np.where(np.isnan(value), value, np.clip(value, -limit, limit))
        if kind == "bf16":
            return write_float(value, kind, mode)
        bits = write_float(value, kind, mode).view(np.uint16)
        return np.where(np.isnan(value), np.uint16(0x7FFF), bits)

    def fn(high: Array, low: Array) -> Array:
        return (half(high).astype(np.uint32) << np.uint32(16)) | half(low)

    return b.alu(op, fn, b.dst(op, d, "b32"), b.src(op, a, "f32"), b.src(op, c, "f32"))


@instr("cvt r:rn|rz ?relu ?satfinite td:f16|bf16 =f32", kind="convert")
def cvt_half_relu(b: Binder, op: Op) -> Predicated:
    d, a = b.need(op, 2)
    kind, mode = str(op.fields["td"]), str(op.fields["r"])

    def fn(x: Array) -> Array:
        value = _relu(op, x.astype(np.float64))
        if op.fields["satfinite"]:
            limit = (F16 if kind == "f16" else BF16).largest
            value = np.where(np.isnan(value), value, np.clip(value, -limit, limit))
        return write_float(value, kind, mode)

    return b.alu(op, fn, b.dst(op, d, kind), b.src(op, a, "f32"))


@instr("cvt r:rna|rn|rz ?satfinite ?relu =tf32 =f32", kind="convert")
def cvt_tf32(b: Binder, op: Op) -> Predicated:
    d, a = b.need(op, 2)
    mode = str(op.fields["r"])

    def fn(x: Array) -> Array:
        value = round_to(_relu(op, x.astype(np.float64)), TF32, mode, bool(op.fields["satfinite"])).astype(np.float32)
        return np.where(np.isnan(x), np.uint32(0x7FFFFFFF), value.view(np.uint32))

    return b.alu(op, fn, b.dst(op, d, "b32"), b.src(op, a, "f32"))


@instr("cvt =rn =satfinite ?relu td:e4m3x2|e5m2x2|e2m1x2|e2m3x2|e3m2x2 ts:f32|f16x2|bf16x2",
       "cvt =rn =satfinite ?relu td:s2f6x2 ts:f32|bf16x2", "cvt r:rz|rp =satfinite td:ue8m0x2 ts:f32|bf16x2",
       kind="convert")
def cvt_narrow(b: Binder, op: Op) -> Predicated:
    td, ts = str(op.fields["td"])[:-2], str(op.fields["ts"])
    pair = ts == "f32"
    items = b.need(op, 3 if pair else 2)
    bits = 4 if td == "e2m1" else 8

    def code(x: Array) -> Array:
        value = _relu(op, x.astype(np.float64))
        if td == "ue8m0":
            return _encode_scale(value, str(op.fields["r"]))
        if td == "s2f6":
            return (np.clip(np.rint(np.nan_to_num(value) * 64), -128, 127).astype(np.int64) & 0xFF).astype(np.uint16)
        return encode(value, FORMATS[td]).astype(np.uint16)

    def join(high: Array, low: Array) -> Array:
        return (code(high) << np.uint16(bits)) | code(low)

    def fn(*args: Array) -> Array:
        if pair:
            return join(*args)
        values = unpack(args[0], ts)
        return join(values[:, 1], values[:, 0])

    from tilus.simulator.machine import Reg

    target = items[0]
    if not isinstance(target, Reg):
        raise b.error("the destination is not a register", op)
    dst = b.row(target)
    return b.alu(op, lambda *args: fn(*args).astype(dst.dtype), dst,
                 *[b.src(op, item, "f32" if pair else "b32") for item in items[1:]])


def _encode_scale(value: Array, mode: str) -> Array:
    """Codes of ue8m0, the power of two below (rz) or above (rp) the magnitude."""
    exponent = np.log2(np.abs(value))
    rounded = np.floor(exponent) if mode == "rz" else np.ceil(exponent)
    code = np.clip(np.where(np.isneginf(rounded), -127, rounded) + 127, 0, 254)
    return np.where(np.isnan(value), 255, code).astype(np.uint16)


@instr("cvt =rn ?relu =f16x2 ts:e4m3x2|e5m2x2|e2m1x2|e2m3x2|e3m2x2", "cvt =rn =bf16x2 ts:ue8m0x2",
       "cvt =rn ?relu ?satfinite ?scale:scaled::n2::ue8m0 =bf16x2 ts:e4m3x2|e5m2x2|e2m1x2|e2m3x2|e3m2x2|s2f6x2",
       kind="convert")
def cvt_widen(b: Binder, op: Op) -> Predicated:
    """Two narrow numbers, each times its scale where the instruction has scales."""
    ts, to_half = str(op.fields["ts"])[:-2], ".f16x2." in op.opcode
    scaled = bool(op.fields.get("scale"))
    d, *sources = b.need(op, 3 if scaled else 2)
    table, bits = TABLES[ts].astype(np.float64), 4 if ts == "e2m1" else 8
    mask = len(table) - 1
    scales = TABLES["ue8m0"].astype(np.float64)
    saturate = bool(op.fields.get("satfinite"))

    def fn(x: Array, factors: Array | None = None) -> Array:
        result: Array = np.zeros(x.shape, np.uint32)
        for half in range(2):
            value = table[(x >> np.uint16(bits * half)).astype(np.int64) & mask]
            if factors is not None:
                value = value * scales[(factors >> np.uint16(8 * half)) & np.uint16(0xFF)]
            value = _relu(op, value)
            if saturate:
                value = np.clip(value, -BF16.largest, BF16.largest)
            raw = value.astype(np.float16).view(np.uint16) if to_half else write_float(value, "bf16", "rn")
            word = np.where(np.isnan(value), np.uint16(0x7FFF), raw).astype(np.uint32)
            result = result | word << np.uint32(16 * half)
        return result

    return b.alu(op, fn, b.dst(op, d, "b32"), *[b.src(op, item, "b16", loose=True) for item in sources])


@instr("cvt =pack =sat td:u16|s16 =s32", "cvt =pack =sat td:u8|s8|u4|s4|u2|s2 =s32 =b32", kind="convert")
def cvt_pack(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["td"])
    bits = int(kind[1:])
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if kind[0] == "s" else (0, (1 << bits) - 1)
    items = b.need(op, 3 if bits == 16 else 4)
    mask = (1 << bits) - 1

    def clamp(x: Array) -> Array:
        return (np.clip(x.astype(np.int64), low, high) & mask).astype(np.uint32)

    def fn(x: Array, y: Array, *rest: Array) -> Array:
        joined = (clamp(x) << np.uint32(bits)) | clamp(y)
        return joined | (rest[0] << np.uint32(2 * bits)) if rest else joined

    return b.alu(op, fn, b.dst(op, items[0], "b32"), b.src(op, items[1], "s32"), b.src(op, items[2], "s32"),
                 *[b.src(op, i, "b32") for i in items[3:]])


__all__ = ["Group", "cvt", "float_to_int", "int_to_float"]
