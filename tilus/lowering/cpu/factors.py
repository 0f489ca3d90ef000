"""Factors of B that are the same for all of K: a sum of products is multiplied by them, not each product.

``sum over k of x[k] * (w[k, n] * s[n])`` is ``s[n] * sum over k of x[k] * w[k, n]``: it rounds less often, and differs
only where a product overflows or vanishes that its multiple would not. So it is done where w is of a type of small
range.
"""

from __future__ import annotations

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType, f32, f64
from tilus.ir.ops import Binary, Cast, Const, Iota, Load, Transpose
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.evaluate import evaluate, moved_coords
from tilus.lowering.cpu.movements import source_dims
from tilus.lowering.cpu.values import Buffer, Coords, Lazy
from tilus.records import record

_LARGEST, _LEAST = 2.0**16, 2.0**-24
"""The range of f16: what is within it times an f32 is in range, up to the last binades."""

Moves = tuple[Operation, ...]


@record(eq=False, slots=True)
class Factored:
    """A tile (K × N) as ``value`` times ``scales``, each with the operations on the way that rearrange elements."""

    value: Value
    moves: Moves
    scales: tuple[tuple[Value, Moves], ...] = ()

    def scale(self, lowering: BlockLowering, coords: Coords, lanes: int) -> Value:
        """The product of the scales."""
        c = lowering.c
        total: Value | None = None
        for value, moves in self.scales:
            x = c.splat(evaluate(lowering, value, moved_coords(moves, coords)), lanes)
            total = x if total is None else c.b.add(Binary("mul", total, x)).result
        assert total is not None
        return total


def factored(self: BlockLowering, value: Value) -> Factored:
    """A lazy tile without the factors that do not depend on its first dimension."""
    current, dims = value, (0, 1)
    moves: list[Operation] = []
    scales: list[tuple[Value, Moves]] = []
    found = Factored(value, ())
    at: tuple[int | None, ...] = dims
    while True:
        rep = self.reps[current]
        op = rep.op if isinstance(rep, Lazy) else None
        if isinstance(op, Transpose):
            moves.append(op)
            at = source_dims(op, op.x, at)
            current = op.x
            continue
        if not isinstance(op, Binary) or op.kind != "mul" or op.result.tile.dtype not in (f32, f64):
            return found
        sides = [(x, y) for x, y in ((op.lhs, op.rhs), (op.rhs, op.lhs))
                 if not _varies(self, y, at) and _varies(self, x, at)]
        if not sides:
            return found
        current, scale = sides[0]
        scales.append((scale, tuple(moves)))
        if _is_small(self, current, at):
            found = Factored(current, tuple(moves), tuple(scales))


def _varies(self: BlockLowering, value: Value, dims: tuple[int | None, ...]) -> bool:
    """Whether a tile's elements depend on the consumer's dimension 0."""
    if value.tile.is_scalar or 0 not in dims:
        return False
    rep = self.reps[value]
    if isinstance(rep, Buffer) or isinstance(rep.op, Load):
        return True
    if isinstance(rep.op, Const):
        return False
    if isinstance(rep.op, Iota):
        return dims[rep.op.axis] == 0
    operands = [o for o in rep.op.operands if o not in self.views]
    return len(operands) < len(rep.op.operands) or any(_varies(self, o, source_dims(rep.op, o, dims)) for o in operands)


def _is_small(self: BlockLowering, value: Value, dims: tuple[int | None, ...]) -> bool:
    """Whether a tile's numbers come from a type of small range, up to what is added that does not depend on K."""
    if _small_type(value.tile.dtype):
        return True
    rep = self.reps[value]
    op = rep.op if isinstance(rep, Lazy) else None
    if isinstance(op, (Cast, Transpose)):
        return _is_small(self, op.x, source_dims(op, op.x, dims))
    if isinstance(op, Binary) and op.kind in ("add", "sub"):
        return any(_is_small(self, x, dims) and not _varies(self, y, dims)
                   for x, y in ((op.lhs, op.rhs), (op.rhs, op.lhs)))
    return False


def _small_type(dtype: DType) -> bool:
    if dtype.is_codebook:
        return all(v == 0 or _LEAST <= abs(v) <= _LARGEST for v in dtype.values)
    if dtype.is_int:
        return dtype.bits <= 16
    return dtype.is_float and dtype.exponent <= 5


__all__ = ["Factored", "factored"]
