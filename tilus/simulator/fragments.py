"""Fragments of mma.sync: which lane and register hold which element, by the figures of the PTX ISA.

``g`` is lane // 4 and ``t`` is lane % 4. With ``e`` elements in a 32-bit register,

- A (m x k): register r holds row ``g + 8 (r % 2)`` (m = 16) and columns ``4 e (r // 2) + e t + j``;
- B (k x n): register r holds rows ``4 e r + e t + j`` of column ``g``;
- C (m x n): element i lies at row ``g + 8 (i // 2)`` and column ``2 t + i % 2``.
"""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tilus.simulator.numbers import TABLES, bf16_to_f32, tf32_truncate

Array = npt.NDArray[Any]


def elements(words: Array, kind: str) -> Array:
    """Register words (..., n) as float32 (float64 for f64) elements (..., n, e)."""
    words = np.ascontiguousarray(words)
    shape = words.shape
    if kind == "f64":
        return words.view(np.float64).reshape(*shape, 1)
    if kind == "f32":
        return words.view(np.float32).reshape(*shape, 1)
    if kind == "tf32":
        return tf32_truncate(words).reshape(*shape, 1)
    if kind == "f16":
        return words.view(np.float16).astype(np.float32).reshape(*shape, 2)
    if kind == "bf16":
        return bf16_to_f32(words.view(np.uint16)).reshape(*shape, 2)
    if kind in ("s8", "u8"):
        return words.view(np.int8 if kind == "s8" else np.uint8).astype(np.float32).reshape(*shape, 4)
    if kind in ("s4", "u4"):
        return _nibbles(words, kind).reshape(*shape, 8)
    if kind == "b1":
        return np.unpackbits(words.view(np.uint8), bitorder="little").astype(np.float32).reshape(*shape, 32)
    if kind == "e2m1p":
        nibble = (words.view(np.uint8) >> 2) & 15
        return TABLES["e2m1"][nibble].reshape(*shape, 4)
    if kind == "e2m1":
        codes = words.view(np.uint8)
        both = np.stack([codes & 15, codes >> 4], axis=-1)
        return TABLES["e2m1"][both].reshape(*shape, 8)
    table = TABLES[kind]
    return table[words.view(np.uint8) & (len(table) - 1)].reshape(*shape, 4)


def _nibbles(words: Array, kind: str) -> Array:
    codes = words.view(np.uint8)
    both = np.stack([codes & 15, codes >> 4], axis=-1).astype(np.int8)
    if kind == "s4":
        both = np.where(both > 7, both - 16, both)
    return both.astype(np.float32)


def _placed(rows: Sequence[Array], high: int) -> Array:
    """Register words as (warps, high, 8, registers / high * 4): register r belongs to the rows ``g + 8 (r % high)``."""
    # The words of a quad lie next to each other on both sides: they are moved as one.
    quad = np.dtype(f"V{4 * rows[0].itemsize}")
    words = np.empty((rows[0].size // 32, high, 8, len(rows) // high), quad)
    for i, row in enumerate(rows):
        words[:, i % high, :, i // high] = np.ascontiguousarray(row).view(quad).reshape(-1, 8)
    return words.view(rows[0].dtype)


def matrix_a(rows: Sequence[Array], kind: str, m: int) -> Array:
    """A from register words, one row of (warps * 32) for each register: result (warps, m, k)."""
    words = _placed(rows, m // 8)
    return elements(words, kind).reshape(len(words), m, -1)


def matrix_b(rows: Sequence[Array], kind: str) -> Array:
    """B from register words, one row of (warps * 32) for each register: result (warps, k, 8)."""
    return np.ascontiguousarray(matrix_a(rows, kind, 8).swapaxes(1, 2))


def scatter_c(matrix: Array) -> Array:
    """The elements (count, warps * 32) of a matrix C (warps, m, 8)."""
    warps, rows, _ = matrix.shape
    shaped = matrix.reshape(warps, rows // 8, 8, 4, 2)
    return np.ascontiguousarray(shaped.transpose(1, 4, 0, 2, 3)).reshape(rows // 4, warps * 32)


class Volta:
    """m8n8k4: four products of quad pairs, lanes 4q..4q+3 with 16+4q..16+4q+3."""

    lane = np.arange(32)
    quad = lane % 16 // 4
    local = lane % 4
    upper = (lane >= 16) * 4

    @classmethod
    def a(cls, layout: str) -> tuple[Array, Array, Array]:
        """(quad, row, column) of each (lane, element)."""
        i = np.arange(4)
        along = (cls.local + cls.upper)[:, None] + 0 * i
        if layout == "row":
            return cls.quad[:, None] + 0 * i, along, i + 0 * along
        return cls.quad[:, None] + 0 * i, cls.upper[:, None] + i, cls.local[:, None] + 0 * i

    @classmethod
    def b(cls, layout: str) -> tuple[Array, Array, Array]:
        q, first, second = cls.a("row" if layout == "col" else "col")
        return q, second, first

    @classmethod
    def c(cls, kind: str) -> tuple[Array, Array, Array]:
        i = np.arange(8)
        if kind == "f16":
            row = (cls.local + cls.upper)[:, None] + 0 * i
            return cls.quad[:, None] + 0 * i, row, i + 0 * row
        row = (cls.lane & 1)[:, None] + (i & 2) + cls.upper[:, None]
        column = (i & 4) + (cls.lane & 2)[:, None] + (i & 1)
        return cls.quad[:, None] + 0 * i, row, column
