"""Kernels on a device: loaded through the driver, and enqueued by native code that is compiled for the launch function.

Calls come with packed arguments, as those of the CPU engine (``runtime/cpu/kernel.py``), with a few words behind them
(``lowering/cpu/gpu_launch.py``), so that plans and quick calls are the same for both.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from tilus.backends import Options
from tilus.diagnostics import CheckError, UserError
from tilus.lowering.cpu import gpu_launch
from tilus.runtime.compile import compile_specialisation
from tilus.runtime.cpu.kernel import Entry, pack_arguments, slots_of
from tilus.runtime.cpu.llvm import LoadedObject, function, loaded, machine
from tilus.runtime.nvidia.build import GpuRoute
from tilus.runtime.nvidia.driver import Driver
from tilus.runtime.nvidia.kernel import CompiledKernel
from tilus.runtime.nvidia.launch_facts import LaunchFacts, formats_of, not_resident
from tilus.runtime.nvidia.libraries import Library
from tilus.runtime.specialise import Specialisation
from tilus.targets import get_target


class DeviceKernel:
    """The kernels of a specialisation on one device, and the native code that enqueues them.

    Attributes:
        slots: kind, rank and element type of each argument.
        table: what the native code reads (``TABLE_…``).
        resident: how many blocks of the first kernel the device holds at once.
    """

    def __init__(self, specialisation: Specialisation, target: str, route: GpuRoute, driver: Driver,
                 device: int) -> None:
        self._specialisation, self._target, self._route = specialisation, target, route
        self._driver, self._device = driver, device
        self._lock = threading.Lock()
        compiled = self._compiled(folded=False)
        self.module = compiled.launch_module
        assert self.module.launch is not None
        self.slots = slots_of(self.module.launch)
        self.facts: dict[str, LaunchFacts] = compiled.launches
        first = self.facts[compiled.metadata["kernel"]]
        per_multiprocessor = get_target(target).resident_blocks(
            first.threads, first.registers, first.dynamic_shared_bytes)
        self.resident = per_multiprocessor * driver.properties(device).multiprocessors
        self.table = (ctypes.c_int64 * (gpu_launch.TABLE_FUNCTIONS + 2 * len(self.module.kernels)))()
        self.table[gpu_launch.TABLE_CONTEXT] = driver.context(device)
        self.table[gpu_launch.TABLE_RESIDENT] = self.resident
        for word, name in gpu_launch.DRIVER_FUNCTIONS.items():
            self.table[word] = driver.address(name)
        self._load(compiled, 0)
        self.native = _Native(self, None)

    def _compiled(self, folded: bool) -> CompiledKernel:
        found: CompiledKernel = compile_specialisation(self._specialisation, self._target, self._route.name,
                                                       Options(folded=folded))
        return found

    def _load(self, compiled: CompiledKernel, place: int) -> None:
        shared = {name: facts.dynamic_shared_bytes for name, facts in compiled.launches.items()}
        functions = self._driver.load(compiled.cubin, self._device, shared)
        for i, kernel in enumerate(self.module.kernels):
            self.table[gpu_launch.TABLE_FUNCTIONS + 2 * i + place] = functions[kernel.name]

    def fold(self) -> None:
        """From now on there are kernels for grids that are not launched as they are."""
        with self._lock:
            if self.native.folds:
                compiled = self._compiled(folded=True)
                self._load(compiled, 1)
                self.native = _Native(self, compiled.launches)

    def raise_error(self, status: int, detail: int) -> None:
        """Raise the error for a status that a launch gave: UserError or CheckError of a check, ToolchainError of the
        driver."""
        if status > 0:
            place, code = divmod(status, gpu_launch.HIGH)
            names = self.native.launched
            what = names[place - 1] if place else f"what {', '.join(dict.fromkeys(names))} needs"
            raise self._driver.error(code, f"the CUDA driver could not launch {what}")
        number = gpu_launch.UNCHECKED - status
        kernel = self.native.resident.get(number)
        if kernel is not None:
            raise not_resident(kernel, detail, self.resident)
        failed = self.native.checks[number - 1]
        raise (CheckError if failed.code == "E0704" else UserError)(failed)


class _Native:
    """The code for some kernels."""

    def __init__(self, kernel: DeviceKernel, folded: Mapping[str, LaunchFacts] | None) -> None:
        from tilus.codegen.llvm.host import emit_functions
        from tilus.lowering.pipelines import lower_gpu_launch

        found = lower_gpu_launch(kernel.module, kernel.facts, folded, machine())
        self.checks, self.folds, self.resident, self.launched = (
            found.checks, found.folds, found.resident, found.launched)
        self._object: LoadedObject = loaded(emit_functions(found.functions))
        self.launch_address = self._object.address("launch")
        self.measure_address = self._object.address("measure") if found.measures else 0
        self.launch = function(self.launch_address, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
        self.measure = function(self.measure_address, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64) \
            if found.measures else None


class BoundKernel:
    """A kernel on a device for arrays of one library, with what plans use of a
    :class:`tilus.runtime.cpu.kernel.CpuKernel`."""

    def __init__(self, kernel: DeviceKernel, library: Library) -> None:
        self.kernel, self.library = kernel, library
        self.slots = kernel.slots
        self._table = ctypes.addressof(kernel.table)
        self._table_word = (ctypes.c_int64 * 1)(self._table)

    @property
    def formats(self) -> dict[str, str]:
        return formats_of(self.kernel.facts)

    @property
    def entry(self) -> Entry:
        native = self.kernel.native
        return Entry(native.launch_address, ctypes.addressof(self._table_word), (self, native), self.library.stream,
                     native.measure_address, self.library.allocate)

    def pack(self, arguments: Sequence[Any]) -> Any:
        """The packed arguments, as a ctypes array."""
        return pack_arguments(self.slots, arguments, gpu_launch.EXTRA_WORDS)

    def launch(self, packed: Any) -> None:
        """Enqueue on packed arguments. Raises what :meth:`DeviceKernel.raise_error` does."""
        native, address, end = self.kernel.native, ctypes.addressof(packed), len(packed) - gpu_launch.EXTRA_WORDS
        packed[end + gpu_launch.STREAM] = self.library.stream()
        size = 0 if native.measure is None else native.measure(address, self._table)
        memory = None
        if size > 0:
            packed[end + gpu_launch.WORKSPACES], memory = self.library.allocate(size)
        status = native.launch(address, self._table)
        del memory
        if not status:
            return
        if gpu_launch.UNCHECKED - status in native.folds:
            self.kernel.fold()
            self.launch(packed)
        else:
            self.kernel.raise_error(status, packed[end + gpu_launch.DETAIL])

    def check(self, status: int) -> None:
        """Raise the driver's error for the status of a quick call; failed checks are found again by :meth:`launch`."""
        self.kernel.raise_error(status, 0)


__all__ = ["BoundKernel", "DeviceKernel"]
