"""What GPTQ knows of a layer's inputs: the second moments of what each row of the weights is multiplied by, and the
triangular factor by which an error in one row is made up for in those that follow."""

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tilus.quantization.groups import Array
from tilus.records import record
from tilus.runtime.packing import host_numbers

ROWS = 4096
"""Samples whose products are summed at a time, so that f16 samples need no f64 copy of all."""
LEAF = 128
"""Matrices of up to so many rows are factorised as they are, and triangles are multiplied in parts of so many."""


@record(frozen=True)
class Moments:
    """2 / N sum x xᵀ over N samples, and which inputs are 0 in all of them.

    Attributes:
        matrix: f64 (k, k), with 1 on the diagonal where an input is dead.
        dead: bool (k,).
    """

    matrix: Array
    dead: Array


def moments_of(samples: Any, k: int) -> Moments:
    """Of inputs (…, k) of a layer with k rows of weights, summed in f64.

    Raises:
        TypeError: the samples are no floats in host memory.
        ValueError: they have other extents, there is none, or one is not finite.
    """
    x, _ = host_numbers(samples)
    if x.dtype.kind != "f" and x.dtype.name not in ("bfloat16",):
        raise TypeError(f"calibration samples are floats, not {x.dtype}")
    if x.ndim < 2 or x.shape[-1] != k:
        raise ValueError(f"calibration samples of shape {x.shape} for weights of {k} rows: their last extent is {k}")
    rows = x.reshape(-1, k)
    if not len(rows):
        raise ValueError("there are no calibration samples")
    total = np.zeros((k, k))
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS].astype(np.float64)
        total += part.T @ part
    return checked(total * (2 / len(rows)))


def checked(matrix: Array) -> Moments:
    """Second moments as given or summed. Raises ValueError where they are none."""
    if not np.isfinite(matrix).all():
        raise ValueError("a calibration sample, or a second moment, is not finite")
    diagonal = np.diagonal(matrix)
    if diagonal.min() < 0:
        raise ValueError("a second moment of an input with itself is negative")
    dead = diagonal == 0
    full = matrix.astype(np.float64)
    full[dead, dead] = 1.0
    return Moments(full, dead)


def factor_of(moments: Array, damp: float) -> Array:
    """U, upper triangular, with H⁻¹ = Uᵀ U, of H = moments + damp mean(diagonal) I.

    Raises:
        ValueError: H is not positive definite.
    """
    factor = moments.copy()
    diagonal = np.einsum("ii->i", factor)
    diagonal += damp * float(np.mean(diagonal))
    try:
        _factorise(factor)
    except np.linalg.LinAlgError:
        raise ValueError(f"the second moments with damp={damp:g} are not positive definite: take more samples, or a "
                         f"greater damp (0.01 is usual)") from None
    return factor


def _factorise(h: Array) -> None:
    """Put U, upper triangular with h⁻¹ = Uᵀ U, in the place of h. Raises LinAlgError.

    By halves of R = U⁻¹, for which h = R Rᵀ: R22 is of h22, R12 = h12 U22ᵀ, R11 is of h11 - R12 R12ᵀ, and
    U12 = -U11 R12 U22.
    """
    k = len(h)
    if k <= LEAF:
        lower = np.linalg.cholesky(h[::-1, ::-1])  # J h J = L Lᵀ, and U = J L⁻¹ J
        h[...] = np.triu(np.linalg.inv(lower)[::-1, ::-1])
        return
    half = k // 2
    h11, h12, h22 = h[:half, :half], h[:half, half:], h[half:, half:]
    _factorise(h22)
    for first, last in spans(k - half, LEAF):  # row i of U22 begins at i
        h12[:, first:last] = h12[:, first:] @ h22[first:last, first:].T
    h11 -= h12 @ h12.T
    _factorise(h11)
    for first, last in spans(half, LEAF):
        h12[first:last] = h11[first:last, first:] @ h12[first:]
    for last, first in reversed([(last, first) for first, last in spans(k - half, LEAF)]):
        np.negative(h12[:, :last] @ h22[:last, first:last], out=h12[:, first:last])
    h[half:, :half] = 0


def spans(extent: int, step: int) -> Iterator[tuple[int, int]]:
    """From 0 to an extent in steps, of which the last may be short."""
    for first in range(0, extent, step):
        yield first, min(first + step, extent)


__all__ = ["Moments", "checked", "factor_of", "moments_of", "spans"]
