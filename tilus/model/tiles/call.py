"""The model of a call before it is compiled: its kernels planned, laid out and followed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tilus.interp import evaluate_launch
from tilus.interp.launch import numbers_of
from tilus.ir.core import Module, Value
from tilus.ir.dtypes import DType
from tilus.ir.types import ViewType
from tilus.lowering.facts import kernel_facts
from tilus.lowering.infer_layouts import infer_layouts
from tilus.lowering.pipelines import GPU_TILE_PASSES, run_passes
from tilus.lowering.schedule.plan import plan_loops
from tilus.model.boards import Board
from tilus.model.tiles.predict import Estimate, LaunchModel, bottleneck_of
from tilus.model.tiles.windows import Window, array_window
from tilus.records import record
from tilus.runtime.arrays import ArrayArgument, byte_range, contiguous
from tilus.runtime.internal import collection_paused
from tilus.runtime.jit import Prepared
from tilus.targets import Target

PLANNED = tuple(GPU_TILE_PASSES[:1 + [run for _, run in GPU_TILE_PASSES].index(plan_loops)])
"""The passes until every loop has its schedule. Layouts are inferred for the loops as they are written: their
iterations are not doubled yet for pipelines and tails."""
OCCUPANCY_GUESS = 4
"""Blocks of a multiprocessor that ``tl.resident_blocks()`` gives, before registers have been handed out."""


def estimate(prepared: Prepared, target: Target, board: Board) -> Estimate:
    """What a call takes on a board, by the model. Raises UserError where the kernel does not trace or lower.

    Args:
        prepared: the call, which may never have been compiled.
        target: what it would be compiled for.
    """
    module = prepared.specialisation.trace(target)
    return estimate_module(module, prepared.call.arguments, target, board)


def estimate_module(module: Module, arguments: Sequence[Any], target: Target, board: Board) -> Estimate:
    """Of a traced module, which is planned in place, for the arguments of its launch function: numbers, and arrays that
    have a ``shape`` and ``strides`` in elements."""
    module.target = target.name
    with collection_paused():
        run_passes(module, PLANNED)
        infer_layouts(module)
        return _Call(module, target, board).estimate(arguments)


@record(frozen=True, eq=False)
class _Array:
    """An array of a call: what launch functions ask of one, and its window."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    window: Window

    def shaped(self, shape: tuple[int, ...]) -> _Array:
        strides = contiguous(shape)
        return _Array(shape, strides, array_window(self.window.array, self.window.bits, shape, strides))


class _Call:
    def __init__(self, module: Module, target: Target, board: Board) -> None:
        self.module, self.target, self.board = module, target, board
        self.facts = {function.name: facts for function, facts in kernel_facts(module)}
        self.sizes: dict[str, int] = {}
        self.found = Estimate()

    def estimate(self, arguments: Sequence[Any]) -> Estimate:
        launch = self.module.launch
        assert launch is not None
        given = [self._given(value, argument) for value, argument in zip(launch.body.args, arguments, strict=True)]
        evaluate_launch(launch, given, allocate=self._workspace, start=self._start,
                        resident_blocks=lambda: OCCUPANCY_GUESS * self.target.sm_count)
        slowest = max(self.found.kernels, key=lambda kernel: kernel.seconds, default=None)
        if math.isfinite(self.found.seconds):
            self.found.bottleneck = bottleneck_of(slowest) if slowest is not None else "nothing to do"
        return self.found

    def _given(self, value: Value, argument: Any) -> Any:
        if not isinstance(value.type, ViewType):
            return argument
        return self._array(value.name, value.view.dtype, argument.shape, argument.strides, _contents(argument))

    def _array(self, name: str, dtype: DType, shape: Sequence[int], strides: Sequence[int], contents: Any) -> _Array:
        bits = 8 if dtype.is_bool else dtype.packed_bits
        shape, strides = tuple(map(int, shape)), tuple(map(int, strides))
        low, high = byte_range(shape, strides, bits)
        self.sizes[name] = int(high - low)
        return _Array(shape, strides, array_window(name, bits, shape, strides, contents))

    def _workspace(self, shape: tuple[int, ...], dtype: DType, zero: bool) -> _Array:
        strides = tuple(math.prod(shape[d + 1:]) for d in range(len(shape)))
        return self._array(f"workspace {len(self.sizes)}", dtype, shape, strides, None)

    def _start(self, name: str, grid: tuple[int, ...], arguments: list[Any]) -> None:
        function = self.module.kernel(name)
        numbers = {value: argument.window if isinstance(argument, _Array) else numbers_of(argument, value.tile.dtype)
                   for value, argument in zip(function.body.args, arguments, strict=True)}
        model = LaunchModel(function, self.facts[name], grid, numbers, self.sizes, self.target, self.board)
        reason = model.refusal()
        if reason:
            self.found.seconds, self.found.bottleneck = math.inf, reason
        elif math.isfinite(self.found.seconds):
            kernel = model.estimate(self.found.counts)
            self.found.kernels.append(kernel)
            self.found.seconds += kernel.seconds
            self.found.assumed |= model.assumed


def _contents(argument: Any) -> Any:
    """The elements of a contiguous table of integers in host memory, on which loops and addresses may depend."""
    array = argument.array if isinstance(argument, ArrayArgument) else getattr(argument, "contents", None)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu" or getattr(argument, "format", None):
        return None
    return array.reshape(-1) if array.flags.c_contiguous and array.size else None


__all__ = ["estimate", "estimate_module"]
