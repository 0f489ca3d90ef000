"""Odd functions by polynomials, one for each of 16 or 32 intervals: an instruction picks the coefficients of all lanes
of a register from tables that registers hold."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import u32
from tilus.ir.ops import Broadcast, Extract, Pack, PtrLoad, Shuffle
from tilus.ir.ops.simd import ConstantTable, TableLookup
from tilus.lowering.math.builder import Arithmetic

LANES = 16
Pick = Callable[[Arithmetic, Value], Value]


def by_intervals(m: Arithmetic, x: Value, pieces: Sequence[Sequence[float]], width: float, top: float) -> Value:
    """An odd function of f32 that is constant from ``top`` on. ``pieces`` are, of each interval, the centre (about a
    multiple of ``width``), the value there, the slope, and the coefficients of what the quotient of differences has
    beside the slope. Values at the centres are floats all but exactly."""
    picks = [_pick(m, row) for row in pieces]
    parts = [_part(Arithmetic(m.b, part), part, picks, width, top) for part in _registers(m, x)]
    return _joined(m, x, parts)


def _part(m: Arithmetic, x: Value, picks: Sequence[Pick], width: float, top: float) -> Value:
    a = m.abs(x)
    a = m.where(m.test("gt", a, top), top, a)
    index = m.bits(m.fma(a, 1 / width, 1.5 * 2.0**m.mantissa))  # the nearest multiple, in the lowest bits
    centre, value, slope, *coefficients = (pick(m, index) for pick in picks)
    d = m.sub(a, centre)
    rest = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        rest = m.fma(rest, d, c)
    return m.copysign(m.fma(rest, d, m.fma(slope, d, value)), x)


def _pick(m: Arithmetic, values: Sequence[float]) -> Pick:
    """What gives the elements of a table at the lanes' indices."""
    if len(set(values)) == 1:
        return lambda m, index: m.const(values[0])
    words = struct.unpack(f"{len(values)}I", struct.pack(f"{len(values)}f", *values))
    tables = tuple(m.b.add(PtrLoad(m.b.add(ConstantTable(words[i : i + LANES], u32)).result, LANES)).result
                   for i in range(0, len(words), LANES))
    return lambda m, index: m.float_of(m.b.add(TableLookup(index, tables)).result)


def _registers(m: Arithmetic, x: Value) -> list[Value]:
    """The lanes of a vector by sixteen; those of fewer are repeated."""
    if not x.tile.shape:
        return [m.b.add(Broadcast(x, (LANES,))).result]
    count = x.tile.size
    return [m.b.add(Shuffle(x, tuple(min(i, count - 1) for i in range(start, start + LANES)))).result
            for start in range(0, count, LANES)]


def _joined(m: Arithmetic, x: Value, parts: Sequence[Value]) -> Value:
    if not x.tile.shape:
        return m.b.add(Extract(parts[0], 0)).result
    whole = m.b.add(Pack(tuple(parts))).result if len(parts) > 1 else parts[0]
    count = x.tile.size
    return whole if whole.tile.size == count else m.b.add(Shuffle(whole, tuple(range(count)))).result


__all__ = ["by_intervals"]
