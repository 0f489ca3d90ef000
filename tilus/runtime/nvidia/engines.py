"""The engine that runs compiled GPU code on the PTX simulator."""

from __future__ import annotations

import functools
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tilus.codegen.cuda.prelude import PRELUDE_FILE
from tilus.diagnostics import CheckError, Diagnostic, Label, Span
from tilus.diagnostics.frames import caller_span
from tilus.interp import evaluate_launch
from tilus.interp.memory import poisoned
from tilus.interp.numbers import held_as
from tilus.interp.packing import PackedElements
from tilus.ir.core import Module, Parameter
from tilus.ir.dtypes import DType, u8
from tilus.ir.ops import DeviceAssert
from tilus.ir.ops.simt import ASSERTION_FAILED
from tilus.lowering.schedule.raster import launched_grid
from tilus.runtime.arguments import WORD_BYTES, call_error
from tilus.runtime.arrays import HOST, ArrayArgument, byte_range, contiguous
from tilus.runtime.compile import compile_specialisation
from tilus.runtime.engines import Engine, NoPlan, Runner
from tilus.runtime.nvidia.build import PtxKernel, compile_ptx, route_named
from tilus.runtime.nvidia.launch_facts import LaunchFacts, formats_of, not_resident
from tilus.runtime.packed_array import is_held
from tilus.runtime.specialise import Specialisation
from tilus.targets import Target, get_target
from tilus.targets.grid import is_launchable

if TYPE_CHECKING:
    from tilus.simulator import Report


def pack(facts: LaunchFacts, grid: tuple[int, ...], module: Module, name: str,
         args: Sequence[Any]) -> tuple[tuple[int, int, int], list[tuple[Any, str]]]:
    """The grid to launch for a kernel's grid, and each argument of the compiled kernel with its type.

    Args:
        facts: what the launch takes.
        args: arrays and numbers, one for each parameter of kernel ``name`` of ``module``.
    """
    values = {p.name: a for p, a in zip(module.kernel(name).parameters, args, strict=True)}
    launched, groups = launched_grid(grid, facts.raster, facts.folded)
    packed = []
    for text, type_ in facts.arguments:
        if text in ("grid.x", "grid.y", "grid.groups"):
            packed.append((groups if text == "grid.groups" else grid["xy".index(text[-1])], type_))
            continue
        match = re.fullmatch(r"(\w+)(?:\.(shape|strides)\[(\d+)\])?", text)
        assert match is not None, text
        value = values[match[1]]
        packed.append((getattr(value, match[2])[int(match[3])] if match[2] else value, type_))
    return launched, packed


def has_to_be_folded(facts: LaunchFacts, grid: tuple[int, ...]) -> bool:
    """Whether a kernel's grid is too long along its second or third axis to be launched as it is."""
    return not is_launchable(launched_grid(grid, facts.raster)[0])


class SimulateEngine(Engine):
    """``simulate:sm_80``, ``simulate:sm_80:ptx``: the PTX of a route on the simulator."""

    kind = HOST

    def __init__(self, name: str) -> None:
        super().__init__(name)
        parts = name.split(":")
        route = route_named(parts[2:]) if len(parts) > 1 else None
        if route is None:
            raise call_error("E0506", f"there is no engine {name!r}", help="simulate:sm_80, simulate:sm_80:ptx")
        self.simulated = get_target(parts[1], caller_span())
        if not self.simulated.is_cuda:
            raise call_error("E0506", f"there is no engine {name!r}: {self.simulated} is no GPU")
        self.route = route

    def assumed(self, parameters: Sequence[Parameter]) -> Sequence[Parameter]:
        return parameters

    @property
    def target(self) -> Target:
        return self.simulated

    def make(self, specialisation: Specialisation) -> Runner:
        return _Simulated(specialisation, self)


class _Simulated(NoPlan):
    """``reports`` has the simulator's report of each kernel of the last launch."""

    def __init__(self, specialisation: Specialisation, engine: SimulateEngine) -> None:
        self.engine, self.specialisation = engine, specialisation
        self.kernel, self.module = compile_ptx(specialisation, engine.target, engine.route)
        self.reports: list[Any] = []

    def formats(self, arguments: Sequence[Any]) -> dict[str, str]:
        return formats_of(self.kernel.launches)

    @functools.cached_property
    def folded(self) -> PtxKernel:
        """For grids that are not launched as they are."""
        return compile_ptx(self.specialisation, self.engine.target, self.engine.route, folded=True)[0]

    def resident(self) -> int:
        """How many blocks of the first kernel the target's board holds at once."""
        compiled = compile_specialisation(self.specialisation, self.engine.target, self.engine.route.name)
        m, target = compiled.metadata, self.engine.target
        return target.sm_count * target.resident_blocks(m["threads"], m["registers"], m["shared_bytes"])

    def run(self, arguments: Sequence[Any]) -> None:
        from tilus.simulator import launch

        target = self.engine.target
        self.reports = []

        def start(name: str, grid: tuple[int, ...], args: list[Any]) -> None:
            kernel = self.kernel
            if has_to_be_folded(kernel.launches[name], grid):
                kernel = self.folded
            facts = kernel.launches[name]
            if facts.cooperative:
                check_resident(name, grid, self.resident())
            blocks, values = pack(facts, grid, self.module, name, args)
            memory = {id(a): _Memory(a) for a, _ in values if isinstance(a, ArrayArgument)}
            packed = [memory[id(a)].array if isinstance(a, ArrayArgument) else
                      a.tobytes() if isinstance(a, np.ndarray) else a for a, _ in values]
            report = launch(
                kernel.ptx, name, blocks, (facts.threads, 1, 1), packed, target=target.arch,
                shared_bytes=facts.dynamic_shared_bytes,
                resident_blocks=self.resident() if facts.cooperative else None, skipped_files=(PRELUDE_FILE,),
                collect=True)
            for array in memory.values():
                array.give_back()
            self.reports.append(report)
            self.tell(report)

        assert self.module.launch is not None
        evaluate_launch(self.module.launch, arguments, allocate=_workspace, start=start,
                        resident_blocks=lambda: target.sm_count)

    def tell(self, report: Report) -> None:
        """Print what the kernel printed. Raises CheckError where it committed faults."""
        for line in report.printed:
            if not (report.faults and line.startswith(ASSERTION_FAILED)):
                sys.stdout.write(line)
        try:
            report.raise_if_faulty(("error", "formal"))
        except CheckError as error:
            raise CheckError([_at_operation(d, self.module) for d in error.diagnostics]) from None


def _workspace(shape: tuple[int, ...], dtype: DType, zero: bool) -> ArrayArgument:
    """Host memory in which elements lie as they do on a device."""
    strides = contiguous(shape)
    if is_held(dtype):
        array = np.zeros(shape, held_as(dtype)) if zero else poisoned(shape, dtype)
        return ArrayArgument(array, HOST, dtype, array.ctypes.data, shape, strides, True, array)
    size = byte_range(shape, strides, dtype.packed_bits)[1]
    memory = np.zeros(size, np.uint8) if zero else poisoned((size,), u8)
    return ArrayArgument(memory, HOST, dtype, memory.ctypes.data, shape, strides, True,
                         PackedElements(memory, dtype, shape, strides))


class _Memory:
    """The NumPy array over an argument's memory. That of packed elements ends with a whole word, as a device's memory
    does: kernels change single elements by atomics on words."""

    def __init__(self, argument: ArrayArgument) -> None:
        found: Any = argument.array
        self.bytes = found.bytes if isinstance(found, PackedElements) else None
        self.array = found
        if self.bytes is not None:
            missing = -len(self.bytes) % WORD_BYTES
            self.array = np.concatenate([self.bytes, np.zeros(missing, np.uint8)]) if missing else self.bytes

    def give_back(self) -> None:
        """What a kernel has written goes where the argument is."""
        if self.bytes is not None and self.array is not self.bytes and self.bytes.flags.writeable:
            self.bytes[:] = self.array[: len(self.bytes)]


def _at_operation(diagnostic: Diagnostic, module: Module) -> Diagnostic:
    """A diagnostic of the simulator, whose label is the beginning of an operation or some column of its line, at the
    whole of the one operation that it can mean, else at the whole line."""
    if not diagnostic.labels:
        return diagnostic
    label, *others = diagnostic.labels
    line = (label.span.file, label.span.line)
    here = {op.span: op for kernel in module.kernels for op in kernel.walk()
            if op.effects() and (op.span.file, op.span.line) == line}
    exact = [span for span in here if span.column == label.span.column]
    found = exact if len(exact) == 1 else list(here)
    span = found[0] if len(found) == 1 else Span.of_line(*line)
    op = here.get(span)
    if isinstance(op, DeviceAssert) and diagnostic.code == "E0704":
        return replace(diagnostic, message=op.message or "device assertion failed", labels=(Label(span),))
    return replace(diagnostic, labels=(replace(label, span=span), *others))


def check_resident(name: str, grid: Sequence[int], resident: int) -> None:
    """Raise UserError where the blocks of a cooperative launch cannot all run at once."""
    if math.prod(grid) > resident:
        raise not_resident(name, math.prod(grid), resident)
