"""Single and double precision arithmetic, and the approximate functions."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tilus.simulator.isa import ROUND, instr
from tilus.simulator.machine import Array, Binder, Op, Predicated, dtype_of
from tilus.simulator.numbers import (
    F32,
    bf16_to_f32,
    directed,
    flush,
    fma_f32,
    fma_f64,
    repair_extremes,
    round_to,
    to_odd,
    two_product,
    two_sum,
)
from tilus.simulator.resolved import Resolved

Function = Callable[..., Any]


def finish(op: Op, fn: Function, kind: str = "f32") -> Function:
    """Add flushing of subnormals and saturation to [0, 1], where the modifiers ask for them."""
    ftz, sat = ".ftz" in op.opcode and kind == "f32", ".sat" in op.opcode
    if not ftz and not sat:
        return fn

    def wrapped(*args: Array) -> Array:
        value = fn(*[flush(a) for a in args]) if ftz else fn(*args)
        if ftz:
            value = flush(value)
        if sat:
            value = np.where(np.isnan(value), value.dtype.type(0), np.clip(value, 0, 1)) + value.dtype.type(0)
        return np.asarray(value)

    return wrapped


def source(b: Binder, op: Op, item: Resolved, kind: str) -> Array:
    """A float operand, negated where it is written ``-%f``."""
    return b.src(op, item, kind)


def _mode(op: Op) -> str:
    return str(op.fields.get("r") or "rn")


def _sum(kind: str, mode: str, subtract: bool) -> Function:
    if mode == "rn":
        return np.subtract if subtract else np.add

    def fn(x: Array, y: Array) -> Array:
        right = -y if subtract else y
        s, err = two_sum(x.astype(np.float64), right.astype(np.float64))
        exact_zero = (s == 0) & (err == 0)
        if kind == "f64":
            value = repair_extremes(directed(s, err, mode), (x, right), mode, lambda a, b: a + b)
        else:
            value = round_to(to_odd(s, err), F32, mode).astype(np.float32)
        if mode == "rm":
            value = np.where(exact_zero & (np.signbit(x) | np.signbit(right)), -np.abs(value), value)
        return value

    return fn


@instr(f"add ?r:{ROUND} ?ftz ?sat t:f32", f"add ?r:{ROUND} t:f64",
       f"sub ?r:{ROUND} ?ftz ?sat t:f32", f"sub ?r:{ROUND} t:f64", kind="float")
def add_sub(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    d, a, c = b.need(op, 3)
    fn = finish(op, _sum(kind, _mode(op), op.opcode.startswith("sub")), kind)
    return b.alu(op, fn, b.dst(op, d, kind), source(b, op, a, kind), source(b, op, c, kind))


def _product(kind: str, mode: str) -> Function:
    if mode == "rn":
        return np.multiply

    def fn(x: Array, y: Array) -> Array:
        if kind == "f32":
            return round_to(x.astype(np.float64) * y.astype(np.float64), F32, mode).astype(np.float32)
        p, err = two_product(*np.broadcast_arrays(x, y))
        return repair_extremes(directed(p, err, mode), (x, y), mode, lambda a, b: a * b)

    return fn


@instr(f"mul ?r:{ROUND} ?ftz ?sat t:f32", f"mul ?r:{ROUND} t:f64", kind="float")
def mul(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    d, a, c = b.need(op, 3)
    return b.alu(op, finish(op, _product(kind, _mode(op)), kind), b.dst(op, d, kind), source(b, op, a, kind),
                 source(b, op, c, kind))


@instr(f"fma r:{ROUND} ?ftz ?sat t:f32", f"fma r:{ROUND} t:f64", f"mad ?r:{ROUND} ?ftz ?sat t:f32",
       f"mad ?r:{ROUND} t:f64", kind="float")
def fma(b: Binder, op: Op) -> Predicated:
    kind, mode = str(op.fields["t"]), _mode(op)
    d, a, c, e = b.need(op, 4)
    base = fma_f32 if kind == "f32" else fma_f64

    def fn(x: Array, y: Array, z: Array) -> Array:
        return base(x, y, z, mode)

    return b.alu(op, finish(op, fn, kind), b.dst(op, d, kind), source(b, op, a, kind), source(b, op, c, kind),
                 source(b, op, e, kind))


def _widened(b: Binder, op: Op, item: Resolved, kind: str) -> tuple[Array, Function]:
    """A 16-bit float operand of a mixed-precision operation: its bits, and the function that gives them as f32."""
    bits = b.src(op, item, "b16")
    return bits, bf16_to_f32 if kind == "bf16" else (lambda x: x.view(np.float16).astype(np.float32))


@instr(f"add ?r:{ROUND} ?sat =f32 t:f16|bf16", f"sub ?r:{ROUND} ?sat =f32 t:f16|bf16", kind="float")
def add_sub_mixed(b: Binder, op: Op) -> Predicated:
    """PTX ISA 8.6: the first operand has 16 bits, the second and the result are f32."""
    d, a, c = b.need(op, 3)
    bits, widen = _widened(b, op, a, str(op.fields["t"]))
    combine = finish(op, _sum("f32", _mode(op), op.opcode.startswith("sub")))

    def fn(x: Array, y: Array) -> Array:
        return np.asarray(combine(widen(x), y))

    return b.alu(op, fn, b.dst(op, d, "f32"), bits, source(b, op, c, "f32"))


@instr(f"fma r:{ROUND} ?sat =f32 t:f16|bf16", kind="float")
def fma_mixed(b: Binder, op: Op) -> Predicated:
    """PTX ISA 8.6: the factors have 16 bits, the addend and the result are f32."""
    d, a, c, e = b.need(op, 4)
    mode = _mode(op)
    first, widen = _widened(b, op, a, str(op.fields["t"]))
    second, _ = _widened(b, op, c, str(op.fields["t"]))

    def fused(x: Array, y: Array, z: Array) -> Array:
        return fma_f32(widen(x), widen(y), z, mode)

    return b.alu(op, finish(op, fused), b.dst(op, d, "f32"), first, second, source(b, op, e, "f32"))


def packed_pairs(fn: Function) -> Function:
    """Apply a float32 function to both halves of 64-bit registers."""
    def wrapped(*args: Array) -> Array:
        size = max(a.size for a in args)
        wide = [np.ascontiguousarray(np.broadcast_to(a, (size,))).view(np.float32) for a in args]
        return np.ascontiguousarray(fn(*wide), np.float32).view(np.uint64)

    return wrapped


@instr(f"add ?r:{ROUND} ?ftz =f32x2", f"mul ?r:{ROUND} ?ftz =f32x2", f"sub ?r:{ROUND} ?ftz =f32x2",
       f"fma r:{ROUND} ?ftz =f32x2", kind="float")
def packed_f32(b: Binder, op: Op) -> Predicated:
    name, mode = op.opcode.split(".")[0], _mode(op)
    items = b.need(op, 4 if name == "fma" else 3)
    if name == "mul":
        fn = _product("f32", mode)
    elif name == "fma":
        def fn(x: Array, y: Array, z: Array) -> Array:
            return fma_f32(x, y, z, mode)
    else:
        fn = _sum("f32", mode, name == "sub")
    return b.alu(
        op, packed_pairs(finish(op, fn)), b.dst(op, items[0], "b64"), *[b.src(op, i, "b64") for i in items[1:]]
    )


def _quotient(kind: str, mode: str) -> Function:
    if mode == "rn":
        return np.divide

    def fn(x: Array, y: Array) -> Array:
        wide, under = x.astype(np.float64), y.astype(np.float64)
        q = wide / under
        p, err = two_product(*np.broadcast_arrays(q, under))
        rest = (wide - p) - err
        rest = np.where(np.isfinite(q) & np.isfinite(rest), np.where(under < 0, -rest, rest), 0.0)
        if kind == "f64":
            return repair_extremes(directed(q, rest, mode), (x, y), mode, lambda a, b: a / b)
        return round_to(to_odd(q, rest), F32, mode).astype(np.float32)

    return fn


def approximate(b: Binder, fn: Function, ulps: float = 1.0) -> Function:
    """A function computed in float64 and rounded to float32; with a seed, moved by up to ``ulps``.

    The ISA bounds the error of the approximate functions but does not fix their bits. How far a result is moved follows
    from it and the seed alone: equal inputs give equal results, on whatever thread.
    """
    launch = b.launch

    def wrapped(*args: Array) -> Array:
        exact = fn(*[a.astype(np.float64) for a in args])
        value = exact.astype(np.float32)
        if launch.seed is not None:
            shift = _scattered(exact, launch.seed).astype(np.int64) % (2 * int(ulps) + 1) - int(ulps)
            moved = np.where(shift > 0, np.nextafter(value, np.float32(np.inf)),
                             np.nextafter(value, np.float32(-np.inf)))
            value = np.where((shift != 0) & np.isfinite(value) & (value != 0) & (value != exact), moved, value)
        return value

    return wrapped


def _scattered(exact: Array, seed: int) -> Array:
    """Numbers from 0 on that look random, one for each bit pattern."""
    bits = np.ascontiguousarray(exact).view(np.uint64) ^ np.uint64(seed * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)
    mixed = (bits ^ bits >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB) >> np.uint64(33)


@instr(f"div r:{ROUND} ?ftz t:f32", f"div r:{ROUND} t:f64", kind="float")
def div(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    d, a, c = b.need(op, 3)
    return b.alu(op, finish(op, _quotient(kind, _mode(op)), kind), b.dst(op, d, kind), source(b, op, a, kind),
                 source(b, op, c, kind))


@instr("div mode:approx|full ?ftz t:f32", kind="special")
def div_approx(b: Binder, op: Op) -> Predicated:
    d, a, c = b.need(op, 3)
    return b.alu(op, finish(op, approximate(b, np.divide, 2)), b.dst(op, d, "f32"), b.src(op, a, "f32"),
                 b.src(op, c, "f32"))


def _square_root(kind: str, mode: str) -> Function:
    if mode == "rn":
        return np.sqrt

    def fn(x: Array) -> Array:
        wide = x.astype(np.float64)
        # Roots of tiny and huge numbers are taken of numbers near 1, by an even power of two.
        shift = np.where(np.isfinite(wide), (np.frexp(wide)[1] // 2) * 2, 0)
        scaled = kind == "f64"
        if scaled:
            wide = np.ldexp(wide, -shift)
        s = np.sqrt(wide)
        p, err = two_product(s, s)
        rest = (wide - p) - err
        rest = np.where(np.isfinite(s) & np.isfinite(rest), rest, 0.0)
        if kind == "f64":
            return directed(s, rest, mode) if not scaled else np.ldexp(directed(s, rest, mode), shift // 2)
        return round_to(to_odd(s, rest), F32, mode).astype(np.float32)

    return fn


def _reciprocal(kind: str, mode: str) -> Function:
    quotient = _quotient(kind, mode)
    one = np.ones(1, dtype_of(kind))
    return lambda x: quotient(one, x)


@instr(f"sqrt r:{ROUND} ?ftz t:f32", f"sqrt r:{ROUND} t:f64", f"rcp r:{ROUND} ?ftz t:f32", f"rcp r:{ROUND} t:f64",
       kind="float")
def root_reciprocal(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    d, a = b.need(op, 2)
    made = _square_root(kind, _mode(op)) if op.opcode.startswith("sqrt") else _reciprocal(kind, _mode(op))
    return b.alu(op, finish(op, made, kind), b.dst(op, d, kind), b.src(op, a, kind))


_APPROXIMATE: dict[str, Function] = {
    "sqrt": np.sqrt, "rcp": np.reciprocal, "rsqrt": lambda x: 1.0 / np.sqrt(x), "ex2": np.exp2, "lg2": np.log2,
    "sin": np.sin, "cos": np.cos, "tanh": np.tanh,
}


@instr("sqrt =approx ?ftz t:f32", "rcp =approx ?ftz t:f32", "rsqrt =approx ?ftz t:f32", "ex2 =approx ?ftz t:f32",
       "lg2 =approx ?ftz t:f32", "sin =approx ?ftz t:f32", "cos =approx ?ftz t:f32", "tanh =approx t:f32",
       kind="special")
def approximations(b: Binder, op: Op) -> Predicated:
    d, a = b.need(op, 2)
    name = op.opcode.split(".")[0]
    return b.alu(op, finish(op, approximate(b, _APPROXIMATE[name])), b.dst(op, d, "f32"), b.src(op, a, "f32"))


@instr("rcp =approx =ftz =f64", "rsqrt =approx ?ftz =f64", kind="special")
def approximations_f64(b: Binder, op: Op) -> Predicated:
    """Only the upper 32 bits of argument and result count, as the ISA has it."""
    d, a = b.need(op, 2)
    function = _APPROXIMATE[op.opcode.split(".")[0]]
    high = np.uint64(0xFFFFFFFF00000000)
    cut_result = op.opcode.startswith("rcp") or ".ftz" in op.opcode

    def fn(x: Array) -> Array:
        argument = (x.view(np.uint64) & high).view(np.float64) if cut_result else x
        result = np.asarray(function(argument))
        return (result.view(np.uint64) & high).view(np.float64) if cut_result else result

    return b.alu(op, fn, b.dst(op, d, "f64"), b.src(op, a, "f64"))


@instr("abs ?ftz t:f32", "abs t:f64", "neg ?ftz t:f32", "neg t:f64", kind="float")
def absneg(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    d, a = b.need(op, 2)
    ufunc = np.abs if op.opcode.startswith("abs") else np.negative
    return b.alu(op, finish(op, ufunc, kind), b.dst(op, d, kind), b.src(op, a, kind))


@instr("copysign t:f32|f64", kind="float")
def copysign(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    d, a, c = b.need(op, 3)
    return b.alu(op, lambda x, y: np.copysign(y, x), b.dst(op, d, kind), b.src(op, a, kind), b.src(op, c, kind))


@instr("testp mode:finite|infinite|number|notanumber|normal|subnormal t:f32|f64", kind="compare")
def testp(b: Binder, op: Op) -> Predicated:
    kind, mode = str(op.fields["t"]), str(op.fields["mode"])
    d, a = b.need(op, 2)
    tiny = np.finfo(dtype_of(kind)).tiny
    tests: dict[str, Function] = {
        "finite": np.isfinite, "infinite": np.isinf, "number": lambda x: ~np.isnan(x), "notanumber": np.isnan,
        "normal": lambda x: np.isfinite(x) & (np.abs(x) >= tiny),
        "subnormal": lambda x: (np.abs(x) < tiny) & (x != 0),
    }
    return b.alu(op, tests[mode], b.dst(op, d, "pred"), b.src(op, a, kind))


def extremum(name: str, nan: bool, xorsign: bool = False) -> Function:
    """Minimum or maximum of two floats: NaN loses unless ``nan``; -0 lies below +0."""
    ufunc: Any = {("min", False): np.fmin, ("max", False): np.fmax, ("min", True): np.minimum,
                  ("max", True): np.maximum}[name, nan]

    def fn(x: Array, y: Array) -> Array:
        left, right = (np.abs(x), np.abs(y)) if xorsign else (x, y)
        value = np.asarray(ufunc(left, right))
        zero = (left == 0) & (right == 0)
        if zero.any():
            sign = np.signbit(left) | np.signbit(right) if name == "min" else np.signbit(left) & np.signbit(right)
            value = np.where(
                zero, np.copysign(value.dtype.type(0), np.where(sign, -1.0, 1.0)).astype(value.dtype), value
            )
        if xorsign:
            value = np.where(np.isnan(value), value,
                             np.where(np.signbit(x) ^ np.signbit(y), -np.abs(value), np.abs(value)))
        return value

    return fn


@instr("min ?ftz ?NaN ?xs:xorsign ?abs t:f32", "max ?ftz ?NaN ?xs:xorsign ?abs t:f32", "min t:f64", "max t:f64",
       kind="float")
def minmax(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    items = b.need(op, 3, 4)
    base = extremum(op.opcode.split(".")[0], ".NaN" in op.opcode, ".xorsign" in op.opcode)
    fn: Function = base if len(items) == 3 else lambda x, y, z: base(base(x, y), z)
    return b.alu(op, finish(op, fn, kind), b.dst(op, items[0], kind), *[b.src(op, i, kind) for i in items[1:]])
