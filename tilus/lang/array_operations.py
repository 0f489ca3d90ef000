"""What functions of whole arrays have beyond the operations of tiles: products, run-time extents, rounding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilus.ir.dtypes import DType
from tilus.ir.ops.array import Contract, Extent, RoundTo
from tilus.ir.types import Extent as ExtentValue
from tilus.lang.context import current
from tilus.lang.promotion import promote
from tilus.lang.values import Tile, as_tile, broadcast_shapes, broadcast_to, emit, fail


def round_to(x: Any) -> Any:
    """``x.to`` as a function that rounds."""

    def to(dtype: DType, *, rounding: str = "rn") -> Tile:
        if not isinstance(dtype, DType):
            raise fail("E0107", f".to takes an element type such as tl.f16, not a Python {type(dtype).__name__}")
        return emit(RoundTo(x.value, dtype, rounding, span=current().span))

    return to


def extent_scalar(extent: ExtentValue) -> Any:
    """An extent as the user sees it: an int, or an i64 scalar."""
    return emit(Extent(extent, span=current().span)) if isinstance(extent, str) else extent


def element_count(extents: Sequence[Any]) -> Tile:
    """The product of extents, as an i64 scalar."""
    count: Any = 1
    for extent in extents:
        count = extent_scalar(extent) * count
    return as_tile(count)


def of_one_type(a: Tile, b: Tile, what: str) -> tuple[Tile, Tile]:
    kind = promote(a.dtype, b.dtype)
    if kind is None:
        raise fail("E0201", f"{what} of {a.dtype} and {b.dtype}: the types do not meet",
                   help="convert one operand with `.to(dtype)`")
    return (a, b) if a.dtype.is_int and b.dtype.is_int else (a.to(kind), b.to(kind))


def contract(a: Any, b: Any, accumulator: Any, dtype: DType | None, precision: str, unit: str = "") -> Tile:
    """``a @ b`` of arrays, as NumPy's matmul: batch dimensions broadcast, and arrays of rank 1 are rows and columns."""
    for operand, name in ((a, "first"), (b, "second")):
        if not isinstance(operand, Tile) or not operand.shape:
            raise fail("E0202", f"the {name} operand of @ is not an array of rank 1 or more")
    if accumulator is not None or dtype is not None or unit:
        raise fail("E0115", "tl.dot takes no accumulator, dtype or unit in a fused function",
                   help="add to the product, or convert it with `.to`")
    row, column = len(a.shape) == 1, len(b.shape) == 1
    a = a.reshape(1, a.shape[0]) if row else a
    b = b.reshape(b.shape[0], 1) if column else b
    a, b = of_one_type(a, b, "@")
    batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = broadcast_to(a, (*batch, *a.shape[-2:])), broadcast_to(b, (*batch, *b.shape[-2:]))
    result = emit(Contract(a.value, b.value, precision, span=current().span))
    shape = result.shape
    if row or column:
        result = result.reshape(shape[:-2] + (() if row else shape[-2:-1]) + (() if column else shape[-1:]))
    return result
