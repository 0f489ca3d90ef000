"""The engine that runs kernels as Ascend C on the twin."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tilus.diagnostics import ToolchainError
from tilus.diagnostics.frames import caller_span
from tilus.interp import evaluate_launch
from tilus.ir.dtypes import DType
from tilus.runtime.arguments import call_error
from tilus.runtime.arrays import HOST, ArrayArgument
from tilus.runtime.ascend.core_arguments import CoreArgument
from tilus.runtime.compile import compile_specialisation
from tilus.runtime.engines import Engine, NoPlan, Runner
from tilus.runtime.specialise import Specialisation
from tilus.targets import Target, get_target

if TYPE_CHECKING:
    from tilus.twin.chips import Chip

ORDERS = ("random", "early", "late", "program")


class TwinEngine(Engine):
    """Runs on NumPy arrays what is emitted for a target: ``TARGET[:ORDER[:SEED]]``, where the order is one of those
    that flags permit (:meth:`tilus.twin.Program.run`)."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        target, _, rest = name.partition(":")
        order, _, seed = rest.partition(":")
        if (order or "random") not in ORDERS or not (seed or "0").isdecimal():
            raise call_error("E0506", f"there is no engine {name!r}",
                             help=f"{target}, or {target}:ORDER:SEED with an order of {', '.join(ORDERS)}")
        self.of, self.order, self.seed = target, order or "random", int(seed or 0)

    @property
    def target(self) -> Target:
        return get_target(self.of)

    def make(self, specialisation: Specialisation) -> Runner:
        return TwinRunner(specialisation, self.of, self.order, self.seed)


class TwinRunner(NoPlan):
    """Runs one specialisation.

    Attributes:
        order, seed: which of the orders that flags permit is taken.
        reports, launched: what the twin says of each kernel of the last call, and their names.
    """

    def __init__(self, specialisation: Specialisation, target: str, order: str, seed: int) -> None:
        self.compiled = compile_specialisation(specialisation, target)
        self.module = self.compiled.launch_module
        self.programs: dict[str, Any] = {}
        self.lock = threading.Lock()
        self.order, self.seed = order, seed
        self.reports: list[Any] = []
        self.launched: list[str] = []

    def program(self, kernel: str) -> Any:
        with self.lock:
            if kernel not in self.programs:
                self.programs[kernel] = self.build(kernel)
        return self.programs[kernel]

    def build(self, kernel: str) -> Any:
        from tilus.twin import CompilerError, build

        try:
            return build(self.compiled.ascendc, kernel, self.compiled.parameter_types(kernel))
        except CompilerError as error:
            if error.output:
                raise
            raise ToolchainError.at("E0901", f"no C++ compiler to run kernels for {self.compiled.target} here",
                                    caller_span(), help=str(error)) from None

    def run(self, arguments: Sequence[Any]) -> None:
        reports: list[Any] = []
        launched: list[str] = []

        def start(name: str, grid: tuple[int, ...], args: list[Any]) -> None:
            function = self.module.kernel(name)
            given = {p.name: a for p, a in zip(function.parameters, args, strict=True)}
            blocks = launched_blocks(self.compiled.metadata["kernels"][name]["cores"], int(np.prod(grid)))
            if blocks == 0:
                return
            names = self.compiled.arguments(name)
            written = {p.name for p in function.parameters if p.written}
            values = _apart([core_value(argument, given, grid, blocks) for argument in names],
                            [argument in written for argument in names])
            launched.append(name)
            reports.append(self.program(name).run(values, blocks=blocks, seed=self.seed, order=self.order))

        assert self.module.launch is not None
        evaluate_launch(self.module.launch, arguments, allocate=_allocate, start=start,
                        resident_blocks=lambda: _chip().cube_cores)
        self.reports, self.launched = reports, launched


def _chip() -> Chip:
    """The chip that the twin models here."""
    from tilus.twin.chips import CHIPS

    return CHIPS["ascend910b1"]


def launched_blocks(cores: str, blocks: int) -> int:
    """As many as there are cores of the kind, or blocks."""
    chip = _chip()
    return min(blocks, chip.vector_cores if cores == "AIV_ONLY" else chip.cube_cores)


def core_value(argument: CoreArgument, given: Mapping[str, Any], grid: tuple[int, ...], blocks: int) -> Any:
    """An argument of a core's program, for the kernel's arguments by name and so many launched blocks."""
    if argument.kind == "memory":
        assert argument.dtype is not None
        return np.empty(blocks * argument.size, argument.dtype.numpy)
    if argument.kind == "grid":
        return grid[argument.axis]
    value = given[argument.name]
    if argument.kind == "array":
        return _memory(value)
    if argument.kind == "number":
        return value.item() if hasattr(value, "item") else value
    return int(getattr(value, argument.kind)[argument.axis])


def _apart(values: list[Any], written: list[bool]) -> list[Any]:
    """Copies of the arrays that are only read and overlap others: the twin has one allocation for each."""
    arrays = [v if isinstance(v, np.ndarray) else None for v in values]

    def meets(n: int) -> bool:
        mine = arrays[n]
        return mine is not None and not written[n] and any(
            other is not None and m != n and np.may_share_memory(mine, other) for m, other in enumerate(arrays))

    return [value.copy() if meets(n) else value for n, value in enumerate(values)]


def _memory(array: ArrayArgument) -> np.ndarray[Any, Any]:
    """The bytes from an array's first element to its last one."""
    low, high = array.extent_bytes()
    if low < 0:
        raise call_error("E0507", "the twin runs kernels on arrays whose first element is the lowest in memory",
                         help="pass a copy: np.ascontiguousarray(array)")
    return np.ctypeslib.as_array((ctypes.c_uint8 * max(high, 1)).from_address(array.address))


def _allocate(shape: tuple[int, ...], dtype: DType, zero: bool) -> ArrayArgument:
    array = np.zeros(shape, dtype.numpy)
    strides = tuple(s // array.itemsize for s in array.strides)
    return ArrayArgument(array, HOST, dtype, array.ctypes.data, shape, strides, True, array)
