"""Sums of products of arrays that indices name: NumPy's einsum."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tilus.ir.ops.array import Contract
from tilus.lang.array_operations import of_one_type
from tilus.lang.context import current
from tilus.lang.values import Tile, broadcast_shapes, broadcast_to, emit, fail


def einsum(spec: str, operands: Sequence[Tile], precision: str) -> Tile:
    """See :func:`tilus.lang.builtins.reduction.einsum`."""
    *letters, out = _letters(spec, operands)
    (x, *others), (found, *left) = operands, letters
    while others:
        kept = "".join(dict.fromkeys(c for c in found + left[0] if c in "".join([out, *left[1:]])))
        to = kept if others[1:] else out
        x = _of_two(x, found, others[0], left[0], to, precision)
        found, others, left = to, others[1:], left[1:]
    x, found = _sums_of_one(x, found, out)
    return x if found == out else x.transpose([found.index(c) for c in out])


def _letters(spec: Any, operands: Sequence[Tile]) -> list[str]:
    """The indices of each operand, and of the result: without ``->`` those that are there once, in their order."""
    text = spec.replace(" ", "") if isinstance(spec, str) else ""
    match = re.fullmatch(r"([a-zA-Z]*(?:,[a-zA-Z]*)*)(?:->([a-zA-Z]*))?", text)
    if match is None:
        raise fail("E0107", f"tl.einsum takes indices like 'mk,kn->mn', not {spec!r}")
    each, out = match[1].split(","), match[2]
    if len(each) != len(operands):
        raise fail("E0107", f"tl.einsum {spec!r} is of {len(each)} arrays, not of {len(operands)}")
    for letters, operand in zip(each, operands, strict=True):
        if len(letters) != len(operand.shape):
            raise fail("E0202", f"the indices {letters!r} are of an array of rank {len(letters)}, not of one of shape "
                                f"{operand.shape}")
    every = "".join(each)
    if out is None:
        out = "".join(sorted(c for c in every if every.count(c) == 1))
    if any(len(set(letters)) != len(letters) for letters in (*each, out)) or not set(out) <= set(every):
        raise fail("E0107", f"tl.einsum {spec!r}: an index is there twice in one array, or in the result only",
                   help="each index of the result is one of the operands'")
    return [*each, out]


def _of_two(a: Tile, left: str, b: Tile, right: str, out: str, precision: str) -> Tile:
    """The sum of products over the indices that ``out`` has not."""
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
