"""A kernel's launch as the machine code sees it: grid, block, parameter bytes, and where the arrays are.

Addresses are made up: nothing is allocated, so that extents may be those of arrays of many gigabytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tilus.diagnostics import UserError
from tilus.records import field, record

if TYPE_CHECKING:
    from tilus.ir.dtypes import DType
    from tilus.runtime.nvidia.kernel import CompiledKernel

Extent3 = tuple[int, int, int]

FIRST_ADDRESS = 0x7F00_0000_0000
"""Where made-up arrays begin, as the driver's allocations do."""
ALIGNED = 16
"""Specialisations tell apart addresses by this modulus."""
ALLOCATION = 1 << 21
"""Arrays begin at multiples of this many bytes, the driver's pages, and are one page apart at least."""


@record(frozen=True, eq=False)
class ArrayAt:
    """An array in global memory.

    Attributes:
        address: of its first byte.
        bytes: from the address to the end of its last element.
        element_bits: bits of an element.
        contents: its bytes as a NumPy array where they are known (index tables), else None.
    """

    name: str
    address: int
    bytes: int
    element_bits: int
    contents: np.ndarray[Any, Any] | None = None


@record(frozen=True, eq=False)
class Launch:
    """One launch of a kernel.

    Attributes:
        program: name of the kernel in the cubin.
        grid, block: blocks, and threads of a block, along x, y and z.
        shared: bytes of shared memory of a block, static and dynamic.
        parameters: the bytes of the parameters, as they lie in the constant bank.
        arrays: what the pointers among them point to.
        cluster: blocks of a cluster along x, y and z.
        constants: further constant banks by number (``tilus.runtime.cubin.constant_banks``).
    """

    program: str
    grid: Extent3
    block: Extent3
    shared: int
    parameters: bytes
    arrays: tuple[ArrayAt, ...] = ()
    cluster: Extent3 = (1, 1, 1)
    constants: Mapping[int, bytes] = field(default_factory=dict)

    @property
    def blocks(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.block[0] * self.block[1] * self.block[2]

    @property
    def warps(self) -> int:
        """Of a block."""
        return -(-self.threads // 32)


class Allocator:
    """Gives arrays addresses that no two share."""

    def __init__(self) -> None:
        self.next = FIRST_ADDRESS

    def take(self, size: int) -> int:
        """The address of so many bytes."""
        address = self.next
        self.next += -(-max(size, 1) // ALLOCATION) * ALLOCATION + ALLOCATION
        return address


def launches_of(compiled: Any, arguments: Mapping[str, Any] | Sequence[Any]) -> list[tuple[Any, Launch]]:
    """The kernels that a call launches, in order, each with what has its code (grids that have to be folded take
    another cubin than the others).

    Args:
        compiled: the kernel, or as much of it as ``tilus.model.gpu.SentKernel`` has.
        arguments: by the names of the run-time parameters: for an array its shape, a pair of shape and strides (in
            elements), or a NumPy array, whose contents are then known to the model; a number for a scalar. Or those of
            a call that has been bound (``Prepared.call.arguments``).

    Raises:
        UserError: an argument is missing or has no such parameter (E0604), has another rank (E0601), the grid has too
            many blocks (E0606).
        CheckError: an assertion on the arguments fails (E0704).
    """
    from tilus.ir.types import ViewType

    function = compiled.launch_module.launch
    assert function is not None
    names = [parameter.name for parameter in function.parameters]
    if not isinstance(arguments, Mapping):
        arguments = dict(zip(names, arguments, strict=True))
    _check_names(compiled.name, names, arguments)
    memory, values = Allocator(), []
    for name, parameter in zip(names, function.body.args, strict=True):
        given = arguments[name]
        values.append(_array(name, given, parameter.view, memory) if isinstance(parameter.type, ViewType) else given)
    return evaluate(compiled, values, names, memory)


def _check_names(kernel: str, names: Sequence[str], arguments: Mapping[str, Any]) -> None:
    missing, unknown = [n for n in names if n not in arguments], [n for n in arguments if n not in names]
    if missing or unknown:
        what = f"is not given {', '.join(map(repr, missing))}"
        if not missing:
            what = f"has no run-time parameter {unknown[0]!r}"
        raise UserError.at("E0604", f"{kernel} {what}", help=f"its run-time parameters are {', '.join(names)}")


@record(frozen=True, eq=False)
class MadeUp:
    """An array argument without memory: what launch functions and parameters ask of one."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    address: int
    bytes: int
    bits: int
    contents: np.ndarray[Any, Any] | None = None

    def shaped(self, shape: tuple[int, ...]) -> MadeUp:
        from tilus.runtime.arrays import contiguous

        return replace(self, shape=shape, strides=contiguous(shape))


def _array(name: str, given: Any, view: Any, memory: Allocator) -> MadeUp:
    from tilus.runtime.arrays import ArrayArgument, byte_range, contiguous

    contents, misaligned = None, 0
    if isinstance(given, ArrayArgument):
        shape, strides, misaligned = given.shape, given.strides, given.address % ALIGNED
        if isinstance(given.array, np.ndarray) and given.array.flags.c_contiguous:
            contents = given.array.reshape(-1).view(np.uint8)
    elif hasattr(given, "shape"):
        shape = tuple(given.shape)
        strides = tuple(s // given.itemsize for s in given.strides)
        if given.flags.c_contiguous:
            contents = np.ascontiguousarray(given).reshape(-1).view(np.uint8)
    elif given and isinstance(given[0], Sequence):
        shape, strides = tuple(given[0]), tuple(given[1])
    else:
        shape = tuple(given)
        strides = contiguous(shape)
    if len(shape) != len(view.shape):
        raise UserError.at("E0601", f"{name!r} has rank {len(shape)}, but the parameter has rank {len(view.shape)}")
    low, high = byte_range(shape, strides, view.dtype.packed_bits)
    address = memory.take(high - low + misaligned) - low + misaligned
    return MadeUp(shape, strides, address, high, view.dtype.packed_bits, contents)


def evaluate(compiled: CompiledKernel, arguments: Sequence[Any], names: Sequence[str],
             memory: Allocator) -> list[tuple[CompiledKernel, Launch]]:
    """The launches of a call: ``arguments`` are arrays (``MadeUp``) and numbers, one for each of ``names``."""
    from tilus.backends import Options
    from tilus.interp import evaluate_launch
    from tilus.runtime.compile import compile_specialisation
    from tilus.runtime.cubin import constant_banks, read_cubin
    from tilus.runtime.nvidia.engines import has_to_be_folded, pack

    target, module = compiled.record, compiled.launch_module
    facts = compiled.launches
    found: list[tuple[CompiledKernel, Launch]] = []
    workspaces: dict[int, str] = {}

    def allocate(shape: tuple[int, ...], dtype: DType, zero: bool) -> MadeUp:
        from tilus.runtime.arrays import byte_range, contiguous

        strides = contiguous(shape)
        size = byte_range(shape, strides, dtype.packed_bits)[1]
        made = MadeUp(shape, strides, memory.take(size), size, dtype.packed_bits)
        workspaces[made.address] = f"workspace {len(workspaces)}"
        keep.append(made)
        return made

    keep: list[MadeUp] = []
    owners = {a.address: n for n, a in zip(names, arguments, strict=True) if isinstance(a, MadeUp)}

    def start(name: str, grid: tuple[int, ...], args: list[Any]) -> None:
        code = compiled
        if has_to_be_folded(facts[name], grid):
            code = compile_specialisation(compiled.specialisation, target, compiled.via,
                                          Options(compiled.line_info, folded=True))
        launch = code.launches[name]
        blocks, values = pack(launch, grid, module, name, args)
        info = read_cubin(code.cubin).kernels[name]
        arrays = {id(v): v for v, _ in values if isinstance(v, MadeUp)}
        known = tuple(ArrayAt(owners.get(a.address) or workspaces[a.address], a.address, a.bytes, a.bits, a.contents)
                      for a in arrays.values())
        found.append((code, Launch(
            name, blocks, (launch.threads, 1, 1), info.shared + launch.dynamic_shared_bytes,
            parameter_bytes([(p.offset, p.size) for p in info.parameters],
                            [(v.address if isinstance(v, MadeUp) else v, t) for v, t in values]),
            known, constants=constant_banks(code.cubin, name))))

    per_sm = {n: target.resident_blocks(f.threads, f.registers, f.dynamic_shared_bytes) for n, f in facts.items()}
    assert module.launch is not None
    evaluate_launch(module.launch, arguments, allocate=allocate, start=start,
                    resident_blocks=lambda: target.sm_count * next(iter(per_sm.values())))
    return found


def parameter_bytes(places: Sequence[tuple[int, int]], values: Sequence[tuple[Any, str]]) -> bytes:
    """Parameters as they lie in the constant bank.

    Args:
        places: offset and size in bytes of each.
        values: numbers, each with its element type, or ``"pointer"`` and an address.
    """
    packed = bytearray(max((offset + size for offset, size in places), default=0))
    for (offset, size), (value, kind) in zip(places, values, strict=True):
        packed[offset:offset + size] = _bytes_of(value, kind).ljust(size, b"\0")[:size]
    return bytes(packed)


def _bytes_of(value: Any, kind: str) -> bytes:
    if kind == "pointer":
        return struct.pack("<Q", value)
    from tilus.ir.dtypes import parse_dtype

    return np.asarray(value).astype(parse_dtype(kind).numpy).tobytes()


__all__ = ["Allocator", "ArrayAt", "Launch", "MadeUp", "evaluate", "launches_of", "parameter_bytes"]
