"""The ``python`` engine: Python itself runs the kernel's body, once per block, on NumPy values; debuggers work."""

from __future__ import annotations

import ast
import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tilus.diagnostics import UNKNOWN_SPAN, CheckError, Span, UnsupportedError, UserError
from tilus.diagnostics.frames import ENTRY_MARK, frame_span, raising_span
from tilus.interp import tiles
from tilus.interp.evaluate import evaluate
from tilus.interp.launch import RESIDENT_BLOCKS, bind_array, host_array, numbers_of
from tilus.interp.machine import BlockRun, Grid, Waiting
from tilus.interp.memory import Task, poisoned
from tilus.interp.numbers import held_as
from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import Groups, ResidentBlocks
from tilus.ir.ops.groups import Warps, named_warps, share_warps
from tilus.ir.types import TileType, Type, ViewType
from tilus.lang.builtins.sync import group
from tilus.lang.capture import CapturedFunction, assertion_at, span_of
from tilus.lang.context import current, use_context
from tilus.lang.group_bodies import with_group_functions
from tilus.lang.signature import parameter_type_of
from tilus.lang.values import Tile, as_tile
from tilus.lang.views import View
from tilus.runtime.arguments import check_written
from tilus.runtime.arrays import ArrayArgument
from tilus.runtime.lockstep import Lockstep
from tilus.runtime.specialise import Specialisation
from tilus.targets import Target
from tilus.targets.grid import check_blocks

_OF_TILES = ("'Tile'", "'View'", "'tilus'", "a tile or scalar", "a view of an array")
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


def _is_of_tiles(text: str) -> bool:
    name = text.partition("()")[0].rpartition(".")[2]
    return any(word in text for word in _OF_TILES) or ("()" in text and hasattr(sys.modules["tilus"], name))


def _in_words(error: Exception) -> tuple[str, str]:
    """Code and message for an error that Python raised on a tile."""
    if "__array_ufunc__" in str(error):
        return "E0113", "a NumPy function is given a run-time value: use that of tilus"
    if isinstance(error, AttributeError):
        return "E0114", str(error)
    return "E0107", f"{type(error).__name__}: {error}"


class _EmptyGrid(Exception):
    """The grid has no blocks: the body goes no further."""


class Launch:
    """What the blocks of a launch share."""

    def __init__(self, specialisation: Specialisation, given: dict[str, ArrayArgument]) -> None:
        self.specialisation, self.given = specialisation, given
        self.may_alias: set[str] = set()
        self.extents: tuple[int, ...] | None = None
        self.grid = Grid((1,), 4)
        self.workspaces: list[EagerValue] = []
        self.lockstep = Lockstep(self._start_more)
        self._blocks: Iterator[tuple[int, ...]] | None = None

    def will_write(self, name: str) -> None:
        """Before the first write to an argument."""
        check_written(name, self.given, self.may_alias, self.specialisation.signature.span(name))
        self.specialisation.written = frozenset({name}) | (self.specialisation.written or frozenset())

    def run(self, function: Callable[[], None]) -> None:
        """All blocks, in increasing order; of a cooperative launch others while one waits."""
        self.function = function
        try:
            self._run_block((0,))
            for index in self._others():
                self._run_block(index)
            self.lockstep.finish()
        except BaseException as error:
            self.lockstep.stop(error)
            raise

    def _others(self) -> Iterator[tuple[int, ...]]:
        """The blocks that have not begun; the first axis varies fastest."""
        if self._blocks is None and self.extents is not None:
            order = itertools.product(*(range(extent) for extent in reversed(self.extents)))
            self._blocks = (tuple(reversed(index)) for index in itertools.islice(order, 1, None))
        return self._blocks or iter(())

    def _start_more(self) -> bool:
        index = next(self._others(), None) if self.lockstep.cooperative else None
        if index is not None:
            self.lockstep.spawn(f"block {index}", lambda: self._run_block(index))
        return index is not None

    def _run_block(self, index: tuple[int, ...]) -> None:
        block = BlockRun(self.grid, index, _Values())
        context = EagerContext(self, block, block.main)
        context.run(self.function)
        context.join_groups()


class EagerContext:
    """Evaluates each operation at once: those of a block, or of a thread group of it."""

    level = "tile"
    target: Target | None = None

    def __init__(self, launch: Launch, block: BlockRun, task: Task) -> None:
        self.launch, self.block, self.task = launch, block, task
        self.grid, self.workspaces, self.lockstep = launch.grid, launch.workspaces, launch.lockstep
        self.index = block.index
        self.declared = 0
        self.seen_grid = self.asks_resident_blocks = False
        self.groups: dict[int, Warps] = {}  # those that have not ended
        self.asked = ("", 0)  # file and line where Python last took a tile for a number or a bool

    def run(self, function: Callable[[], None]) -> None:
        """Run a function of the user's in this context. Raises CheckError (E0704) where an ``assert`` in it fails."""
        try:
            with use_context(self):
                function()
        except AssertionError as error:
            span = raising_span(error)
            statement = assertion_at(span) if span is not None else None
            if span is None or statement is None:
                raise
            raise self._failed(statement, str(error), span.file) from error
        except (AttributeError, TypeError) as error:
            # What Python says of tiles, as the other engines say it; of other objects it says it itself.
            span = raising_span(error)
            if span is None or not _is_of_tiles(str(error)):
                raise
            raise UserError.at(*_in_words(error), span) from error

    def _failed(self, statement: ast.Assert, message: str, file: str) -> UserError:
        """The error of an ``assert``: of run-time values where the last of those that Python asked for stood in it."""
        message, span = message or ast.unparse(statement.test), span_of(file, statement)
        if self.asked[0] == file and statement.lineno <= self.asked[1] <= (statement.end_lineno or 0):
            return CheckError.at("E0704", message, span, notes=(f"in {self.task.where}",))
        return UserError.at("E0108", f"static assertion failed: {message}", span)

    def run_group(self, manager: Any, body: Callable[[], None]) -> None:
        """Start a thread group beside what follows; the block's next operation that is no arithmetic waits for it, and
        run-time control flow does."""
        if not isinstance(manager, group):
            raise UserError.at("E0101", f"`with` on a {type(manager).__name__} is not supported in a kernel", self.span,
                               help="`with tl.group(...)` is")
        if self.task is not self.block.main:
            raise UserError.at("E0106", "a thread group stands inside another one", self.span)
        warps, span, number = (manager.first, manager.count), self.span, next(self.launch.grid.numbers)
        before = [n for n, others in self.groups.items() if share_warps(others, warps)]
        self.groups[number] = warps

        def run() -> None:
            self.lockstep.wait(Waiting(lambda: self.groups.keys().isdisjoint(before), span, "the groups before it"))
            task = self.block.group_task(warps, span)
            EagerContext(self.launch, self.block, task).run(body)
            del self.groups[number]
            self.block.end_group(task)

        self.lockstep.spawn(f"{self.task.where}, {named_warps(warps)}", run)

    def join_groups(self) -> None:
        """The block waits for its groups."""
        if self.task is self.block.main:
            self.lockstep.wait(Waiting(lambda: not self.groups, UNKNOWN_SPAN, "its thread groups"))
            self.block.join_groups()

    @staticmethod
    def _user_frame() -> Any:
        """The user's innermost frame."""
        frame: Any = sys._getframe(1)
        while frame is not None and (frame.f_code.co_filename.startswith(_PACKAGE)
                                     or ENTRY_MARK in frame.f_code.co_varnames):
            frame = frame.f_back
        return frame

    @property
    def span(self) -> Span:
        """The user's innermost line."""
        frame = self._user_frame()
        return UNKNOWN_SPAN if frame is None else frame_span(frame)

    @span.setter
    def span(self, value: Span) -> None:
        """Python itself knows where it is."""

    def emit(self, op: Operation) -> tuple[Value, ...]:
        results = evaluate(op, self.block.get)
        if results is not None:
            return tuple(EagerValue(v.type, data) for v, data in zip(op.results, results, strict=True))
        if isinstance(op, Groups):
            raise UnsupportedError.at("E0507", "the python engine runs the thread groups of functions decorated with "
                                      "@tl.jit only", op.span, help="decorate the function that this stands in")
        op.results = tuple(EagerValue(v.type) for v in op.results)
        if isinstance(op, ResidentBlocks):
            op.result.data = np.asarray(RESIDENT_BLOCKS, np.int32)  # type: ignore[attr-defined]
            return op.results
        self.join_groups()
        for waiting in self.block.step(op, self.task):
            self.lockstep.wait(waiting)
        return op.results

    def concrete(self, value: Value) -> Any:
        frame = self._user_frame()
        if frame is not None:
            self.asked = (frame.f_code.co_filename, frame.f_lineno)
        data = value.data  # type: ignore[attr-defined]
        return data.item() if isinstance(data, np.ndarray) and data.ndim == 0 and data.dtype.kind in "biuf" else data

    def declare_grid(self, extents: tuple[Tile, ...]) -> tuple[Tile, ...]:
        if self.seen_grid:
            raise UserError.at("E0106", "tl.grid appears twice", self.span,
                               help="declare all axes of the grid in one call")
        self.seen_grid = True
        if not 1 <= len(extents) <= 3:
            raise UserError.at("E0107", f"a grid has one to three axes, not {len(extents)}", self.span)
        if self.launch.extents is None:
            self.launch.extents = self.grid.extents = tuple(int(self.concrete(e.value)) for e in extents)
            check_blocks(self.grid.extents, self.span)
            if self.grid.blocks == 0:
                raise _EmptyGrid
            self.index = self.block.index = self.block.main.block = (0,) * len(extents)
        return tuple(_index(i) for i in self.index)

    def declare_block(self, **attributes: Any) -> None:
        self.grid.warps = int(attributes.get("warps", self.grid.warps))
        if attributes.get("cooperative"):
            self.grid.cooperative = self.lockstep.cooperative = True

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
        """The order of Python is the order of the program; only the arguments are checked by this."""
        self.launch.may_alias.update(names)

    def map_elements(self, function: Any, xs: list[Tile]) -> tuple[list[Tile], bool]:
        """The function runs once per element, in Python."""
        arrays = [x.value.data for x in xs]  # type: ignore[attr-defined]
        if not arrays[0].size:
            return self._map_nothing(function, xs)
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

    def _map_nothing(self, function: Any, xs: list[Tile]) -> tuple[list[Tile], bool]:
        """A function that runs for no element is traced: that gives the types of its results."""
        from tilus.lang.trace_context import TraceContext
        from tilus.lang.tracer import Tracer

        tracing = TraceContext(Tracer, self.target)
        with use_context(tracing):
            results, single = tracing.map_elements(function, xs)
        kinds = [r.value.tile for r in results]
        return [Tile(EagerValue(t, np.zeros(t.shape, held_as(t.dtype)))) for t in kinds], single

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
    """Run the body for every block, in increasing order. Of arrays that are written it is known when they are."""
    values: dict[str, Any] = dict(specialisation.constants)
    given = {p.name: a for p, a in zip(specialisation.parameters, arguments, strict=True)
             if isinstance(a, ArrayArgument)}
    launch = Launch(specialisation, given)
    for parameter, argument in zip(specialisation.parameters, arguments, strict=True):
        spec = next(s for s in specialisation.signature.specs if s.name == parameter.name)
        annotation = specialisation.signature.annotation(spec, specialisation.constants)
        dtype = parameter_type_of(annotation)
        if isinstance(dtype, DType):
            values[parameter.name] = Tile(EagerValue(TileType(dtype), numbers_of(argument, dtype), parameter.name))
        else:
            array = host_array(argument.array, dtype.dtype).array
            data = bind_array(parameter.name, array, dtype.dtype, initialised=True, tracked=False)
            data.memory.before_write = functools.partial(launch.will_write, parameter.name)
            value = EagerValue(ViewType(dtype.dtype, parameter.shape), data, parameter.name)
            dims = tuple(n if n is not None else _index(array.shape[d]) for d, n in enumerate(parameter.shape))
            values[parameter.name] = View(value, dims)
    function = runnable(specialisation.captured)
    ordered = {name: values[name] for name in specialisation.signature.names}
    try:
        launch.run(functools.partial(function, **ordered))
    except _EmptyGrid:
        return
    if launch.extents is None:
        raise UserError.at("E0106", f"{specialisation.captured.name} does not declare a grid",
                           specialisation.captured.span(specialisation.captured.node))


def runnable(captured: CapturedFunction) -> Callable[..., Any]:
    """A kernel's function as Python runs it: the bodies of its thread groups are handed to the context."""
    return with_group_functions(captured, lambda manager, body: _context().run_group(manager, body),
                                lambda: _context().join_groups())


def _context() -> EagerContext:
    context = current()
    assert isinstance(context, EagerContext)
    return context
