"""The launch function, and all blocks of a kernel in increasing order."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import numpy as np

from tilus.diagnostics import CheckError, Diagnostic, Label
from tilus.interp import numbers
from tilus.interp.evaluate import evaluate
from tilus.interp.machine import BlockRun, Grid, Strand, Waiting
from tilus.interp.memory import Memory, View, poisoned, whole
from tilus.interp.numbers import Array
from tilus.interp.packing import PackedElements
from tilus.ir.core import Function, Module, Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import DeviceAssert, Dim, Launch, ResidentBlocks, ShapedView, Stride, Workspace, Yield
from tilus.records import record
from tilus.targets.grid import check_blocks

RESIDENT_BLOCKS = 8
"""What tl.resident_blocks() gives in the interpreter."""


@record(frozen=True)
class ArrayArgument:
    """What a launch function asks of an array: its extents and strides in elements."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]


def evaluate_launch(launch: Function, arguments: Sequence[Any], *,
                    allocate: Callable[[tuple[int, ...], DType, bool], Any],
                    start: Callable[[str, tuple[int, ...], list[Any]], None],
                    resident_blocks: Callable[[], int]) -> None:
    """Evaluate a launch function.

    Args:
        arguments: one value per parameter: for arrays anything with ``shape`` and ``strides`` in elements (or a pair
            of such an object's), and ``shaped``, which gives the same for the same memory under another shape; for
            scalars a number.
        allocate: makes a workspace of a shape and element type, zero-filled where asked.
        start: runs a kernel over a grid (never one with an empty extent) on arguments and workspaces.
        resident_blocks: how many blocks run at once.

    Raises:
        CheckError: an assertion on the arguments fails (E0704).
        UserError: the grid has too many blocks (E0606).
    """
    env: dict[Value, Any] = {}
    for value, argument in zip(launch.body.args, arguments, strict=True):
        is_scalar = hasattr(value.type, "is_scalar")
        env[value] = numbers_of(argument, value.tile.dtype) if is_scalar else argument
    for op in launch.body.ops:
        if isinstance(op, Yield):
            break
        if isinstance(op, Workspace):
            env[op.result] = allocate(tuple(max(0, int(env[e])) for e in op.extents), op.dtype, op.zero)
        elif isinstance(op, Launch):
            grid = tuple(int(env[g]) for g in op.grid)
            check_blocks(grid, op.span)
            if all(extent > 0 for extent in grid):
                start(op.kernel, grid, [env[a] for a in op.args])
        elif isinstance(op, ShapedView):
            env[op.result] = env[op.view].shaped(tuple(max(0, int(env[e])) for e in op.extents))
        elif isinstance(op, DeviceAssert):
            if not env[op.condition]:
                raise CheckError.at("E0704", op.message or "assertion failed", op.span)
        elif isinstance(op, Dim):
            env[op.result] = np.asarray(env[op.view].shape[op.axis], np.int64)
        elif isinstance(op, Stride):
            env[op.result] = np.asarray(env[op.view].strides[op.axis], np.int64)
        elif isinstance(op, ResidentBlocks):
            env[op.result] = np.asarray(resident_blocks(), np.int32)
        else:
            results = evaluate(op, env.__getitem__)
            assert results is not None, op.NAME
            env.update(zip(op.results, results, strict=True))


def numbers_of(value: Any, dtype: DType) -> Array:
    """A scalar argument in the interpreter's representation."""
    return numbers.constant(value, dtype, ())


@record(frozen=True, eq=False)
class HostArray:
    """A NumPy array as a launch function and a kernel see it."""

    array: Array | PackedElements
    of: HostArray | None = None

    @property
    def memory(self) -> int:
        """The same for all views of an array."""
        return id(self.array) if self.of is None else self.of.memory

    def shaped(self, shape: tuple[int, ...]) -> HostArray:
        assert isinstance(self.array, np.ndarray)
        return HostArray(self.array.reshape(-1)[: math.prod(shape)].reshape(shape), self)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(s // self.array.itemsize for s in self.array.strides)


def host_array(array: Array | PackedElements, dtype: DType) -> HostArray:
    """An argument's elements in the interpreter's representation; the same memory."""
    held = numbers.held_as(dtype)
    return HostArray(array if isinstance(array, PackedElements) or array.dtype == held else array.view(held))


def interpret(module: Module, arguments: Sequence[Any], *, output: TextIO | None = None,
              check_races: bool = True) -> None:
    """Run a tile module on NumPy arrays and numbers, one for each parameter of its launch function.

    Raises:
        CheckError: a device assertion fails (E0704); a read of memory nobody has written (E0702), a race (E0701), a
            copy that is used before its wait (E0706), a deadlock (E0705), an access beyond shared memory (E0703).
    """
    assert module.launch is not None
    values = [
        argument if hasattr(value.type, "is_scalar") else host_array(argument, value.view.dtype)
        for value, argument in zip(module.launch.body.args, arguments, strict=True)
    ]
    fresh: set[int] = set()

    def allocate(shape: tuple[int, ...], dtype: DType, zero: bool) -> HostArray:
        array = np.zeros(shape, numbers.held_as(dtype)) if zero else poisoned(shape, dtype)
        if not zero:
            fresh.add(id(array))
        return HostArray(array)

    def start(name: str, grid: tuple[int, ...], args: list[Any]) -> None:
        kernel = module.kernel(name)
        run_kernel(kernel, grid, args, fresh, output or sys.stdout, check_races)
        # For later kernels of the launch a workspace is what an earlier one has left in it.
        fresh.difference_update(a.memory for p, a in zip(kernel.parameters, args, strict=True) if p.written
                                and isinstance(a, HostArray))

    evaluate_launch(module.launch, values, allocate=allocate, start=start, resident_blocks=lambda: RESIDENT_BLOCKS)


def run_kernel(kernel: Function, extents: tuple[int, ...], args: list[Any], fresh: set[int], output: TextIO,
               check_races: bool) -> None:
    """All blocks of one kernel."""
    attributes = kernel.attributes
    grid = Grid(extents, attributes.warps, attributes.cooperative, output)
    env: dict[Value, Any] = {}
    for parameter, value, argument in zip(kernel.parameters, kernel.body.args, args, strict=True):
        if isinstance(argument, HostArray):
            env[value] = bind_array(value.name, argument.array, value.view.dtype,
                                    initialised=argument.memory not in fresh,
                                    tracked=check_races and parameter.written)
        else:
            env[value] = argument if isinstance(argument, np.ndarray) else numbers_of(argument, value.tile.dtype)
    order = itertools.product(*(range(extent) for extent in reversed(extents)))
    # The first axis varies fastest.
    blocks = (BlockRun(grid, tuple(reversed(index)), dict(env)) for index in order)
    if grid.cooperative:
        _together([(b, b.run(kernel.body)) for b in blocks])
    else:
        for block in blocks:
            _alone(block, block.run(kernel.body))


def bind_array(name: str, array: Array | PackedElements, dtype: DType, *, initialised: bool, tracked: bool) -> View:
    return whole(Memory(f"{name!r}", array, dtype, "global", initialised=initialised, tracked=tracked))


def _alone(block: BlockRun, strand: Strand) -> None:
    """A block that may wait only for lower ones, which have all ended."""
    for waiting in strand:
        if not waiting.ready():
            raise deadlock([(block.main.where, waiting)], cooperative=False)


def _together(blocks: list[tuple[BlockRun, Strand]]) -> None:
    """Blocks that are all resident, in turn."""
    waiting: dict[int, Waiting] = {}
    rest = list(enumerate(blocks))
    while rest:
        moved = False
        for entry in list(rest):
            number, (_, strand) = entry
            if number in waiting and not waiting[number].ready():
                continue
            moved = True
            try:
                waiting[number] = next(strand)
            except StopIteration:
                rest.remove(entry)
        if not moved:
            raise deadlock([(block.main.where, waiting[number]) for number, (block, _) in rest], cooperative=True)


def deadlock(blocked: list[tuple[str, Waiting]], *, cooperative: bool) -> CheckError:
    """The error where none of these (what they are, what they wait for) can go on."""
    who, waiting = blocked[0]
    help = None if cooperative or waiting.what != "a semaphore" else \
        "blocks may wait for lower ones only; tl.block(cooperative=True) lifts this"
    labels = tuple(Label(w.span, f"{where} waits for {w.what}") for where, w in blocked[:3] if w.span.known)
    return CheckError(Diagnostic("E0705", f"deadlock: {who} waits for {waiting.what}, which never comes", labels, help))


__all__ = ["ArrayArgument", "HostArray", "bind_array", "deadlock", "evaluate_launch", "interpret", "run_kernel"]
