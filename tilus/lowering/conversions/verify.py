"""Whether a program converts exactly: all codes in all places, compared with the numbers of the type's description."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from tilus.ir.dtypes import DType, bf16, f16, f32
from tilus.lowering.conversions.numbers import numbers_of
from tilus.lowering.conversions.program import Program

Array = np.ndarray[Any, Any]
_NUMPY = {f16: np.float16, bf16: ml_dtypes.bfloat16, f32: np.float32}
_ROUNDS = 3


def patterns(count: int, bits: int) -> Array:
    """Rows of codes of a group: every code in every place, several times, among others at random."""
    rng = np.random.default_rng(bits)
    codes = np.arange(1 << bits, dtype=np.uint32)
    rows = [rng.permuted(np.tile(codes, (count, 1)), axis=1).T for _ in range(_ROUNDS + (1 << 8 - bits))]
    return np.concatenate(rows)


def packed(codes: Array, bits: int) -> Array:
    """The words of rows of codes: element i at bits [i b, (i + 1) b), the first in the lowest."""
    single = (codes[:, :, None] >> np.arange(bits, dtype=np.uint32) & 1).astype(np.uint8)
    flat = single.reshape(len(codes), -1)
    flat = np.pad(flat, ((0, 0), (0, -flat.shape[1] % 32)))
    return np.ascontiguousarray(np.packbits(flat, axis=1, bitorder="little")).view("<u4")


def converted(source: DType, target: DType) -> Array:
    """The bits of a target for each code, rounded to nearest even, all NaNs alike."""
    numbers = np.array(numbers_of(source))
    if not target.is_float:
        return numbers.astype(np.int64).astype(np.uint8)
    with np.errstate(all="ignore"):
        return canonical(numbers.astype(_NUMPY[target]).view(f"u{target.bits // 8}"), target)


def canonical(bits: Array, target: DType) -> Array:
    """Bits of a target with one code for all NaNs."""
    if not target.is_float:
        return bits
    with np.errstate(all="ignore"):
        nan = np.isnan(bits.view(_NUMPY[target]).astype(np.float64))
    return np.where(nan, (1 << target.bits) - 1, bits).astype(bits.dtype)


def is_exact(p: Program, source: DType, target: DType) -> bool:
    """Whether a program gives the number of every code in every place."""
    codes = patterns(p.elements, source.bits)
    registers = np.ascontiguousarray(p.evaluate(packed(codes, source.bits)))
    found = registers.view(f"u{target.bits // 8}")
    wanted = converted(source, target)[codes[:, list(p.order)]]
    return bool(np.array_equal(canonical(found, target), wanted))
