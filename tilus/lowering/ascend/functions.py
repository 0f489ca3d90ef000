"""Functions of floats that the target's library lacks, by arithmetic (``lowering/math``), in f32."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilus.ir.builder import Builder
from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.dtypes import f32
from tilus.ir.ops import Binary, Cast, Unary
from tilus.lowering.ascend.elementwise import FUNCTIONS
from tilus.lowering.ascend.replacement import replace_operations
from tilus.lowering.math.builder import Arithmetic, Operand
from tilus.lowering.math.functions import UNARY
from tilus.lowering.math.trigonometry import expand_atan2

SIGN = 1 << 31
"""The bit of an f32 that is its sign."""


def expand_functions(module: Module) -> None:
    """Replace functions of tiles, in place."""
    replace_operations(module, _expanded)


def _expanded(op: Operation, ops: list[Operation]) -> Value | None:
    expand = _expansion(op)
    if expand is None:
        return None
    into = Block()
    into.ops = ops
    b = Builder(into, op.span)
    dtype = op.results[0].tile.dtype
    operands = [b.add(Cast(v, f32)).result if v.tile.dtype is not f32 else v for v in op.operands]
    found = expand(_TileArithmetic(b, operands[0]), *operands)
    return b.add(Cast(found, dtype)).result if dtype is not f32 else found


def _expansion(op: Operation) -> Callable[..., Value] | None:
    if not (isinstance(op, (Unary, Binary)) and op.result.tile.shape and op.operands[0].tile.dtype.is_float):
        return None
    if isinstance(op, Unary):
        return None if op.kind in FUNCTIONS else _tangent if op.kind == "tan" else UNARY.get(op.kind)
    return {"atan2": expand_atan2, "copysign": lambda m, x, y: m.copysign(x, y)}.get(op.kind)


def _tangent(m: Arithmetic, x: Value) -> Value:
    """By the library's functions, which take large arguments."""
    return m.div(m.unary("sin", x), m.unary("cos", x))


class _TileArithmetic(Arithmetic):
    """Of tiles, all of whose elements go the same way."""

    def rarely(self, condition: Value, x: Value, values: Sequence[Value],
               compute: Callable[[Arithmetic, Value], Sequence[Value]]) -> list[Value]:
        return [self.where(condition, new, old) for new, old in zip(compute(self, x), values, strict=True)]

    def copysign(self, x: Operand, sign: Value) -> Value:
        magnitude = self.binary("and", self.bits(self.const(x)), SIGN - 1)
        return self.float_of(self.either(magnitude, self.binary("and", self.bits(sign), SIGN)))


__all__ = ["expand_functions"]
