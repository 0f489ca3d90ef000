"""Kernel arguments: arrays become allocations of the simulated memory, scalars become parameter bytes."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tilus.diagnostics import UserError
from tilus.simulator.layout import GLOBAL_BASE, GUARD
from tilus.simulator.resolved import Decoded
from tilus.simulator.syntax import Variable

Array = npt.NDArray[Any]
ALIGN = 256


@dataclass(frozen=True)
class Pointer:
    """A pointer into an array, ``offset`` bytes after its first element."""

    array: Array
    offset: int = 0


@dataclass(frozen=True)
class Struct:
    """A struct by value that holds pointers: its bytes, and by byte offset the arrays that its pointers name."""

    data: bytes | np.generic | Array
    pointers: Mapping[int, Array | Pointer]


@dataclass
class _Range:
    """Host bytes [low, high) that one or more arguments name, and where they stand in the arena."""

    low: int
    high: int
    name: str
    writable: bool
    start: int = 0


@dataclass
class Arguments:
    """Packed arguments of a launch."""

    decoded: Decoded
    pointers: list[tuple[int, int, str]] = field(default_factory=list)
    scalars: list[tuple[int, bytes]] = field(default_factory=list)
    ranges: list[_Range] = field(default_factory=list)
    maps: list[tuple[int, Any]] = field(default_factory=list)
    keep: list[Any] = field(default_factory=list)

    def add_array(self, array: Array, name: str) -> int:
        """Register an array's bytes; its host address."""
        low, high = np.lib.array_utils.byte_bounds(array)
        address = int(array.__array_interface__["data"][0])
        self.keep.append(array)
        self.ranges.append(_Range(low, high, name, bool(array.flags.writeable)))
        return address

    def merge(self) -> None:
        """Join ranges that overlap, so that arrays sharing memory share it in the simulation too."""
        merged: list[_Range] = []
        for entry in sorted(self.ranges, key=lambda r: (r.low, -r.high)):
            if merged and entry.low < merged[-1].high:
                last = merged[-1]
                last.high = max(last.high, entry.high)
                last.writable = last.writable or entry.writable
                if entry.name not in last.name.split("/"):
                    last.name += "/" + entry.name
            else:
                merged.append(entry)
        self.ranges = merged

    def place(self, end: int) -> int:
        """Assign arena offsets from ``end`` on; the new end."""
        self.merge()
        for entry in self.ranges:
            shift = entry.low % 16 if entry.low % 16 and self._interior(entry) else 0
            entry.start = (end + ALIGN - 1) // ALIGN * ALIGN + shift
            end = entry.start + (entry.high - entry.low) + GUARD
        return end

    def _interior(self, entry: _Range) -> bool:
        """Whether the range begins inside of another array, whose alignment must then show."""
        return any(isinstance(a.base, np.ndarray) and np.lib.array_utils.byte_bounds(a)[0] == entry.low
                   and np.lib.array_utils.byte_bounds(a.base)[0] < entry.low for a in self.keep)

    def device_address(self, host: int) -> int:
        for entry in self.ranges:
            if entry.low <= host < max(entry.high, entry.low + 1):
                return GLOBAL_BASE + entry.start + host - entry.low
        return GLOBAL_BASE

    def parameter_bytes(self) -> Array:
        data = np.zeros(self.decoded.param_bytes, np.uint8)
        for offset, raw in self.scalars:
            data[offset:offset + len(raw)] = np.frombuffer(raw, np.uint8)
        for offset, host, _ in self.pointers:
            value = self.device_address(host)
            data[offset:offset + 8] = np.frombuffer(value.to_bytes(8, "little"), np.uint8)
        return data

    def copy_in(self, arena: Array) -> None:
        for entry in self.ranges:
            if entry.high > entry.low:
                arena[entry.start:entry.start + entry.high - entry.low] = _host(entry)

    def copy_back(self, arena: Array) -> None:
        for entry in self.ranges:
            if entry.writable and entry.high > entry.low:
                _host(entry)[:] = arena[entry.start:entry.start + entry.high - entry.low]

    def allocations(self) -> list[tuple[int, int, str, bool]]:
        return [(r.start, r.start + r.high - r.low, f"argument {r.name}", r.writable) for r in self.ranges]

    def tensor_map_addresses(self, base: int) -> dict[int, Any]:
        result = {}
        for offset, made in self.maps:
            made.bind(self.device_address)
            result[base + offset] = made
        return result


def _host(entry: _Range) -> Array:
    buffer = (ctypes.c_uint8 * (entry.high - entry.low)).from_address(entry.low)
    return np.ctypeslib.as_array(buffer)


def pack_arguments(decoded: Decoded, args: Sequence[Any] | Mapping[str, Any], maps: Mapping[str, Any]) -> Arguments:
    """Check the arguments against the parameters and pack them.

    Raises:
        UserError: E1003 for a missing, superfluous or mistyped argument.
    """
    result = Arguments(decoded)
    names = [variable.name for variable, _ in decoded.params]
    values = _by_position(names, args, maps)
    for (variable, offset), value in zip(decoded.params, values, strict=True):
        _pack_one(result, variable, offset, value)
    return result


def _by_position(names: list[str], args: Sequence[Any] | Mapping[str, Any], maps: Mapping[str, Any]) -> list[Any]:
    short = [name.rsplit("_param_", 1)[-1] if "_param_" in name else name for name in names]
    if isinstance(args, Mapping):
        given = {**args, **maps}
        values = []
        for name, alias in zip(names, short, strict=True):
            if name not in given and alias not in given:
                raise UserError.at("E1003", f"argument {name!r} is missing; parameters: {', '.join(names)}")
            values.append(given.pop(name) if name in given else given.pop(alias))
        if given:
            raise UserError.at("E1003", f"the kernel has no parameter {sorted(given)[0]!r}; "
                               f"parameters: {', '.join(names)}")
        return values
    rest = list(args)
    values = []
    for name, alias in zip(names, short, strict=True):
        if name in maps or alias in maps:
            values.append(maps.get(name, maps.get(alias)))
        elif rest:
            values.append(rest.pop(0))
        else:
            raise UserError.at("E1003", f"{len(args)} arguments for {len(names)} parameters")
    if rest:
        raise UserError.at("E1003", f"{len(args)} arguments for {len(names)} parameters")
    return values


def _pack_one(result: Arguments, variable: Variable, offset: int, value: Any) -> None:
    if hasattr(value, "bind") and hasattr(value, "swizzle"):
        result.add_array(value.array, variable.name)
        result.maps.append((offset, value))
        return
    if isinstance(value, Struct):
        raw = value.data if isinstance(value.data, bytes) else value.data.tobytes()
        result.scalars.append((offset, _scalar(variable, raw)))
        for place, target in value.pointers.items():
            if not 0 <= place <= variable.bytes - 8:
                raise UserError.at("E1003", f"parameter {variable.name!r} has {variable.bytes} bytes: no pointer can "
                                   f"be at byte {place}")
            _point(result, f"{variable.name}+{place}", offset + place, target)
        return
    if isinstance(value, (Pointer, np.ndarray)) and not variable.is_array:
        if variable.bytes != 8 or variable.type[0] == "f":
            raise UserError.at("E1003", f"parameter {variable.name!r} of type .{variable.type} takes no array")
        _point(result, variable.name, offset, value)
        return
    if isinstance(value, np.ndarray) and value.nbytes == variable.bytes:
        value = value.tobytes()
    result.scalars.append((offset, _scalar(variable, value)))


def _point(result: Arguments, name: str, offset: int, value: Array | Pointer) -> None:
    """Put the address of an array at an offset of the parameters."""
    array, start = (value.array, value.offset) if isinstance(value, Pointer) else (value, 0)
    if not isinstance(array, np.ndarray) or array.dtype.hasobject:
        raise UserError.at("E1003", f"{name!r} needs a NumPy array of numbers")
    result.pointers.append((offset, result.add_array(array, name) + start, name))


def _scalar(variable: Variable, value: Any) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        raw = bytes(value)
        if len(raw) != variable.bytes:
            raise UserError.at("E1003", f"parameter {variable.name!r} has {variable.bytes} bytes, not {len(raw)}")
        return raw
    if isinstance(value, (float, np.floating)) and variable.type[0] in "us":
        raise UserError.at("E1003", f"parameter {variable.name!r} of type .{variable.type} takes no float: {value!r}")
    if isinstance(value, np.generic) and value.dtype.itemsize == variable.bytes and value.dtype.kind not in "iub":
        return value.tobytes()
    if variable.is_array:
        raise UserError.at("E1003", f"parameter {variable.name!r} is a struct: give its {variable.bytes} bytes")
    kind, size = variable.type, variable.bytes
    if isinstance(value, (bool, int, np.integer, np.bool_)) and kind[0] != "f":
        number = int(value)
        if not -(1 << 8 * size - 1) <= number < 1 << 8 * size:
            raise UserError.at("E1003", f"{number} does not fit parameter {variable.name!r} of {size} bytes")
        return (number & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    if isinstance(value, (int, float, np.integer, np.floating)) and size in (2, 4, 8):
        return np.array(value, f"<f{size}").tobytes()
    raise UserError.at("E1003", f"parameter {variable.name!r} of type .{kind} cannot take {type(value).__name__}")
