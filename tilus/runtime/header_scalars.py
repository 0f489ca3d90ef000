"""The scalars of a launch function as expressions of C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import Binary, Cast, Compare, Const, Dim, Select, Stride, Unary
from tilus.runtime.arguments import WORD_BYTES
from tilus.runtime.header import c_type

_OPERATORS = {"add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|", "xor": "^", "div": "/"}
_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def scalar_expression(op: Operation, names: Mapping[Value, str], prefix: str) -> str:
    """An operation of a launch function in C.

    Args:
        names: of its operands in C.
        prefix: what the names of the helpers begin with (``header_checks.helpers``).

    Raises:
        UnsupportedError: E0507, it has no form in C.
    """
    n = names
    if isinstance(op, Const):
        return str(op.value).lower()
    if isinstance(op, Dim):
        return f"{n[op.view]}.shape[{op.axis}]"
    if isinstance(op, Stride):
        return f"{n[op.view]}.strides[{op.axis}]"
    if isinstance(op, Compare):
        return f"{n[op.lhs]} {_COMPARE[op.kind]} {n[op.rhs]}"
    if isinstance(op, Select):
        return f"{n[op.condition]} ? {n[op.x]} : {n[op.y]}"
    if isinstance(op, Cast):
        return f"({c_type(op.dtype)}){n[op.x]}"
    if isinstance(op, Unary) and op.kind in ("neg", "not"):
        return f"{'-' if op.kind == 'neg' else '~' if not op.x.tile.dtype.is_bool else '!'}{n[op.x]}"
    text = _binary(op, n[op.lhs], n[op.rhs], prefix) if isinstance(op, Binary) else None
    if text is None:
        raise UnsupportedError.at("E0507", f"{op.NAME} in a launch function has no form in C", op.span)
    return text


def _binary(op: Binary, a: str, b: str, prefix: str) -> str | None:
    if op.kind in _OPERATORS:
        return f"{a} {_OPERATORS[op.kind]} {b}"
    if op.kind in ("min", "max"):
        return f"{a} {'<' if op.kind == 'min' else '>'} {b} ? {a} : {b}"
    division = f"{prefix}_floordiv({a}, {b})"
    return {"floordiv": division, "mod": f"{a} - {division} * {b}"}.get(op.kind)


def workspace_bytes(extents: Sequence[str], dtype: DType) -> str:
    """The bytes of a workspace; elements that fill no bytes are stored by atomics on words."""
    bits, count = dtype.packed_bits, " * ".join(extents) or "1"
    return f"{count} * {bits // 8}" if bits % 8 == 0 else f"({count} * {bits} + 31) / 32 * {WORD_BYTES}"


def workspace_number(extents: Sequence[str], kind: str, axis: int) -> str:
    """An extent (``"shape"``) or a stride (``"strides"``) of a workspace."""
    return extents[axis] if kind == "shape" else " * ".join(extents[axis + 1:]) or "1"


__all__ = ["scalar_expression", "workspace_bytes", "workspace_number"]
