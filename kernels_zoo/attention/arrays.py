"""What the kernels of attention take: arrays of sequences, and functions and arrays of a user's variants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.checking import Array

NONE = (tl.f32["absent"] | None,) * 3
"""The types of the arrays of a variant that has none; it may have up to three."""
if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    QUERIES = Any
    KEYS = Any
    VALUES = Any
    OUTPUTS = Any
    ROWS = Any
    SUMS = Any
    SINKS = Any
    OFFSETS = Any
    LENGTH = Any
    COUNTS = Any
    TILES = Any
    SEED = Any
    TYPES = Any
    FUNCTION = Any
else:
    QUERIES = tl.f16["B", "Sq", "H", "D"] | tl.bf16["B", "Sq", "H", "D"] | tl.f32["B", "Sq", "H", "D"]
    KEYS = tl.f16["B", "Sk", "Hk", "D"] | tl.bf16["B", "Sk", "Hk", "D"] | tl.f32["B", "Sk", "Hk", "D"]
    VALUES = tl.f16["B", "Sk", "Hk", "E or D"] | tl.bf16["B", "Sk", "Hk", "E or D"] | tl.f32["B", "Sk", "Hk", "E or D"]
    OUTPUTS = tl.f16["B", "Sq", "H", "E or D"] | tl.bf16["B", "Sq", "H", "E or D"] | tl.f32["B", "Sq", "H", "E or D"]
    ROWS = tl.f32["B", "H", "Sq"]
    SUMS = tl.f32["B", "Sq", "H", "D"] | None
    SINKS = tl.f32["H"] | None
    OFFSETS = tl.i32["offsets"] | None
    LENGTH = tl.i32 | None
    COUNTS = tl.i32["batches", "heads", "tiles", "2"] | None
    TILES = tl.i32["batches", "heads", "tiles", "most"] | None
    SEED = tl.i64 | None
    TYPES = tuple
    FUNCTION = Callable | None


def sequence(x: Any, b: tl.Tile, h: tl.Tile, offsets: Any) -> Any:
    """Head ``h`` of sequence ``b`` of ``x`` (B, S, H, D): of arrays with ``offsets`` the rows between two of them, of
    which those of all sequences lie one after another in one batch."""
    if offsets is None:
        return x[b, :, h, :]
    return x[0, offsets[b] : offsets[b + 1], h, :]


def numbers(x: Any, b: tl.Tile, h: tl.Tile, offsets: Any) -> Any:
    """As :func:`sequence`, of an array (B, H, S)."""
    if offsets is None:
        return x[b, h, :]
    return x[0, h, offsets[b] : offsets[b + 1]]


def given(*arrays: tl.View | None) -> tuple[tl.View, ...]:
    """Those that are there."""
    return tuple(a for a in arrays if a is not None)


def variant_arrays(arrays: Sequence[Array]) -> dict[str, Any]:
    """The arguments of a kernel that gives a variant's functions these arrays."""
    if len(arrays) > len(NONE):
        raise ValueError(f"a variant takes {len(NONE)} arrays at most, not {len(arrays)}")
    kinds = [tl.from_numpy(a.dtype)[tuple(f"a{i}_{d}" for d in range(a.ndim))] for i, a in enumerate(arrays)]
    return {**{f"a{i}": a for i, a in enumerate(arrays)}, "types": (*kinds, *NONE[len(arrays) :])}


__all__ = ["COUNTS", "FUNCTION", "KEYS", "LENGTH", "NONE", "OFFSETS", "OUTPUTS", "QUERIES", "ROWS", "SEED", "SINKS",
           "SUMS", "TILES", "TYPES", "VALUES", "given", "numbers", "sequence", "variant_arrays"]
