"""GPTQ's inner loop on the CPU engine: rows are quantised one after another, each less what the errors of the rows
before take from it."""

# f64["K", "N"] names dimensions; type checkers take the strings for forward references.
# mypy: disable-error-code="attr-defined, index, name-defined, union-attr, valid-type"
# ruff: noqa: F821, UP037

from __future__ import annotations

import functools
from typing import Any

from tilus.ir.dtypes import DType, f32, f64, i16, i32, integer, u8, u16
from tilus.lang.builtins.control import cdiv, grid
from tilus.lang.builtins.elementwise import bitcast, maximum, minimum
from tilus.lang.builtins.functions import round
from tilus.lang.builtins.memory import load, store
from tilus.runtime.jit import jit

COLUMNS = 64
"""Eight vectors of f64, which stay in registers, and whose errors of 128 rows stay in the caches."""


@jit
def quantize_rows(w: f64["K", "N"] | f32["K", "N"], factor: f64["R", "R"] | f32["R", "R"],
                  errors: f64["K", "N"] | f32["K", "N"], scales: f32["G", "N"], zeros: f32["G", "N"],
                  group_of: i32["K"], place: i32["K"], codes: u8["K", "N"] | u16["K", "N"],
                  first: i32, last: i32, dtype: DType, low: int = 0, high: int = 0, whole: bool = True,
                  BN: int = COLUMNS) -> None:
    """Rows ``first`` to ``last`` of w, of which nothing is taken off yet by the rows from ``first`` on.

    ``factor`` is Uᵀ of these rows, ``errors`` is written: (w - its number) / U_ii. Row i has the scales and zero points
    of group ``group_of[i]``, and its codes are row ``place[i]``. ``low`` and ``high`` are the limits of integers,
    ``whole`` says whether zero points are.
    """
    N = w.shape[1]
    j = grid(cdiv(N, BN)) * BN
    for i in range(first, last):
        x = load(w, (i, j), (1, BN))
        for p in range(first, i):
            x -= factor[i - first, p - first] * load(errors, (p, j), (1, BN))
        scale = load(scales, (group_of[i], j), (1, BN), other=1.0).to(w.dtype)
        if dtype.is_int:
            zero = load(zeros, (group_of[i], j), (1, BN)).to(w.dtype)
            number = round(x / scale) + zero if whole else round(x / scale + zero)
            number = minimum(maximum(number, float(low)), float(high))
            code = number.to(i16).to(codes.dtype)
            number -= zero
        else:
            narrow = (x / scale).to(f32).to(dtype)
            number = narrow.to(f32).to(w.dtype)
            code = bitcast(narrow, integer(dtype.bits, False)).to(codes.dtype)
        store(errors, (i, j), (x - number * scale) / factor[i - first, i - first])
        store(codes, (place[i], j), code)


@functools.cache
def rows_quantised() -> Any:
    """The kernel on the CPU engine."""
    return quantize_rows.on("cpu")


__all__ = ["rows_quantised"]
