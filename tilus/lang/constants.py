"""When two compile-time values are one: under which key they are kept."""

from __future__ import annotations

import dataclasses
import enum
import numbers
import struct
from typing import Any

from tilus.ir.dtypes import DType

_PLAIN = (bool, int, str, bytes, type(None))


def constant_key(value: Any) -> Any:
    """A key that is equal for values that no program can tell apart: 1, 1.0 and True have three, 0.0 and -0.0 two,
    NaNs of the same bits one, alone and inside of tuples, frozen sets and data classes.

    Raises TypeError where the value has no hash.
    """
    kind = type(value)
    if kind in _PLAIN or kind is DType:
        return kind, value
    if isinstance(value, float):
        return kind, struct.pack("<d", value)
    if isinstance(value, complex):
        return kind, struct.pack("<dd", value.real, value.imag)
    if isinstance(value, (tuple, list)):
        return kind, tuple(map(constant_key, value))
    if isinstance(value, frozenset):
        return kind, frozenset(map(constant_key, value))
    if isinstance(value, enum.Enum):
        return kind, value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hash(value)
        if kind.__dataclass_params__.eq:
            return kind, value, tuple(constant_key(getattr(value, f.name)) for f in dataclasses.fields(value))
    if isinstance(value, numbers.Number):
        return kind, value, repr(value)  # Decimal("1.0") and Decimal("1.00")
    return kind, value
