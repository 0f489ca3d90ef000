"""Numbers among the arguments of a call: run-time scalars and compile-time constants, as Python numbers that fit.

A run-time scalar becomes the number that its type holds, before any engine sees it: floats are rounded to nearest even,
beyond the range to infinity, as conversions in a kernel are; integers and bools have to fit.
"""

from __future__ import annotations

import math
import numbers
import operator
import struct
from types import UnionType
from typing import Any

from tilus.ir.dtypes import DType
from tilus.ir.literals import as_float

_FORMATS = {"f16": "e", "f32": "f", "f64": "d"}


def is_bool(value: Any) -> bool:
    return isinstance(value, bool) or (type(value).__module__ == "numpy" and type(value).__name__.startswith("bool"))


def is_real(value: Any) -> bool:
    """Whether it is a number of Python's or NumPy's that is neither complex nor a bool."""
    return isinstance(value, numbers.Real) and not is_bool(value)


def is_integer(value: Any) -> bool:
    """Whether a value counts as an integer: not a bool, and no array of one dimension or more."""
    return not is_bool(value) and hasattr(value, "__index__") and not has_dimensions(value)


def has_dimensions(value: Any) -> bool:
    """Whether it is an array of one dimension or more."""
    return bool(getattr(value, "shape", None))


def what_is(value: Any) -> str:
    """What a value is, with its article, for messages."""
    import numpy as np

    if isinstance(value, np.ndarray):
        return f"a NumPy array of {value.dtype}"
    if isinstance(value, np.generic):
        return f"a NumPy {type(value).__name__}"
    if value is None:
        return "None"
    if isinstance(value, DType):
        return f"the element type {value}"
    module = type(value).__module__.partition(".")[0]
    if module == "torch" and hasattr(value, "dtype"):
        return f"a torch {type(value).__name__} of {str(value.dtype).removeprefix('torch.')}"
    return f"a Python {type(value).__name__}"


def convert_scalar(name: str, dtype: DType, value: Any) -> bool | int | float:
    """A run-time scalar as the Python number that ``dtype`` holds. Numbers of Python's and NumPy's, arrays and tensors
    without dimensions are taken. Raises TypeError with the reason where one does not fit."""
    kind = type(value)
    if kind is float and dtype.is_float:
        return round_float(value, dtype)
    number = value if kind is int or kind is bool else _element(name, value)
    if dtype.is_bool:
        if is_bool(number):
            return bool(number)
    elif dtype.is_int:
        if is_integer(number):
            whole = operator.index(number)
            if not dtype.min_value <= whole <= dtype.max_value:
                raise TypeError(f"{name!r} is {_short(whole)}, which does not fit {dtype} "
                                f"({dtype.min_value} to {dtype.max_value})")
            return whole
    elif is_integer(number):
        return round_float(as_float(operator.index(number), dtype), dtype)
    elif is_float(number):
        return round_float(float(number), dtype)
    raise TypeError(f"{name!r} is {what_is(value)}, but the parameter is {dtype}")


def is_float(value: Any) -> bool:
    """Whether it says of itself that it is a real number: no text, no date, no complex number, no container."""
    if isinstance(value, numbers.Complex):
        return isinstance(value, numbers.Real) and not is_bool(value)
    dtype = getattr(value, "dtype", None)
    if dtype is not None and getattr(dtype, "kind", "V") not in "fV":
        return False  # ml_dtypes are of kind V
    return hasattr(value, "__float__") and not has_dimensions(value) and not is_bool(value)


def _element(name: str, value: Any) -> Any:
    """The element of an array or tensor without dimensions; other values as they are."""
    if getattr(value, "shape", None) != () or not hasattr(value, "item"):
        return value
    try:
        return value.item()
    except Exception as error:  # a tensor without data says so in its own way
        reason = str(error).partition("\n")[0]
        raise TypeError(f"{name!r} is {what_is(value)} whose value cannot be read: {reason}") from None


def _short(number: int) -> str:
    return str(number) if abs(number) < 10**40 else f"an integer of {number.bit_length()} bits"


def round_float(number: float, dtype: DType) -> float:
    """A double rounded to a float type with infinities, to nearest even; beyond the range: infinity."""
    if dtype.mantissa == 52 or not math.isfinite(number) or number == 0.0:
        return number
    _, exponent = math.frexp(number)
    last = max(exponent - 1, 1 - dtype.bias) - dtype.mantissa  # of the last place
    rounded = math.ldexp(round(math.ldexp(number, -last)), last)
    if abs(rounded) >= 2.0 ** (dtype.bias + 1):
        return math.copysign(math.inf, number)
    return math.copysign(rounded, number)


def scalar_bits(value: bool | int | float, dtype: DType) -> int:
    """The bits of what :func:`convert_scalar` gave, as an unsigned number (of integers: as it is)."""
    if dtype.name == "bf16":
        return int.from_bytes(struct.pack("<f", value), "little") >> 16
    if dtype.is_float:
        return int.from_bytes(struct.pack("<" + _FORMATS[dtype.name], value), "little")
    return int(value)


def convert_constant(name: str, annotation: Any, value: Any) -> Any:
    """A compile-time argument, of the annotated Python type. Raises TypeError with the reason where it does not fit."""
    if annotation is int and is_integer(value):
        return operator.index(value)
    if annotation is float and is_real(value):
        return float(value)
    if annotation is bool and is_bool(value):
        return bool(value)
    if annotation in (int, float, bool) or (
        isinstance(annotation, (type, UnionType)) and not isinstance(value, annotation)
    ):
        wanted = getattr(annotation, "__name__", str(annotation))
        raise TypeError(f"{name!r} is {what_is(value)}, but the parameter is a compile-time {wanted}")
    return value
