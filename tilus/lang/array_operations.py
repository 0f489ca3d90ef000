"""What functions of whole arrays have beyond the operations of tiles: products, run-time extents, rounding."""

from __future__ import annotations

import re
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


def einsum(spec: str, a: Tile, b: Tile, precision: str) -> Tile:
    """See :func:`tilus.lang.builtins.reduction.einsum`."""
    left, right, out = _letters(spec, a, b)
    a, b = of_one_type(a, b, "tl.einsum")
    a, left = _sums_of_one(a, left, right + out)
    b, right = _sums_of_one(b, right, left + out)
    if out and out[-1] in left and out[-1] not in right:  # columns are what is contiguous in the result
        a, b, left, right = b, a, right, left
    extents = {**dict(zip(left, a.shape, strict=True)), **dict(zip(right, b.shape, strict=True))}
    shared = [c for c in left if c in right and c in out]
    summed = [c for c in left if c in right and c not in out]
    rows, columns = ([c for c in out if c in own and c not in other] for own, other in ((left, right), (right, left)))
    k = max(summed, key=lambda c: (isinstance(extents[c], str), extents[c] if isinstance(extents[c], int) else 0),
            default="")
    batch = [*shared, *rows[:-1], *columns[:-1]]
    inner = [c for c in summed if c != k]
    x = _arranged(a, left, [*batch, *inner, *(rows[-1:] or [""]), k])
    y = _arranged(b, right, [*batch, *inner, k, *(columns[-1:] or [""])])
    shape = broadcast_shapes(x.shape[:-2], y.shape[:-2])
    x, y = broadcast_to(x, (*shape, *x.shape[-2:])), broadcast_to(y, (*shape, *y.shape[-2:]))
    result = emit(Contract(x.value, y.value, precision, len(inner), span=current().span))
    found = [*batch, *rows[-1:], *columns[-1:]]
    kept = result.shape[: len(batch)] + (result.shape[-2:-1] if rows else ()) + (result.shape[-1:] if columns else ())
    return result.reshape(kept).transpose([found.index(c) for c in out]) if found else result.reshape(())


def of_one_type(a: Tile, b: Tile, what: str) -> tuple[Tile, Tile]:
    kind = promote(a.dtype, b.dtype)
    if kind is None:
        raise fail("E0201", f"{what} of {a.dtype} and {b.dtype}: the types do not meet",
                   help="convert one operand with `.to(dtype)`")
    return (a, b) if a.dtype.is_int and b.dtype.is_int else (a.to(kind), b.to(kind))


def _letters(spec: Any, a: Tile, b: Tile) -> tuple[str, str, str]:
    """The indices of the operands and of the result."""
    text = spec.replace(" ", "") if isinstance(spec, str) else ""
    match = re.fullmatch(r"([a-zA-Z]*),([a-zA-Z]*)->([a-zA-Z]*)", text)
    if match is None:
        raise fail("E0107", f"tl.einsum takes indices like 'mk,kn->mn', not {spec!r}")
    left, right, out = match.groups()
    for letters, shape in ((left, a.shape), (right, b.shape)):
        if len(letters) != len(shape):
            raise fail("E0202", f"the indices {letters!r} are of an array of rank {len(letters)}, not of one of shape "
                                f"{shape}")
    if any(len(set(letters)) != len(letters) for letters in (left, right, out)) or not set(out) <= {*left, *right}:
        raise fail("E0107", f"tl.einsum {spec!r}: an index is there twice in one array, or in the result only",
                   help="each index of the result is one of the operands'")
    return left, right, out


def _sums_of_one(x: Tile, letters: str, others: str) -> tuple[Tile, str]:
    """The sum over the indices that nothing else has."""
    for letter in [c for c in letters if c not in others]:
        x = x.sum(letters.index(letter))
        letters = letters.replace(letter, "")
    return x, letters


def _arranged(x: Tile, letters: str, order: Sequence[str]) -> Tile:
    """Dimensions in an order; what the array has not is of extent 1."""
    x = x.transpose([letters.index(c) for c in order if c in letters and c]) if letters else x
    extents = iter(x.shape)
    return x.reshape(tuple(next(extents) if c and c in letters else 1 for c in order))


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
