"""Compilation of a module for the host, and the call of what comes out.

A kernel is called with packed arguments: for each array its address, its extents and its strides in elements, for
each scalar its bits, in words of 64 bits and in the order of the parameters.
"""

from __future__ import annotations

import ctypes
import functools
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tilus.diagnostics import CheckError, Diagnostic, Label, UserError
from tilus.ir.core import Function, Module, Parameter
from tilus.ir.dtypes import parse_dtype
from tilus.ir.ops.groups import named_warps
from tilus.ir.types import ViewType
from tilus.runtime.arrays import ArrayArgument
from tilus.runtime.cpu.apart import Branches, compressed
from tilus.runtime.cpu.llvm import LoadedObject, compile_object, function, host_description, machine
from tilus.runtime.cpu.pool import RUNTIME, current_pool, register_print
from tilus.runtime.cpu.wait_ir import DEADLOCK, INTERRUPTED
from tilus.runtime.scalars import scalar_bits

if TYPE_CHECKING:
    from tilus.lowering.cpu import PrintDescription, Wait


def compile_module(module: Module) -> CpuKernel:
    """Compile a simplified tile module for this machine. Raises UnsupportedError where the engine lacks something."""
    from tilus.codegen.llvm.host import emit_modules  # kernels from the cache do without
    from tilus.lowering.pipelines import lower_for_host

    assert module.launch is not None
    program = lower_for_host(module, machine())
    text, branches = emit_modules(program.functions)
    code = compile_object(text)
    formats = tuple(f for kernel in module.kernels for f in kernel.attributes.formats)
    return CpuKernel(code, slots_of(module.launch), module.launch.parameters, program.checks, program.prints,
                     program.waits, formats, compressed(branches))


Slot = tuple[str, int, str]
"""Of an argument: ``"array"`` or ``"scalar"``, the rank, and the element type."""


def slots_of(launch: Function) -> tuple[Slot, ...]:
    """The arguments of a launch function."""
    return tuple(("array", v.type.rank, v.type.dtype.name) if isinstance(v.type, ViewType) else
                 ("scalar", 0, v.tile.dtype.name) for v in launch.body.args)


def kernel_arguments(arguments: Sequence[Any]) -> list[Any]:
    """Arguments as kernels pack them: arrays as addresses, extents and strides in elements."""
    return [(a.address, a.shape, a.strides) if isinstance(a, ArrayArgument) else a for a in arguments]


def pack_arguments(slots: Sequence[Slot], arguments: Sequence[Any], more: int = 0) -> Any:
    """The packed arguments, as a ctypes array, with so many words behind them: of ``(address, extents, strides)`` for
    an array (strides in elements), a number for a scalar."""
    words: list[int] = []
    for (kind, _, dtype), argument in zip(slots, arguments, strict=True):
        if kind == "array":
            address, extents, strides = argument
            words += (address, *extents, *strides)
        else:
            words.append(scalar_bits(argument, parse_dtype(dtype)))
    count = len(words) + more
    return (ctypes.c_int64 * max(1, count))(*words)


class Entry(NamedTuple):
    """What a quick call needs of a kernel.

    Attributes:
        launch: the address of ``launch(arguments, table)``.
        table: the address of the word that has the table's address, 0 while there is none.
        alive: keeps the code in memory.
        stream: gives the stream, for kernels that have one; it and the memory become words behind the arguments.
        measure: the address of ``measure(arguments, table)``, which gives the bytes of workspaces; 0 for none.
        allocate: gives address and owner of so many bytes.
    """

    launch: int
    table: int
    alive: Any
    stream: Callable[[], int] | None = None
    measure: int = 0
    allocate: Callable[[int], tuple[int, Any]] | None = None


class CpuKernel:
    """A compiled module.

    Attributes:
        parameters: what the code assumes of its arguments, in order.
        code: the object file.
        formats: in which order the elements of prepacked arrays lie, by parameter.
        branches: what of the code is compiled when it first runs (:class:`tilus.runtime.cpu.apart.Branches`).
        launch_address: where the launch function lies.
    """

    def __init__(self, code: bytes, slots: Sequence[Slot], parameters: Sequence[Parameter],
                 checks: Sequence[Diagnostic], prints: Mapping[int, PrintDescription],
                 waits: Sequence[Wait] = (), formats: Sequence[tuple[str, str]] = (),
                 branches: Sequence[bytes] = ()) -> None:
        self.code = code
        self.formats = tuple(formats)
        self.slots = tuple(slots)
        self.parameters = tuple(parameters)
        self.checks = tuple(checks)
        self.prints = dict(prints)
        self.waits = tuple(waits)
        self._object = LoadedObject(code)
        self.branches = Branches(self._object, branches) if branches else None
        self.launch_address = self._object.address("launch")
        self._launch = function(self.launch_address, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
        for key, description in self.prints.items():
            register_print(key, functools.partial(_print, description))

    def __call__(self, *arguments: Any) -> None:
        """Run on one argument for each parameter: ``(address, extents, strides)`` for an array (strides in elements),
        a number for a scalar. Raises CheckError where a device assertion fails."""
        self.launch(self.pack(arguments))

    def pack(self, arguments: Sequence[Any]) -> Any:
        """The packed arguments, as a ctypes array."""
        return pack_arguments(self.slots, arguments)

    @property
    def entry(self) -> Entry:
        return Entry(self.launch_address, ctypes.addressof(RUNTIME), self)

    def launch(self, packed: Any) -> None:
        """Run on packed arguments (a ctypes array that the caller keeps alive)."""
        self.check(self._launch(ctypes.addressof(packed), current_pool().table))

    def check(self, status: int) -> None:
        """Raise the error for the status that a launch gave, unless it is 0: CheckError where an assertion failed or
        nothing could go on, what a signal's handler has raised where it was interrupted."""
        if status == INTERRUPTED:
            current_pool().raise_interrupt()
        elif status == DEADLOCK:
            raise deadlock([(self.waits[place], block) for place, block in current_pool().take_waiters()])
        elif status:
            failed = self.checks[status - 1]
            raise (CheckError if failed.code == "E0704" else UserError)(failed)

    def serialize(self) -> bytes:
        """The kernel as bytes for :meth:`from_bytes`, in this process or another on the same kind of machine."""
        return pickle.dumps((host_description(), self.code, self.slots, self.parameters, self.checks, self.prints,
                             self.waits, self.formats, self.branches.texts if self.branches is not None else ()))

    @staticmethod
    def from_bytes(data: bytes) -> CpuKernel:
        """A kernel from :meth:`serialize`. Raises ValueError where it was compiled for another machine.

        The bytes are trusted: they come from the user's own cache."""
        description, *fields = pickle.loads(data)
        if description != host_description():
            raise ValueError("the kernel was compiled for another processor")
        return CpuKernel(*fields)


def deadlock(waiting: Sequence[tuple[Wait, int]]) -> CheckError:
    """The error where none of these blocks can go on; blocks by number, the first axis varying fastest."""

    def who(wait: Wait, block: int) -> str:
        return f"block {block}" + (f", {named_warps(wait.warps)}" if wait.warps else "")

    first, block = waiting[0]
    labels = tuple(Label(w.span, f"{who(w, b)} waits for {w.what}") for w, b in waiting if w.span.known)
    return CheckError(Diagnostic(
        "E0705", f"deadlock: {who(first, block)} waits for {first.what}, which never comes", labels, first.help))


def _print(description: PrintDescription, address: int) -> None:
    import sys

    sys.stdout.write(format_print(description, address) + "\n")


def format_print(description: PrintDescription, address: int) -> str:
    """The text of one print: ``address`` is that of its values, 64 bits each."""
    import numpy as np

    values = []
    for name, shape in description[1]:
        dtype = parse_dtype(name)
        count = int(np.prod(shape, dtype=np.int64))
        kind: Any = ctypes.c_double if dtype.is_float else ctypes.c_uint64 if name == "u64" else ctypes.c_int64
        items = np.array((kind * count).from_address(address)[:])
        address += 8 * count
        if dtype.is_bool:
            items = items.astype(np.bool_)
        elif dtype.is_float and dtype.bits <= 32:
            items = items.astype(np.float32)
        values.append(items.reshape(shape) if shape else items[0])
    return description[0].format(*values)
