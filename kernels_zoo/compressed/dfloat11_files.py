"""Files of weights in DFloat11, which are arrays in a file of ``tl.save_weights``, with a checksum of each tensor's.

Tables follow from the lengths of the codes, so that files have none. What is read is checked before it is decoded.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import tilus as tl
from kernels_zoo.checking import Array
from kernels_zoo.compressed.dfloat11_format import GAP, Encoded, code_of

PARTS = {"rest": np.uint8, "words": np.uint64, "gaps": np.uint8, "word_starts": np.int64, "positions": np.int64,
         "lengths": np.uint8, "shape": np.int64, "tile": np.int64, "checksum": np.uint32}
"""The arrays of a tensor. ``tile`` is empty where blocks are 512 words, ``gaps`` are the bytes of u5."""
MARK = ".dfloat11."


def save(path: str | Path, weights: Mapping[str, Encoded]) -> None:
    """Write a .safetensors or .npz file.

    Raises:
        OSError, ValueError: as ``tl.save_weights``.
    """
    arrays: dict[str, Any] = {}
    for name, e in weights.items():
        parts = {"rest": e.rest, "words": e.words, "gaps": e.gaps.base.view(np.uint8), "word_starts": e.word_starts,
                 "positions": e.positions, "lengths": e.code.lengths, "shape": np.array(e.shape, np.int64),
                 "tile": np.array(e.tile or (), np.int64)}
        parts["checksum"] = np.array([checksum(parts)], np.uint32)
        arrays |= {f"{name}{MARK}{part}": array for part, array in parts.items()}
    tl.save_weights(path, arrays)


def load(path: str | Path) -> dict[str, Encoded]:
    """The tensors of such a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is another file, or damaged.
    """
    arrays = tl.load_weights(path)
    strange = [name for name in arrays if MARK not in name]
    if strange or not arrays:
        raise ValueError(f"{str(path)!r}: {strange[0]!r} is not in DFloat11" if strange else f"{str(path)!r} is empty")
    found = {}
    for name in dict.fromkeys(name.rpartition(MARK)[0] for name in arrays):
        parts = {key.rpartition(MARK)[2]: array for key, array in arrays.items() if key.rpartition(MARK)[0] == name}
        try:
            found[name] = assembled(parts)
        except ValueError as error:
            raise ValueError(f"{str(path)!r}: {name!r}: {error}") from None
    return found


def assembled(parts: Mapping[str, Any]) -> Encoded:
    """A tensor from its arrays. Raises ValueError."""
    for part, dtype in PARTS.items():
        if part not in parts:
            raise ValueError(f"there is no {part}")
        array = parts[part]
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1:
            raise ValueError(f"its {part} is no array of {np.dtype(dtype)} of rank 1")
    if parts["checksum"].tolist() != [checksum(parts)]:
        raise ValueError("its checksum is another one: the file is damaged")
    shape, tile = tuple(parts["shape"].tolist()), tuple(parts["tile"].tolist())
    if min(shape, default=0) < 0 or (tile and (len(tile) != 2 or len(shape) != 2 or min(tile) < 1)):
        raise ValueError(f"shape {shape} and tile {tile} are none")
    count = math.prod(shape)
    if tile:
        count = math.prod(-(-n // size) * size for n, size in zip(shape, tile, strict=True))
    rest, words, starts, positions = (parts[part] for part in ("rest", "words", "word_starts", "positions"))
    for name, array, last in (("word_starts", starts, len(words) - 1), ("positions", positions, count)):
        if not len(array) or array[0] != 0 or array[-1] != last or (np.diff(array) < 0).any():
            raise ValueError(f"its {name} do not go from 0 to {last}")
    if len(rest) != count or len(starts) != len(positions) or len(parts["gaps"]) != -(-5 * (len(words) - 1) // 8):
        raise ValueError("its arrays do not fit each other")
    gaps = tl.packed(np.array(parts["gaps"]), GAP, (len(words) - 1,))
    return Encoded(np.array(rest), np.array(words), gaps, np.array(starts), np.array(positions),
                   code_of(np.array(parts["lengths"])), shape, tile or None)


def checksum(parts: Mapping[str, Array]) -> int:
    """CRC-32 of a tensor's arrays, but the checksum itself."""
    found = 0
    for part in PARTS:
        if part != "checksum":
            found = zlib.crc32(np.ascontiguousarray(parts[part]).tobytes(), found)
    return found


__all__ = ["load", "save"]
