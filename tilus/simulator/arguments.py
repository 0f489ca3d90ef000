"""Kernel arguments: arrays become allocations of the simulated memory, scalars become parameter bytes."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tilus.diagnostics import UserError
from tilus.simulator.layout import GLOBAL_BASE, GUARD, TEXTURE_BASE
from tilus.simulator.resolved import Decoded
from tilus.simulator.syntax import Variable
from tilus.simulator.tensor_map import MAP_BYTES, TensorMap
from tilus.simulator.texture import Texture

Array = npt.NDArray[Any]
ALIGN = 256


@dataclass(frozen=True)
class Pointer:
    """A pointer into an array, ``offset`` bytes after its first element."""

    array: Array
    offset: int = 0


@dataclass(frozen=True)
class Struct:
    """A struct that holds pointers: its bytes, and by byte offset what its pointers name.

    Given for a parameter of its size it goes by value, for a pointer or a variable it is what these refer to. A
    :class:`TensorMap` among the pointers stands in the struct itself, all 128 bytes of it.
    """

    data: bytes | np.generic | Array
    pointers: Mapping[int, Any]


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
    scalars: list[tuple[int, bytes]] = field(default_factory=list)
    ranges: list[_Range] = field(default_factory=list)
    keep: list[Any] = field(default_factory=list)
    textures: list[Texture] = field(default_factory=list)
    # What is known once the arrays have addresses: where (an offset of the parameters, or a host address), and the
    # host address or tensor map that it names.
    in_parameters: list[tuple[int, int | TensorMap]] = field(default_factory=list)
    in_memory: list[tuple[int, int | TensorMap]] = field(default_factory=list)
    in_variables: list[tuple[int, int | TensorMap]] = field(default_factory=list)

    def add_array(self, array: Array, name: str) -> int:
        """Register an array's bytes; its host address."""
        low, high = np.lib.array_utils.byte_bounds(array)
        address = _host_address(array)
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

    def _encoded(self, target: int | TensorMap) -> bytes:
        if isinstance(target, TensorMap):
            return target.descriptor(self.device_address(_host_address(target.array))).encode()
        return (self.device_address(target) if target else 0).to_bytes(8, "little")

    def parameter_bytes(self) -> Array:
        data = np.zeros(self.decoded.param_bytes, np.uint8)
        for offset, raw in [*self.scalars, *((at, self._encoded(target)) for at, target in self.in_parameters)]:
            data[offset:offset + len(raw)] = np.frombuffer(raw, np.uint8)
        return data

    def copy_in(self, arena: Array) -> None:
        for array in self.keep:
            if isinstance(array, np.ndarray) and array.size:
                self._in_arena(array, arena)[...] = array
        places = [(self.device_address(host) - GLOBAL_BASE, target) for host, target in self.in_memory]
        for start, target in [*places, *self.in_variables]:
            raw = self._encoded(target)
            arena[start:start + len(raw)] = np.frombuffer(raw, np.uint8)

    def copy_back(self, arena: Array) -> None:
        for array in self.keep:
            if isinstance(array, np.ndarray) and array.size and array.flags.writeable:
                array[...] = self._in_arena(array, arena)

    def _in_arena(self, array: Array, arena: Array) -> Array:
        """An array's elements, and nothing that lies between them, as they stand in the arena."""
        start = self.device_address(_host_address(array)) - GLOBAL_BASE
        return np.ndarray(array.shape, array.dtype, arena.data, start, array.strides)

    def allocations(self) -> list[tuple[int, int, str, bool]]:
        return [(r.start, r.start + r.high - r.low, f"argument {r.name}", r.writable) for r in self.ranges]


def _host_address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def pack_variable(result: Arguments, name: str, value: Any, place: Any) -> None:
    """Take up the contents of a variable of the module; ``place(bytes)`` gives its offset in the arena.

    Raises:
        UserError: E1003 where they do not fit.
    """
    if isinstance(value, (list, tuple)):
        value = Struct(bytes(8 * len(value)), {8 * i: item for i, item in enumerate(value)})
    if isinstance(value, TensorMap):
        value = Struct(bytes(MAP_BYTES), {0: value})
    if isinstance(value, Struct):
        result.in_variables += _struct_places(result, name, value, place(content_of(value.data).size))


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
    """Arguments in the order of the parameters, which go by name, by what follows ``_param_``, or by number."""
    short = [name.rsplit("_param_", 1)[-1] if "_param_" in name else name for name in names]
    given = {str(key): value for key, value in {**(args if isinstance(args, Mapping) else {}), **maps}.items()}
    rest = [] if isinstance(args, Mapping) else list(args)
    values = []
    for number, (name, alias) in enumerate(zip(names, short, strict=True)):
        key = next((key for key in (name, alias, str(number)) if key in given), None)
        if key is not None:
            values.append(given.pop(key))
        elif isinstance(args, Mapping):
            raise UserError.at("E1003", f"argument {name!r} is missing; parameters: {', '.join(names)}")
        elif rest:
            values.append(rest.pop(0))
        else:
            raise UserError.at("E1003", f"{len(args)} arguments for {len(names)} parameters")
    if given:
        raise UserError.at("E1003", f"the kernel has no parameter {sorted(given)[0]!r}; parameters: {', '.join(names)}")
    if rest:
        raise UserError.at("E1003", f"{len(args)} arguments for {len(names)} parameters")
    return values


def _pack_one(result: Arguments, variable: Variable, offset: int, value: Any) -> None:
    name, size = variable.name, variable.bytes
    if isinstance(value, Texture) and size == 8:
        result.scalars.append((offset, (TEXTURE_BASE + len(result.textures)).to_bytes(8, "little")))
        result.textures.append(value)
        return
    if isinstance(value, TensorMap) and size != 8:
        result.add_array(value.array, name)
        result.in_parameters.append((offset, value))
        return
    if isinstance(value, Struct) and content_of(value.data).size == size:
        result.scalars.append((offset, content_of(value.data).tobytes()))
        result.in_parameters += _struct_places(result, name, value, offset)
        return
    if size == 8 and isinstance(value, (Pointer, np.ndarray, TensorMap, Struct, list, tuple)):
        if variable.type[0] == "f":
            raise UserError.at("E1003", f"parameter {name!r} of type .{variable.type} takes no array")
        result.in_parameters.append((offset, _refer(result, name, value)))
        return
    if isinstance(value, (Pointer, np.ndarray)) and not variable.is_array:
        raise UserError.at("E1003", f"parameter {name!r} of type .{variable.type} takes no array")
    if isinstance(value, Struct):
        raise UserError.at("E1003", f"parameter {name!r} has {size} bytes, not {content_of(value.data).size}")
    if isinstance(value, np.ndarray) and value.nbytes == size:
        value = value.tobytes()
    result.scalars.append((offset, _scalar(variable, value)))


def content_of(data: bytes | np.generic | Array) -> Array:
    """The bytes of a struct."""
    return np.frombuffer(data if isinstance(data, bytes) else data.tobytes(), np.uint8).copy()


def _struct_places(result: Arguments, name: str, value: Struct, start: int) -> list[tuple[int, int | TensorMap]]:
    """Where a struct that begins at ``start`` names something, and what."""
    size = content_of(value.data).size
    places: list[tuple[int, int | TensorMap]] = []
    for at, target in value.pointers.items():
        needed = MAP_BYTES if isinstance(target, TensorMap) else 8
        if not 0 <= at <= size - needed:
            what = "tensor map" if needed == MAP_BYTES else "pointer"
            raise UserError.at("E1003", f"{name!r} has {size} bytes: no {what} can be at byte {at}")
        if isinstance(target, TensorMap):
            result.add_array(target.array, f"{name}+{at}")
            places.append((start + at, target))
        else:
            places.append((start + at, _refer(result, f"{name}+{at}", target)))
    return places


def _refer(result: Arguments, name: str, value: Any) -> int:
    """The host address that a pointer to the value holds; 0 for None. Structs and lists become arrays of their own."""
    if value is None:
        return 0
    if isinstance(value, TensorMap):
        value = Struct(bytes(MAP_BYTES), {0: value})
    elif isinstance(value, (list, tuple)):
        value = Struct(bytes(8 * len(value)), {8 * i: item for i, item in enumerate(value)})
    if isinstance(value, Struct):
        made = aligned_copy(content_of(value.data))
        host = result.add_array(made, name)
        result.in_memory += _struct_places(result, name, value, host)
        return host
    array, start = (value.array, value.offset) if isinstance(value, Pointer) else (value, 0)
    if not isinstance(array, np.ndarray) or array.dtype.hasobject:
        raise UserError.at("E1003", f"{name!r} needs a NumPy array of numbers")
    return result.add_array(array, name) + start


def aligned_copy(content: Array) -> Array:
    """The bytes in an array of their own, one at least, at a multiple of 64."""
    raw = np.zeros(content.size + 65, np.uint8)
    start = -_host_address(raw) % 64
    made = raw[start:start + max(1, content.size)]
    made[:content.size] = content
    return made


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
