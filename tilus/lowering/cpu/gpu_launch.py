"""Native code of the host that launches the kernels of a module on a GPU, through the driver.

Two functions come out, over the packed arguments and a table of the device's (both arrays of 64-bit words).
``measure(arguments, table)`` gives the bytes of memory that the workspaces take together. ``launch(arguments, table)``
evaluates the launch function, checks, and enqueues: 0, ``UNCHECKED - n`` where check n has failed and nothing has been
enqueued, or the driver's error plus 2^32 times the number of the launch that it refused, 0 for what lies around them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from tilus.diagnostics import Diagnostic
from tilus.ir.attributes import Attributes
from tilus.ir.core import Block, Function, Module, Value
from tilus.ir.dtypes import i32, i64
from tilus.ir.ops import Alloca, Binary, Cast, Launch, PtrLoad, Workspace, Yield
from tilus.ir.ops.simd import CallPointer, IntToPtr, PtrToInt
from tilus.ir.types import PointerType, TileType
from tilus.lowering.cpu.launch_function import LaunchFunction
from tilus.lowering.cpu.values import Number
from tilus.targets.grid import MAX_OTHER_EXTENT

# Words of the table: the device's context, functions of the driver, how many blocks of a cooperative launch the device
# holds at once, and for each kernel its function, and the one for folded grids.
(TABLE_CONTEXT, TABLE_GET_CONTEXT, TABLE_PUSH_CONTEXT, TABLE_POP_CONTEXT, TABLE_LAUNCH, TABLE_SET_BYTES,
 TABLE_RESIDENT, TABLE_FUNCTIONS) = range(8)
DRIVER_FUNCTIONS = {
    TABLE_GET_CONTEXT: "cuCtxGetCurrent", TABLE_PUSH_CONTEXT: "cuCtxPushCurrent_v2",
    TABLE_POP_CONTEXT: "cuCtxPopCurrent_v2", TABLE_LAUNCH: "cuLaunchKernelEx", TABLE_SET_BYTES: "cuMemsetD8Async",
}
# Words behind the packed arguments: the stream, where the workspaces lie, and what a check that failed has to say.
STREAM, WORKSPACES, DETAIL, EXTRA_WORDS = range(4)
UNCHECKED = -(1 << 32)
"""Statuses from here down are those of checks."""
ALIGNMENT = 256
"""Bytes, of workspaces."""
CONFIG_WORDS, ATTRIBUTE_WORDS = 7, 9
"""Of the driver's ``CUlaunchConfig`` and ``CUlaunchAttribute``."""
COOPERATIVE = 2
"""``CU_LAUNCH_ATTRIBUTE_COOPERATIVE``."""
HIGH = 1 << 32


class LaunchedKernel(Protocol):
    """What launching a compiled kernel takes (:class:`tilus.runtime.nvidia.launch_facts.LaunchFacts`)."""

    @property
    def threads(self) -> int: ...
    @property
    def dynamic_shared_bytes(self) -> int: ...
    @property
    def raster(self) -> int: ...
    @property
    def folded(self) -> bool: ...
    @property
    def cooperative(self) -> bool: ...
    @property
    def arguments(self) -> tuple[tuple[str, str], ...]: ...


class GpuLaunch(NamedTuple):
    """The functions, and what their checks say.

    Attributes:
        checks: the messages of the checks, from 1 on.
        folds: the numbers of the checks that grids can be launched as they are.
        resident: of checks that the blocks of a cooperative launch run at once: the kernel's name. Their detail is how
            many blocks there are.
        launched: the name of the kernel of each launch.
        measures: whether there are workspaces.
    """

    functions: list[Function]
    checks: list[Diagnostic]
    folds: set[int]
    resident: dict[int, str]
    launched: list[str]
    measures: bool


def lower_gpu_launch(module: Module, kernels: Mapping[str, LaunchedKernel],
                     folded: Mapping[str, LaunchedKernel] | None) -> GpuLaunch:
    """The functions for the launch function of a traced module; ``folded`` are the kernels that take grids which are
    too long to be launched as they are, where those have been compiled."""
    found = _Launcher(module, kernels, folded)
    functions = [found.launch_function()]
    if found.zeroed or found.size != 0:
        functions.append(_Launcher(module, kernels, folded).measure_function())
    return GpuLaunch(functions, found.checks, found.folds, found.cooperative, [op.kernel for op, *_ in found.launches],
                     len(functions) > 1)


class _Launcher(LaunchFunction):
    def __init__(self, module: Module, kernels: Mapping[str, LaunchedKernel],
                 folded: Mapping[str, LaunchedKernel] | None) -> None:
        assert module.launch is not None
        super().__init__(module.launch, Block([PointerType(i64), PointerType(i64)], ["arguments", "table"]), [])
        self.module, self.kernels, self.folded = module, kernels, folded
        args = module.launch.body.args
        self.extra = sum(1 if hasattr(v.type, "is_scalar") else 1 + 2 * v.view.rank for v in args)
        self.size: Number = 0
        self.zeroed: list[tuple[Number, Number]] = []
        self.launches: list[tuple[Launch, list[Number], Number]] = []
        self.folds: set[int] = set()
        self.cooperative: dict[int, str] = {}

    def measure_function(self) -> Function:
        self.evaluate()
        self.c.b.add(Yield((self.c.value(self.size),)))
        return self._function("measure")

    def launch_function(self) -> Function:
        c = self.c
        self.evaluate()
        memories = [self._memory(op) for op, _, _ in self.launches]
        valid = c.compare("eq", self.status, 0)
        (result,) = c.branch(valid, lambda: [self._enqueue(memories)],
                             lambda: [c.value(c.sub(UNCHECKED, self.status))])
        c.b.add(Yield((result,)))
        return self._function("launch")

    def _function(self, name: str) -> Function:
        return Function(name, self.body, (), Attributes(), self.launch.span)

    # -- what evaluating the launch function comes to

    def resident(self) -> Value:
        return self.c.cast(self._table(TABLE_RESIDENT), i32)

    def workspace(self, op: Workspace) -> None:
        """Workspaces lie one after another."""
        c = self.c
        extents: list[Number] = [c.max(self.values[e], 0) for e in op.extents]
        strides, count = self.contiguous(extents)
        size = c.mul(c.arith("floordiv", c.add(c.mul(count, op.dtype.packed_bits), 31), 32), 4)
        address = c.add(self._extra(WORKSPACES), self.size)
        self.words[op.result] = [address, *extents, *strides]
        if op.zero:
            self.zeroed.append((address, size))
        self.size = c.mul(c.arith("floordiv", c.add(self.size, c.add(size, ALIGNMENT - 1)), ALIGNMENT), ALIGNMENT)

    def start(self, op: Launch) -> None:
        """Checks; it is enqueued when all is known."""
        c, facts = self.c, self.kernels[op.kernel]
        grid, total = self.grid(op)
        self.launches.append((op, grid, total))
        if facts.cooperative:
            self._require_resident(op, total)
        if len(op.grid) > 1 and self.folded is None:
            fits = c.b.add(Binary("or", self._launches_as_it_is(facts, grid), c.compare("eq", total, 0))).result
            self.require(fits, Diagnostic("E0606", f"{op.kernel} has no form for grids as long as this one"))
            self.folds.add(len(self.checks))

    def _require_resident(self, op: Launch, total: Number) -> None:
        c = self.c
        held = c.compare("le", total, self._table(TABLE_RESIDENT))
        self.require(held, Diagnostic("E0606", f"{op.kernel} is cooperative"))
        self.cooperative[len(self.checks)] = op.kernel
        place = self.extra + DETAIL
        detail = c.select(held, c.b.add(PtrLoad(c.offset(self.body.args[0], place))).result, total)
        self.store(self.body.args[0], place, detail)

    # -- grids

    def _launched_grid(self, facts: LaunchedKernel, grid: Sequence[Number]) -> tuple[list[Number], Number]:
        """``schedule/raster.py: launched_grid``, and the number of groups."""
        c = self.c
        x, y, z = grid
        if facts.folded:
            return [c.mul(c.mul(x, y), z), 1, 1], 1
        if not facts.raster:
            return [x, y, z], 1
        most = c.arith("floordiv", MAX_OTHER_EXTENT, c.max(z, 1))
        groups = c.max(c.min(self._rounded_up(x, facts.raster), most), 1)
        width = self._rounded_up(x, groups)
        groups = self._rounded_up(x, c.max(width, 1))
        return [width, y, c.mul(groups, z)], groups

    def _rounded_up(self, a: Number, b: Number) -> Value:
        return self.c.arith("floordiv", self.c.add(a, self.c.sub(b, 1)), b)

    def _launches_as_it_is(self, facts: LaunchedKernel, grid: Sequence[Number]) -> Value:
        c = self.c
        (_, y, z), _ = self._launched_grid(facts, grid)
        return c.compare("le", c.max(y, z), MAX_OTHER_EXTENT)

    # -- launches

    def _memory(self, op: Launch) -> tuple[Value, Value, Value, Value]:
        """For parameters, their addresses, the configuration and an attribute of it."""
        forms = [self.kernels[op.kernel], *([self.folded[op.kernel]] if self.folded is not None else [])]
        count = max(1, *(len(f.arguments) for f in forms))
        values, addresses, config, attribute = (
            self.c.b.add(Alloca(i64, n, 16)).result for n in (count, count, CONFIG_WORDS, ATTRIBUTE_WORDS))
        return values, addresses, config, attribute

    def _enqueue(self, memories: Sequence[tuple[Value, Value, Value, Value]]) -> Value:
        """In the device's context: zeros for workspaces, then the kernels in order, up to the first error."""
        c = self.c
        slot = c.b.add(Alloca(i64, 1, 16)).result
        code = self._driver(TABLE_GET_CONTEXT, (slot,), 0)
        context = self._table(TABLE_CONTEXT)
        other = c.compare("ne", c.b.add(PtrLoad(slot)).result, context)
        code = self._then(code, other, lambda: self._driver(TABLE_PUSH_CONTEXT, (context,), 0))
        for address, size in self.zeroed:
            given = (c.value(address), c.const(0, i32), c.value(size), self._extra(STREAM))
            code = self._then(code, c.compare("gt", size, 0), partial(self._driver, TABLE_SET_BYTES, given, 0))
        for place, ((op, grid, total), memory) in enumerate(zip(self.launches, memories, strict=True)):
            code = self._then(code, c.compare("gt", total, 0), partial(self._launched, op, grid, memory, place))
        self._then(c.const(0), other, lambda: self._driver(TABLE_POP_CONTEXT, (slot,), 0))
        return code

    def _then(self, code: Value, wanted: Value, make: Callable[[], Value]) -> Value:
        """What is done where nothing has failed and it is wanted, as the new code."""
        c = self.c
        both = c.b.add(Binary("and", c.compare("eq", code, 0), wanted)).result
        (found,) = c.branch(both, lambda: [make()], lambda: [code])
        return found

    def _launched(self, op: Launch, grid: Sequence[Number], memory: tuple[Value, ...], place: int) -> Value:
        facts = self.kernels[op.kernel]
        if self.folded is None or len(op.grid) < 2:
            return self._kernel(op, facts, grid, memory, place)
        other = self.folded[op.kernel]
        (code,) = self.c.branch(
            self._launches_as_it_is(facts, grid),
            lambda: [self._kernel(op, facts, grid, memory, place)],
            lambda: [self._kernel(op, other, grid, memory, place, folded=True)])
        return code

    def _kernel(self, op: Launch, facts: LaunchedKernel, grid: Sequence[Number], memory: tuple[Value, ...],
                place: int, folded: bool = False) -> Value:
        c = self.c
        values, addresses, config, attribute = memory
        (x, y, z), groups = self._launched_grid(facts, grid)
        places = {"grid.x": grid[0], "grid.y": grid[1], "grid.groups": groups}
        for i, (name, _) in enumerate(facts.arguments):
            self.store(values, i, c.value(places[name] if name in places else self._argument(op, name)))
            self.store(addresses, i, c.b.add(PtrToInt(c.offset(values, i))).result)
        words: list[Number] = [
            c.add(x, c.mul(y, HIGH)), c.add(z, facts.threads * HIGH), 1 + HIGH, facts.dynamic_shared_bytes,
            self._extra(STREAM), c.b.add(PtrToInt(attribute)).result, int(facts.cooperative)]
        for i, word in enumerate(words):
            self.store(config, i, c.value(word))
        for i in range(ATTRIBUTE_WORDS):
            self.store(attribute, i, c.const({0: COOPERATIVE, 1: 1}.get(i, 0)))
        index = [k.name for k in self.module.kernels].index(op.kernel)
        function = self._table(TABLE_FUNCTIONS + 2 * index + int(folded))
        return self._driver(TABLE_LAUNCH, (config, function, addresses, c.const(0)), place + 1)

    def _argument(self, op: Launch, name: str) -> Number:
        """An argument of a compiled kernel by its name: ``a``, ``a.shape[0]``, ``a.strides[1]``."""
        base, _, rest = name.partition(".")
        parameters = self.module.kernel(op.kernel).parameters
        source = next(a for p, a in zip(parameters, op.args, strict=True) if p.name == base)
        if source in self.values:
            return self.values[source]
        words = self.words[source]
        if not rest:
            return words[0]
        kind, axis = rest[:-1].split("[")
        return words[1 + int(axis) + (len(words) // 2 if kind == "strides" else 0)]

    def _driver(self, which: int, args: tuple[Value, ...], place: int) -> Value:
        """Calls a function of the driver; the code of its error."""
        c = self.c
        callee = c.b.add(IntToPtr(self._table(which), i64)).result
        error = c.b.add(Cast(c.b.add(CallPointer(callee, args, (TileType(i32),))).result, i64)).result
        return c.select(c.compare("eq", error, 0), 0, c.add(error, place * HIGH))

    def _table(self, word: int) -> Value:
        return self.c.b.add(PtrLoad(self.c.offset(self.body.args[1], word))).result

    def _extra(self, word: int) -> Value:
        return self.c.b.add(PtrLoad(self.c.offset(self.body.args[0], self.extra + word))).result


__all__ = ["GpuLaunch", "LaunchedKernel", "lower_gpu_launch"]
