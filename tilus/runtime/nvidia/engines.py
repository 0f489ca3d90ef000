"""Engines that run compiled GPU code: on a GPU through CuPy, and on the PTX simulator."""

from __future__ import annotations

import functools
import math
import re
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tilus.backends import Options
from tilus.codegen.cuda.prelude import PRELUDE_FILE
from tilus.diagnostics import CheckError, Diagnostic, Label, Span, ToolchainError, UnsupportedError, UserError
from tilus.diagnostics.frames import caller_span
from tilus.interp import evaluate_launch
from tilus.interp.memory import poisoned
from tilus.interp.numbers import held_as
from tilus.interp.packing import PackedElements
from tilus.ir.core import Module
from tilus.ir.dtypes import DType, parse_dtype, u8
from tilus.ir.ops import DeviceAssert
from tilus.ir.ops.simt import ASSERTION_FAILED
from tilus.lowering.schedule.raster import launched_grid
from tilus.runtime.arguments import WORD_BYTES, call_error
from tilus.runtime.arrays import CUDA, HOST, ArrayArgument, byte_range, contiguous
from tilus.runtime.compile import compile_specialisation
from tilus.runtime.engines import Engine, NoPlan, Runner
from tilus.runtime.nvidia.build import ROUTES, GpuRoute, PtxKernel, compile_ptx
from tilus.runtime.nvidia.launch_facts import LaunchFacts, formats_of
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


def _route_of(parts: Sequence[str]) -> GpuRoute | None:
    """The route that the rest of an engine's name says, the default for none; None where there is no such route."""
    if not parts:
        return next(iter(ROUTES.values()))
    return ROUTES.get(parts[0]) if len(parts) == 1 else None


class SimulateEngine(Engine):
    """``simulate:sm_80``, ``simulate:sm_80:ptx``: the PTX of a route on the simulator."""

    kind = HOST

    def __init__(self, name: str) -> None:
        super().__init__(name)
        parts = name.split(":")
        route = _route_of(parts[2:]) if len(parts) > 1 else None
        if route is None:
            raise call_error("E0506", f"there is no engine {name!r}", help="simulate:sm_80, simulate:sm_80:ptx")
        self.simulated = get_target(parts[1], caller_span())
        if not self.simulated.is_cuda:
            raise call_error("E0506", f"there is no engine {name!r}: {self.simulated} is no GPU")
        self.route = route

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
        raise call_error("E0606", f"{name} is cooperative, but the device holds {resident} of its {math.prod(grid)} "
                                  "blocks at once", help="size the grid by tl.resident_blocks()")


class CudaEngine(Engine):
    """``cuda``, ``cuda:ptx``, ``cuda:cuda``: the GPU that the arrays are on, through CuPy, with code of a route."""

    kind = CUDA
    timed = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        route = _route_of(name.split(":")[1:])
        if route is None:
            raise call_error("E0506", f"there is no engine {name!r}", help="cuda, cuda:ptx, cuda:cuda")
        self.route = route

    @property
    def target(self) -> Target:
        """That fits the current device."""
        runtime = cupy_module().cuda.runtime
        return get_target(device_target(runtime.getDeviceProperties(runtime.getDevice())))

    def make(self, specialisation: Specialisation) -> Runner:
        return _Cuda(specialisation, self.route)


def cupy_module() -> Any:
    """CuPy. Raises ToolchainError (E0901) where it is not installed."""
    try:
        import cupy
    except ImportError as error:
        raise ToolchainError.at("E0901", "running on a GPU needs CuPy, which is not installed",
                                help="pip install 'tilus[cuda]'") from error
    return cupy


class _Cuda(NoPlan):
    """Cubins are compiled per architecture at the first call on a device of it."""

    def __init__(self, specialisation: Specialisation, route: GpuRoute) -> None:
        self.specialisation, self.route = specialisation, route
        specialisation.trace()  # says which arrays are written
        self.functions: dict[tuple[int, bool], Any] = {}

    def formats(self, arguments: Sequence[Any]) -> dict[str, str]:
        return formats_of(self.function(device_of(cupy_module(), arguments))[1])

    def function(self, device: int, folded: bool = False) -> tuple[dict[str, Any], dict[str, LaunchFacts], int, Module]:
        """The loaded kernels, what launching each takes, how many blocks of the first the device holds at once, and the
        module with the launch function."""
        found = self.functions.get((device, folded))
        if found is None:
            cupy = cupy_module()
            properties = cupy.cuda.runtime.getDeviceProperties(device)
            compiled = compile_specialisation(self.specialisation, device_target(properties),
                                              self.route.name, Options(folded=folded))
            module = cupy.cuda.function.Module()
            module.load(compiled.cubin)
            facts = compiled.launches
            kernels = {name: module.get_function(name) for name in facts}
            for name, kernel in kernels.items():
                if facts[name].dynamic_shared_bytes > 48 * 1024:
                    driver = cupy.cuda.driver
                    driver.funcSetAttribute(kernel.ptr, driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                            facts[name].dynamic_shared_bytes)
            first = facts[compiled.metadata["kernel"]]
            target = get_target(compiled.target)
            per_sm = target.resident_blocks(first.threads, first.registers, first.dynamic_shared_bytes)
            found = self.functions[device, folded] = (kernels, facts, per_sm * properties["multiProcessorCount"],
                                              compiled.launch_module)
        return found

    def run(self, arguments: Sequence[Any]) -> None:
        cupy = cupy_module()
        device = device_of(cupy, arguments)
        with cupy.cuda.Device(device), current(cupy, stream_of(cupy, arguments)) as stream:
            kernels, facts, resident, module = self.function(device)
            keep: list[Any] = []

            def allocate(shape: tuple[int, ...], dtype: DType, zero: bool) -> ArrayArgument:
                array = (cupy.zeros if zero else cupy.empty)(shape, held_as(dtype))
                keep.append(array)
                strides = tuple(s // array.itemsize for s in array.strides)
                return ArrayArgument(array, CUDA, dtype, int(array.data.ptr), shape, strides, True)

            def start(name: str, grid: tuple[int, ...], args: list[Any]) -> None:
                kernel, launch = kernels[name], facts[name]
                if has_to_be_folded(launch, grid):
                    others, folded, _, _ = self.function(device, folded=True)
                    kernel, launch = others[name], folded[name]
                blocks, values = pack(launch, grid, module, name, args)
                packed = tuple(_device_value(v, t) for v, t in values)
                if launch.cooperative:
                    check_resident(name, grid, resident)
                kernel(blocks, (launch.threads, 1, 1), packed, shared_mem=launch.dynamic_shared_bytes,
                       stream=stream, enable_cooperative_groups=launch.cooperative)

            assert module.launch is not None
            evaluate_launch(module.launch, arguments, allocate=allocate, start=start,
                            resident_blocks=lambda: resident)


def device_target(properties: dict[str, Any]) -> str:
    """The target that fits a device: the one of its architecture, or the newest one below it of the same family."""
    arch = properties["major"] * 10 + properties["minor"]
    for name in (f"sm_{arch}a", f"sm_{arch}"):
        try:
            return get_target(name).name
        except UserError:
            continue
    older = [n for n in (120, 100, 90, 89, 86, 80, 75, 70) if n // 10 == arch // 10 and n < arch]
    if not older:
        raise UnsupportedError.at("E0501", f"no target fits the device, which is sm_{arch}")
    return f"sm_{older[0]}"


def device_of(cupy: Any, arguments: Sequence[Any]) -> int:
    """The number of the device that the arrays among some arguments are on. Raises UserError: they are on several."""
    devices = set()
    for argument in arguments:
        if isinstance(argument, ArrayArgument) and argument.address:
            devices.add(int(cupy.cuda.runtime.pointerGetAttributes(argument.address).device))
    if len(devices) > 1:
        raise UserError.at("E0601", f"the arrays are on several devices: {sorted(devices)}")
    return devices.pop() if devices else int(cupy.cuda.Device().id)


def stream_of(cupy: Any, arguments: Sequence[Any]) -> Any:
    """torch's current stream for torch tensors, CuPy's otherwise."""
    for argument in arguments:
        if isinstance(argument, ArrayArgument) and type(argument.owner).__module__.split(".")[0] == "torch":
            import torch

            return cupy.cuda.ExternalStream(torch.cuda.current_stream(argument.owner.device).cuda_stream)
    return cupy.cuda.get_current_stream()


def current(cupy: Any, stream: Any) -> AbstractContextManager[Any]:
    """A stream as CuPy's current one, on which it also zeroes workspaces and copies."""
    return nullcontext(stream) if stream.ptr == cupy.cuda.get_current_stream().ptr else stream


def _device_value(value: Any, type_: str) -> Any:
    """An argument as CuPy's launcher takes it: a NumPy scalar of the parameter's size."""
    if type_ == "pointer":
        return np.uint64(value.address)
    dtype = parse_dtype(type_)
    if dtype.name == "bf16":
        return np.asarray(value, dtype.numpy).view(np.uint16)[()]
    return dtype.numpy.type(value)
