"""Reads a cubin's ELF sections: which kernels it has, their parameters and the resources they take.

The records of the ``.nv.info`` sections are those that ``cuobjdump -elf`` names: each is a format byte, an attribute
byte and 16 bits, which are the value or, in format 4, the size of the value that follows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tilus.diagnostics import ToolchainError
from tilus.records import record

_EM_CUDA = 190
_SIZED = 4
_NO_BITS = 8
_MAX_THREADS, _REQUIRED_THREADS, _FRAME_SIZE, _PARAMETER, _PARAMETER_BYTES = 0x05, 0x10, 0x11, 0x17, 0x19
_REGISTERS, _BARRIERS = 0x2F, 0x4C
# From sm_90 on the system's share of a block's shared memory counts in the section's size.
_RESERVED_SHARED = 1024


@record(frozen=True)
class Parameter:
    """Offset and size of a kernel parameter in bytes."""

    offset: int
    size: int


@record(frozen=True)
class KernelInfo:
    """What one kernel takes.

    Attributes:
        registers: of a thread.
        stack: bytes of a thread's stack frame: local arrays and spills.
        shared: bytes of static shared memory of a block.
        barriers: named barriers used.
        max_threads: threads of a block as ``__launch_bounds__`` or ``.reqntid`` say, 0 where they do not.
        parameters: in order.
        code_size: bytes of machine code.
    """

    name: str
    registers: int
    stack: int
    shared: int
    barriers: int
    max_threads: int
    parameters: tuple[Parameter, ...]
    parameter_bytes: int
    code_size: int


@record(frozen=True)
class Cubin:
    """The architecture (80 for sm_80) and the kernels by name."""

    arch: int
    kernels: dict[str, KernelInfo]


@record(frozen=True)
class _Section:
    name: str
    offset: int
    size: int
    flags: int

    def of(self, data: bytes) -> bytes:
        return data[self.offset:self.offset + self.size]


def read_cubin(data: bytes) -> Cubin:
    """The kernels of a cubin.

    Raises:
        ToolchainError: E0902, these bytes are not a cubin.
    """
    try:
        return _read(data)
    except (struct.error, LookupError, ValueError) as error:
        raise _malformed("its sections make no sense") from error


_FILLED_IN = (0, 4)
"""Constant banks that a launch and the loader fill in: parameters, and addresses of variables."""


def constant_banks(data: bytes, kernel: str) -> dict[int, bytes]:
    """The constant banks whose contents a cubin has, by number: constants of the module, and what the compiler keeps
    there for one kernel.

    Raises:
        ToolchainError: E0902, these bytes are not a cubin.
    """
    found = {}
    try:
        for section in _sections(data):
            number, _, owner = section.name.removeprefix(".nv.constant").partition(".")
            if section.name.startswith(".nv.constant") and number.isdigit() and owner in ("", kernel):
                found[int(number)] = section.of(data)
    except (struct.error, LookupError, ValueError) as error:
        raise _malformed("its sections make no sense") from error
    return {number: bank for number, bank in found.items() if number not in _FILLED_IN}


def _malformed(why: str) -> ToolchainError:
    return ToolchainError.at("E0902", f"not a cubin: {why}", help="remove the file and compile again")


def _read(data: bytes) -> Cubin:
    if data[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<H", data, 18)[0] != _EM_CUDA:
        raise _malformed("it is no 64-bit ELF file for NVIDIA GPUs")
    (flags,) = struct.unpack_from("<I", data, 48)
    # The ABI version says where the flags have the architecture: CUDA 13 moved it.
    arch = flags & 0xFF if data[8] < 8 else flags >> 8 & 0xFF
    sections = {section.name: section for section in _sections(data)}
    symbols = _symbols(data, sections)
    registers, frames = _per_function(sections[".nv.info"].of(data), symbols)
    kernels = {}
    for name in (s.removeprefix(".nv.info.") for s in sections if s.startswith(".nv.info.")):
        shared = sections.get(f".nv.shared.{name}")
        shared_size = shared.size if shared else 0
        if arch >= 90:
            shared_size = max(0, shared_size - _RESERVED_SHARED)
        text = sections[f".text.{name}"]
        kernels[name] = _kernel(name, sections[f".nv.info.{name}"].of(data), registers.get(name, 0),
                                frames.get(name, 0), shared_size, text)
    return Cubin(arch, kernels)


def _kernel(name: str, info: bytes, registers: int, stack: int, shared: int, text: _Section) -> KernelInfo:
    parameters: dict[int, Parameter] = {}
    max_threads = parameter_bytes = 0
    # CUDA 12 keeps the barriers in the flags of the code section, CUDA 13 in a record.
    barriers = text.flags >> 20 & 0x7F
    for attribute, value, payload in _records(info):
        if attribute == _PARAMETER:
            _, ordinal, offset, packed = struct.unpack("<IHHI", payload)
            parameters[ordinal] = Parameter(offset, packed >> 18)
        elif attribute in (_MAX_THREADS, _REQUIRED_THREADS):
            x, y, z = struct.unpack_from("<3I", payload)
            max_threads = x * y * z
        elif attribute == _PARAMETER_BYTES:
            parameter_bytes = value
        elif attribute == _BARRIERS:
            barriers = value & 0xFF
    ordered = tuple(parameters[i] for i in sorted(parameters))
    return KernelInfo(name, registers, stack, shared, barriers, max_threads, ordered, parameter_bytes, text.size)


def _per_function(info: bytes, symbols: list[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Registers and stack frames by function name, from the module's own info section."""
    registers: dict[str, int] = {}
    frames: dict[str, int] = {}
    for attribute, _, payload in _records(info):
        if attribute in (_REGISTERS, _FRAME_SIZE):
            symbol, amount = struct.unpack_from("<2I", payload)
            # Registers share their word with flags in its upper bits.
            if attribute == _REGISTERS:
                registers[symbols[symbol]] = amount & 0x3FF
            else:
                frames[symbols[symbol]] = amount
    return registers, frames


def _records(info: bytes) -> Iterator[tuple[int, int, bytes]]:
    """``(attribute, 16-bit value, payload)`` of each record."""
    position = 0
    while position < len(info):
        layout, attribute, value = struct.unpack_from("<BBH", info, position)
        position += 4
        size = value if layout == _SIZED else 0
        yield attribute, value, info[position:position + size]
        position += size


def _sections(data: bytes) -> list[_Section]:
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count, names_index = struct.unpack_from("<3H", data, 58)
    headers = [struct.unpack_from("<IIQQQQII", data, table + size * i) for i in range(count)]
    programs, program_size, program_count = *struct.unpack_from("<Q", data, 32), *struct.unpack_from("<2H", data, 54)
    ends = [h[4] + h[5] for h in headers if h[1] != _NO_BITS]
    if max(*ends, programs + program_size * program_count) > len(data):
        raise _malformed("it is cut off")
    names = headers[names_index][4]
    return [_Section(_string(data, names + h[0]), h[4], h[5], h[2]) for h in headers]


def _symbols(data: bytes, sections: dict[str, _Section]) -> list[str]:
    table, strings = sections[".symtab"], sections[".strtab"]
    entries = range(table.offset, table.offset + table.size, 24)
    return [_string(data, strings.offset + struct.unpack_from("<I", data, entry)[0]) for entry in entries]


def _string(data: bytes, start: int) -> str:
    return data[start:data.index(b"\0", start)].decode()
