"""Atomics on floats: by integer atomics on the bits, or by compare and swap."""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Block, Value
from tilus.ir.dtypes import DType, bool_, integer
from tilus.ir.ops import Binary, Bitcast, Compare, If, PtrCast, Select, Unary, While, Yield
from tilus.ir.ops.thread import AtomicLoad, PtrAtomic
from tilus.lowering.legalise.legality import Machine
from tilus.lowering.legalise.rules import rule


def _is_float(op: PtrAtomic) -> bool:
    return op.result.tile.dtype.is_float


@rule(PtrAtomic, lambda op: _is_float(op) and op.kind in ("exchange", "cas"))
def as_integers(b: Builder, op: PtrAtomic, machine: Machine) -> Value:
    dtype = op.result.tile.dtype
    word = integer(dtype.bits, signed=False)
    compare = None if op.compare is None else _bits(b, op.compare, word)
    old = b.add(PtrAtomic(op.kind, b.add(PtrCast(op.pointer, word)).result, _bits(b, op.value, word), compare,
                          op.predicate, op.order, op.scope)).result
    return _bits(b, old, dtype)


@rule(PtrAtomic, lambda op, machine: _is_float(op) and op.kind in ("min", "max") and machine.legality.predicated,
      asks_machine=True)
def extremum(b: Builder, op: PtrAtomic, machine: Machine) -> Value:
    return _Extremum(b, op, op.result.tile.dtype).run()


@rule(PtrAtomic, lambda op: _is_float(op) and op.kind in ("add", "min", "max"))
def by_swaps(b: Builder, op: PtrAtomic, machine: Machine) -> Value:
    """Compare and swap until nobody came in between."""
    dtype = op.result.tile.dtype
    word = integer(dtype.bits, signed=False)
    pointer = b.add(PtrCast(op.pointer, word)).result
    if op.predicate is None:
        seen, going = b.add(AtomicLoad(pointer, "relaxed", op.scope)).result, b.const(True, bool_)
    else:  # the first swap, of 0 for 0, only reads
        zero, going = b.const(0, word), op.predicate
        seen = b.add(PtrAtomic("cas", pointer, zero, zero, going, "relaxed", op.scope)).result
    before, after = Block([seen.type, going.type]), Block([seen.type, going.type])
    _yields(b.at(before), before.args[1])
    inner = b.at(after)
    old = after.args[0]
    total = inner.add(Binary(op.kind, _bits(inner, old, dtype), op.value, False)).result
    now = inner.add(PtrAtomic("cas", pointer, _bits(inner, total, word), old, None, op.order, op.scope)).result
    _yields(inner, now, inner.add(Compare("ne", now, old)).result)
    return _bits(b, b.add(While((seen, going), before, after)).results[0], dtype)


def _bits(b: Builder, x: Value, dtype: DType) -> Value:
    return b.add(Bitcast(x, dtype)).result


def _yields(b: Builder, *values: Value) -> None:
    b.add(Yield(values))


class _Extremum:
    """Minimum or maximum with the meaning of ``tl.minimum``: of a number and a NaN the number.

    Floats that are no NaNs are ordered as their bits: as signed integers where the operand is not negative, reversed as
    unsigned ones where it is. A NaN operand changes nothing. A NaN in memory may be above all numbers in either order;
    it is then swapped for the operand.
    """

    def __init__(self, b: Builder, op: PtrAtomic, dtype: DType) -> None:
        self.op, self.dtype = op, dtype
        self.signed, self.unsigned = integer(dtype.bits), integer(dtype.bits, signed=False)
        self.up, self.down = ("max", "min") if op.kind == "max" else ("min", "max")
        self.nan = b.add(Unary("isnan", op.value)).result
        bits = _bits(b, op.value, self.signed)
        negative = b.add(Compare("lt", bits, b.const(0, self.signed))).result
        self.reverse = self._both(b, negative, b.add(Unary("not", self.nan)).result)
        idle = self.signed.min_value if op.kind == "max" else self.signed.max_value
        self.value = b.add(Select(self.nan, b.const(idle, self.signed), bits)).result
        self.pointer = b.add(PtrCast(op.pointer, self.unsigned)).result
        self.b = b

    def run(self) -> Value:
        b = self.b
        first = self.ordered(b)
        before, after = Block([first.type]), Block([first.type])
        checking = b.at(before)
        numbers = checking.add(Unary("not", self.nan)).result
        _yields(checking, self._active(checking, self._both(checking, self._is_nan(checking, before.args[0]), numbers)))
        self._replace(b.at(after), after.args[0])
        b.add(While((first,), before, after))
        return _bits(b, first, self.dtype)

    def ordered(self, b: Builder) -> Value:
        """The atomic in the order of the bits; gives the old bits."""
        pointer = b.add(PtrCast(self.op.pointer, self.signed)).result
        forward = self._active(b, b.add(Unary("not", self.reverse)).result)
        high = b.add(PtrAtomic(self.up, pointer, self.value, None, forward, self.op.order, self.op.scope)).result
        low = b.add(PtrAtomic(self.down, self.pointer, _bits(b, self.value, self.unsigned), None,
                              self._active(b, self.reverse), self.op.order, self.op.scope)).result
        return b.add(Select(self.reverse, low, _bits(b, high, self.unsigned))).result

    def _replace(self, b: Builder, seen: Value) -> None:
        """Swap the operand for a NaN; where something else has come in between, it is compared with again."""
        value = _bits(b, self.value, self.unsigned)
        now = b.add(PtrAtomic("cas", self.pointer, value, seen, None, self.op.order, self.op.scope)).result
        done, again = Block(), Block()
        _yields(b.at(done), value)
        _yields(b.at(again), self.ordered(b.at(again)))
        _yields(b, b.add(If(b.add(Compare("eq", now, seen)).result, done, again)).results[0])

    def _is_nan(self, b: Builder, bits: Value) -> Value:
        return b.add(Unary("isnan", _bits(b, bits, self.dtype))).result

    def _active(self, b: Builder, condition: Value) -> Value:
        return condition if self.op.predicate is None else self._both(b, self.op.predicate, condition)

    def _both(self, b: Builder, x: Value, y: Value) -> Value:
        return b.add(Binary("and", x, y)).result
