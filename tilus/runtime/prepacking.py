"""The bytes of prepacked arrays on the host: tile by tile, thread by thread, and back."""

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from tilus.ir.prepacked import PrepackedFormat
from tilus.runtime.arrays import ArrayArgument
from tilus.runtime.packing import codes_in, pack_codes, unpack_codes

Array = npt.NDArray[Any]


def prepacked_bytes(array: ArrayArgument, format: PrepackedFormat) -> Array:
    """The elements of a row-major array of rank 2 or more in the order of a format: u8 of rank 1."""
    codes = codes_in(array)
    shape = array.shape
    rows, columns = format.grid(shape)
    k, n = format.tile
    matrices = codes.reshape(-1, *shape[-2:])
    result = np.empty((len(matrices), columns, rows, format.tile_bytes), np.uint8)
    places = _elements(format)
    filled = np.full((k, columns * n), format.flip, codes.dtype)
    for at, matrix in enumerate(matrices):
        for i in range(rows):
            part = matrix[i * k : (i + 1) * k]
            if part.shape != filled.shape:
                filled[...] = format.flip
                filled[: len(part), : shape[-1]] = part
                part = filled
            tiles = part.reshape(k, columns, n).transpose(1, 0, 2).reshape(columns, k * n)
            result[at, :, i] = _pieces(np.take(tiles, places, axis=1), format)
    return result.reshape(-1)


def row_major_bytes(memory: Array, format: PrepackedFormat, shape: tuple[int, ...]) -> Array:
    """The inverse: the bytes of the elements row by row."""
    rows, columns = format.grid(shape)
    k, n = format.tile
    width = format.dtype.packed_bits
    own = format.layout.num_locals * width // 8
    threads = format.tile_bytes // own
    places = np.argsort(_elements(format))
    parts = memory.reshape(-1, columns, rows, own // format.piece, threads, format.piece).transpose(0, 2, 1, 4, 3, 5)
    codes = np.empty((len(parts), rows * k, columns * n), _held(width))
    for at, matrix in enumerate(parts):
        for i, row in enumerate(matrix):
            there = unpack_codes(np.ascontiguousarray(row).reshape(-1), columns * k * n, width).reshape(columns, k * n)
            tiles = np.take(there, places, axis=1) ^ codes.dtype.type(format.flip)
            codes[at, i * k : (i + 1) * k] = tiles.reshape(columns, k, n).transpose(1, 0, 2).reshape(k, columns * n)
    wanted = np.ascontiguousarray(codes[:, : shape[-2], : shape[-1]]).reshape(math.prod(shape))
    return pack_codes(wanted, width)


def _held(width: int) -> npt.DTypeLike:
    """The type of codes."""
    return next(f"u{size}" for size in (1, 2, 4, 8) if width <= 8 * size)


def _pieces(codes: Array, format: PrepackedFormat) -> Array:
    """The bytes of tiles whose codes lie thread after thread: the pieces of all threads one after another."""
    tiles = len(codes)
    if format.flip:
        codes = codes ^ codes.dtype.type(format.flip)
    packed = pack_codes(codes.reshape(-1), format.dtype.packed_bits)
    own = format.layout.num_locals * format.dtype.packed_bits // 8
    split = packed.reshape(tiles, -1, own // format.piece, format.piece)
    return split.transpose(0, 2, 1, 3).reshape(tiles, -1)


@functools.lru_cache(64)
def _elements(format: PrepackedFormat) -> Array:
    """Which element of a tile, numbered row by row, is at each place of the threads' elements one after another."""
    layout = format.layout
    first = np.ones(layout.num_threads, bool)
    for divisor, size in layout.replica_terms:
        first &= np.arange(layout.num_threads) // divisor % size == 0
    table = layout.table()[first]
    elements = table[..., 0] * layout.shape[1] + table[..., 1]
    if format.order:
        order = np.array(format.order)
        group = len(order)
        locals_ = np.arange(layout.num_locals)
        placed = np.empty_like(elements)
        placed[:, locals_ // group * group + order[locals_ % group]] = elements
        elements = placed
    return elements.reshape(-1)


__all__ = ["prepacked_bytes", "row_major_bytes"]
