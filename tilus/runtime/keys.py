"""What calls of a kernel are told apart by, so that one plan is for all that are alike."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tilus.lang.constants import constant_key
from tilus.runtime.packed_array import OwnArray

_PLAIN = frozenset((bool, int, str, type(None)))
"""Types of compile-time values whose equality says all."""
ArrayKey = Callable[[Any], tuple[int, tuple[Any, ...]] | None]
_array_keys: dict[type, ArrayKey] = {}


def register_arrays(kind: type, key: ArrayKey) -> None:
    """``key`` gives the address of an array of this class, exactly, and what else calls depend on; None for arrays that
    have more to them."""
    _array_keys[kind] = key


def key_of(kind: type) -> ArrayKey | None:
    """The function that was registered for a class; None where there is none."""
    return _known_arrays().get(kind)


def array_key(value: Any) -> tuple[int, tuple[Any, ...]] | None:
    """The address of an array of a registered class, and what else calls depend on; None for everything else."""
    key = key_of(type(value))
    return None if key is None else key(value)


def call_key(chosen: str | None, values: Sequence[Any],
             constants: Sequence[bool]) -> tuple[tuple[Any, ...], list[int]] | None:
    """The key of a call on an engine with values of all parameters, of which those are compile-time, and the addresses
    of the arrays among them; None for calls that cannot be told apart."""
    key: list[Any] = [chosen]
    addresses: list[int] = []
    array_keys = _known_arrays()
    for value, constant in zip(values, constants, strict=True):
        kind = type(value)
        known = array_keys.get(kind)
        if constant:
            try:
                key += (kind, value) if kind in _PLAIN else (kind, constant_key(value))
                hash(key[-1])
            except TypeError:
                return None
        elif known is not None:
            found = known(value)
            if found is None:
                return None
            addresses.append(found[0])
            key.append(kind)
            key += found[1]
        elif isinstance(value, OwnArray):
            addresses.append(value.argument.address)
            key += value.key
        else:
            key.append(kind)
    return tuple(key), addresses


@functools.cache
def _known_arrays() -> dict[type, ArrayKey]:
    """With NumPy's, which are there from the first call on."""
    import numpy as np

    address = _address_of()

    def numpy_key(array: Any) -> tuple[int, tuple[Any, ...]]:
        at = address(array)
        return at, (array.dtype, array.shape, array.strides, at & 15)

    register_arrays(np.ndarray, numpy_key)
    return _array_keys


def _address_of() -> Callable[[Any], int]:
    """The quickest way to the address of an array's first element that works here.

    ``array.ctypes.data`` takes 1.5 µs, a good part of a warm call. In CPython the pointer is the first word of the
    array object after its header; that is tried on arrays whose address is known.
    """
    import ctypes

    import numpy as np

    header, word_at = object.__basicsize__, ctypes.c_ssize_t.from_address
    probes: list[Any] = [np.zeros(3, np.int8), np.zeros((2, 5))[1:]]
    if sys.implementation.name == "cpython" and all(word_at(id(p) + header).value == p.ctypes.data for p in probes):
        return lambda array: word_at(id(array) + header).value
    return lambda array: int(array.ctypes.data)


__all__ = ["ArrayKey", "array_key", "call_key", "key_of", "register_arrays"]
