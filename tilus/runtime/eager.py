"""The ``python`` engine: Python itself runs the kernel's body, once per block, on NumPy values; debuggers work."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from tilus.diagnostics import Span, UnsupportedError, UserError
from tilus.diagnostics.frames import frame_span
from tilus.interp import tiles
from tilus.interp.evaluate import evaluate
from tilus.interp.launch import RESIDENT_BLOCKS, bind_array, host_array, numbers_of
from tilus.interp.machine import BlockRun, Grid
from tilus.interp.memory import poisoned
from tilus.interp.numbers import held_as
from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import GridSync, Group, NamedBarrier, ResidentBlocks, WaitUntil
from tilus.ir.types import TileType, Type, ViewType
from tilus.lang.context import use_context
from tilus.lang.signature import parameter_type_of
from tilus.lang.values import Tile, View, as_tile
from tilus.runtime.specialise import Specialisation
from tilus.targets import Target

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class EagerValue(Value):
    """A value that is known."""

    __slots__ = ("data",)

    def __init__(self, type: Type, data: Any = None, name: str = "") -> None:
        super().__init__(type, name)
        self.data = data


class _Values(dict[Value, Any]):
    """The interpreter's environment over values that hold their own data."""

    def __getitem__(self, value: Value) -> Any:
        return value.data  # type: ignore[attr-defined]

    def __setitem__(self, value: Value, data: Any) -> None:
        value.data = data  # type: ignore[attr-defined]

    def update(self, pairs: Any) -> None:
        for value, data in pairs:
            value.data = data


class _EmptyGrid(Exception):
    """The grid has no blocks: the body goes no further."""


class EagerContext:
    """Evaluates each operation at once. One for each launch; ``begin`` starts a block."""

    level = "tile"
    target: Target | None = None

    def __init__(self) -> None:
        self.extents: tuple[int, ...] | None = None
        self.grid = Grid((1,), 4)
        self.index: tuple[int, ...] = (0,)
        self.workspaces: list[EagerValue] = []
        self.declared = 0

    def begin(self, index: tuple[int, ...]) -> None:
        self.index = index
        self.declared = 0
        self.block = BlockRun(self.grid, index, _Values())
        self.seen_grid = False

    @property
    def span(self) -> Span:
        """The user's innermost line."""
        frame: Any = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
            frame = frame.f_back
        return Span("", 0) if frame is None else frame_span(frame)

    @span.setter
    def span(self, value: Span) -> None:
        """Python itself knows where it is."""

    def emit(self, op: Operation) -> tuple[Value, ...]:
        results = evaluate(op, self.block.get)
        if results is not None:
            return tuple(EagerValue(v.type, data) for v, data in zip(op.results, results, strict=True))
        if isinstance(op, (Group, NamedBarrier, GridSync)):
            raise UnsupportedError.at("E0507", f"the python engine cannot run {op.NAME}: its blocks and groups run one "
                                               "after another", op.span, help='use kernel.on("interpret")')
        op.results = tuple(EagerValue(v.type) for v in op.results)
        if isinstance(op, ResidentBlocks):
            op.result.data = np.asarray(RESIDENT_BLOCKS, np.int32)  # type: ignore[attr-defined]
        elif isinstance(op, WaitUntil):
            for waiting in self.block.step(op, self.block.main):
                if not waiting.ready():
                    raise UserError.at("E0705", "deadlock: waiting for a block that has not run", op.span)
        else:
            self.block.execute(op, self.block.main)
        return op.results

    def concrete(self, value: Value) -> Any:
        data = value.data  # type: ignore[attr-defined]
        return data.item() if isinstance(data, np.ndarray) and data.ndim == 0 and data.dtype.kind in "biuf" else data

    def declare_grid(self, extents: tuple[Tile, ...]) -> tuple[Tile, ...]:
        if self.seen_grid:
            raise UserError.at("E0106", "tl.grid appears twice", self.span,
                               help="declare all axes of the grid in one call")
        self.seen_grid = True
        if not 1 <= len(extents) <= 3:
            raise UserError.at("E0107", f"a grid has one to three axes, not {len(extents)}", self.span)
        if self.extents is None:
            self.extents = tuple(int(self.concrete(e.value)) for e in extents)
            self.grid.extents = self.extents
            if self.grid.blocks == 0:
                raise _EmptyGrid
            self.index = self.block.index = self.block.main.block = (0,) * len(self.extents)
        return tuple(_index(i) for i in self.index)

    def declare_block(self, **attributes: Any) -> None:
        self.grid.warps = int(attributes.get("warps", self.grid.warps))

    def declare_workspace(self, extents: tuple[Tile, ...], dtype: DType, zero: bool) -> Value:
        if self.declared == len(self.workspaces):
            shape = tuple(max(0, int(self.concrete(e.value))) for e in extents)
            array = np.zeros(shape, held_as(dtype)) if zero else poisoned(shape, dtype)
            name = f"workspace{self.declared}"
            data = bind_array(name, array, dtype, initialised=zero, tracked=False)
            self.workspaces.append(EagerValue(ViewType(dtype, (None,) * len(shape)), data, name))
        self.declared += 1
        return self.workspaces[self.declared - 1]


    def grid_counter(self) -> None:
        """The interpreter counts the blocks."""

    def declare_alias(self, names: tuple[str, ...]) -> None:
        """The order of Python is the order of the program."""

    def map_elements(self, function: Any, xs: list[Tile]) -> tuple[list[Tile], bool]:
        """The function runs once per element, in Python."""
        arrays = [x.value.data for x in xs]  # type: ignore[attr-defined]
        outs: list[Any] = []
        types: list[DType] = []
        single = True
        for at in np.ndindex(arrays[0].shape):
            result = function(*(_scalar(a[at], x.dtype) for a, x in zip(arrays, xs, strict=True)))
            single = not isinstance(result, (tuple, list))
            values = [as_tile(v) for v in ((result,) if single else result)]
            if not outs:
                types = [v.dtype for v in values]
                outs = [np.zeros(arrays[0].shape, held_as(t)) for t in types]
            for out, value in zip(outs, values, strict=True):
                out[at] = value.value.data  # type: ignore[attr-defined]
        return [Tile(EagerValue(TileType(t, o.shape), o)) for t, o in zip(types, outs, strict=True)], single

    def combine_along(self, combine: Any, xs: list[Tile], axis: int, reverse: bool | None) -> list[Tile]:
        dtypes = [x.dtype for x in xs]

        def run(left: list[Any], right: list[Any]) -> list[Any]:
            outs = [np.zeros(np.shape(left[0]), held_as(t)) for t in dtypes]
            for at in np.ndindex(np.shape(left[0])):
                args = [_scalar(a[at], t) for side in (left, right) for a, t in zip(side, dtypes, strict=True)]
                result = combine(*args)
                values = result if isinstance(result, (tuple, list)) else (result,)
                for out, value, t in zip(outs, values, dtypes, strict=True):
                    out[at] = as_tile(value, t).value.data  # type: ignore[attr-defined]
            return outs

        arrays = [x.value.data for x in xs]  # type: ignore[attr-defined]
        results = tiles.reduce_with(arrays, axis, run) if reverse is None else \
            tiles.scan_with(arrays, axis, run, reverse)
        return [Tile(EagerValue(TileType(t, r.shape), r)) for t, r in zip(dtypes, results, strict=True)]


def _scalar(value: Any, dtype: DType) -> Tile:
    return Tile(EagerValue(TileType(dtype), np.asarray(value, held_as(dtype))))


def _index(i: int) -> Tile:
    from tilus.ir.dtypes import i64

    return Tile(EagerValue(TileType(i64), np.asarray(i, np.int64)))


def run_eagerly(specialisation: Specialisation, arguments: Sequence[Any]) -> None:
    """Run the body for every block, in increasing order."""
    context = EagerContext()
    values: dict[str, Any] = dict(specialisation.constants)
    for parameter, argument in zip(specialisation.parameters, arguments, strict=True):
        spec = next(s for s in specialisation.signature.specs if s.name == parameter.name)
        annotation = specialisation.signature.annotation(spec, specialisation.constants)
        dtype = parameter_type_of(annotation)
        if isinstance(dtype, DType):
            values[parameter.name] = Tile(EagerValue(TileType(dtype), numbers_of(argument, dtype), parameter.name))
        else:
            array = host_array(argument, dtype.dtype).array
            data = bind_array(parameter.name, array, dtype.dtype, initialised=True, tracked=False)
            value = EagerValue(ViewType(dtype.dtype, parameter.shape), data, parameter.name)
            dims = tuple(n if n is not None else _index(array.shape[d]) for d, n in enumerate(parameter.shape))
            values[parameter.name] = View(value, dims)
    function = specialisation.captured.function
    ordered = {name: values[name] for name in specialisation.signature.names}
    with use_context(context):
        try:
            context.begin((0,))
            function(**ordered)
        except _EmptyGrid:
            return
        if context.extents is None:
            raise UserError.at("E0106", f"{specialisation.captured.name} does not declare a grid",
                               specialisation.captured.span(specialisation.captured.node))
        order = itertools.product(*(range(extent) for extent in reversed(context.extents)))
        for index in itertools.islice(order, 1, None):
            context.begin(tuple(reversed(index)))
            function(**ordered)
