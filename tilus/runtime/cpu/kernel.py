"""Compilation of a module for the host, and the call of what comes out.

A kernel is called with packed arguments: for each array its address, its extents and its strides in elements, for
each scalar its bits, in words of 64 bits and in the order of the parameters.
"""

from __future__ import annotations

import ctypes
import itertools
import pickle
import struct
from collections.abc import Sequence
from typing import Any

from tilus.codegen.llvm.host import emit_functions
from tilus.diagnostics import CheckError, Span
from tilus.ir.core import Module, Parameter
from tilus.ir.dtypes import DType, parse_dtype
from tilus.ir.types import ViewType
from tilus.lowering.cpu import lower_module
from tilus.runtime.cpu.llvm import LoadedObject, compile_object, function, host_description, machine
from tilus.runtime.cpu.pool import current_pool

_numbers = itertools.count(1)
_FORMATS = {"f16": "e", "f32": "f", "f64": "d"}


def compile_module(module: Module) -> CpuKernel:
    """Compile a simplified tile module for this machine. Raises UnsupportedError where the engine lacks something."""
    assert module.launch is not None
    program = lower_module(module, machine())
    code = compile_object(emit_functions(program.functions))
    slots: list[tuple[str, int, str]] = []
    for parameter, value in zip(module.launch.parameters, module.launch.body.args, strict=True):
        if isinstance(value.type, ViewType):
            slots.append(("array", value.type.rank, value.type.dtype.name))
        else:
            slots.append(("scalar", 0, value.tile.dtype.name))
    return CpuKernel(code, slots, list(module.launch.parameters), program.checks, program.prints)


class CpuKernel:
    """A compiled module.

    Attributes:
        parameters: what the code assumes of its arguments, in order.
        code: the object file.
    """

    def __init__(self, code: bytes, slots: Sequence[tuple[str, int, str]], parameters: Sequence[Parameter],
                 checks: Sequence[tuple[str, Span]], prints: Sequence[dict[str, Any]]) -> None:
        self.code = code
        self.slots = tuple(slots)
        self.parameters = tuple(parameters)
        self.checks = tuple(checks)
        self.prints = tuple(prints)
        self.number = next(_numbers)
        self._object = LoadedObject(code)
        self._launch = function(self._object.address("launch"), ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
        self.words = sum(1 + 2 * rank if kind == "array" else 1 for kind, rank, _ in self.slots)

    def __call__(self, *arguments: Any) -> None:
        """Run on one argument for each parameter: ``(address, extents, strides)`` for an array (strides in elements),
        a number for a scalar. Raises CheckError where a device assertion fails."""
        self.launch(self.pack(arguments))

    def pack(self, arguments: Sequence[Any]) -> Any:
        """The packed arguments, as a ctypes array."""
        packed = (ctypes.c_int64 * max(1, self.words))()
        at = 0
        for (kind, rank, dtype), argument in zip(self.slots, arguments, strict=True):
            if kind == "array":
                address, extents, strides = argument
                packed[at : at + 1 + 2 * rank] = [address, *extents, *strides]
                at += 1 + 2 * rank
            else:
                packed[at] = scalar_bits(argument, parse_dtype(dtype))
                at += 1
        return packed

    def launch(self, packed: Any) -> None:
        """Run on packed arguments (a ctypes array that the caller keeps alive)."""
        self.check(self._launch(ctypes.addressof(packed), current_pool().table))

    def check(self, status: int) -> None:
        """Raise CheckError for the status that a launch gave, unless it is 0."""
        if status:
            message, span = self.checks[status - 1]
            raise CheckError.at("E0704", message or "device assertion failed", span)

    def serialize(self) -> bytes:
        """The kernel as bytes for :meth:`from_bytes`, in this process or another on the same kind of machine."""
        return pickle.dumps((host_description(), self.code, self.slots, self.parameters, self.checks, self.prints))

    @staticmethod
    def from_bytes(data: bytes) -> CpuKernel:
        """A kernel from :meth:`serialize`. Raises ValueError where it was compiled for another machine.

        The bytes are trusted: they come from the user's own cache."""
        description, code, slots, parameters, checks, prints = pickle.loads(data)
        if description != host_description():
            raise ValueError("the kernel was compiled for another processor")
        return CpuKernel(code, slots, parameters, checks, prints)


def scalar_bits(value: Any, dtype: DType) -> int:
    """A scalar's bits in a word of 64."""
    if dtype.name in _FORMATS:
        return int.from_bytes(struct.pack("<" + _FORMATS[dtype.name], value), "little")
    if dtype.name == "bf16":
        import numpy as np

        return int(np.asarray(value, dtype.numpy).view(np.uint16))
    return int(value)
