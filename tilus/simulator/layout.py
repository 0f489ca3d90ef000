"""Addresses: the windows of the generic address space, and where module variables stand."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tilus.diagnostics import Span, UserError
from tilus.simulator.syntax import Module, Name, Number, Variable

GLOBAL_BASE = 0x7000_0000_0000
SHARED_WINDOW = 0x7E00_0000_0000
LOCAL_WINDOW = 0x7D00_0000_0000
FUNCTION_BASE = 0x7C00_0000_0000
TEXTURE_BASE = 0x7B00_0000_0000
WINDOW_BYTES = 1 << 32
CLUSTER_SHIFT = 24
GUARD = 256
PARAM_BYTES = 32768
# Shared memory that the system keeps for cooperative groups, where a kernel asks for its place.
RESERVED_SHARED = 2048
MAX_STATIC = 1 << 30
# What the driver gives a cooperative launch, in the guard behind the parameters: its size and the grid's barrier.
WORKSPACE = GUARD + PARAM_BYTES + 64
WORKSPACE_BYTES = 64

Addresses: TypeAlias = npt.NDArray[Any]
_FORMATS = {"f16": "<f2", "f32": "<f4", "f64": "<f8"}


def whole_address(address: Addresses) -> Addresses:
    """Addresses of parameters and constants as generic ones: code may hold their low 32 bits alone."""
    base = np.array([GLOBAL_BASE], address.dtype)
    return np.where(address < 1 << 32, address + base, address)


@dataclass
class Placement:
    """Module variables in global memory: the arena begins with a guard, the parameters, then these."""

    param_base: int = GLOBAL_BASE + GUARD
    end: int = GUARD + PARAM_BYTES + GUARD
    addresses: dict[str, int] = field(default_factory=dict)
    variables: list[tuple[Variable, int]] = field(default_factory=list)
    functions: dict[str, int] = field(default_factory=dict)

    def add(self, variable: Variable, key: str, path: str) -> int:
        """Give a variable an address; a second call with the same key returns the first address."""
        if key in self.addresses:
            return self.addresses[key]
        if variable.extern:
            raise UserError.at("E1001", f"extern variable {variable.name!r} has no definition at line {variable.line}",
                               Span(path, variable.line))
        align = max(variable.align, 16)
        start = (self.end + align - 1) // align * align
        self.end = start + variable.bytes + GUARD
        if self.end > MAX_STATIC:
            raise UserError.at("E1001", f"module variables exceed 1 GiB at line {variable.line}",
                               Span(path, variable.line))
        self.addresses[key] = GLOBAL_BASE + start
        self.variables.append((variable, GLOBAL_BASE + start))
        return GLOBAL_BASE + start

    def initial(self, variable: Variable, path: str) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        """The variable's bytes at launch."""
        data = np.zeros(variable.bytes, np.uint8)
        bits = max(8, variable.element_bytes // variable.vector * 8)
        packed = bytearray()
        for value in variable.values:
            packed += self._encode(value, variable, bits, path)
        data[:min(len(packed), data.size)] = np.frombuffer(bytes(packed), np.uint8)[:data.size]
        return data

    def _encode(self, value: object, variable: Variable, bits: int, path: str) -> bytes:
        if isinstance(value, Name) and value.text in self.addresses:
            return (self.addresses[value.text] + value.offset).to_bytes(8, "little")[:bits // 8]
        if isinstance(value, Name) and value.text in self.functions:
            return self.functions[value.text].to_bytes(8, "little")[:bits // 8]
        if isinstance(value, Number):
            if variable.type in _FORMATS:
                return np.array(value.value, _FORMATS[variable.type]).tobytes()
            if isinstance(value.value, int):
                return (value.value & ((1 << bits) - 1)).to_bytes(bits // 8, "little")
        raise UserError.at("E1001", f"bad initial value of {variable.name!r} at line {variable.line}",
                           Span(path, variable.line))


def place_globals(module: Module, path: str) -> Placement:
    """Addresses for the module-scope .global and .const variables, and for the functions."""
    placement = Placement()
    for number, name in enumerate(module.functions):
        placement.functions[name] = FUNCTION_BASE + 16 * (number + 1)
    for variable in module.variables.values():
        if variable.space in ("global", "const"):
            placement.add(variable, variable.name, path)
    return placement
