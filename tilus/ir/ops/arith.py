"""Elementwise operations, for block-uniform scalars and for tiles alike; operands have one shape, by broadcasts.

Semantics are those of docs/language.md: integers wrap, ``floordiv`` and ``mod`` are floor as in Python (division by
zero gives 0 and the dividend), ``minimum``/``maximum`` prefer a number to a NaN, float to integer saturates and
NaN gives 0, shifts by the width or more give 0 (or the sign).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from tilus.ir import functions
from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType, bool_, i64, u32
from tilus.ir.families import Elementwise, Movement
from tilus.ir.terms import CompareKind, Rounding
from tilus.ir.types import TileType, Type

FLOAT_UNARY = frozenset(functions.UNARY)
"""Unary functions of floats to the same type; ``round`` is to nearest even."""
NUMERIC_UNARY = frozenset({"neg", "abs"})
BIT_UNARY = frozenset({"not", "popcount", "clz"})
PREDICATE_UNARY = frozenset(functions.PREDICATES)

NUMERIC_BINARY = frozenset({"add", "sub", "mul", "min", "max", "mod", "floordiv"})
FLOAT_BINARY = frozenset({"div", *functions.BINARY})
BIT_BINARY = frozenset({"and", "or", "xor"})
SHIFT_BINARY = frozenset({"shl", "shr"})
MACHINE_BINARY = frozenset({"quo", "rem", "lsl", "lsr", "asr"})
"""Of integers, at thread level, for operands that it is defined for: division toward zero (the divisor is not 0, and
the quotient does not overflow), and shifts by less than the width."""
COMMUTATIVE = frozenset({"add", "mul", "and", "or", "xor", "eq", "ne"})
"""Binary operations and comparisons that give the same bits either way (minima do not: of two zeros, or with a NaN)."""

COMPARE_KINDS: tuple[CompareKind, ...] = get_args(CompareKind)
ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)


class Const(Operation):
    """A scalar constant, or a tile filled with one. ``value`` is an int, float or bool that ``dtype`` represents."""

    NAME = "const"
    value: int | float | bool
    dtype: DType
    shape: tuple[int, ...] = ()

    def infer(self) -> Sequence[Type]:
        return (TileType(self.dtype, self.shape),)


class Iota(Operation):
    """A tile whose elements are their index along ``axis``."""

    NAME = "iota"
    shape: tuple[int, ...]
    axis: int = 0
    dtype: DType = i64

    def infer(self) -> Sequence[Type]:
        if not 0 <= self.axis < len(self.shape):
            self.fail("E0204", f"axis {self.axis} is not one of a tile of rank {len(self.shape)}")
        return (TileType(self.dtype, self.shape),)


class Unary(Elementwise):
    """An elementwise function of one operand. ``approximate`` allows a hardware instruction of about 2 ulp of f32 that
    flushes subnormal results to zero. ``precision`` is the type whose accuracy a float result needs, where that is
    not its own; None leaves it to what the result is used for."""

    NAME = "unary"
    kind: str
    x: Value
    approximate: bool = False
    precision: DType | None = None

    def infer(self) -> Sequence[Type]:
        tile, dtype = self.x.tile, self.x.tile.dtype
        kind = self.kind
        if kind in FLOAT_UNARY or kind in PREDICATE_UNARY:
            valid = dtype.is_float and dtype.is_arithmetic
        elif kind in NUMERIC_UNARY:
            valid = dtype.is_arithmetic
        elif kind in BIT_UNARY:
            valid = (dtype.is_int and dtype.is_arithmetic) or (kind == "not" and dtype.is_bool)
        else:
            self.fail("E0203", f"there is no unary operation {kind!r}")
        if not valid:
            self.fail("E0203", f"{kind} is not defined for {dtype}", help=_cast_help(dtype, kind))
        return (tile.with_dtype(bool_) if kind in PREDICATE_UNARY else tile,)


class Binary(Elementwise):
    """An elementwise function of two operands of one type. ``contract`` allows fusing a float multiply with an add,
    ``precision`` is as that of :class:`Unary`, of divisions."""

    NAME = "binary"
    kind: str
    lhs: Value
    rhs: Value
    contract: bool = True
    precision: DType | None = None

    def infer(self) -> Sequence[Type]:
        tile, dtype, kind = self.lhs.tile, self.lhs.tile.dtype, self.kind
        _same_type(self, self.lhs, self.rhs)
        if kind in NUMERIC_BINARY:
            valid = dtype.is_arithmetic or (dtype.is_bool and kind in ("min", "max"))
        elif kind in FLOAT_BINARY:
            valid = dtype.is_arithmetic and dtype.is_float
        elif kind in BIT_BINARY:
            valid = dtype.is_bool or (dtype.is_int and dtype.is_arithmetic)
        elif kind in SHIFT_BINARY or kind in MACHINE_BINARY:
            valid = dtype.is_int and dtype.is_arithmetic
        else:
            self.fail("E0203", f"there is no binary operation {kind!r}")
        if not valid:
            self.fail("E0203", f"{kind} is not defined for {dtype}", help=_cast_help(dtype, kind))
        return (tile,)


class Fma(Elementwise):
    """``a * b + c`` of floats with one rounding."""

    NAME = "fma"
    a: Value
    b: Value
    c: Value

    def infer(self) -> Sequence[Type]:
        _same_type(self, self.a, self.b)
        _same_type(self, self.a, self.c)
        dtype = self.a.tile.dtype
        if not (dtype.is_float and dtype.is_arithmetic):
            self.fail("E0203", f"fma is not defined for {dtype}", help=_cast_help(dtype, "fma"))
        return (self.a.tile,)


class MulHi(Elementwise):
    """The upper half of the product of two 32- or 64-bit integers."""

    NAME = "mulhi"
    lhs: Value
    rhs: Value

    def infer(self) -> Sequence[Type]:
        _same_type(self, self.lhs, self.rhs)
        if not (self.lhs.tile.dtype.is_int and self.lhs.tile.dtype.bits in (32, 64)):
            self.fail("E0203", f"mulhi is not defined for {self.lhs.tile.dtype}")
        return (self.lhs.tile,)


class Compare(Elementwise):
    """An elementwise comparison; with a NaN only ``ne`` holds."""

    NAME = "compare"
    kind: CompareKind
    lhs: Value
    rhs: Value

    def infer(self) -> Sequence[Type]:
        _same_type(self, self.lhs, self.rhs)
        dtype = self.lhs.tile.dtype
        if self.kind not in COMPARE_KINDS:
            self.fail("E0203", f"there is no comparison {self.kind!r}")
        if dtype.is_float and not dtype.is_arithmetic:
            self.fail("E0203", f"comparisons are not defined for {dtype}", help=_cast_help(dtype, self.kind))
        if not (dtype.is_arithmetic or self.kind in ("eq", "ne")):
            self.fail("E0203", f"values of {dtype} have no order", help=_cast_help(dtype, self.kind))
        return (self.lhs.tile.with_dtype(bool_),)


class Select(Elementwise):
    """``where(condition, x, y)``; only the chosen value counts."""

    NAME = "select"
    condition: Value
    x: Value
    y: Value

    def infer(self) -> Sequence[Type]:
        _same_type(self, self.x, self.y)
        condition = self.condition.tile
        if not condition.dtype.is_bool:
            self.fail("E0201", f"the condition is {condition.dtype}, not bool", help="compare it, e.g. `x != 0`")
        if condition.shape != self.x.tile.shape:
            self.fail("E0202", f"condition of shape {condition.shape} for values of shape {self.x.tile.shape}")
        return (self.x.tile,)


class Cast(Elementwise):
    """Conversion of values: to nearest even for floats (``rounding`` overrides), saturating from float to integer,
    wrapping between integers, ``!= 0`` to bool."""

    NAME = "cast"
    x: Value
    dtype: DType
    rounding: Rounding = "rn"

    def infer(self) -> Sequence[Type]:
        if self.rounding not in ROUNDINGS:
            self.fail("E0107", f"rounding is one of {', '.join(ROUNDINGS)}, not {self.rounding!r}")
        if self.dtype.is_codebook and self.rounding != "rn":
            self.fail("E0107", f"conversions to {self.dtype}, a codebook, are to the nearest value",
                      help="omit rounding=")
        return (self.x.tile.with_dtype(self.dtype),)


class Bitcast(Elementwise):
    """The same bits of each element as another type of the same width."""

    NAME = "bitcast"
    x: Value
    dtype: DType

    def infer(self) -> Sequence[Type]:
        source = self.x.tile.dtype
        if source.bits != self.dtype.bits or source.is_bool != self.dtype.is_bool:
            self.fail("E0201", f"bitcast from {source} to {self.dtype}: the widths differ",
                      help="use `.to(dtype)` to convert values, or `tl.view` to regroup bits")
        return (self.x.tile.with_dtype(self.dtype),)


class Broadcast(Movement):
    """NumPy broadcasting to ``shape``: from a scalar, or of dimensions of extent 1 (ranks equal). At array level a
    symbol against another extent that is not 1 demands that the two are equal, which is checked at the call."""

    NAME = "broadcast"
    x: Value
    shape: tuple[int, ...]

    def infer(self) -> Sequence[Type]:
        tile = self.x.tile
        fits = not tile.shape or (
            tile.rank == len(self.shape)
            and all(a in (b, 1) or isinstance(a, str) or isinstance(b, str)
                    for a, b in zip(tile.shape, self.shape, strict=True))
        )
        if not fits:
            self.fail("E0202", f"shape {tile.shape} does not broadcast to {self.shape}")
        return (TileType(tile.dtype, self.shape),)


class Philox(Elementwise):
    """Philox-4x32-10 (Salmon et al., 2011): four tiles of u32 from a 64-bit ``seed`` and ``offset`` (u64, a tile)."""

    NAME = "philox"
    seed: Value
    offset: Value

    def infer(self) -> Sequence[Type]:
        return (self.offset.tile.with_dtype(u32),) * 4


def _same_type(op: Operation, lhs: Value, rhs: Value) -> None:
    a, b = lhs.tile, rhs.tile
    if a.dtype is not b.dtype:
        op.fail("E0201", f"operands are {a.dtype} and {b.dtype}", help=f"convert one, e.g. `.to(tl.{a.dtype})`")
    if a.shape != b.shape:
        op.fail("E0202", f"operands have shapes {a.shape} and {b.shape}")


def _cast_help(dtype: DType, what: str) -> str:
    if dtype.is_bool:
        return "convert with `.to(tl.i32)` first"
    if dtype.is_arithmetic:
        return "convert with `.to(tl.f32)` first" if dtype.is_int else f"{what} needs integers"
    return f"{dtype} is a storage type: convert with `.to(...)` first"


__all__ = [
    "Binary", "Bitcast", "Broadcast", "Cast", "Compare", "Const", "Fma", "Iota", "MulHi", "Philox", "Select", "Unary",
]
