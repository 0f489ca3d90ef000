"""Floating-point arithmetic on thread-level values, briefly: what the expansions of functions are written in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilus.ir.builder import Builder
from tilus.ir.core import Block, Value
from tilus.ir.dtypes import DType, bool_, f32, i32, i64, u32, u64
from tilus.ir.ops import (
    Binary,
    Bitcast,
    Cast,
    Compare,
    Const,
    Extract,
    Fma,
    If,
    Pack,
    Select,
    Shuffle,
    Unary,
    While,
    Yield,
)
from tilus.ir.ops.simd import ScaleBinary

Operand = Value | float


class Arithmetic:
    """Operations on scalars or vectors of one float type. Python numbers stand for constants. Nothing is contracted.

    ``in_turn``: the elements of a vector are registers of one thread, so that rare cases are computed one by one; else
    they are lanes of the machine's vectors, all computed at once. ``scales``: the machine has ``ScaleBinary``.
    ``flushes``: subnormal results may be 0.
    """

    def __init__(self, b: Builder, like: Value, in_turn: bool = False, scales: bool = False,
                 flushes: bool = False) -> None:
        self.b = b
        self.in_turn = in_turn
        self.scales = scales
        self.flushes = flushes
        self.dtype: DType = like.tile.dtype
        self.shape = like.tile.shape
        self.single = self.dtype is f32
        self.mantissa = self.dtype.mantissa
        self.bias = self.dtype.bias
        self.signed, self.unsigned = (i32, u32) if self.single else (i64, u64)

    def pick(self, single: float, double: float) -> float:
        return single if self.single else double

    def const(self, value: Operand, dtype: DType | None = None) -> Value:
        if isinstance(value, Value):
            return value
        return self.b.add(Const(value, dtype or self.dtype, self.shape)).result

    def binary(self, kind: str, x: Operand, y: Operand) -> Value:
        dtype = x.tile.dtype if isinstance(x, Value) else y.tile.dtype if isinstance(y, Value) else self.dtype
        a, b = self.const(x, dtype), self.const(y, dtype)
        return self.b.add(Binary(kind, a, b, False, types=(a.type,))).result

    def add(self, x: Operand, y: Operand) -> Value:
        return self.binary("add", x, y)

    def sub(self, x: Operand, y: Operand) -> Value:
        return self.binary("sub", x, y)

    def mul(self, x: Operand, y: Operand) -> Value:
        return self.binary("mul", x, y)

    def div(self, x: Operand, y: Operand) -> Value:
        return self.binary("div", x, y)

    def fma(self, x: Operand, y: Operand, z: Operand) -> Value:
        a = self.const(x)
        return self.b.add(Fma(a, self.const(y), self.const(z), types=(a.type,))).result

    def unary(self, kind: str, x: Value) -> Value:
        return self.b.add(Unary(kind, x)).result

    def neg(self, x: Value) -> Value:
        return self.unary("neg", x)

    def abs(self, x: Value) -> Value:
        return self.unary("abs", x)

    def sqrt(self, x: Value) -> Value:
        return self.unary("sqrt", x)

    def test(self, kind: str, x: Value, y: Operand) -> Value:
        return self.b.add(Compare(kind, x, self.const(y, x.tile.dtype))).result

    def isnan(self, x: Value) -> Value:
        return self.unary("isnan", x)

    def where(self, condition: Value, x: Operand, y: Operand) -> Value:
        dtype = x.tile.dtype if isinstance(x, Value) else y.tile.dtype if isinstance(y, Value) else self.dtype
        return self.b.add(Select(condition, self.const(x, dtype), self.const(y, dtype))).result

    def both(self, x: Value, y: Value) -> Value:
        return self.b.add(Binary("and", x, y)).result

    def either(self, x: Value, y: Value) -> Value:
        return self.b.add(Binary("or", x, y)).result

    def negate(self, x: Value) -> Value:
        """The opposite of a bool."""
        return self.unary("not", x)

    def copysign(self, x: Operand, sign: Value) -> Value:
        return self.binary("copysign", self.const(x), sign)

    def bits(self, x: Value, dtype: DType | None = None) -> Value:
        return self.b.add(Bitcast(x, dtype or self.unsigned)).result

    def float_of(self, bits: Value) -> Value:
        return self.bits(bits, self.dtype)

    def to(self, x: Value, dtype: DType) -> Value:
        return x if x.tile.dtype is dtype else self.b.add(Cast(x, dtype)).result

    def polynomial(self, x: Value, coefficients: Sequence[float]) -> Value:
        """By Horner's rule, constant term first."""
        result: Operand = coefficients[-1]
        for c in reversed(coefficients[:-1]):
            result = self.fma(result, x, c)
        return self.const(result)

    # Powers of two.

    def round_to_integer(self, x: Value) -> tuple[Value, Value]:
        """The nearest integer to ``x`` (which is far below 2^mantissa), as a float, and as bits: a signed integer."""
        magic = 1.5 * 2.0**self.mantissa
        shifted = self.add(x, magic)
        integer = self.sub(self.bits(shifted, self.signed), self.bits(self.const(magic), self.signed))
        return self.sub(shifted, magic), integer

    def power_of_two(self, exponent: Value) -> Value:
        """2^exponent for a signed integer within the range of normal numbers."""
        return self.float_of(self.b.add(Binary("shl", self.add(exponent, self.bias),
                                               self.const(self.mantissa, exponent.tile.dtype))).result)

    def scaled(self, x: Value, exponent: Value) -> Value:
        """``x * 2^exponent`` for a whole exponent of the same type, where the machine has that."""
        return self.b.add(ScaleBinary(x, exponent)).result

    def scale(self, x: Value, exponent: Value) -> Value:
        """``x * 2^exponent`` in two steps, so that the result may be subnormal or overflow."""
        offset = 4096
        raised = self.bits(self.add(exponent, offset), self.unsigned)
        half = self.bits(self.binary("shr", raised, 1), self.signed)
        first = self.sub(half, offset // 2)
        second = self.sub(exponent, first)
        return self.mul(self.mul(x, self.power_of_two(first)), self.power_of_two(second))

    # Pairs: unevaluated sums of two numbers, the second below half an ulp of the first (Dekker, 1971).

    def two_sum(self, x: Operand, y: Operand) -> tuple[Value, Value]:
        s = self.add(x, y)
        t = self.sub(s, x)
        return s, self.add(self.sub(x, self.sub(s, t)), self.sub(y, t))

    def fast_two_sum(self, x: Operand, y: Operand) -> tuple[Value, Value]:
        """For |x| ≥ |y|, or x = 0."""
        s = self.add(x, y)
        return s, self.sub(y, self.sub(s, x))

    def two_product(self, x: Operand, y: Operand) -> tuple[Value, Value]:
        p = self.mul(x, y)
        return p, self.fma(x, y, self.neg(p))

    # Rare cases.

    def any_lane(self, condition: Value) -> Value:
        """Whether a bool holds in any lane, as a scalar."""
        count = condition.tile.size
        if not condition.tile.shape:
            return condition
        while count > 1:
            half = (count + 1) // 2
            low = self.b.add(Shuffle(condition, tuple(range(half)))).result
            high = self.b.add(Shuffle(condition, tuple(range(count - half, count)))).result
            condition, count = self.either(low, high), half
        return self.b.add(Extract(condition, 0)).result

    def rarely(self, condition: Value, x: Value, values: Sequence[Value],
               compute: Callable[[Arithmetic, Value], Sequence[Value]]) -> list[Value]:
        """``compute(x)`` where the condition holds in the lane, else ``values``; nothing is computed if it holds
        nowhere."""
        if self.in_turn and condition.tile.shape:
            return self._one_by_one(condition, x, values, compute)
        then, orelse = Block(), Block()
        inner = Arithmetic(self.b.at(then), x, self.in_turn, self.scales)
        chosen = [inner.where(condition, new, old) for new, old in zip(compute(inner, x), values, strict=True)]
        inner.b.add(Yield(tuple(chosen)))
        self.b.at(orelse).add(Yield(tuple(values)))
        return list(self.b.add(If(self.any_lane(condition), then, orelse)).results)

    def _one_by_one(self, condition: Value, x: Value, values: Sequence[Value],
                    compute: Callable[[Arithmetic, Value], Sequence[Value]]) -> list[Value]:
        """A loop that computes the first of the elements that are left, so that the code is there once."""
        init = (condition, *values)
        before, after = Block([v.type for v in init]), Block([v.type for v in init])
        asking = Arithmetic(self.b.at(before), x)
        asking.b.add(Yield((asking.any_lane(before.args[0]),)))
        b = self.b.at(after)
        left, *old = ([b.add(Extract(v, i)).result for i in range(condition.tile.size)] for v in after.args)
        chosen = b.add(Extract(x, len(left) - 1)).result
        for i in reversed(range(len(left) - 1)):
            chosen = b.add(Select(left[i], b.add(Extract(x, i)).result, chosen)).result
        inner = Arithmetic(b, chosen)
        new = compute(inner, chosen)
        free = inner.const(True, bool_)  # no earlier element is left
        for i, waiting in enumerate(left):
            first = inner.both(waiting, free)
            for k, value in enumerate(new):
                old[k][i] = inner.where(first, value, old[k][i])
            free = inner.both(free, inner.negate(waiting))
            left[i] = inner.both(waiting, inner.negate(first))
        b.add(Yield(tuple(b.add(Pack(tuple(parts))).result for parts in (left, *old))))
        return list(self.b.add(While(init, before, after)).results[1:])

    def while_any(self, init: Sequence[Value], condition: Callable[[Arithmetic, list[Value]], Value],
                  body: Callable[[Arithmetic, list[Value]], Sequence[Value]]) -> list[Value]:
        """A loop that runs while ``condition`` holds in some lane; ``body`` leaves finished lanes as they are."""
        before, after = Block([v.type for v in init]), Block([v.type for v in init])
        inner = Arithmetic(self.b.at(before), init[0])
        inner.b.add(Yield((inner.any_lane(condition(inner, list(before.args))),)))
        inner = Arithmetic(self.b.at(after), init[0])
        inner.b.add(Yield(tuple(body(inner, list(after.args)))))
        return list(self.b.add(While(tuple(init), before, after)).results)
