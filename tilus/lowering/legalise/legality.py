"""What a machine's emitters can spell, as a table: operation × kind × types × features of the target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilus.ir.core import Operation
from tilus.ir.dtypes import DType, f32
from tilus.ir.ops import Binary, Cast, Unary
from tilus.ir.ops.thread import PtrAtomic
from tilus.records import record
from tilus.targets import Feature, Target

Types = Callable[[DType], bool]


def types(*chosen: DType) -> Types:
    """Just these."""
    return frozenset(chosen).__contains__


def integers(dtype: DType) -> bool:
    """Of any width."""
    return dtype.is_int


def integers_of(*widths: int) -> Types:
    """Signed or not, of these widths."""
    return lambda dtype: dtype.is_int and dtype.bits in widths


@record(frozen=True)
class Row:
    """Operations of one class that are spelled as they are.

    Attributes:
        operation: the class.
        types: of the first operand; of an atomic, of the element.
        kinds: those of them; for casts the roundings. All for None.
        to: the types that casts give.
        feature: what the target has to have.
        when: what else is asked of the operation.
    """

    operation: type[Operation]
    types: Types
    kinds: frozenset[str] | None = None
    to: Types | None = None
    feature: Feature | None = None
    when: Callable[[Any], bool] | None = None

    def covers(self, kind: str, dtype: DType, result: DType, target: Target) -> bool:
        """Whether it is about such operations; ``when`` is not asked."""
        return ((self.kinds is None or kind in self.kinds) and self.types(dtype)
                and (self.to is None or self.to(result)) and (self.feature is None or target.has(self.feature)))


class Legality:
    """The rows of a machine.

    ``registers``: the elements of a vector are registers of one thread, so that rare cases are better computed one by
    one; else they are lanes. ``predicated``: atomics take a predicate.
    """

    def __init__(self, *rows: Row, registers: bool, predicated: bool) -> None:
        self.rows: dict[type[Operation], list[Row]] = {}
        for row in rows:
            self.rows.setdefault(row.operation, []).append(row)
        self.registers = registers
        self.predicated = predicated


class Machine:
    """A target and what can be spelled for it."""

    def __init__(self, legality: Legality, target: Target) -> None:
        self.legality = legality
        self.target = target
        self._known: dict[tuple[type[Operation], str, DType, DType], list[Row]] = {}

    def spells(self, op: Operation) -> bool:
        """Whether an operation is spelled as it is."""
        for row in self.rows_of(type(op), _kind(op), subject(op), op.results[0].tile.dtype):
            if row.when is None or row.when(op):
                return True
        return False

    def rows_of(self, operation: type[Operation], kind: str, dtype: DType, result: DType) -> list[Row]:
        """The rows about operations on ``dtype`` that give ``result``."""
        key = (operation, kind, dtype, result)
        found = self._known.get(key)
        if found is None:
            rows = self.legality.rows.get(operation, ())
            found = self._known[key] = [r for r in rows if r.covers(kind, dtype, result, self.target)]
        return found


def subject(op: Operation) -> DType:
    """The type that an operation is about."""
    return (op.results[0] if isinstance(op, PtrAtomic) else op.operands[0]).tile.dtype


def _kind(op: Operation) -> str:
    if not isinstance(op, Cast):
        return str(getattr(op, "kind", ""))
    source, target = op.x.tile.dtype, op.dtype
    if source.is_float and target.is_int:  # toward zero is how these round if nothing is said
        return "rn" if op.rounding == "rz" else op.rounding
    return op.rounding if rounds(source, target) else "rn"


def rounds(source: DType, target: DType) -> bool:
    """Whether a conversion to a float loses anything, so that it matters how it rounds."""
    if not target.is_float or source.is_bool:
        return False
    if source.is_float:
        return not (target.mantissa >= source.mantissa and target.exponent >= source.exponent)
    return source.bits - (source.kind == "int") > target.mantissa + 1


def to_be_rounded(op: Unary | Binary) -> bool:
    """Whether a result of f32 needs the precision of 16 bits only."""
    return op.precision is not None and op.precision.bits == 16 and op.operands[0].tile.dtype is f32


__all__ = ["Legality", "Machine", "Row", "Types", "integers", "integers_of", "rounds", "subject", "to_be_rounded",
           "types"]
