"""Which library's array a value is: NumPy's, torch's, or one that follows a protocol.

What cannot be read where it lies is refused: nothing is copied, since a kernel may write it.
"""

from __future__ import annotations

import sys
from typing import Any

from tilus.runtime.array_interfaces import from_cuda, from_ndarray
from tilus.runtime.arrays import ArrayArgument


def as_array(value: Any) -> ArrayArgument | None:
    """What ``value`` says of itself as an array; None where it is none. Raises Refused where it is one that kernels do
    not take, and TypeError for element types that there are not."""
    import numpy as np

    if isinstance(value, np.ndarray):
        return from_ndarray(value, value)
    if isinstance(value, np.generic):  # a number: an array of rank 0 that nobody can write
        number = np.asarray(value)
        number.flags.writeable = False
        return from_ndarray(value, number)
    argument = _attribute(value, "argument")
    if isinstance(argument, ArrayArgument):  # an array of ours, packed or prepacked
        return argument
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, getattr(torch, "Tensor", ())):
        from tilus.runtime.torch_arrays import from_torch

        return from_torch(torch, value)
    interface = _attribute(value, "__cuda_array_interface__")
    if interface is not None:
        return from_cuda(value, interface)
    if isinstance(_attribute(value, "__array_interface__"), dict):
        return from_ndarray(value, np.asarray(value))
    if _attribute(value, "__dlpack__") is not None:
        from tilus.runtime.dlpack import from_dlpack

        return from_dlpack(value)
    return None


def _attribute(value: Any, name: str) -> Any:
    """An attribute of an object, not of a class; None where it is missing or fails."""
    if isinstance(value, type):
        return None
    try:
        return getattr(value, name, None)
    except Exception:  # a library that says in its own way that it has none
        return None
