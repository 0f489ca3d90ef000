"""Values of registers: 32-bit words (or truths, of predicates) of all lanes, and which of them are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Known = bool | Array
"""True and False for all lanes alike, else an array of truths."""
Value = tuple[Array, Known]

U32, U64, I32, I64 = np.uint32, np.uint64, np.int32, np.int64


def word(value: int) -> Array:
    """A 32-bit constant."""
    return np.full((1, 1, 1), value & 0xFFFF_FFFF, U32)


def double(value: int) -> Array:
    """A 64-bit constant."""
    return np.full((1, 1, 1), value & 0xFFFF_FFFF_FFFF_FFFF, U64)


def truth(value: bool) -> Array:
    """A constant predicate."""
    return np.full((1, 1, 1), value)


ZERO, TRUE, FALSE = word(0), truth(True), truth(False)
UNKNOWN: Value = (ZERO, False)
UNKNOWN_TRUTH: Value = (FALSE, False)


def both(a: Known, b: Known) -> Known:
    """What is known where both are."""
    if a is True:
        return b
    if b is True:
        return a
    if a is False or b is False:
        return False
    return settled(np.logical_and(a, b))


def settled(known: Array) -> Known:
    """True or False where it is so for all lanes."""
    if known.all():
        return True
    return known if known.any() else False


def as_array(known: Known) -> Array:
    if isinstance(known, bool):
        return TRUE if known else FALSE
    return known


def known_for(known: Known, lanes: Array) -> bool:
    """Whether something is known for all of some lanes."""
    return known is True or (known is not False and not (lanes & ~known).any())


def merge(keep: Array, new: Value, old: Value) -> Value:
    """``new`` in the lanes ``keep``, ``old`` in the others."""
    known: Known
    if new[1] is old[1] and isinstance(new[1], bool):
        if new[1] is False:
            return old
        known = new[1]
    else:
        known = settled(np.where(keep, as_array(new[1]), as_array(old[1])))
        if known is False:
            return (old[0][:1, :1, :1], False)
    return np.where(keep, new[0], old[0]), known


def join(low: Array, high: Array) -> Array:
    """64 bits of two words."""
    joined: Array = low.astype(U64) | high.astype(U64) << U64(32)
    return joined


def any_lane(lanes: Array) -> Array:
    """For each warp whether any lane is, over (blocks, warps, 1)."""
    found: Array = np.asarray(lanes.any(axis=2, keepdims=True))
    return found


def low_word(value: Array) -> Array:
    return value.astype(U32)


def high_word(value: Array) -> Array:
    result: Array = (value >> U64(32)).astype(U32)
    return result


def signed(value: Array) -> Array:
    """The same bits as signed integers, of 32 or 64 bits."""
    return value.view(I32 if value.dtype == U32 else I64)


def extend(value: Array) -> Array:
    """A signed word as 64 bits."""
    return value.view(I32).astype(I64).view(U64)


__all__ = ["FALSE", "I32", "TRUE", "U32", "U64", "UNKNOWN", "UNKNOWN_TRUTH", "ZERO", "Array", "Known", "Value",
           "any_lane", "as_array", "both", "double", "extend", "high_word", "join", "known_for", "low_word", "merge",
           "settled", "signed", "truth", "word"]
